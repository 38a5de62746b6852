"""The fold: which records of the decision log count, and where a partition stands (PROTOCOL §4).

The rule, once: a `claim` is effective iff its epoch is greater than the state's; any other record iff epoch and writer
are the state's, `prev` is the head and `covers` begins at next_input. Everything else is void and changes nothing.
Worker, client, gateway, auditor and tests call this same function. It reads untrusted bytes' contents: it never raises.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from harness_stream.core import limits

Body = Mapping[str, Any]


class Header(NamedTuple):
    """Where a partition stands: everything a reader must know to judge the next record.

    Attributes:
        incarnation: ids of the two log topics.
        partition: of intents and verdicts alike.
        epoch: number of the claim in force, 0 before the first.
        writer: who claimed it.
        head: digest of the last effective record.
        next_input: first input offset no effective record covers yet.
        rules: (digest, revision) of the bundle in force, None before the first switch.
        t: chain time, epoch ms.
        crash_claims: pending crash claims in a row at next_input (query of death, PROTOCOL §5).
    """

    incarnation: str
    partition: int
    epoch: int
    writer: str
    head: str
    next_input: int
    rules: tuple[str, int] | None
    t: int
    crash_claims: int


def genesis(incarnation: str, partition: int) -> Header:
    """The state before the first record: head = SHA-256("harness-genesis" ‖ incarnation ‖ partition in decimal)."""
    head = hashlib.sha256(f"harness-genesis{incarnation}{partition}".encode()).hexdigest()
    return Header(incarnation, partition, 0, "", head, 0, None, 0, 0)


def chained(head: str, digest: str) -> str:
    """Head after a claim: SHA-256 over both digests' bytes. A claim names no `prev`, yet history stays one chain."""
    return hashlib.sha256(bytes.fromhex(head) + bytes.fromhex(digest)).hexdigest()


def fold_header(state: Header, body: Body, digest: str) -> Header | None:
    """The state after `body`, or None if the record is void (or one of `STATEMENTS`, which the fold ignores).

    Args:
        state: where the partition stood.
        body: the record's parsed value.
        digest: SHA-256 of the value as received, hex.
    """
    if body.get("incarnation") != state.incarnation:
        return None
    kind = body.get("kind")
    if isinstance(kind, str) and kind in LINKED:
        return _linked(state, body, digest, kind)
    if kind == "claim":
        return _claim(state, body, digest)
    return _resume(state, body) if kind == "resume" else None


def after_own(state: Header, last: int, t: int, digest: str) -> Header | None:
    """What `fold_header` says of one of `ANSWERS` that its owner has just linked to `state`.

    Its links are taken from `state` itself, so they need not be read back from its body.

    Args:
        state: where the partition stands under the owner's claim; what names rules, names its rules.
        last: input offset up to which the record covers.
        t: chain time that it says.
        digest: of its value, hex.
    """
    incarnation, partition, epoch, writer, _, next_input, rules, before, _ = state
    if epoch <= 0 or not next_input <= last <= limits.INTEGER_MAX:
        return None
    return Header(incarnation, partition, epoch, writer, digest, last + 1, rules, max(before, t), 0)


def is_own(state: Header, body: Body) -> bool:
    """Was this written under the claim in force?"""
    epoch = body.get("epoch")
    return type(epoch) is int and epoch == state.epoch > 0 and body.get("writer") == state.writer


_DIGEST = re.compile(rf"[0-9a-f]{{{limits.DIGEST_DIGITS}}}")
DENIALS: Final = "denials"
RULED: Final = frozenset({"verdict", DENIALS})
"""Kinds that name the bundle in force."""
CHANGING: Final = RULED | {"ack"}
"""Kinds that may change units."""
ANSWERS: Final = RULED | {"ack", "reject", "skip"}
"""Kinds that cover inputs."""
LINKED: Final = ANSWERS | {"switch"}
"""Kinds that go on from the head they name."""
NOTICE: Final = "notice"
STATEMENTS: Final = frozenset({"checkpoint", NOTICE})
"""Kinds that the fold passes over: they say something and change nothing, so they neither count nor lose."""


def whole(value: object) -> int | None:
    """`value` if it is a real integer in range: JSON `true` and 1.0 compare equal to 1 and must not pass."""
    return value if type(value) is int and -1 <= value <= limits.INTEGER_MAX else None


def _claim(state: Header, body: Body, digest: str) -> Header | None:
    epoch, writer, after = whole(body.get("epoch")), body.get("writer"), body.get("after")
    if epoch is None or epoch <= state.epoch or not isinstance(writer, str):
        return None
    crashes = state.crash_claims + (after == "crash" and body.get("pending") is True) if after != "clean" else 0
    return state._replace(epoch=epoch, writer=writer, head=chained(state.head, digest), crash_claims=crashes)


def _linked(state: Header, body: Body, digest: str, kind: str) -> Header | None:
    """A hundred thousand of these stand between a start and the first answer, so nothing is asked twice."""
    incarnation, partition, epoch, writer, head, next_input, rules, before, crash_claims = state
    covers = body.get("covers")
    if body.get("prev") != head or not is_own(state, body):
        return None
    if not isinstance(covers, list | tuple) or len(covers) != 2:  # noqa: PLR2004  first and last
        return None
    first, last = covers
    fits = type(first) is int and first == next_input and type(last) is int
    if not fits or not first - (kind == "switch") <= last <= limits.INTEGER_MAX:
        return None
    if kind in RULED:
        if rules is None or not _names(body, rules):
            return None
    elif kind == "switch":
        named = _rules_of(body)
        if last != first - 1 or named is None or (rules is not None and named[1] <= rules[1]):
            return None
        rules = named
    t = max(before, whole(body.get("t")) or 0)
    crashes = crash_claims if kind == "switch" else 0
    return Header(incarnation, partition, epoch, writer, digest, last + 1, rules, t, crashes)


def _names(body: Body, rules: tuple[str, int]) -> bool:
    """Does the record name this very bundle, as nearly all do?"""
    said = body.get("rules")
    if type(said) is not dict:
        return _rules_of(body) == rules
    revision = said.get("revision")
    return type(revision) is int and revision == rules[1] and said.get("digest") == rules[0]


def _resume(state: Header, body: Body) -> Header | None:
    epoch, next_input, t = whole(body.get("epoch")), whole(body.get("next_input")), whole(body.get("t"))
    writer, head, rules = body.get("writer"), body.get("head"), _rules_of(body)
    if epoch is None or epoch <= state.epoch or not isinstance(writer, str) or not isinstance(head, str):
        return None
    if next_input is None or next_input < 0 or t is None or t < 0 or not _DIGEST.fullmatch(head):
        return None
    return Header(state.incarnation, state.partition, epoch, writer, head, next_input, rules, t, 0)


def _rules_of(body: Body) -> tuple[str, int] | None:
    rules = body.get("rules")
    if type(rules) is not dict and not isinstance(rules, Mapping):  # the second question costs ten times the first
        return None
    digest, revision = rules.get("digest"), whole(rules.get("revision"))
    return (digest, revision) if isinstance(digest, str) and revision is not None and revision >= 1 else None


class Place(NamedTuple):
    """A header and the record it came from: what a checkpoint states and where a reader goes on.

    Attributes:
        header: the state.
        offset: decision-log offset of the last effective record, −1 at genesis.
        digest: that record's digest; the genesis head at genesis.
    """

    header: Header
    offset: int
    digest: str

    @classmethod
    def genesis(cls, incarnation: str, partition: int) -> Place:
        """Before the first record."""
        header = genesis(incarnation, partition)
        return cls(header, -1, header.head)

    def after(self, offset: int, body: Body, digest: str) -> Place | None:
        """The place after an effective record, None if it is void. Offsets already folded are void."""
        if offset <= self.offset:
            return None
        header = fold_header(self.header, body, digest)
        return None if header is None else Place(header, offset, digest)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the inverse of `from_json`."""
        h = self.header
        rules = None if h.rules is None else {"digest": h.rules[0], "revision": h.rules[1]}
        return {**h._asdict(), "rules": rules, "verdict_offset": self.offset, "record_digest": self.digest}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Place:
        """Read what `to_json` or a checkpoint's body says.

        Raises:
            KeyError, TypeError: it says something else.
        """
        rules = data["rules"]
        header = Header(
            incarnation=_text(data["incarnation"]),
            partition=_whole(data["partition"]),
            epoch=_whole(data["epoch"]),
            writer=_text(data["writer"]),
            head=_digest(data["head"]),
            next_input=_whole(data["next_input"]),
            rules=None if rules is None else (_text(rules["digest"]), _whole(rules["revision"])),
            t=_whole(data["t"]),
            crash_claims=_whole(data["crash_claims"]),
        )
        return cls(header, _whole(data["verdict_offset"]), _digest(data["record_digest"]))


def _whole(value: object) -> int:
    found = whole(value)
    if found is None:
        raise TypeError(f"not an integer in range: {str(value)[:_SHOWN_CHARS]}")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {str(value)[:_SHOWN_CHARS]}")
    return value


def _digest(value: object) -> str:
    if not _DIGEST.fullmatch(_text(value)):
        raise TypeError(f"not a digest: {str(value)[:_SHOWN_CHARS]}")
    return _text(value)


_SHOWN_CHARS = 40
