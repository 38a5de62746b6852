"""Fingerprints of typed values: what events carry instead of text (PROVENANCE §1).

Rule of this file: a fingerprint is keyed BLAKE2b of 64 bits over kind and canonical form, under the realm's key, and
nothing else of a value leaves the process. Who holds the key can test guesses: keep it from whoever reads the log and
must not know what is in it.
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypedDict

from harness_stream.client import atoms
from harness_stream.client.lookalikes import plain
from harness_stream.client.scanning import WORDS
from harness_stream.core import limits
from harness_stream.core.canonical import sha256_hex
from harness_stream.errors import CallerError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.client.forms import Atom

KEY_BYTES: Final = 32
# BLAKE2b's personalisation, ≤ 16 bytes: a hash made for one purpose is never one made for another.
_PERSON: Final = b"hs-value"
_PERSON_DEV_KEY: Final = b"hs-dev-value-key"
# As many as an outcome's: 20 KB of the 64 an intent may have.
INTENT_VALUES_MAX: Final = limits.OUTCOME_VALUES_MAX
# What a user says at once; more is a document, whose words are not the user's.
GOAL_CHARS_MAX: Final = 32_768


class Named(TypedDict):
    """What a mandate says of the user's words: two of its fields.

    Attributes:
        values: fingerprints of typed values.
        phrases: fingerprints of names, quoted phrases and words.
    """

    values: list[str]
    phrases: list[str]


class Seal:
    """Makes fingerprints under one key.

    Args:
        key: of the realm, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise CallerError(f"a fingerprint key has {KEY_BYTES} bytes, this one {len(key)}")
        self._keyed = blake2b(digest_size=limits.FINGERPRINT_DIGITS // 2, key=key, person=_PERSON)

    def __call__(self, atom: Atom) -> str:
        """16 hex digits."""
        digest = self._keyed.copy()
        digest.update(f"{atom.kind}\0{atom.form}".encode())
        return digest.hexdigest()

    def all(self, found: Iterable[Atom]) -> list[str]:
        """Each once, in order."""
        return list(dict.fromkeys(map(self, found)))


def read_key(text: str) -> bytes:
    """A key from its base64url text.

    Raises:
        ValueError: it is not 32 bytes of base64url.
    """
    key = base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    if len(key) != KEY_BYTES:
        raise ValueError(f"it has {len(key)} bytes")
    return key


def dev_key(realm: str) -> bytes:
    """The key of a `--dev` realm without one, made of the realm's name so that its clients agree.

    It hides nothing from whoever knows that name: a guess can be tested by anybody.
    """
    return blake2b(realm.encode(), digest_size=KEY_BYTES, person=_PERSON_DEV_KEY).digest()


def arguments_of(
    arguments: Mapping[str, Any], roles: Mapping[str, str], seal: Seal | None
) -> tuple[list[dict[str, Any]], bool]:
    """An intent's `arguments` and `unparsed`.

    An argument that is nothing (None, blank, empty) steers nothing and is left out; the digest covers it.

    Args:
        arguments: name → plain data.
        roles: name → role; without one it is `other`.
        seal: None: nothing can be named, so every value reads as never seen.

    Raises:
        CallerError: a role names no argument.
    """
    unknown = sorted(set(roles) - set(arguments))
    if unknown:
        raise CallerError(f"`roles` names `{unknown[0]}`, which is no argument")
    listed = [name for name, value in arguments.items() if not atoms.is_nothing(value)]
    bare = [{"name": name, "role": roles.get(name, "other")} for name in listed]
    uses = [] if seal is None else _uses(arguments, listed)
    if seal is None or len(uses) < len(listed):
        return bare, bool(listed)
    return [_argument(said, use, seal) for said, use in zip(bare, uses, strict=True)], False


def _uses(arguments: Mapping[str, Any], listed: Iterable[str]) -> list[atoms.Use]:
    """One each; fewer if one cannot be taken apart or all together are too much."""
    uses: list[atoms.Use] = []
    chars_left, values_left = atoms.ARGUMENTS_CHARS_MAX, INTENT_VALUES_MAX
    for name in listed:
        use = atoms.used(name, arguments[name], chars_left)
        chars_left -= use.chars
        values_left -= len(use.values) + len(use.links)
        if use.unparsed or values_left < 0:
            break
        uses.append(use)
    return uses


def _argument(said: Mapping[str, str], use: atoms.Use, seal: Seal) -> dict[str, Any]:
    return {**said, "values": seal.all(use.values), "exact": use.exact, "links": seal.all(use.links)}


def fingerprints_of(text: str, key: bytes) -> Named:
    """What a user's words name, for a mandate; the words themselves stay here.

        mandate = {..., "expires_at": ..., **fingerprints_of(goal, key)}

    Args:
        text: the user's own words, ≤ 32,768 characters: typed values, names, quoted phrases and single words are taken.
        key: of the realm, 32 bytes.

    Raises:
        InvalidInput: the text is longer, or names more than a mandate may.
    """
    if len(text) > GOAL_CHARS_MAX:
        raise InvalidInput(
            f"a goal has at most {GOAL_CHARS_MAX:,} characters, this one {len(text):,}",
            hint="give the user's own words; what they refer to is read by the agent",
        )
    found, seal = atoms.named_by_user(plain(text)), Seal(key)
    words = [atom for atom in found if atom.kind in WORDS]
    named = Named(values=seal.all(a for a in found if a.kind not in WORDS), phrases=seal.all(words))
    if max(len(named["values"]), len(named["phrases"])) > limits.MANDATE_VALUES_MAX:
        raise InvalidInput(f"the goal names more than {limits.MANDATE_VALUES_MAX:,} values; shorten it")
    return named


def with_goal(fields: Mapping[str, Any], key: bytes | None) -> dict[str, Any]:
    """A mandate's fields, with what its `goal` in plain words names in its place; the words are not kept.

    Args:
        fields: of the schema, and `goal`: the user's own words.
        key: of the realm; None: only the goal's digest is told.

    Raises:
        InvalidInput: as `fingerprints_of`, or the goal is no text.
    """
    told = dict(fields)
    goal = told.pop("goal", None)
    if goal is None:
        return told
    if not isinstance(goal, str):
        raise InvalidInput("a mandate's `goal` is the user's words, one text")
    named = Named(values=[], phrases=[]) if key is None else fingerprints_of(goal, key)
    told.setdefault("goal_digest", sha256_hex(goal.encode("utf-8", "surrogatepass")))
    told["values"] = list(dict.fromkeys([*told.get("values", ()), *named["values"]]))
    told["phrases"] = list(dict.fromkeys([*told.get("phrases", ()), *named["phrases"]]))
    return told


def fingerprint_of(value: str | float, key: bytes, *, name: str = "") -> str:
    """One value's fingerprint: an own address for the identity table, a record for `delegates_to`.

    Args:
        value: `billing@acme.example`, `GB29 NWBK 6016 1331 9268 19`, a record's id.
        key: of the realm, 32 bytes.
        name: of the field it stands in; `file_id` makes "13" a record's id.

    Raises:
        InvalidInput: it is not one exact value.
    """
    use = atoms.used(name, value)
    if use.unparsed or not use.exact or len(use.values) != 1:
        raise InvalidInput("this is not one value that could be matched: an address, an account, a name, an id")
    return Seal(key)(next(iter(use.values)))
