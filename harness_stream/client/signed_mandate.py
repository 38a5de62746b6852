"""A mandate as its orchestrator signed it: a file that the agent's process publishes byte for byte (DESIGN §10).

Rule of this file: the signature is carried, never made or judged here: who publishes has no key of the orchestrator's.
What a worker could only call `not_authentic` is said here before anything is published: another realm, lane or topic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from harness_stream.client.fingerprints import with_goal
from harness_stream.core import limits
from harness_stream.core.model import Mandate
from harness_stream.core.refusals import refusals
from harness_stream.errors import InvalidInput
from harness_stream.wire.cloudevents import SIGNATURE_NAMES
from harness_stream.wire.codec import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.client.wiring import ClientRealm
    from harness_stream.ports import Headers, InputSigner

FORMAT: Final = "harness-stream/1 signed mandate"
"""First field of such a file, by which it is told from a mandate's plain fields."""
_BOUND: Final = ("realm", "incarnation", "topic", "lane")
# The mandate as JSON inside of JSON: each of its quotes takes two bytes.
_FILE_BYTES_MAX: Final = 3 * limits.INTENT_BYTES_MAX


class Said(NamedTuple):
    """A mandate to be published.

    Attributes:
        value: its bytes.
        seal: headers by which its orchestrator vouches; None: whoever publishes has to.
        bound: realm, incarnation, topic and lane that they are for.
    """

    value: bytes
    seal: Headers | None = None
    bound: tuple[str, ...] = ()


def signed_mandate(mandate: Mandate, signer: InputSigner, bound: tuple[str, str, str, str]) -> bytes:
    """A file's content.

    Args:
        mandate: what is signed.
        signer: speaks for `mandate.by`.
        bound: realm, incarnation, topic and lane; another lane or realm needs another signature.

    Raises:
        CallerError: the signer has no keys of `mandate.by`.
    """
    value = encode(mandate)
    seal = signer.seal_input(bound[2], bound[3], value, "mandate", mandate.by)
    headers = {name: (text or b"").decode() for name, text in seal}
    told = {"format": FORMAT, **dict(zip(_BOUND, bound, strict=True)), "headers": headers, "mandate": value.decode()}
    return orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n"


def read_mandate(source: str | Path | bytes | Mapping[str, Any], key: bytes | None) -> Said:
    """What a file, its bytes or fields say.

    Args:
        source: a signed file or plain fields, in which `goal` may be the user's words.
        key: of the realm's fingerprints.

    Raises:
        InvalidInput: the file cannot be read, or fields break the schema.
    """
    if isinstance(source, str | Path):
        path = source
        try:
            source = Path(path).read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"mandate file `{path}` cannot be read: {error.strerror}", hint="`harness mandates sign` writes one"
            ) from None
    if isinstance(source, bytes):
        found = _parsed(source)
        return Said(source) if found is None or found.get("format") != FORMAT else _signed(found)
    if source.get("format") == FORMAT:
        return _signed(source)
    try:
        return Said(encode(Mandate.model_validate(with_goal(source, key))))
    except ValidationError as error:
        mistakes = tuple(map(str, refusals(error)))
        raise InvalidInput(f"mandate: {mistakes[0]}; nothing was published", mistakes=mistakes) from None


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(content) if len(content) <= _FILE_BYTES_MAX else None
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _signed(found: Mapping[str, Any]) -> Said:
    headers = found.get("headers")
    texts = [found.get(name) for name in (*_BOUND, "mandate")]
    known = isinstance(headers, dict) and SIGNATURE_NAMES.issuperset(headers)
    if not isinstance(headers, dict) or not known or not all(isinstance(t, str) for t in (*texts, *headers.values())):
        hint = "`harness mandates sign` writes one"
        raise InvalidInput("this is no signed mandate: a field is missing or malformed", hint=hint)
    seal = [(str(name), str(text).encode()) for name, text in headers.items()]
    return Said(str(texts[-1]).encode(), seal, tuple(map(str, texts[:-1])))


def require_fit(said: Said, realm: ClientRealm, lane: str) -> None:
    """Refuse a signature that is for somewhere else.

    Raises:
        InvalidInput: for another realm, other log topics or another lane.
    """
    here = (realm.name, realm.incarnation, realm.topics.intents, lane)
    words = ("realm `{}`", "other log topics, which were recreated since", "topic `{}`", "lane `{}`")
    for there, own, word in zip(said.bound, here, words, strict=False):
        if there != own:
            raise InvalidInput(
                f"the mandate was signed for {word.format(there)}, and this is `{own}`; nothing was published",
                hint="its orchestrator signs it for where it is to count: `harness mandates sign`",
            )
