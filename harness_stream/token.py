"""What a remote executor needs: may this action run, here and now, on this token (PROTOCOL §9)?

    from harness_stream import token

    ROOT, once = token.root_key("root.pub"), token.Once()
    allowed = token.verify(text, root=ROOT, realm="acme", audience="payments", action="crm.refund",
                           arguments={"order": 1234, "amount": 40}, once=once)      # raises TokenRefused

Rule of this file: it needs neither a broker nor a store, and it asks for everything that somebody could forget to
compare. What is checked, and how, is `adapters.signing.tokens`; `docs/tokens.md` has the bytes.
"""

from __future__ import annotations

import heapq
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.signing.keyring import public_key_file
from harness_stream.adapters.signing.tokens import Verified, believed, refused
from harness_stream.core import limits
from harness_stream.core.canonical import arguments_digest as digest_of
from harness_stream.core.reasons import Token
from harness_stream.errors import CallerError, Overloaded, TokenRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Memory", "Once", "TokenRefused", "Verified", "root_key", "verify"]

REALM_DEFAULT: Final = "default"


class Memory(Protocol):
    """Remembers which verdicts were run; several processes of one executor need one that they share."""

    def first(self, verdict_digest: str, decided_ms: int, ends_ms: int, now_ms: int) -> bool:
        """Is it certainly the first time? In one step: of two who ask at once, one is told so.

        Args:
            verdict_digest: what was run, 64 hex digits.
            decided_ms: epoch ms at which it was approved: a memory that began later does not know what it missed.
            ends_ms: epoch ms from which on it may be forgotten.
            now_ms: epoch ms.
        """


class Once:
    """A `Memory` of one process, bounded by time and number.

    It forgets when the process ends, so what was approved before it began is refused: it may have been run. Between
    clocks that differ, an approve of the last moments before a restart could still run twice; an executor for which
    that is too much needs a memory that stays.

    Args:
        since_ms: epoch ms from which on it remembers; default now.
        kept_max: verdicts remembered at a time; beyond that nothing is run.
    """

    def __init__(self, since_ms: int | None = None, kept_max: int = limits.TOKENS_KEPT_MAX) -> None:
        self._since_ms = SystemClock().now_ms() if since_ms is None else since_ms
        self._known: set[str] = set()
        self._ends: list[tuple[int, str]] = []
        self._kept_max, self._lock = kept_max, threading.Lock()

    def first(self, verdict_digest: str, decided_ms: int, ends_ms: int, now_ms: int) -> bool:
        """See `Memory`.

        Raises:
            Overloaded: so many were run that none may be forgotten yet.
        """
        with self._lock:
            while self._ends and self._ends[0][0] <= now_ms:
                self._known.discard(heapq.heappop(self._ends)[1])
            if verdict_digest in self._known or decided_ms < self._since_ms:
                return False
            if len(self._known) >= self._kept_max:
                raise Overloaded(
                    f"{self._kept_max:,} approvals were run here that may not be forgotten yet; nothing was run",
                    hint="give `Once` more room (`kept_max`), or spread the work over more executors",
                )
            self._known.add(verdict_digest)
            heapq.heappush(self._ends, (ends_ms, verdict_digest))
            return True


def verify(
    token: str,
    *,
    root: bytes,
    audience: str,
    action: str,
    once: Memory | None,
    arguments: Mapping[str, Any] | None = None,
    arguments_digest: str | None = None,
    realm: str = REALM_DEFAULT,
    incarnation: str | None = None,
    now_ms: int | None = None,
) -> Verified:
    """Right before the action: may it run?

    Args:
        token: its text.
        root: the realm's root key, see `root_key`.
        audience: this executor's own name, which the agent named when it asked for the token.
        action: what is about to be run.
        once: remembers what was run; None remembers nothing, then the caller must see to it.
        arguments: what it is about to be run with: exactly what was approved, JSON only.
        arguments_digest: instead of `arguments`: their digest, see `core.canonical.arguments_digest`.
        realm: the realm's name.
        incarnation: ids of its log topics, to refuse tokens from before they were recreated.
        now_ms: epoch ms; default the machine's.

    Raises:
        TokenRefused: no; `reasons` has the word.
        CallerError: neither or both of `arguments` and `arguments_digest`.
        TypeError: an argument is not JSON.
        Overloaded: `once` is full.
    """
    if (arguments is None) == (arguments_digest is None):
        raise CallerError("a token is for certain arguments", hint="give `arguments`, or `arguments_digest`")
    now_ms = SystemClock().now_ms() if now_ms is None else now_ms
    said = believed(token, root, audience, realm, incarnation, now_ms)
    compare(said, action, digest_of(arguments or {}) if arguments_digest is None else arguments_digest)
    if once is not None and not once.first(said.verdict_digest, said.decided_ms, said.ends_ms, now_ms):
        raise refused(Token.USED, f"intent {said.intent_id} was run before, or approved before this executor began")
    return said


def compare(said: Verified, action: str, arguments_digest: str) -> None:
    """Is what was approved what shall be run? Raises TokenRefused."""
    if said.action != action:
        raise refused(Token.ACTION, f"`{said.action}` was approved, and this is `{action}`")
    if said.arguments_digest != arguments_digest:
        raise refused(Token.ARGUMENTS, "it was approved for other arguments")


def root_key(path: str | Path) -> bytes:
    """The root's public key from its file.

    Raises:
        ConfigError: it cannot be read, or is another key.
    """
    return public_key_file(Path(path), "root")
