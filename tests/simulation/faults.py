"""What may go wrong, each kind under its own name; each strikes at a moment of its own choice and can meet any other.

Rule of this file: a fault is told (`World.tell`) when it really happens, so that the counts say what was tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from harness_stream.core import limits
from harness_stream.core.ids import id_time_ms
from harness_stream.core.lanes import partition_of
from tests.simulation.world import ACTIONS, AGENTS, FATES, PARTITIONS, RESOURCES, TOPICS, identities

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

# Within and beyond CLOCK_SKEW_MS_MAX (5 s), so that some steps are denied by and others bend chain time.
CLOCK_STEPS_MS = (-12_000, -4_000, -300, 300, 4_000, 12_000)
# Below a session, beyond it (6 s), and beyond what ids are remembered for (130 s).
STANDSTILLS_MS = (2_000, 8_000, 140_000)
CUT_RECORDS_MAX = 25  # about two seconds of a busy partition's log: before the newest checkpoint, and behind it
CUT_INPUTS_MAX = 8  # most were answered, and as many new ones often come before anybody can tell that the log is short
MARKERS_MAX = 3
KEPT_INPUTS_MAX = 4  # what a busy partition has in hand
TABLES = {"identity": TOPICS.identity, "classification": TOPICS.classification, "risk": TOPICS.risk}


# --- Processes ---


def crash(world: World) -> None:
    index = world.random.randrange(len(world.members))
    world.tell("crash", world.members[index].name)
    world.crash(index)


def pause(world: World) -> None:
    """Some wake as zombies, whom the group has expelled after 6 s."""
    member = world.random.choice(world.members)
    member.paused_until_ms = world.clock.elapsed_ms() + world.random.randint(100, 12_000)
    world.tell("pause", f"{member.name} until {member.paused_until_ms}")


def clean_stop(world: World) -> None:
    member = world.random.choice(world.members)
    if not member.leaving:
        member.leaving = True
        member.worker.stop()
        world.tell("clean stop", member.name)


def standstill(world: World) -> None:
    """Nobody runs for a while, as on a machine that was suspended."""
    span_ms = world.random.choice(STANDSTILLS_MS)
    world.clock.advance(span_ms)
    world.tell("standstill", f"{span_ms} ms")


# --- Logs ---


def log_cut(world: World) -> None:
    """An unclean election: the decision log's newest records are gone.

    None of their writers is told, but a producer counts its records, so the next one of theirs is not taken.
    """
    partition = world.random.randrange(PARTITIONS)
    low, end = world.broker.bounds(TOPICS.verdicts, partition)
    at = max(low, end - world.random.randint(1, CUT_RECORDS_MAX))
    if at < end:
        lost = {
            orjson.loads(r.value or b"{}")["writer"] for r in world.broker.read(TOPICS.verdicts, partition, at, end)
        }
        for member in world.members:
            if member.writer_id in lost:
                member.writer.break_sequence(TOPICS.verdicts, partition)
        world.broker.truncate_from(TOPICS.verdicts, partition, at)
        world.cut.add(partition)
        world.tell("log cut", f"partition {partition} from {at}; it ended at {end}")


def input_cut(world: World) -> None:
    """An unclean election: the input log's newest records are gone, of which most were answered."""
    partition = world.random.randrange(PARTITIONS)
    low, end = world.broker.bounds(TOPICS.intents, partition)
    at = max(low, end - world.random.randint(1, CUT_INPUTS_MAX))
    if at < end:
        world.cut_inputs(partition, at)
        world.tell("input cut", f"partition {partition} from {at}; it ended at {end}")


def input_cut_and_grown(world: World) -> None:
    """The same, and as many new inputs or more before anybody looks: only leader epochs show it."""
    before = len(world.input_cuts)
    input_cut(world)
    for cut in world.input_cuts[before:]:
        agents = [name for name, lane in AGENTS.items() if partition_of(lane, PARTITIONS) == cut.partition]
        for _ in range(world.random.randint(len(cut.lost), CUT_INPUTS_MAX + 1) if agents else 0):
            agent = world.random.choice(agents)
            world.send(agent_id=agent, by=agent)
        world.tell("input cut and grown")


def input_retention(world: World) -> None:
    """The input log begins later, past inputs that nobody has answered if the workers are behind."""
    partition = world.random.randrange(PARTITIONS)
    low, end = world.broker.bounds(TOPICS.intents, partition)
    at = end - world.random.randint(0, KEPT_INPUTS_MAX)
    if at > low:
        world.retain(TOPICS.intents, partition, at)
        world.tell("input retention", f"partition {partition} begins at {at}")


def decision_retention(world: World) -> None:
    """The decision log begins later, as far as the newest checkpoint says that snapshots hold all that was before."""
    partition = world.random.randrange(PARTITIONS)
    low, _ = world.broker.bounds(TOPICS.verdicts, partition)
    heads = world.everything(TOPICS.heads, partition)
    cut = max((orjson.loads(record.value or b"")["snapshot_cut"] for record in heads), default=-1)
    if cut >= low:
        at = world.random.randint(low, cut) + 1
        world.retain(TOPICS.verdicts, partition, at)
        world.tell("decision retention", f"partition {partition} begins at {at}")


def markers(topic: str, kind: str) -> Callable[[World], None]:
    """Transaction markers: offsets that no reader is given."""

    def strike(world: World) -> None:
        partition, count = world.random.randrange(PARTITIONS), world.random.randint(1, MARKERS_MAX)
        world.broker.skip_offsets(topic, partition, count)
        world.tell(kind, f"{count} in partition {partition}")

    return strike


# --- Clocks ---


def worker_clock(world: World) -> None:
    member = world.random.choice(world.members)
    member.clock.off_ms = world.random.choice(CLOCK_STEPS_MS)
    world.tell("worker clock step", f"{member.name} is off by {member.clock.off_ms} ms")


def broker_clock(world: World) -> None:
    world.broker.append_off_ms = world.random.choice(CLOCK_STEPS_MS)
    world.tell("broker clock step", f"append times are off by {world.broker.append_off_ms} ms")


# --- Tables ---


def table_stall(world: World) -> None:
    """A worker is given no more of one table; whether it still learns where the table ends is the dice's to say."""
    member, name = world.random.choice(world.members), world.random.choice(list(TABLES))
    ends_answered = world.random.random() < 0.5
    member.reader.stalled[TABLES[name]] = ends_answered
    member.stalled_ms[name] = world.clock.elapsed_ms()
    told = "and still learns where it ends" if ends_answered else "and not even where it ends"
    world.tell("table stall", f"{member.name} reads no more of {name}, {told}")


def table_change(world: World) -> None:
    name = world.random.choice(list(TABLES))
    key, row = {"identity": _identity, "classification": _classification, "risk": _risk}[name](world)
    world.put_row(name, key, None if row is None else orjson.dumps(row))
    world.tell("table change", f"{name} {key}: {row}")


def _identity(world: World) -> tuple[str, dict[str, object] | None]:
    row = world.random.choice([row for row in identities() if row["agent_id"] in AGENTS])
    actions = world.random.sample(ACTIONS, world.random.randint(1, len(ACTIONS)))
    changes: list[dict[str, object] | None] = [{}, {}, {"actions": actions}, {"status": "suspended"}, None]
    change = world.random.choice(changes)
    return row["agent_id"], None if change is None else row | change


def _classification(world: World) -> tuple[str, dict[str, object] | None]:
    uri = world.random.choice(sorted(RESOURCES))
    labels = world.random.choice(([], ["pii"], ["secret"]))
    return f"resource:{uri}", {"subject": f"resource:{uri}", "labels": labels}


def _risk(world: World) -> tuple[str, dict[str, object] | None]:
    subject = f"agent:{world.random.choice(list(AGENTS))}"
    valid_until = world.clock.now_ms() + world.random.randint(0, 20_000)
    return subject, {"subject": subject, "score": world.random.choice((0.1, 0.9)), "valid_until": valid_until}


# --- The store ---


def store_away(world: World) -> None:
    """It goes, or comes back."""
    world.store.down = not world.store.down
    world.tell("store away" if world.store.down else "store back")


def store_answer_lost(world: World) -> None:
    world.store.lose_next_answer = True
    world.tell("store answer lost")


def store_flush(world: World) -> None:
    if world.store.snapshot():
        world.store.flush()
        world.tell("store loss")


def store_partial_loss(world: World) -> None:
    held = sorted({name for part in world.store.snapshot().values() for name in part.units})
    lost = world.random.sample(held, world.random.randint(1, len(held))) if held else []
    if lost:
        world.store.drop_units(lost)
        world.tell("store partial loss", ", ".join(lost))


def store_names_lost(world: World) -> None:
    """The server, short of memory, lets go of the list of names; some of them may have come again since."""
    held = sorted({name for part in world.store.snapshot().values() for name in part.units})
    lost = world.random.choice((held, world.random.sample(held, (len(held) + 1) // 2)))
    world.store.drop_names(lost)
    world.tell("store names lost", ", ".join(lost))


def store_restore(world: World) -> None:
    """A dump is taken, or an older one comes back."""
    if not world.dumps or world.random.random() < 0.5:
        world.dumps.append(world.store.snapshot())
    else:
        world.store.restore(world.random.choice(world.dumps))
        world.tell("store restore")


# --- Senders ---


def replay(world: World) -> None:
    """Old bytes come again."""
    if world.sent:
        value = world.random.choice(list(world.sent.values()))
        world.publish(orjson.loads(value)["agent_id"], value)
        world.tell("replay", orjson.loads(value)["intent_id"])


def replay_beyond_memory(world: World) -> None:
    """The same, of an id that nobody remembers any more."""
    oldest = world.clock.now_ms() - limits.ID_MEMORY_MS
    old = [value for intent_id, value in world.sent.items() if id_time_ms(intent_id) < oldest]
    if old:
        value = world.random.choice(old)
        world.publish(orjson.loads(value)["agent_id"], value)
        world.tell("replay beyond memory", orjson.loads(value)["intent_id"])


def _publish(kind: str) -> Callable[[World], None]:
    return lambda world: world.fates.append(kind)


NETWORK = {kind: _publish(kind) for kind in FATES}
FAULTS: dict[str, Callable[[World], None]] = {
    **NETWORK,
    "crash": crash,
    "pause": pause,
    "clean stop": clean_stop,
    "standstill": standstill,
    "log cut": log_cut,
    "input retention": input_retention,
    "input markers": markers(TOPICS.intents, "input markers"),
    "decision markers": markers(TOPICS.verdicts, "decision markers"),
    "worker clock step": worker_clock,
    "broker clock step": broker_clock,
    "table stall": table_stall,
    "table change": table_change,
    "store away": store_away,
    "store answer lost": store_answer_lost,
    "store loss": store_flush,
    "store partial loss": store_partial_loss,
    "store restore": store_restore,
    "replay": replay,
    "replay beyond memory": replay_beyond_memory,
}
# Not among the others, whose dice every known seed has thrown; they meet all of them, and every other seed has both.
INPUT_CUT: dict[str, Callable[[World], None]] = {"input cut": input_cut}
INPUT_REGROWN: dict[str, Callable[[World], None]] = {"input cut and grown": input_cut_and_grown}
STORE_NAMES: dict[str, Callable[[World], None]] = {"store names lost": store_names_lost}
# Nor is this. It does not meet a cut, after which nothing may reach
# the history, nor new rules: windows that retention keeps from being warmed are unknown, and for the judge exact.
RETENTION: dict[str, Callable[[World], None]] = {"decision retention": decision_retention}
WITHOUT_RETENTION = ("log cut",)
