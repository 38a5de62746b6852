"""The worker's view of the rules topic: what stays out of force, and why."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import orjson

from harness_stream.core.rules.compile import load
from harness_stream.errors import InvalidInput
from harness_stream.ports import Ends, LogRecord
from harness_stream.runtime.facts import COMPILED_MAX, RulesView, compiled

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


RULES = b"a bundle"
DIGEST = hashlib.sha256(RULES).hexdigest()
ENDS = Ends("rules", 0, 0, 2, 1)


class TestInTheBackground:
    """A thousand rules take a second to compile, and a worker has to go on deciding meanwhile."""

    def pushed(self, compiled):
        pool = ThreadPoolExecutor(1)
        view = RulesView("production", compiled, pool)
        told(view, f"bundle/{DIGEST}", RULES)
        activate(view, 1, DIGEST)
        return view, pool

    def test_nothing_waits_for_it_and_then_it_is_active(self):
        go = threading.Event()
        view, pool = self.pushed(lambda _: go.wait(10) and "windows")
        view.bounds(ENDS, 2)
        assert (view.active, view.compiling, view.problem) == (None, True, "")
        go.set()
        pool.shutdown()
        view.bounds(ENDS, 2)
        assert (view.active, view.compiling, view.windows(DIGEST)) == ((DIGEST, 1), False, "windows")

    def test_what_does_not_load_is_tried_once(self):
        tries = []

        def broken(_):
            tries.append(1)
            raise InvalidInput("two rules are called `x`")

        view, pool = self.pushed(broken)
        pool.shutdown()
        for _ in range(3):
            view.bounds(ENDS, 2)
        assert (view.active, view.compiling, len(tries)) == (None, False, 1)
        assert "two rules are called `x`" in view.problem

    def test_a_newer_push_is_not_kept_waiting_by_an_older_ones_bundle(self):
        view, pool = self.pushed(lambda data: data)
        told(view, "bundle/other", b"another")
        other = hashlib.sha256(b"another").hexdigest()
        activate(view, 2, other)
        pool.shutdown()
        view.bounds(ENDS, 2)
        assert view.active == (other, 2)


def test_only_the_newest_compiled_bundles_are_kept():
    compiled = []
    view = RulesView("production", lambda data: compiled.append(data) or data)
    for n in range(COMPILED_MAX + 1):
        told(view, "bundle/x", b"%d" % n)
        assert view.windows(hashlib.sha256(b"%d" % n).hexdigest()) == b"%d" % n
        view.windows(hashlib.sha256(b"0").hexdigest())
    assert compiled.count(b"0") == 1, "what is asked for stays"
    view.windows(hashlib.sha256(b"1").hexdigest())
    assert compiled.count(b"1") == 2


def test_pushes_that_were_overtaken_before_they_began_are_not_compiled():
    go, compiled = threading.Event(), []
    pool = ThreadPoolExecutor(1)
    view = RulesView("production", lambda data: go.wait(10) and (compiled.append(data) or data), pool)
    for revision in range(1, 41):
        data = b"%d" % revision
        told(view, "bundle/x", data)
        activate(view, revision, hashlib.sha256(data).hexdigest())
    go.set()
    pool.shutdown()
    view.bounds(ENDS, 2)
    assert (view.active[1], compiled) == (40, [b"1", b"40"])


DAY_MS = 86_400_000
WEEK = """
rule_set: production
default: deny
selections: {reads: event.action == "crm.read"}
rules:
  - {id: a, effect: approve, when: 'true'}
  - id: many
    effect: deny
    when: reads
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 7d, condition: {gt: 5}}
"""


def test_a_window_is_as_long_as_the_workers_own_setting_allows_and_whoever_reads_a_log_takes_any():
    """A set that was pushed as its own hint says, with a longer `max_timespan_ms` everywhere, was loaded by no worker."""
    bundle = load(WEEK, timespan_ms_max=7 * DAY_MS).bundle
    digest = hashlib.sha256(bundle).hexdigest()
    for bound, usable in ((DAY_MS, False), (7 * DAY_MS, True), (None, True)):
        view = RulesView("production", bound and partial(compiled, timespan_ms_max=bound))
        told(view, f"bundle/{digest}", bundle)
        activate(view, 1, digest)
        assert (view.active is not None, view.problem == "") == (usable, usable)


def test_bytes_under_the_name_of_a_bundle_that_is_not_theirs_are_that_bundle_to_nobody():
    """Whoever may write to the rules topic can name what he likes: a bundle is found by the digest of its bytes."""
    view, digest = RulesView("production"), hashlib.sha256(b"the pushed one").hexdigest()
    told(view, f"bundle/{digest}", BROKEN)
    activate(view, 1, digest)
    assert view.active is None
    assert view.windows(digest) is None
    assert "is not in the rules topic" in view.problem
