"""Each answer held against its input and against history: does it name this input, and does it recompute (V1)?

Rule of this file: history is what the log says, also of a record that was found wrong, so that one wrong record is one
finding and not a thousand. What the log cannot tell is counted as unproven, by why, and never taken for right.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import orjson

from harness_stream.core import counting, limits
from harness_stream.core.apply import apply, change_of
from harness_stream.core.audit.findings import Finding, Kind, Record, about
from harness_stream.core.audit.inputs import answered_by, misnamed, names_another, uncovered, wrongly_skipped
from harness_stream.core.audit.recorded import recorded_intake
from harness_stream.core.chain import AGENT_KEY, Agent
from harness_stream.core.decide import Arrival
from harness_stream.core.denials import answers_in
from harness_stream.core.engine import ENGINE
from harness_stream.core.fold import Place
from harness_stream.core.ids import UNIT_PREFIX
from harness_stream.core.intake import not_admitted_by
from harness_stream.core.model import Intent, Outcome
from harness_stream.core.reasons import Deny, Reject
from harness_stream.core.state import State
from harness_stream.core.units import forgotten
from harness_stream.core.warming import Warmup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness_stream.core.audit.findings import Input
    from harness_stream.core.fold import Body
    from harness_stream.core.rules.windows import Windows

    Found = tuple[Kind, str]

# What nobody can see any more is dropped every so many changes: at 300 bytes an id this keeps about 2 MB too long, and
# one pass over the units touched costs less than the changes before it.
FORGET_CHANGES: Final = 8_192
# What reading a body raises that keeps its schema, and whose free parts (event, inputs, change) are not what we write.
_UNREADABLE: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)
_DIGESTS: Final = frozenset(
    {"agent_id", "intent_id", "intent_digest", "arguments_digest", "enforcer_nonce", "digest", "id"}
)
_KINDS: Final = {"verdict": Kind.VERDICT, "ack": Kind.ACK, "reject": Kind.REJECT}
RESUMED: Final = "an operator's word stands for what was before it"
FORGOTTEN: Final = "an operator let go of the history before it"
_TABLES_SAY: Final = frozenset({Reject.WRONG_PARTITION, Reject.STATE_UNAVAILABLE})


class Answers:
    """One partition's answers, in order.

    Args:
        whole: the audit began with the log; else nothing is known of chains, and nothing recomputes.
        rules: the compiled bundle of a digest, None if there is none.
        again: the records of the decision log from one offset up to, not including, another one.

    Attributes:
        state: the history so far.
        windows: the bundle in force, None before the first.
        recomputed: records that were held against history, by kind.
        unproven: records that were not, or not wholly, by why.
    """

    def __init__(
        self,
        *,
        whole: bool,
        rules: Callable[[str], Windows | None],
        again: Callable[[int, int], Iterable[Record]],
    ) -> None:
        self.state = State()
        self.windows: Windows | None = None
        self.recomputed = Counter[str]()
        self.unproven = Counter[str]()
        self._rules, self._again = rules, again
        self._lost = "" if whole else "history before the start is not known"
        self._touched: set[str] = set()
        self._changes = 0

    def take(self, before: Place, record: Record, inputs: Sequence[Input], low: int) -> list[Finding]:
        """The next effective record that keeps its schema.

        Args:
            before: the fold before it.
            record: it.
            inputs: all input records in its `covers`.
            low: first input offset that retention has left.
        """
        found: list[Found] = []
        for answer in answers_in(record.body):
            items = inputs if answer is record.body else [item for item in inputs if _covers(answer, item.offset)]
            wrong = self._taken(before, record._replace(body=answer), items, low)
            found += ((kind, about(answer, record.body, text)) for kind, text in wrong)
            t = max(before.header.t, answer.get("t", 0))
            before = before._replace(header=before.header._replace(t=t))
        return [Finding(kind, before.header.partition, record.offset, text) for kind, text in found]

    def _taken(self, before: Place, record: Record, inputs: Sequence[Input], low: int) -> Iterator[Found]:
        """Of a run of denials each for itself, so that none hides behind the others."""
        try:
            yield from self._looked_at(before, record, inputs, low)
        except _UNREADABLE as error:
            kind = _KINDS.get(record.body["kind"], Kind.SKIP)
            yield kind, f"what it records does not fit: {_why(error)}"
        yield from self._became_history(before, record)

    def lose(self, why: str) -> None:
        """From here on history is not known."""
        self._lost = self._lost or why

    # --- the input ---

    def _looked_at(self, before: Place, record: Record, inputs: Sequence[Input], low: int) -> Iterator[Found]:
        body = record.body
        if body["kind"] in {"claim", "switch", "resume"}:
            return
        if body["covers"][0 if body["kind"] == "skip" else 1] < low:
            self.unproven["its input is no longer kept"] += 1
            return
        if body["kind"] == "skip":
            if any(item.unjudged and item.event is not None for item in inputs):
                self.unproven["skipped, and only the PDP's key tells whether its input is authentic"] += 1
            yield from wrongly_skipped(body, inputs, before.header)
            return
        passed_over, item = list(uncovered(body, inputs)), answered_by(body, inputs)
        if passed_over or item is None:
            yield from passed_over
            return
        wrong = list(misnamed(body, item))
        yield from wrong
        kinds = {kind for kind, _ in wrong}
        if item.event is not None and Kind.ANSWER not in kinds and names_another(body, item):
            self.unproven["another input stands where its own was"] += 1
        elif item.event is not None and Kind.ANSWER not in kinds:
            yield from self._timed(before, body, item)
            yield from self._recompute(before, record, item, _DIGESTS if Kind.DIGEST in kinds else frozenset())

    def _timed(self, before: Place, body: Body, item: Input) -> Iterator[Found]:
        if body["kind"] == "verdict":
            _require_inputs(body["inputs"])
        t, was = body["t"], before.header.t
        if t < was:
            return  # it steps back, which was said
        times = {max(was, item.append_ms)}
        if body["kind"] != "verdict":
            times.add(was)  # it does not say when it was decided, on which this depends
        elif item.append_ms - body["inputs"]["decided_at"] > limits.CLOCK_SKEW_MS_MAX:
            times = {was}
        if t not in times:
            yield Kind.TIME, f"chain time {t}, and append times make it {min(times)}"

    # --- recomputing ---

    def _recompute(self, before: Place, record: Record, item: Input, known: frozenset[str]) -> Iterator[Found]:
        body = record.body
        why = self._cannot(body)
        if why:
            self.unproven[why] += 1
            return
        self.recomputed[body["kind"]] += 1
        yield from self._differing(body, self._expected(before, body, item), known, before)

    def _cannot(self, body: Body) -> str:
        """Why this one cannot be recomputed, empty if it can."""
        if self._lost or self.windows is None:
            return self._lost or "no rules are in force"
        if body["kind"] == "verdict" and body["inputs"]["engine"] != ENGINE:
            return f"decided by engine {body['inputs']['engine']}"
        if body["kind"] == "reject" and body["reason"] in _TABLES_SAY:
            return f"rejected as {body['reason']}, which tables say"
        return ""

    def _expected(self, before: Place, body: Body, item: Input) -> Mapping[str, Any]:
        """The answer that history, the recorded facts and the rules in force give, as it would be parsed."""
        event, rules = item.event, before.header.rules
        if self.windows is None or rules is None or event is None:
            raise AssertionError("asked without rules or event")
        intake = recorded_intake(self.state, self.windows, rules, body)
        arrival = Arrival(item.digest, item.append_ms, body["t"])
        decided_at = body["inputs"]["decided_at"] if body["kind"] == "verdict" else body["t"]
        if isinstance(event, Intent) and (code := _unevaluated(body)) is not None:
            self.unproven[f"denied as {code}, unevaluated"] += 1
            answer = intake.quarantined(event, arrival, decided_at)
            answer = answer if answer["kind"] == "reject" else intake.minimal(event, arrival, code, decided_at)
        else:
            if not_admitted_by(body) is not None:
                self.unproven[f"denied as {body['reasons'][0]['code']}, which its worker had counted"] += 1
            answer = intake.answer(event, arrival, decided_at)
        parsed: dict[str, Any] = orjson.loads(orjson.dumps(answer))
        return _told_by_tables(parsed, body) if isinstance(event, Outcome) else parsed

    def _differing(
        self, body: Body, expected: Mapping[str, Any], known: frozenset[str], before: Place
    ) -> Iterator[Found]:
        """Each field that is not as expected, except those of which that is `known`."""
        if expected["kind"] != body["kind"]:
            yield _another_answer(body, expected)
            return
        for name in expected.keys() - known:
            if name != "t" and body.get(name) != expected[name]:
                kind = Kind.DIGEST if name in _DIGESTS else _KINDS[body["kind"]]
                yield kind, "; ".join(_differences(name, expected[name], body.get(name)))
        claims = before.header.crash_claims
        if _unevaluated(body) == Deny.QUARANTINED and claims < limits.QUARANTINE_CLAIMS:
            yield Kind.VERDICT, f"quarantined after {claims} pending crash claims, not {limits.QUARANTINE_CLAIMS}"

    # --- history ---

    def _became_history(self, before: Place, record: Record) -> Iterator[Found]:
        """Apply what counts."""
        if self._lost:
            return
        if record.body["kind"] == "switch":
            yield from self._switched(before, record)
            return
        if record.body["kind"] == "resume":
            self._resumed(before, record)
            return
        try:
            change = change_of(record.body, record.digest)
            if change is None:
                return
            if self.windows is None:
                self.lose("no rules were in force")
                return
            apply(self.state, change, self.windows)
        except _UNREADABLE as error:
            self.lose(f"the record at {record.offset} cannot be applied")
            yield Kind.SCHEMA, f"what it changes cannot be read: {type(error).__name__}: {error}"
            return
        self._forget(max(before.header.t, record.body["t"]))

    def _resumed(self, before: Place, record: Record) -> None:
        """Workers go on from what is left of the log, as this does, unless history was let go of."""
        forgets = record.body.get("forgets")
        if forgets is not False:
            self.lose(RESUMED if forgets is None else FORGOTTEN)
        elif record.body["rules"] != before.to_json()["rules"]:
            self.lose(f"the resume at {record.offset} sets other rules")

    def _forget(self, t: int) -> None:
        self._changes += 1
        self._touched |= self.state.touched()
        if self._changes >= FORGET_CHANGES:
            # Ids age out in units that nobody touches until their ring has turned.
            for unit in self._touched | {unit for unit in self.state.units() if unit.startswith(UNIT_PREFIX)}:
                self.state.forget(unit, forgotten(self.state.confirmed(unit), t))
            for revision, waiting in self.state.warmed.items():
                for unit in [unit for unit in waiting if self._has_taken_over(unit, revision)]:
                    del waiting[unit]
            self._touched.clear()
            self._changes = 0

    def _has_taken_over(self, unit: str, revision: int) -> bool:
        agent: Agent = self.state.get(unit, AGENT_KEY) or Agent()
        return agent.windows_for is not None and agent.windows_for >= revision

    def _switched(self, before: Place, record: Record) -> Iterator[Found]:
        old, new, body = self.windows, self._rules(record.body["rules"]["digest"]), record.body
        if new is None:
            self.lose(f"the bundle of the switch at {record.offset} is missing")
            return
        try:
            warmup = self._warmed(before, record, new)
        except _UNREADABLE as error:
            self.lose(f"the switch at {record.offset} was warmed from nowhere")
            yield Kind.WARMED, f"its windows cannot be counted from the place it names: {error}"
            return
        self.windows = new
        counting.switched(self.state, old, new, before.header.t, body["rules"]["revision"], warmup)

    def _warmed(self, before: Place, record: Record, new: Windows) -> Warmup | None:
        """What the new windows of a warmed switch have counted: all that counts from the place it names to it.

        Raises:
            ValueError, KeyError, TypeError: there is no such place in this log.
        """
        if record.body["warmed"] is None:
            return None
        fresh = counting.fresh_windows(self.state, self.windows, new, warmed=True)
        place = Place.from_json(record.body["warmed"])
        warmup = Warmup(new.narrowed(fresh), place)
        if place.offset < 0 and place != Place.genesis(before.header.incarnation, before.header.partition):
            raise ValueError("offset -1 is where the log begins")
        for again in self._again(max(0, place.offset), record.offset):
            if again.offset == warmup.place.offset and not _is_at(again, warmup.place):
                raise ValueError(f"the record at {again.offset} is another one, or of another chain time")
            after = place.after(*again[:3]) if again.authentic else None
            place = after or place
            change = None if after is None else change_of(again.body, again.digest)
            if change is not None:
                warmup.take(change)
        if place != before:
            raise ValueError(f"a fold from offset {warmup.place.offset} does not come to this switch")
        return warmup


def _why(error: Exception) -> str:
    """Only what we say of it is a sentence of its own."""
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"


def _covers(body: Body, offset: int) -> bool:
    first, last = body["covers"]
    return bool(first <= offset <= last)


def _require_inputs(inputs: Mapping[str, Any]) -> None:
    """Whatever the engine: when it decided, which one it was, and which tables it had.

    Raises:
        ValueError: one of these is not there.
    """
    told = type(inputs.get("decided_at")) is int and isinstance(inputs.get("engine"), str)
    if not told or not isinstance(inputs.get("tables"), dict):
        raise ValueError("`inputs` must say decided_at, engine and tables")


def _is_at(record: Record, place: Place) -> bool:
    return record.digest == place.digest and record.body.get("t", place.header.t) == place.header.t


def _unevaluated(body: Body) -> Deny | None:
    """The word of a denial that was given without a look at the intent, and records no facts."""
    if body["kind"] != "verdict" or body["inputs"].get("tables") or not body["reasons"]:
        return None
    code = body["reasons"][0].get("code")
    return Deny(code) if code in {Deny.TOO_LARGE, Deny.QUARANTINED} else None


def _told_by_tables(expected: dict[str, Any], body: Body) -> dict[str, Any]:
    """Which values an outcome returned is in its input; where they came from is what the tool's row said then."""
    change, real = expected.get("change"), body.get("change")
    if not change or not real or "values" not in change or real.get("values", {}).keys() != change["values"].keys():
        return expected
    return {**expected, "change": {**change, "values": real["values"]}}


def _another_answer(body: Body, expected: Mapping[str, Any]) -> Found:
    wanted = f"{expected['kind']}: {expected.get('decision') or expected.get('reason') or expected.get('status')}"
    if expected.get("reason") == "not_approver":
        return Kind.APPROVER, f"{body['approval'].get('by')} answered this hold, and may not"
    return Kind.ANSWER, f"a {body['kind']}, and history asks for {wanted}"


def _differences(name: str, expected: object, found: object) -> Iterator[str]:
    """Which field differs, as deep as both sides are objects."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for part in dict.fromkeys((*expected, *found)):
            if expected.get(part) != found.get(part) or (part in expected) != (part in found):
                yield from _differences(f"{name}.{part}", expected.get(part), found.get(part))
    else:
        yield f"{name} is {_short(found)}, and recomputes to {_short(expected)}"


def _short(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


_SHOWN_CHARS: Final = 300
