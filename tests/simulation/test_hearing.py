"""The oracle hears whole runs, and says so if history is wrong, whoever else may believe it (V1, V3)."""



from harness_stream.core.partition import Phase
from tests.log_checker import Report, audited
from tests.simulation.hearing import complaints
from tests.simulation.judge import bundles
from tests.simulation.test_regressions import AGENT, HOME, quiet, turns
from tests.simulation.world import TOPICS, World

# Two of the rules: the fifth query of an agent within 5 s is denied, and the fifth use of a resource within 9 s.
QUERY = {"action": "search.query", "resources": []}
READ = {"action": "crm.read", "resources": ["web://z"]}


def report_of(world: World) -> Report:
    """Whatever the auditor finds."""
    inputs, decisions = (world.everything(topic, HOME) for topic in (TOPICS.intents, TOPICS.verdicts))
    return audited(inputs, decisions, HOME, "i1", bundles())


def said_against(world: World) -> list[str]:
    return complaints(world, HOME, report_of(world))[0]


def decisions_of(report: Report) -> list[str]:
    return [body["decision"] for body in report.effective if body["kind"] == "verdict"]


def ask(world: World, times: int = 1, **intent: object) -> None:
    for _ in range(times):
        world.send(agent_id=AGENT, by=AGENT, measures={}, **intent)
        turns(world, 20)


def test_what_happened_exactly_a_timespan_ago_counts() -> None:
    world = quiet()
    began_ms = world.clock.now_ms()
    ask(world, 4, **QUERY)
    world.clock.advance(began_ms + 5_000 - world.clock.now_ms())
    ask(world, **QUERY)
    assert said_against(world) == []
    assert decisions_of(report_of(world)) == [*["approve"] * 4, "deny"]


def test_what_happened_right_before_a_crash_counts() -> None:
    world = quiet()
    began_ms = world.clock.now_ms()
    ask(world, 4, **READ)
    world.crash(0)
    while not _decides(world):
        world.turn()
    ask(world, **READ)
    assert world.clock.now_ms() - began_ms < 9_000
    assert said_against(world) == []
    assert decisions_of(report_of(world)) == [*["approve"] * 4, "deny"]


def _decides(world: World) -> bool:
    owner = world.members[0].worker.owners.get(HOME)
    return owner is not None and owner.phase is Phase.DECIDING


def test_an_approval_that_history_forbids_is_noticed() -> None:
    world = quiet()
    ask(world, 5, **QUERY)
    report = report_of(world)
    last = [body for body in report.effective if body["kind"] == "verdict"][-1]
    assert last["decision"] == "deny"
    last["decision"], last["reasons"] = "approve", [{"code": "rule", "rule": "allowed", "effect": "approve"}]
    assert "loop is silent, may say ['yes']" in complaints(world, HOME, report)[0][0]
