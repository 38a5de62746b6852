"""The worker's view of the rules topic: what stays out of force, and why."""

import hashlib

import orjson

from harness_stream.ports import LogRecord
from harness_stream.runtime.facts import RulesView

BROKEN = b'{"rule_set": "production"}'


def told(view, key, value):
    view.take(LogRecord("rules", 0, 0, key.encode(), value, 0))


def activate(view, revision, digest):
    told(view, "active/production", orjson.dumps({"digest": digest, "revision": revision}))


def test_the_reason_shown_is_that_of_the_newest_revision():
    view = RulesView("production")
    told(view, "bundle/broken", BROKEN)
    activate(view, 1, hashlib.sha256(BROKEN).hexdigest())
    assert "does not load" in view.problem
    activate(view, 2, "f" * 64)
    assert view.problem == "bundle ffffffffffff is not in the rules topic"
    assert (view.active, view.wanted) == (None, 2)
