"""How each mutant is made: one place of the product is patched, by code that is obviously the mistake.

Rule of this file: a maker patches one name and nothing else. What it puts there does what the real one does but for
the mistake, and raises nothing of its own: a test that fails has noticed behaviour, not a broken patch.
"""

import hmac
from dataclasses import replace
from unittest.mock import patch

import msgspec
import orjson

from harness_stream.adapters.kafka import positions, settings
from harness_stream.adapters.memory import state as memory_state
from harness_stream.adapters.redis.state import RedisStateStore
from harness_stream.adapters.signing import inputs, merkle, verifier
from harness_stream.client import head
from harness_stream.client.answer import Answer
from harness_stream.client.binding import Binding
from harness_stream.client.enforcer import Enforcer
from harness_stream.client.following import Following
from harness_stream.client.forks import Forks
from harness_stream.client.head import Head
from harness_stream.core import answered, apply, decide, deferred, denials, fold, limits, link, variables, window
from harness_stream.core.fold import Place
from harness_stream.core.intake import Intake
from harness_stream.core.model import Intent
from harness_stream.core.names import agent_unit
from harness_stream.core.partition import Signal
from harness_stream.core.state import State
from harness_stream.core.units import Delta
from harness_stream.core.window import Spec
from harness_stream.ports import StoredHead
from harness_stream.runtime import admission, folded, loading, mover
from harness_stream.runtime.batch import Batch, Run
from harness_stream.runtime.deciding import Deciding
from harness_stream.runtime.facts import View
from harness_stream.runtime.folded import Folded
from harness_stream.runtime.loading import Loader
from harness_stream.runtime.notices import Notices
from harness_stream.runtime.owner import Owner
from harness_stream.wire.decisions import read_body

LIBRDKAFKAS_BATCH_BYTES = 1_000_000  # its default `batch.size`

# --- The log ---


def no_partition_check():
    return patch.object(Intake, "_misplaced", lambda *_: None)


def hashes_that_lead_anywhere():
    """Whatever was believed by its hashes stays, wherever they led."""
    return patch.object(Folded, "chain_ends", lambda self: setattr(self, "trusting", False))


def hashes_believed_for_good():
    """Behind the checkpoint as well."""
    chain_ends = Folded.chain_ends

    def without(self):
        trusting = self.trusting
        chain_ends(self)
        self.trusting = trusting

    return patch.object(Folded, "chain_ends", without)


def hashes_of_a_switch_believed():
    return patch.object(loading, "TRUSTED", loading.TRUSTED | {"switch"})


def hashes_across_a_resume():
    return patch.object(Folded, "_require_chained", lambda *_: None)


def no_claim():
    """Whoever gets a partition that was ever claimed goes on under that claim."""
    claiming = Owner._claiming

    def without(self):
        if self.place.header.epoch == 0:
            return (yield from claiming(self))
        yield from self._fold_to_end()
        return Signal.CLAIM_READ_BACK

    return patch.object(Owner, "_claiming", without)


def no_rollback():
    """What was not confirmed stays."""

    def kept(self):
        while self.in_flight:
            self.confirm()

    return patch.object(State, "rollback", kept)


def no_resync():
    return patch.object(Deciding, "fail", lambda *_: None)


def last_plus_one():
    """The next record is taken to begin where the last one ended, whatever it says."""
    folded = fold.fold_header

    def continued(state, body, digest):
        if isinstance(body.get("covers"), list):
            body = {**body, "covers": [state.next_input, body["covers"][-1]]}
        return folded(state, body, digest)

    return patch.object(fold, "fold_header", continued)


# --- Readers ---


def head_from_the_first_record():
    """What the first record seen says of the head before it is believed."""
    take, begun = Head.take, set()

    def taken(self, record):
        body, _ = read_body(record.value)
        if "prev" in body and self not in begun:
            begun.add(self)
            own = {"epoch": body["epoch"], "writer": body["writer"]}
            before = self.place.header._replace(head=body["prev"], next_input=body["covers"][0], **own)
            self.place = Place(before, record.offset - 1, body["prev"])
        return take(self, record)

    return patch.object(Head, "take", taken)


def lazy_end_offset():
    """Where the log ends is asked for in time, and publishing does not wait for the answer."""
    return patch.object(Following, "ready", True)


def stalled_consumer_unnoticed():
    """That the broker answered is taken for having read all of it."""

    def asked(self, ends, _position):
        self.fresh_ms = ends.asked_at_ms

    return patch.object(View, "asked", asked)


def nonce_ignored():
    verdict = Enforcer._verdict

    def anybodys(self, waiting, effective, read_ms):
        verdict(self, waiting, effective._replace(body={**effective.body, "enforcer_nonce": self.nonce}), read_ms)

    return patch.object(Enforcer, "_verdict", anybodys)


# --- Kafka ---


def _reading_with(**setting):
    reader = settings.reader
    words = {name.replace("_", "."): value for name, value in setting.items()}
    return patch.object(settings, "reader", lambda bootstrap: reader(bootstrap) | words)


def read_committed():
    return _reading_with(isolation_level="read_committed")


def reset_to_latest():
    return _reading_with(auto_offset_reset="latest")


def default_batch_size():
    producer = settings.producer
    return patch.object(settings, "producer", lambda *given: producer(*given) | {"batch.size": LIBRDKAFKAS_BATCH_BYTES})


def create_time_accepted():
    made = positions.to_record
    return patch.object(
        positions, "to_record", lambda message: made(message)._replace(timestamp_ms=message.timestamp()[1])
    )


# --- Windows ---


def wrong_end_of_the_interval():
    """A condition is asked of the lower end alone, so what may be too much passes."""
    made = window.condition_of

    def of_lower_end(*asked):
        condition = made(*asked)
        return lambda lo, _: condition(lo, lo)

    return patch.object(window, "condition_of", of_lower_end)


def exclusive_edge():
    """Exactly T ago is outside, in whole milliseconds."""
    place = Spec._fields.index("timespan_ms")
    return patch.object(Spec, "timespan_ms", property(lambda self: self[place] - 1))


def current_intent_not_counted():
    made = decide._Judged.__init__

    def alone(self, *given):
        made(self, *given)
        self._sighted = {}

    return patch.object(decide._Judged, "__init__", alone)


# --- State ---


def evicted_is_forgotten():
    """A unit that leaves memory is not known to be stored, so it looks like one that never was."""
    return patch.object(State, "evict", lambda self, unit: self._base.pop(unit, None))


def newest_event_lost_by_a_crash():
    """Whoever finds a unit in the store misses what it saw last."""
    whole = loading.replay_unit

    def shortened(name, base, deltas, *given):
        return whole(name, base, deltas[:-1], *given)

    return patch.object(loading, "replay_unit", shortened)


def older_writer_overwrites_memory():
    return patch.object(memory_state, "refused", lambda *_: None)


def older_writer_overwrites_redis():
    """A step begins anew whatever stands there."""
    moved = RedisStateStore.move

    def overwritten(self, move):
        self.clear(move.partition, self.head(move.partition))
        return moved(self, replace(move, expect=None))

    return patch.object(RedisStateStore, "move", overwritten)


def hold_stays_open():
    """An answer does not end the hold."""
    changed = apply._hold
    return patch.object(apply, "_hold", lambda state, change: changed(state, change) if change.get("hold") else None)


# --- Signatures ---


def mac_over_the_wrong_bytes():
    """It is over what is bound, and not over the value."""
    real = hmac.digest
    return patch.object(inputs.hmac, "digest", lambda key, statement, alg: real(key, statement[:64], alg))


def leaf_of_the_wrong_bytes():
    """The signed tree knows how many records there are, and not which."""
    return patch.object(merkle, "leaf_hash", lambda _: bytes(merkle.HASH_BYTES))


# --- Beyond the protocol's list ---


def store_speaks_for_units_that_wait():
    """Its head moves on while units have not taken in what the log tells of them."""
    followed_up = Deciding._follow_up

    def hasty(self, *, leisure):
        followed_up(self, leisure=leisure)
        self._mover.flush(self._folded.place, self._state, self._ports.clock.elapsed_ms())

    return patch.object(Deciding, "_follow_up", hasty)


def store_known_by_its_offset():
    """What a log lost, and what took its place, are the same to everybody."""
    return patch.object(StoredHead, "__eq__", lambda head, other: other and head.verdict_offset == other.verdict_offset)


def store_that_went_on_is_ours():
    """Who finds the store further on, though not beyond the log, goes on from there."""
    refused = mover.Mover._refused

    def adopted(self, at, state):
        if (self._stored or mover.NOWHERE).verdict_offset < at.verdict_offset <= self._asked:
            self._stored = at
            return mover.Step.UNKNOWN
        return refused(self, at, state)

    return patch.object(mover.Mover, "_refused", adopted)


def steps_without_a_number():
    """Two tries of a part that names no place look alike, whatever they bring."""
    alike = lambda _, place: mover.FILLING if place is None else orjson.dumps(place.to_json())  # noqa: E731
    return patch.object(mover.Mover, "_header", alike)


def names_that_are_lost_are_not_missed():
    """A store whose list of names was evicted is begun from as it is."""
    return patch.object(memory_state._Partition, "whole", property(lambda held: held.head))


def store_emptied_by_anybody():
    """An older owner takes away what a newer one left."""
    return patch.object(mover.Mover, "_is_earlier", lambda *_: True)


def input_position_left_beyond_the_log():
    return patch.object(Deciding, "input_bounds", lambda *_: None)


def cut_unheard():
    """What the consumer says of a cut reaches nobody."""
    return patch.object(Deciding, "input_lost", lambda *_: None)


def taken_in_twice():
    """A unit whose snapshot is of a later record takes in the records before it again."""
    return patch.object(deferred.Deferred, "holds", lambda *_: False)


def snapshot_of_lost_records():
    """Nobody looks whether the record that a snapshot stands on is in the log."""

    def believing(self, folded):
        self._reigns = folded.reigns

    return patch.object(Loader, "_require_standing", believing)


def fact_not_recorded():
    verdict = Intake._verdict

    def forgetful(self, *given):
        body = verdict(self, *given)
        body["inputs"].pop("identity", None)
        return body

    return patch.object(Intake, "_verdict", forgetful)


def approval_never_runs_out():
    return patch.object(Answer, "_ran_out", lambda _: False)


def forks_are_not_heard():
    return patch.object(Forks, "told", lambda _: [])


def callers_arguments_run():
    """What the caller holds runs, not the copy that was judged."""
    called = Binding.call

    def holding(self, args, kwargs):
        self.held = args, dict(kwargs)
        return called(self, args, kwargs)

    return patch.multiple(Binding, call=holding, placed=lambda self, _: self.held)


def answered_before_forgotten():
    """A hold stands for the rules that ask, and for none that was answered on the way to it."""
    of = apply._hold_of

    def without(body, digest):
        asking = [r["rule"] for r in body["reasons"] if r.get("effect") == "hold"]
        return {**of(body, digest), "rules": asking}

    return patch.object(apply, "_hold_of", without)


def answer_for_any_class():
    """What was answered for one class of action counts for every other."""

    def without(state, agent_id, chain_id, _):
        return frozenset(value for _, value in state.get(agent_unit(agent_id), (answered.KEY, chain_id)) or ())

    return patch.object(variables, "answered_in", without)


def unsigned_rules_believed():
    return patch.object(verifier, "why_rules_refused", lambda *_: "")


def nonrepudiable_unasked():
    return patch.object(admission, "_nonrepudiable", lambda *_: False)


# --- Who is stopped ---


def notice_from_anybody():
    """Whose epoch it is, and where it stands, is not looked at."""
    said = ("epoch", "writer", "head")
    return _notices_heard(lambda header: dict(zip(("epoch", "writer", "prev"), (getattr(header, n) for n in said), strict=True)))


def notice_anywhere():
    """A copy of the owner's own is believed wherever it stands."""
    return _notices_heard(lambda header: {"prev": header.head})


def _notices_heard(taken_for_granted):
    heard = head.heard
    return patch.object(head, "heard", lambda header, body: heard(header, {**body, **taken_for_granted(header)}))


def stopped_before_the_claim():
    """Only rows that come under the own claim are told of."""

    def begun(self, identity, state, metrics):
        real(self, identity, state, metrics)
        self._seen = identity.revision

    real = Notices.__init__
    return patch.object(Notices, "__init__", begun)


def link_of_one_input():
    """Whatever a verdict covers."""
    link_of = link.link_of

    def short(value):
        found = link_of(value)
        return None if found is None else msgspec.structs.replace(found, covers=(found.covers[0],) * 2)

    return patch.object(link, "link_of", short)


# --- Runs of denials ---


def run_not_remembered():
    remember = apply.remember

    def without(state, change):
        if change["kind"] != fold.DENIALS:
            remember(state, change)

    return patch.object(apply, "remember", without)


def run_open_to_its_own_copy():
    """What is in the run, and not yet applied, is not asked for."""

    def without(self, event):
        lone = isinstance(event, Intent) and event.parent is None
        return not lone or self._bytes > limits.DENIALS_BYTES_MAX

    return patch.object(Run, "may_matter_to", without)


def run_open_to_a_child():
    may_matter_to = Run.may_matter_to

    def without(self, event):
        return may_matter_to(self, event.model_copy(update={"parent": None}) if isinstance(event, Intent) else event)

    return patch.object(Run, "may_matter_to", without)


def chain_time_of_before_the_run():
    def without(self, record):
        append_ms, t = record.timestamp_ms or 0, self.header.t
        return t if append_ms - self.decided_at > limits.CLOCK_SKEW_MS_MAX else max(t, append_ms)

    return patch.object(Batch, "_chain_time", without)


def last_offset_for_each():
    verdict_of = denials.verdict_of

    def without(body, row, first):
        return {**verdict_of(body, row, first), "covers": body["covers"]}

    return patch.object(denials, "verdict_of", without)


def run_waits_in_one_unit():
    return patch.object(folded, "groups_of_denials", lambda body: denials.groups_of_denials(body)[:1])


def run_counts_as_one_delta():
    class Light(Delta):
        """Says nothing of how many ids it tells."""

        def __init__(self, change, offset):
            super().__init__(change, offset)
            self.ids = None

    return patch.object(mover, "Delta", Light)
