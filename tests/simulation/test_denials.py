"""Whoever was denied in a run stays denied, wherever the worker's memory of it comes from (V2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from harness_stream.core.fold import DENIALS
from harness_stream.core.ids import ids_unit
from harness_stream.core.reasons import Deny, Refuse, Reject
from harness_stream.runtime.fetching import Fetching
from tests.simulation.judge import check
from tests.simulation.test_cold import (
    AGENT,
    HOME,
    OTHER,
    log,
    owner,
    read,
    recomputed,
    restart,
    snapshot,
    turns,
    world_with,
)
from tests.simulation.test_deferred import crashed
from tests.simulation.world import TOPICS, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.ports import LogRecord
    from tests.simulation.world import Member

RUN = 40  # over 32 units of ids, so that a second run adds to what a first one has begun
# A copy has as long for its unit to come.
DEADLINE_MS = 1_000


def denied(world: World, count: int = RUN) -> list[bytes]:
    """So many intents of two agents that are late when they are looked at, in one record."""
    before, sent = len(log(world)), late(world, count)
    for _ in range(3_000):
        world.turn()
        new = [body for body in log(world)[before:] if body["kind"] not in {"checkpoint", "claim"}]
        if new and new[-1]["kind"] == DENIALS:
            [run] = new
            assert [row["intent_id"] for row in run["denied"]] == [orjson.loads(value)["intent_id"] for value in sent]
            return sent
    raise AssertionError("never denied")


def late(world: World, count: int = RUN) -> list[bytes]:
    """Nobody has looked at them yet."""
    about = {"action": "crm.read", "resources": [], "measures": {}, "deadline_ms": DEADLINE_MS}
    sent = [world.send(by=agent, agent_id=agent, **about) for agent in (AGENT, OTHER) * (count // 2)]
    world.clock.advance(DEADLINE_MS + 20)
    return sent


def answer(world: World, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first one from now on."""
    seen = len(log(world))
    for _ in range(3_000):
        world.turn()
        for body in log(world)[seen:]:
            if wanted(body):
                return body
    raise AssertionError("never answered")


def still_denied(world: World, value: bytes) -> None:
    """A copy, other bytes under the same id, and the report that it ran."""
    body = orjson.loads(value)
    for sent, reason in ((value, Reject.DUPLICATE), (orjson.dumps(body | {"purpose": "x"}), Reject.ID_REUSED)):
        world.publish(body["agent_id"], sent)
        found = answer(world, lambda said: said.get("id") == body["intent_id"] or said.get("intent_id") == body["intent_id"])
        assert (found["kind"], found.get("reason")) == ("reject", reason)
    world.report(body, "0" * 64)
    found = answer(world, lambda said: said.get("event_type") == "outcome")
    assert (found["status"], found["reason"]) == ("refused", Refuse.BYPASS)


# --- Where memory comes from ---


def nowhere_else(world: World) -> None:
    """It was there all the time."""


def from_the_log(world: World) -> None:
    world.store.flush()
    crashed(world)


def from_deltas(world: World) -> None:
    turns(world, 200)
    names = sorted(world.store.units(HOME))
    assert any(name.startswith("i:") and world.store.load(HOME, [name])[name].deltas for name in names)
    crashed(world)


def from_snapshots(world: World) -> None:
    """Nothing else holds it: the log begins behind it, and the store is empty."""
    snapshot(world)
    world.retain(TOPICS.verdicts, HOME, owner(world)._snapshots.cut + 1)
    world.store.flush()
    crashed(world)


def from_a_store_that_lost_units(world: World) -> None:
    turns(world, 200)
    world.store.drop_units([name for name in world.store.units(HOME) if name.startswith("i:")])
    crashed(world)


def from_snapshots_and_the_log_behind_a_store_that_went_away(world: World) -> None:
    restart(world)
    world.store.down = True


def from_records_that_wait(world: World) -> None:
    """The store stands before the run; nobody takes it in before he is asked."""
    world.store.restore(world.behind)  # type: ignore[attr-defined]  this file's own
    crashed(world)
    assert owner(world).state.deferred


WAYS = [
    nowhere_else,
    from_the_log,
    from_deltas,
    from_snapshots,
    from_a_store_that_lost_units,
    from_snapshots_and_the_log_behind_a_store_that_went_away,
    from_records_that_wait,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_all_of_a_run_are_remembered(way: Callable[[World], None], monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with()
    read(world)
    first = denied(world)
    turns(world, 200)
    world.behind = world.store.snapshot()  # type: ignore[attr-defined]  this file's own
    sent = [*first, *denied(world)]
    if way is from_records_that_wait:
        monkeypatch.setattr(Fetching, "catch_up", lambda self: None)
    way(world)
    for value in (sent[0], sent[RUN // 2], sent[RUN - 1], sent[RUN], sent[-2], sent[-1]):
        still_denied(world, value)
    monkeypatch.undo()
    assert read(world)["decision"] == "approve", "and others are judged"
    if way is from_snapshots:
        world.heal()
    else:
        recomputed(world)


def test_units_are_told_of_their_own_ids_and_stored_as_the_log_says() -> None:
    world = world_with()
    sent = [*denied(world), *denied(world), *denied(world)]
    recomputed(world)
    for value in sent:
        intent_id = orjson.loads(value)["intent_id"]
        known = owner(world).state.confirmed(ids_unit(intent_id))["id", orjson.loads(value)["agent_id"], intent_id]
        assert known.decision == "deny"


@pytest.mark.parametrize("fate", ["lost", "falsely failed", "delayed", "reported late"])
def test_whatever_becomes_of_a_runs_publish_each_of_it_is_denied_once(fate: str) -> None:
    """What is rolled back is forgotten with all of its ids, else they would be duplicates of what nobody ever said."""
    world = World(5, 1)
    world.heal()
    read(world)

    def strike(_member: Member, record: LogRecord) -> None:
        if b'"kind":"denials"' in (record.value or b"") and not world.happened[fate]:
            world.fates.append(fate)

    world.watch = strike
    sent = late(world)
    turns(world, 3_000)
    assert world.happened[fate] == 1
    world.heal()
    ids = [orjson.loads(value)["intent_id"] for value in sent]
    said = [b for report in check(world) for b in report.effective if b.get("intent_id", b.get("id")) in ids]
    assert [(b["kind"], b["reasons"][0]["code"], b["intent_id"]) for b in said] == [("verdict", Deny.LATE, i) for i in ids]
    still_denied(world, sent[3])


def test_one_that_is_denied_alone_and_one_that_is_denied_in_a_run_are_remembered_alike() -> None:
    world = world_with()
    alone, run = denied_alone(world), denied(world)
    crashed(world)
    for value in (alone, run[0]):
        still_denied(world, value)
    recomputed(world)


def denied_alone(world: World) -> bytes:
    sent = world.send(by=AGENT, agent_id=AGENT, deadline_ms=DEADLINE_MS)
    world.clock.advance(DEADLINE_MS + 20)
    found = answer(world, lambda body: body.get("intent_id") == orjson.loads(sent)["intent_id"])
    assert (found["kind"], found["reasons"][0]["code"]) == ("verdict", Deny.LATE)
    return sent
