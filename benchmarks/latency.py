"""Latency at a given rate, open loop: each request leaves when its time has come, whatever became of those before.

    python benchmarks --only latency   as part of the whole; signed, 100 rules of which 30 have windows

Rule of this file: a latency counts from the scheduled time, not from the send, so that a stall shows in every request
that it delayed (no coordinated omission). What never came is counted, never left out in silence: a quantile that falls
among it is none. What was answered is let go, as an agent's process would: kept, a garbage collector looks at all of it
in the middle of a round. `echo` is a process that consumes and produces records of the same sizes, values and headers,
heard by a raw client; `harness` is one worker, heard by the product's own enforcer, which folds and verifies the
decision log. Both clients live in this process and take turns; which one begins, and whether rates rise or fall, is
another way in each round.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Producer, TopicPartition
from echo import Shape, consumer
from figures import QUANTILES, Goal, Spread, quantile, quantiles, ratios, spread_text, table
from realm import PARTITIONS, realm
from throughput import shape_of
from workload import TENANTS, Intents, many_rules

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.client.enforcer import Enforcer
from harness_stream.client.request import Request
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.core import limits
from harness_stream.errors import HarnessError, Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from realm import BenchRealm, Servers

DEADLINE_MS: Final = limits.DEADLINE_MS_DEFAULT
OPEN_S_MAX: Final = 15.0
STOP_S_MAX: Final = 5.0
_POLL_S: Final = 0.02
# After more was asked than a worker carries, what is left over is refused within the deadline; then the next may begin.
SETTLE_S_MAX: Final = 30.0
# All lanes at once are answered that soon by a worker that has nothing else to do, with much to spare.
SETTLED_S: Final = 0.5
_SETTLE_PAUSE_S: Final = 0.1
WARM_RATE, WARM_S = 100, 2.0
# Fewer answers than that: what is shown is no latency of that rate, which the machine does not carry.
CARRIED: Final = 0.999
P99_RATIO: Final = 1.5
SIDES: Final = ("echo", "harness")


@dataclass(slots=True)
class Round:
    """One round's result.

    Attributes:
        latencies_ms: of every request that was answered, from its scheduled time.
        offered: requests that were to be sent.
        missing: requests without an answer, or with an error.
        decisions: how the answered ones were decided; empty for the echo.
        late_ms: how late the sender itself was with each; part of the latency.
        settled: everything was answered before the next round began.
    """

    latencies_ms: list[float] = field(default_factory=list)
    offered: int = 0
    missing: int = 0
    decisions: dict[str, int] = field(default_factory=dict)
    late_ms: list[float] = field(default_factory=list)
    settled: bool = True

    def note(self, said: str) -> None:
        """Count one answer, without what differs each time."""
        said = said.partition(" (")[0]
        self.decisions[said] = self.decisions.get(said, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """Quantiles and counts."""
        return {
            **quantiles(self.latencies_ms, self.missing),
            "offered": self.offered,
            "answered": len(self.latencies_ms),
            "approved": self.decisions.get("approve", len(self.latencies_ms) if not self.decisions else 0),
            "missing": self.missing,
            "decisions": self.decisions,
            "sender_late_p99_ms": quantile(self.late_ms, 0.99),
            "settled": self.settled,
        }


def open_loop(rate: float, duration_s: float, send: Callable[[int, float], None]) -> int:
    """Call `send(number, scheduled time)` at a fixed rate; the number of calls.

    It sleeps and does not spin: that a sleep lasts some 60 µs longer counts for both sides, and who spins keeps the
    thread that hears answers from running.
    """
    count, started = int(rate * duration_s), time.perf_counter() + 0.05
    for number in range(count):
        due = started + number / rate
        early = due - time.perf_counter()
        if early > 0:
            time.sleep(early)
        send(number, due)
    return count


class EchoClient:
    """One process that sends to the bare echo and hears it.

    Args:
        realm: whose echo topics.
        shape: of a request.
    """

    def __init__(self, realm: BenchRealm, shape: Shape) -> None:
        self._realm, self._filler, self._headers = realm, bytes(shape.value - 8), shape.filling()
        self._writer = Producer(client_settings.producer(realm.settings.kafka))
        self._reader = consumer(realm.settings.kafka)
        places = [TopicPartition(realm.echo_out, p) for p in range(PARTITIONS)]
        ends = [self._reader.get_watermark_offsets(place)[1] for place in places]
        self._reader.assign([TopicPartition(p.topic, p.partition, end) for p, end in zip(places, ends, strict=True)])
        self._due: dict[int, float] = {}
        self._round, self._sent = Round(), 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def measure(self, rate: float, duration_s: float) -> Round:
        """One round."""
        self._round = Round()
        self._round.offered = open_loop(rate, duration_s, self._send)
        end = time.monotonic() + DEADLINE_MS / 1000
        while self._due and time.monotonic() < end:
            time.sleep(_POLL_S)
        self._round.missing = len(self._due)
        self._due.clear()
        return self._round

    def close(self) -> None:
        """Free everything."""
        self._stopping.set()
        self._thread.join(STOP_S_MAX)
        self._reader.close()

    def _send(self, number: int, due: float) -> None:
        self._sent += 1
        self._due[self._sent] = due
        self._round.late_ms.append((time.perf_counter() - due) * 1000)
        value = self._sent.to_bytes(8) + self._filler
        key, partition = f"tenant-{number % TENANTS}".encode(), number % PARTITIONS
        self._writer.produce(self._realm.echo_in, value, key=key, partition=partition, headers=list(self._headers))
        self._writer.poll(0)

    def _listen(self) -> None:
        while not self._stopping.is_set():
            record = self._reader.poll(_POLL_S)
            if record is None or record.error() is not None:
                continue
            due = self._due.pop(int.from_bytes((record.value() or b"")[:8]), None)
            if due is not None:
                self._round.latencies_ms.append((time.perf_counter() - due) * 1000)


def enforcer(realm: BenchRealm, lanes: list[str]) -> Enforcer:
    """The product's own, running, with these lanes open."""
    settings = realm.settings
    named = ClientRealm(settings.realm, incarnation(settings), PARTITIONS, realm.topics)
    ports = KafkaReader(settings.kafka), KafkaWriter(settings.kafka), SystemClock()
    made = Enforcer(Wiring(named, *ports, realm.input_signer(), realm.verifier()))
    made.start()
    for lane in lanes:
        made.open(lane).result(OPEN_S_MAX)
    return made


def ask(by: Enforcer, intent_id: str, agent: str, lane: str, value: bytes) -> Future[Any]:
    """Let an enforcer publish an intent of the workload."""
    return by.submit(Request("intent", intent_id, agent, lane, value, (), DEADLINE_MS, "benchmark", "0" * 64))


class HarnessClient:
    """The product's own enforcer: it folds the decision log and gives an answer once it is effective.

    Args:
        realm: with a worker that is ready.
        agents: of the workload.
    """

    def __init__(self, realm: BenchRealm, agents: int) -> None:
        self._enforcer = enforcer(realm, [f"tenant-{tenant}" for tenant in range(TENANTS)])
        self._intents = Intents(realm.settings.realm, agents, DEADLINE_MS, self._enforcer.nonce, realm.mix)
        self._number = 0

    def measure(self, rate: float, duration_s: float) -> Round:
        """One round."""
        found, waiting = Round(), set[Future[Any]]()

        def answered(future: Future[Any], due: float) -> None:
            _note(found, future, due)
            waiting.discard(future)

        def send(_: int, due: float) -> None:
            found.late_ms.append((time.perf_counter() - due) * 1000)
            try:
                future = self._ask()
            except Overloaded:
                found.note("Overloaded: not sent")
                return
            waiting.add(future)
            future.add_done_callback(lambda future: answered(future, due))

        found.offered = open_loop(rate, duration_s, send)
        wait(list(waiting), 2 * DEADLINE_MS / 1000)
        found.missing = found.offered - len(found.latencies_ms)
        found.settled = self._settle()
        return found

    def _settle(self) -> bool:
        """Ask in every lane until all are approved at once: nothing of this round is left for the next.

        A partition that was left far behind goes on for a while, whatever the others do.
        """
        end = time.monotonic() + SETTLE_S_MAX
        while time.monotonic() < end:
            began = time.monotonic()
            futures = [self._ask() for _ in range(TENANTS)]
            wait(futures, 2 * DEADLINE_MS / 1000)
            answered = all(future.done() and future.exception() is None for future in futures)
            if answered and time.monotonic() - began < SETTLED_S:
                return True
            time.sleep(_SETTLE_PAUSE_S)
        return False

    def close(self) -> None:
        """Free everything."""
        self._enforcer.close()

    def _ask(self) -> Future[Any]:
        self._number += 1
        return ask(self._enforcer, *self._intents.make(self._number - 1))


def _note(found: Round, answered: Future[Any], due: float) -> None:
    now, error = time.perf_counter(), answered.exception()
    reasons = getattr(error, "reasons", ())  # this workload should have no refusal: if there is one, say why
    found.note("approve" if error is None else f"{type(error).__name__}: {', '.join(map(str, reasons[:1]))}")
    if error is None or (isinstance(error, HarnessError) and getattr(error, "verdict", None) is not None):
        found.latencies_ms.append((now - due) * 1000)


@contextmanager
def echo_process(realm: BenchRealm, shape: Shape) -> Iterator[None]:
    """The process that answers; the shape of its records."""
    words = ["answer", realm.settings.bootstrap, realm.echo_in, realm.echo_out, str(PARTITIONS), shape.word]
    command = [sys.executable, str(Path(__file__).with_name("echo.py")), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        if process.stdout is None or process.stdout.readline().strip() != b"ready":
            raise SystemExit("the echo process did not start")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# --- as a part of the whole ---


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `measure` does.

    Attributes:
        rates: intents a second.
        seconds: of each round.
        rounds: pairs of echo and harness at each rate.
        agents: that take turns.
        rules: in force.
    """

    rates: tuple[float, ...] = (100, 1_000, 5_000)
    seconds: float = 20.0
    rounds: int = 7
    agents: int = 1_000
    rules: int = 100


def measure(
    where: Servers,
    sizes: Sizes,
    saturation: float,
    say: Callable[[str], None],
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Alternating rounds at every rate and at half of saturation, each after a look that nothing is left over.

    Args:
        where: broker and Redis.
        sizes: how much.
        saturation: verdicts a second of one worker.
        say: told before each round.
        keep: given all that was found after each round, which may be the last if somebody ends it.
    """
    half = round(saturation / 2)
    rates = sorted({*sizes.rates, half})
    rounds: dict[float, dict[str, list[Any]]] = {rate: {"echo": [], "harness": []} for rate in rates}
    found: dict[str, Any] = {"sizes": asdict(sizes), "saturation": saturation}
    with (
        realm(where, sizes.agents, mix=many_rules(sizes.rules), signed=True) as made,
        made.worker(),
        closing(HarnessClient(made, sizes.agents)) as harness,
    ):
        harness.measure(WARM_RATE, WARM_S)
        intent, verdict = shape_of(made, made.topics.intents), shape_of(made, made.topics.verdicts)
        with echo_process(made, verdict), closing(EchoClient(made, intent)) as echo:
            echo.measure(WARM_RATE, WARM_S)
            gc.collect()
            gc.freeze()  # what is imported by now; beyond that a client's process has Python's own collector
            clients: dict[str, EchoClient | HarnessClient] = {"echo": echo, "harness": harness}
            found["shapes"] = {"intent": intent._asdict(), "verdict": verdict._asdict()}
            for number in range(sizes.rounds):
                for rate, side in turns(number, rates):
                    say(f"round {number + 1} of {sizes.rounds}: {rate:,.0f}/s, {side}, {sizes.seconds:g} s")
                    rounds[rate][side].append(clients[side].measure(rate, sizes.seconds).to_json())
                found["rates"] = [
                    {"rate": rate, "half_of_saturation": rate == half, **{side: each[side][:] for side in SIDES}}
                    for rate, each in rounds.items()
                ]
                keep(found)
    return found


def turns(number: int, rates: Sequence[float]) -> Iterator[tuple[float, str]]:
    """(rate, side) of one round: both sides of a rate in turn, and all in the other order than in the round before."""
    step = -1 if number % 2 else 1
    for rate in rates[::step]:
        for side in SIDES[::step]:
            yield rate, side


def carried(measured: dict[str, Any], side: str = "harness") -> bool:
    """Was nearly everything that was offered approved, or echoed, in every round?"""
    return all(one["approved"] >= CARRIED * one["offered"] and one["settled"] for one in measured[side])


def p_ratio(measured: dict[str, Any], name: str) -> Spread | None:
    """The harness's quantile to the echo's: of each round's own."""
    sides = ([one[name] for one in measured[side]] for side in ("harness", "echo"))
    return Spread.of(ratios(*sides))


def text(found: dict[str, Any]) -> list[str]:
    """A table a rate: the sides, and their ratio."""
    sizes = found["sizes"]
    title = f"intent → verified verdict, ms from the scheduled time, signed, {sizes['rules']} rules"
    rounds = len(found["rates"][0]["echo"])
    lines = [f"{title}: median of {rounds} rounds of {sizes['seconds']:g} s (least to most)"]
    for measured in found["rates"]:
        half = f" (half of saturation, {found['saturation']:,.0f}/s)" if measured["half_of_saturation"] else ""
        lines.append(f"  {measured['rate']:,.0f}/s{half}")
        rows = [[side, *_figures(measured[side]), *_beside(measured[side])] for side in SIDES]
        rows.append(["ratio", *(spread_text(p_ratio(measured, name)) for name in QUANTILES), "", ""])
        lines += table(["", *QUANTILES, "sender late, p99", "echoed or approved"], rows, indent=4)
        lines += _doubts(measured)
    return lines


def _figures(rounds: list[dict[str, Any]]) -> list[str]:
    return [spread_text(Spread.of([one[name] for one in rounds])) for name in QUANTILES]


def _beside(rounds: list[dict[str, Any]]) -> list[str]:
    """How late the sender was, which is in both sides' latency, and how many got what they asked for."""
    late = spread_text(Spread.of([one["sender_late_p99_ms"] for one in rounds]))
    return [late, f"{sum(one['approved'] for one in rounds):,} of {sum(one['offered'] for one in rounds):,}"]


def _doubts(measured: dict[str, Any]) -> list[str]:
    beyond = [side for side in SIDES if not carried(measured, side)]
    lines = [f"    {side}: NOT CARRIED, this is no latency of that rate" for side in beyond]
    others: dict[str, int] = {}
    for one in measured["harness"]:
        others |= {said: others.get(said, 0) + n for said, n in one["decisions"].items() if said != "approve"}
    return [*lines, f"    not approved: {others}; what was refused is in the quantiles"] if others else lines


def goals(found: dict[str, Any]) -> list[Goal]:
    """What issue 7 asks of latency; a rate that was not carried has missed it."""
    return [_goal(1_000, found), _goal(None, found)]


def _goal(rate: float | None, found: dict[str, Any]) -> Goal:
    name = "p99 to the echo's at " + ("half of saturation" if rate is None else f"{rate:,}/s")
    measured = [
        one for one in found["rates"] if (one["half_of_saturation"] if rate is None else one["rate"] == rate)
    ]
    if not measured:
        return Goal(name, P99_RATIO, None, "×", why_not="not measured at that rate")
    if not carried(measured[0]):
        return Goal(name, P99_RATIO, None, "×", why_not="the rate was not carried", missed=True)
    return Goal.of(name, P99_RATIO, p_ratio(measured[0], "p99"), "×")


if __name__ == "__main__":
    raise SystemExit(__doc__)
