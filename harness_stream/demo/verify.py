"""The end of the demo: what must hold of the logs (PROTOCOL §10), and of what was shown.

Rule of this file: both logs are read again from their first record; nothing that was seen live is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness_stream.core.coverage import miscovered, twice_settled, unanswered
from harness_stream.demo.audit import Audit
from harness_stream.runtime.to_end import ends_of, read_to_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.client.wiring import ClientRealm
    from harness_stream.demo.story import Judged
    from harness_stream.ports import Clock, LogReader


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: for machines.
        ok: it does.
        text: for people, what was found.
    """

    name: str
    ok: bool
    text: str


def input_ends(realm: ClientRealm, reader: LogReader, clock: Clock) -> dict[int, int]:
    """Partition → next offset of the input log.

    Raises:
        BrokerUnavailable: the broker does not say.
    """
    return {p: ends_of(reader, realm.topics.intents, p, clock).end for p in range(realm.partitions)}


def fold_again(realm: ClientRealm, reader: LogReader, clock: Clock) -> Audit:
    """A fold of the whole decision log from genesis.

    Raises:
        BrokerUnavailable: it could not be read.
    """
    audit = Audit(realm)
    for partition in range(realm.partitions):
        for record in read_to_end(reader, realm.topics.verdicts, partition, clock):
            audit.take(record)
    return audit


def checks(audit: Audit, ends: dict[int, int], judged: Sequence[Judged], intended: int) -> list[Check]:
    """All checks.

    Args:
        audit: `fold_again`.
        ends: `input_ends`.
        judged: what was shown.
        intended: how many intents the cast has.
    """
    return [_coverage(audit, ends), _settled(audit, judged), _obeyed(audit, judged), _story(judged, intended)]


def _coverage(audit: Audit, ends: dict[int, int]) -> Check:
    wrong = {p: miscovered(bodies, ends[p]) for p, bodies in audit.effective.items()}
    inputs = f"{sum(ends.values())} inputs in {len(ends)} partitions"
    if any(wrong.values()):
        found = "; ".join(f"partition {p}: offset → times {bad}" for p, bad in wrong.items() if bad)
        return Check("coverage", False, f"{inputs}, and not each is covered exactly once: {found}")
    return Check("coverage", True, f"{inputs}: each is covered by exactly one record of the decision log that counts")


def _settled(audit: Audit, judged: Sequence[Judged]) -> Check:
    effective = [body for bodies in audit.effective.values() for body in bodies]
    twice = twice_settled(effective)
    missing = unanswered(effective, [(j.agent_id, j.intent_id) for j in judged])
    if twice or missing:
        return Check("one_verdict", False, f"answered twice: {sorted(twice)}; never: {sorted(missing)}")
    holds = sum(j.decision == "hold" for j in judged)
    waits = f"; {holds} on hold waits for a person" if holds else ""
    return Check("one_verdict", True, f"{len(judged)} intents: none was answered twice, none was forgotten{waits}")


def _obeyed(audit: Audit, judged: Sequence[Judged]) -> Check:
    wrong = [j for j in judged if j.ran != (_logged(audit, j) == "approve")]
    if wrong:
        names = ", ".join(f"{j.agent_id} {j.action}" for j in wrong)
        return Check("enforced", False, f"ran although not approved, or the other way round: {names}")
    ran = sum(j.ran for j in judged)
    stopped = f"{len(judged) - ran} were stopped before their first line"
    return Check("enforced", True, f"{ran} functions ran, exactly those the log approves; {stopped}")


def _logged(audit: Audit, judged: Judged) -> str:
    body = audit.verdict(judged.intent_id)
    return "none" if body is None else str(body["decision"])


def _story(judged: Sequence[Judged], intended: int) -> Check:
    wrong = [j for j in judged if j.decision != j.expected]
    if wrong or len(judged) != intended:
        names = "; ".join(f"{j.agent_id} {j.action}: {j.decision} instead of {j.expected}" for j in wrong)
        return Check("story", False, f"{len(judged)} of {intended} intents were answered; {names}")
    return Check("story", True, "every agent got the answers this demo is built to show")
