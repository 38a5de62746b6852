"""What a text looks like, and whether it is what it looks like.

Rule of this file: ASCII without control characters is always what it looks like and costs next to nothing. Of
everything else `plain` gives the reading a person would have, and `faithful` says whether that was really written.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Controls, and Unicode's Default_Ignorable_Code_Point: what is there and cannot be seen.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_WORD: Final = re.compile(r"[^\W_]+")
# Latin letters of living alphabets that are no ASCII letter with a mark.
_LATIN_OF_ITS_OWN: Final = frozenset("øØßæÆœŒđĐłŁþÞðÐħĦŋŊ")
# These are written together within one word of their languages, and with Latin.
_EAST_ASIAN: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO"})
# Cyrillic, Greek and Armenian letters that are drawn as a Latin one.
_LATIN_LOOK: Final = frozenset("аеорсухіјѕԁһӏԛԝАВЕКМНОРСТУХІЈЅԌΑΒΕΖΗΙΚΜΝΟΡΤΥΧανορτυωհոսօ")
# Scripts of this many characters are remembered: more than any one alphabet has.
_SCRIPTS_KEPT: Final = 4096


def plain(text: str) -> str:
    """The text as a person reads it: compatibility forms replaced (NFKC), what cannot be seen left out.

    The very same object if it is ASCII and all of it can be seen.
    """
    if text.isascii():
        return _CONTROL.sub("", text) if _CONTROL.search(text) else text
    return _UNSEEN.sub("", unicodedata.normalize("NFKC", _UNSEEN.sub("", text)))


def faithful(span: str, raw: str, *, strict: bool) -> bool:
    """Was this really written, and does none of it pass for something else?

    Args:
        span: a piece of `plain(raw)`.
        raw: the text as it was given.
        strict: it steers a machine (an address, a path), where one wrong letter is another place.
    """
    return span in raw and (span.isascii() or not _disguised(span, strict=strict))


def same_words(text: str, raw: str) -> bool:
    """Were these words written as they are read? Marks between words may differ: a person's `…` is three dots."""
    if text is raw and text.isascii():
        return True
    return _WORD.findall(text) == _WORD.findall(raw) and not _disguised(text, strict=False)


def same_name(text: str, raw: str) -> bool:
    """Was this name written letter for letter, with one plain blank between its words?"""
    return text == raw.strip() and " ".join(text.split()) == text and not _disguised(text, strict=False)


def _disguised(span: str, *, strict: bool) -> bool:
    if strict and any(map(unicodedata.combining, span)):
        return True  # NFKC composes the marks of real words
    return any(not word.isascii() and _disguised_word(word, strict=strict) for word in _WORD.findall(span))


def _disguised_word(word: str, *, strict: bool) -> bool:
    scripts = {_script(char) for char in word} - {""}
    if len(scripts) > 1 and not scripts <= _EAST_ASIAN | {"LATIN"}:
        return True
    if "LATIN" in scripts and any(map(_odd_latin, word)):
        return True
    return strict and all(char in _LATIN_LOOK for char in word)


@lru_cache(_SCRIPTS_KEPT)
def _script(char: str) -> str:
    """First word of the character's name, which is its script; ASCII digits have none."""
    if char.isascii() and char.isdigit():
        return ""
    if char.isdigit():
        return "DIGIT"  # beside letters, or beside ASCII digits: never what it looks like
    return unicodedata.name(char, "UNNAMED").partition(" ")[0]


@lru_cache(_SCRIPTS_KEPT)
def _odd_latin(char: str) -> bool:
    """A Latin letter that is neither ASCII, nor ASCII with a mark, nor of a living alphabet: drawn like another one."""
    if char.isascii() or _script(char) != "LATIN":
        return False
    return not unicodedata.normalize("NFD", char)[0].isascii() and char not in _LATIN_OF_ITS_OWN
