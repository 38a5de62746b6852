"""What three times the capacity does to a worker and to honest clients, and how soon all is well after it.

    python benchmarks/overload.py      as a part of it

Rule of this file: load is open loop and comes from processes of its own; an honest request counts from its scheduled
time, in the phase it was scheduled in. The log, read afterwards, says the same of every intent of the flood.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from figures import percentile
from latency import DEADLINE_MS, ask, enforcer, open_loop
from realm import PARTITIONS, UNBOUNDED, cpu_s, peak_mib, realm
from throughput import said_by, verdicts
from workload import ACTIONS, TENANTS, Intents, lane_of

from harness_stream.core.lanes import partition_of
from harness_stream.core.rate import Rate
from harness_stream.core.reasons import Deny
from harness_stream.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from realm import BenchRealm, Servers

OVERLOAD: Final = 3.0  # times the capacity
CALM: Final = 0.5
HONEST_RATE: Final = 20.0  # requests a second of each honest lane
LEAD_S: Final = 4.0  # the floods' processes start meanwhile
WARM_S: Final = 3.0  # of calm load, not looked at: first intents of agents, first uses of rules
BEFORE_S: Final = 10.0
RECOVERED_S_MAX: Final = DEADLINE_MS / 1000 + 5.0  # the goal
AFTER_S: Final = RECOVERED_S_MAX + 5.0  # so that a recovery that takes too long is seen as one
STOP_S_MAX: Final = 60.0
# A load that grows from a tenth of the most that could be carried: so fast that what waits is soon seen, so slowly that
# a pause of the machine is not taken for it.
RAMP_S: Final = 40.0
RAMP_FROM: Final = 0.1
RAMP_STEP_S: Final = 0.5
WAITING_MS: Final = 500.0  # a verdict so late has waited behind others
PAUSE_STEPS: Final = 4  # two seconds
SATURATED_S: Final = 4.0  # below the deadline: nothing is late yet, so all were judged
PHASES: Final = ("before", "overload", "after")
RUNAWAY: Final = "tenant-0"
ALL_LANES: Final = tuple(f"tenant-{number}" for number in range(TENANTS))


class Variant(NamedTuple):
    """Who overloads.

    Attributes:
        name: for people.
        lanes: of the overload; the calm load is always in all lanes.
        rate_share: what one lane may ask, as a share of the capacity.
        refused: reason codes of the denials that it is there for.
    """

    name: str
    lanes: tuple[str, ...]
    rate_share: float
    refused: tuple[str, ...]


VARIANTS: Final = (
    # A lane's bound twenty times the calm load of one lane, and far below what would fill the worker.
    Variant("one runaway lane", (RUNAWAY,), 0.1, (Deny.RATE,)),
    Variant("all lanes, none beyond its bound", ALL_LANES, 1.0, (Deny.OVERLOAD, Deny.LATE)),
)


@dataclass(frozen=True, slots=True)
class Timeline:
    """When the phases begin, epoch seconds."""

    start: float
    before: float
    overload: float
    after: float
    end: float

    def phase(self, at_s: float) -> str | None:
        """The phase of a moment; None outside of all."""
        if not self.before <= at_s < self.end:
            return None
        return PHASES[(at_s >= self.overload) + (at_s >= self.after)]


@dataclass(slots=True)
class Heard:
    """What became of one phase's requests.

    Attributes:
        latencies_ms: of those that got a verdict, whichever.
        said: how many got which answer, or none.
    """

    latencies_ms: list[float] = field(default_factory=list)
    said: Counter[str] = field(default_factory=Counter)

    def row(self) -> dict[str, Any]:
        """As it is printed."""
        shares = {"p50": 0.5, "p99": 0.99}
        named = {name: percentile(self.latencies_ms, share) for name, share in shares.items()}
        return {**named, "said": dict(self.said.most_common())}


class Honest:
    """Asks as an everyday client does, in one lane that shares the runaway's partition and in one that does not.

    Args:
        realm: with a worker that is ready.
        agents: of the workload.
        timeline: of the run.
    """

    def __init__(self, realm: BenchRealm, agents: int, timeline: Timeline) -> None:
        self._lanes = honest_lanes()
        self._enforcer = enforcer(realm, list(self._lanes.values()))
        self._timeline, self._epoch_s = timeline, time.time() - time.perf_counter()
        self.heard = {(place, phase): Heard() for place in self._lanes for phase in PHASES}
        self.bad_until_s = 0.0  # when the newest request was due that was not approved in time
        self._futures: list[Future[Any]] = []
        intents = Intents(realm.settings.realm, agents, DEADLINE_MS, self._enforcer.nonce)
        numbers = range(agents * len(ACTIONS))
        own = {place: [n for n in numbers if lane_of(n, agents) == lane] for place, lane in self._lanes.items()}
        self._make = {p: (lambda n, of=of: intents.make(of[n % len(of)])) for p, of in own.items()}

    def run(self, seconds: float) -> None:
        """Ask for so long, then wait for the last answers."""
        open_loop(HONEST_RATE * len(self._lanes), seconds, self._send)
        wait(self._futures, 2 * DEADLINE_MS / 1000)

    def close(self) -> None:
        """Free everything."""
        self._enforcer.close()

    def _send(self, number: int, due: float) -> None:
        place = list(self._lanes)[number % len(self._lanes)]
        future = ask(self._enforcer, *self._make[place](number // len(self._lanes)))
        self._futures.append(future)
        future.add_done_callback(lambda answered: self._note(place, due, answered))

    def _note(self, place: str, due: float, answered: Future[Any]) -> None:
        took_ms, error = (time.perf_counter() - due) * 1000, answered.exception()
        if error is not None or took_ms > DEADLINE_MS:
            self.bad_until_s = max(self.bad_until_s, due + self._epoch_s)
        phase = self._timeline.phase(due + self._epoch_s)
        if phase is None:
            return
        heard = self.heard[place, phase]
        heard.said[_said(error)] += 1
        if error is None or (isinstance(error, HarnessError) and getattr(error, "verdict", None) is not None):
            heard.latencies_ms.append(took_ms)


def honest_lanes() -> dict[str, str]:
    """A lane in the runaway's partition, and one in another."""
    home = partition_of(RUNAWAY, PARTITIONS)
    others = [lane for lane in ALL_LANES if lane != RUNAWAY]
    same = next(lane for lane in others if partition_of(lane, PARTITIONS) == home)
    return {"other partition": next(n for n in others if partition_of(n, PARTITIONS) != home), "same partition": same}


def carried(where: Servers, agents: int, most: float) -> float:
    """Verdicts a second that one worker gives in time.

    A load of all lanes grows up to `most` a second while honest clients ask; told is how many verdicts a second came
    once they had begun to wait, or `most` if they never did.
    """
    with realm(where, agents, UNBOUNDED) as made, made.worker():
        start = time.time() + LEAD_S
        timeline = Timeline(start, start, start + RAMP_S, start + RAMP_S, start + RAMP_S)
        with _flood(made, agents, ALL_LANES, (RAMP_FROM * most, most), start, timeline.end):
            honest = Honest(made, agents, timeline)
            time.sleep(max(0.0, start - time.time()))
            honest.run(RAMP_S)
            honest.close()
        ages = [(body["t"] / 1000 - start, appended_ms - body["t"]) for appended_ms, body, _ in verdicts(made)]
    until_s = kept_up_until(ages)
    return most if until_s >= RAMP_S - SATURATED_S else given_from(ages, until_s)


def given_from(ages: Iterable[tuple[float, float]], since_s: float) -> float:
    """Verdicts a second that came in the SATURATED_S from then on; arguments as `kept_up_until`."""
    came = (asked_s + age_ms / 1000 for asked_s, age_ms in ages)
    return sum(since_s <= at_s < since_s + SATURATED_S for at_s in came) / SATURATED_S


def kept_up_until(ages: Iterable[tuple[float, float]]) -> float:
    """When verdicts began to wait for so long that it was no pause of the machine, seconds since the start.

    Args:
        ages: (when it was asked, s since the start; ms until its verdict) of each intent.
    """
    steps: dict[int, list[float]] = {}
    for asked_s, age_ms in ages:
        steps.setdefault(int(asked_s // RAMP_STEP_S), []).append(age_ms)
    waited = 0
    for step in range(round(RAMP_S / RAMP_STEP_S)):
        waits = statistics.median(steps.get(step, [WAITING_MS + 1])) > WAITING_MS
        waited = waited + 1 if waits else 0
        if waited == PAUSE_STEPS:
            return (step + 1 - PAUSE_STEPS) * RAMP_STEP_S
    return RAMP_S


def collapse(where: Servers, agents: int, variant: Variant, capacity: float, seconds: float) -> dict[str, Any]:
    """Calm, overload for `seconds`, calm again; what honest clients heard and what the log says."""
    rate = max(1, int(capacity * variant.rate_share))
    with realm(where, agents, Rate(rate, 2 * rate)) as made, made.worker() as pid:
        start = time.time() + LEAD_S
        before, overload = start + WARM_S, start + WARM_S + min(BEFORE_S, seconds)
        timeline = Timeline(start, before, overload, overload + seconds, overload + seconds + AFTER_S)
        calm = (ALL_LANES, (CALM * capacity,) * 2, timeline.start, timeline.end)
        extra = (variant.lanes, ((OVERLOAD - CALM) * capacity,) * 2, timeline.overload, timeline.after)
        with _flood(made, agents, *calm) as one, _flood(made, agents, *extra) as two:
            honest = Honest(made, agents, timeline)
            time.sleep(max(0.0, start - time.time()))
            used_s, peak = cpu_s(pid), peak_mib(pid)
            honest.run(timeline.end - start)
            used_s, wall_s = cpu_s(pid) - used_s, time.time() - start
            sent = [json.loads(flood.communicate(timeout=STOP_S_MAX)[0]) for flood in (one, two)]
            honest.close()
        found = {"variant": variant.name, "lane_rate": rate, "capacity": capacity, "sent": sent}
        found["refused_as"] = list(variant.refused)
        found |= {"worker": {"cores": used_s / wall_s, "peak_mib": [peak, peak_mib(pid)]}}
        return found | _seen_by(honest, timeline) | _in_log(made, timeline)


def _seen_by(honest: Honest, timeline: Timeline) -> dict[str, Any]:
    rows = [{"lane": place, "phase": phase, **heard.row()} for (place, phase), heard in honest.heard.items()]
    return {"honest": rows, "recovered_s": max(0.0, honest.bad_until_s - timeline.after)}


def _in_log(made: BenchRealm, timeline: Timeline) -> dict[str, Any]:
    """Each phase's verdicts, by when their intents were appended; how old an intent was when its verdict was."""
    seen, bad_until_s = {phase: Heard() for phase in PHASES}, 0.0
    for appended_ms, body, _ in verdicts(made):
        asked_s, age_ms = body["t"] / 1000, appended_ms - body["t"]
        phase = timeline.phase(asked_s)
        in_time = age_ms <= DEADLINE_MS
        said = said_by(body)
        if not in_time or said.endswith(" late"):
            bad_until_s = max(bad_until_s, asked_s)
        if phase is not None:
            seen[phase].latencies_ms.append(age_ms)
            seen[phase].said[said if in_time or said != "approve" else "approve, too late"] += 1
    lasted = {"before": timeline.overload - timeline.before, "overload": timeline.after - timeline.overload}
    lasted["after"] = timeline.end - timeline.after
    rows = [{"phase": phase, "seconds": lasted[phase], **heard.row()} for phase, heard in seen.items()]
    return {"log": rows, "recovered_in_log_s": max(0.0, bad_until_s - timeline.after)}


def _said(error: BaseException | None) -> str:
    if error is None:
        return "approve"
    reasons = getattr(error, "reasons", ())
    return f"{type(error).__name__}: {', '.join(reason.code for reason in reasons[:1])}"


@contextmanager
def _flood(
    made: BenchRealm, agents: int, lanes: tuple[str, ...], rates: tuple[float, float], start_s: float, end_s: float
) -> Iterator[subprocess.Popen[bytes]]:
    settings = made.settings
    place = [settings.bootstrap, made.topics.intents, PARTITIONS, settings.realm, agents, DEADLINE_MS]
    words = [*map(str, (*place, *rates, start_s, end_s)), ",".join(lanes)]
    command = [sys.executable, str(Path(__file__).with_name("flood.py")), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def as_text(found: dict[str, Any]) -> list[str]:
    """The lines of one run."""
    sent = " and ".join(f"{flood['sent']:,}" for flood in found["sent"])
    lost, worker = sum(flood["lost"] for flood in found["sent"]), found["worker"]
    peaks = " → ".join(f"{peak:.0f}" for peak in worker["peak_mib"])
    offered = f"{OVERLOAD:g} x {found['capacity']:,.0f}/s, a lane's bound {found['lane_rate']}/s"
    lines = [
        f"overload: {found['variant']}; {offered}",
        f"  calm and extra intents sent {sent}, not taken by the broker {lost}",
        f"  the worker: {worker['cores']:.2f} cores, memory at most {peaks} MiB (before and after)",
        "  honest clients, ms from the scheduled time",
    ]
    lines += [f"    {row['lane']:16} {_line(row)}" for row in found["honest"]]
    lines.append("  every verdict in the log, ms from its intent's append")
    lines += [f"    {_count(row):16} {_line(row)}" for row in found["log"]]
    return [*lines, *_judged(found)]


def _judged(found: dict[str, Any]) -> list[str]:
    """Met or missed, or not judged and why."""
    both = f"{found['recovered_s']:.1f} s for honest clients, {found['recovered_in_log_s']:.1f} s in the log"
    met = max(found["recovered_s"], found["recovered_in_log_s"]) <= RECOVERED_S_MAX
    doubts = _doubts(found)
    said = "not judged" if doubts else "met" if met else "MISSED"
    return [f"  recovered after {both}; goal {RECOVERED_S_MAX:g} s: {said}", *(f"  {doubt}" for doubt in doubts)]


def _doubts(found: dict[str, Any]) -> list[str]:
    """Why this run says nothing of a recovery: an honest lane ran away, too, or nobody did."""
    doubts, wanted = [], found["refused_as"]
    if found["lane_rate"] <= HONEST_RATE:
        why = f"a lane's bound, {found['lane_rate']}/s, is not above the {HONEST_RATE:g}/s of an honest lane"
        doubts.append(f"{why}: this machine is too slow or too busy for this")
    (during,) = [row for row in found["log"] if row["phase"] == "overload"]
    refused = any(during["said"].get(f"deny: {code}") for code in wanted)
    if not refused and during["p50"] <= WAITING_MS:  # NaN of no verdict at all: all of them waited
        doubts.append(
            f"there was no overload: no denial as {' or '.join(wanted)}, and half of the verdicts came within "
            f"{WAITING_MS:g} ms: the worker can do more than it was taken for (give --capacity), or no flood came"
        )
    return doubts


def _count(row: dict[str, Any]) -> str:
    return f"{sum(row['said'].values()) / row['seconds']:,.0f}/s"


def _line(row: dict[str, Any]) -> str:
    said = ", ".join(f"{count:,} {word}" for word, count in row["said"].items())
    return f"{row['phase']:9} p50 {row['p50']:8.1f}   p99 {row['p99']:8.1f}   {said}"


if __name__ == "__main__":
    raise SystemExit(__doc__)
