"""A partition's fold under construction: what loading, claiming and resyncing carry on (PROTOCOL §4, §5).

Rule of this file: a record that counts moves the place at once; what it does to units waits until somebody looks into
them (`core.deferred`). Only what belongs to the partition itself, switches and reigns, is done on the spot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import counting
from harness_stream.core.audit.void import FOREIGN, Void, why_void
from harness_stream.core.deferred import Told, groups_of
from harness_stream.core.denials import groups_of_denials
from harness_stream.core.fold import CHANGING, DENIALS, STATEMENTS, Place, whole
from harness_stream.core.link import linked
from harness_stream.core.partition import Signal
from harness_stream.core.reigns import REIGNS_KEY, begun
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.runtime.taking import UNREADABLE, CannotLoadError, unreadable
from harness_stream.wire.cloudevents import HS_ALG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.core.reigns import Reign
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.warming import Warmup
    from harness_stream.ports import LogRecord, StoredHead
    from harness_stream.runtime.facts import RulesView

Body = Mapping[str, Any]

NO_BUNDLE: Final = "a bundle that the log names is not in the rules topic"


@dataclass(slots=True)
class Folded:
    """A partition's fold under construction.

    Attributes:
        place: where it stands.
        state: chains and windows.
        stored: where the store stood that it started from, None if it started elsewhere.
        store_met: where the store stood when this began, whatever it holds; None if it is empty or did not answer.
        epoch_seen: highest epoch of any claim read, effective or not.
        void: records that did not count.
        foreign: those of them that no owner writes, by why, until somebody tells of them.
        foreign_at: offset of the newest of these.
        read: offset of the furthest record read.
        last: body of the newest record read, to tell a clean stop from a crash.
        checkpoint: newest checkpoint known.
        touched: units that folding changed.
        warmups: revision → what the switch to it, which comes next, was warmed with.
        strangers: records read that say who vouches for them, and whom nobody here believes.
        believed: a record was read that is authentic.
        store_moved: what it means if the store turns out to stand elsewhere: load again, or somebody else owns this.
        deferred_bytes_max: of records that units may take in later.
        bundle: the rules in force that were last seen to be loaded.
        snapshots: (epoch, as of which record) of those that are newer than where the fold began.
        unmet: those of these records that were not met in the log yet.
        end: up to which the log was known to reach when they were read.
        chained_to: place that a signed checkpoint names and the records ahead must lead to, until it is behind.
        trusting: most of what leads there is believed by its hashes, without its signatures.
    """

    place: Place
    state: State
    stored: StoredHead | None = None
    store_met: StoredHead | None = None
    epoch_seen: int = 0
    void: int = 0
    foreign: Counter[Void] = field(default_factory=Counter)
    foreign_at: int = -1
    read: int = -1
    last: Body | None = None
    checkpoint: Body | None = None
    touched: set[str] = field(default_factory=set)
    warmups: dict[int, Warmup] = field(default_factory=dict)
    strangers: int = 0
    believed: bool = False
    store_moved: Signal = Signal.FAULT
    deferred_bytes_max: int = 0
    bundle: tuple[str, int] | None = None
    snapshots: frozenset[tuple[int, int]] = frozenset()
    unmet: set[int] = field(default_factory=set)
    end: int = -1
    chained_to: Place | None = None
    trusting: bool = False

    @property
    def stored_at(self) -> int | None:
        """Verdict offset of the store it started from."""
        return None if self.stored is None else self.stored.verdict_offset

    def begin_chain(self, to: Place, *, trusting: bool) -> None:
        """What comes next is to lead to this place; if it is trusted, by its hashes alone (PROTOCOL §7).

        Raises:
            CannotLoadError: STATE_GONE, the store says something else of the very record that the checkpoint names.
        """
        if self.stored_at == to.offset and self.place != to:
            why = f"the store contradicts the checkpoint of the record at {to.offset}"
            raise CannotLoadError(Signal.STATE_GONE, why)
        self.chained_to = to if to.offset > self.place.offset else None
        self.trusting = trusting and self.chained_to is not None

    def chain_ends(self) -> None:
        """All up to the place that a checkpoint names was read.

        Raises:
            CannotLoadError: UNEXTENDABLE, it does not lead there; STATE_GONE, not from where the store says to stand.
        """
        named, self.chained_to = self.chained_to, None
        if named is not None and named != self.place:
            why = f"the records up to {named.offset} do not lead to what the checkpoint says of it"
            doubtful = self.trusting or self.stored is None
            raise CannotLoadError(Signal.UNEXTENDABLE if doubtful else Signal.STATE_GONE, why)
        self.trusting = False

    def met(self, record: LogRecord, *, authentic: bool) -> None:
        """A record was read, whatever becomes of it."""
        if authentic:
            self.believed = True
            return
        self.strangers += any(name == HS_ALG for name, _ in record.headers)
        if record.offset > max(self.read, self.place.offset):
            self.read = record.offset
            self._lost(record.offset, Void.NOT_AUTHENTIC)

    def take(self, record: LogRecord, body: Body, digest: str, place: Place | None, rules: RulesView) -> None:
        """Fold one record, after which the fold stands at `place`, None if it is void.

        Its bundle is loaded, and before a switch no unit waits for anything.
        """
        self.last, kind, offset = body, body["kind"], record.offset
        if kind in _NEW_EPOCH:
            self.epoch_seen = max(self.epoch_seen, whole(body.get("epoch")) or 0)
        # What follows the last effective record is read again by the next fold.
        again = offset <= self.read
        if not again:
            self.read = offset
        if place is None:
            if not again and kind not in STATEMENTS:
                self._lost(offset, why_void(self.place.header, body))
            return
        before, self.place = self.place, place
        if self.unmet:
            self.unmet.discard(offset)
        if kind in CHANGING:
            self._defer(record, body, digest, rules)
        elif kind == "switch":
            self._switch(body, before, rules)
        elif kind in _NEW_EPOCH:
            self._require_chained(kind)
            self._reign(place)

    def follow(self, records: Sequence[LogRecord], rules: RulesView) -> int:
        """Fold verdicts that hashes vouch for by their links alone.

        Returns:
            How many of the first; the next one is to be read as any other record.
        """
        if self.state.deferred.size > self.deferred_bytes_max or self.read > self.place.offset:
            return 0
        place, told = linked(self.place, ((record.offset, record.value or b"") for record in records))
        if told:
            self._require_bundle(rules)
            self.place, self.last, self.read = place, _A_VERDICT, place.offset
            self.state.deferred.add(told)
            if self.unmet:
                self.unmet.difference_update(each.offset for each in told)
        return len(told)

    def _lost(self, offset: int, why: Void) -> None:
        self.void += 1
        if why in FOREIGN:
            self.foreign[why] += 1
            self.foreign_at = offset

    def _require_chained(self, kind: str) -> None:
        """A resume names a head instead of going on from one: no later hash vouches for what is before it."""
        if kind == "resume" and self.trusting:
            raise CannotLoadError(Signal.UNEXTENDABLE, "no hash leads across a resume")

    def _switch(self, body: Body, before: Place, rules: RulesView) -> None:
        old = None if before.header.rules is None else rules.windows(before.header.rules[0])
        new, revision = windows_at(rules, self.place), body["rules"]["revision"]
        counting.switched(self.state, old, new, self.place.header.t, revision, self.warmups.pop(revision, None))
        self.touched.add(PARTITION_UNIT)

    def _reign(self, place: Place) -> None:
        reigns = begun(self.reigns, place.header.epoch, place.offset)
        self.state.put(PARTITION_UNIT, REIGNS_KEY, reigns)
        self.touched.add(PARTITION_UNIT)

    @property
    def reigns(self) -> tuple[Reign, ...]:
        """Who owned the partition from which record on, as far as it is kept."""
        return self.state.confirmed(PARTITION_UNIT).get(REIGNS_KEY) or ()

    def _defer(self, record: LogRecord, body: Body, digest: str, rules: RulesView) -> None:
        self._require_bundle(rules)
        try:
            groups = _groups(body)
        except UNREADABLE as error:
            raise unreadable(record.offset, error) from None
        if groups:
            self.state.deferred.add([Told(record.offset, record.value or b"", digest, groups)])

    def _require_bundle(self, rules: RulesView) -> None:
        if self.bundle is not self.place.header.rules:
            windows_at(rules, self.place)
            self.bundle = self.place.header.rules


_A_VERDICT: Final = {"kind": "verdict"}
_NEW_EPOCH: Final = frozenset({"claim", "resume"})


def _groups(body: Body) -> tuple[str, ...]:
    """As `groups_of` what the record changes, without making its change."""
    if body["kind"] == "verdict":
        return groups_of(body)
    if body["kind"] == DENIALS:
        return groups_of_denials(body)
    change = body.get("change")
    return () if change is None else groups_of({**change, "kind": "ack", "agent_id": body["agent_id"]})


def windows_at(rules: RulesView, place: Place) -> Windows:
    """The compiled bundle in force there.

    Raises:
        CannotLoadError: FAULT, it is not here.
    """
    windows = None if place.header.rules is None else rules.windows(place.header.rules[0])
    if windows is None:
        raise CannotLoadError(Signal.FAULT, NO_BUNDLE)
    return windows
