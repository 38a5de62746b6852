"""How much CPU one verdict costs, draining a log that was filled before anything was decided; no client runs.

    python benchmarks --only drain      as part of the whole; signed, 100 rules of which 30 have windows

Workers that have no rules decide nothing: they are started first and share the partitions, then the log is filled, and
the rules make all of them begin at once.

Rule of this file: verdicts are counted in the log, and the time is that in which every worker decides: from the last
one's first verdict to the first one's last. CPU is sampled from outside, of the workers' processes alone, and read off
at those two moments, so that neither start nor idling counts.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from echo import SILENCE_S_MAX, Shape, consumer
from figures import Goal, Spread, ratios, spread_text, table
from realm import PARTITIONS, READY_S_MAX, cpu_s, realm
from stages import ORDER
from workload import Intents, many_rules

from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.kafka.ends import EndsQueries
from harness_stream.core import limits
from harness_stream.core.denials import answers_in
from harness_stream.core.lanes import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from confluent_kafka import Message
    from realm import BenchRealm, Servers

    from harness_stream.ports import Headers

DRAIN_S_MAX: Final = 180.0
FLUSH_S_MAX: Final = 60.0
SAMPLE_S: Final = 0.1  # two requests to the broker each: below 1 % of what is measured
QUIET_S: Final = 1.5  # no verdict for that long after enough records: it is done
NONCE: Final = "0" * 32
WORKERS: Final = (1, 2)
SHAPES_READ: Final = 500
LOOKS_FEW: Final = 2_000  # of those, a stage of 5 % has a hundred: right to a tenth


@dataclass(frozen=True, slots=True)
class Drained:
    """One drain.

    Attributes:
        records: verdicts, or echoed records.
        cpu_us: CPU microseconds of all workers' processes per record, while all of them decided.
        per_s: records a second of that time.
        decisions: how the verdicts were decided; empty for the echo.
        value_bytes: mean size of a verdict's value.
        counted: records of that time.
    """

    records: int
    cpu_us: float
    per_s: float
    decisions: dict[str, int]
    value_bytes: int
    counted: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `measure` does.

    Attributes:
        agents: that take turns, over all lanes.
        drain: intents in each filled log.
        rounds: drains of each kind, alternating.
        rules: in force.
    """

    agents: int = 1_000
    drain: int = 40_000
    rounds: int = 5
    rules: int = 100


class Filler:
    """Appends many records at once, and knows at the end that all of them are there.

    Unlike a worker's or a client's its records may wait: what those give up after three seconds, this one appends.

    Args:
        realm: whose broker.
    """

    def __init__(self, realm: BenchRealm) -> None:
        patient = {"delivery.timeout.ms": round(FLUSH_S_MAX * 1000)}
        self._producer = Producer(client_settings.producer(realm.settings.kafka) | patient)
        self._failed: list[str] = []

    def append(self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers = ()) -> None:
        """Append one record, once the local queue has room."""
        while True:
            try:
                self._producer.produce(
                    topic, value, key=key, partition=partition, headers=list(headers), on_delivery=self._told
                )
            except BufferError:
                self._producer.poll(0.01)
            else:
                return

    def close(self) -> None:
        """Wait until everything is in the log (SystemExit if it is not)."""
        left = self._producer.flush(FLUSH_S_MAX)
        if left or self._failed:
            raise SystemExit(f"the broker did not take {left + len(self._failed)} records: {self._failed[:1]}")

    def _told(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._failed.append(error.str())


def fill(realm: BenchRealm, agents: int, count: int, deadline_ms: int = limits.DEADLINE_MS_MAX) -> None:
    """Append `count` intents by distinct agents, over all lanes."""
    filler, intents = Filler(realm), Intents("default", agents, deadline_ms, NONCE, realm.mix)
    signer, topic = realm.input_signer(), realm.topics.intents
    for number in range(count):
        _, agent, lane, value = intents.make(number)
        headers = signer.seal_input(topic, lane, value, "intent", agent)
        filler.append(topic, partition_of(lane, PARTITIONS), lane.encode(), value, headers)
    filler.close()


@dataclass(frozen=True, slots=True)
class Log:
    """A log to be filled.

    Attributes:
        agents: that take turns.
        count: intents.
        deadline_ms: of each.
    """

    agents: int
    count: int
    deadline_ms: int = limits.DEADLINE_MS_MAX


def drain_by_workers(realm: BenchRealm, log: Log, workers: int = 1, stages: Path | None = None) -> Drained:
    """Start workers, fill the log, let them judge everything, stop them.

    Args:
        realm: without rules yet.
        log: what they find.
        workers: how many.
        stages: where a worker notes at its end where its CPU time went.
    """
    with ExitStack() as running:
        pids = [running.enter_context(realm.draining_worker(stages)) for _ in range(workers)]
        _wait_until_shared(realm, workers)
        fill(realm, log.agents, log.count, log.deadline_ms)
        realm.push_rules()
        samples = _watch(realm, pids, log.count)
    return _drained(list(verdicts(realm)), samples, workers)


def _drained(found: list[tuple[int, dict[str, Any], int]], samples: list[tuple[float, float]], workers: int) -> Drained:
    times: dict[str, list[int]] = {}
    decisions = Counter(said_by(body) for _, body, _ in found)
    for at, body, _ in found:
        times.setdefault(body["writer"], []).append(at)
    if len(times) < workers:
        raise SystemExit(f"{workers} workers ran, and {len(times)} decided")
    first, last = max(map(min, times.values())), min(map(max, times.values()))
    counted = sum(first <= at <= last for at, _, _ in found)
    if last <= first or not counted:
        raise SystemExit("the log was too short: there was no moment at which all workers decided")
    cpu, size = _cpu_at(samples, last / 1000) - _cpu_at(samples, first / 1000), sum(size for _, _, size in found)
    per_s = counted / (last - first) * 1000
    return Drained(len(found), cpu / counted * 1e6, per_s, dict(decisions), size // len(found), counted)


def _wait_until_shared(realm: BenchRealm, workers: int) -> None:
    """Until each of them has partitions, and all have one (SystemExit if that does not come)."""
    admin, end = AdminClient(client_settings.admin(realm.settings.kafka)), time.monotonic() + READY_S_MAX
    while time.monotonic() < end:
        answer = admin.describe_consumer_groups([realm.settings.group])[realm.settings.group]
        with suppress(KafkaException):  # a busy broker may lose its group for a moment
            members = answer.result(SILENCE_S_MAX).members
            shares = [len(member.assignment.topic_partitions) for member in members]
            if len(shares) == workers and all(shares) and sum(shares) == PARTITIONS:
                return
        time.sleep(SAMPLE_S)
    raise SystemExit(f"{workers} workers have not shared the partitions within {READY_S_MAX:g} s")


def drain_by_echo(realm: BenchRealm, count: int) -> Drained:
    """The bare consume-produce loop over the same records, into such as the verdicts of a drain before."""
    shape = shape_of(realm, realm.topics.verdicts)
    words = [
        "drain",
        realm.settings.bootstrap,
        realm.topics.intents,
        realm.echo_out,
        str(PARTITIONS),
        shape.word,
        str(count),
    ]
    command = [sys.executable, str(Path(__file__).with_name("echo.py")), *words]
    done = subprocess.run(command, capture_output=True, check=True, timeout=DRAIN_S_MAX)
    found = json.loads(done.stdout)
    number = max(found["records"], 1)
    return Drained(found["records"], found["cpu_s"] / number * 1e6, number / found["wall_s"], {}, shape.value, number)


def said_by(body: dict[str, Any]) -> str:
    """The decision, and of a refusal its first reason."""
    if body["decision"] == "approve":
        return "approve"
    first = body["reasons"][0]
    return f"{body['decision']}: {' '.join(filter(None, (first.get('rule'), first['code'])))}"


def _watch(realm: BenchRealm, pids: Sequence[int], count: int) -> list[tuple[float, float]]:
    """(wall time, CPU seconds) of the workers until the decision log has stopped growing."""
    samples, places = list[tuple[float, float]](), [(realm.topics.verdicts, p) for p in range(PARTITIONS)]
    end, grown, quiet_since = time.monotonic() + DRAIN_S_MAX, 0, time.monotonic()
    ends = dict.fromkeys(places, 0)
    with closing(EndsQueries(realm.settings.kafka)) as queries:
        while time.monotonic() < end:
            samples.append((time.time(), sum(map(cpu_s, pids))))
            queries.ask(places, round(time.monotonic() * 1000))
            time.sleep(SAMPLE_S)
            ends |= {(found.topic, found.partition): found.end for found in queries.collect()}
            # Checkpoints go on while idle; anything more is verdicts.
            if sum(ends.values()) > grown + 2 * PARTITIONS:
                grown, quiet_since = sum(ends.values()), time.monotonic()
            if time.monotonic() - quiet_since > QUIET_S:
                if _answered(realm) >= count:
                    return samples
                quiet_since = time.monotonic()
    raise SystemExit(f"{len(pids)} workers have not drained {count} intents within {DRAIN_S_MAX:g} s")


def _answered(realm: BenchRealm) -> int:
    """Inputs that the newest checkpoints say are answered."""
    stated = (orjson.loads(record.value() or b"{}") for record in records(realm, realm.topics.heads))
    return sum({body["partition"]: body["next_input"] for body in stated}.values())


def _cpu_at(samples: list[tuple[float, float]], at_s: float) -> float:
    """CPU seconds used by then, between two samples by their straight line."""
    before = max((s for s in samples if s[0] <= at_s), default=samples[0])
    after = min((s for s in samples if s[0] > at_s), default=samples[-1])
    span = after[0] - before[0]
    return before[1] + (after[1] - before[1]) * ((at_s - before[0]) / span if span > 0 else 0)


def verdicts(realm: BenchRealm) -> Iterator[tuple[int, dict[str, Any], int]]:
    """(append time in ms, body, bytes) of every verdict that is in the log now."""
    for record in records(realm, realm.topics.verdicts):
        value = record.value() or b"{}"
        said = [body for body in answers_in(orjson.loads(value)) if body.get("kind") == "verdict"]
        for body in said:
            yield record.timestamp()[1], body, len(value) // len(said)


def records(realm: BenchRealm, topic: str) -> Iterator[Message]:
    """All that a log holds now."""
    with closing(consumer(realm.settings.kafka)) as reader:
        ends = {p: reader.get_watermark_offsets(TopicPartition(topic, p))[1] for p in range(PARTITIONS)}
        reader.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        left, heard = sum(ends.values()), time.monotonic()
        while left > 0 and time.monotonic() - heard < SILENCE_S_MAX:
            for record in reader.consume(500, 0.1):
                left, heard = left - 1, time.monotonic()
                yield record


def shape_of(realm: BenchRealm, topic: str) -> Shape:
    """Of the intent, or the verdict, whose value is of middle size among the first that the log holds."""
    found = sorted(islice(_wanted(realm, topic), SHAPES_READ), key=lambda shape: shape.value)
    if not found:
        raise SystemExit(f"`{topic}` holds nothing to be measured by")
    return found[len(found) // 2]


def _wanted(realm: BenchRealm, topic: str) -> Iterator[Shape]:
    for record in records(realm, topic):
        body = orjson.loads(record.value() or b"{}")
        if body.get("kind") == "verdict" or body.get("type") == "intent":
            yield Shape.of(record)


# --- as a part of the whole ---


def measure(where: Servers, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """Alternating drains by one worker, two workers and the echo; then one more by a worker that is looked into."""
    found: dict[str, list[Any]] = {"echo": [], **{f"workers {n}": [] for n in WORKERS}}
    log = Log(sizes.agents, sizes.drain)
    for number in range(sizes.rounds):
        for workers in WORKERS:
            say(f"round {number + 1} of {sizes.rounds}: {sizes.drain:,} intents, {workers} worker(s)")
            with signed_realm(where, sizes) as made:
                drained = drain_by_workers(made, log, workers)
                found[f"workers {workers}"].append(asdict(drained))
                if workers == 1:
                    found["echo"].append(asdict(drain_by_echo(made, sizes.drain)))
    say("one more drain, to see where the time goes")
    return {"sizes": asdict(sizes), "rounds": found, "stages": _stages(where, sizes, log)}


def signed_realm(where: Servers, sizes: Sizes) -> AbstractContextManager[BenchRealm]:
    """One whose rules are not there yet."""
    return realm(where, sizes.agents, mix=many_rules(sizes.rules), signed=True, pushed=False)


def _stages(where: Servers, sizes: Sizes, log: Log) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        told = Path(folder) / "stages.json"
        with signed_realm(where, sizes) as made:
            drained = drain_by_workers(made, log, stages=told)
        found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    return {**found, "cpu_us": drained.cpu_us}


def saturation(found: dict[str, Any]) -> float:
    """Verdicts a second of one worker that drains: the median of the rounds."""
    return statistics.median(column(found, "workers 1", "per_s"))


def column(found: dict[str, Any], kind: str, name: str) -> list[float]:
    """One figure of each round of a kind."""
    return [one[name] for one in found["rounds"][kind]]


def text(found: dict[str, Any]) -> list[str]:
    """The table of CPU per verdict, and that of stages."""
    sizes = found["sizes"]
    title = f"a filled log of {sizes['drain']:,} intents drained, signed, {sizes['rules']} rules, no client running"
    lines = [f"{title}: median of {sizes['rounds']} rounds (least to most)"]
    floor = column(found, "echo", "cpu_us")
    rows = [
        [
            kind,
            spread_text(Spread.of(column(found, kind, "cpu_us")), 1),
            spread_text(Spread.of(ratios(column(found, kind, "cpu_us"), floor)), 1),
            spread_text(Spread.of(column(found, kind, "per_s")), 0),
        ]
        for kind in found["rounds"]
    ]
    lines += table(["", "µs of CPU each", "of the echo's", "a second"], rows)
    return lines + _not_approved(found) + _stages_text(found["stages"])


def _not_approved(found: dict[str, Any]) -> list[str]:
    """This workload should have no refusal: if there is one, say which."""
    others: dict[str, int] = {}
    for one in (one for kind in found["rounds"].values() for one in kind):
        others |= {said: others.get(said, 0) + n for said, n in one["decisions"].items() if said != "approve"}
    return [f"  not approved: {others}"] if others else []


def _stages_text(stages: dict[str, Any]) -> list[str]:
    seconds, total = stages["seconds"], sum(stages["seconds"].values()) or 1.0
    shares = {name: seconds.get(name, 0.0) / total for name in ORDER}
    rows = [[name, f"{share * stages['cpu_us']:.1f}", f"{share:.1%}"] for name, share in shares.items()]
    looks = f"{stages['looks']:,} looks from inside, which cost some"
    coarse = "; so few give a coarse picture" if stages["looks"] < LOOKS_FEW else ""
    title = f"where one worker's {stages['cpu_us']:.0f} µs go, in a drain of its own ({looks}{coarse})"
    return [title, *table(["stage", "µs", "share"], rows)]


def goals(found: dict[str, Any]) -> list[Goal]:
    """What issue 7 asks of a drain."""
    one, two = column(found, "workers 1", "cpu_us"), column(found, "workers 2", "cpu_us")
    return [
        Goal.of("CPU of the worker per verdict, signed", 50, Spread.of(one), "µs"),
        Goal.of("CPU per verdict of two workers, to that of one", 1.1, Spread.of(ratios(two, one)), "×"),
    ]


if __name__ == "__main__":
    raise SystemExit(__doc__)
