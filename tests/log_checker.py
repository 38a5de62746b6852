"""What must hold of the logs afterwards, whatever happened: V1, V2, V3, V5 (PROTOCOL §10), as the product's auditor sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness_stream.adapters.signing import UnsignedVerifier
from harness_stream.core import counting
from harness_stream.core.audit import Audit
from harness_stream.core.chain import AGENT_KEY
from harness_stream.core.coverage import miscovered, twice_settled
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import Place
from harness_stream.core.state import State
from harness_stream.core.units import decode_unit, encode_unit, replay_unit
from harness_stream.runtime.audit_read import input_of, record_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness_stream.core.audit import Finding, Input, Record
    from harness_stream.core.rules.windows import Windows
    from harness_stream.ports import LogRecord, StateStore, Verifier


# What is answered without a look at facts says none, nor does the log say what a worker had counted; everything else has
# to recompute.
WITHOUT_FACTS = ("denied as quarantined", "denied as too_large", "denied as rate", "denied as overload", "rejected as")
ONLY_THE_PDP_KNOWS = "skipped, and only the PDP's key tells"


@dataclass
class Report:
    """One partition's fold from genesis, and what the auditor found and counted.

    Attributes:
        effective: bodies of the records that count, of a run of denials each verdict; `digests` of the values.
        inputs: the input log as it was audited.
        behind: behind each `resume` that goes back, as it was from there on, if that was told.
    """

    place: Place
    state: State
    windows: Windows | None
    effective: list[dict[str, Any]] = field(default_factory=list)
    digests: Sequence[str] = ()
    inputs: Sequence[Input] = ()
    behind: Sequence[Sequence[Input]] = ()
    void: int = 0
    findings: Sequence[Finding] = ()
    audit: Audit | None = None


def fold_partition(
    inputs_log: Iterable[LogRecord],
    decision_log: Iterable[LogRecord],
    partition: int,
    incarnation: str,
    bundles: dict[str, Windows],
    *,
    partitions: int = 2,
    realm: str = "sim",
    resumed: bool = False,
) -> Report:
    """Audit everything; nothing may be wrong, and every verdict whose facts are in the log recomputes (V1, V3)."""
    names: Any = {"partitions": partitions, "realm": realm, "resumed": resumed}
    report = audited(inputs_log, decision_log, partition, incarnation, bundles, **names)
    assert not report.findings, "\n".join(map(str, report.findings[:10]))
    assert report.audit is not None
    assert report.audit.answers is not None
    assert all(why.startswith(WITHOUT_FACTS) for why in report.audit.answers.unproven), report.audit.answers.unproven
    return report


def audited(
    inputs_log: Iterable[LogRecord],
    decision_log: Iterable[LogRecord],
    partition: int,
    incarnation: str,
    bundles: dict[str, Windows],
    *,
    partitions: int = 2,
    realm: str = "sim",
    resumed: bool = False,
    input_end: int | None = None,
    verifier: Verifier | None = None,
    behind: Iterable[Iterable[LogRecord]] = (),
) -> Report:
    """The same, whatever is found.

    Args:
        behind: the input log behind each `resume` that goes back, in order; default as it was before.
        input_end: where the input log ends, if not after its last record.
        verifier: of a signed realm; default unsigned.
        resumed: an operator may have resumed it.
    """
    verifier = verifier or UnsignedVerifier()
    decisions = [record_of(record, verifier) for record in decision_log]
    inputs = [input_of(record, realm, verifier) for record in inputs_log]
    others = [[input_of(record, realm, verifier) for record in log] for log in behind]
    start, found = Place.genesis(incarnation, partition), []
    effective: list[dict[str, Any]] = []
    digests: list[str] = []
    audit = Audit(start, partitions, bundles.get)

    def again(first: int, end: int) -> Iterable[Record]:
        return (r for r in decisions if first <= r.offset < end)

    logs = iter([inputs, *others])
    audit.with_inputs(lambda first: (item for item in next(logs, inputs) if item.offset >= first), 0, again)
    for record in decisions:
        before = audit.place
        found += audit.take(record)
        if audit.place is not before:
            for answer in answers_in(record.body):
                effective.append(dict(answer))
                digests.append(record.digest)
    end, last_input = (log[-1].offset + 1 if log else 0 for log in (decisions, inputs))
    found += audit.end(end, input_end or last_input)
    assert resumed or not audit.log.resumed.all, "nobody was to resume it"
    assert audit.answers is not None
    state, windows = audit.answers.state, audit.answers.windows
    return Report(audit.place, state, windows, effective, digests, inputs, others, audit.log.void.total(), found, audit)


def take_over(state: State, windows: Windows, unit: str) -> None:
    """A unit takes over what switches warmed for it, as a worker's does in time."""
    for revision in [r for r, waiting in sorted(state.warmed.items()) if unit in waiting]:
        agent = state.get(unit, AGENT_KEY)
        if agent is None or agent.windows_for < revision:
            counting.warm(state, unit, windows, revision)


def check_coverage(report: Report, end: int) -> None:
    """V5: every input offset is covered by exactly one effective record."""
    wrong = miscovered(report.effective, end)
    assert not wrong, wrong


def check_terminal(reports: list[Report], sent: set[str]) -> None:
    """V2: at most one effective terminal verdict an intent; without engine rejects, exactly one."""
    effective = [body for report in reports for body in report.effective]
    assert not twice_settled(effective)
    answered = {b["intent_id"] for b in effective if b["kind"] == "verdict"}
    rejected = {b["id"] for b in effective if b["kind"] == "reject"}
    assert sent <= answered | rejected, sent - answered - rejected


def check_store(report: Report, store: StateStore, partition: int, *, whole: bool = False) -> None:
    """Chains in the store equal the fold of the log; `whole`: nothing was lost in it, so none may lack its base."""
    assert report.windows is not None
    head = store.head(partition)
    if head is None:
        assert report.place.header.next_input == 0, "the store is empty, and the log is not"
        return
    t, live = report.place.header.t, counting.live_windows(report.state, report.windows)
    names = store.units(partition)
    folded = {name for name in report.state.units() if report.state.confirmed(name)}
    assert folded <= set(names), f"the store has no {sorted(folded - set(names))}"
    base = store.load(partition, ["p"])["p"]
    if "p" in names and (base is None or base.base is None):
        return  # without the partition's own unit nobody starts from this store
    partition_values = {} if base is None or base.base is None else decode_unit(base.base)[0]
    for name in sorted(folded - {"p"}):
        stored = store.load(partition, [name])[name]
        if stored is None or stored.base is None:
            assert not whole, f"the store has no {name}"
            continue  # the server lost it, and whoever loads it notices
        values = replay_unit(name, stored.base, stored.deltas, partition_values, report.windows)
        alone = State()
        alone.install("p", report.state.confirmed("p"))
        alone.install(name, values)
        alone.warmed = report.state.warmed
        for state in (alone, report.state):
            take_over(state, report.windows, name)
        wrong = _different(alone.confirmed(name), report.state.confirmed(name), live, t)
        assert not wrong, f"{name}: {wrong}"


def _different(stored_values: Any, folded_values: Any, live: frozenset[tuple[str, int]], t: int) -> str:
    """What is in one of them only: nothing, if both are written alike."""
    if encode_unit(stored_values, 0, t) == encode_unit(folded_values, 0, t):
        return ""
    stored, folded = (_seen(values, live, t) for values in (stored_values, folded_values))
    more, less = [each for each in stored if each not in folded], [each for each in folded if each not in stored]
    return f"the store has {more or 'nothing'} where the log says {less or 'nothing'}" if more or less else ""


def _seen(values: Any, live: frozenset[tuple[str, int]], t: int) -> list[str]:
    """Everything of a unit that a decision can see, in an order of its own."""
    unit = decode_unit(encode_unit(values, 0, t))[0]
    return sorted(repr(i) for i in unit.items() if i[0][0] not in {"window", "since", "groups"} or i[0][1:3] in live)
