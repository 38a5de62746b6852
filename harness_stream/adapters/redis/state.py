"""The state store on Redis or Valkey: one round trip a call, bounded waits, never the truth (PROTOCOL §6).

Rule of this file: nothing is retried behind the caller's back, because the caller's loop has 20 ms. After a failure
the store answers `StateUnavailable` at once until it may try to connect again. A failed `move` may have been applied.
"""

from __future__ import annotations

import hashlib
import logging
import traceback
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection
from redis.exceptions import NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from harness_stream.access import RedisAccess, redis_at
from harness_stream.adapters.redis import keys
from harness_stream.adapters.redis.refused import refusal
from harness_stream.alarms import Alarm, sound
from harness_stream.core import limits
from harness_stream.errors import ConfigError, InvalidInput, StateUnavailable
from harness_stream.ports import Clock, Move, StoredHead, StoredUnit

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from harness_stream.adapters.redis.keys import Whose

T = TypeVar("T")
log = logging.getLogger(__name__)

# The bound of PROTOCOL §6 on every wait for an answer.
TIMEOUT_MS: Final = limits.COLD_FETCH_MS_MAX
# A connection is made inside the worker's loop too, so it has the same bound; a TCP handshake on one site takes 1 ms.
CONNECT_TIMEOUT_MS: Final = limits.LOOP_WAIT_MS_MAX
# A Redis that swallows packets then costs the loop at most 20 ms in 250 (8 %), one that refuses them nothing.
RECONNECT_INTERVAL_MS: Final = 250
# A worker asks again four times a second; a log needs it once in a while.
ALARM_INTERVAL_MS: Final = 60_000
# Four for each record of a full micro-batch (lane, agent, chain, delegation). Measured: 4 to 10 µs of the server's time
# a unit, so 10 ms at most; more could not be answered within the time limit either.
MOVE_UNITS_MAX: Final = 4 * limits.IN_FLIGHT_RECORDS_MAX
# Units forgotten by one slice of a clear: measured at 1 to 2 ms, and beside others up to 9.
CLEAR_SLICE_UNITS: Final = 500
# What is not forgotten by then, the next call goes on with: nothing in the loop waits longer.
CLEAR_MS_MAX: Final = limits.LOOP_WAIT_MS_MAX / 2
# Names listed by one SSCAN step: about 1 ms of the server's time.
SCAN_NAMES: Final = 2_000
# A server whose cursor never comes to its end is left after so many steps: 20 M names if each brings what it was asked.
SCAN_STEPS_MAX: Final = 10_000

_APPLIED: Final = 1
_LEFTOVERS: Final = 2
_HINT: Final = "check that Redis runs at the configured `redis_url` and can be reached"


class _Script:
    """A Lua file of this package, run by its digest and sent whole only where the server does not know it."""

    def __init__(self, name: str) -> None:
        source = files("harness_stream.adapters.redis").joinpath("scripts", name)
        self._text = source.read_text(encoding="utf-8")
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: redis.Redis, key_names: Sequence[bytes], args: Sequence[Any]) -> Any:  # noqa: ANN401  an answer has the script's own shape
        try:
            return client.evalsha(self._sha, len(key_names), *key_names, *args)
        except NoScriptError:
            return client.eval(self._text, len(key_names), *key_names, *args)


class RedisStateStore:
    """A `StateStore` on one Redis or Valkey server.

    Args:
        where: the way in, or a URL alone. Name an address or a cached host: a DNS look-up has no time limit.
        whose: partitions of which realm and incarnation; no others are seen.
        clock: only its `elapsed_ms` is read.
        timeout_ms: longest silence of the server within a call; commands for people may wait longer than workers.

    Raises:
        ConfigError: the URL is malformed. An unreachable server is no error here.
    """

    def __init__(self, where: RedisAccess | str, whose: Whose, clock: Clock, *, timeout_ms: int = TIMEOUT_MS) -> None:
        self._whose = whose
        self._clock = clock
        self._access = redis_at(where)
        self._client = client_of(self._access, timeout_ms)
        self._refused_ms: int | None = None  # when a refusal was last told, by error or alarm
        self._head = _Script("head.lua")
        self._load = _Script("load.lua")
        self._move = _Script("move.lua")
        self._clear = _Script("clear.lua")
        self._closed_until_ms: int | None = None

    def head(self, partition: int) -> StoredHead | None:
        """Where the stored state of the partition stands; None if there is none."""
        return self._ask(lambda r: _head(self._head.run(r, self._partition_keys(partition), ())))

    def units(self, partition: int) -> frozenset[str]:
        """Names of all stored units, those whose content was lost included. Several round trips, for many units."""
        if self.head(partition) is None:
            return frozenset()
        key = keys.units(self._whose, partition)
        names, count = self._ask(lambda r: (frozenset(name.decode() for name in _members(r, key)), r.scard(key)))
        if len(names) != count:  # a cursor means nothing to another server, to which a failover may have led meanwhile
            raise StateUnavailable("names of units changed while they were read", hint="try again")
        return names

    def load(self, partition: int, names: Sequence[str]) -> dict[str, StoredUnit | None]:
        """The named units as of one head, in one round trip; None for one that is unknown or lost; see the port.

        Raises:
            InvalidInput: more than 64 names.
            StateUnavailable: no answer in time.
        """
        if len(names) > limits.COLD_FETCH_UNITS_MAX:
            raise InvalidInput(f"{len(names)} units in one load; at most {limits.COLD_FETCH_UNITS_MAX}")
        if not names:
            return {}
        key_names = [*self._partition_keys(partition), *(keys.unit(self._whose, partition, name) for name in names)]
        args = (limits.COLD_FETCH_BYTES_MAX, *(name.encode() for name in names))
        return self._ask(
            lambda r: {
                name: _unit(found or ())
                for name, found in zip(names, self._load.run(r, key_names, args), strict=False)
            }
        )

    def move(self, move: Move) -> StoredHead | None:
        """Apply `move` atomically iff the store stands at `expect` and the step goes forward; see the port.

        Raises:
            InvalidInput: more units than `MOVE_UNITS_MAX`.
            StateUnavailable: no answer in time; the step may have been taken.
        """
        names = list(dict.fromkeys([*move.bases, *move.deltas]))
        if len(names) > MOVE_UNITS_MAX:
            raise InvalidInput(f"{len(names)} units in one move; at most {MOVE_UNITS_MAX}")
        key_names = [*self._partition_keys(move.partition)]
        key_names += [keys.unit(self._whose, move.partition, name) for name in names]
        state, stands = self._ask(lambda r: _moved(self._move.run(r, key_names, _move_args(move, names))))
        if state == _LEFTOVERS and self.clear(move.partition, None):
            state, stands = self._ask(lambda r: _moved(self._move.run(r, key_names, _move_args(move, names))))
        if state == _LEFTOVERS:
            raise StateUnavailable("units of an older state are still being cleared", hint="try again")
        return stands

    def clear(self, partition: int, expect: StoredHead | None) -> bool:
        """Forget everything of the partition: its head at once, its units in slices; see the port."""
        until_ms = self._clock.elapsed_ms() + CLEAR_MS_MAX
        left = self._forget_slice(partition, expect, first=1)
        while left > 0 and self._clock.elapsed_ms() < until_ms:
            left = self._forget_slice(partition, expect, first=0)
        return left == 0

    def close(self) -> None:
        """Free connections."""
        self._client.close()

    def _forget_slice(self, partition: int, expect: StoredHead | None, first: int) -> int:
        args = (first, CLEAR_SLICE_UNITS, keys.unit_prefix(self._whose, partition), *_fields(expect))
        return self._ask(lambda r: int(self._clear.run(r, self._partition_keys(partition), args)))

    def _partition_keys(self, partition: int) -> tuple[bytes, bytes]:
        return keys.head(self._whose, partition), keys.units(self._whose, partition)

    def _ask(self, question: Callable[[redis.Redis], T]) -> T:
        """Ask once, and read the answer. After a failure nobody asks again for `RECONNECT_INTERVAL_MS`."""
        if self._closed_until_ms is not None and self._clock.elapsed_ms() < self._closed_until_ms:
            raise StateUnavailable("Redis did not answer a moment ago", hint=_HINT)
        try:
            answer = question(self._client)
        except (RedisError, OSError) as error:
            failure = self._failed(error)
            _let_go(error)
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            what = f"Redis answers what is none of ours: {error!r:.200}"
            failure = StateUnavailable(what, hint="does anything else write under these keys, or is it no Redis?")
            _let_go(error)
        else:
            self._closed_until_ms = None
            return answer
        self._closed_until_ms = self._clock.elapsed_ms() + RECONNECT_INTERVAL_MS
        try:
            raise failure
        finally:
            del failure  # it refers to this very frame

    def _failed(self, error: Exception) -> StateUnavailable:
        """A command is told by the error and ends; whoever asks again after a refusal runs on, so it is an alarm."""
        refused, now_ms = refusal(self._access, error), self._clock.elapsed_ms()
        if refused is None:
            return StateUnavailable(f"Redis does not answer: {error}", hint=_HINT)
        if self._refused_ms is None:
            self._refused_ms = now_ms - ALARM_INTERVAL_MS
        elif now_ms - self._refused_ms >= ALARM_INTERVAL_MS:
            self._refused_ms = now_ms
            sound(log, Alarm.ACCESS_REFUSED, f"{refused.message}; {refused.hint}")
        return refused


def _let_go(error: BaseException | None) -> None:
    """Of the library's frames: they refer to themselves, and through their callers to all that a worker's turn holds.

    A worker has no time to look for such loops while it has a backlog (`runtime.collector`).
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


class _Tls(SSLConnection):
    """A connection whose certificates were loaded once.

    The library's own loads them at every connection, which takes 5 to 100 ms of the worker's loop, and believes all of
    the system's CAs besides the one that it is given.
    """

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:  # noqa: ANN401  the library's
        super().__init__(**options)
        self._context = context

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._context.wrap_socket(sock, server_hostname=self.host)


def client_of(access: RedisAccess, timeout_ms: int) -> redis.Redis:
    """A client whose calls wait at most `timeout_ms` for an answer, and are not tried again by the library.

    Every option that decides how long a call may take is written out: the library's defaults retry and wait.

    Raises:
        ConfigError: the URL is malformed.
    """
    who = {"username": access.user or None, "password": access.password.reveal()} if access.password else {}
    try:
        client = redis.Redis.from_url(
            access.url,
            **who,
            socket_timeout=timeout_ms / 1000,
            socket_connect_timeout=CONNECT_TIMEOUT_MS / 1000,
            retry=Retry(NoBackoff(), 0),
            retry_on_timeout=False,
            health_check_interval=0,
            # Fewer questions while connecting: no HELLO, no CLIENT SETINFO, no maintenance hand-shake.
            protocol=2,
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    except ValueError:  # its text may quote a part of a password
        raise ConfigError("`redis_url` is malformed", hint="e.g. `redis://127.0.0.1:6379/0`") from None
    if access.encrypted:
        client.connection_pool.connection_class = _Tls
        client.connection_pool.connection_kwargs["context"] = access.tls.context()
    return client


def _members(client: redis.Redis, key: bytes) -> Iterator[bytes]:
    """Of a set, in bounded steps; raises ValueError if they do not end."""
    cursor = 0
    for _ in range(SCAN_STEPS_MAX):
        found: Any = client.sscan(key, cursor, count=SCAN_NAMES)
        cursor, names = found
        yield from names
        if cursor == 0:
            return
    raise ValueError("the names of units never end")


def _head(stored: Sequence[Any]) -> StoredHead | None:
    if not stored:
        return None
    offset, epoch, header = stored
    return StoredHead(int(offset), int(epoch), bytes(header))


def _moved(answer: Sequence[Any]) -> tuple[int, StoredHead | None]:
    """What became of a step, and where the store stands if it was not taken."""
    if answer[0] in {_APPLIED, _LEFTOVERS}:
        return answer[0], None
    return answer[0], StoredHead(int(answer[1]), int(answer[2]), bytes(answer[3]))


def _move_args(move: Move, names: Sequence[str]) -> list[bytes | int | str]:
    args = [*_fields(move.expect), *_fields(move.head)]
    for name in names:
        base, deltas = move.bases.get(name), move.deltas.get(name, ())
        args += [name.encode(), 0] if base is None else [name.encode(), 1, base]
        args += [len(deltas), *deltas]
    return args


def _fields(head: StoredHead | None) -> list[bytes | int | str]:
    return ["", "", ""] if head is None else [head.verdict_offset, head.epoch, head.header]


def _unit(elements: Sequence[bytes]) -> StoredUnit | None:
    if not elements:
        return None
    first, *deltas = elements
    base = first[len(keys.MARK_BASE) :] if first.startswith(keys.MARK_BASE) else None
    return StoredUnit(base, tuple(deltas))
