"""What the runner of faults (tests/faults) concludes, and its lines: a checker that cannot fail would show nothing."""

import json
import socket
from collections import Counter
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.faults.answers import Answers
from tests.faults.audit import Verified, check_landed
from tests.faults.heard import Heard
from tests.faults.plan import KINDS, LEAST, planned
from tests.faults.proxy import HOST, Lines
from tests.faults.report import as_json, as_text, missed
from tests.faults.run import Options, Result, Site, run
from tests.faults.scene import Told


def ended(kind, *, published, at, deadline=2.0, ran=False, partition=0):
    place = {"ended": f"id-{published}", "agent": "a", "partition": partition}
    return place | {
        "asked": published,
        "published": published,
        "at": at,
        "deadline": deadline,
        "as": kind,
        "ran": ran,
        "why": "",
    }


def told(tmp_path, *events, rest=""):
    out = tmp_path / "client.jsonl"
    out.write_text("".join(json.dumps(event) + "\n" for event in events) + rest)
    answers = Answers()
    answers.read([out])
    return answers


class TestWhatClientsSay:
    def test_an_action_that_began_after_its_deadline_is_overdue_and_one_that_was_refused_is_not(self, tmp_path):
        late = ended("approve", published=1.0, at=3.001, ran=True)
        answers = told(
            tmp_path, late, ended("approve", published=2.0, at=4.5), ended("approve", published=3.0, at=4.9, ran=True)
        )
        assert answers.heard.overdue == [late]

    def test_a_partition_serves_again_with_the_first_rules_answer_to_what_was_published_since(self, tmp_path):
        before = ended("approve", published=9.9, at=10.5)
        refused = ended("other", published=10.1, at=10.2)
        answers = told(
            tmp_path, before, refused, ended("deny", published=10.3, at=12.0), ended("approve", published=10.4, at=11.0)
        )
        assert answers.served_since(0, 10.0) == 11.0
        assert answers.served_since(1, 10.0) is None

    def test_silence_is_the_longest_time_without_an_answer_its_ends_included(self, tmp_path):
        answers = told(tmp_path, ended("approve", published=1.0, at=2.0), ended("deny", published=1.0, at=3.0))
        assert answers.silence_s(0, 1.5, 7.0) == 4.0
        assert answers.silence_s(1, 1.5, 7.0) == 5.5

    def test_a_line_that_is_still_being_written_is_read_later(self, tmp_path):
        answers = told(tmp_path, {"unended": 2}, rest='{"unended": 3')
        assert answers.heard.unended == 2
        (tmp_path / "client.jsonl").write_text('{"unended": 2}\n{"unended": 3}\n')
        answers.read([tmp_path / "client.jsonl"])
        assert answers.heard.unended == 5


class TestWhatAWholeRunHeard:
    def test_it_is_the_sum_of_its_lives_and_the_report_has_it(self):
        heard = Heard()
        heard.add(Heard(Counter(approve=2, silence=1), Counter(late=1), overdue=[{"as": "approve"}], slowest_s=0.5))
        heard.add(Heard(Counter(approve=3), slowest_s=0.2, unended=4))
        result = Result(Options(), {}, total=Verified(), heard=heard, heard_lives=2)
        content = json.loads(as_json(result))
        assert (content["ends"], content["silent"]) == ({"approve": 5, "silence": 1}, {"late": 1})
        assert (content["overdue"], content["slowest_s"], content["unended"]) == ([{"as": "approve"}], 0.5, 4)
        text = as_text(result)
        assert "what clients were told: approve 5, silence 1; without a rule's answer: late 1" in text
        assert "begun after the deadline 1; waits without an end 4" in text

    @pytest.mark.parametrize("heard", [Heard(overdue=[{}]), Heard(unended=1), Heard(Counter(broken=1))])
    def test_one_of_these_makes_the_run_wrong(self, heard):
        assert heard.faulty
        assert not Heard(Counter(approve=1, silence=1), Counter(late=1), slowest_s=9.0).faulty


def test_a_takeover_that_took_longer_than_its_goal_is_told_and_what_has_no_goal_is_not():
    late = {"taken over": 2.5, "with the new one": 99.0}
    kinds, cost = ("worker leaves (SIGTERM)", "worker killed (SIGKILL)"), {"void": 0}
    told = [Told(kind, recover_s=late, cost=cost) for kind in kinds]
    result = Result(Options(), {}, told=told, total=Verified())
    assert missed(result) == ["worker leaves (SIGTERM), taken over: 2.50 s, goal 2 s"]
    assert "\nMISSED: worker leaves (SIGTERM), taken over: 2.50 s, goal 2 s\n" in as_text(result)


def test_an_acknowledged_intent_that_is_not_where_the_broker_said_is_lost():
    answers = Answers(acked={"id-1": ("a", 0, 0), "id-2": ("a", 0, 1), "id-3": ("a", 1, 0)})
    found = Verified()
    check_landed(found, answers, 0, [SimpleNamespace(offset=0, value=b'{"intent_id": "id-1"}')])
    assert found.lost == 1
    assert found.faulty


def test_a_long_run_has_each_kind_often_enough_in_an_order_of_its_seed():
    kinds = planned(150, 7, tuple(KINDS))
    assert min(Counter(kinds).values()) >= LEAST
    assert set(kinds) == set(KINDS)
    assert kinds == planned(150, 7, tuple(KINDS)) != planned(150, 8, tuple(KINDS))


class TestLines:
    @pytest.fixture
    def lines(self):
        with closing(Lines()) as lines:
            yield lines

    @pytest.fixture
    def echo(self):
        with socket.create_server((HOST, 0)) as server:
            yield server

    def test_a_held_line_delivers_late_and_a_refused_one_never(self, lines, echo):
        line = lines.line(echo.getsockname()[1])
        with socket.create_connection((HOST, line.port)) as near, echo.accept()[0] as far:
            near.sendall(b"1")
            assert far.recv(1) == b"1"
            line.hold()
            near.sendall(b"2")
            far.settimeout(0.3)
            with pytest.raises(TimeoutError):
                far.recv(1)
            line.mend()
            far.settimeout(10)
            assert far.recv(1) == b"2"
            line.refuse()
            near.settimeout(10)
            with pytest.raises(ConnectionResetError):
                near.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, line.port))
        line.mend()
        with socket.create_connection((HOST, line.port)) as near, echo.accept()[0] as far:
            near.sendall(b"3")
            assert far.recv(1) == b"3"


class TestCtrlC:
    def test_it_ends_a_run_with_what_came_before_and_is_no_trace(self, monkeypatch, tmp_path):
        def interrupted(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Site, "open", interrupted)  # before anything is started
        result = run(Options(), tmp_path)
        assert result.wrong
        assert "stopped by Ctrl-C" in as_text(result)
        assert "Traceback" not in as_text(result)

    def test_what_nobody_came_to_count_is_no_zero(self, monkeypatch, tmp_path):
        def interrupted(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Site, "open", interrupted)
        result = run(Options(), tmp_path)
        assert "gaps" not in as_text(result)
        assert "waits without an end" not in as_text(result)
        assert "nothing was counted" in as_text(result)

    def test_logs_that_were_read_before_it_are_told_with_how_many_lives_they_are_of(self):
        failed = {"wrong": True, "failed": "stopped by Ctrl-C"}
        only_heard = Result(Options(), {}, total=Verified(), lives=2, heard_lives=1, **failed)
        assert "gaps" not in as_text(only_heard)
        assert "waits without an end 0" in as_text(only_heard)
        read = replace(only_heard, read_lives=1)
        assert "gaps 0; doubles 0" in as_text(read)
        assert "2 lives of the realm, the logs of 1 were read\n" in as_text(read)
