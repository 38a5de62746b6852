"""One value, one text: the canonical form of each kind of typed value (PROVENANCE §1).

Rule of this file: two spellings get one form only if a person would call them the same value. A reader takes a piece
of plain text and gives a `Reading`: first what it is, then what whoever wrote it has named besides (a page names its
host). No reading: it is not of that kind.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from harness_stream.client.vocabulary import CURRENCIES, CURRENCY_CODES, DOMAINS, FILE_ENDINGS, MONTHS

if TYPE_CHECKING:
    from harness_stream.core.scalars import ValueKind


class Atom(NamedTuple):
    """A typed value.

    Attributes:
        kind: "13" is a number, an identifier or part of a date, and these never match each other.
        form: its canonical form.
    """

    kind: ValueKind
    form: str


Reading = tuple[Atom, ...]
"""The value itself, then what it names besides; empty: none."""

_PORTS: Final = {"http": 80, "https": 443, "ftp": 21, "ws": 80, "wss": 443}
_WEB: Final = frozenset({"http", "https"})
# What ends a sentence or closes a bracket around a link, and hardly ever a link.
_AFTER_LINK: Final = ".,;:!?'\"*_~"
_BRACKETS: Final = {")": "(", "]": "[", "}": "{"}

_NEXT_SENTENCE: Final = re.compile(r"\.[a-z]{2,}\.[A-Z][a-z]*$")
_GROUPED: Final = re.compile(r"[0-9]{1,3}(?:([,.'])[0-9]{3})(?:\1[0-9]{3}){0,10}")
_DIGITS_MAX: Final = 40  # of a number; more digits are no amount of anything
# From so many digits on, a number that is equal by chance is rarer than one that is meant: it may name a record.
LONG_DIGITS: Final = 6
ACCOUNT_DIGITS_MIN: Final = 8  # the shortest account and phone numbers
ACCOUNT_DIGITS_MAX: Final = 34  # the longest IBAN

_TYPOGRAPHIC: Final = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "‐": "-", "‑": "-"})


def email(text: str) -> Reading:
    """Lower case, as nearly every mail system delivers."""
    forms = _with_and_without_next_sentence(text)
    return tuple(Atom("email", form.lower().removeprefix("mailto:").rstrip(".")) for form in forms)


def url(text: str) -> Reading:
    """Scheme and host in lower case, no default port, no fragment; a site without path is its host.

    Without a scheme it stands for both of the web's.
    """
    whole = text if "://" in text else f"https://{text.lstrip('/')}"
    try:
        parts = urlsplit(whole)
        netloc = _netloc(parts)
    except ValueError:
        return ()
    if netloc is None:
        return ()
    site = host(parts.netloc if parts.netloc.lower() == parts.hostname else parts.hostname or "")
    if parts.scheme in _WEB and parts.path in {"", "/"} and not parts.query and netloc == parts.hostname:
        return site
    rest = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    schemes = (parts.scheme,) if "://" in text else ("https", "http")
    return (*(Atom("url", f"{scheme}://{netloc}{rest}") for scheme in schemes), *site)


def _netloc(parts: SplitResult) -> str | None:
    """Who is asked, with user and port as they matter; ValueError: no port."""
    if not parts.hostname:
        return None
    user, at, _ = parts.netloc.rpartition("@")
    port = "" if parts.port in {None, _PORTS.get(parts.scheme)} else f":{parts.port}"
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname.rstrip(".")
    return f"{user}{at}{name}{port}"


def bare_url(text: str) -> Reading:
    """`example.com/a`, `example.com?a`: a page without scheme, if what is in front may be a site."""
    return url(text) if _is_domain(re.split("[:/?]", text, maxsplit=1)[0], bare=False) else ()


def script_url(text: str) -> Reading:
    """`javascript:` and `data:` hold what they lead to."""
    scheme, _, rest = text.partition(":")
    return (Atom("url", f"{scheme.lower()}:{rest}"),)


def without_trailer(text: str) -> str:
    """A link without the sentence around it."""
    while text:
        last = text[-1]
        if last in _AFTER_LINK or (last in _BRACKETS and text.count(last) > text.count(_BRACKETS[last])):
            text = text[:-1]
        else:
            break
    return text


def host(text: str) -> Reading:
    """A name in lower case, or an address in its shortest form."""
    name = text.rstrip(".")
    if name and (name[-1].isdigit() or ":" in name):
        try:
            return (Atom("host", str(ipaddress.ip_address(name))),)
        except ValueError:
            pass
    return tuple(Atom("host", form.lower()) for form in _with_and_without_next_sentence(name)) if name else ()


def _with_and_without_next_sentence(text: str) -> tuple[str, ...]:
    """`www.good.example.They` is what it is; but whoever wrote it may have left out a blank."""
    return (text, text.rpartition(".")[0]) if _NEXT_SENTENCE.search(text) else (text,)


def dotted(text: str) -> Reading:
    """What has dots inside: a file, a host, else a record's id such as a version."""
    if "/" in text or "\\" in text:
        return file(text)
    ending = text.rpartition(".")[2]
    if ending.lower() in FILE_ENDINGS:
        return file(text)
    if ending.isdigit():
        return _dotted_digits(text)
    if _is_domain(text, bare=True):
        return host(text)
    return identifier(text) if re.search("[0-9_]", text) else ()


def _dotted_digits(text: str) -> Reading:
    """An internet address, or an id such as a version; what may be a number is left to the reader of numbers."""
    if re.search("[A-Za-z_]", text):
        return identifier(text)
    if _is_address(text):
        return host(text)
    return () if text.count(".") == 1 or _GROUPED.fullmatch(text) else identifier(text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _is_domain(name: str, *, bare: bool) -> bool:
    """Would a mail or chat program make a link of it? `bare`: just the name, so that its ending must be a known one."""
    labels = name.split(".")
    ending = labels[-1]
    if len(labels) < 2 or not all(labels) or not ending.isalpha() or len(ending) < 2 or ending.lower() in FILE_ENDINGS:  # noqa: PLR2004  name and ending, country code
        return False
    if ending.lower() in DOMAINS or not ending.isascii():
        return True
    if bare:  # in a sentence `done.So` is no link, and `e.g` neither
        return len(ending) == 2 and ending.islower() and len(labels[-2]) > 2  # noqa: PLR2004  same
    return True


def file(text: str) -> Reading:
    """The path as it is, with `/`; whoever names a path names its base name, not the other way round."""
    path = re.sub("/{2,}", "/", text.replace("\\", "/")).removeprefix("./")
    base = path.rstrip("/").rpartition("/")[2]
    return (Atom("file", path), *([Atom("file", base)] if base and base != path else []))


def iso_date(text: str) -> Reading:
    """`2024-05-15`, with the time of day as written: `2024-05-15T10:00`."""
    day, time = text[:10], text[10:].lstrip("Tt ")
    found = _date(int(day[:4]), int(day[5:7]), int(day[8:10]))
    if not found or not time:
        return found
    return (Atom("date", f"{found[0].form}T{time.upper()}"), *found)


def numeric_date(text: str) -> Reading:
    """`13.5.2024`, `5/13/2024`; if day and month cannot be told apart it stays as it is."""
    one, two, year = map(int, re.split("[./]", text))
    readings = {found for found in (_date(year, two, one), _date(year, one, two)) if found}
    if len(readings) == 1:
        return readings.pop()
    return (Atom("date", f"{year:04}-{one:02}/{two:02}"),) if readings else ()


def named_date(text: str) -> Reading:
    """`May 15th, 2024`, `15 May`; without a year it is `--05-15` (ISO 8601)."""
    words = re.findall(r"[A-Za-z]+|[0-9]+", text)
    month = next((MONTHS[word[:3].lower()] for word in words if word[:3].lower() in MONTHS), 0)
    numbers = [int(word) for word in words if word.isdigit()]
    day = next((number for number in numbers if number <= 31), 0)  # noqa: PLR2004  days of a month
    year = next((number for number in numbers if number > 31), None)  # noqa: PLR2004  same
    if year is not None:
        return _date(year, month, day)
    return (Atom("date", f"--{month:02}-{day:02}"),) if _date(2000, month, day) else ()


def _date(year: int, month: int, day: int) -> Reading:
    try:
        return (Atom("date", date(year, month, day).isoformat()),)
    except ValueError:
        return ()


def time_of_day(text: str) -> Reading:
    """`10:30`, `9:00 pm` (21:00): a date without day."""
    hour, _, rest = text.lower().partition(":")
    rest = rest.rstrip(" apm")
    of_twelve = text[-1] in "mM"
    number = int(hour) % 12 + 12 * ("p" in text.lower()) if of_twelve else int(hour)
    return (Atom("date", f"T{number:02}:{rest}"),)


def iban(text: str) -> Reading:
    """An account number with a country in front, without separators. Its check digits are the bank's to check."""
    form = text.replace(" ", "").replace("-", "").upper()
    return (Atom("account", form),) if sum(char.isdigit() for char in form) >= ACCOUNT_DIGITS_MIN else ()


def digits(text: str) -> Reading:
    """Many digits in groups: an account, a card, a phone."""
    form = ("+" if text.startswith("+") else "") + "".join(filter(str.isdigit, text))
    if not ACCOUNT_DIGITS_MIN <= len(form.lstrip("+")) <= ACCOUNT_DIGITS_MAX:
        return ()
    alone = (Atom("number", form.lstrip("0") or "0"), Atom("identifier", form)) if form == text else ()
    return (Atom("account", form), *alone)


def amount(text: str) -> Reading:
    """A number with its currency; whoever names it names the number."""
    figure = "".join(re.findall(r"[-0-9.,']", text)).strip(",'.")
    word = re.sub(r"[-0-9.,'\s]", "", text)
    currency = CURRENCIES.get(word.lower().removesuffix("s"), word.upper() if word.upper() in CURRENCY_CODES else "")
    plain = _decimal(figure) if currency else None
    return () if plain is None else (Atom("amount", f"{plain} {currency}"), Atom("number", plain))


def number(text: str) -> Reading:
    """Without grouping, sign as a minus, no trailing zeros; a long one may name a record."""
    form = _decimal(text.rstrip("%"))
    if form is None:
        return ()
    if text.endswith("%"):
        return (Atom("number", f"{form}%"), Atom("number", form))
    long = text.isdigit() and len(text) >= LONG_DIGITS
    return (Atom("number", form), *([Atom("identifier", text)] if long else []))


def _decimal(text: str) -> str | None:
    sign, figure = ("-", text[1:]) if text[:1] in {"-", "−"} else ("", text)
    if sum(char.isdigit() for char in figure) > _DIGITS_MAX:
        return None
    point = _decimal_point(figure)
    whole, _, fraction = figure.rpartition(point) if point else (figure, "", "")
    grouped = _GROUPED.fullmatch(whole)
    whole = re.sub("[,.']", "", whole) if grouped else whole
    if not (whole.isdigit() and whole.isascii() and (fraction or "0").isdigit() and (fraction or "0").isascii()):
        return None
    return plain_number(Decimal(f"{sign}{whole}.{fraction or 0}"))


def _decimal_point(figure: str) -> str:
    """Which mark parts whole and fraction; empty: none does.

    `1,000` is a thousand and `1.000` is one, as in every programming language; `1.000,5` and `1,5` are plain enough.
    """
    comma, dot = figure.count(","), figure.count(".")
    if comma and dot:
        return max(",.", key=figure.rfind)
    if comma == 1 and not _GROUPED.fullmatch(figure):
        return ","
    return "." if dot == 1 else ""


def number_text(number: float | Decimal) -> str:
    """A number of plain data as a reader would write it; empty if nobody would."""
    if isinstance(number, int) and abs(number) >= 10**_DIGITS_MAX:
        return ""
    value = number if isinstance(number, Decimal) else Decimal(repr(number))
    if not value.is_finite() or abs(value.adjusted()) >= _DIGITS_MAX:
        return ""
    return plain_number(value)


def plain_number(value: Decimal) -> str:
    """Plain decimal digits, without exponent and trailing zeros."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text


def identifier(text: str) -> Reading:
    """A record's id: as it is, because ids that differ in case are different ids."""
    return (Atom("identifier", text),)


def token(text: str) -> Reading:
    """An id among words: letters with digits, or `#7`; digits alone are left to the reader of numbers."""
    if text.startswith("#"):
        return identifier(text[1:])
    return () if text.strip("-").isdigit() else identifier(text)


def words(text: str) -> Reading:
    """A name, or a phrase: case and spacing do not matter, nor a leading `#` or `@`."""
    ascii_text = text if text.isascii() else text.translate(_TYPOGRAPHIC)
    form = " ".join(ascii_text.casefold().split()).strip(" .,;:!?\"'").lstrip("#@")
    return (Atom("name" if _is_name(form) else "phrase", form),) if form else ()


NAME_WORDS_MAX: Final = 4
"""The longest run of words that is still a name."""


def _is_name(form: str) -> bool:
    parts = form.split(" ")
    return len(parts) <= NAME_WORDS_MAX and all(
        part.rstrip(".").replace("-", "").replace("'", "").isalpha() for part in parts
    )
