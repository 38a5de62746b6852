"""`harness tables load` and `get`: files and their mistakes, what is written, what never is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.memory.broker import Fate, MemoryBroker
from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.adapters.tables_source import ROW_NODES_MAX, read_folder
from harness_stream.cli import tables
from harness_stream.cli.tables import Options, load_folder, topics_of
from harness_stream.config import Settings
from harness_stream.core.events import Part
from harness_stream.core.limits import INTEGER_MAX
from harness_stream.core.tables import TABLES, TIME_FIELDS, IdentityRow, lane_of
from harness_stream.errors import BrokerUnavailable, ConfigError
from harness_stream.runtime.table_load import SILENCE_MS_MAX, read_tables
from harness_stream.wire.codec import decode_row

SAMPLES = Path(__file__).parents[2] / "examples" / "tables"
TOPICS = topics_of(Settings())
RISK = "- {{subject: '{}', score: 0.5, valid_until: 1}}\n"
IDENTITY = "- {agent_id: a, tenant: acme}\n- {agent_id: b, tenant: acme}\n"


class Realm:
    """The four table topics in memory, and a folder to load from."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = SystemClock()
        self.broker = MemoryBroker(dict.fromkeys(TOPICS.values(), 1), self.clock.now_ms)

    def write(self, **files):
        for name, text in files.items():
            (self.folder / name.replace("_", ".")).write_text(text, encoding="utf-8")

    def load(self, **options):
        reader, writer = MemoryReader(self.broker), MemoryWriter(self.broker)
        return load_folder(self.folder, reader, writer, topics=TOPICS, clock=self.clock, options=Options(**options))

    def feed(self, table, key, value):
        """A row that its feeder writes, which says so."""
        writer = MemoryWriter(self.broker)
        writer.append(TOPICS[table], 0, key.encode(), value, [("ce_source", b"/harness/a-feeder")])

    def log(self, table="identity"):
        return [(r.key.decode(), r.value) for r in self.broker.read(TOPICS[table], 0, 0, 10_000)]

    def rows(self, table="identity"):
        return {key: decode_row(table, value) for key, value in dict(self.log(table)).items() if value is not None}


@pytest.fixture
def realm(tmp_path):
    return Realm(tmp_path)


def places(mistakes):
    return [(Path(m.file).name, m.line, m.message) for m in mistakes]


# --- Files ---

NINE = "2026-11-02T09:00:00Z"
NINE_MS = 1_793_610_000_000


@pytest.mark.parametrize("time", [NINE, f'"{NINE}"', str(NINE_MS)])
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("risk_yaml", "- {{subject: 'tool:a', score: 0.5, valid_until: {}}}\n"),
        ("risk_jsonl", '{{"subject":"tool:a","score":0.5,"valid_until":{}}}\n'),
        ("risk_csv", "subject,score,valid_until\ntool:a,0.5,{}\n"),
    ],
)
def test_a_time_is_rfc_3339_in_utc_or_epoch_ms_in_every_kind_of_file(realm, file, text, time):
    time = f'"{NINE}"' if "jsonl" in file and time == NINE else time
    realm.write(**{file: text.format(time)})
    assert not realm.load().mistakes
    assert realm.rows("risk")["tool:a"].valid_until == NINE_MS


def test_times_inside_of_a_field_have_both_forms_too(realm):
    key = f"{{kid: k, alg: ed25519, public: {'Ab3_' * 10}Ab0, not_before: {NINE}, not_after: {NINE_MS}}}"
    realm.write(identity_yaml=f"- {{agent_id: a, keys: [{key}]}}\n")
    assert not realm.load().mistakes
    [stored] = realm.rows()["a"].keys
    assert (stored.not_before, stored.not_after) == (NINE_MS, NINE_MS)


@pytest.mark.parametrize("time", ["2026-11-02", "2026-11-02T09:00:00", "2026-11-02T09:00:00+01:00", "soon", "-1", "1.5"])
def test_what_is_no_time_is_told_both_forms(realm, time):
    realm.write(risk_csv=f"subject,score,valid_until\ntool:a,0.5,{time}\n")
    [mistake] = realm.load().mistakes
    assert (mistake.line, mistake.message) == (2, "`valid_until` is no time")
    assert mistake.fix == "write RFC 3339 in UTC, 2026-11-02T09:00:00Z, or epoch ms"


def test_every_time_of_a_row_may_be_written_in_both_forms():
    def fields(model):
        for name, about in model.model_fields.items():
            yield name, about
            for inner in (*get_args(about.annotation), about.annotation):
                if isinstance(inner, type) and issubclass(inner, Part):
                    yield from fields(inner)

    bound = [(name, about.metadata) for model in TABLES.values() for name, about in fields(model)]
    assert {name for name, metadata in bound if any(getattr(m, "le", 0) == INTEGER_MAX for m in metadata)} == TIME_FIELDS



def test_the_same_row_reads_the_same_from_every_format(tmp_path):
    (tmp_path / "identity.yaml").write_text(
        "- agent_id: y\n  roles: [r1, r2]\n  delegated_only: true\n  delegation: {depth: 2}\n"
    )
    (tmp_path / "identity.jsonl").write_text(
        '\n{"agent_id":"j","roles":["r1","r2"],"delegated_only":true,"delegation":{"depth":2}}\n\n'
    )
    (tmp_path / "identity.csv").write_text(
        "\ufeffagent_id,roles,delegated_only,delegation.depth,owner\nc,r1; r2,true,2,\n,,,,\n", encoding="utf-8"
    )
    source = read_folder(tmp_path)
    assert source.mistakes == ()
    want = {"roles": ("r1", "r2"), "delegated_only": True, "delegation": {"depth": 2}}
    assert [r.row for r in source.rows] == [
        IdentityRow.model_validate({"agent_id": key, **want}) for key in ("c", "j", "y")
    ]


def test_csv_cells_take_the_type_of_their_field(tmp_path):
    (tmp_path / "risk.csv").write_text('subject,score,valid_until,reasons\ntenant:7,1,5,"quoted;\nagain"\n')
    (tmp_path / "classification.csv").write_text("subject,labels,argument_roles.to\ntool:mail,123;x,destination\n")
    source = read_folder(tmp_path)
    assert source.mistakes == ()
    tool, risk = (r.row for r in source.rows)
    assert (risk.score, risk.valid_until, risk.reasons) == (1.0, 5, ("quoted", "again"))
    assert (tool.labels, tool.argument_roles) == (("123", "x"), {"to": "destination"})


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("agent_id,tenant,status\na,acme,x\n", 8),
        ('agent_id,tenant,status\n"a,b",acme,x\n', 12),
        ('agent_id,tenant,status\n"say ""a,b""",acme,x\n', 20),
        ('agent_id,tenant,status\na,5" disk,x\n', 11),
        ("agent_id,roles\na,r;R R\n", 3),
        ("agent_id,delegation.depth\na,deep\n", 3),
        ("agent_id,status,owner\na,,\n,active,o\n", None),
    ],
)
def test_a_csv_cell_with_a_mistake_is_found_where_it_begins(tmp_path, row, column):
    (tmp_path / "identity.csv").write_text(row)
    mistake = read_folder(tmp_path).mistakes[-1]  # an odd text may be one before it
    assert (mistake.line, mistake.column) == ((2, column) if column else (3, 1))


def test_a_csv_cell_after_one_of_several_lines_and_a_wrong_column_are_found_too(tmp_path):
    (tmp_path / "identity.csv").write_text('agent_id,owner,status\na,"two\nlines",x\n')
    (tmp_path / "risk.csv").write_text("subject,scroe\n")
    places = [(mistake.line, mistake.column) for mistake in read_folder(tmp_path).mistakes]
    assert places == [(2, 3), (3, 8), (1, 9)]


def test_csv_writes_a_list_of_objects_as_json(tmp_path):
    key = {"kid": "k", "alg": "ed25519", "public": "A" * 43}
    cell = json.dumps([key]).replace('"', '""')
    (tmp_path / "identity.csv").write_text(f'agent_id,keys\na,"{cell}"\n')
    (row,) = read_folder(tmp_path).rows
    assert [k.kid for k in row.row.keys] == ["k"]


@pytest.mark.parametrize(
    ("file", "text", "line", "message"),
    [
        ("identity.yaml", "- agent_id: a\n  owner: o\n  status: gone\n", 3, "`status`"),
        ("identity.yaml", "- agent_id: a\n- owner: o\n", 2, "`agent_id` is missing"),
        ("identity.yaml", "- agent_id: a\n  rols: [x]\n", 2, "`rols` is no field"),
        ("identity.yaml", "- agent_id: a\n  roles:\n    - fine\n    - not fine\n", 4, "`roles.1`"),
        ("identity.yaml", "- agent_id: a\n  delegation:\n    depth: 99\n", 3, "`delegation.depth`"),
        ("identity.yaml", "- agent_id: a\n  owner: x\n  owner: y\n", 3, "`owner` stands twice"),
        ("identity.yaml", "- agent_id: 5\n", 1, "`agent_id`"),
        ("identity.yaml", "- agent_id: a\n  owner: !!binary aGk=\n", 1, "no JSON"),
        ("identity.yaml", "- agent_id: a\n  owner: !!python/name:os.system x\n", 2, "constructor"),
        ("identity.yaml", "- agent_id: a\n  [x]: y\n", 2, "must be a text"),
        ("identity.yaml", "agent_id: a\n", 1, "not a list"),
        ("identity.yaml", "- a\n", 1, "mapping"),
        ("identity.yaml", "- agent_id: a\n  - b\n", 2, "not YAML"),
        ("identity.yaml", "- &r {agent_id: a, keys: [*r]}\n", 1, "nested deeper"),
        ("identity.yml", "- {agent_id: a\n", 2, "not YAML"),
        ("risk.jsonl", '{"subject":"tenant:a"}\n', 1, "`score` is missing"),
        ("risk.jsonl", '\n{"subject":"tenant:a","score":0,"score":1,"valid_until":1}\n', 2, "stands twice"),
        ("risk.jsonl", "{}\n{oops\n", 2, "not a JSON object"),
        ("risk.jsonl", "[1]\n", 1, "object"),
        ("risk.jsonl", '{"subject":"tenant:a","score":0,"valid_until":1,"level":"\\ud800"}\n', 1, "no JSON"),
        ("risk.csv", "subject,score,valid_until\ntenant:a,high,1\n", 2, "`score`"),
        ("risk.csv", 'subject,score,valid_until\n"tenant:\na",1,1\ntenant:b,2,1\n', 4, "`score`"),
        ("risk.csv", "subject,score,valid_until\ntenant:a,1\n", 2, "2 cells, the header has 3"),
        ("risk.csv", "subject,skore\ntenant:a,1\n", 1, "`skore` is no field"),
        ("risk.csv", "subject,subject\na,b\n", 1, "stands twice"),
        ("identity.csv", "agent_id,delegation\na,3\n", 1, "`delegation` is no field"),
        ("classification.yaml", "- subject: resource:a*b\n", 1, "`subject`"),
        ("classification.yaml", "- subject: resource:a\n  trust: x\n", 1, "`tool:` row"),
        ("infrastructure.csv", 'workload_id\n"open\n', 2, "not CSV"),
        ("identities.yaml", "- agent_id: a\n", 1, "no table `identities`"),
    ],
)
def test_a_mistake_is_found_with_file_line_and_a_fix(tmp_path, file, text, line, message):
    (tmp_path / file).write_text(text)
    (tmp_path / "infrastructure.yaml").write_text("- workload_id: w\n")
    mistakes = read_folder(tmp_path).mistakes
    assert (file, line) in [(Path(m.file).name, m.line) for m in mistakes]
    assert any(message in m.message for m in mistakes)
    assert all(m.fix for m in mistakes)


def test_every_mistake_of_every_file_is_reported_at_once(realm):
    realm.write(
        identity_yaml="- agent_id: a\n  status: x\n  delegated_only: 1\n- owner: o\n- agent_id: fine\n",
        risk_jsonl="{}\n",
    )
    found = places(read_folder(realm.folder).mistakes)
    assert [(file, line) for file, line, _ in found] == [
        ("identity.yaml", 2),
        ("identity.yaml", 3),
        ("identity.yaml", 4),
        *[("risk.jsonl", 1)] * 3,
    ]


def test_of_two_rows_with_one_key_neither_is_taken_and_each_names_the_other(realm):
    realm.write(identity_yaml="- agent_id: a\n- agent_id: b\n", identity_jsonl='{"agent_id":"a","owner":"o"}\n')
    source = read_folder(realm.folder)
    assert [r.row.key for r in source.rows] == ["b"]
    assert [(file, line) for file, line, _ in places(source.mistakes)] == [("identity.jsonl", 1), ("identity.yaml", 1)]
    assert "identity.yaml:1" in source.mistakes[0].message


def test_aliases_may_share_lists_but_not_expand_without_end(tmp_path):
    lists = "\n".join(f"  l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10 if i else ['x'] * 10)}]" for i in range(7))
    (tmp_path / "identity.yaml").write_text(
        f"- agent_id: a\n  roles: &roles [r]\n- agent_id: b\n  roles: *roles\n- agent_id: c\n{lists}\n"
    )
    source = read_folder(tmp_path)
    assert [r.row.roles for r in source.rows] == [("r",), ("r",)]
    assert [m.message for m in source.mistakes] == [f"the row has more than {ROW_NODES_MAX:,} values"]


def test_a_file_that_is_not_utf_8_is_a_mistake(tmp_path):
    (tmp_path / "identity.yaml").write_bytes(b"- agent_id: \xff\n")
    assert "not UTF-8" in read_folder(tmp_path).mistakes[0].message


def test_an_empty_file_is_a_table_without_rows(tmp_path):
    for name in ("identity.yaml", "risk.csv", "infrastructure.jsonl"):
        (tmp_path / name).write_text("")
    source = read_folder(tmp_path)
    assert (source.tables, source.rows, source.mistakes) == ({"identity", "risk", "infrastructure"}, (), ())


def test_a_folder_without_a_table_is_the_callers_mistake(tmp_path):
    with pytest.raises(ConfigError, match="holds no table"):
        read_folder(tmp_path)
    with pytest.raises(ConfigError, match="not a folder"):
        read_folder(tmp_path / "missing")


# --- Loading ---


def test_a_load_writes_rows_and_reports_the_revision_they_have(realm):
    realm.write(identity_yaml=IDENTITY, infrastructure_yaml="")
    report = realm.load()
    assert report.applied
    assert {n: (t.written, t.unchanged, t.deleted, t.revision) for n, t in report.tables.items()} == {
        "identity": (2, 0, 0, 1),
        "infrastructure": (0, 0, 0, -1),
    }
    assert realm.rows() == {k: IdentityRow(agent_id=k, tenant="acme") for k in "ab"}


def test_only_what_differs_is_written_and_a_repeated_load_writes_nothing(realm):
    realm.write(identity_yaml=IDENTITY)
    realm.load()
    assert realm.load().tables["identity"] == tables.TableReport(0, 2, 0, 1)
    realm.write(identity_yaml=IDENTITY.replace("b, ", "b, status: killed, "))
    assert realm.load().tables["identity"] == tables.TableReport(1, 1, 0, 2)
    assert [key for key, _ in realm.log()] == ["a", "b", "b"]


def test_a_row_spelled_otherwise_but_equal_is_unchanged_and_an_unreadable_one_is_replaced(realm):
    realm.broker.append(TOPICS["identity"], 0, b"a", b'{ "tenant":"acme", "status":"active", "agent_id":"a" }')
    realm.broker.append(TOPICS["identity"], 0, b"b", b'{"no":"row"}')
    realm.broker.append(TOPICS["identity"], 0, b"\xff", b"a foreign key")
    realm.write(identity_yaml=IDENTITY)
    assert realm.load().tables["identity"] == tables.TableReport(1, 1, 0, 3)
    assert realm.broker.read(TOPICS["identity"], 0, 3, 9)[0].key == b"b"


def test_one_bad_row_anywhere_and_nothing_is_written(realm):
    realm.write(identity_yaml=IDENTITY, risk_jsonl="{}\n")
    report = realm.load()
    assert not report.applied
    assert report.mistakes
    assert (realm.log(), realm.log("risk")) == ([], [])


def test_partial_writes_the_good_rows_and_still_reports_the_bad(realm):
    realm.write(identity_yaml=IDENTITY + "- owner: nobody\n")
    report = realm.load(partial=True)
    assert report.applied
    assert len(report.mistakes) == 1
    assert set(realm.rows()) == {"a", "b"}


def test_without_prune_nothing_is_deleted(realm):
    realm.write(identity_yaml=IDENTITY)
    realm.load()
    realm.write(identity_yaml="- {agent_id: a, tenant: acme}\n")
    assert realm.load().tables["identity"].deleted == 0
    assert set(realm.rows()) == {"a", "b"}


def test_prune_deletes_what_the_files_do_not_have_only_in_tables_that_have_a_file(realm):
    realm.write(identity_yaml=IDENTITY, infrastructure_yaml="- workload_id: w\n")
    realm.load()
    (realm.folder / "infrastructure.yaml").unlink()
    realm.write(identity_yaml="- {agent_id: a, tenant: acme}\n")
    assert realm.load(prune=True).tables == {"identity": tables.TableReport(0, 1, 1, 2)}
    assert realm.log()[-1] == ("b", None)
    assert set(realm.rows("infrastructure")) == {"w"}


def test_prune_leaves_rows_alone_that_a_feeder_keeps_up_to_date_and_says_so(realm):
    realm.write(risk_yaml=RISK.format("tool:a") + RISK.format("tool:b"))
    realm.load()
    realm.feed("risk", "agent:runaway", b'{"subject":"agent:runaway","score":0.9,"valid_until":1}')
    realm.feed("risk", "tool:b", b'{"subject":"tool:b","score":0.9,"valid_until":1}')  # in the file, and its row again
    realm.write(risk_yaml=RISK.format("tool:b"))
    report = realm.load(prune=True)
    assert (report.deleted, report.kept) == ({"risk": ["tool:a"]}, {"risk": ["agent:runaway"]})
    assert set(realm.rows("risk")) == {"tool:b", "agent:runaway"}
    assert tables._report_text(report).endswith("\nnot deleted from risk, a feeder writes it: `agent:runaway`")


def test_a_row_that_a_load_wrote_over_a_feeders_is_the_loads_until_the_feeder_writes_it_again(realm):
    realm.feed("risk", "tool:a", b'{"subject":"tool:a","score":0.9,"valid_until":1}')
    realm.write(risk_yaml=RISK.format("tool:a") + RISK.format("tool:b"))
    realm.load()
    realm.write(risk_yaml=RISK.format("tool:b"))
    assert realm.load(prune=True).deleted == {"risk": ["tool:a"]}


def test_prune_refuses_to_delete_every_row_that_is_no_feeders_and_never_deletes_one_of_those(realm):
    realm.write(risk_yaml=RISK.format("tool:a"))
    realm.load()
    realm.feed("risk", "agent:runaway", b'{"subject":"agent:runaway","score":0.9,"valid_until":1}')
    realm.write(risk_yaml="")
    with pytest.raises(ConfigError, match="1 of risk: `tool:a`; nothing was written"):
        realm.load(prune=True)
    realm.load(prune_all=True)
    assert set(realm.rows("risk")) == {"agent:runaway"}


def test_prune_with_a_bad_row_deletes_nothing_because_the_bad_row_may_be_the_missing_one(realm):
    realm.write(identity_yaml=IDENTITY)
    realm.load()
    realm.write(identity_yaml="- {agent_id: a, tenant: acme}\n- {agent-id: b}\n")
    assert not realm.load(prune=True).applied
    with pytest.raises(ConfigError, match="`--partial` and `--prune`"):
        realm.load(prune=True, partial=True)
    with pytest.raises(ConfigError, match="`--partial` and `--prune`"):
        realm.load(prune_all=True, partial=True)
    assert set(realm.rows()) == {"a", "b"}


@pytest.mark.parametrize("file", ["", "- {agent_id: other, tenant: acme}\n"], ids=["an empty file", "only other rows"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_prune_refuses_to_delete_every_row_of_a_table_and_names_them(realm, file, dry_run):
    realm.write(identity_yaml=IDENTITY, infrastructure_yaml="- workload_id: w\n- workload_id: v\n")
    realm.load()
    realm.write(identity_yaml=file, infrastructure_yaml="- workload_id: w\n")
    with pytest.raises(ConfigError, match="2 of identity: `a`, `b`; nothing was written") as caught:
        realm.load(prune=True, dry_run=dry_run)
    assert "`--prune-all`" in caught.value.hint
    assert (set(realm.rows()), set(realm.rows("infrastructure"))) == ({"a", "b"}, {"v", "w"})


def test_prune_all_deletes_every_row_and_says_which(realm):
    realm.write(identity_yaml=IDENTITY)
    realm.load()
    realm.write(identity_yaml="")
    planned = tables._report_text(realm.load(prune_all=True, dry_run=True)).splitlines()
    assert planned[0] == "identity  0 to write, 0 unchanged, 2 to delete, revision 1"
    assert planned[1] == "to delete from identity: `a`, `b`"
    assert set(realm.rows()) == {"a", "b"}
    report = realm.load(prune_all=True)
    assert realm.rows() == {}
    assert tables._report_text(report).splitlines() == [
        "identity  0 written, 0 unchanged, 2 deleted, revision 3",
        "deleted from identity: `a`, `b`",
    ]
    assert json.loads(tables._report_json(report))["deleted"] == {"identity": ["a", "b"]}


def test_of_many_deleted_rows_a_terminal_shows_a_few(realm):
    realm.write(identity_yaml="".join(f"- agent_id: a{number:02}\n" for number in range(13)))
    realm.load()
    realm.write(identity_yaml="- agent_id: a00\n")
    assert tables._report_text(realm.load(prune=True)).endswith("`a09`, `a10` and 2 more")


def test_a_dry_run_tells_what_would_happen_and_writes_nothing(realm):
    realm.write(identity_yaml=IDENTITY)
    report = realm.load(dry_run=True)
    assert (report.applied, report.tables["identity"].written, realm.log()) == (False, 2, [])


def test_json_keeps_what_was_done_apart_from_what_would_be(realm):
    realm.write(identity_yaml=IDENTITY)
    planned = json.loads(tables._report_json(realm.load(dry_run=True)))
    assert planned["applied"] is False
    assert planned["tables"]["identity"].items() >= {"written": 0, "to_write": 2, "deleted": 0, "to_delete": 0}.items()
    done = json.loads(tables._report_json(realm.load()))["tables"]["identity"]
    assert done.items() >= {"written": 2, "to_write": 0}.items()
    realm.write(identity_yaml="- {agent_id: a, tenant: acme}\n")
    planned = json.loads(tables._report_json(realm.load(prune=True, dry_run=True)))
    assert (planned["deleted"], planned["to_delete"]) == ({}, {"identity": ["b"]})
    assert planned["tables"]["identity"].items() >= {"deleted": 0, "to_delete": 1}.items()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("tenant: acme", "tenant: globex"),
        ("tenant: acme", "tenant: acme, lane: other"),
        ("tenant: acme, lane: x", "tenant: acme"),
        ("owner: o", "tenant: acme"),
    ],
)
def test_an_agents_lane_never_changes(realm, before, after):
    realm.write(identity_yaml=f"- {{agent_id: a, {before}}}\n")
    realm.load()
    lane = lane_of(realm.rows()["a"])
    realm.write(identity_yaml=f"\n- {{agent_id: a, {after}}}\n- {{agent_id: new}}\n")
    report = realm.load()
    assert [(file, line) for file, line, _ in places(report.mistakes)] == [("identity.yaml", 2)]
    assert f"is in lane `{lane}`" in report.mistakes[0].message
    assert realm.load(partial=True).applied
    assert lane_of(realm.rows()["a"]) == lane
    assert "new" in realm.rows()


def test_a_tenant_may_change_while_the_lane_stays(realm):
    realm.write(identity_yaml="- {agent_id: a, tenant: acme}\n")
    realm.load()
    realm.write(identity_yaml="- {agent_id: a, tenant: globex, lane: acme}\n")
    assert realm.load().mistakes == ()
    assert realm.rows()["a"].tenant == "globex"


def test_deleting_an_agent_first_is_no_way_around_its_lane(realm):
    realm.write(identity_yaml=IDENTITY)
    realm.load()
    realm.write(identity_yaml="")
    realm.load(prune_all=True)
    realm.write(identity_yaml="- {agent_id: a, tenant: globex}\n")
    assert len(realm.load().mistakes) == 1


def test_facts_are_written_before_grants(realm):
    order = []
    realm.write(
        identity_yaml=IDENTITY, classification_yaml="- subject: tool:t\n", infrastructure_yaml="- workload_id: w\n"
    )
    writer = MemoryWriter(realm.broker, fate=lambda record: order.append(record.topic) or Fate())
    load_folder(realm.folder, MemoryReader(realm.broker), writer, topics=TOPICS, clock=realm.clock, options=Options())
    assert list(dict.fromkeys(order)) == [TOPICS[t] for t in ("classification", "infrastructure", "identity")]


def test_rows_the_broker_did_not_confirm_are_an_error_that_says_what_to_do(realm):
    realm.write(identity_yaml=IDENTITY)
    writer = MemoryWriter(realm.broker, fate=lambda _: Fate(lands=False, reports="failed"))
    with pytest.raises(BrokerUnavailable, match="2 of 2 rows") as caught:
        load_folder(
            realm.folder, MemoryReader(realm.broker), writer, topics=TOPICS, clock=realm.clock, options=Options()
        )
    assert "load again" in caught.value.hint


def test_a_realm_without_topics_is_an_error_that_says_what_to_do():
    clock = ManualClock()
    reader = MemoryReader(MemoryBroker({}, clock.now_ms))
    with pytest.raises(BrokerUnavailable, match="identity") as caught:
        read_tables(reader, {"identity": TOPICS["identity"]}, clock, clock.advance)
    assert "topics apply" in caught.value.hint
    assert clock.elapsed_ms() >= SILENCE_MS_MAX


def test_a_topic_that_gets_its_leader_after_the_first_question_is_asked_again():
    clock = ManualClock()
    reader = MemoryReader(MemoryBroker({}, clock.now_ms))

    def wait(wait_ms):
        clock.advance(wait_ms)
        reader._broker = MemoryBroker({TOPICS["identity"]: 1}, clock.now_ms)

    views = read_tables(reader, {"identity": TOPICS["identity"]}, clock, wait)
    assert views["identity"].table.revision == -1


def test_offsets_without_records_are_no_reason_to_wait(realm):
    realm.write(identity_yaml=IDENTITY)
    realm.load()
    realm.broker.skip_offsets(TOPICS["identity"], 0, 3)
    assert realm.load().tables["identity"] == tables.TableReport(0, 2, 0, 1)


def test_rows_in_force_and_their_revision_are_shown(realm):
    realm.write(identity_yaml=IDENTITY)
    realm.load()
    realm.broker.append(TOPICS["identity"], 0, b"bad", b"{}")
    view = read_tables(MemoryReader(realm.broker), TOPICS, realm.clock, lambda _: None)["identity"]
    assert tables._rows_text("identity", view, tables.rows_of(view, "a")).splitlines() == [
        'a  {"agent_id": "a", "tenant": "acme"}',
        "identity: 1 row at revision 2",
    ]
    shown = json.loads(tables._rows_json("identity", view, tables.rows_of(view, None)))
    assert (shown["revision"], list(shown["rows"]), shown["rows"]["bad"]) == (2, ["a", "b", "bad"], None)
    assert tables.rows_of(view, "nobody") == {}


def test_a_report_shows_mistakes_with_place_and_fix_in_text_and_json(realm):
    realm.write(identity_yaml=IDENTITY + "- agent_id: c\n  rols: []\n")
    report = realm.load()
    text = tables._report_text(report)
    assert "identity.yaml:4:9: `rols` is no field of identity" in text
    assert "did you mean `roles`?" in text
    assert "nothing was written" in text
    assert json.loads(tables._report_json(report))["mistakes"][0]["line"] == 4


# --- The samples ---


def test_the_sample_tables_load_whole(realm):
    realm.folder = SAMPLES
    report = realm.load()
    assert report.mistakes == ()
    assert set(report.tables) == set(TOPICS)
    identities = realm.rows()
    assert {lane_of(row) for row in identities.values()} == {"acme", "globex"}
    workloads = realm.rows("infrastructure")
    assert all(workloads[w].attested for row in identities.values() for w in row.workloads)
