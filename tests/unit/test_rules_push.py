"""`harness rules push` and `status`: what is written to the rules topic, and what is told of it."""

from __future__ import annotations

import orjson
import pytest

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.memory.broker import MemoryBroker
from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.cli.rules import Pushed, publish, report_of, status_text
from harness_stream.config import Settings
from harness_stream.core.rules import load
from harness_stream.wire.topics import Topics

TOPIC = Topics(Settings().prefix).rules
SOUND = "rule_set: production\ndefault: deny\nrules:\n  - {id: a, effect: approve, when: 'true'}\n"
OTHER = SOUND.replace("id: a", "id: b")


class Realm:
    """A rules topic in memory."""

    def __init__(self):
        self.clock = SystemClock()
        self.broker = MemoryBroker({TOPIC: 1}, self.clock.now_ms)

    def push(self, text=SOUND, *, now=False):
        reader, writer = MemoryReader(self.broker), MemoryWriter(self.broker)
        return publish(load(text), Settings(), reader, writer, self.clock, now=now)

    def active(self):
        records = self.broker.read(TOPIC, 0, 0, 1_000)
        return [orjson.loads(r.value) for r in records if r.key == b"active/production"]


@pytest.fixture
def realm():
    return Realm()


# --- push ---


def test_a_set_that_was_switched_to_at_once_becomes_active_again_so_that_its_windows_are_counted(realm):
    realm.push(now=True)
    pushed, changed = realm.push()
    assert (pushed, changed) == (Pushed(load(SOUND).digest, 2, now=False), True)
    assert [(body["revision"], body["now"]) for body in realm.active()] == [(1, True), (2, False)]


@pytest.mark.parametrize(("first", "again"), [(False, False), (False, True), (True, True)])
def test_a_push_that_changes_nothing_writes_nothing(realm, first, again):
    before, _ = realm.push(now=first)
    assert realm.push(now=again) == (before, False)
    assert len(realm.active()) == 1


def test_another_set_gets_the_next_revision(realm):
    realm.push()
    pushed, changed = realm.push(OTHER, now=True)
    assert (pushed, changed) == (Pushed(load(OTHER).digest, 2, now=True), True)


# --- status ---

DIGEST = "d" * 64


def in_force(revision):
    return {"rules": {"digest": DIGEST, "revision": revision}, "next_rules": None}


def test_a_set_that_was_switched_to_at_once_is_told_with_what_to_do():
    report = report_of("production", Pushed(DIGEST, 2, now=True), {0: in_force(2)})
    assert report["active"] == {"digest": DIGEST, "revision": 2, "now": True}
    assert "without --now" in report["hint"]
    assert status_text(report).splitlines() == [
        f"rule set `production`: revision 2, digest {DIGEST[:12]}, pushed with --now: windows that were new may be unknown",
        f"  → {report['hint']}",
        f"  partition 0: revision 2, digest {DIGEST[:12]}",
    ]


def test_a_set_whose_windows_were_counted_needs_no_hint():
    report = report_of("production", Pushed(DIGEST, 2), {0: in_force(2), 1: in_force(1), 2: None})
    assert report["hint"] == ""
    assert status_text(report).splitlines() == [
        f"rule set `production`: revision 2, digest {DIGEST[:12]}",
        f"  partition 0: revision 2, digest {DIGEST[:12]}",
        f"  partition 1: revision 1, digest {DIGEST[:12]}  ← not switched yet",
        "  partition 2: no checkpoint yet (is a worker running?)",
    ]


def test_a_realm_without_rules_says_so():
    report = report_of("production", None, {0: in_force(1)})
    assert status_text(report).splitlines()[0] == "rule set `production`: none pushed"
