"""What must hold of the logs afterwards, whatever happened: V1, V2, V3, V5 (PROTOCOL §10), by one fold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness_stream.core import apply as effects
from harness_stream.core import counting
from harness_stream.core.chain import AGENT_KEY
from harness_stream.core.coverage import miscovered, twice_settled
from harness_stream.core.decide import Arrival, decide
from harness_stream.core.fold import Place
from harness_stream.core.intake import inputs_of
from harness_stream.core.model import Intent
from harness_stream.core.state import State, agent_unit
from harness_stream.core.units import decode_unit, encode_unit, replay_unit
from harness_stream.core.warming import Warmup
from harness_stream.wire.codec import decode_input
from harness_stream.wire.decisions import digest_of, read_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness_stream.core.rules.windows import Windows
    from harness_stream.ports import LogRecord, StateStore


@dataclass
class Report:
    """One partition's fold from genesis."""

    place: Place
    state: State
    windows: Windows | None
    effective: list[dict[str, Any]] = field(default_factory=list)
    void: int = 0


def fold_partition(
    inputs_log: Iterable[LogRecord],
    decision_log: Iterable[LogRecord],
    partition: int,
    incarnation: str,
    bundles: dict[str, Windows],
) -> Report:
    """Fold everything, and hold every verdict to what `decide` says on the folded history before it (V1, V3)."""
    report = Report(Place.genesis(incarnation, partition), State(), None)
    inputs = {r.offset: r for r in inputs_log}
    decision_log = list(decision_log)
    for record in decision_log:
        body, digest = read_body(record.value)
        place = report.place.after(record.offset, body, digest)
        if place is None:
            report.void += body["kind"] != "checkpoint"
            continue
        if body["kind"] == "verdict":
            check = check_verdict if body["approval"] is None else check_answered
            check(body, inputs[body["covers"][1]], report)
        if body["kind"] == "switch":
            old, report.windows = report.windows, bundles[body["rules"]["digest"]]
            revision = body["rules"]["revision"]
            warmup = warmed(body, report.state, old, report.windows, decision_log, record.offset)
            counting.switched(report.state, old, report.windows, place.header.t, revision, warmup)
        elif (change := effects.change_of(body, digest)) is not None:
            assert report.windows is not None
            effects.apply(report.state, change, report.windows)
        report.place = place
        report.effective.append(dict(body))
    return report


def warmed(body: Any, state: State, old: Windows | None, new: Windows, log: list[LogRecord], end: int) -> Warmup | None:
    """What a warmed switch's new windows have counted: everything that was effective from the place it names to it."""
    if body["warmed"] is None:
        return None
    fresh = counting.fresh_windows(state, old, new, warmed=True)
    warmup = Warmup(new.narrowed(fresh), Place.from_json(body["warmed"]))
    place = warmup.place
    for record in log:
        read, digest = read_body(record.value)
        after = place.after(record.offset, read, digest) if place.offset < record.offset < end else None
        place = after or place
        if after is not None and (change := effects.change_of(read, digest)) is not None:
            warmup.take(change)
    return warmup


def take_over(state: State, windows: Windows, unit: str) -> None:
    """A unit takes over what switches warmed for it, as a worker's does in time."""
    for revision in [r for r, waiting in sorted(state.warmed.items()) if unit in waiting]:
        agent = state.get(unit, AGENT_KEY)
        if agent is None or agent.windows_for < revision:
            counting.warm(state, unit, windows, revision)


def check_verdict(body: Any, record: Any, report: Report) -> None:
    assert report.windows is not None
    intent = decode_input(record.value)
    decided_at = body["inputs"]["decided_at"]
    skewed = record.timestamp_ms - decided_at > 5_000
    t = report.place.header.t if skewed else max(report.place.header.t, record.timestamp_ms)
    assert body["t"] == t
    arrival = Arrival(digest_of(record.value), record.timestamp_ms, t)
    decided = decide(intent, arrival, inputs_of(body), report.state, report.windows)
    if body["reasons"][0]["code"] not in {"quarantined", "too_large"}:
        assert decided.decision == body["decision"], body["intent_id"]
        assert decided.event == body["event"]


def check_answered(body: Any, record: Any, report: Report) -> None:
    """A verdict after a person's answer recomputes from the hold in the folded history."""
    assert report.windows is not None
    hold = report.state.get(agent_unit(body["agent_id"]), ("hold", body["intent_id"]))
    assert decode_input(record.value).hold_digest == hold["verdict"]
    if body["approval"]["decision"] == "deny":
        assert body["decision"] == "deny"
        return
    intent, arrival = Intent.model_validate(hold["intent"]), Arrival(hold["intent_digest"], 0, body["t"])
    satisfied, settles = frozenset(hold["rules"]), hold["event"]
    inputs = inputs_of(body)
    decided = decide(intent, arrival, inputs, report.state, report.windows, satisfied=satisfied, settles=settles)
    assert decided.decision == body["decision"], body["intent_id"]
    assert decided.event in (None, body["event"])


def check_coverage(report: Report, end: int) -> None:
    """V5: every input offset is covered by exactly one effective record."""
    assert not miscovered(report.effective, end)


def check_terminal(reports: list[Report], sent: set[str]) -> None:
    """V2: at most one effective terminal verdict an intent; without engine rejects, exactly one."""
    effective = [body for report in reports for body in report.effective]
    assert not twice_settled(effective)
    answered = {b["intent_id"] for b in effective if b["kind"] == "verdict"}
    rejected = {b["id"] for b in effective if b["kind"] == "reject"}
    assert sent <= answered | rejected, sent - answered - rejected


def check_store(report: Report, store: StateStore, partition: int) -> None:
    """Chains in the store equal the fold of the log."""
    assert report.windows is not None
    head = store.head(partition)
    if head is None:
        assert report.place.header.next_input == 0
        return
    t = report.place.header.t
    names = store.units(partition)
    folded = {name for name in report.state.units() if report.state.confirmed(name)}
    assert folded <= set(names)
    base = store.load(partition, ["p"])["p"]
    partition_values = {} if base is None or base.base is None else decode_unit(base.base)[0]
    for name in sorted(folded - {"p"}):
        stored = store.load(partition, [name])[name]
        if stored is None or stored.base is None:
            continue  # the server lost it, and whoever loads it notices
        values = replay_unit(name, stored.base, stored.deltas, partition_values, report.windows)
        alone = State()
        alone.install("p", report.state.confirmed("p"))
        alone.install(name, values)
        alone.warmed = report.state.warmed
        for state in (alone, report.state):
            take_over(state, report.windows, name)
        assert _seen(alone.confirmed(name), report, t) == _seen(report.state.confirmed(name), report, t), name


def _seen(values: Any, report: Report, t: int) -> list[str]:
    """Everything of a unit that a decision can see, in an order of its own."""
    assert report.windows is not None
    live = counting.live_windows(report.state, report.windows)
    unit = decode_unit(encode_unit(values, 0, t))[0]
    return sorted(repr(i) for i in unit.items() if i[0][0] not in {"window", "since", "groups"} or i[0][1:3] in live)
