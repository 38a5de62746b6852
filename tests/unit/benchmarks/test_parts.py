"""What the parts make of what they measured: which moments count, what a goal is measured by, what is no answer."""

import math
import os
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from harness_stream.errors import BrokerUnavailable


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


def test_a_worker_has_a_cpu_of_its_own_where_there_are_two_and_whoever_started_it_stays_where_it_was(script):
    cpus, here = script("cpus"), os.sched_getaffinity(0)
    own, others = cpus.shared_out()
    assert own | others == here
    assert own.isdisjoint(others) == (len(here) > 1)
    ask = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
    with cpus.only_on(own):
        assert {int(cpu) for cpu in subprocess.check_output(ask, text=True).split()} == own
    with cpus.only_on(frozenset()):
        assert os.sched_getaffinity(0) == here
    assert os.sched_getaffinity(0) == here


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


def test_quick_sizes_rounds_and_rates_reach_every_part(script):
    main = the_command(script)
    sizes = main["QUICK"].changed(4, 1.5, (7.0,))
    assert {getattr(sizes, name).rounds for name in main["PARTS"]} == {4}
    assert (sizes.latency.seconds, sizes.latency.rates) == (1.5, (7.0,))
    assert main["Sizes"]().latency.rates == (100, 1_000, 5_000)
    assert (main["Sizes"]().latency.rounds, main["Sizes"]().latency.seconds) == (7, 20)


def a_run(main, **parts):
    """Of parts that find, or raise, what they are given."""

    def part(found):
        def measure(*_):
            if isinstance(found, BaseException):
                raise found
            return found

        return measure

    run = main["Run"](main["QUICK"], on={"cpu": "1 × test"})
    for name, found in parts.items():
        main["PARTS"][name] = main["PARTS"][name]._replace(measure=part(found), text=lambda _: [], goals=lambda _: [])
        main["_measure"](run, name)
    return run


def test_a_part_that_fails_is_told_and_the_others_go_on(script):
    main = the_command(script)
    run = a_run(main, start=SystemExit("the worker did not become ready"), cost={})
    assert run.failed == {"start": "the worker did not become ready"}
    assert "FAILED: start: the worker did not become ready" in main["report"](run)
    assert list(run.found) == ["cost"]


def test_what_the_harness_raises_is_told_in_its_words_without_a_traceback(script):
    main = the_command(script)
    run = a_run(main, start=BrokerUnavailable("Kafka does not answer at x:1", hint="start it"))
    assert run.failed["start"] == "Kafka does not answer at x:1\n  → start it"


def test_a_size_that_fails_is_a_failure_of_the_run(script):
    run = a_run(the_command(script), agents={"failed": {"100,000 active": "too little memory"}})
    assert run.failed == {"agents, 100,000 active": "too little memory"}


def test_a_size_that_fails_has_a_row(script):
    agents = script("agents")
    sizes = {"rules": 100, "rounds": 1}
    row = {"agents": 10, "us": [1.0], "bytes_each": 7.0}
    printed = agents.text({"sizes": sizes, "known": [row], "active": [], "failed": {"100,000 active": "why"}})
    assert [line.split() for line in printed if "FAILED" in line] == [["100,000", "active:", "FAILED", "-", "-", "-"]]


def test_why_a_size_failed_is_what_its_process_said_last(script):
    own = script("agents")._in_own_process
    assert own([sys.executable, "-c", "raise SystemExit('too little memory')"]) == (None, "too little memory")
    assert own([sys.executable, "-c", "print('{}')"]) == ({}, "")
    assert "signal 9" in own([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])[1]


def test_quick_judges_nothing(script):
    main = the_command(script)
    run = main["Run"](main["QUICK"], quick=True, on={})
    run.found["start"] = {"known": [{"agents": n, "rounds": [{"bytes": n, "ready_s": 99.0}]} for n in (1, 1_000_000)]}
    assert [goal.met for goal in main["_goals"](run)] == [None, None]
    assert "not judged" in main["goals_text"](main["_goals"](run))[1]


def test_a_plot_without_latency_and_impossible_words_are_told_before_anything_is_measured(script, tmp_path, capsys):
    asked = the_command(script)["_asked"]
    for words, said in {
        ("--only", "cost", "--plot", str(tmp_path / "out.svg")): "draws latency",
        ("--rounds", "0"): "above zero",
        ("--seconds", "-1"): "above zero",
        ("--rates", "100,x"): "no number",
        ("--json", str(tmp_path / "none" / "out.json")): "no folder",
        ("--json", str(tmp_path)): "is a folder",
    }.items():
        with pytest.raises(SystemExit) as ended:
            asked(words)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_sides_and_rates_come_in_another_order_in_each_round(script):
    first, second = (list(script("latency").turns(number, [100, 1_000])) for number in (0, 1))
    assert first == [(100, "echo"), (100, "harness"), (1_000, "echo"), (1_000, "harness")]
    assert second == first[::-1]


def test_a_saturation_that_is_given_is_not_measured(script):
    main = the_command(script)
    assert main["_saturation"](main["Run"](main["QUICK"], saturation=4_000.0, on={}), print) == 4_000


def test_the_echo_carries_what_the_harness_carries(script):
    echo = script("echo")
    shape = echo.Shape(2_000, (("ce_id", 36), ("hs-sig", 86)))
    assert echo.Shape.read(shape.word) == shape
    assert [(name, len(value)) for name, value in shape.filling()] == list(shape.headers)


def taken_over(records, nothing, behind, killed):
    one = {"nothing behind": nothing, "behind": behind, "owner killed": killed}
    rounds = [{kind: {"first": value / 2, "last": value} for kind, value in one.items()}]
    return {"sizes": {"records": records, "rounds": 1, "rules": 100}, "rounds": rounds}


def test_a_real_takeover_is_judged_by_its_last_partition_beyond_a_start_with_nothing(script):
    handover = script("handover")
    assert [goal.value for goal in handover.goals(taken_over(10_000, 3.0, 4.5, 9.0))] == [1.5, 9.0]
    assert [goal.met for goal in handover.goals(taken_over(2_000, 3.0, 4.5, 9.0))] == [None, None]
    assert any("9.00" in line and "4.50" in line for line in handover.text(taken_over(10_000, 3.0, 4.5, 9.0)))


def test_few_kills_are_not_judged(script):
    judged = script("kill")._judged
    assert "not judged by 5 kills" in judged({"n": 5, "p99": 10.0}, 0)
    assert judged({"n": 100, "p99": 10.0}, 0).endswith("met (10.0 ms)")
    assert "MISSED" in judged({"n": 100, "p99": 300.0}, 0)
    assert "MISSED" in judged({"n": 98, "p99": 10.0}, 2)


@pytest.mark.parametrize(("late", "rate", "said"), [(9.0, 100, "met"), (11.0, 100, "MISSED"), (9.0, 14, "not judged")])
def test_recovery_from_overload_is_judged_where_honest_lanes_keep_within_their_bound(script, late, rate, said):
    found = recovered(late, rate, {"approve": 9, "deny: rate": 1}, 20.0, ["rate"])
    assert f"goal 10 s: {said}" in script("collapse")._judged(found)[0]


def recovered(late, rate, said, p50, refused_as):
    rows = [{"phase": phase, "said": {"approve": 9}, "p50": 20.0} for phase in ("before", "after")]
    rows.append({"phase": "overload", "said": said, "p50": p50})
    return {"recovered_s": late, "recovered_in_log_s": 0.0, "lane_rate": rate, "refused_as": refused_as, "log": rows}


@pytest.mark.parametrize(
    ("variant", "said", "p50", "judged"),
    [
        (1, {"approve": 2_873}, 9.0, False),
        (1, {"approve": 2_873}, 900.0, True),
        (1, {}, math.nan, True),
        (1, {"approve": 9, "deny: overload": 1}, 9.0, True),
        (1, {"approve": 9, "deny: late": 1}, 9.0, True),
        (1, {"approve": 9, "deny: rate": 1}, 9.0, False),
        (0, {"approve": 9, "deny: rate": 1}, 9.0, True),
        (0, {"approve": 9, "deny: late": 1}, 9.0, False),
    ],
)
def test_a_recovery_from_an_overload_that_was_none_is_not_judged(script, variant, said, p50, judged):
    """On a busy machine the capacity was taken as a third of what it was, and "met" was printed of calm load."""
    collapse = script("collapse")
    found = recovered(0.0, 100, said, p50, list(collapse.VARIANTS[variant].refused))
    first, *doubts = collapse._judged(found)
    assert first.endswith("goal 10 s: met" if judged else "goal 10 s: not judged")
    assert ["there was no overload" in doubt for doubt in doubts] == ([] if judged else [True])


def test_a_worker_keeps_up_until_its_verdicts_wait_longer_than_a_pause(script):
    ages = [(at / 10, 900.0 if 20 <= at < 35 or 200 <= at < 300 else 3.0) for at in range(450)]
    assert script("collapse").kept_up_until(ages) == 20.0
    assert script("collapse").kept_up_until(ages[:100]) == 10.0, "nothing was asked any more"
    assert script("collapse").kept_up_until([(at / 10, 3.0) for at in range(450)]) == 40.0
    assert script("collapse").kept_up_until([(0.1, 900.0)]) == 0


def test_what_is_carried_is_what_came_while_verdicts_waited(script):
    asked = [at / 100 for at in range(1_000)]  # 100 a second, of which 50 are judged
    ages = [(at, (2 * at - at) * 1000) for at in asked]
    assert script("collapse").given_from(ages, 4.0) == pytest.approx(50, abs=1)


def test_a_saturation_that_was_given_and_a_run_that_was_ended_are_told(script):
    main = the_command(script)
    run = main["Run"](main["QUICK"], saturation=200.0, on={}, ended=True)
    told = main["report"](run)
    assert any(line.startswith("saturation: 200/s was given") for line in told)
    assert any(line.startswith("ENDED") for line in told)
