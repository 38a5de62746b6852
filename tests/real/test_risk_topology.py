"""A runaway agent's risk rises, a rule sees it, and it falls again: worker and topology as two processes."""

import json
import time

import pytest
from own_realm import OwnRealm, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

RULES = """
rule_set: production
default: deny
params: {risk_limit: 0.8}
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
  - id: too-risky
    effect: deny
    when: risk.present && risk.score > params.risk_limit
    because: denied too often lately
"""
AGENT = {"tenant": "acme", "actions": ["crm.read"], "workloads": ["w-1"]}
TABLES = {
    "identity": [AGENT | {"agent_id": name} for name in ("runaway-1", "honest-1")],
    "infrastructure": [{"workload_id": "w-1"}],
}
LANE = "acme"
# From 1 to 0.8 in a third of it: enough to look at a risky agent before it recovers, short enough to wait for.
HALF_LIFE_MS = 30_000
# Nobody waits for it to fall, and on a busy machine a topology may take half a minute to start.
LONG_HALF_LIFE_MS = 1_200_000


@pytest.fixture
def realm(real_stack, tmp_path, request):
    half_life_ms = getattr(request, "param", HALF_LIFE_MS)
    knobs = {"HARNESS_RISK_HALF_LIFE_MS": str(half_life_ms), "HARNESS_RISK_DENIALS_FULL": "20"}
    stack = (real_stack.bootstrap, real_stack.redis_url)
    return OwnRealm(*stack, tmp_path, rules=RULES, tables=TABLES, **knobs).prepare()


def topology(realm):
    return realm.running("topologies.risk", ready="Worker ready")


def risk_of(realm, agent):
    """The row that `harness tables get` shows, None without one."""
    try:
        shown = realm.harness("tables", "get", "risk", f"agent:{agent}", "--json")
    except AssertionError:  # exit code 1: there is none
        return None
    return json.loads(shown)["rows"][f"agent:{agent}"]


def decide(realm, agent, action="crm.read"):
    answer = realm.answer(realm.send(realm.intent(agent, action=action), LANE))
    return answer["decision"], [reason.get("rule", reason["code"]) for reason in answer["reasons"]]


def run_away(realm, agent, times=30):
    """Ask for what is not allowed, again and again."""
    places = [realm.send(realm.intent(agent, action="crm.delete"), LANE) for _ in range(times)]
    realm.answer(places[-1])


def risky(realm, agent):
    row = risk_of(realm, agent)
    return row is not None and row["score"] > 0.8 and row


def test_a_runaway_agent_becomes_risky_is_denied_for_it_and_recovers(realm):
    with realm.worker(), topology(realm):
        assert decide(realm, "runaway-1") == ("approve", ["allowed"])
        run_away(realm, "runaway-1")
        row = wait_until(lambda: risky(realm, "runaway-1"), why=lambda: risk_of(realm, "runaway-1"))
        assert (row["level"], row["reasons"]) == ("high", ["denied: default"])
        assert row["valid_until"] > time.time() * 1000
        assert decide(realm, "runaway-1") == ("deny", ["too-risky"])
        assert decide(realm, "honest-1") == ("approve", ["allowed"])
        assert risk_of(realm, "honest-1") is None
        # Its own denials for being risky do not feed the risk: it goes on asking and recovers all the same.
        wait_until(
            lambda: decide(realm, "runaway-1") == ("approve", ["allowed"]), why=lambda: risk_of(realm, "runaway-1")
        )
        assert risk_of(realm, "runaway-1")["score"] <= 0.8


@pytest.mark.parametrize("realm", [LONG_HALF_LIFE_MS], indirect=True)
def test_a_new_topology_rebuilds_the_score_from_the_log(realm):
    with realm.worker():
        run_away(realm, "runaway-1")
        with topology(realm):
            wait_until(lambda: risky(realm, "runaway-1"), why=lambda: risk_of(realm, "runaway-1"))
        before = risk_of(realm, "runaway-1")
        # Somebody's hand deletes the row; a topology that kept committed offsets would see no denial and write none.
        realm.delete_row("risk", "agent:runaway-1")
        assert risk_of(realm, "runaway-1") is None
        with topology(realm):
            row = wait_until(lambda: risk_of(realm, "runaway-1"), why=lambda: "no row")
        assert row["valid_until"] == before["valid_until"]
        assert 0 < row["score"] <= before["score"]


@pytest.mark.parametrize("realm", [LONG_HALF_LIFE_MS], indirect=True)
def test_pruning_the_operators_tables_leaves_the_risk_of_a_runaway_agent_in_force(realm):
    (realm.folder / "tables" / "risk.yaml").write_text(
        '[{"subject": "tool:kept", "score": 0.1, "valid_until": 9000000000000}, '
        '{"subject": "tool:gone", "score": 0.1, "valid_until": 9000000000000}]'
    )
    realm.harness("tables", "load", "tables")
    (realm.folder / "tables" / "risk.yaml").write_text(
        '[{"subject": "tool:kept", "score": 0.1, "valid_until": 9000000000000}]'
    )
    with realm.worker(), topology(realm):
        run_away(realm, "runaway-1")
        wait_until(lambda: risky(realm, "runaway-1"), why=lambda: risk_of(realm, "runaway-1"))
    report = json.loads(realm.harness("tables", "load", "tables", "--prune", "--json"))
    assert (report["deleted"], report["kept"]) == ({"risk": ["tool:gone"]}, {"risk": ["agent:runaway-1"]})
    assert risk_of(realm, "runaway-1") is not None


def test_a_zombies_void_denials_make_nobody_risky(realm):
    with realm.worker(), topology(realm):
        decide(realm, "honest-1")
        partition = realm.partition_of(LANE)
        *_, verdict = realm.effective(partition)
        for _ in range(30):
            realm.append_decision(partition, verdict | {"decision": "deny", "reasons": [{"code": "default"}]})
        run_away(realm, "runaway-1")
        wait_until(lambda: risky(realm, "runaway-1"), why=lambda: risk_of(realm, "runaway-1"))
        assert risk_of(realm, "honest-1") is None
