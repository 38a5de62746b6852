"""What both logs say afterwards: the product's auditor, coverage, and what clients were told against what is written."""

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, fields

from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.core.coverage import miscovered, twice_settled
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from tests.faults.site import RULES
from tests.log_checker import audited, check_store

# After the last ask everything is covered within a takeover; a busy machine takes several.
COVERED_S_MAX = 60.0
STORE_S_MAX = 30.0  # a refill of some hundred units takes milliseconds
EXAMPLES = 5


@dataclass
class Verified:
    """One life of a realm, from genesis on. Every figure but the first five must be 0.

    Attributes:
        inputs: offsets of the input log that hold a record.
        acknowledged: intents of which a client was told that the broker has them.
        verdicts: effective ones.
        rejects: effective ones; some intents are sent twice.
        void: decision records that do not count: a zombie's, or of a lost publish.
        gaps: input offsets that are not covered exactly once.
        doubles: intents with two terminal verdicts.
        wrong: what the auditor found, and units of the store that differ from the fold.
        lost: acknowledged intents that are not in the log where the broker said.
        never_ended: acknowledged intents without verdict or reject.
        unwritten: approvals a client obeyed that no effective record holds.
        decisions: effective verdicts by decision.
        examples: the first of what is wrong, in words.
    """

    inputs: int = 0
    acknowledged: int = 0
    verdicts: int = 0
    rejects: int = 0
    void: int = 0
    gaps: int = 0
    doubles: int = 0
    wrong: int = 0
    lost: int = 0
    never_ended: int = 0
    unwritten: int = 0
    decisions: Counter = field(default_factory=Counter)
    examples: list = field(default_factory=list)

    MUST_BE_NONE = ("gaps", "doubles", "wrong", "lost", "never_ended", "unwritten")

    @property
    def faulty(self):
        return any(getattr(self, name) for name in self.MUST_BE_NONE)

    def wrongs(self, name, found):
        setattr(self, name, getattr(self, name) + len(found))
        self.examples += [f"{name}: {each}" for each in list(found)[:EXAMPLES]]

    def add(self, other):
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


def verified(realm, answers, logs):
    """Wait until every input is covered, then read everything."""
    found = Verified(acknowledged=len(answers.acked))
    program = load(RULES)
    bundles, name = {program.digest: Windows(program)}, incarnation(realm.settings)
    approved, ended = set(), set()
    logs.read()
    wait_until_covered(realm, logs)
    for partition in range(realm.settings.partitions):
        inputs, decisions = (realm.records(t, partition) for t in (realm.topics.intents, realm.topics.verdicts))
        names = {"partitions": realm.settings.partitions, "realm": realm.settings.realm}
        report = audited(inputs, decisions, partition, name, bundles, **names)
        _take(found, report, partition, inputs)
        check_landed(found, answers, partition, inputs)
        found.wrongs("wrong", store_differs(realm, report, partition))
        approved |= {key(b) for b in report.effective if b["kind"] == "verdict" and b["decision"] == "approve"}
        ended |= {b.get("intent_id", b.get("id")) for b in report.effective if b["kind"] in {"verdict", "reject"}}
    found.wrongs("never_ended", answers.acked.keys() - ended)
    found.wrongs("unwritten", answers.approved - approved)
    return found


def _take(found, report, partition, inputs):
    kinds = Counter(body["kind"] for body in report.effective)
    found.inputs += len(inputs)
    found.verdicts += kinds["verdict"]
    found.rejects += kinds["reject"]
    found.void += report.void
    found.decisions.update(b["decision"] for b in report.effective if b["kind"] == "verdict")
    end = inputs[-1].offset + 1 if inputs else 0
    # What lies behind the last record are markers of transactions, which a record may cover or not.
    holes = {offset: times for offset, times in miscovered(report.effective, end).items() if offset < end or times > 1}
    found.wrongs("gaps", [f"{partition}/{offset} covered {times} times" for offset, times in holes.items()])
    found.wrongs("doubles", twice_settled(report.effective))
    found.wrongs("wrong", [str(finding) for finding in report.findings])


def key(body):
    return body["agent_id"], body["intent_id"]


def check_landed(found, answers, partition, inputs):
    """Is everything in the log where the broker said?"""
    there = {record.offset: record.value for record in inputs}
    places = {i: offset for i, (_, where, offset) in answers.acked.items() if where == partition}
    found.wrongs("lost", [i for i, offset in places.items() if i.encode() not in there.get(offset, b"")])


def wait_until_covered(realm, logs):
    """Effective records cover the last input of each partition."""
    end = time.monotonic() + COVERED_S_MAX
    for partition in range(realm.settings.partitions):
        last = max((record.offset for record in realm.records(realm.topics.intents, partition)), default=-1)
        while logs.next_input(partition) <= last:
            where = f"{partition}: decided up to {logs.next_input(partition)}, input up to {last}"
            assert time.monotonic() < end, where
            time.sleep(0.1)
            logs.read()


def store_differs(realm, report, partition):
    """What is wrong with the store; it follows the log within a moment."""
    end = time.monotonic() + STORE_S_MAX
    while True:
        with closing(realm._store()) as store:
            try:
                check_store(report, store, partition)
            except AssertionError as error:
                if time.monotonic() > end:
                    return [f"store of {partition}: {error}"[:500]]
            else:
                return []
        time.sleep(0.5)
