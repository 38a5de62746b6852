"""How soon a kill stops an agent, under load: its next intent, and what it has running.

    python benchmarks/kill.py                  some minutes; starts Kafka and Redis unless told where they are
    python benchmarks/kill.py --kills 20 --rate 200 --json out.json

HARNESS_BOOTSTRAP and HARNESS_REDIS_URL name a broker and a Redis that run. The realm is unsigned, with 30 rules of
which 10 have windows. The goal is one of p99: it takes a hundred kills to judge it.

A process of its own sends intents of a thousand agents at the rate, open loop. Beside it one agent asks again and again
and is killed again and again, by the function behind `harness agents kill` (in this process: an interpreter's start is
not in it). Times count from the moment the row is handed to the producer, and from the command's start: to the first
refused intent, and to the moment a running approval is taken back. The floor is a bare record, produced and consumed
on the same broker under the same load, one after each kill. The numbers stay in the output: they are the machine's and
the minute's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import command
import machine
from confluent_kafka import Producer, TopicPartition
from echo import consumer
from figures import percentile
from latency import HarnessClient, ask, enforcer
from realm import PARTITIONS, READY_S_MAX, STOP_S_MAX, BenchRealm, realm, servers
from workload import Intents, agent_of, lane_of

from harness_stream.adapters.kafka import log as kafka_log
from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.cli.agents_status import change
from harness_stream.config import LANE_RATE_MAX, Settings, load_settings
from harness_stream.core import limits
from harness_stream.core.reasons import Deny
from harness_stream.errors import Denied

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from harness_stream.client.answer import Answer

GOAL_MS: Final = 250.0
KILLS_JUDGED: Final = 100  # of fewer the p99 is the maximum
# Together with the load this is the whole rate; what a probe finds comes 20 ms too late at most. More would measure how
# fast one agent's own windows and unit grow, not how soon it is stopped.
PROBES_PER_S: Final = 50
# One round of the load's own numbers; it goes on until it is ended.
LOAD_ROUND_S: Final = 5.0
WAIT_S_MAX: Final = 5.0
# Until it is approved something again; a worker that is behind takes its time.
APPROVED_S_MAX: Final = 60.0
WARM_S: Final = 3.0
_LOOK_S: Final = 0.000_5
_POLL_S: Final = 0.05


@dataclass(slots=True)
class Kill:
    """One kill; perf_counter seconds, 0 for what has not happened.

    Attributes:
        started: the command began.
        appended: the row was handed to the producer.
        refused: the first refusal was read.
        revoked: the running approval was taken back.
    """

    started: float = 0.0
    appended: float = 0.0
    refused: float = 0.0
    revoked: float = 0.0

    @property
    def over(self) -> bool:
        """Has everything happened?"""
        return bool(self.refused and self.revoked)


@dataclass(slots=True)
class Measured:
    """Everything, in ms."""

    kills: list[Kill] = field(default_factory=list)
    unseen: list[Kill] = field(default_factory=list)  # no refusal for this reason, or no notice, within WAIT_S_MAX
    floor_ms: list[float] = field(default_factory=list)

    def rows(self) -> dict[str, list[float]]:
        """What is told, by its name."""
        return {
            "append → refused": [1_000 * (k.refused - k.appended) for k in self.kills],
            "append → revoked": [1_000 * (k.revoked - k.appended) for k in self.kills],
            "command → append": [1_000 * (k.appended - k.started) for k in self.kills],
            "command → refused": [1_000 * (k.refused - k.started) for k in self.kills],
            "command → revoked": [1_000 * (k.revoked - k.started) for k in self.kills],
            "floor: produce → consume": self.floor_ms,
        }


class Victim:
    """One agent in a process of its own: asks at a fixed pace, whatever is answered.

    Args:
        realm: where.
        number: of the agent, beyond those of the load.
    """

    def __init__(self, made: BenchRealm, number: int) -> None:
        self.agent, self._lane = agent_of(number), lane_of(number, number + 1)
        self._enforcer = enforcer(made, [self._lane])
        self._intents = Intents(made.settings.realm, 1, limits.DEADLINE_MS_DEFAULT, self._enforcer.nonce)
        self._kill = Kill()
        self._approved = threading.Event()
        self._newest: Answer | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask_again_and_again, daemon=True)
        self._thread.start()

    def running(self) -> Answer:
        """An approval of now, in use."""
        end = time.monotonic() + APPROVED_S_MAX
        while time.monotonic() < end:
            self._approved.clear()
            self._approved.wait(_POLL_S)
            newest = self._newest
            if newest is not None and newest.valid:
                newest.start()
                return newest
        raise SystemExit(f"`{self.agent}` is approved nothing")

    def watch(self, kill: Kill) -> None:
        """Note the first refusal from now on there."""
        self._kill = kill

    def close(self) -> None:
        """Free everything."""
        self._stopping.set()
        self._thread.join(STOP_S_MAX)
        self._enforcer.close()

    def _ask_again_and_again(self) -> None:
        due = time.perf_counter()
        while not self._stopping.is_set():
            due = max(due + 1 / PROBES_PER_S, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))
            intent_id, _, _, value = self._intents.make(0)
            value = value.replace(b'"agent-0"', json.dumps(self.agent).encode())
            ask(self._enforcer, intent_id, self.agent, self._lane, value).add_done_callback(self._answered)

    def _answered(self, future: Future[Answer]) -> None:
        now, error = time.perf_counter(), future.exception()
        if error is None:
            self._newest = future.result()
            self._approved.set()
        elif isinstance(error, Denied) and error.reasons[0].code == Deny.AGENT_STATUS and self._kill.appended:
            self._kill.refused = self._kill.refused or now


def measure(made: BenchRealm, number: int, kills: int) -> Measured:
    """Kill the agent so many times."""
    found = Measured()
    with closing(Victim(made, number)) as victim, closing(Floor(made)) as floor:
        for _ in range(kills):
            kill = _killed(made.settings, victim)
            (found.kills if kill.over else found.unseen).append(kill)
            change(made.settings, victim.agent, "active", from_killed=True)
            found.floor_ms.append(floor.measure())
    return found


def _killed(settings: Settings, victim: Victim) -> Kill:
    answer, kill = victim.running(), Kill()
    victim.watch(kill)

    def revoked() -> None:
        kill.revoked = time.perf_counter()

    with answer.revoked.telling(revoked), _noting(kill):
        kill.started = time.perf_counter()
        change(settings, victim.agent, "killed")
        end = time.monotonic() + WAIT_S_MAX
        while not kill.over:
            if time.monotonic() > end:
                break  # it is counted: a worker that is behind denies for that reason (`overload`)
            time.sleep(_LOOK_S)
    return kill


@contextmanager
def _noting(kill: Kill) -> Iterator[None]:
    """Note when the command's writer is handed its row."""

    class Noting(kafka_log.KafkaWriter):
        def append(self, *words: Any, **named: Any) -> None:  # noqa: ANN401  as the real one
            kill.appended = kill.appended or time.perf_counter()
            super().append(*words, **named)

    with mock.patch.object(kafka_log, "KafkaWriter", Noting):
        yield


class Floor:
    """A bare record there and back, with the clients' own settings."""

    def __init__(self, made: BenchRealm) -> None:
        self._topic = made.echo_in
        self._writer = Producer(client_settings.producer(made.settings.kafka))
        self._reader = consumer(made.settings.kafka)
        end = self._reader.get_watermark_offsets(TopicPartition(self._topic, 0))[1]
        self._reader.assign([TopicPartition(self._topic, 0, end)])
        self.measure()

    def measure(self) -> float:
        """From `produce` to the consumed record, ms."""
        started = time.perf_counter()
        self._writer.produce(self._topic, b"x" * 500, key=b"agent", partition=0)
        self._writer.poll(0)
        record = self._reader.poll(WAIT_S_MAX)
        took_ms = 1_000 * (time.perf_counter() - started)
        if record is None or record.error() is not None:
            raise SystemExit("the bare record did not come back")
        return took_ms

    def close(self) -> None:
        """Free everything."""
        self._reader.close()


# --- The load, in a process of its own ---


def load(bootstrap: str, prefix: str, agents: int, rate: float) -> None:
    """Send until SIGTERM; a line of JSON a round."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    settings = load_settings(
        bootstrap=bootstrap, prefix=prefix, partitions=PARTITIONS, dev=True, keys="", lane_rate=LANE_RATE_MAX
    )
    with closing(HarnessClient(BenchRealm(settings), agents)) as client:
        print("ready", flush=True)
        while not stopped.is_set():
            found = client.measure(rate, LOAD_ROUND_S)
            told = {"answered": len(found.latencies_ms), "missing": found.missing, "decisions": found.decisions}
            told |= {"p50": percentile(found.latencies_ms, 0.5), "p99": percentile(found.latencies_ms, 0.99)}
            print(json.dumps(told), flush=True)


@contextmanager
def loaded(made: BenchRealm, agents: int, rate: float) -> Iterator[list[dict[str, Any]]]:
    """The load runs; its rounds are in the list at the end."""
    words = ["--load", made.settings.bootstrap, made.settings.prefix, str(agents), str(rate)]
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, __file__, *words], stdout=said)
        try:
            end = time.monotonic() + READY_S_MAX
            while not os.pread(said.fileno(), 1, 0):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("the load did not start")
                time.sleep(_POLL_S)
            yield rounds
            process.terminate()
            process.wait(LOAD_ROUND_S + 2 * limits.DEADLINE_MS_DEFAULT / 1_000 + STOP_S_MAX)
            said.seek(0)
            rounds += [json.loads(line) for line in said.readlines()[1:]]
        finally:
            process.kill()
            process.wait(STOP_S_MAX)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    asked = _arguments().parse_args(words)
    if asked.load:
        bootstrap, prefix, agents, rate = asked.load
        load(bootstrap, prefix, int(agents), float(rate))
        return
    on = machine.measured_on()
    with servers() as where, realm(where, asked.agents + 1) as made, made.worker():
        on |= where.versions
        others = max(1.0, asked.rate - PROBES_PER_S)
        with loaded(made, asked.agents, others) as rounds:
            time.sleep(WARM_S)
            found = measure(made, asked.agents, asked.kills)
    told = {"machine": on, **_told(found, asked, rounds)}
    print("\n".join([*machine.lines(on), _text(told)]))
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _told(found: Measured, asked: argparse.Namespace, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    rows = {
        name: {"n": len(values), **{f"p{p}": percentile(values, p / 100) for p in (50, 90, 99)}, "max": max(values)}
        for name, values in found.rows().items()
        if values and found.kills
    }
    if not rows:
        raise SystemExit("no kill was seen: is the machine too slow for this rate? `--rate` asks for less")
    settings = {"kills": asked.kills, "rate": asked.rate, "agents": asked.agents, "probes_per_s": PROBES_PER_S}
    told = {"settings": settings, "unseen": len(found.unseen), "load": rounds, "goal_ms": GOAL_MS}
    return {**told, "ms": rows, "raw_ms": found.rows()}


def _text(told: dict[str, Any]) -> str:
    rows, settings = told["ms"], told["settings"]
    lines = [
        f"{settings['kills']} kills under {settings['rate']:,.0f} intents/s, ms ({told['unseen']} not seen)",
        f"{'':26}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}",
    ]
    for name, row in rows.items():
        lines.append(f"{name:26}" + "".join(f"{row[column]:9.1f}" for column in ("p50", "p90", "p99", "max")))
    lines.append(_judged(rows["append → refused"], told["unseen"]))
    for number, one in enumerate(told["load"], 1):
        lines.append(
            f"load, round {number}: {one['answered']:,} answered, {one['missing']} missing, "
            f"p50 {one['p50']:.1f} ms, p99 {one['p99']:.1f} ms; {_decisions(one['decisions'])}"
        )
    return "\n".join(lines)


def _judged(row: dict[str, float], unseen: int) -> str:
    """Met or missed; a kill that was not seen is later than any."""
    goal, found = f"goal: refused within {GOAL_MS:.0f} ms at p99", f"{row['p99']:.1f} ms"
    if row["n"] + unseen < KILLS_JUDGED:
        return f"{goal}: not judged by {row['n'] + unseen} kills, it takes {KILLS_JUDGED} ({found} is the maximum)"
    met = row["p99"] <= GOAL_MS and unseen <= 0.01 * (row["n"] + unseen)
    return f"{goal}: {'met' if met else 'MISSED'} ({found})"


def _decisions(counts: dict[str, int]) -> str:
    return ", ".join(f"{times:,} {said}" for said, times in counts.items()) or "nothing"


def _rate(text: str) -> float:
    if (found := command.amount(text)) <= PROBES_PER_S:
        raise command.ArgumentTypeError(f"the killed agent alone asks {PROBES_PER_S} a second: ask for more than that")
    return found


def _arguments() -> argparse.ArgumentParser:
    least = f"intents a second, the killed agent's {PROBES_PER_S} included"
    parser = command.parser(__doc__)
    parser.add_argument("--kills", type=command.count, default=120, help="of one agent")
    parser.add_argument("--rate", type=_rate, default=1_000.0, help=least)
    parser.add_argument("--agents", type=command.count, default=1_000, help="of the load")
    parser.add_argument("--json", type=command.output, help="also write everything to this file")
    parser.add_argument("--load", nargs=4, help=command.SUPPRESS)  # the process that makes it
    return parser


if __name__ == "__main__":
    sys.exit(command.ended(main))
