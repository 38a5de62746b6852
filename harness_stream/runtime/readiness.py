"""When a worker may say that it is ready (DESIGN §4). A pure record: the loop fills it in, the HTTP thread reads it."""

from __future__ import annotations

from dataclasses import dataclass

from harness_stream.core import limits

# Up to the colon it is the cause that metrics name.
RECREATED = (
    "log topics recreated: they are of another incarnation than this worker, and begin with nothing. "
    "Restart the workers, and the processes of agents"
)

CERTIFY = "`harness keys certify DIR` certifies it anew; then restart what uses it"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a worker still waits for. The default is the state of a process that has just started.

    Attributes:
        tables_behind: tables not yet read up to the end they had when this worker started; None before that is known.
        rules_verified: the active rule bundle was fetched, its digest checked and compiled.
        claims_unread: assigned partitions whose own claim was not read back yet; None before the first assignment.
            A worker that was assigned no partition stands by and is ready.
        tables_stale: tables that were caught up and are not known to be fresh for FRESH_MS_MAX: the broker is silent,
            and rules that read them deny.
        recreated: the log topics are of another incarnation than this worker; it can do nothing but end.
        rules_problem: why the newest set that was pushed does not load; empty if it does, or none was.
        halted: those of the assigned partitions that no worker can go on with.
    """

    tables_behind: frozenset[str] | None = None
    rules_verified: bool = False
    claims_unread: frozenset[int] | None = None
    tables_stale: frozenset[str] = frozenset()
    recreated: bool = False
    rules_problem: str = ""
    halted: frozenset[int] = frozenset()

    @property
    def ready(self) -> bool:
        """True if nothing is waited for."""
        return not self.waiting_for

    @property
    def waiting_for(self) -> list[str]:
        """One sentence per thing, in a fixed order; empty if ready."""
        waiting: list[str] = [RECREATED] if self.recreated else []
        if self.tables_behind is None:
            waiting.append("the end of the tables is not known yet")
        elif self.tables_behind:
            waiting.append(f"tables not caught up: {', '.join(sorted(self.tables_behind))}")
        if self.tables_stale:
            stale = ", ".join(sorted(self.tables_stale))
            waiting.append(f"tables not known to be fresh for {limits.FRESH_MS_MAX} ms: {stale}; is the broker up?")
        if not self.rules_verified:
            why = self.rules_problem or "has one been pushed with `harness rules push`?"
            waiting.append(f"the active rule set is not verified; {why}")
        if self.halted:
            waiting.append(f"halted: partitions {_numbers(self.halted)}; `harness partitions` says why and what to do")
        if self.claims_unread is None:
            waiting.append("no partition assignment yet")
        elif unread := self.claims_unread - self.halted:
            waiting.append(f"claims not read back: partitions {_numbers(unread)}")
        return waiting


def _numbers(partitions: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(partitions)))
