"""`harness agents suspend`, `kill`, `resume`: only the status changes, a kill stays, and what is said is what is known."""

from __future__ import annotations

import json

import pytest
from scripted_worker import INCARNATION, PARTITIONS, TOPICS, Script, make_broker

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.memory.broker import Fate, MemoryBroker
from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedVerifier
from harness_stream.cli.agents import row_of, written
from harness_stream.cli.agents_seen import Seen, Watch
from harness_stream.cli.agents_status import seen_lines, told, written_lines
from harness_stream.cli.decision_log import DecisionLog
from harness_stream.cli.tables import Options, load_folder
from harness_stream.core.tables import TABLES, IdentityRow
from harness_stream.errors import BrokerUnavailable, CallerError, Unavailable
from harness_stream.runtime.agent_status import Changed, set_status
from harness_stream.runtime.table_load import ATTEMPTS_MAX, read_tables
from harness_stream.wire.codec import encode
from tests.signed import SignedRealm

TOPIC, AGENT = "harness.identity", "support-1"
ROW = IdentityRow(agent_id=AGENT, tenant="acme", actions=("crm.read",), addresses=("me",), keys=SignedRealm().keys("a"))


class Realm:
    """The table topics in memory."""

    def __init__(self):
        self.clock = SystemClock()
        self.topics = {name: f"harness.{name}" for name in TABLES}
        self.broker = MemoryBroker(dict.fromkeys(self.topics.values(), 1), self.clock.now_ms)
        self.put(ROW)

    def put(self, row, headers=()):
        return self.broker.append(TOPIC, 0, row.key.encode(), encode(row), headers)

    def set(self, status, agent=AGENT, writer=None, **how):
        ports = MemoryReader(self.broker), writer or MemoryWriter(self.broker)
        return set_status(*ports, TOPIC, self.clock, lambda _: None, agent, status, **how)

    def row(self, agent=AGENT):
        view = read_tables(MemoryReader(self.broker), {"identity": TOPIC}, self.clock, lambda _: None)["identity"]
        return view.row(agent)

    def load(self, folder, text, writer=None, **options):
        (folder / "identity.yaml").write_text(text)
        ports = MemoryReader(self.broker), writer or MemoryWriter(self.broker)
        return load_folder(folder, *ports, topics=self.topics, clock=self.clock, options=Options(**options))


@pytest.fixture
def realm():
    return Realm()


# --- The row ---


@pytest.mark.parametrize("status", ["suspended", "killed"])
def test_only_the_status_changes(realm, status):
    changed = realm.set(status)
    assert changed == Changed(ROW.model_copy(update={"status": status}), "active", 1, written=True)
    assert realm.row() == changed.row
    assert realm.row().keys == ROW.keys


def test_a_suspended_agent_may_be_killed_and_one_that_is_resumed_is_as_it_was(realm):
    realm.set("suspended")
    assert realm.set("active").before == "suspended"
    assert realm.row() == ROW
    realm.set("suspended")
    assert realm.set("killed").before == "suspended"


def test_what_is_so_already_writes_nothing(realm):
    first = realm.set("killed")
    again = realm.set("killed")
    assert (again.written, again.revision) == (False, first.revision)
    assert realm.broker.bounds(TOPIC, 0)[1] == 2


def test_the_newest_row_counts(realm):
    newer = realm.put(ROW.model_copy(update={"roles": ("approver",)}))
    changed = realm.set("suspended")
    assert changed.revision == newer + 1
    assert realm.row().roles == ("approver",)


@pytest.mark.parametrize("status", ["active", "suspended"])
def test_a_kill_is_final_unless_it_is_said_that_it_was_one(realm, status):
    realm.set("killed")
    with pytest.raises(CallerError, match="meant to be final; nothing was written") as refused:
        realm.set(status)
    assert "--from-killed" in refused.value.hint
    assert realm.row().status == "killed"
    assert realm.set("active", from_killed=True).before == "killed"
    assert realm.row() == ROW


def test_an_unknown_agent_is_said_with_the_one_that_was_meant(realm):
    with pytest.raises(CallerError, match="there is no agent `suport-1`") as refused:
        realm.set("killed", "suport-1")
    assert "`support-1`" in refused.value.hint
    with pytest.raises(CallerError) as refused:
        realm.set("killed", "zzz")
    assert "tables get identity" in refused.value.hint


def test_an_unreadable_row_is_said_to_be_one(realm):
    realm.broker.append(TOPIC, 0, AGENT.encode(), b'{"no":"row"}')
    with pytest.raises(CallerError, match="cannot be read, so every intent of it is denied"):
        realm.set("killed")


class Racing(MemoryWriter):
    """Right before each of our rows somebody else writes one; so many times."""

    def __init__(self, broker, others):
        super().__init__(broker)
        self._broker_of_all, self.others = broker, others

    def append(self, topic, partition, key, value, headers=(), *, token=0):
        if self.others:
            other = self.others.pop(0)
            self._broker_of_all.append(topic, partition, other.key.encode(), encode(other), UNSIGNED_HEADERS)
        super().append(topic, partition, key, value, headers, token=token)


def test_a_row_that_somebody_else_wrote_meanwhile_is_not_lost(realm):
    other = ROW.model_copy(update={"roles": ("approver",), "actions": ()})
    changed = realm.set("suspended", writer=Racing(realm.broker, [other]))
    assert realm.row() == changed.row == other.model_copy(update={"status": "suspended"})


def test_other_agents_rows_meanwhile_do_not_matter(realm):
    other = IdentityRow(agent_id="other-1", tenant="acme")
    assert realm.set("suspended", writer=Racing(realm.broker, [other])).revision == 2
    assert realm.broker.bounds(TOPIC, 0)[1] == 3


def test_a_kill_meanwhile_is_not_taken_back_by_a_suspension(realm):
    killed = ROW.model_copy(update={"status": "killed"})
    with pytest.raises(CallerError, match="final"):
        realm.set("suspended", writer=Racing(realm.broker, [killed]))
    realm.set("killed")
    assert realm.row().status == "killed"


def test_who_writes_it_again_and_again_is_to_be_found(realm):
    with pytest.raises(Unavailable, match="written by somebody else"):
        realm.set("suspended", writer=Racing(realm.broker, [ROW] * ATTEMPTS_MAX))


def test_a_row_that_was_not_confirmed_is_said_not_to_be(realm):
    with pytest.raises(BrokerUnavailable, match="not confirmed"):
        realm.set("killed", writer=MemoryWriter(realm.broker, fate=lambda _: Fate(lands=False, reports="failed")))


# --- Loads afterwards ---


@pytest.mark.parametrize("status", ["suspended", "killed"])
def test_a_load_takes_no_stop_back_by_saying_nothing(realm, tmp_path, status):
    realm.set(status)
    report = realm.load(tmp_path, f"- {{agent_id: {AGENT}, tenant: acme, roles: [approver]}}")
    assert report.applied
    assert (realm.row().status, realm.row().roles) == (status, ("approver",))


def test_a_load_may_take_a_suspension_back_and_never_a_kill(realm, tmp_path):
    active = f"- {{agent_id: {AGENT}, tenant: acme, status: active}}\n- {{agent_id: b, tenant: acme}}"
    realm.set("suspended")
    assert realm.load(tmp_path, active).applied
    assert realm.row().status == "active"
    realm.set("killed")
    report = realm.load(tmp_path, active)
    assert not report.applied
    [mistake] = report.mistakes
    assert "was killed, and this row would make it active" in mistake.message
    assert "--from-killed" in mistake.fix
    assert realm.load(tmp_path, active.replace("active", "killed")).applied


@pytest.mark.parametrize("said", ["", ", status: active"])
def test_a_kill_while_a_load_is_under_way_is_not_lost(realm, tmp_path, said):
    killed = ROW.model_copy(update={"status": "killed", "roles": ("auditor",)})
    text = f"- {{agent_id: {AGENT}, tenant: acme, roles: [approver]{said}}}\n- {{agent_id: other-1, tenant: acme}}"
    report = realm.load(tmp_path, text, writer=Racing(realm.broker, [killed]))
    assert realm.row().status == "killed"
    assert realm.row().keys == ROW.keys
    assert report.tables["identity"].revision == realm.broker.bounds(TOPIC, 0)[1] - 1
    assert realm.row("other-1") == IdentityRow(agent_id="other-1", tenant="acme")


def test_keys_that_come_while_a_load_is_under_way_are_not_lost(realm, tmp_path):
    rotated = ROW.model_copy(update={"keys": SignedRealm().keys("new")})
    realm.load(tmp_path, f"- {{agent_id: {AGENT}, tenant: acme, roles: [approver]}}", writer=Racing(realm.broker, [rotated]))
    assert (realm.row().roles, realm.row().keys) == (("approver",), rotated.keys)


def test_a_row_in_between_that_says_nothing_else_costs_no_second_one(realm, tmp_path):
    realm.load(tmp_path, f"- {{agent_id: {AGENT}, tenant: acme, roles: [approver]}}", writer=Racing(realm.broker, [ROW]))
    assert realm.broker.bounds(TOPIC, 0)[1] == 3


# --- Enrolling meanwhile ---


def enrolled(realm, writer):
    ports = MemoryReader(realm.broker), writer
    view = read_tables(ports[0], {"identity": TOPIC}, realm.clock, lambda _: None)["identity"]
    make = lambda before: row_of(view, AGENT, {"actions": ["crm.export"]}, SignedRealm().keys("new"), 1, before)  # noqa: E731
    return written(*ports, {"identity": TOPIC}, realm.clock, view, make(None), make)


def test_a_kill_while_its_keys_are_rotated_is_not_lost(realm):
    killed = ROW.model_copy(update={"status": "killed"})
    row, revision = enrolled(realm, Racing(realm.broker, [killed]))
    assert realm.row() == row
    assert (row.status, row.actions, revision) == ("killed", ("crm.export",), realm.broker.bounds(TOPIC, 0)[1] - 1)
    assert {key.kid for key in row.keys} == {key.kid for name in ("a", "new") for key in SignedRealm().keys(name)}


def test_who_writes_what_is_enrolled_again_and_again_is_to_be_found(realm):
    with pytest.raises(Unavailable, match="written by somebody else"):
        enrolled(realm, Racing(realm.broker, [ROW] * ATTEMPTS_MAX))


# --- Who has seen it ---


class Logs:
    """A decision log by hand; each partition has an owner of its own unless it is said otherwise."""

    def __init__(self, *writers):
        self.clock = SystemClock()
        self.broker = make_broker(self.clock.now_ms)
        self.scripts = [Script(self.broker, number, writer) for number, writer in enumerate(writers)]
        for script in self.scripts:
            script.begin()

    def watch(self, revision):
        reader, verifier = MemoryReader(self.broker), UnsignedVerifier()
        log = DecisionLog(reader, TOPICS, INCARNATION, verifier, self.clock)
        return Watch(reader, log, verifier, TOPICS.verdicts, PARTITIONS, revision)

    def decide(self, number, revision, script=None, **over):
        body = {"type": "intent", "intent_id": "i", "agent_id": "a", "arguments_digest": "5", "enforcer_nonce": "n"}
        offset = self.broker.append(TOPICS.intents, number, None, json.dumps(body).encode())
        record = self.broker.read(TOPICS.intents, number, offset, 1)[0]
        inputs = {"tables": {"identity": [revision, 0]}}
        (script or self.scripts[number]).verdict(record, **{"inputs": inputs} | over)


A, B, C = "a" * 32, "b" * 32, "c" * 32


def test_a_verdict_on_that_revision_tells_and_an_older_one_does_not():
    logs = Logs(A, B)
    watch = logs.watch(7)
    assert watch.look() == Seen((), (0, 1), (2, 3))
    logs.decide(0, 6)
    assert watch.look() == Seen((), (0, 1), (2, 3))
    logs.decide(0, 7)
    assert watch.look() == Seen((0,), (1,), (2, 3))
    logs.decide(1, 9)
    assert watch.look() == Seen((0, 1), (), (2, 3))


def test_each_step_is_told_until_all_have_seen_it_or_time_is_up():
    logs, told = Logs(A, B), []
    watch = logs.watch(7)
    logs.decide(0, 7)
    assert watch.until(0.05, told.append) == Seen((0,), (1,), (2, 3))
    assert told == [Seen((0,), (1,), (2, 3))]
    logs.decide(1, 7)
    assert watch.until(60, told.append) == Seen((0, 1), (), (2, 3))


def test_a_process_reads_one_table_for_all_its_partitions():
    logs = Logs(A, B, A)
    watch = logs.watch(7)
    logs.decide(2, 7)
    assert watch.look() == Seen((0, 2), (1,), (3,))


def test_a_notice_tells_as_well():
    logs = Logs(A)
    watch = logs.watch(7)
    logs.scripts[0].notice()
    assert watch.look() == Seen((0,), (), (1, 2, 3))


def test_what_was_decided_before_one_looked_counts_too():
    logs = Logs(A)
    logs.decide(0, 7)
    assert logs.watch(7).look().partitions == (0,)


def test_a_former_owner_tells_nothing_of_the_one_in_force():
    logs = Logs(A, B)
    logs.decide(0, 7)
    zombie = logs.scripts[0].twin()
    Script(logs.broker, 0, C, logs.scripts[0].place).claim()
    watch = logs.watch(7)
    logs.decide(0, 7, zombie)
    assert 0 in watch.look().unknown


@pytest.mark.parametrize("inputs", [{}, {"tables": []}, {"tables": {"identity": []}}, {"tables": {"identity": ["x"]}}, None])
def test_a_record_that_says_nothing_of_the_table_tells_nothing(inputs):
    logs = Logs(A)
    watch = logs.watch(7)
    logs.decide(0, 7, inputs=inputs)
    assert watch.look().partitions == ()


# --- What is said ---

WRITTEN = Changed(ROW.model_copy(update={"status": "killed"}), "active", 17, written=True)


def test_what_is_not_known_is_said_not_to_be():
    assert written_lines(WRITTEN) == ["`support-1` is killed (it was active), row at revision 17"]
    text = "\n".join(seen_lines(Seen((0, 2), (1,), (3,))))
    assert "the workers of 2 of 4 partitions have seen it" in text
    assert "of partition 1 it is not known" in text
    assert "partition 3: no worker has ever decided there" in text


def test_a_feeder_that_would_write_it_again_is_named():
    assert "`/harness/feeder` keeps this row" in written_lines(WRITTEN._replace(feeder="/harness/feeder"))[1]


def test_programs_are_told_the_same():
    document = told(WRITTEN, Seen((0, 2), (1,), (3,)))
    assert document["seen"] == {"partitions": [0, 2], "unknown": [1], "unowned": [3]}
    assert {name: document[name] for name in ("agent_id", "status", "before", "written", "revision")} == {
        "agent_id": AGENT,
        "status": "killed",
        "before": "active",
        "written": True,
        "revision": 17,
    }
    assert told(WRITTEN, "no keys")["detail"] == "no keys"
    assert told(WRITTEN, None)["seen"] is None
    assert written_lines(WRITTEN._replace(written=False)) == ["`support-1` is killed already; nothing was written"]
