"""What the Redis state store does when Redis loses data, lies dead or is silent. Its meaning: test_state_contract."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid

import pytest
import redis
from redis.crc import key_slot

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.redis import keys
from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.state import (
    CLEAR_SLICE_UNITS,
    CONNECT_TIMEOUT_MS,
    MOVE_UNITS_MAX,
    RECONNECT_INTERVAL_MS,
    TIMEOUT_MS,
    RedisStateStore,
)
from harness_stream.errors import ConfigError, InvalidInput, StateUnavailable
from harness_stream.ports import Move, StoredHead, StoredUnit

real = pytest.mark.real
R = Whose("r", "i1")


class HandClock:
    def __init__(self):
        self.ms = 1_000_000

    def now_ms(self):
        return self.ms

    def elapsed_ms(self):
        return self.ms


@pytest.fixture
def whose():
    return Whose(f"faults-{uuid.uuid4().hex}", "i1")


@pytest.fixture
def server(real_stack):
    with redis.Redis.from_url(real_stack.redis_url) as client:
        yield client


@pytest.fixture
def store(real_stack, whose):
    opened = RedisStateStore(real_stack.redis_url, whose, SystemClock(), timeout_ms=5_000)
    yield opened
    opened.close()


@real
def test_names_that_a_cursor_did_not_find_are_not_taken_for_all(store, monkeypatch):
    """A failover between two steps of a scan: to the other server the cursor means something else."""
    assert store.move(Move(3, None, StoredHead(7, 1, b"{}"), {"a:1": b"x", "a:2": b"y"}, {})) is None
    assert store.units(3) == {"a:1", "a:2"}
    monkeypatch.setattr("harness_stream.adapters.redis.state._members", lambda *_: iter([b"a:1"]))
    with pytest.raises(StateUnavailable, match="names of units changed while they were read"):
        store.units(3)


@contextlib.contextmanager
def listener():
    """A port that accepts connections and never answers."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    accepted.append(peer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0", accepted
        server.shutdown(socket.SHUT_RDWR)
    for peer in accepted:
        peer.close()


def free_url():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def move(expect, offset, bases=None, deltas=None):
    expected = None if expect is None else StoredHead(expect, 1, b"h")
    return Move(0, expected, StoredHead(offset, 1, b"h"), bases or {}, deltas or {})


@pytest.mark.parametrize("realm", ["default", "}", "{", "a}b{c", "a/1", ""])
def test_all_keys_of_a_partition_are_in_one_slot_and_no_realm_meets_another(realm):
    whose = Whose(realm, "i1")
    own = [keys.head(whose, 3), keys.units(whose, 3), keys.unit(whose, 3, "agent:{x}"), keys.unit(whose, 3, "}")]
    assert len({key_slot(key) for key in own}) == 1
    others = [Whose(realm + "/3", "i1"), Whose("other", "i1"), Whose(realm, "i2"), Whose(realm, ""), Whose(realm, "i1/3")]
    assert not set(own) & {key for other in others for key in (keys.head(other, 3), keys.units(other, 3))}


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.head(0),
        lambda s: s.units(0),
        lambda s: s.load(0, ["a"]),
        lambda s: s.move(move(None, 0)),
        lambda s: s.clear(0, None),
    ],
    ids=["head", "units", "load", "move", "clear"],
)
def test_a_dead_redis_is_state_unavailable_with_a_hint(call):
    with pytest.raises(StateUnavailable) as caught:
        call(RedisStateStore(free_url(), R, HandClock()))
    assert "redis_url" in caught.value.hint


def test_a_malformed_url_is_the_operators_mistake():
    with pytest.raises(ConfigError, match="redis_url"):
        RedisStateStore("localhost:6379", R, HandClock())


def test_a_silent_redis_costs_one_time_limit():
    with listener() as (url, _):
        store = RedisStateStore(url, R, HandClock())
        began = time.monotonic()
        with pytest.raises(StateUnavailable):
            store.head(0)
        took_ms = (time.monotonic() - began) * 1000
    assert TIMEOUT_MS <= took_ms < TIMEOUT_MS + CONNECT_TIMEOUT_MS + 200  # 200: a busy test machine


def test_after_a_failure_nobody_connects_again_before_the_interval_is_over():
    clock = HandClock()
    with listener() as (url, accepted):
        store = RedisStateStore(url, R, clock)

        def fails():
            with pytest.raises(StateUnavailable):
                store.head(0)
            return len(accepted)

        assert fails() == 1
        clock.ms += RECONNECT_INTERVAL_MS - 1
        assert [fails() for _ in range(100)] == [1] * 100
        clock.ms += 1
        assert fails() == 2
        assert fails() == 2


@real
def test_it_comes_back_by_itself(real_stack, whose):
    clock = HandClock()
    store = RedisStateStore(real_stack.redis_url, whose, clock, timeout_ms=5_000)
    store.move(move(None, 1))
    with redis.Redis.from_url(real_stack.redis_url) as admin:
        admin.client_kill_filter(_type="normal", skipme=True)
    for _ in range(3):  # a killed connection may show itself at the first or only at the second use
        with contextlib.suppress(StateUnavailable):
            assert store.head(0) == StoredHead(1, 1, b"h")
        clock.ms += RECONNECT_INTERVAL_MS
    assert store.head(0) == StoredHead(1, 1, b"h")
    store.close()


@real
def test_a_server_that_forgot_the_scripts_gets_them_again(store, server):
    store.move(move(None, 0, {"a": b"A"}))
    server.script_flush()
    assert store.move(move(0, 1, deltas={"a": [b"1"]})) is None
    assert store.load(0, ["a"]) == {"a": StoredUnit(b"A", (b"1",))}


@real
def test_what_was_kept_of_topics_that_were_recreated_is_not_seen_however_far_it_stands(store, whose, real_stack):
    """Found by `tests.faults`, seed 15: a dump of a realm that was gone had heads ahead of its successor's."""
    before = RedisStateStore(real_stack.redis_url, whose._replace(incarnation="i0"), SystemClock(), timeout_ms=5_000)
    before.move(move(None, 500, {"a": b"of another log"}))
    assert (store.head(0), store.units(0)) == (None, frozenset())
    assert store.move(move(None, 3, {"a": b"A"})) is None
    assert store.move(move(3, 500, deltas={"a": [b"1"]})) is None
    assert store.load(0, ["a"]) == {"a": StoredUnit(b"A", (b"1",))}
    assert before.load(0, ["a"]) == {"a": StoredUnit(b"of another log")}
    before.close()


@real
def test_an_evicted_unit_is_listed_and_lost_and_deltas_do_not_hide_that(store, server, whose):
    store.move(move(None, 0, {"a": b"A", "b": b"B"}))
    server.delete(keys.unit(whose, 0, "a"))
    assert store.units(0) == {"a", "b"}
    assert store.load(0, ["a", "b"]) == {"a": None, "b": StoredUnit(b"B")}
    store.move(move(0, 1, deltas={"a": [b"1"]}))
    assert store.load(0, ["a"]) == {"a": StoredUnit(None, (b"1",))}


@real
@pytest.mark.parametrize("lost", [["a"], ["a", "b"]])
def test_evicted_names_make_the_partition_empty_though_its_head_and_all_content_stayed(store, server, whose, lost):
    """Whoever began from the names that are left would have forgotten what the others hold."""
    store.move(move(None, 0, {"a": b"A", "b": b"B"}, {"a": [b"1"]}))
    server.srem(keys.units(whose, 0), *lost)
    assert (store.head(0), store.units(0)) == (None, frozenset())
    assert store.move(move(0, 1, deltas={"a": [b"2"]})) == StoredHead(-1, 0, b"")
    assert store.clear(0, None)
    assert store.move(move(None, 1, {"a": b"A2"})) is None
    assert store.load(0, ["a", "b"]) == {"a": StoredUnit(b"A2"), "b": None}


def moved_at_last(store, move):
    """Where many units are left of an older state, a busy server does not clear them within one call."""
    for _ in range(100):
        with contextlib.suppress(StateUnavailable):
            return store.move(move)
    raise AssertionError("units of an older state do not come to an end")


@real
def test_without_its_head_a_partition_is_empty_and_the_next_first_step_clears_what_is_left(store, server, whose):
    names = [f"u{i}" for i in range(2 * CLEAR_SLICE_UNITS + 1)]
    store.move(move(None, 5, dict.fromkeys(names, b"old")))
    server.delete(keys.head(whose, 0))
    assert (store.head(0), store.units(0), store.load(0, ["u1"])) == (None, frozenset(), {"u1": None})
    assert moved_at_last(store, move(None, 2, {"u1": b"new"}, {"u2": [b"1"]})) is None
    assert store.units(0) == {"u1", "u2"}
    assert store.load(0, ["u1", "u2"]) == {"u1": StoredUnit(b"new"), "u2": StoredUnit(None, (b"1",))}
    assert sorted(server.keys(f"hs:{{{whose.realm}/i1/0}}:u:*")) == [keys.unit(whose, 0, "u1"), keys.unit(whose, 0, "u2")]


@real
def test_a_step_that_fails_half_way_leaves_no_head_so_nobody_reads_the_torn_state(store, server, whose):
    store.move(move(None, 0, {"a": b"A", "b": b"B"}))
    server.delete(keys.unit(whose, 0, "b"))
    server.set(keys.unit(whose, 0, "b"), "a foreign type")
    with pytest.raises(StateUnavailable, match="WRONGTYPE"):
        store.move(move(0, 1, deltas={"a": [b"1"], "b": [b"1"]}))
    time.sleep(RECONNECT_INTERVAL_MS / 1000)
    assert (store.head(0), store.load(0, ["a"])) == (None, {"a": None})
    assert store.move(move(None, 1, {"a": b"A1"})) is None


@real
def test_a_clear_that_was_overtaken_leaves_the_new_state_alone(store):
    store.move(move(None, 0, {"a": b"A"}))
    assert store._forget_slice(0, None, first=0) == 0  # the second slice of a clear that another one overtook
    assert store.load(0, ["a"]) == {"a": StoredUnit(b"A")}


@real
def test_the_largest_move_is_taken_and_a_larger_one_refused_whole(store):
    names = [str(i) for i in range(MOVE_UNITS_MAX)]
    assert store.move(move(None, 0, dict.fromkeys(names, b"x"))) is None
    with pytest.raises(InvalidInput, match="at most"):
        store.move(move(0, 1, dict.fromkeys([*names, "more"], b"x")))
    assert store.head(0) == StoredHead(0, 1, b"h")
