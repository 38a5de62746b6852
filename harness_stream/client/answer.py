"""What the pipeline answered, and the one moment in which an approval may be used (PROTOCOL §8, V2, V4).

Rule of this file: an approval begins at most one action, in the process that asked, before its deadline and within
valid_for_ms of being read, and none once it was taken back. Bodies are untrusted: a field that is not what it must be
makes a verdict unreadable.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn

from harness_stream.client.revocation import Revocation
from harness_stream.core.reasons import EXPLAIN, Client, Misuse
from harness_stream.errors import CallerError, Expired, Misused, Revoked, TimedOut

if TYPE_CHECKING:
    from harness_stream.ports import Clock, LogRecord

Decision = Literal["approve", "deny", "hold"]
Handlers = Mapping[str, Callable[[Any], object]]
"""Obligation name → what fulfils it, called with the obligation's value right before the action; raising stops it."""

_DECISIONS: Final = frozenset({"approve", "deny", "hold"})


class Reason(NamedTuple):
    """One reason: a rule that fired, or a word of `core.reasons`.

    Attributes:
        code: `rule`, or the engine's or client's word.
        detail: what exactly.
        rule: the rule's id.
        effect: the rule's effect.
        because: the rule author's words.
        evidence: ids of the intents that made it fire, newest last.
        unknown: the window did not settle the condition.
    """

    code: str
    detail: str | None = None
    rule: str | None = None
    effect: str | None = None
    because: str | None = None
    evidence: tuple[str, ...] = ()
    unknown: bool = False

    def __str__(self) -> str:
        name = self.code if self.rule is None else f"rule `{self.rule}`"
        if self.rule is not None and self.code != Client.RULE:
            name = f"{name}: {self.code}"
        more = self.because or self.detail
        return f"{name} ({more})" if more else name

    @property
    def hint(self) -> str:
        """What it means and what to do next; empty for an unknown word."""
        return EXPLAIN.get(self.code, "")


def hint_of(reasons: tuple[Reason, ...]) -> str:
    """The first explanation there is."""
    return next((r.hint for r in reasons if r.hint), "")


class Terms(NamedTuple):
    """Where and how long an answer may be used.

    Attributes:
        clock: its `elapsed_ms` judges.
        ends_ms: elapsed time from which on nothing may begin.
    """

    clock: Clock
    ends_ms: int


class Answer:
    """A verdict as its enforcer read it.

    Attributes:
        decision: approve, deny or hold.
        intent_id: which intent.
        reasons: why.
        shadow: what rules in shadow mode would have said.
        obligations: what must be done with the approval.
        digest: of the verdict's value; an outcome names it.
        offset: of the verdict in its partition of the decision log.
        valid_for_ms: how long after being read an action may begin.
        hold_until: chain time, epoch ms, until which a person may answer; None without a hold.
        t: chain time of the verdict, epoch ms.
        ends_at: chain time, epoch ms, after which a mandate that it was given under has ended; None without one.
        acting: (agent, chain) it was given to, then those above it, for whom this is done.
        revoked: whether it was taken back.
        record: the verdict as it was read.
    """

    def __init__(self, body: Mapping[str, Any], digest: str, offset: int, record: LogRecord) -> None:
        """Take what `readable` has found readable."""
        self.decision: Decision = body["decision"]
        self.intent_id: str = body["intent_id"]
        self.reasons = _reasons(body.get("reasons"))
        self.shadow = _reasons(body.get("shadow"))
        self.obligations: Mapping[str, Any] = body["obligations"]
        self.digest = digest
        self.offset = offset
        self.record = record
        self.valid_for_ms: int = body["valid_for_ms"]
        self.hold_until: int | None = body.get("hold_until")
        self.t: int = body["t"]
        self.ends_at: int | None = body.get("ends_at")
        self.acting = _acting(body)
        self.revoked = Revocation()
        self._process_id = os.getpid()
        self._lock = threading.Lock()
        self._terms: Terms | None = None
        self._handlers: Handlers = {}
        self._used = False
        self._misused_in: dict[int, object] = {}

    @property
    def evidence(self) -> tuple[str, ...]:
        """Ids of all events that reasons name, each once."""
        return tuple(dict.fromkeys(i for reason in self.reasons for i in reason.evidence))

    @property
    def valid(self) -> bool:
        """Could an action begin now?"""
        return not self.foreign and self._refusal() is None

    def grant(self, terms: Terms, handlers: Handlers) -> None:
        """Make the approval usable; only the enforcer that asked does this."""
        self._terms, self._handlers = terms, handlers

    def start(self) -> None:
        """Use the approval, right before the action: fulfils the obligations, then begins it.

        Raises:
            Expired: the deadline or valid_for_ms has passed.
            TimedOut: it has passed while the obligations were fulfilled.
            Misused: used before, or in another process than the one that asked.
            CallerError: no approval.
            Revoked: it was taken back.
            Exception: whatever an obligation's handler raised; the approval is used up.
        """
        self.require_own_process()  # before the lock: a thread of the parent may have held it at the fork
        with self._lock:
            refusal = self._refusal()
            if refusal is not None:
                raise refusal
            self._used = True
        for name, value in self.obligations.items():
            self._handlers[name](value)
        self.require_own_process()  # a handler may have forked
        if self.revoked.is_set():
            raise self.taken_back(running=False)
        if self._ran_out():
            raise self._too_late(TimedOut)

    def hand_over(self) -> int:
        """Use the approval as `start` does, for an action that somebody else begins; ms for which it may begin.

        Raises:
            Expired, TimedOut, Misused, Revoked, CallerError, Exception: as `start`.
        """
        self.start()
        left_ms = 0 if self._terms is None else self._terms.ends_ms - self._terms.clock.elapsed_ms()
        if left_ms <= 0:
            raise self._too_late(TimedOut)
        return left_ms

    @property
    def foreign(self) -> bool:
        """Is this another process than the one that asked?"""
        return os.getpid() != self._process_id

    def first_misuse(self) -> bool:
        """Is nobody told of a misuse yet? So a loop that tries again and again is told once, by each process.

        No lock: a thread of the parent may have held it at the fork, and `setdefault` is atomic.
        """
        own = object()
        return self._misused_in.setdefault(os.getpid(), own) is own

    def __reduce__(self) -> NoReturn:
        """An approval is neither copied nor kept: a copy would not know that it was used."""
        said = "an approval is used from the memory of the process that asked for it, and is not copied"
        raise Misused(said, how=Misuse.KEPT)

    def require_own_process(self) -> None:
        """Raises Misused in another process than the one that asked."""
        if self.foreign:
            said = "an approval is used in the process that asked for it"
            raise Misused(said, how=Misuse.ELSEWHERE, hint="connect in this process")

    def taken_back(self, *, running: bool) -> Revoked:
        """The error of an approval that was taken back, before its action began or while it was `running`."""
        reason = Reason(self.revoked.reason)
        while_it_ran = "while the action ran: how far it came is not known"
        when = while_it_ran if running else "before the action began; nothing was run"
        message = f"the approval was taken back ({reason}) {when}"
        return Revoked(message, hint=reason.hint, reasons=(reason,), verdict=self)

    def _refusal(self) -> CallerError | TimedOut | Revoked | None:
        if self.decision != "approve" or self._terms is None:
            return CallerError(f"this verdict is `{self.decision}`: nothing may be run on it")
        if self._used:
            hint = "ask again: every action needs its own intent"
            return Misused("an approval is used once", how=Misuse.AGAIN, hint=hint)
        if self.revoked.is_set():
            return self.taken_back(running=False)
        return self._too_late(Expired) if self._ran_out() else None

    def _ran_out(self) -> bool:
        return self._terms is None or self._terms.clock.elapsed_ms() >= self._terms.ends_ms

    def _too_late(self, error: type[TimedOut]) -> TimedOut:
        reason = Reason(Client.RAN_OUT)
        message = "the approval has run out before the action began; nothing was run"
        return error(message, hint=reason.hint, reasons=(reason,), verdict=self)

    def __repr__(self) -> str:
        reasons = ", ".join(map(str, self.reasons))
        return f"<{type(self).__name__} {self.decision} of {self.intent_id}: {reasons}>"


def readable(body: Mapping[str, Any]) -> bool:
    """Is everything that enforcement rests on of the right kind?"""
    hold_until, ends_at = body.get("hold_until"), body.get("ends_at")
    return (
        isinstance(body.get("decision"), str)
        and body["decision"] in _DECISIONS
        and isinstance(body.get("intent_id"), str)
        and isinstance(body.get("obligations"), dict)
        and _is_time(body.get("valid_for_ms"))
        and _is_time(body.get("t"))
        and (ends_at is None or _is_time(ends_at))
        and (_is_time(hold_until) if body["decision"] == "hold" else hold_until is None or _is_time(hold_until))
    )


def _is_time(value: object) -> bool:
    return type(value) is int and value >= 0


def _acting(body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What an event says that is not as it must be names nobody."""
    event = body.get("event")
    event = event if isinstance(event, dict) else {}
    lineage = event.get("lineage")
    lineage = lineage if isinstance(lineage, dict) else {}
    agents, chains = ([*found] if isinstance(found := lineage.get(key), list) else [] for key in ("above", "chains"))
    named = [(body.get("agent_id"), event.get("chain_id", "")), *zip(agents, chains, strict=False)]
    return tuple((a, c) for a, c in named if isinstance(a, str) and isinstance(c, str))


def _reasons(found: object) -> tuple[Reason, ...]:
    return tuple(_reason(r) for r in found if isinstance(r, dict)) if isinstance(found, list) else ()


def _reason(found: Mapping[str, Any]) -> Reason:
    code, detail, rule, effect, because = (_text(found.get(k)) for k in ("code", "detail", "rule", "effect", "because"))
    evidence = found.get("evidence")
    ids = tuple(i for i in evidence if isinstance(i, str)) if isinstance(evidence, list) else ()
    return Reason(code or "", detail, rule, effect, because, ids, found.get("unknown") is True)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
