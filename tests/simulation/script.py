"""What a seed does, as a list of steps that can be run again without some of them.

Rule of this file: each step draws from dice of its own, so that leaving one out changes nothing of what the others do
beyond what follows from it.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import orjson

from harness_stream.core import limits
from harness_stream.core.rate import Rate
from harness_stream.runtime import fetching, history, loading, takeover, warming
from harness_stream.runtime.realm import LANE_RATE_DEFAULT
from tests.simulation.faults import FAULTS, INPUT_CUT, INPUT_REGROWN, RETENTION, STORE_NAMES, WITHOUT_RETENTION
from tests.simulation.world import AGENTS, NEW_RULES, PARTITIONS, RULES, SLOW_TURN_MS, TOPICS, TURN_MS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness_stream.ports import LogRecord

LONG_EVERY = 50  # most of what is found needs few steps; some windows and snapshot cycles need many
STEPS, STEPS_LONG = 36, 300
STEPS_INPUT_CUT = 80  # a partition that halts looks again after 5 s
# Logs that lost their end go on by an operator's word, and then the store comes back as it was before.
RESTORES = ("log cut", "store restore", "store restore", "operator", "operator", "standstill")
STEPS_RESTORES = 160
FAULT_SHARE = 0.35
SWITCHES = 3
TURNS = (0, 1, 1, 2, 2, 3, 5, 8, 20)  # of the workers' loops, after each step
DEADLINES_MS = (60_000, 60_000, 5_000, 500)
EDGE_INPUTS = 6  # of the newest; those before are mostly older than such a rule reaches
# One event decides in these rules: no-egress-after-read, the same in the newer rules, and export-needs-a-query.
EDGES = (("crm.read", "email.send", 2_000), ("crm.read", "email.send", 3_000), ("search.query", "crm.export", 1_000))
LOW_RATE = Rate(per_s=2, burst=3)  # so that about every second intent of a lane is beyond it
# In some worlds every so many-th step sends a flood if it would send one intent: most of them run out, so that denials
# stand next to each other. No seed that a long run once found is such a world's.
FLOOD_EVERY = 4
FLOOD_DEADLINES_MS = (1, 5, 50, 50, 500)
FLOOD_WAITS_MS = (0, 20, 100, 300)
EVENTS = {"send": 55, "send in a chain": 8, "send on an edge": 6, "follow up": 18, "mandate": 5, "garbage": 3, "wait": 5, "operator": 3}
STORE_LOSSES = (
    *("store names lost", "store names lost", "store partial loss", "store loss", "store restore", "store answer lost"),
    *("crash", "clean stop", "pause", "replay", "replay", "log cut"),
)
STEPS_STORE_LOSSES = 80
STEPS_RETENTION = 80  # long enough for some cycles of snapshots


class Step(NamedTuple):
    """One thing that happens, and how long the workers then run.

    Attributes:
        index: in its script.
        roll: seeds its dice.
    """

    index: int
    kind: str
    roll: int
    turns: int


def script(seed: int, faults: Iterable[str] | None = None, count: int | None = None) -> list[Step]:
    """A seed's steps.

    Args:
        seed: decides everything.
        faults: which kinds happen; default about half of all, other ones with each seed, so that they meet in pairs
            that would drown among all others.
        count: how many steps.
    """
    dice = random.Random(f"script {seed}")
    kinds = [kind for kind in FAULTS if dice.random() < 0.5] if faults is None else list(faults)
    count = count or (STEPS_LONG if seed % LONG_EVERY == 0 else STEPS)
    switches = set(dice.sample(range(count), SWITCHES)) if seed % 2 else set()
    steps = []
    for index in range(count):
        kind = (
            dice.choice(kinds)
            if kinds and dice.random() < FAULT_SHARE
            else dice.choices(*zip(*EVENTS.items(), strict=True))[0]
        )
        kind = "rules" if index in switches else kind
        kind = "flood" if kind == "send" and index % FLOOD_EVERY == 0 and _is_flooded(seed) else kind
        steps.append(Step(index, kind, dice.getrandbits(32), dice.choice(TURNS)))
    return steps


def with_input_cuts(seed: int) -> list[Step]:
    """The same, with about half of all faults and input logs that lose their newest records.

    Where the seed is odd, most of them have grown again before anybody looks.
    """
    dice = random.Random(f"input cut {seed}")
    others = [kind for kind in FAULTS if dice.random() < 0.5]
    often = INPUT_REGROWN if seed % 2 else INPUT_CUT
    return script(seed, [*others, *INPUT_CUT, *often, *often], STEPS_INPUT_CUT)


def with_restores(seed: int) -> list[Step]:
    """Histories that were lost and given up, and state of theirs that comes back."""
    return script(seed, RESTORES, STEPS_RESTORES)


def with_store_losses(seed: int) -> list[Step]:
    """A store that loses whatever a server may, and owners who go and come."""
    return script(seed, STORE_LOSSES, STEPS_STORE_LOSSES)


def with_retention(seed: int) -> list[Step]:
    """Retention that takes what snapshots hold, so that a start from the log's first record would forget it.

    Raises:
        ValueError: the seed is odd.
    """
    if seed % 2:
        raise ValueError(f"seed {seed} changes the rules, which retention does not meet: take an even one")
    dice = random.Random(f"retention {seed}")
    others = [kind for kind in FAULTS if kind not in WITHOUT_RETENTION and dice.random() < 0.5]
    return script(seed, [*others, *RETENTION, *RETENTION, *RETENTION], STEPS_RETENTION)


class Mix(NamedTuple):
    """Which kinds of faults meet, and in what world.

    Attributes:
        name: as the command takes it.
        steps_of: what a seed does; ValueError, if it is no seed of this mix.
        signed: as the world has it.
    """

    name: str
    steps_of: Callable[[int], list[Step]]
    signed: bool = False


ALL = Mix("all", script)
MIXES = {
    mix.name: mix
    for mix in (
        ALL,
        Mix("signed", script, signed=True),
        Mix("retention", with_retention),
        Mix("input-cuts", with_input_cuts),
        Mix("restores", with_restores),
        Mix("store-losses", with_store_losses),
    )
}


# --- Events ---


def _rules(world: World) -> None:
    text = world.random.choice((NEW_RULES, RULES))
    world.push_rules(world.revision + 1, text, now=world.random.random() < 0.2)


def _send_on_an_edge(world: World) -> None:
    """What a rule of pairs forbids or asks for, exactly its timespan after the first of them or a millisecond later."""
    action, then, span_ms = world.random.choice(EDGES)
    partition = world.random.randrange(PARTITIONS)
    inputs = world.everything(TOPICS.intents, partition)[-EDGE_INPUTS:]
    earlier = [(r, b) for r in inputs if (b := _read(r)).get("action") == action and "chain_id" not in b]
    if earlier:
        record, body = world.random.choice(earlier)
        due_ms = (record.timestamp_ms or 0) + span_ms + world.random.randint(0, 1) - world.broker.append_off_ms
        world.clock.advance(max(0, due_ms - world.clock.now_ms()))
        world.send(by=body["agent_id"], agent_id=body["agent_id"], action=then)


def flood(world: World) -> None:
    """Of one lane more than is judged in time. Some of it comes again, with other bytes, or names what is in it."""
    dice, sent = world.random, list[bytes]()
    lane = dice.choice(list(AGENTS.values()))
    for _ in range(dice.randint(3, 9)):
        agent = dice.choice([name for name, other in AGENTS.items() if other == lane])
        if sent and dice.random() < 0.2:
            _about(world, orjson.loads(dice.choice(sent)))
        else:
            sent.append(world.send(agent_id=agent, by=agent, deadline_ms=dice.choice(FLOOD_DEADLINES_MS)))
    world.clock.advance(dice.choice(FLOOD_WAITS_MS))


def _about(world: World, body: dict[str, Any]) -> None:
    how, agent = world.random.choice(("again", "changed", "child", "outcome")), body["agent_id"]
    if how == "child":
        parent = {"agent_id": agent, "intent_id": body["intent_id"]}
        world.send(agent_id=agent, by=agent, parent=parent, deadline_ms=world.random.choice(FLOOD_DEADLINES_MS))
    elif how == "outcome":
        world.report(body, "0" * 64)
    else:
        world.publish(agent, orjson.dumps(body if how == "again" else body | {"purpose": "another"}))


def _read(record: LogRecord) -> dict[str, Any]:
    value = record.value or b""
    return dict(orjson.loads(value)) if value.startswith(b"{") else {}


EVENT_ACTS = {
    "send": lambda world: world.send(deadline_ms=world.random.choice(DEADLINES_MS)),
    "flood": flood,
    "send in a chain": lambda world: world.send(chain_id=f"case-{world.random.randrange(3)}"),
    "send on an edge": _send_on_an_edge,
    "follow up": World.follow_up,
    "mandate": World.mandate,
    "garbage": lambda world: world.publish("agent-1", b"not json"),
    "wait": lambda world: world.clock.advance(world.random.randint(50, 900)),
    "operator": World.resume_halted,
    "rules": _rules,
}
ACTS = {**EVENT_ACTS, **FAULTS, **INPUT_CUT, **INPUT_REGROWN, **RETENTION, **STORE_NAMES}


# --- Running ---


def world_of(seed: int, *, signed: bool = False) -> World:
    # Bits of the seed that nothing else depends on, so that evictions meet switches of rules and everything else.
    forgetful, slow = seed // 4 % 2, seed // 8 % 2
    rate = LOW_RATE if seed // 16 % 4 == 1 else LANE_RATE_DEFAULT
    sizes = 1 + seed % 3, 150 if forgetful else 3_000, 3 if forgetful else 1_000
    world = World(seed, *sizes, lane_rate=rate, signed=signed)
    world.uneven, world.turn_ms = True, SLOW_TURN_MS if slow else TURN_MS
    world.cramped = _is_cramped(seed)
    return world


def _is_cramped(seed: int) -> bool:
    return seed % 5 == 2


def _is_flooded(seed: int) -> bool:
    return seed % 7 == 4


def play(world: World, steps: Iterable[Step]) -> None:
    """Do the steps, one after the other."""
    for step in steps:
        world.random.seed(step.roll)
        world.trace.append(f"{world.clock.elapsed_ms():>8} ms  step {step.index}: {step.kind}, {step.turns} turns")
        ACTS[step.kind](world)
        for _ in range(step.turns):
            world.turn()


def run(seed: int, faults: Iterable[str] | None = None, count: int | None = None) -> World:
    """Everything the seed says, and then no more faults."""
    with short_histories(seed):
        return played(world_of(seed), script(seed, faults, count))


def played(world: World, steps: Sequence[Step]) -> World:
    play(world, steps)
    world.random.seed(world.seed)
    world.trace.append(f"{world.clock.elapsed_ms():>8} ms  heal")
    world.heal()
    return world


@contextmanager
def short_histories(seed: int) -> Iterator[None]:
    """Some runs count new windows from the middle of the log in small pieces; some have room for little.

    And in some a unit takes in one record a turn, or every record at once.
    """
    with ExitStack() as stack:
        if _is_cramped(seed):
            stack.enter_context(mock.patch.object(limits, "GROUPS_PER_UNIT_MAX", 2))
        if seed % 3 == 1:
            stack.enter_context(mock.patch.object(limits, "PART_BYTES_MAX", 2_000))
        if seed % 5 in {1, 3}:
            stack.enter_context(mock.patch.object(fetching, "TAKE_IN_MS_MAX", 0))
            stack.enter_context(mock.patch.object(fetching, "CATCH_UP_MS_MAX", 0))
        if seed % 5 == 4:
            stack.enter_context(mock.patch.object(loading, "DEFERRED_SHARE", 0))
        if seed % 4 == 3:
            stack.enter_context(mock.patch.object(warming, "CHECKPOINT_GAP_MS", -8_000))
            stack.enter_context(mock.patch.object(history, "SEARCH_RECORDS", 8))
            stack.enter_context(mock.patch.object(history, "PIECE_RECORDS", 20))
            stack.enter_context(mock.patch.object(takeover, "UNITS_PER_TURN", 1))
            stack.enter_context(mock.patch.object(warming, "LATER_MAX", 2))
        yield
