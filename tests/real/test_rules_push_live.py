"""Rules are pushed while 1,000 intents flow each second: none goes unanswered, and no count begins anew.

One story on real servers, told once: `harness rules push` of an edited threshold, of new windows, of two bundles that
are none, of new windows again with a worker killed right after, and of the former text. What it left in the log is
counted a second time here, by nothing but the intents and their decisions.
"""

import hashlib
import json
import subprocess
import sys
from bisect import bisect_left
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
from own_realm import PATIENCE_S, OwnRealm, wait_until

from harness_stream.adapters.kafka.log import KafkaReader
from harness_stream.core.lanes import partition_of
from harness_stream.core.rules.compile import Program, load
from tests.log_checker import Report, check_terminal

pytestmark = [pytest.mark.real, pytest.mark.load, pytest.mark.timeout(600)]

PARTITIONS, AGENTS = 4, 400
RATE = 1_000
# What the killed worker had taken in is answered by the other one: session 6 s + load, so the deadline is longer.
DEADLINE_MS = 60_000
SECOND_MS, HOUR_MS = 1_000, 3_600_000
# Alone, a partition has switched within 2 s, or 9 s if its worker was killed; ten times that among others.
BACKLOG_S_MAX = 90.0


def some_tenants(each):
    """Names of so many tenants for each partition."""
    found = defaultdict(list)
    for number in range(1_000):
        found[partition_of(f"tenant-{number}", PARTITIONS)].append(f"tenant-{number}")
    return [tenant for p in range(PARTITIONS) for tenant in found[p][:each]]


TENANTS = some_tenants(2)


# --- the rule sets ---


class Window(NamedTuple):
    """A window; a shadow rule of its name shows it at every verdict on an intent that `selection` selects."""

    kind: str
    selection: str
    group: str
    timespan_ms: int = HOUR_MS
    field: str | None = None
    attempts: bool = False


WINDOWS = {
    "all-of-agent": Window("event_count", "anything", "agent_id"),
    "sends-of-agent": Window("event_count", "sends", "agent_id"),
    "sends-of-tenant": Window("event_count", "sends", "tenant"),
    "reads-of-agent": Window("event_count", "reads", "agent_id"),
    "all-of-tenant": Window("event_count", "anything", "tenant"),
    "tried-by-agent": Window("event_count", "sends", "agent_id", attempts=True),
    "rows-of-tenant": Window("value_sum", "reads", "tenant", field="measures.rows"),
    "customers-of-agent": Window("value_count", "reads", "agent_id", field="resource.uri"),
    "recent-of-agent": Window("event_count", "searches", "agent_id", 5 * SECOND_MS),
}
SELECTS = {"anything": None, "reads": "crm.read", "sends": "email.send", "searches": "search.query"}
STAYING = ("all-of-agent", "sends-of-agent")
FORMER = (*STAYING, "sends-of-tenant")
ADDED = (*STAYING, "reads-of-agent", "all-of-tenant")
LATER = (*STAYING, "reads-of-agent", "tried-by-agent", "rows-of-tenant", "customers-of-agent", "recent-of-agent")
NO_BUDGET, BUDGET = 1_000_000, 5


def rules(names, budget=NO_BUDGET):
    """A rule set with these windows, which fire whatever they hold, and one limit on the sends of an agent."""
    head = f"""
rule_set: production
default: deny
params: {{budget: {budget}}}
selections:
  anything: "true"
  reads: event.action == "crm.read"
  sends: event.action == "email.send"
  searches: event.action == "search.query"
rules:
  - {{id: allowed, effect: approve, when: intent.action in identity.actions}}
  - id: budget
    effect: deny
    when: sends
    correlation: {{type: event_count, rules: [sends], group-by: [agent_id], timespan: 1h, condition: {{gt: params.budget}}}}
"""
    return head + "".join(_rule(name, WINDOWS[name]) for name in names)


def _rule(name, window):
    condition = "gte: 0" if window.field is None else f"field: {window.field}, gte: 0"
    include = ", include: attempts" if window.attempts else ""
    what = f"type: {window.kind}, rules: [{window.selection}], group-by: [{window.group}]"
    time = f"timespan: {window.timespan_ms // SECOND_MS}s"
    return f"""
  - id: {name}
    effect: deny
    mode: shadow
    when: {window.selection}
    correlation: {{{what}, {time}{include}, condition: {{{condition}}}}}
"""


TABLES = {
    "identity": [
        {
            "agent_id": f"agent-{number}",
            "tenant": TENANTS[number % len(TENANTS)],
            "actions": ["crm.read", "email.send", "search.query", "files.read"],
            "workloads": ["w-1"],
        }
        for number in range(AGENTS)
    ],
    "infrastructure": [{"workload_id": "w-1", "attested": True}],
}


# --- the story ---


class Heads:
    """The newest checkpoint of each partition."""

    def __init__(self, realm):
        self._reader = KafkaReader(realm.settings.bootstrap)
        self._newest = [None] * PARTITIONS
        for partition in range(PARTITIONS):
            self._reader.follow(realm.topics.heads, partition, 0)

    def newest(self):
        for record in self._reader.poll(1_000):
            self._newest[record.partition] = json.loads(record.value)
        return list(self._newest)

    def close(self):
        self._reader.close()


@dataclass
class Story:
    """What happened, by revision."""

    realm: OwnRealm
    heads: Heads
    pushed: dict[int, Program] = field(default_factory=dict)
    windows: dict[int, tuple[str, ...]] = field(default_factory=dict)
    refused: dict[int, dict] = field(default_factory=dict)
    refused_text: str = ""
    in_the_end: dict = field(default_factory=dict)
    killed: str = ""
    sent: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)


@pytest.fixture(scope="module")
def story(real_stack, tmp_path_factory):
    realm = OwnRealm(
        real_stack.bootstrap,
        real_stack.redis_url,
        tmp_path_factory.mktemp("push"),
        rules=rules(FORMER),
        tables=TABLES,
        partitions=PARTITIONS,
    ).prepare()
    story = Story(realm, Heads(realm), {1: load(rules(FORMER))}, {1: FORMER})
    with closing(story.heads), realm.worker() as doomed:
        wait_until(lambda: all(story.heads.newest()), why=lambda: "one worker does not own all partitions")
        (story.killed,) = writers(story)
        with realm.worker():
            wait_until(lambda: len(writers(story)) == 2, why=lambda: "the partitions are not shared")
            with sending(story):
                goes_on(story)
                push(story, FORMER, BUDGET)
                push(story, ADDED, BUDGET)
                push_what_is_no_bundle(story)
                push(story, LATER, BUDGET, then=doomed.kill)
                push(story, FORMER)
            story.in_the_end = status(realm)
    story.reports = realm.check(*story.pushed.values())
    return story


def push(story, names, budget=NO_BUDGET, then=lambda: None):
    """`harness rules push`; then each partition switches and decides on."""
    file = story.realm.folder / "rules.yaml"
    file.write_text(rules(names))
    said = story.realm.harness("rules", "push", file.name, "--set", f"budget={budget}", "--json")
    then()
    answer, program = json.loads(said.splitlines()[0]), load(rules(names, budget))
    revision = answer["revision"]
    assert {m.pop("severity") for m in answer.pop("mistakes")} <= {"warning"}
    stands = {"digest": program.digest, "revision": revision}
    assert answer == {"ok": True, "changed": True, "unusable": {}, **stands}
    story.pushed[revision], story.windows[revision] = program, names
    wait_until(
        lambda: all(head["rules"]["revision"] == revision for head in story.heads.newest()),
        why=lambda: f"revision {revision} is not in force: {standing(story)}",
        limit_s=BACKLOG_S_MAX,
    )
    goes_on(story)


def push_what_is_no_bundle(story):
    """As only who may write the rules topic could: a text that does not load, then bytes that are not what is named."""
    realm, newest, broken = story.realm, max(story.pushed), b'{"rule_set": "production"}'
    attempts = ((hashlib.sha256(broken).hexdigest(), broken), ("f" * 64, story.pushed[newest].bundle))
    for revision, (digest, bundle) in enumerate(attempts, newest + 1):
        realm.append_rules(f"bundle/{digest}", bundle)
        realm.append_rules("active/production", json.dumps({"digest": digest, "revision": revision}).encode())
        wait_until(
            lambda revision=revision: all(refused(head, revision) for head in story.heads.newest()),
            why=lambda: f"nobody says what became of it: {standing(story)}",
        )
        story.refused[revision] = status(realm, exit_code=1)
    story.refused_text = realm.harness("rules", "status", exit_code=1)
    goes_on(story)


@contextmanager
def sending(story):
    """The open loop, in a process of its own; in the end every intent of it is decided and in Redis."""
    realm = story.realm
    numbers = (PARTITIONS, RATE, AGENTS, DEADLINE_MS)
    words = (realm.settings.bootstrap, realm.settings.prefix, ",".join(TENANTS), *map(str, numbers))
    script = str(Path(__file__).with_name("open_loop.py"))
    sender = subprocess.Popen([sys.executable, script, *words], env=realm.environment(), stdout=subprocess.PIPE)
    try:
        yield
        sender.terminate()
        said = json.loads(sender.communicate(timeout=PATIENCE_S)[0])
    finally:
        sender.kill()
        sender.wait()
    assert (said["lost"], said["unsent"]) == ([], 0)
    story.sent = said["sent"]
    print(
        f"sent {len(story.sent):,} in {said['seconds']:.1f} s: {len(story.sent) / said['seconds']:,.0f}/s, asked {RATE:,}/s"
    )
    ends = [realm.end_of(realm.topics.intents, p) for p in range(PARTITIONS)]
    wait_until(
        lambda: [head["next_input"] for head in story.heads.newest()] == ends,
        why=lambda: f"not everything is decided: {standing(story)}, {ends}",
        limit_s=BACKLOG_S_MAX,
    )
    wait_until(
        lambda: realm.stored() == [head["verdict_offset"] for head in story.heads.newest()],
        why=lambda: f"Redis is behind: it stands at {realm.stored()}, the log at {standing(story)}",
    )


def goes_on(story, inputs=100):
    """Each partition decides so many inputs more."""
    before = [head["next_input"] for head in story.heads.newest()]
    wait_until(
        lambda: all(h["next_input"] >= b + inputs for h, b in zip(story.heads.newest(), before, strict=True)),
        why=lambda: f"a partition stands still: {before}, {standing(story)}",
        limit_s=BACKLOG_S_MAX,
    )


def standing(story):
    """Where each partition stands, for people."""
    shown = ("writer", "next_input", "verdict_offset", "rules", "next_rules")
    return [[head[name] for name in shown] for head in story.heads.newest()]


def refused(head, revision):
    """Does this partition know that it cannot use that revision?"""
    return (head["next_rules"] or {}).get("revision") == revision


def writers(story):
    return {head["writer"] for head in story.heads.newest() if head}


def status(realm, exit_code=0):
    return json.loads(realm.harness("rules", "status", "--json", exit_code=exit_code).splitlines()[0])


# --- counted a second time ---


class Tally:
    """Everything of one group so far."""

    def __init__(self):
        self.times, self.totals, self.last_seen = [], [0], {}

    def add(self, t, amount, value):
        self.times.append(t)
        self.totals.append(self.totals[-1] + amount)
        self.last_seen[value] = t

    def since(self, start):
        """(sum of the amounts, distinct values) from chain time `start` on, inclusive."""
        total = self.totals[-1] - self.totals[bisect_left(self.times, start)]
        return total, {value for value, t in self.last_seen.items() if t >= start}


class Shown(NamedTuple):
    """What one verdict says of one window, and what is true.

    `since_switch` is what would be true if nothing had been before the switch to its revision.
    """

    revision: int
    partition: int
    name: str
    reason: dict
    true: int
    since_switch: int


def shown(story):
    """Every window at every verdict, in the order of the log."""
    for partition, report in enumerate(story.reports):
        intents = story.realm.bodies(story.realm.topics.intents, partition)
        everything, since_switch = defaultdict(Tally), defaultdict(Tally)
        for body in report.effective:
            if body["kind"] == "switch":
                since_switch.clear()
            if body["kind"] != "verdict" or body["event"] is None:
                continue
            intent, revision = intents[body["covers"][1]], body["rules"]["revision"]
            for reason in body["shadow"]:
                if reason["code"] == "rule":
                    values = [
                        true_of(tallies, reason["rule"], intent, body["t"]) for tallies in (everything, since_switch)
                    ]
                    yield Shown(revision, partition, reason["rule"], reason, *values)
            for tallies in (everything, since_switch):
                take(tallies, intent, body)


def true_of(tallies, name, intent, t):
    """What the window of that name holds at time t, with the intent being judged."""
    window = WINDOWS[name]
    total, values = tallies[name, group_of(window, intent)].since(t - window.timespan_ms)
    if selects(window, intent):
        total, values = total + amount_of(window, intent), values | {intent["resources"][0]}
    return len(values) if window.kind == "value_count" else total


def take(tallies, intent, body):
    """What was approved has happened; what was denied was tried."""
    for name, window in WINDOWS.items():
        if selects(window, intent) and (body["decision"] == "approve" or window.attempts):
            tallies[name, group_of(window, intent)].add(body["t"], amount_of(window, intent), intent["resources"][0])


def selects(window, intent):
    return SELECTS[window.selection] in (None, intent["action"])


def group_of(window, intent):
    agent = intent["agent_id"]
    return agent if window.group == "agent_id" else TENANTS[int(agent.removeprefix("agent-")) % len(TENANTS)]


def amount_of(window, intent):
    return intent["measures"]["rows"] if window.kind == "value_sum" else 1


def switch_to(story, partition, revision):
    """A partition's switch to that revision."""
    effective = story.reports[partition].effective
    (switch,) = [b for b in effective if b["kind"] == "switch" and b["rules"]["revision"] == revision]
    return switch


@pytest.fixture(scope="module")
def seen(story):
    return list(shown(story))


# --- what must hold ---


def test_no_intent_goes_unanswered_and_none_is_answered_twice(story):
    check_terminal(story.reports, set(story.sent))
    answers = [body for report in story.reports for body in report.effective if body["kind"] != "claim"]
    verdicts = [body["intent_id"] for body in answers if body["kind"] == "verdict"]
    assert sorted(verdicts) == sorted(story.sent)
    assert {body["kind"] for body in answers} == {"verdict", "switch"}


def test_each_partition_switched_to_every_revision_that_loads_in_order_between_two_inputs(story):
    assert sorted(story.pushed) == [1, 2, 3, 6, 7]
    for report in story.reports:
        next_input, switches = 0, []
        for body in report.effective:
            if body["kind"] == "switch":
                assert body["covers"] == [next_input, next_input - 1]
                switches.append((body["rules"]["revision"], body["rules"]["digest"]))
            if body["kind"] == "verdict":
                assert body["rules"]["revision"] == switches[-1][0]
                next_input = body["covers"][1] + 1
        assert switches == [(revision, program.digest) for revision, program in story.pushed.items()]


def test_no_count_begins_anew_every_verdict_shows_what_the_log_says(seen):
    assert len(seen) > 0
    for at in seen:
        assert not at.reason.get("unknown"), at
        assert at.reason["counted"] == [at.true, at.true], at


def test_every_window_is_shown_under_every_revision_that_has_it_in_every_partition(story, seen):
    expected = {(r, p, name) for r, names in story.windows.items() for p in range(PARTITIONS) for name in names}
    assert {(at.revision, at.partition, at.name) for at in seen} == expected


@pytest.mark.parametrize(
    ("revision", "names"),
    [
        (3, set(ADDED) - set(FORMER)),
        (6, set(LATER) - set(ADDED)),
        (7, set(FORMER) - set(LATER)),
    ],
)
def test_a_new_window_counts_at_once_what_was_before_it(story, seen, revision, names):
    """Its first verdict already, though the switch is a moment ago; a window that comes back is a new one."""
    for partition in range(PARTITIONS):
        for name in names:
            told = [at for at in seen if (at.revision, at.partition, at.name) == (revision, partition, name)]
            # That of an agent who had not acted for as long as the window reaches tells nothing.
            telling = [at for at in told[:AGENTS] if at.true > at.since_switch]
            assert telling, told[:AGENTS]
            for at in (told[0], telling[0]):
                assert at.reason["counted"][0] == at.true, at
        assert switch_to(story, partition, revision)["warmed"] is not None


def test_an_edited_threshold_meets_the_count_as_it_stands(story):
    """An agent has its whole budget once, not once more after each push; the roll back gives it room again."""
    for partition, report in enumerate(story.reports):
        assert switch_to(story, partition, 2)["warmed"] is None, "no window began anew"
        approved, denied_under = defaultdict(int), set()
        for body in report.effective:
            judged = body["kind"] == "verdict" and {r["code"] for r in body["reasons"]} == {"rule"}
            if judged and body["event"]["action"] == "email.send":
                agent, revision = body["agent_id"], body["rules"]["revision"]
                limit = NO_BUDGET if revision in (1, 7) else BUDGET
                rule = [r["rule"] for r in body["reasons"]]
                assert rule == (["allowed"] if approved[agent] < limit else ["budget"])
                approved[agent] += body["decision"] == "approve"
                denied_under |= {revision} if body["decision"] == "deny" else set()
        assert 6 in denied_under
        assert not denied_under & {1, 7}


def test_what_is_no_bundle_changes_nothing_and_rules_status_says_so(story):
    in_force = {"digest": story.pushed[3].digest, "revision": 3}
    details = {4: "does not load", 5: "is not in the rules topic"}
    for revision, report in story.refused.items():
        assert (report["ok"], report["active"]["revision"]) == (False, revision)
        assert report["partitions"] == {str(p): in_force for p in range(PARTITIONS)}
        for told in report["next"].values():
            assert (told["revision"], told["state"]) == (revision, "unusable")
            assert details[revision] in told["detail"]
        assert len(report["next"]) == PARTITIONS
    assert story.refused_text.count("revision 5: unusable, bundle ffffffffffff is not in the rules topic") == PARTITIONS


def test_the_former_text_is_a_higher_revision_and_in_force_everywhere_in_the_end(story):
    assert story.pushed[7].digest == story.pushed[1].digest
    in_force = {"digest": story.pushed[1].digest, "revision": 7}
    assert story.in_the_end["active"] == in_force | {"now": False}
    assert story.in_the_end["partitions"] == {str(p): in_force for p in range(PARTITIONS)}
    assert story.in_the_end["next"] == {}


def test_what_the_killed_worker_owned_was_taken_over(story):
    last_writers = [[b["writer"] for b in report.effective if b["kind"] == "claim"][-2:] for report in story.reports]
    assert any(writers[0] == story.killed != writers[-1] for writers in last_writers)
    assert all(writers[-1] != story.killed for writers in last_writers)
