"""What the parts make of what they measured: which moments count, what a goal is measured by, what is no answer."""

import runpy
from itertools import pairwise
from pathlib import Path

import pytest


def verdict(at, writer, decision="approve"):
    reasons = [] if decision == "approve" else [{"code": "overload"}]
    return at, {"writer": writer, "decision": decision, "reasons": reasons}, 1_000


def test_cpu_counts_from_the_last_workers_first_verdict_to_the_first_ones_last(script):
    found = [verdict(at, "a") for at in range(1_000, 3_001, 10)] + [verdict(at, "b") for at in range(2_000, 4_001, 10)]
    samples = [(second, float(second)) for second in range(6)]  # one CPU second each second
    drained = script("throughput")._drained(found, samples, workers=2)
    assert (drained.records, drained.counted) == (402, 202)
    assert drained.cpu_us == pytest.approx(1e6 / 202)
    assert drained.per_s == pytest.approx(202)
    assert drained.decisions == {"approve": 402}


def test_a_worker_that_decided_nothing_and_a_log_too_short_for_both_are_no_result(script):
    throughput = script("throughput")
    with pytest.raises(SystemExit, match="2 workers ran, and 1 decided"):
        throughput._drained([verdict(1, "a"), verdict(2, "a")], [(0.0, 0.0)], workers=2)
    with pytest.raises(SystemExit, match="too short"):
        throughput._drained([verdict(1, "a"), verdict(5, "b")], [(0.0, 0.0)], workers=2)


def test_a_refusal_is_shown_with_its_reason(script):
    assert script("throughput").said_by(verdict(1, "a", "deny")[1]) == "deny: overload"


def at_rate(rate, *, half=False, approved=100, p99=(3.0, 6.0), settled=True):
    one = {"offered": 100, "missing": 0, "decisions": {}, "settled": settled, "p50": 1.0, "p90": 1.0, "p99.9": 9.0}
    echo = [one | {"approved": 100, "p99": 2.0} for _ in p99]
    return {
        "rate": rate,
        "half_of_saturation": half,
        "echo": echo,
        "harness": [one | {"approved": approved, "p99": value} for value in p99],
    }


def p99_goals(script, *rates):
    return [(goal.value, goal.met) for goal in script("latency").goals({"rates": list(rates)})]


def test_p99_is_compared_with_the_echos_of_the_same_round(script):
    assert p99_goals(script, at_rate(1_000, p99=(3.0, 3.0)), at_rate(7, half=True)) == [(1.5, True), (2.25, False)]


def test_one_rate_may_be_both(script):
    assert p99_goals(script, at_rate(1_000, half=True, p99=(3.0, 3.0))) == [(1.5, True), (1.5, True)]


@pytest.mark.parametrize("over", [{"approved": 90}, {"settled": False}])
def test_a_rate_that_was_not_carried_has_missed_its_goal_however_soon_the_rest_was_answered(script, over):
    assert p99_goals(script, at_rate(1_000, p99=(1.0,), **over)) == [(None, False), (None, None)]


def test_what_was_never_answered_leaves_a_quantile_without_a_value(script):
    round_ = script("latency").Round(latencies_ms=[1.0] * 98, offered=100, missing=2)
    round_.note("approve")
    round_.note("Denied: overload (4440 ms after append, deadline 5000 ms)")
    told = round_.to_json()
    assert (told["p90"], told["p99"], told["answered"]) == (1.0, None, 98)
    assert told["decisions"] == {"approve": 1, "Denied: overload": 1}


def test_requests_leave_at_their_time_whatever_became_of_those_before(script):
    due = []
    assert script("latency").open_loop(1_000, 0.05, lambda number, at: due.append((number, at))) == 50
    assert [number for number, _ in due] == list(range(50))
    gaps = [after - before for (_, before), (_, after) in pairwise(due)]
    assert gaps == pytest.approx([0.001] * 49)


def test_the_goals_of_rules_and_history_are_told_only_at_their_sizes(script):
    cost = script("decision_cost")
    rows = [{"rules": count, "us": [count / 10, count / 5]} for count in (10, 100, 1_000)]
    events = [{"events": count, "us": [1.0, 1.0]} for count in (10, 1_000)]
    rules_goal, events_goal = cost.goals({"by_rules": rows, "by_events": events})
    assert (rules_goal.value, rules_goal.met) == (10, False)
    assert events_goal.met is None


def test_memory_of_an_idle_agent_is_what_the_larger_realm_has_more(script):
    start = script("start")
    found = {
        "known": [
            {"agents": 1_000, "rounds": [{"bytes": 80_000_000, "ready_s": 1.0}]},
            {"agents": 1_000_000, "rounds": [{"bytes": 80_000_000 + 999_000 * 700, "ready_s": 29.0}]},
        ]
    }
    assert start.bytes_each(found) == [None, 700]
    assert [(goal.value, goal.met) for goal in start.goals(found)] == [(29.0, True), (700, True)]


def the_command(script):
    """Its names; `__main__` is somebody else while tests run."""
    return runpy.run_path(str(Path(script("figures").__file__).with_name("__main__.py")))


def test_quick_sizes_and_rounds_reach_every_part(script):
    main = the_command(script)
    sizes = main["QUICK"].changed(4, 1.5)
    assert {getattr(sizes, name).rounds for name in main["PARTS"]} == {4}
    assert sizes.latency.seconds == 1.5
    assert main["Sizes"]().latency.rates == (100, 1_000, 5_000)
    assert (main["Sizes"]().latency.rounds, main["Sizes"]().latency.seconds) == (7, 20)


def test_a_part_that_fails_is_told_and_the_others_go_on(script):
    main = the_command(script)
    run = main["Run"](main["QUICK"])

    def fails(*_):
        raise SystemExit("the worker did not become ready")

    main["PARTS"]["start"] = main["PARTS"]["start"]._replace(measure=fails)
    main["_measure"](run, "start")
    assert run.failed == {"start": "the worker did not become ready"}
    assert "start FAILED: the worker did not become ready" in main["report"](run, {"cpu": "1 × test"}, quick=False)
