"""The only loop: one thread that moves bytes between the ports and its partitions' owners (DESIGN §9, PROTOCOL §5).

Rule of this file: one turn polls input, hands out what arrived, and lets every owner do one step; nothing in it waits
except for new input while there is nothing else to do. Group membership says what to own; safety never depends on it.
"""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from harness_stream.alarms import Alarm, sound
from harness_stream.core import limits
from harness_stream.core.join import Table, empty_tables
from harness_stream.core.partition import Phase
from harness_stream.runtime.dead_letters import DeadLetters
from harness_stream.runtime.facts import RulesView, TableView
from harness_stream.runtime.owner import Owner
from harness_stream.runtime.readiness import Readiness
from harness_stream.runtime.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.ports import Assignment, Clock, LogRecord
    from harness_stream.runtime.realm import Ports, Realm

log = logging.getLogger(__name__)

POLL_RECORDS = 500  # two micro-batches of every-day size; more would only wait in an inbox
WAIT_IDLE_MS = 20  # LOOP_WAIT_MS_MAX: how long one turn may wait for input when nothing is open
WAIT_OPEN_MS = 1  # while own records are in flight: their confirmation is looked for between waits
COMMIT_INTERVAL_MS = 1_000  # group offsets only show lag
GAUGE_INTERVAL_MS = 1_000
# As long as a takeover may last (DESIGN §9); what loads longer may be waiting for a broker, and others go on.
LOADING_FIRST_MS = 2_000
# Before that they have a turn now and then, some milliseconds each: a partition that comes and goes starves nobody.
LEISURE_MS = 100
_BEFORE_DECIDING = frozenset({Phase.LOADING, Phase.CLAIMING})


class Worker:
    """Decides for the partitions the group gives it.

    Args:
        realm: this realm.
        ports: its ports.
        writer_id: 128 random bits of this process, hex.
        rules: the rules topic's view; default a new one.
    """

    def __init__(self, realm: Realm, ports: Ports, writer_id: str, rules: RulesView | None = None) -> None:
        self._realm, self._ports, self._writer_id = realm, ports, writer_id
        topics = realm.topics
        self._decisions, self._chains, self._garbage = topics.verdicts, topics.chains, topics.deadletter
        self._tokens = itertools.count(1)
        self._dead_letters = DeadLetters(realm, ports, self._tokens.__next__)
        self._reading = Reading(ports.reader)
        self.tables: Mapping[str, Table] = empty_tables()
        self.rules = rules or RulesView(realm.rule_set, refused=ports.verifier.why_rules_refused)
        self.owners: dict[int, Owner] = {}
        self._leaving: set[int] = set()
        self._assigned = self._stopping = self._recreated = False
        self._committed_ms = self._gauged_ms = ports.clock.elapsed_ms()
        self.turned_ms = ports.clock.elapsed_ms()
        self._loading_since_ms: int | None = None
        self._leisure_ms = ports.clock.elapsed_ms()
        self._views = {name: TableView(table) for name, table in self.tables.items()}
        for name, view in self._views.items():
            self._reading.follow(realm.topics.table(name), 0, 0, view)
        self._reading.follow(realm.topics.rules, 0, 0, self.rules)

    @property
    def clock(self) -> Clock:
        """The worker's clock."""
        return self._ports.clock

    def step(self, wait_ms: int | None = None) -> None:
        """One turn of the loop; waits for input at most `wait_ms` (default: as long as nothing is open)."""
        self._take_in(self._wait_ms() if wait_ms is None else wait_ms)
        self._read()
        leisure, began_ms = self._has_leisure(), self._ports.clock.elapsed_ms()
        for owner in self.owners.values():
            owner.step(leisure=leisure)
        if not self._is_waited_for():
            self._work_off(began_ms + limits.LOOP_WAIT_MS_MAX)
        self._release_finished()
        self._report()
        self.turned_ms = self._ports.clock.elapsed_ms()

    def _take_in(self, wait_ms: int) -> None:
        """What has come: inputs, changes of the group, fates of own records."""
        self._offer(self._ports.consumer.poll(POLL_RECORDS, wait_ms))
        for assignment in self._ports.consumer.assignments():
            self._assign(assignment)
        self._missed_input()
        self._deliver()

    def _offer(self, records: Iterable[LogRecord]) -> None:
        """Hand out what one poll brought, of each partition at once."""
        by_partition: dict[int, list[LogRecord]] = {}
        for record in records:
            by_partition.setdefault(record.partition, []).append(record)
        for partition, arrived in by_partition.items():
            if partition in self.owners:
                self.owners[partition].offer(arrived)

    def _work_off(self, until_ms: int) -> None:
        """What is left of a turn goes to partitions in which whole batches wait, as long as they answer some.

        With one batch a turn a flooded partition has a small part of the time: its refusals cost a fifth of what the
        intents of all others do. Who has less waiting comes between two of its batches, and what a turn does besides
        waits no longer than for input.
        """
        done = set[int]()
        while any(owner.backlogged for p, owner in self.owners.items() if p not in done):
            self._take_in(0)
            for partition in [p for p, owner in self.owners.items() if owner.ready_to_decide and p not in done]:
                if self._ports.clock.elapsed_ms() >= until_ms:
                    return
                if partition not in self.owners or not _stepped_on(self.owners[partition]):
                    done.add(partition)

    def _is_waited_for(self) -> bool:
        """Is a partition loaded here, or given up, so that all its agents wait for the next turn?"""
        return bool(self._leaving) or self._is_loading()

    def _is_loading(self) -> bool:
        return any(owner.phase in _BEFORE_DECIDING for owner in self.owners.values())

    def _has_leisure(self) -> bool:
        """May owners do what nobody waits for? Not while another partition is loaded, for which all its agents wait."""
        now_ms = self._ports.clock.elapsed_ms()
        loading = self._is_loading()
        if not loading:
            self._loading_since_ms = None
        elif self._loading_since_ms is None:
            self._loading_since_ms = now_ms
        lasting = self._loading_since_ms is not None and now_ms - self._loading_since_ms > LOADING_FIRST_MS
        if loading and not lasting and now_ms - self._leisure_ms < LEISURE_MS:
            return False
        self._leisure_ms = now_ms
        return True

    def _read(self) -> None:
        clock = self._ports.clock
        self._reading.step(clock.elapsed_ms())
        wall_ms = clock.now_ms() - clock.elapsed_ms()
        for view in self._views.values():
            view.stamp(wall_ms)

    def readiness(self) -> Readiness:
        """What is still waited for."""
        oldest = self._ports.clock.now_ms() - limits.FRESH_MS_MAX
        behind = frozenset(name for name, table in self.tables.items() if table.fresh_as_of == 0)
        stale = frozenset(name for name, table in self.tables.items() if table.fresh_as_of < oldest) - behind
        unread = frozenset(p for p, owner in self.owners.items() if owner.phase is not Phase.DECIDING)
        claims = unread if self._assigned else None
        halted = frozenset(p for p, owner in self.owners.items() if owner.halted)
        verified = self._rules_verified(unread)
        return Readiness(behind, verified, claims, stale, self._recreated, self.rules.problem, halted)

    def _rules_verified(self, unread: frozenset[int]) -> bool:
        """With a newest set that does not load, the one that the log names stays in force, after a restart as well."""
        in_force = (owner.place.header.rules for owner in self.owners.values())
        return self.rules.active is not None or (bool(self.owners) and not unread and all(in_force))

    def stop(self) -> None:
        """Begin a clean stop: no new decisions, drain what is in flight, final checkpoints."""
        self._stopping = True
        for partition, owner in self.owners.items():
            owner.release()
            self._leaving.add(partition)

    @property
    def stopped(self) -> bool:
        """Is everything drained after `stop`?"""
        return all(owner.finished for owner in self.owners.values())

    def close(self, wait_ms: int = limits.DRAIN_MS_MAX) -> None:
        """Leave the group and free everything; what was handed to the writer gets at most `wait_ms` to arrive."""
        self._ports.consumer.close()
        self._ports.writer.flush(wait_ms)
        self._ports.writer.close()
        self._ports.reader.close()
        self._ports.incarnations.close()
        self._ports.store.close()

    def at_rest(self) -> bool:
        """Is there nothing to do but to wait for input?"""
        return self._wait_ms() == WAIT_IDLE_MS

    def _wait_ms(self) -> int:
        if any(owner.ready_to_decide for owner in self.owners.values()):
            return 0
        open_work = any(owner.busy for owner in self.owners.values()) or not self.rules.complete
        return WAIT_OPEN_MS if open_work else WAIT_IDLE_MS

    def _assign(self, assignment: Assignment) -> None:
        self._assigned = True
        # What is gained after `stop` has begun (others stop as well) is never taken; `close` frees it.
        for partition in () if self._stopping else assignment.gained:
            log.info("partition %d: assigned", partition)
            self.owners[partition] = self._new_owner(partition)
        for partition in assignment.revoked:
            if partition in self.owners:
                self.owners[partition].release()
                self._leaving.add(partition)
            else:
                self._ports.consumer.finish_revoke([partition])
        for partition in assignment.lost:
            sound(log, Alarm.PARTITION_LOST, f"partition {partition}: lost to the group without warning")
            self._drop(partition)

    def _new_owner(self, partition: int) -> Owner:
        self._drop(partition)
        own = self._writer_id, self._tokens.__next__, self._dead_letters
        return Owner(partition, self._realm, self._ports, self._reading, self.tables, self.rules, *own)

    def _drop(self, partition: int) -> None:
        self._leaving.discard(partition)
        owner = self.owners.pop(partition, None)
        if owner is not None:
            owner.close()

    def _release_finished(self) -> None:
        done = [p for p in self._leaving if self.owners[p].finished]
        for partition in done:
            self._drop(partition)
        if done:
            self._ports.consumer.finish_revoke(done)

    def _missed_input(self) -> None:
        for partition, low in self._ports.consumer.lost_ranges():
            if partition in self.owners:
                self.owners[partition].input_lost(low)
        for partition, offset in self._ports.consumer.damaged().items():
            if partition in self.owners:
                self.owners[partition].input_damaged(offset)

    def _deliver(self) -> None:
        for delivery in self._ports.writer.deliveries():
            owner = self.owners.get(delivery.partition)
            if delivery.topic == self._garbage:
                self._dead_letters.delivered(delivery)
            elif owner is None:
                continue
            elif delivery.topic == self._decisions:
                owner.delivered(delivery)
            elif delivery.topic == self._chains:
                owner.snapshot_delivered(delivery)

    def _report(self) -> None:
        now_ms = self._ports.clock.elapsed_ms()
        if now_ms - self._committed_ms >= COMMIT_INTERVAL_MS:
            self._committed_ms = now_ms
            deciding = [o for o in self.owners.values() if o.phase is Phase.DECIDING]
            self._ports.consumer.commit({o.partition: o.place.header.next_input for o in deciding})
        if now_ms - self._gauged_ms >= GAUGE_INTERVAL_MS:
            self._gauged_ms = now_ms
            self._look_at_incarnation(now_ms)
            self._gauge()

    def _look_at_incarnation(self, now_ms: int) -> None:
        """A member that joined while there was no topic is given no partition, and no owner asks for it."""
        incarnations = self._ports.incarnations
        incarnations.ask(now_ms)
        known = incarnations.known()
        self._recreated = known is not None and known.incarnation != self._realm.incarnation

    def _gauge(self) -> None:
        metrics, now_ms = self._ports.metrics, self._ports.clock.now_ms()
        metrics.gauge("harness_ready", float(self.readiness().ready))
        metrics.gauge("harness_bundle_unusable", float(bool(self.rules.problem)))
        metrics.gauge("harness_hot_units", sum(len(o.state) for o in self.owners.values()))
        metrics.gauge("harness_hot_bytes", sum(o.state.hot_bytes for o in self.owners.values()))
        metrics.gauge("harness_deferred_bytes", sum(o.state.deferred.size for o in self.owners.values()))
        for name, table in self.tables.items():
            metrics.gauge("harness_table_age_seconds", (now_ms - table.fresh_as_of) / 1000, table=name)
            metrics.gauge("harness_table_revision", table.revision, table=name)
        for owner in self.owners.values():
            label = str(owner.partition)
            metrics.gauge("harness_in_flight_records", owner.in_flight, partition=label)
            if owner.checkpoint_age_ms is not None:
                metrics.gauge("harness_checkpoint_age_seconds", owner.checkpoint_age_ms / 1000, partition=label)


def _stepped_on(owner: Owner) -> bool:
    """Step it; did it answer anything?"""
    waiting = owner.waiting
    owner.step(leisure=False)
    return owner.waiting < waiting
