"""The enforcement point: publishes, waits for what counts, and lets nothing else through (PROTOCOL §7, §8).

Rule of this file: one thread owns reader and writer, everybody else only puts requests into its inbox. A verdict is
obeyed only if it is effective, names this very intent (id, digest, arguments, nonce) and was read before the deadline.
Whatever else happens ends in an error, at the latest ANSWER_GRACE_MS after the deadline.
"""

from __future__ import annotations

import heapq
import os
import secrets
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from harness_stream.client.answer import Answer, Reason, Terms, hint_of, readable
from harness_stream.client.following import Following, Phase
from harness_stream.client.forks import Forks
from harness_stream.client.head import Effective, SkippedRange, answers_of, named_by, skipped_by
from harness_stream.client.misuse import unpublished, watch
from harness_stream.client.pace import IDLE_PAUSE_S, WAITING_PAUSE_S, Pace
from harness_stream.client.request import Request, Waiting
from harness_stream.client.running import Running
from harness_stream.client.silence import no_answer, not_confirmed, not_published
from harness_stream.core import limits
from harness_stream.core.lanes import partition_of
from harness_stream.core.reasons import Client, Deny, Reject
from harness_stream.errors import CallerError, Denied, HarnessError, Held, Overloaded, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.client.wiring import Wiring
    from harness_stream.ports import Delivery, Ends

# Ten times the concurrency one agent process was asked for; at 64 KiB each they would still fit into memory (640 MiB).
WAITING_MAX: Final = 10_000
# Answered requests leave their end behind until it has passed; beyond this they are swept out.
ENDS_MAX: Final = 4 * WAITING_MAX
# One turn: 1,000 records fold in about 20 ms, well within ANSWER_GRACE_MS.
POLL_RECORDS_MAX: Final = 1_000
# An intent is fresh for this long; nearly all verdicts arrive within it.
FRESH_MS: Final = 200
# What was handed over shall land when a program ends, but its end must not take longer than a worker's clean stop.
CLOSE_MS_MAX: Final = limits.DRAIN_MS_MAX
_JOIN_S_MAX: Final = 2 * CLOSE_MS_MAX / 1_000


class Enforcer:
    """Publishes requests and resolves their futures. Every public method but `step` may be called from any thread.

    Args:
        wiring: the realm, and ports that belong to this enforcer from now on.
        abandon: makes the outcome `abandoned` of an approval that nobody waited for any more; None: none is reported.
        bypass: makes the report of an approval, by its digest, that a forked process tried to use; None: none is made.

    Attributes:
        nonce: names this process in its intents.
    """

    def __init__(
        self,
        wiring: Wiring,
        abandon: Callable[[Request, Answer], Request] | None = None,
        bypass: Callable[[str], Request] | None = None,
    ) -> None:
        self.nonce = secrets.token_hex(limits.NONCE_DIGITS // 2)
        self._wiring, self._clock = wiring, wiring.clock
        self._abandon, self._bypass = abandon, bypass
        self._forks: Forks | None = None
        self._inbox: deque[Waiting | int] = deque()
        self._following: dict[int, Following] = {}
        self._opening: dict[int, list[Future[None]]] = {}
        self._queued: dict[int, deque[Waiting]] = {}
        self._waiting: dict[str, Waiting] = {}
        self._by_token: dict[int, Waiting] = {}
        self._by_offset: dict[tuple[int, int], Waiting] = {}
        self._ends: list[tuple[int, int, str]] = []
        self._running = Running()
        self._pace = Pace()
        self._tokens = 0
        self._fresh_until_ms = -1
        self._taken = 0  # requests accepted and not yet answered, by `submit` and the thread
        self._lock = threading.Lock()
        self._process_id = os.getpid()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    # --- callers' side ---

    def start(self) -> None:
        """Run in the background until `close`."""
        self._forks = Forks()
        self._thread = threading.Thread(target=self._run, name="harness-enforcer", daemon=True)
        self._thread.start()

    def open(self, lane: str) -> Future[None]:
        """Find the end of the lane's partition; done when intents can be published at once."""
        partition, future = partition_of(lane, self._wiring.realm.partitions), Future[None]()
        self.require_own_process()
        with self._lock:
            self._opening.setdefault(partition, []).append(future)
        self._put(partition)
        return future

    def submit(self, request: Request, *, reserved: bool = False) -> Future[Any]:
        """Publish and wait.

        Args:
            request: what.
            reserved: there is room for it, however many wait.

        Returns:
            For an intent the `Answer` that approves; for others None. Its errors: Denied, Held, TimedOut, Unreachable.

        Raises:
            Overloaded: WAITING_MAX requests wait already.
            CallerError: this enforcer belongs to another process.
        """
        self.require_own_process()
        with self._lock:
            if self._taken >= WAITING_MAX and not reserved:
                raise Overloaded(
                    f"{WAITING_MAX:,} requests of this process already wait for their answer; nothing was published",
                    hint="ask for fewer at once, or look why no answers come: `harness status`",
                )
            self._taken += 1
        partition = partition_of(request.lane, self._wiring.realm.partitions)
        waiting = Waiting(request, partition, self._clock.elapsed_ms() + request.deadline_ms)
        self._put(waiting)
        return waiting.future

    def tell_parent(self, digest: str) -> bool:
        """In a forked process: have the one that asked report that an approval was misused. False: it is not told."""
        return self._forks is not None and self._forks.tell(digest)

    def close(self) -> None:
        """Publish what is queued, end every wait with Unreachable, free the ports. Waits up to 2 s.

        What still runs on an approval is taken back: nobody could stop it any more.
        """
        if os.getpid() != self._process_id:
            return
        with self._lock:
            self._stopping = True
        self._wake.set()
        if self._thread is None:
            self._end(None)
        elif self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S_MAX)

    def require_own_process(self) -> None:
        """Asked before any lock: a thread of the parent may have held it when this process was forked."""
        if os.getpid() != self._process_id:
            raise CallerError("this connection belongs to another process", hint="connect anew after a fork")

    def _put(self, item: Waiting | int) -> None:
        with self._lock:
            if not self._stopping:
                self._inbox.append(item)
                self._wake.set()
                return
        raise Unreachable("this harness was closed; nothing was published", hint=Reason(Client.CLOSED).hint)

    # --- the thread's side ---

    def step(self) -> float:
        """Do everything that can be done now.

        Returns:
            Seconds to sleep unless a request comes.
        """
        self._hear_forks()
        self._take_inbox()
        for ends in self._wiring.reader.ends():
            self._bounds(ends)
        taken = self._read()
        now_ms = self._clock.elapsed_ms()
        for following in self._following.values():
            following.step(now_ms)
            if following.phase is Phase.BROKEN:
                self._running.unheard(following.partition)
            if self._opening:
                self._opened(following)
        self._publish()
        for delivery in self._wiring.writer.deliveries():
            self._delivered(delivery)
        self._expire()
        return 0.0 if taken >= POLL_RECORDS_MAX else self._pause_s()

    def _bounds(self, ends: Ends) -> None:
        if ends.topic == self._wiring.realm.topics.rules:
            for each in self._following.values():
                each.rules_pushed = ends.end > 0
            return
        following = self._following.get(ends.partition)
        if following is not None:
            following.bounds(ends)

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            while not self._stopping:
                self._wake.wait(self.step())
                self._wake.clear()
        except Exception as error:  # noqa: BLE001  whatever it was, nobody may wait for ever
            failure = error
        self._end(failure)

    def _end(self, failure: BaseException | None) -> None:
        with self._lock:
            self._stopping = True
        self._running.unheard()
        if failure is None:
            self.step()
            self._wiring.writer.flush(CLOSE_MS_MAX)
        self._take_inbox()
        reason = Reason(Client.CLOSED, None if failure is None else repr(failure))
        for waiting in [*self._waiting.values()]:
            self._fail(waiting, _closed(reason))
        for futures in self._opening.values():
            for future in futures:
                _settle(future, _closed(reason))
        self._wiring.reader.close()
        self._wiring.writer.close()
        if self._forks is not None:
            self._forks.close()

    def _take_inbox(self) -> None:
        while self._inbox:
            item = self._inbox.popleft()
            partition = item if isinstance(item, int) else item.partition
            if partition not in self._following:
                self._following[partition] = Following(partition, self._wiring)
                self._fresh_until_ms = self._clock.elapsed_ms() + FRESH_MS
            if isinstance(item, Waiting):
                self._waiting[item.request.id] = item
                self._queued.setdefault(partition, deque()).append(item)
                self._wait_until(item, item.ends_ms)

    def _opened(self, following: Following) -> None:
        if following.phase not in {Phase.READY, Phase.BROKEN}:
            return
        with self._lock:
            futures = self._opening.pop(following.partition, [])
        for future in futures:
            _settle(future, None if following.ready else not_published("what was asked for", following))

    # --- publishing ---

    def _publish(self) -> None:
        for partition, queue in self._queued.items():
            following = self._following[partition]
            while queue and following.phase is Phase.BROKEN:
                waiting = queue.popleft()
                if waiting.request.id in self._waiting:  # else its deadline has passed in the queue
                    self._fail(waiting, not_published(waiting.request.subject, following))
            while queue and following.ready:
                if queue[0].request.id in self._waiting and not self._append(queue[0]):
                    return
                queue.popleft()

    def _append(self, waiting: Waiting) -> bool:
        """Hand it to the log; False if its queue is full."""
        request, topic = waiting.request, self._wiring.realm.topics.intents
        if waiting.future.cancelled():
            self._forget(waiting)
            return True
        self._tokens += 1
        seal = request.seal
        if seal is None:
            said = (topic, request.lane, request.value, request.kind, request.speaker)
            seal = self._wiring.signer.seal_input(*said, nonrepudiable=request.nonrepudiable)
        headers = [*request.headers, *seal]
        key, now_ms = request.lane.encode(), self._clock.elapsed_ms()
        try:
            self._wiring.writer.append(topic, waiting.partition, key, request.value, headers, token=self._tokens)
        except BufferError:
            return False
        self._by_token[self._tokens] = waiting
        waiting.published_ms, waiting.heard_to = now_ms, self._following[waiting.partition].heard_to
        self._fresh_until_ms = now_ms + FRESH_MS
        self._wait_until(waiting, now_ms + request.deadline_ms)
        return True

    def _delivered(self, delivery: Delivery) -> None:
        waiting = self._by_token.pop(delivery.token, None)
        if waiting is None or waiting.request.id not in self._waiting:
            return
        if delivery.offset is None:
            self._fail(waiting, not_confirmed(waiting, delivery.error))
            return
        waiting.offset = delivery.offset
        self._by_offset[waiting.partition, delivery.offset] = waiting
        why = self._following[waiting.partition].skipped(delivery.offset)
        if why is not None:
            self._deny(waiting, Reason(*why), "was skipped")

    # --- answers ---

    def _read(self) -> int:
        records = self._wiring.reader.poll(POLL_RECORDS_MAX)
        read_ms = self._clock.elapsed_ms()
        for record in records:
            following = self._following.get(record.partition)
            effective = None if following is None else following.take(record)
            if effective is not None:
                self._running.heard(record.partition, effective)
                for answer in answers_of(effective, self._waiting):
                    self._answered(record.partition, answer, read_ms)
        return len(records)

    def _answered(self, partition: int, effective: Effective, read_ms: int) -> None:
        skipped = skipped_by(effective)
        if skipped is not None:
            self._skip(partition, skipped)
            return
        named = named_by(effective)
        waiting = None if named is None else self._waiting.get(named.id)
        if named is None or waiting is None or waiting.published_ms is None or waiting.partition != partition:
            return
        if named.digest != waiting.digest or read_ms >= waiting.ends_ms:
            waiting.foreign |= effective.kind == "verdict" and named.digest != waiting.digest
        elif effective.kind == "verdict":
            self._verdict(waiting, effective, read_ms)
        elif effective.kind == "reject":
            self._rejected(waiting, effective)
        else:
            self._acked(waiting, effective)

    def _verdict(self, waiting: Waiting, effective: Effective, read_ms: int) -> None:
        body, request = effective.body, waiting.request
        ours = {
            "agent_id": request.agent_id,
            "arguments_digest": request.arguments_digest,
            "enforcer_nonce": self.nonce,
        }
        if any(body.get(name) != value for name, value in ours.items()) or not readable(body):
            waiting.foreign = True
            return
        if waiting.hold is None and waiting.published_ms is not None:
            self._pace.answered(read_ms - waiting.published_ms)
        answer = Answer(body, effective.digest, effective.offset, effective.record)
        if answer.decision == "approve":
            self._approved(waiting, answer, read_ms)
        elif answer.decision == "deny":
            message = f"{request.subject} was denied: {_why(answer.reasons)}"
            self._fail(waiting, Denied(message, hint=hint_of(answer.reasons), reasons=answer.reasons, verdict=answer))
        elif waiting.hold is None:
            self._held(waiting, answer)

    def _approved(self, waiting: Waiting, answer: Answer, read_ms: int) -> None:
        request = waiting.request
        unknown = sorted(name for name in answer.obligations if name not in request.handlers)
        if unknown:
            reason = Reason(Client.OBLIGATION, ", ".join(unknown))
            message = f"{request.subject} was approved with an obligation that nobody here fulfils: {reason.detail}"
            self._report_abandoned(request, answer)
            self._fail(waiting, Denied(message, hint=reason.hint, reasons=(reason,), verdict=answer))
            return
        ends_ms = min(waiting.ends_ms, read_ms + answer.valid_for_ms)
        answer.grant(Terms(self._clock, ends_ms), request.handlers)
        self._running.add(waiting.partition, answer, _mandates_end_ms(waiting, answer, read_ms))
        self._forget(waiting)
        if not _settle(waiting.future, answer):
            self._report_abandoned(request, answer)

    def _held(self, waiting: Waiting, answer: Answer) -> None:
        """`hold_until` replaces the deadline; from our publish it never ends later than on the broker's clock."""
        if not waiting.request.wait_for_hold:
            reasons = answer.reasons
            message = f"{waiting.request.subject} is held for a person's answer: {_why(reasons)}"
            hint = Reason(Client.HOLD).hint
            self._fail(waiting, Held(message, hint=hint, reasons=reasons, verdict=answer))
            return
        waiting.hold = answer
        self._wait_until(waiting, (waiting.published_ms or 0) + max((answer.hold_until or 0) - answer.t, 0))

    def _rejected(self, waiting: Waiting, effective: Effective) -> None:
        reason, detail = effective.body.get("reason"), effective.body.get("detail")
        if reason == Reject.DUPLICATE and waiting.hold is not None:
            return  # a copy of our record, by whomever; the hold stands
        self._deny(waiting, Reason(str(reason), detail if isinstance(detail, str) else None), "was rejected")

    def _acked(self, waiting: Waiting, effective: Effective) -> None:
        if effective.body.get("status") == "accepted":
            self._forget(waiting)
            _settle(waiting.future, None)
        else:
            self._deny(waiting, Reason(str(effective.body.get("reason"))), "was refused")

    def _skip(self, partition: int, skipped: SkippedRange) -> None:
        """Look through the smaller of both: the skipped offsets, or what waits."""
        if skipped.last - skipped.first < len(self._by_offset):
            found = [self._by_offset.get((partition, o)) for o in range(skipped.first, skipped.last + 1)]
        else:
            found = [w for (p, _), w in self._by_offset.items() if p == partition]
        for waiting in found:
            why = None if waiting is None or waiting.offset is None else skipped.reason_of(waiting.offset)
            if waiting is not None and why is not None:
                self._deny(waiting, Reason(*why), "was skipped")

    # --- the ends of waits ---

    def _expire(self) -> None:
        now_ms = self._clock.elapsed_ms()
        self._running.expire(now_ms)
        while self._ends and self._ends[0][0] <= now_ms:
            _, _, own_id = heapq.heappop(self._ends)
            waiting = self._waiting.get(own_id)
            if waiting is not None and waiting.ends_ms <= now_ms:
                self._fail(waiting, self._silence(waiting))

    def _silence(self, waiting: Waiting) -> HarnessError:
        following, request = self._following[waiting.partition], waiting.request
        if waiting.hold is not None:
            reason = Reason(Deny.HOLD_EXPIRED)
            message = f"{request.subject} was held, and nobody answered in time"
            return Denied(message, hint=reason.hint, reasons=(reason,), verdict=waiting.hold)
        if waiting.published_ms is None:
            return not_published(request.subject, following)
        if waiting.offset is None:
            return not_confirmed(waiting, None)
        return no_answer(waiting, following, self._clock.now_ms())

    def _deny(self, waiting: Waiting, reason: Reason, what: str) -> None:
        message = f"{waiting.request.subject} {what}: {reason}"
        self._fail(waiting, Denied(message, hint=reason.hint, reasons=(reason,)))

    def _fail(self, waiting: Waiting, error: HarnessError) -> None:
        self._forget(waiting)
        if waiting.request.kind == "intent":
            error.intent_id = waiting.request.id
        _settle(waiting.future, error)

    def _forget(self, waiting: Waiting) -> None:
        if self._waiting.pop(waiting.request.id, None) is None:
            return
        if waiting.offset is not None:
            self._by_offset.pop((waiting.partition, waiting.offset), None)
        with self._lock:
            self._taken -= 1

    def _report_abandoned(self, request: Request, answer: Answer) -> None:
        if self._abandon is not None:
            self._say(self._abandon(request, answer))

    def _hear_forks(self) -> None:
        for digest in () if self._forks is None else self._forks.told():
            what = f"the approval of verdict {digest} was to be used in a forked process; nothing was run"
            if self._bypass is None or self._taken >= WAITING_MAX:
                unpublished(what)
            else:
                watch(self._say(self._bypass(digest)), what)

    def _say(self, outcome: Request) -> Future[Any]:
        """On this thread's own account; there is room."""
        with self._lock:
            self._taken += 1
        ends_ms = self._clock.elapsed_ms() + outcome.deadline_ms
        waiting = Waiting(outcome, partition_of(outcome.lane, self._wiring.realm.partitions), ends_ms)
        self._inbox.append(waiting)
        return waiting.future

    def _wait_until(self, waiting: Waiting, ends_ms: int) -> None:
        waiting.ends_ms = ends_ms
        self._tokens += 1
        heapq.heappush(self._ends, (ends_ms, self._tokens, waiting.request.id))
        if len(self._ends) > ENDS_MAX:
            self._ends = sorted((w.ends_ms, n, own_id) for n, (own_id, w) in enumerate(self._waiting.items()))

    def _pause_s(self) -> float:
        if self._inbox:
            return 0.0
        if not self._waiting and not self._by_token and not self._opening:
            return WAITING_PAUSE_S if self._running else IDLE_PAUSE_S
        return self._pace.pause_s() if self._clock.elapsed_ms() < self._fresh_until_ms else WAITING_PAUSE_S


def _mandates_end_ms(waiting: Waiting, answer: Answer, read_ms: int) -> int | None:
    """Elapsed time at which the first of an approval's mandates has ended; None if there is none.

    From our publish it never comes later than on the broker's clock; after a hold only its reading is as young as `t`.
    """
    if answer.ends_at is None:
        return None
    since_ms = read_ms if waiting.hold is not None or waiting.published_ms is None else waiting.published_ms
    return since_ms + max(answer.ends_at - answer.t + 1, 0)


def _settle(future: Future[Any], outcome: object) -> bool:
    """Give the future its answer or error; False if nobody waits for it any more."""
    if not future.set_running_or_notify_cancel():
        return False
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
    return True


def _closed(reason: Reason) -> Unreachable:
    message = "this harness was closed while it waited; nothing was run"
    return Unreachable(message, hint=reason.hint, reasons=(reason,))


def _why(reasons: tuple[Reason, ...]) -> str:
    return "; ".join(map(str, reasons)) or "no reason given"
