"""From JSON values to typed atoms: what an argument uses, what a text or field offers (PROVENANCE §1).

Rule of this file: a use has one reading and every part of it must be accounted for; a source offers every reading it
vouches for. So what is used is found again in an honest source, and anything else reads as never seen. Pure, bounded
and linear: what is too deep, too much or opaque is `unparsed`, never half read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from harness_stream.client import forms, scanning
from harness_stream.client.forms import Atom
from harness_stream.client.lookalikes import faithful, plain, same_name, same_words
from harness_stream.client.scanning import WORDS
from harness_stream.client.vocabulary import LITTLE_WORDS
from harness_stream.core import limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.core.scalars import ValueKind

# Four intents' worth of text. Prose of that size is read in some 30 ms, a text of nothing but values in some 200.
ARGUMENTS_CHARS_MAX: Final = 4 * limits.INTENT_BYTES_MAX
# Filters and trees of real tools stay below; what is deeper is no list of values.
DEPTH_MAX: Final = 2 * limits.DEPTH_MAX
# A list may hold as many values as an argument may have fingerprints, each in an object with three others.
LEAVES_MAX: Final = 4 * limits.ARGUMENT_VALUES_MAX
# Subjects, titles, names and addresses are shorter; what is longer, or has lines, is prose.
FIELD_CHARS_MAX: Final = 128
# The longest single value (IDENTIFIER_CHARS_MAX); a longer run without a blank holds something we cannot see.
_BLOB: Final = re.compile(rf"(?<![A-Za-z0-9+/=_\-])[A-Za-z0-9+/=_\-]{{{limits.IDENTIFIER_CHARS_MAX + 1},}}")
# A ruler of dashes uses fewer, hexadecimal text more.
_BLOB_LETTERS_MIN: Final = 8
_SENTENCE_END: Final = re.compile(r"[.!?][\"')]?\s+\S")
# `Dr. Smith, St. Gallen` is no sentence.
_SENTENCE_WORDS_MIN: Final = 6
_NAMES_RECORD: Final = re.compile(r"(?:(?<![A-Za-z0-9])(?:id|uri|uuid)|(?<=[a-z0-9])(?:I[Dd]|U(?:RI|UID|ri|uid)))s?_*$")
_NAMES_KEPT: Final = 1024  # names of parameters and fields, as many as some tool servers have together
_SCHEMA_KEY: Final = re.compile(r"[a-z_][A-Za-z0-9_]{0,63}")


@dataclass(slots=True)
class Use:
    """What one argument uses.

    Attributes:
        values: each once, in order.
        links: what a mail or chat program would make a link of.
        exact: all of it is what it looks like.
        unparsed: it could not be taken apart; then nothing else counts.
        chars: how much text was read.
    """

    values: dict[Atom, None] = field(default_factory=dict)
    links: dict[Atom, None] = field(default_factory=dict)
    exact: bool = True
    unparsed: bool = False
    chars: int = 0


@lru_cache(_NAMES_KEPT)
def names_record(name: str) -> bool:
    """Does a field or parameter of this name hold a record's id: `id`, `file_id`, `eventId`, `uri`?"""
    return _NAMES_RECORD.search(name) is not None


def is_schema_key(key: str) -> bool:
    """Is an object's key a name its tool gave, such as `sender`? Others (`Bob`, `bob@x.com`) are values."""
    return _SCHEMA_KEY.fullmatch(key) is not None


def is_nothing(value: object) -> bool:
    """None, blank text, and lists and objects of such: a value that steers nothing."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, dict):
        return not value
    return value is None or (isinstance(value, list | tuple) and all(map(is_nothing, value)))


def used(name: str, value: object, chars_max: int = ARGUMENTS_CHARS_MAX) -> Use:
    """What an argument uses.

    Args:
        name: of the parameter; says whether a value stands for a record.
        value: plain data as `client.binding` makes it.
        chars_max: of text to read.
    """
    use = Use()
    for count, (place, leaf) in enumerate(_leaves(name, value)):
        if leaf is _TOO_DEEP or count >= LEAVES_MAX:
            use.unparsed = True
        elif isinstance(leaf, str):
            text = plain(leaf) if use.chars + len(leaf) <= chars_max else leaf
            use.chars += max(len(leaf), len(text))  # one character may be drawn as many
            use.unparsed = use.chars > chars_max or is_blob(text)
            if not use.unparsed:
                _use_text(use, text.strip(), leaf, in_place_of_record=names_record(place))
        else:
            kind: ValueKind = "identifier" if names_record(place) else "number"
            use.values[Atom(kind, forms.number_text(leaf) or repr(leaf))] = None
        if use.unparsed or max(len(use.values), len(use.links)) > limits.ARGUMENT_VALUES_MAX:
            return Use(exact=False, unparsed=True, chars=use.chars)
    return use


_TOO_DEEP: Final = object()


def _leaves(name: str, value: object) -> Iterator[tuple[str, Any]]:
    """Texts and numbers with the nearest name; keys that are no names of a schema are values as well."""
    level: list[tuple[str, object]] = [(name, value)]
    for _ in range(DEPTH_MAX):
        below: list[tuple[str, object]] = []
        for place, item in level:
            if isinstance(item, dict):
                below += item.items()
                yield from ((place, key) for key in item if not is_schema_key(key))
            elif isinstance(item, list | tuple):
                below += ((place, each) for each in item)
            elif not (item is None or isinstance(item, bool)):
                yield place, item
        level = below
        if not level:
            return
    yield name, _TOO_DEEP


def _use_text(use: Use, text: str, raw: str, *, in_place_of_record: bool) -> None:
    if not text:
        use.exact &= not raw.strip()
        return
    if "." in text or ":" in text:
        for span in scanning.links(text):
            use.links[span.reading[0]] = None
            use.exact &= _link_is_plain(span.text, raw)
    _use_whole(use, text, raw, in_place_of_record=in_place_of_record)


def _use_whole(use: Use, text: str, raw: str, *, in_place_of_record: bool) -> None:
    reading, strict = scanning.whole(text, names_record=in_place_of_record)
    if reading[0].kind in WORDS:
        pieces = scanning.listed(text)
        for piece in pieces:
            _use_whole(use, piece, raw, in_place_of_record=in_place_of_record)
        if pieces:
            return
        if reading[0].kind == "name":
            use.exact &= same_name(text, raw)
        else:
            use.exact &= is_prose(text) or same_words(text, raw)
    elif reading[0].kind in {"url", "host"}:
        use.exact &= _link_is_plain(text, raw) and forms.without_trailer(text) == text
    else:
        use.exact &= faithful(text, raw, strict=strict)
    use.values[reading[0]] = None


def _link_is_plain(text: str, raw: str) -> bool:
    """`https://good.example@evil.example/` leads elsewhere than it looks."""
    return faithful(text, raw, strict=True) and "@" not in text.partition("//")[2].partition("/")[0]


def is_blob(text: str) -> bool:
    """Does it hold a run that may be anything, such as a file in base64?"""
    if len(text) <= limits.IDENTIFIER_CHARS_MAX:
        return False
    return any(len(set(run[0])) > _BLOB_LETTERS_MIN and not _in_link(text, run) for run in _BLOB.finditer(text))


def _in_link(text: str, run: re.Match[str]) -> bool:
    """Long paths and queries are a link's, up to its own limit."""
    before = text[max(0, run.start() - limits.URI_CHARS_MAX) : run.start()].rpartition(" ")[2]
    return len(run[0]) <= limits.URI_CHARS_MAX and ("://" in before or "://" in run[0])


def is_prose(text: str) -> bool:
    """Long, of several lines, or of sentences: nobody's single value."""
    if len(text) > FIELD_CHARS_MAX or "\n" in text:
        return True
    return len(text.split()) >= _SENTENCE_WORDS_MIN and _SENTENCE_END.search(text) is not None


# --- What sources offer ---


def offered_by_text(text: str) -> Iterator[Atom]:
    """Every typed value in a plain text and its capitalised names, in the order in which they are found.

    Read no further than needed: a hostile text may hold a value in every second character.
    """
    for span in scanning.typed(text):
        yield from span.reading
    for name in scanning.names(text):
        yield from (atom for atom in forms.words(name) if atom.kind == "name")


def offered_by_value(text: str, *, in_place_of_record: bool) -> tuple[dict[Atom, None], Iterator[Atom]]:
    """What a plain text offers as one value, and what else stands in it: that is prose, however short."""
    if is_prose(text):
        return {}, offered_by_text(text)
    reading, _ = scanning.whole(text, names_record=in_place_of_record)
    one = dict.fromkeys(reading)
    if reading[0].kind not in WORDS:
        return one, iter(())
    for piece in scanning.listed(text):
        one.update(dict.fromkeys(scanning.whole(piece, names_record=in_place_of_record)[0]))
    return one, (atom for atom in offered_by_text(text) if atom not in one)


def named_by_user(text: str) -> dict[Atom, None]:
    """What a user's words name: typed values, names with their parts, quoted phrases, and each word.

    Words alone are offered because a channel or a file is often one: `post it in general`.
    """
    spans, left = scanning.scan(text)
    found = dict.fromkeys(atom for span in spans for atom in span.reading)
    for phrase in (*scanning.quoted(text), *scanning.names(left)):
        for part in (phrase, *_runs(phrase)):
            found.update(dict.fromkeys(_reading(part)))
    for word in left.split():
        if word.casefold() not in LITTLE_WORDS and "\x00" not in word:
            found.update(dict.fromkeys(_reading(word)))
    return found


def _reading(text: str) -> forms.Reading:
    stripped = text.strip(" .,;:!?\"'()[]“”‘’")
    return scanning.whole(stripped)[0] if stripped else ()


def _runs(phrase: str) -> Iterator[str]:
    """Every run of words inside a name."""
    words = phrase.split(" ")
    if len(words) <= forms.NAME_WORDS_MAX:
        yield from (" ".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, len(words) + 1))
