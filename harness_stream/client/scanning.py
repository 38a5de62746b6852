"""Typed values inside a text, and a text that is one typed value.

Rule of this file: time is linear in the text. Only what stands around a telling character is looked at closely; every
pattern begins where a word does, repeats only up to a bound, and repeats a repetition only with a separator between.
What a pattern took is blanked, so that no later one reads a part of it: `KINDS` is the order, a link before the host
in it, a date before its numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from harness_stream.client import forms
from harness_stream.client.forms import Atom
from harness_stream.client.vocabulary import CURRENCY_SIGNS, RECORD_WORDS
from harness_stream.core import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness_stream.client.forms import Reading

_IN_LINK: Final = r"[^\s<>\"'`{}|\\^\[\]\x00]"
_LINK_TAIL: Final = rf"(?:\[[0-9a-f:.]{{2,45}}\])?{_IN_LINK}{{0,{limits.URI_CHARS_MAX}}}"
_AFTER_INITIAL: Final = (
    r"(?:an(?:uary)?|eb(?:ruary)?|ar(?:ch)?|pr(?:il)?|ay|une?|uly?|ug(?:ust)?|ep(?:t(?:ember)?)?|ct(?:ober)?|"
    r"ov(?:ember)?|ec(?:ember)?)"
)
_MONTH: Final = rf"[JFMASOND]{_AFTER_INITIAL}"
_ORDINAL: Final = "(?:st|nd|rd|th)?"
_TIME: Final = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?"
_FIGURE: Final = r"-?[0-9](?:[0-9.,']{0,46}[0-9])?"
_BESIDE_RECORD_CHARS: Final = 24  # the longest such word, what may stand between, and a blank before
_BLANK: Final = "\x00"  # no text holds it: `lookalikes.plain` leaves it out


class Kind(NamedTuple):
    """How one kind of value is found.

    Attributes:
        marks: a text that holds none of these has no such value.
        digit: a text without a digit has none either.
        pattern: finds it.
        read: its canonical form.
        strict: one wrong letter is another place.
        applies: what else must be true of a match, None for nothing.
    """

    marks: tuple[str, ...]
    digit: bool
    pattern: re.Pattern[str]
    read: Callable[[str], Reading]
    strict: bool
    applies: Callable[[re.Match[str]], bool] | None = None

    def may_be_in(self, text: str) -> bool:
        """Is it worth looking?"""
        for mark in self.marks:  # twice as fast as `any`, and asked for every value
            if mark in text:
                return True
        return not self.marks


class Span(NamedTuple):
    """A typed value inside a text.

    Attributes:
        reading: what it is, and what it names besides.
        text: as it stands there.
    """

    reading: Reading
    text: str


def _kind(pattern: str, read: Callable[[str], Reading], *marks: str, digit: bool = False, strict: bool = True) -> Kind:
    return Kind(marks, digit, re.compile(pattern, re.IGNORECASE), read, strict)


LINK: Final = _kind(
    r"(?:(?:https?|ftp)://|(?<![a-z0-9])(?:[a-z0-9][a-z0-9+.\-]{0,31}://|//(?=[\w\-]{1,63}\.)|www\.))(?=[^\s\x00])"
    + _LINK_TAIL,
    lambda text: forms.url(forms.without_trailer(text)),
    *("//", "ww.", "WW.", "wW.", "Ww."),
)
SCRIPT_LINK: Final = _kind(
    rf"(?<![a-z0-9])(?:(?:javascript|vbscript):|data:(?=[a-z]{{1,16}}/)){_IN_LINK}{{1,{limits.URI_CHARS_MAX}}}",
    lambda text: forms.script_url(forms.without_trailer(text)),
    *("t:", "T:", "a:", "A:"),
)
EMAIL: Final = _kind(
    r"(?<![\w.+%\-])(?:mailto:)?[\w.+%\-][\w.+%'\-]{0,63}@[\w\-]{1,63}(?:\.[\w\-]{1,63}){1,8}", forms.email, "@"
)
BARE_LINK: Final = _kind(
    r"(?<![\w/\\~%+.\-])[\w\-]{1,63}(?:\.[\w\-]{1,63}){1,8}(?::[0-9]{1,5})?[/?]"
    rf"{_IN_LINK}{{0,{limits.URI_CHARS_MAX}}}",
    lambda text: forms.bare_url(forms.without_trailer(text)),
    *("/", "?"),
)
ISO_DATE: Final = _kind(
    rf"[0-9](?<![\w\-].)[0-9]{{3}}-[0-9]{{2}}-[0-9]{{2}}(?:[T ]{_TIME}(?:Z|[+\-][0-9]{{2}}:?[0-9]{{2}})?)?(?![\w\-])",
    forms.iso_date,
    *("-0", "-1"),
    strict=False,
)
NUMERIC_DATE: Final = _kind(
    r"[0-9](?<![\w./\-].)[0-9]?([./])[0-9]{1,2}\1[0-9]{4}(?![\w/\-])",
    forms.numeric_date,
    *(".1", "/1", ".2", "/2"),
    strict=False,
)
NAMED_DATE: Final = _kind(
    rf"[JFMASOND0-9](?<![\w\-].)(?:{_AFTER_INITIAL}\.? [0-9]{{1,2}}{_ORDINAL}|[0-9]?{_ORDINAL}(?: of)? {_MONTH})"
    r"(?:,? [0-9]{4})?(?![\w\-])",
    forms.named_date,
    digit=True,
    strict=False,
)
TIME: Final = _kind(rf"(?=[0-9])(?<![\w:.\-]){_TIME}(?: ?[ap]m)?(?![\w:])", forms.time_of_day, ":", strict=False)
UUID: Final = _kind(
    r"(?<![\w\-])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![\w\-])",
    lambda text: forms.identifier(text.lower()),
    "-",
    digit=True,
)
IBAN: Final = _kind(
    r"(?<![\w\-])[a-z]{2}[0-9]{2}(?:[a-z0-9]{11,30}|(?-i:(?:[ \-][A-Z0-9]{4}){2,7}(?:[ \-][A-Z0-9]{1,3})?))(?![\w\-])",
    forms.iban,
    digit=True,
)
DIGITS: Final = _kind(
    r"[+0-9](?<![\w.,\-].)[0-9]{0,34}(?:[ \-][0-9]{2,34}){0,8}(?![\w\-]|[.,][0-9])", forms.digits, digit=True
)
AMOUNT: Final = _kind(
    rf"[\-0-9](?<![\w.,].)(?:[0-9.,']{{0,46}}[0-9])? ?(?:[{CURRENCY_SIGNS}]|[a-z]{{3,8}})(?!\w)",
    forms.amount,
    digit=True,
    strict=False,
)
SIGNED_AMOUNT: Final = _kind(
    rf"(?-i:[{CURRENCY_SIGNS}A-Z](?<![A-Z].)(?:[A-Z]{{2}}(?![A-Z]))? ?){_FIGURE}(?!\w)",
    forms.amount,
    digit=True,
    strict=False,
)
DOTTED: Final = _kind(
    r"(?<![\w/\\~%+.\-])(?:[a-z]:(?=[\\/])|~(?=/))?[\w/\\%+\-]{0,255}(?:\.[\w/\\~%+\-]{1,255}){1,16}",
    forms.dotted,
    ".",
)
PATH: Final = _kind(
    r"(?<![\w/\\.\-])(?:~|[a-z]:)?(?:[/\\][\w.@+\-]{1,255}){2,32}[/\\]?(?![\w/\\])", forms.file, "/", "\\"
)
RECORD: Final = Kind(
    (),
    True,
    re.compile(r"[0-9](?<![\w\-#.,].)[\w\-]{0,63}(?![\w\-]|[.,:/][0-9])"),
    forms.identifier,
    True,
    applies=lambda match: _follows_record_word(match.string, match.start()),
)
IDENTIFIER: Final = _kind(r"(?<![\w\-#])(?:[a-z_\-]{0,64}[0-9_][a-z0-9_\-]{0,190}|#[0-9]{1,64})(?![\w\-])", forms.token)
NUMBER: Final = _kind(rf"(?=[\-0-9])(?<![\w.,]){_FIGURE}%?(?!\w)", forms.number, digit=True, strict=False)

KINDS: Final = (
    *(LINK, SCRIPT_LINK, EMAIL, BARE_LINK),
    *(ISO_DATE, NUMERIC_DATE, NAMED_DATE, TIME),
    *(UUID, IBAN, DIGITS, AMOUNT, SIGNED_AMOUNT),
    *(DOTTED, PATH, RECORD, IDENTIFIER, NUMBER),
)
_ALONE: Final = tuple(kind for kind in KINDS if kind.applies is None)
_ALONE_WITHOUT_DIGIT: Final = tuple(kind for kind in _ALONE if not kind.digit)
# What a mail or chat program makes a link of; mail addresses are looked for so that their hosts are none.
_LINK_KINDS: Final = (LINK, SCRIPT_LINK, EMAIL, BARE_LINK, DOTTED)
_LINKS: Final = frozenset({"url", "host"})
# A word without any of these is a plain word; a dot, slash or colon tells only before something.
_TELLING: Final = re.compile(r"[0-9@_#\\$€£¥₹₽₩₿]|[./:](?=[^\s.])")
_DIGIT: Final = re.compile("[0-9]")
# A date, an amount or an id reaches this far beyond its digits; whole words are taken.
_AROUND_CHARS: Final = 32
# Looked at in one go, up to the next blank: room for a link of any length, and little work before a reader may stop.
_PIECE_CHARS: Final = 2 * limits.URI_CHARS_MAX
_WORD_CHARS: Final = 2 * _PIECE_CHARS
_ASCII_NAMES: Final = re.compile(r"[A-Z](?<!\w.)[\w'\-]{0,39}(?: [A-Z][\w'\-]{0,39}){0,3}(?!\w)")
_NAMES: Final = re.compile(r"(?<!\w)[^\W\d_a-z][\w'’\-]{0,39}(?: [^\W\d_a-z][\w'’\-]{0,39}){0,3}(?!\w)")
_QUOTED: Final = re.compile(r"(?<!\w)'([^'\n]{1,256})'(?!\w)|\"([^\"\n]{1,256})\"|“([^”\n]{1,256})”|‘([^’\n]{1,256})’")
_SEPARATORS: Final = re.compile(r"[,;\s]+")
_MAILBOX: Final = re.compile(r"[^<>@\n]{0,256}<([^<>\s]{3,320})>")


def scan(text: str, kinds: Iterable[Kind] = KINDS) -> tuple[list[Span], str]:
    """Every typed value in a plain text, and the text without them."""
    found: list[Span] = []
    digit = _DIGIT.search(text) is not None
    for kind in kinds:
        if (digit or not kind.digit) and kind.may_be_in(text) and kind.pattern.search(text):
            text = kind.pattern.sub(_taking(kind, found), text)
    return found, text


def _taking(kind: Kind, found: list[Span]) -> Callable[[re.Match[str]], str]:
    def take(match: re.Match[str]) -> str:
        reading = kind.read(match[0]) if kind.applies is None or kind.applies(match) else ()
        if not reading:
            return match[0]
        found.append(Span(reading, match[0]))
        return _BLANK * len(match[0])

    return take


def _follows_record_word(text: str, at: int) -> bool:
    """`file 13`, `ID: '13'`, `order (13`."""
    before = text[max(0, at - _BESIDE_RECORD_CHARS) : at]
    words = before.rstrip(" .:#='\"()")
    return 1 <= len(before) - len(words) <= 3 and re.split(r"[^\w\-]", words)[-1].lower() in RECORD_WORDS  # noqa: PLR2004  see the examples


def typed(text: str) -> Iterator[Span]:
    """As `scan`, looking only around telling characters; of a word without end, at one piece after the other."""
    for piece in _telling_pieces(text):
        for at in range(0, len(piece), _WORD_CHARS):
            yield from scan(piece[at : at + _WORD_CHARS])[0]


def _telling_pieces(text: str) -> Iterator[str]:
    for line in text.splitlines() if "\n" in text else (text,):
        yield from _telling_in(line)


def _telling_in(line: str) -> Iterator[str]:
    begin = end = 0
    for match in _TELLING.finditer(line):
        at = match.start()
        if at < end - _AROUND_CHARS:
            continue
        after = line.find(" ", at + _AROUND_CHARS)
        after = len(line) if after < 0 else after
        if end and at - _AROUND_CHARS <= end < begin + _PIECE_CHARS:
            end = after
            continue
        if end:
            yield line[begin:end]
        begin, end = max(end, line.rfind(" ", 0, max(0, at - _AROUND_CHARS)) + 1), after
    if end:
        yield line[begin:end]


def links(text: str) -> Iterator[Span]:
    """What a mail or chat program would make a link of, also inside of another link."""
    for span in (span for piece in _telling_pieces(text) for span in scan(piece, _LINK_KINDS)[0]):
        if span.reading[0].kind in _LINKS:
            yield span
            inner = span.text.partition("//")[2]
            if "//" in inner or "www." in inner.lower():
                yield from scan(inner, (LINK,))[0]


def names(text: str) -> Iterator[str]:
    """Runs of capitalised words."""
    if text.isascii():
        return (match[0] for match in _ASCII_NAMES.finditer(text))
    runs = (match[0] for match in _NAMES.finditer(text))
    return (run for run in runs if all(word[0].isupper() for word in run.split(" ")))


def quoted(text: str) -> Iterator[str]:
    """What stands between quotation marks."""
    return (next(filter(None, match.groups())) for match in _QUOTED.finditer(text))


def whole(text: str, *, names_record: bool = False) -> tuple[Reading, bool]:
    """The one value that a plain text is, without blanks around it.

    Args:
        text: not empty.
        names_record: it stands where a record's id does: "13" is one then, and no number.

    Returns:
        Its reading, which begins with a phrase if it is none, and whether one wrong letter would be another place.
    """
    for kind in _kinds_of(text):
        reading = kind.read(text) if kind.pattern.fullmatch(text) else ()
        if reading:
            return _as_id(text, reading) if names_record else reading, kind.strict
    if names_record and len(text) <= limits.IDENTIFIER_CHARS_MAX and " " not in text:
        return (*forms.identifier(text), *forms.words(text)), True
    return _untyped(text)


def _kinds_of(text: str) -> Iterator[Kind]:
    if _TELLING.search(text):
        kinds = _ALONE if _DIGIT.search(text) else _ALONE_WITHOUT_DIGIT
        yield from (kind for kind in kinds if kind.may_be_in(text))


def _as_id(text: str, reading: Reading) -> Reading:
    """What is all digits where an id stands is that id; a long one is what it is besides."""
    if reading[0].kind not in {"number", "account"} or not text.isdigit():
        return reading
    rest = [atom for atom in reading if atom.kind != "identifier"] if len(text) >= forms.LONG_DIGITS else []
    return (Atom("identifier", text), *rest)


def _untyped(text: str) -> tuple[Reading, bool]:
    reading = forms.words(text)
    one_token = not re.search(r"\s", text)
    if one_token and (not reading or reading[0].kind == "phrase"):
        return forms.identifier(text), True
    return reading, False


def listed(text: str) -> list[str]:
    """The pieces of a list of typed values in one text, or a mailbox's address; empty if it is anything else."""
    mailbox = _MAILBOX.fullmatch(text)
    if mailbox and EMAIL.pattern.fullmatch(mailbox[1]):
        return [mailbox[1]]
    first = _SEPARATORS.split(text, 1)[0]
    if first == text or not _is_typed(first):
        return []
    pieces = [piece for piece in _SEPARATORS.split(text) if piece]
    return pieces if len(pieces) <= limits.ARGUMENT_VALUES_MAX and all(map(_is_typed, pieces)) else []


def _is_typed(piece: str) -> bool:
    return bool(piece) and whole(piece)[0][0].kind not in WORDS


WORDS: Final = frozenset({"name", "phrase"})
"""The kinds that are told by nothing but being words."""
