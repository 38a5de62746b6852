"""Whether a run kept the protocol's promises (PROTOCOL §10: V1, V2, V3, V5, V6, V8, V9).

Rule of this file: what counts is what the auditor folds from what is left of the logs. Where an unclean election took
records away and an operator went on, the only excuses are the ones named here.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from harness_stream.core import limits
from harness_stream.core.audit import Kind
from harness_stream.core.coverage import miscovered, twice_settled
from harness_stream.core.fold import Place
from harness_stream.wire.decisions import digest_of, read_body
from tests.log_checker import ONLY_THE_PDP_KNOWS, WITHOUT_FACTS, audited, check_store
from tests.simulation.hearing import complaints
from tests.simulation.regiven import Regiven
from tests.simulation.stopped import untold
from tests.simulation.world import NEW_RULES, PARTITIONS, RULES, TOPICS, Violation, bundle, compiled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness_stream.core.rules.windows import Windows
    from harness_stream.ports import LogRecord
    from tests.log_checker import Report
    from tests.simulation.world import Member, World

# An epoch that was claimed in lost records is not claimed again; a checkpoint of before may land after the cut.
OF_A_CUT = frozenset({Kind.EPOCH, Kind.CHECKPOINT})


def require(holds: object, invariant: str, what: object, partition: int | None = None) -> None:
    if not holds:
        raise Violation(invariant, what, partition)


@functools.cache
def bundles() -> dict[str, Windows]:
    return {hashlib.sha256(data).hexdigest(): compiled(data) for data in (bundle(RULES), bundle(NEW_RULES))}


def check(world: World) -> list[Report]:
    """The reports of a run that has healed.

    Raises:
        Violation: something does not hold.
    """
    regiven = {partition: Regiven(world, partition) for partition in {cut.partition for cut in world.input_cuts}}
    reports = [_audited(world, partition, regiven.get(partition)) for partition in range(PARTITIONS)]
    passed_over = [_covered(world, partition, report, regiven.get(partition)) for partition, report in enumerate(reports)]
    effective = [body for report in reports for body in report.effective]
    require(not twice_settled(effective), "V2", twice_settled(effective))
    lost = set[bytes]().union(*(_never_approved(world, *each) for each in enumerate(reports)))
    for each in regiven.values():
        lost |= {record.value or b"" for record in each.unanswered()}
        world.happened += each.happened()
    _all_ended(world, effective, passed_over, lost)
    for body in effective:
        _fresh(body)
    require(world.cut or not world.happened["told of lost decisions"], "V5", "told of lost decisions, and none were")
    shortened = world.input_cuts or any((TOPICS.intents, p) in world.forgotten for p in range(PARTITIONS))
    require(shortened or not world.happened["told of lost inputs"], "V5", "told of lost inputs, and none were")
    for partition in range(PARTITIONS):
        _forged_skipped(world, partition)
    for partition, report in enumerate(reports):
        try:
            check_store(report, world.store, partition)
        except AssertionError as error:
            raise Violation("V3", f"partition {partition}: {error}", partition) from error
        hear(world, partition, report)
        wrong = untold(world, partition, report)
        require(not wrong, "V6", "\n".join(["notices:", *wrong[:10]]), partition)
    return reports


def _forged_skipped(world: World, partition: int) -> None:
    """V6: each forged input is skipped as not authentic where it stands, and no forged claim ever counted."""
    forged = {offset for at, offset in world.forged_at if at == partition}
    bodies = [orjson.loads(r.value or b"{}") for r in world.everything(TOPICS.verdicts, partition)] if forged else []
    skips = [body for body in bodies if body["kind"] == "skip"]
    told = {o["offset"]: o["reason"] for body in skips for o in body["offsets"]}
    passed = {at for body in bodies if body["kind"] == "resume" for at in range(body["next_input"])}
    passed.update(_said_lost(bodies))  # retention was faster than any worker
    believed = {at: told.get(at) for at in sorted(forged - passed) if told.get(at) != "not_authentic"}
    require(not believed, "V6", f"partition {partition}: forged input → why it is skipped: {believed}", partition)


def _audited(world: World, partition: int, regiven: Regiven | None = None) -> Report:
    inputs, decisions = (world.everything(topic, partition) for topic in (TOPICS.intents, TOPICS.verdicts))
    lost = _lost(world, partition, decisions)
    inputs = [record for record in inputs if record.offset not in lost]
    inputs, *behind = [inputs] if regiven is None else regiven.eras()
    resumed = partition in world.cut or regiven is not None
    input_end = world.broker.bounds(TOPICS.intents, partition)[1]
    how = {"resumed": resumed, "input_end": input_end, "verifier": world.verifier(judges=False), "behind": behind}
    report = audited(inputs, decisions, partition, "i1", bundles(), **how)
    resumes = {r.offset for r in decisions if b'"kind":"resume"' in (r.value or b"")}
    excused = OF_A_CUT if partition in world.cut else frozenset()
    findings = [
        finding
        for finding in report.findings
        if finding.kind not in excused and (finding.kind is not Kind.COVERAGE or finding.offset not in resumes)
    ]
    require(not findings, "V1", "\n".join(map(str, findings[:10])), partition)
    unproven = report.audit.answers.unproven
    excuses = (*WITHOUT_FACTS, ONLY_THE_PDP_KNOWS) if world.signed else WITHOUT_FACTS
    require(all(why.startswith(excuses) for why in unproven), "V1", unproven, partition)
    return report


def _lost(world: World, partition: int, decisions: Iterable[LogRecord]) -> set[int]:
    """Inputs that retention took, and that an effective record says were lost."""
    gone = {record.offset for record in world.forgotten.get((TOPICS.intents, partition), ())}
    place, lost = Place.genesis("i1", partition), set[int]()
    for record in filter(world.verifier(judges=False).decision_authentic, decisions if gone else ()):
        body, digest = read_body(record.value)
        after = place.after(record.offset, body, digest)
        if after is not None:
            place = after
            lost |= set(_said_lost([body]))
    return lost & gone


def _said_lost(effective: Iterable[Mapping[str, Any]]) -> Iterator[int]:
    for body in effective:
        if body["kind"] == "skip" and body["reason"] == "input_lost":
            yield from range(body["covers"][0], body["covers"][1] + 1)


def _never_approved(world: World, partition: int, report: Report) -> set[bytes]:
    """What was lost is denied by silence (V2); which inputs that were."""
    lost, inputs = set(_said_lost(report.effective)), world.everything(TOPICS.intents, partition)
    values = {record.value or b"" for record in inputs if record.offset in lost}
    cut_off = [record for cut in world.input_cuts for record in cut.lost]
    only = values - {r.value for r in (*inputs, *cut_off) if r in cut_off or r.offset not in lost}  # else sent again
    digests = {digest_of(value) for value in only}  # not its id: other bytes may have come under that one
    approved = [b for b in report.effective if b["kind"] == "verdict" and b["decision"] == "approve"]
    wrong = {body["intent_id"] for body in approved if body["intent_digest"] in digests}
    require(not wrong, "V2", f"lost, and approved: {wrong}")
    world.happened["inputs lost"] += len(lost)
    return values


def hear(world: World, partition: int, report: Report) -> None:
    """V1 and V3, as a scan of the whole history has it.

    Raises:
        Violation: the oracle says something else.
    """
    found, asked = complaints(world, partition, report)
    world.happened["asked of the oracle"] += asked
    require(not found, "V3", "\n".join(["the oracle:", *found[:10]]), partition)


def _covered(world: World, partition: int, report: Report, regiven: Regiven | None = None) -> set[int]:
    """V5; which inputs an operator passed over."""
    next_input, passed_over = 0, set[int]()
    for body in report.effective:
        if body["kind"] == "resume":
            passed_over |= set(range(next_input, body["next_input"]))
            next_input = body["next_input"]
        elif "covers" in body:
            next_input = body["covers"][1] + 1
    if regiven is not None:
        wrong_ones = regiven.wrong(passed_over)
        require(not wrong_ones, "V5", f"partition {partition}: {wrong_ones}", partition)
        require(next_input >= world.inputs_end(partition), "V5", f"partition {partition}: nobody answers {next_input}")
        return passed_over
    wrong = miscovered(report.effective, world.inputs_end(partition))
    left = {offset: times for offset, times in wrong.items() if offset not in passed_over or times}
    require(not left, "V5", f"partition {partition}: offset → how often it is covered: {left}")
    return passed_over


def _all_ended(
    world: World, effective: list[dict[str, Any]], passed_over: list[set[int]], lost: set[bytes]
) -> None:
    """V9: what was lost, or the operator passed over, ends by its deadline, everything else by an answer."""
    ended = {intent_id for intent_id, value in world.sent.items() if value in lost}
    ended |= {b["intent_id"] for b in effective if b["kind"] == "verdict"}
    ended |= {b["id"] for b in effective if b["kind"] == "reject"}
    for partition, offsets in enumerate(passed_over):
        records = world.everything(TOPICS.intents, partition) if offsets else []
        values = [record.value for record in records if record.offset in offsets]
        ended |= {intent_id for intent_id, value in world.sent.items() if value in values}
    if world.signed:
        ended |= _of_nobody(world)
    require(ended >= world.sent.keys(), "V9", f"never answered: {world.sent.keys() - ended}")


def _of_nobody(world: World) -> set[str]:
    """Intents of agents whose row was away or unreadable at some time: without keys their word is garbage."""
    return {intent_id for intent_id, value in world.sent.items() if orjson.loads(value)["by"] in world.lost_rows}


def tables_of(windows: Windows) -> frozenset[str]:
    """The tables that a decision by these rules reads."""
    return frozenset({"identity"}).union(*windows.program.tables_read)


def _fresh(body: dict[str, Any]) -> None:
    """V8, as the record says it."""
    if body["kind"] != "verdict" or body["decision"] == "deny":
        return
    inputs = body["inputs"]
    for name in tables_of(bundles()[body["rules"]["digest"]]):
        age_ms = inputs["decided_at"] - inputs["tables"][name][1]
        require(
            age_ms <= limits.FRESH_MS_MAX, "V8", f"{body['decision']} of {body['intent_id']}: {name} is {age_ms} ms old"
        )


def watched(world: World, member: Member, record: LogRecord) -> None:
    """V8, as it really is: whoever is given no more of a table for a second approves nothing that reads it.

    Raises:
        Violation: it did.
    """
    if not member.stalled_ms or record.topic != TOPICS.verdicts:
        return
    body = orjson.loads(record.value or b"{}")
    if body["kind"] != "verdict" or body["decision"] == "deny":
        return
    for name in tables_of(bundles()[body["rules"]["digest"]]) & member.stalled_ms.keys():
        since_ms = _not_known_since(world, member, name)
        age_ms = 0 if since_ms is None else world.clock.elapsed_ms() - since_ms
        told = f"{member.name} says {body['decision']}, and its {name} is {age_ms} ms old"
        require(age_ms <= limits.FRESH_MS_MAX, "V8", told)


def _not_known_since(world: World, member: Member, name: str) -> int | None:
    """When the member last knew all of the table, None: it does now."""
    topic = TOPICS.table(name)
    if not member.reader.stalled[topic]:
        return member.stalled_ms[name]
    position = member.reader.position(topic, 0) or 0
    return next((at_ms for offset, at_ms in world.changed_ms[name] if offset >= position), None)
