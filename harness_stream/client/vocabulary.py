"""The words by which typed values are told: file endings, domains, months, currencies, words beside an id.

Rule of this file: lists only, in alphabetical order. A word that is missing makes a value one of another kind, but so
where it is used as where it is named: it still matches, and an untrusted value never becomes a trusted one.
"""

from __future__ import annotations

from typing import Final

_ENDINGS: Final = """
7z apk avi bak bat bin bmp bz2 c cfg conf cpp cs css csv dat db dll dmg doc docx eml env epub exe gif go gz h htm html
ics ini ipynb iso java jpeg jpg js json key log md mkv mov mp3 mp4 msg odp ods odt parquet pdf pem php png ppt pptx ps1
py rar rb rs rtf sh sql sqlite svg tar tex tgz toml ts tsv txt vcf wav webp xls xlsx xml yaml yml zip
"""
_DOMAINS: Final = """
agency app art biz blog bot cloud club com company dev digital edu email example gov group icu info int link live ltd
media mil mobi museum name net network news ngo ninja one online org page pro shop site social software space store
studio support systems team tech test today top travel website wiki work world xyz zone
"""
_CURRENCY_CODES: Final = """
AED AUD BRL BTC CAD CHF CNY CZK DKK ETH EUR GBP HKD HUF INR JPY KRW MXN NOK NZD PLN RUB SEK SGD TRY UAH USD USDT ZAR
"""
_RECORD_WORDS: Final = """
account booking case comment contract customer document e-mail email event file folder id ids invoice issue item mail
message no nr number order page payment project record request reservation row task thread ticket transaction user
"""
_LITTLE_WORDS: Final = """
a all am an and any are as at be but by can did do for get had has he her him his how i if in is it its let me my no
not now of off on or our out per see set she so the to too two up us use was way we who why yes yet you
"""

FILE_ENDINGS: Final = frozenset(_ENDINGS.split())
DOMAINS: Final = frozenset(_DOMAINS.split())
"""Of the domains with more than two letters those that people write without `www.`; those of two are countries."""
CURRENCY_CODES: Final = frozenset(_CURRENCY_CODES.split())
CURRENCY_SIGNS: Final = "$€£¥₹₽₩₿"
RECORD_WORDS: Final = frozenset(_RECORD_WORDS.split())
"""Words after which a short number is somebody's id."""
LITTLE_WORDS: Final = frozenset(_LITTLE_WORDS.split())
"""Words of three letters and less that stand in any sentence: naming one names nothing."""

CURRENCIES: Final = {
    "$": "USD",
    "£": "GBP",
    "¥": "JPY",
    "€": "EUR",
    "₩": "KRW",
    "₹": "INR",
    "₽": "RUB",
    "₿": "BTC",
    "bitcoin": "BTC",
    "dollar": "USD",
    "euro": "EUR",
    "franc": "CHF",
    "pound": "GBP",
    "rupee": "INR",
    "yen": "JPY",
}
MONTHS: Final = {
    name: number + 1
    for number, name in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))
}
