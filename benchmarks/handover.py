"""How soon a real worker decides on what another one left: time of day, on Kafka and Redis, signed.

    python benchmarks --only takeover      as a part of the whole

One worker judges an intent of each agent, and stops; that is what Redis shall hold. Another one judges so many more.
Then Redis is set back, so that whoever starts finds a store and checkpoints that stand so many records behind the log,
and one intent waits in every lane. Told is the time from the start of a worker's process to its first verdict in the
first and in the last partition:

    nothing behind     Redis was not set back: interpreter, group, tables, claims; the floor of the others
    behind             after a clean stop, which leaves the group
    owner killed       from SIGKILL of the owner, with the next one starting then: the group's session is in it
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from confluent_kafka import TopicPartition
from echo import consumer
from figures import Goal, Spread, spread_text, table
from realm import PARTITIONS, realm, redis_client
from throughput import fill
from workload import TENANTS, many_rules

from harness_stream.adapters.redis import keys
from harness_stream.wire.decisions import answers_of_any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from realm import BenchRealm, Servers

GOAL_RECORDS: Final = 10_000
HEARD_S_MAX: Final = 180.0
NOTHING, BEHIND, KILLED = KINDS = ("nothing behind", "behind", "owner killed")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `measure` does.

    Attributes:
        records: of the log, that the store has not seen.
        rebuilt: of a log that is rebuilt, in memory only.
        agents: that act.
        rounds: of everything.
        rules: in force.
    """

    records: int = GOAL_RECORDS
    rebuilt: int = 50_000
    agents: int = 500
    rounds: int = 3
    rules: int = 100


def measure(where: Servers, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """So many rounds, each in a realm of its own."""
    rounds = []
    for number in range(sizes.rounds):
        say(f"round {number + 1} of {sizes.rounds}: real workers, {sizes.records:,} records")
        with realm(where, sizes.agents, mix=many_rules(sizes.rules), signed=True) as made:
            rounds.append(_round(made, sizes))
    return {"sizes": asdict(sizes), "rounds": rounds}


def _round(made: BenchRealm, sizes: Sizes) -> dict[str, dict[str, float]]:
    found = {}
    with closing(Tail(made)) as tail:
        _judge(made, tail, sizes.agents, sizes.agents)
        behind = stored(made)
        _judge(made, tail, sizes.agents, sizes.records)
        _ask(made, sizes.agents)
        with made.draining_worker():
            found[NOTHING] = tail.first(time.time())
        set_back(made, behind)
        _ask(made, sizes.agents)
        with made.draining_worker() as pid:
            found[BEHIND] = tail.first(time.time())
            os.kill(pid, signal.SIGKILL)
            killed_s = time.time()
        set_back(made, behind)
        _ask(made, sizes.agents)
        with made.draining_worker():
            found[KILLED] = tail.first(killed_s)
    return found


def _judge(made: BenchRealm, tail: Tail, agents: int, count: int) -> None:
    """Let a worker judge so many and stop."""
    fill(made, agents, count)
    with made.draining_worker():
        tail.verdicts(count)


def _ask(made: BenchRealm, agents: int) -> None:
    """An intent in every lane, hence in every partition."""
    fill(made, agents, TENANTS)


class Tail:
    """Reads the decision log from now on.

    Args:
        made: whose.
    """

    def __init__(self, made: BenchRealm) -> None:
        self._reader = consumer(made.settings.kafka)
        places = [TopicPartition(made.topics.verdicts, p) for p in range(PARTITIONS)]
        ends = [self._reader.get_watermark_offsets(place)[1] for place in places]
        self._reader.assign([TopicPartition(p.topic, p.partition, end) for p, end in zip(places, ends, strict=True)])

    def verdicts(self, count: int) -> None:
        """Wait for so many of them."""
        for number, _ in enumerate(self._heard(), 1):
            if number == count:
                return

    def first(self, since_s: float) -> dict[str, float]:
        """Seconds until the first partition has a verdict, and until all have; reads all lanes' answers."""
        times: dict[int, float] = {}
        for number, (partition, at_s) in enumerate(self._heard(), 1):
            times.setdefault(partition, at_s - since_s)
            if number == TENANTS:
                break
        return {"first": min(times.values()), "last": max(times.values())}

    def close(self) -> None:
        """Free it."""
        self._reader.close()

    def _heard(self) -> Iterator[tuple[int, float]]:
        """(partition, append time in epoch seconds) of each verdict as it comes."""
        end = time.monotonic() + HEARD_S_MAX
        while time.monotonic() < end:
            record = self._reader.poll(0.1)
            if record is None or record.error() is not None:
                continue
            for body in answers_of_any(orjson.loads(record.value() or b"{}")):
                if body.get("kind") == "verdict":
                    yield record.partition() or 0, record.timestamp()[1] / 1000
        raise SystemExit(f"a worker has not answered within {HEARD_S_MAX:g} s")


def stored(made: BenchRealm) -> dict[bytes, bytes]:
    """All that Redis holds of a realm."""
    with closing(redis_client(made.settings)) as client:
        dumps = {key: client.dump(key) for key in client.scan_iter(_pattern(made))}
    return {key: value for key, value in dumps.items() if value is not None}


def set_back(made: BenchRealm, before: dict[bytes, bytes]) -> None:
    """Let it hold that and nothing else."""
    with closing(redis_client(made.settings)) as client:
        for key in list(client.scan_iter(_pattern(made))):
            client.delete(key)
        for key, value in before.items():
            client.restore(key, 0, value)


def _pattern(made: BenchRealm) -> str:
    return keys.pattern(f"{made.settings.realm}/{made.settings.prefix}")


def text(found: dict[str, Any]) -> list[str]:
    """A line a kind."""
    sizes = found["sizes"]
    what = f"a real worker's start {sizes['records']:,} records behind"
    title = f"{what}, on Kafka and Redis, signed, {sizes['rules']} rules"
    rows = [[kind, *(spread_text(_spread(found, kind, which)) for which in ("first", "last"))] for kind in KINDS]
    head = ["s until the first verdict", "in one partition", "in every partition"]
    return [f"{title}: median of {sizes['rounds']} rounds (least to most)", *table(head, rows)]


def _spread(found: dict[str, Any], kind: str, which: str) -> Spread | None:
    return Spread.of([one[kind][which] for one in found["rounds"]])


def goals(found: dict[str, Any]) -> list[Goal]:
    """What DESIGN §9 asks of a takeover; its 2 s are of what lies behind, so the floor of a start is taken off."""
    asked, why = found["sizes"]["records"] == GOAL_RECORDS, "not measured at that size"
    more = Spread.of([one[BEHIND]["last"] - one[NOTHING]["last"] for one in found["rounds"]])
    killed = _spread(found, KILLED, "last")
    name = f"takeover on Kafka, {GOAL_RECORDS:,} records behind"
    return [
        Goal.of(f"{name}, beyond a start with nothing", 2, more if asked else None, "s", why_not=why),
        Goal.of(f"{name}, owner killed, with the group", 10, killed if asked else None, "s", why_not=why),
    ]


if __name__ == "__main__":
    raise SystemExit(__doc__)
