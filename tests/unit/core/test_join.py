"""What the four tables say of one intent (DESIGN §3): an absent row is a fact, a broken one is not absence."""

import json

import factories as make
import pytest

from harness_stream.core.join import ABSENT, Table, empty_tables, join

FIELDS = {"risk": frozenset({"score", "level"}), "infrastructure": frozenset({"attested"})}


def joined(tables, at: int = make.NOW, **over):
    return join(make.intent(**over), tables, at, FIELDS)


def zone(subject: str, name: str) -> dict:
    return {"subject": subject, "zone": name}


def risk(subject: str, score: float, until: int = make.NOW) -> dict:
    return {"subject": subject, "score": score, "valid_until": until}


class TestAbsent:
    def test_rows_that_are_not_there_are_recorded_as_absent(self):
        inputs = joined(empty_tables())
        assert [inputs[name] for name in ("identity", "infrastructure", "risk")] == [ABSENT] * 3
        assert inputs["resources"][0]["zone"] == ""
        assert "broken" not in inputs

    def test_a_deleted_row_is_absent(self):
        tables = make.tables()
        tables["identity"].put("agent-1", None, 9)
        assert joined(tables)["identity"] == ABSENT
        assert tables["identity"].revision == 9


class TestRecorded:
    def test_revision_and_freshness_of_every_table(self):
        inputs = joined(make.tables(fresh_as_of=5))
        assert inputs["tables"]["identity"] == [3, 5]
        assert inputs["tables"]["risk"] == [-1, 5]

    def test_only_fields_that_rules_or_the_engine_read(self):
        inputs = joined(make.tables())
        assert inputs["infrastructure"] == {"present": True, "environment": "prod", "attested": True}
        assert "actions" not in inputs["identity"]

    def test_who_stands_above_only_if_somebody_does(self):
        assert "above" not in joined(make.tables())
        rows = [make.identity_row("boss", delegates=["agent-1"], delegation={"depth": 2}), make.identity_row()]
        found = join(make.intent(), make.tables(*rows), make.NOW, FIELDS, ("gone", "boss"))["above"]
        assert found[0] == {"agent_id": "gone", "present": False}
        assert (found[1]["delegates"], found[1]["depth"], found[1]["exceeded"]) == (True, 2, False)


class TestPlainRows:
    """What is remembered of a row is what the row says now, as each rule set asks for it."""

    def test_the_next_row_is_seen_at_once(self):
        tables = make.tables()
        for zone_now in ("a", "b"):
            row = zone("resource:crm://*", zone_now)
            tables["classification"].put("resource:crm://*", json.dumps(row).encode(), 9)
            assert [joined(tables)["resources"][0]["zone"] for _ in range(2)] == [zone_now] * 2

    def test_a_row_that_broke_is_named_though_it_was_remembered(self):
        tables = make.tables()
        assert joined(tables)["identity"]["present"]
        tables["identity"].put("agent-1", b"{", 9)
        assert (joined(tables)["identity"], joined(tables)["broken"]) == (ABSENT, ["identity"])

    @pytest.mark.parametrize(("table", "key"), [("identity", "agent-1"), ("infrastructure", "w-1")])
    def test_a_row_that_was_deleted_is_absent_though_it_was_remembered(self, table: str, key: str):
        tables = make.tables()
        assert joined(tables)[table]["present"]
        tables[table].put(key, None, 9)
        assert joined(tables)[table] == ABSENT

    def test_neither_is_a_deleted_speaker_or_a_deleted_prefix(self):
        row = zone("resource:crm://*", "a")
        tables = make.tables(make.identity_row(), make.identity_row("enforcer-1"))
        tables["classification"].put(row["subject"], json.dumps(row).encode(), 8)
        found = joined(tables, by="enforcer-1")
        assert (found["speaker"]["present"], found["resources"][0]["zone"]) == (True, "a")
        tables["identity"].put("enforcer-1", None, 9)
        tables["classification"].put(row["subject"], None, 9)
        found = joined(tables, by="enforcer-1")
        assert (found["speaker"], found["resources"][0]["zone"]) == (ABSENT, "")

    def test_each_rule_set_gets_the_fields_it_reads(self):
        tables = make.tables()
        for fields in ({"region"}, {"zone", "region"}, set(), {"region"}):
            read = {"infrastructure": frozenset(fields)}
            found = join(make.intent(), tables, make.NOW, read)["infrastructure"]
            assert found.keys() == {"present", "environment", *fields}

    def test_beyond_what_is_remembered_nothing_changes(self, monkeypatch: pytest.MonkeyPatch):
        tables = make.tables(*(make.identity_row(name) for name in ("agent-1", "agent-2")))
        known = {name: joined(tables, agent_id=name, by=name)["identity"] for name in ("agent-1", "agent-2")}
        monkeypatch.setattr("harness_stream.core.join._PLAIN_ROWS_MAX", 1)
        monkeypatch.setattr("harness_stream.core.join._PLAIN_WAYS_MAX", 1)
        tables = make.tables(*(make.identity_row(name) for name in ("agent-1", "agent-2")))
        for name in ("agent-1", "agent-2", "agent-1"):
            assert joined(tables, agent_id=name, by=name)["identity"] == known[name]


class TestClassification:
    def test_the_exact_row_then_the_longest_prefix(self):
        rows = {"crm://*": "short", "crm://orders/*": "long", "crm://orders/1": "exact"}
        tables = make.tables(classification=[zone(f"resource:{key}", name) for key, name in rows.items()])
        uris = ("crm://orders/1", "crm://orders/12", "crm://people/1", "mail://x")
        assert [r["zone"] for r in joined(tables, resources=uris)["resources"]] == ["exact", "long", "short", ""]

    def test_a_longer_prefix_wins_whole(self):
        rows = [{**zone("resource:crm://*", "inner"), "labels": ["pii"]}, zone("resource:crm://orders/*", "")]
        assert joined(make.tables(classification=rows))["resources"][0]["labels"] == []

    def test_a_deleted_prefix_no_longer_matches(self):
        tables = make.tables(classification=[zone("resource:crm://*", "inner")])
        tables["classification"].put("resource:crm://*", None, 2)
        assert joined(tables)["resources"][0]["zone"] == ""

    def test_a_tools_labels_are_joined(self):
        tables = make.tables(classification=[{"subject": "tool:crm.*", "labels": ["crm"]}])
        assert joined(tables)["tool_labels"] == ["crm"]

    def test_the_system_is_the_scheme(self):
        assert joined(make.tables())["resources"][0]["system"] == "crm"


class TestRisk:
    @pytest.mark.parametrize(
        "subject", ["agent:agent-1", "tool:crm.read", "resource:crm://orders/1", "tenant:tenant-1"]
    )
    def test_every_subject_of_the_intent_counts(self, subject: str):
        assert joined(make.tables(risk=(risk(subject, 0.5),)))["risk"]["score"] == 0.5

    def test_of_equal_ones_the_first_subjects_row_counts(self):
        rows = [risk(subject, 0.5) | {"level": subject} for subject in ("tenant:tenant-1", "tool:crm.read", "agent:agent-1")]
        for order in (rows, rows[::-1]):
            assert joined(make.tables(risk=tuple(order)))["risk"]["level"] == "agent:agent-1"

    def test_the_highest_valid_one_is_seen(self):
        rows = (risk("agent:agent-1", 0.2), risk("tool:crm.read", 0.7), risk("tenant:tenant-1", 0.9, make.NOW - 1))
        assert joined(make.tables(risk=rows))["risk"]["score"] == 0.7

    def test_it_is_valid_up_to_its_end_and_absent_after(self):
        tables = make.tables(risk=(risk("agent:agent-1", 0.2),))
        assert joined(tables, at=make.NOW)["risk"]["present"]
        assert joined(tables, at=make.NOW + 1)["risk"] == ABSENT

    def test_another_agents_risk_does_not_count(self):
        assert joined(make.tables(risk=(risk("agent:agent-2", 0.9),)))["risk"] == ABSENT


class TestBroken:
    @pytest.mark.parametrize(
        ("table", "key"),
        [
            ("identity", "agent-1"),
            ("infrastructure", "w-1"),
            ("risk", "tool:crm.read"),
            ("classification", "resource:crm://orders/1"),
            ("classification", "resource:crm://*"),
            ("classification", "tool:crm.read"),
        ],
    )
    @pytest.mark.parametrize("value", [b"{", b"{}", b'"text"'])
    def test_a_row_that_cannot_be_read_is_named_never_absent(self, table: str, key: str, value: bytes):
        tables = make.tables()
        tables[table].put(key, value, 5)
        assert joined(tables)["broken"] == [table]

    def test_reading_it_raises_each_time(self):
        table = Table("identity")
        table.put("agent-1", b"{", 0)
        for _ in range(2):
            with pytest.raises(ValueError, match="agent-1"):
                table.row("agent-1")

    def test_a_good_row_after_it_is_read(self):
        tables = make.tables()
        good = json.dumps(make.identity_row()).encode()
        tables["identity"].put("agent-1", b"{", 5)
        assert joined(tables)["broken"] == ["identity"]
        tables["identity"].put("agent-1", good, 6)
        assert "broken" not in joined(tables)


def test_rows_that_seem_to_stop_somebody_are_known_with_their_revision_the_newest_last():
    table = Table("identity")

    def put(agent: str, revision: int, **over) -> None:
        table.put(agent, None if over.get("gone") else json.dumps(make.identity_row(agent, **over)).encode(), revision)

    for revision, (agent, over) in enumerate(
        [("a", {"status": "killed"}), ("b", {}), ("c", {"status": "suspended"}), ("a", {"status": "suspended"})]
    ):
        put(agent, revision, **over)
    assert list(table.stopped.items()) == [("c", 2), ("a", 3)]
    put("c", 4)
    put("a", 5, gone=True)
    assert table.stopped == {}
