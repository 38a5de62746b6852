"""`harness holds list | show | approve | deny` against a real worker on a log in memory: each answer, each mistake."""

import json
import re
from contextlib import contextmanager
from dataclasses import replace

import factories as make
import pytest
from hold_world import PARTITIONS, RULES, SECOND, AwayStore, HoldWorld
from typer.testing import CliRunner

from harness_stream.adapters.clock import SystemClock
from harness_stream.cli import holds, holds_answer, holds_read
from harness_stream.cli.holds_read import attempts, find, read_book
from harness_stream.cli.holds_shown import ORIGINS
from harness_stream.cli.main import COMMANDS, app
from harness_stream.core import limits
from harness_stream.core.lanes import partition_of
from harness_stream.core.names import lane_unit
from harness_stream.core.provenance import WORDS
from harness_stream.errors import CallerError, HarnessError, ProtocolError, Unavailable

OVER_MS = limits.HOLD_MS_DEFAULT + 1_000
HOME = partition_of("acme", PARTITIONS)
YES = ("--by", "grace", "--reason", "seen", "--yes", "--dev")


@pytest.fixture
def world():
    with HoldWorld().worker() as world:
        yield world


@pytest.fixture
def run(world, monkeypatch):
    """Run `harness holds …`: (exit code, what was printed); an error of ours is raised."""
    state = {"store": None, "stdin": None}

    @contextmanager
    def realm(_speaker):
        yield world.realm(state["store"])

    monkeypatch.setattr(holds, "_realm", realm)

    def run(*words, **over):
        state.update({"store": None, **over})
        done = CliRunner().invoke(app, ["holds", *words])
        if isinstance(done.exception, HarnessError):
            raise done.exception
        return done.exit_code, re.sub(r"\x1b\[\d+m", "", done.output)

    return run


def documents(run, *words, **over):
    code, text = run(*words, "--json", **over)
    return code, json.loads(text.splitlines()[-1])


class TestList:
    def test_none_is_open(self, run):
        code, text = run("list")
        assert (code, text.startswith("no hold is open; from the decision log, folded to its end (0/")) == (0, True)

    def test_a_line_says_who_wants_what_and_which_rule_asks(self, world, run):
        hold = world.ask()
        titles, line, count, todo = run("list")[1].splitlines()
        assert titles.split() == ["hold", "id", "left", "agent", "action", "asked", "by"]
        assert line.split("  ")[0] == hold["place"]
        for part in (hold["digest"][:12], "14 min", "agent-1", "crm.export crm://orders/1"):
            assert part in line
        assert line.endswith("export: an export leaves the house")
        assert count.startswith("1 open; ")
        assert f"harness holds show {hold['place']}" in todo

    def test_all_partitions_the_longest_waiting_first(self, world, run):
        first, second, third = world.ask(), world.ask(agent="agent-2", lane="globex"), world.ask()
        assert len({first["place"][0], second["place"][0]}) == 2
        found = documents(run, "list")[1]
        assert [hold["place"] for hold in found["holds"]] == [h["place"] for h in (first, second, third)]
        assert [part["partition"] for part in found["partitions"]] == [0, 1]

    @pytest.mark.parametrize("words", [("--agent", "agent-2"), ("--lane", "globex"), ("--partition", str(1 - HOME))])
    def test_only_what_was_asked_for_is_read(self, world, run, words):
        world.ask()
        other = world.ask(agent="agent-2", lane="globex")
        found = documents(run, "list", *words)[1]
        assert [hold["hold"] for hold in found["holds"]] == [other["digest"]]
        assert [part["partition"] for part in found["partitions"]] == [1 - HOME]

    def test_answered_and_expired_ones_are_not_open(self, world, run):
        answered = world.ask()
        world.answer_raw(answered, "grace", "deny")
        world.ask()
        world.clock.ahead_ms += OVER_MS
        assert documents(run, "list")[1]["holds"] == []

    def test_a_program_is_told_all_of_it(self, world, run):
        verdict = world.ask()
        (hold,) = documents(run, "list")[1]["holds"]
        assert hold["hold"] == verdict["digest"]
        assert (hold["state"], hold["intent_id"], hold["lane"]) == ("open", verdict["intent_id"], "acme")
        assert hold["hold_until"] - hold["asked_at"] == limits.HOLD_MS_DEFAULT
        assert 0 < hold["left_ms"] <= limits.HOLD_MS_DEFAULT
        assert [reason["rule"] for reason in hold["reasons"]] == ["export"]

    def test_it_says_from_where_and_that_inputs_wait(self, world, run):
        world.ask()
        world.stop()
        world.send({"type": "anything"})
        found = documents(run, "list")[1]
        part = found["partitions"][HOME]
        assert (found["source"], part["behind"], part["unanswered_inputs"]) == ("decision log", 0, 1)
        assert f"partition {HOME}: 1 input is not decided yet" in run("list")[1]
        world.start()

    def test_a_log_that_contradicts_its_checkpoint_is_no_empty_list(self, world, run):
        world.ask(agent="agent-2", lane="globex")
        world.ask()
        world.stop()
        world.broker.truncate_from("t.verdicts", HOME, 1)
        with pytest.raises(ProtocolError, match=f"partition {HOME} of `t.verdicts` holds") as error:
            run("list")
        assert "The others: `--partition`" in error.value.hint
        assert len(documents(run, "list", "--partition", str(1 - HOME))[1]["holds"]) == 1
        world.start()

    def test_who_is_nobody_and_which_is_none(self, run):
        with pytest.raises(HarnessError, match="there is no agent `nobody`") as error:
            run("list", "--agent", "nobody")
        assert "harness tables get identity" in error.value.hint
        with pytest.raises(CallerError, match="there is no partition 7"):
            run("list", "--partition", "7")


class TestWhereItBegins:
    """A log this short would be folded whole; so the look back is cut to where its reason can be seen."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch):
        monkeypatch.setattr(holds_read, "LOOK_BACK", 1)

    def later(self, world, ms):
        """Turn the clock, and let the worker write a verdict and a checkpoint."""
        world.clock.ahead_ms += ms
        world.until(lambda: world.ask("crm.read", "agent-3")["kind"] == "verdict")
        end = world.decided(HOME)[-1]["offset"]
        world.until(lambda: world.newest_checkpoint(HOME) >= end)

    def test_a_hold_from_long_before_the_newest_checkpoint_is_found(self, world):
        """A busy owner writes a checkpoint a second; a hold lives 900 of them."""
        hold = world.ask()
        self.later(world, 1_000)
        self.later(world, limits.HOLD_MS_DEFAULT - 60_000)
        book = read_book(world.source(), HOME)
        assert [h.digest for h in book.holds.open_at(book.now(world.clock))] == [hold["digest"]]

    def test_what_is_over_is_not_read_again(self, world):
        over = world.ask()
        self.later(world, 1_000)
        self.later(world, 2 * OVER_MS)
        self.later(world, 1_000)
        book = read_book(world.source(), HOME)
        assert book.first > over["offset"]
        assert not book.cut
        assert book.holds.all() == []

    def test_this_machines_clock_may_be_wrong(self, world):
        """Where it begins is counted from the log's own time."""
        hold = world.ask()
        self.later(world, 1_000)
        source = replace(world.source(), clock=SystemClock())  # the broker's is ahead from here on
        self.later(world, limits.HOLD_MS_DEFAULT - 60_000)
        book = read_book(source, HOME)
        assert [h.digest for h in book.holds.open_at(book.now(source.clock))] == [hold["digest"]]

    def test_the_logs_beginning_may_be_gone(self, world, run):
        for _ in range(3):
            world.ask()
            self.later(world, 1_000)
        world.broker.truncate_before("t.verdicts", HOME, world.decided(HOME)[-1]["offset"])
        book = read_book(world.source(), HOME)
        assert book.cut
        assert f"read from {book.first} on, what came before is not kept" in run("list")[1]

    def test_a_hold_whose_record_was_deleted_is_said_to_be_gone_and_not_to_be_denied(self, world, run):
        """The runbook's last way behind a damaged record: what is kept begins with the checkpoint that names the hold."""
        hold = world.ask()
        self.later(world, 1_000)
        world.broker.truncate_before("t.verdicts", HOME, hold["offset"] + 1)
        book = read_book(world.source(), HOME)
        assert (book.cut, book.holds.all()) == (True, [])
        assert "what came before is not kept" in run("list")[1]
        with pytest.raises(HarnessError, match="whose beginning is gone") as error:
            run("show", hold["place"])
        assert "harness chain show" in error.value.hint

    def test_evidence_from_before_all_that_was_read_is_looked_up(self, world, run):
        read = world.ask("crm.read")
        self.later(world, 1_000)
        self.later(world, 2 * OVER_MS)
        hold = world.ask("email.send")
        assert read_book(world.source(), HOME).first > read["offset"]
        found = documents(run, "show", hold["place"])[1]
        assert read["intent_id"] in found["evidence"]


class TestNames:
    def test_place_digest_and_intent(self, world):
        hold = world.ask()
        for name in (hold["place"], hold["digest"], hold["digest"][:9], hold["intent_id"], hold["intent_id"].upper()):
            assert find(world.source(), range(PARTITIONS), name).hold.digest == hold["digest"]

    def test_nothing_by_that_name(self, run):
        with pytest.raises(HarnessError, match="no hold `beef` was asked in the last 76 minutes") as error:
            run("show", "beef")
        assert "harness holds list" in error.value.hint
        assert error.value.exit_code == 1

    def test_several_begin_like_that(self, world, run):
        first, second = world.ask(), world.ask()
        with pytest.raises(CallerError, match="may mean 2 holds") as error:
            run("show", first["intent_id"][:6])
        assert first["place"] in error.value.message
        assert second["place"] in error.value.message

    def test_no_such_partition(self, run):
        with pytest.raises(CallerError, match="there is no partition 9"):
            run("show", "9/1")

    def test_an_expired_one_is_still_told_for_an_hour(self, world, run):
        hold = world.ask()
        world.clock.ahead_ms += OVER_MS + limits.ID_AGE_MS_MAX
        world.until(lambda: world.ask("crm.read")["kind"] == "verdict")
        text = run("show", hold["place"])[1]
        assert "\nexpired; asked " in text
        assert "nobody answered in time" in text


class TestShow:
    def test_the_intent_its_facts_and_the_rule_that_asks(self, world, run):
        hold = world.ask(purpose="quarterly", measures={"rows": 40}, labels=["secret"])
        text = run("show", hold["digest"][:10])[1]
        for part in (
            f"hold {hold['place']}  {hold['digest']}",
            "open, 14 min left",
            "agent-1 (owner olga, tenant acme, lane acme) wants to\n  crm.export  crm://orders/1",
            "purpose    quarterly",
            "measures   rows=40",
            f"intent     {hold['intent_id']}",
            "export: an export leaves the house",
            "infrastructure  environment prod",
            "risk            no row",
            'crm://orders/1: labels ["pii"], owner sales',
            "secret          the agent says so",
            "pii             crm://orders/1",
            "shadow rule, would deny: watched",
            f"harness holds approve {hold['place']} --reason TEXT",
        ):
            assert part in text

    def test_evidence_is_the_event_itself_with_its_outcome(self, world, run):
        read = world.ask("crm.read")
        outcome = {"v": 1, "type": "outcome", "realm": "test", "by": "agent-1", "agent_id": "agent-1", "status": "done"}
        own = {"outcome_id": make.uuid7(), "intent_id": read["intent_id"], "verdict_digest": read["digest"]}
        world.answer(*world.send(outcome | own))
        hold = world.ask("email.send")
        assert re.search(rf"after .* approve agent-1: crm.read crm://orders/1 → done  {read['intent_id']}", run("show", hold["place"])[1].replace("  agent", " agent"))
        found = documents(run, "show", hold["place"])[1]
        assert found["reasons"][0]["evidence"] == [read["intent_id"]]
        assert found["evidence"][read["intent_id"]]["outcome"] == "done"

    def test_origin_of_values_and_of_the_chains_labels(self, world, run):
        known, mandate = "1f" * 8, {"v": 1, "type": "mandate", "realm": "test", "by": "boss", "agent_id": "agent-1"}
        until = world.clock.now_ms() + 3_600_000
        opened = {"mandate_id": make.uuid7(), "chain_id": "task-1", "values": [known], "expires_at": until}
        classes = {"action_classes": [{"operation": "send", "object": "email"}]}
        assert world.answer(*world.send(mandate | opened | classes))["status"] == "accepted"
        read = world.ask("crm.read", chain_id="task-1")
        arguments = [
            {"name": "to", "role": "destination", "values": [known], "exact": True},
            {"name": "body", "role": "content", "values": ["2e" * 8], "exact": True},
        ]
        hold = world.ask("email.send", chain_id="task-1", arguments=arguments)
        world.stored(HOME)
        text = run("show", hold["place"])[1]
        assert "to              destination, 1 value: mandate (the user named it)" in text
        assert "body            content, 1 value: never_seen (nowhere this chain has looked)" in text
        assert re.search(rf"pii  +the chain, .* crm.read crm://orders/1  {read['intent_id']}", text)
        assert re.search(r"mandate by boss \(orchestrator\) until .*: send email\n  it names 1 of the intent's values", text)
        chain = documents(run, "show", hold["place"])[1]["chain"]
        assert (chain["known"], chain["labels"], chain["named"]) == (True, {"pii": read["intent_id"]}, [known])
        assert {name: argument["origin"] for name, argument in chain["arguments"].items()} == {
            "to": "mandate",
            "body": "never_seen",
        }

    def test_every_word_of_an_origin_is_explained(self):
        assert tuple(ORIGINS) == WORDS

    def test_without_redis_the_rest_is_shown_and_origins_are_not_known(self, world, run):
        hold = world.ask()
        text = run("show", hold["place"], store=AwayStore())[1]
        assert "origin of values and labels of the chain: not known, Redis does not answer: start it" in text
        assert "export: an export leaves the house" in text
        chain = documents(run, "show", hold["place"], store=AwayStore())[1]["chain"]
        assert (chain["known"], chain["why"]) == (False, "Redis does not answer: start it")

    def test_a_store_that_lost_a_unit_is_told_so(self, world, run):
        hold = world.ask()
        world.stored(HOME)
        world.store.drop_units(["a:agent-1"])
        assert "not known, the store lost `a:agent-1`" in run("show", hold["place"])[1]

    @pytest.mark.parametrize(
        ("grown", "what"),
        [(0, "the decision log has nothing from"), (3, "was moved by another record at")],
        ids=["it-is-too-short", "it-has-grown-since"],
    )
    def test_of_a_redis_that_knows_more_than_the_log_nothing_is_shown(self, world, run, grown, what):
        """No worker runs that would replace it."""
        hold = world.ask()
        world.ask("crm.read")
        world.stored(HOME)
        world.lose_last(HOME, grown)
        text = run("show", hold["place"])[1]
        assert re.search(rf"not known, the state store .*{what}", text)
        assert "docs/runbook.md, `decisions_lost`" in text
        assert "the chain, " not in text
        chain = documents(run, "show", hold["place"])[1]["chain"]
        assert (chain["known"], "labels" in chain) == (False, False)

    def test_a_lane_of_which_nothing_is_kept_is_no_loss(self, world, run, monkeypatch):
        hold, lane, load, units = world.ask(), lane_unit("acme"), world.store.load, world.store.units
        world.stored(HOME)
        monkeypatch.setattr(world.store, "load", lambda n, names: load(n, names) | dict.fromkeys({lane} & {*names}))
        monkeypatch.setattr(world.store, "units", lambda n: units(n) - {lane})
        assert documents(run, "show", hold["place"])[1]["chain"]["known"] is True

    def test_answers_that_changed_nothing_and_the_one_that_did(self, world, run):
        hold, other = world.ask(), world.ask()
        assert world.answer_raw(hold, "boss", reason="please")["reason"] == "not_approver"
        world.answer_raw(other, "boss")
        world.answer_raw(hold, "grace", reason="seen")
        text = run("show", hold["place"])[1]
        assert "boss: approve; not taken, an active approver, and not" in text
        assert "grace said approve, “seen”: approved" in text
        assert "\napproved; asked " in text
        assert "harness holds approve" not in text
        found = find(world.source(), range(PARTITIONS), hold["place"])
        assert [attempt.said for attempt in attempts(world.source(), found)] == ["please"]


class TestApprove:
    def test_it_is_approved(self, world, run):
        hold = world.ask()
        code, text = run("approve", hold["place"], *YES)
        assert (code, text.split()[0]) == (0, "approve")
        assert "it runs if its process still waits, never after" in text
        verdict = world.decided(HOME)[-1]
        assert verdict["approval"] | {"id": ""} == {
            "id": "",
            "by": "grace",
            "decision": "approve",
            "reason": "seen",
            "declassify": [],
            "satisfied": ["export"],
        }

    def test_a_program_is_told_which_verdict(self, world, run):
        hold = world.ask()
        code, told = documents(run, "approve", hold["place"], *YES)
        verdict = world.decided(HOME)[-1]
        assert (code, told["became"], told["exit_code"]) == (0, "approved", 0)
        assert (told["verdict_digest"], told["verdict_offset"]) == (verdict["digest"], verdict["offset"])

    def test_labels_leave_the_chain(self, world, run):
        world.ask("crm.read")
        hold = world.ask("email.send")
        run("approve", hold["place"], *YES, "--declassify", "pii")
        again = world.ask("email.send")
        world.stored(HOME)
        assert documents(run, "show", again["place"])[1]["chain"]["labels"] == {}
        assert "labels taken off: pii" in run("show", hold["place"])[1]

    def test_what_changed_meanwhile_denies_and_is_named(self, world, run):
        hold = world.ask()
        world.heat("agent-1")
        code, text = run("approve", hold["place"], *YES)
        assert code == 5
        assert "denied though you approved" in text
        assert "hot: the agent is hot" in text

    def test_another_rule_asks_now(self, world, run):
        hold = world.ask()
        world.switched(SECOND)
        code, text = run("approve", hold["place"], *YES)
        again = world.decided(HOME)[-1]
        assert code == 6
        assert "now another rule asks, second-look" in text
        assert f"harness holds show {again['place']}" in text
        assert [h["hold"] for h in documents(run, "list")[1]["holds"]] == [again["digest"]]
        with pytest.raises(holds.TooLate, match="asked again") as error:
            run("approve", hold["place"], *YES)
        assert f"`harness holds show {again['place']}` is the question now" in error.value.hint
        assert find(world.source(), range(PARTITIONS), hold["intent_id"]).hold.digest == again["digest"]

    def test_the_second_question_names_all_rules_that_a_yes_stands_for_and_is_the_last(self, world, run):
        hold = world.ask()
        world.switched(SECOND)
        run("approve", hold["place"], *YES)
        again = world.decided(HOME)[-1]
        assert "second-look; export (answered before)" in run("list")[1]
        assert "export, which grace said yes to, or who answered before" in run("show", again["place"])[1]
        assert documents(run, "list")[1]["holds"][0]["satisfies"] == ["export", "second-look"]
        assert run("approve", again["place"], "--by", "ada", "--reason", "x", "--yes", "--dev")[0] == 0
        assert world.decided(HOME)[-1]["approval"]["satisfied"] == ["export", "second-look"]

    def test_values_become_known_to_the_chain(self, world, run):
        argument = {"name": "iban", "role": "destination", "values": ["a" * 16], "exact": True}
        hold = world.ask(arguments=[argument])
        assert run("approve", hold["place"], *YES, "--value-of", "iban")[0] == 0
        verdict = world.decided(HOME)[-1]
        assert verdict["approval"]["answers"] == {"class": "crm.export", "values": ["a" * 16]}
        assert "1 value known to its chain for crm.export" in run("show", hold["place"])[1]
        again = world.ask(arguments=[argument])
        world.stored(HOME)
        assert documents(run, "show", again["place"])[1]["chain"]["arguments"]["iban"]["origin"] == "mandate"

    def test_values_of_no_argument_are_refused_before_anything_is_published(self, world, run):
        hold = world.ask(arguments=[{"name": "iban", "values": ["a" * 16], "exact": True}, {"name": "note"}])
        inputs = world.broker.bounds("t.intents", HOME)[1]
        for name in ("ibna", "note"):
            with pytest.raises(CallerError, match=f"names no values of `{name}`") as error:
                run("approve", hold["place"], *YES, "--value-of", name)
            assert "it has values of `iban`" in error.value.hint
        assert world.broker.bounds("t.intents", HOME)[1] == inputs

    def test_who_comes_second_is_told_who_was_first(self, world, run):
        hold = world.ask()
        run("deny", hold["place"], *YES)
        with pytest.raises(holds.TooLate, match="was answered before: grace said deny, “seen”: denied") as error:
            run("approve", hold["place"], "--by", "ada", "--reason", "x", "--yes", "--dev")
        assert error.value.exit_code == 7
        assert "nothing was published" in error.value.hint

    def test_who_comes_second_in_the_very_moment_too(self, world, run, monkeypatch):
        hold = world.ask()
        publish = holds_answer.publish

        def overtaken(*args):
            world.answer_raw(hold, "ada", "deny")
            return publish(*args)

        monkeypatch.setattr(holds_answer, "publish", overtaken)
        code, text = run("approve", hold["place"], *YES)
        assert code == 7
        assert "was answered before: ada said deny: denied (hold_denied: ada)" in text

    def test_of_two_answers_in_one_batch_the_first_in_the_log_wins(self, world):
        hold = world.ask()
        world.stop()
        first, second = (world.approval(hold, by, said) for by, said in (("ada", "deny"), ("grace", "approve")))
        places = [world.send(first), world.send(second)]
        world.start()
        one, other = (world.answer(*place) for place in places)
        assert (one["decision"], one["approval"]["by"]) == ("deny", "ada")
        assert (other["kind"], other["reason"]) == ("ack", "no_hold")

    def test_it_expired_in_the_very_moment(self, world, run):
        hold = world.ask()
        world.clock.ahead_ms += OVER_MS
        code, told = documents(run, "approve", hold["place"], *YES)
        assert (code, told["became"], told["reason"]) == (7, "refused", "hold_expired")

    def test_it_expired_and_the_log_says_so(self, world, run):
        hold = world.ask()
        world.clock.ahead_ms += OVER_MS
        world.until(lambda: world.ask("crm.read")["kind"] == "verdict")
        with pytest.raises(holds.TooLate, match="has expired"):
            run("approve", hold["place"], *YES)

    def test_no_worker(self, world, run, monkeypatch):
        hold = world.ask()
        world.stop()
        wait, patience = holds_answer.await_end, 50
        monkeypatch.setattr(holds_answer, "await_end", lambda *args: wait(*args, patience))
        with pytest.raises(Unavailable, match="no worker has answered within 15 s; your answer is input") as error:
            run("approve", hold["place"], *YES)
        assert "harness partitions" in error.value.hint
        world.start()
        world.until(lambda: documents(run, "show", hold["place"])[1]["state"] == "approved")


class TestDeny:
    def test_it_is_denied(self, world, run):
        hold = world.ask()
        code, text = run("deny", hold["place"], *YES)
        assert (code, text.split()[0]) == (0, "deny")
        assert "hold_denied: grace" in text
        assert documents(run, "show", hold["place"])[1]["state"] == "denied"

    def test_it_takes_no_labels_off(self, run):
        assert run("deny", "0/1", *YES, "--declassify", "pii")[0] == 2


class TestWho:
    @pytest.mark.parametrize(
        ("by", "why"),
        [
            ("nobody", "there is no identity `nobody`"),
            ("agent-1", "`agent-1` may not answer this hold"),
            ("olga", "`olga` may not answer this hold"),
            ("boss", "`boss` has no role `approver`"),
            ("gone", "`gone` is suspended"),
        ],
    )
    @pytest.mark.parametrize("decision", ["approve", "deny"])
    def test_may_not(self, world, run, by, why, decision):
        hold, inputs = world.ask(), world.broker.bounds("t.intents", HOME)[1]
        with pytest.raises(CallerError, match=re.escape(why)) as error:
            run(decision, hold["place"], "--by", by, "--reason", "x", "--yes", "--dev")
        assert "nothing was published" in error.value.message
        assert "who may: `ada`, `gate`, `grace`" in error.value.hint
        assert world.broker.bounds("t.intents", HOME)[1] == inputs

    def test_nor_who_spoke_for_the_agent(self, world, run):
        hold = world.ask(by="gate")
        with pytest.raises(CallerError, match="`gate` may not answer"):
            run("approve", hold["place"], "--by", "gate", "--reason", "x", "--yes", "--dev")

    def test_a_slip_of_the_pen(self, world, run):
        hold = world.ask()
        with pytest.raises(CallerError, match="no identity `gracy`") as error:
            run("approve", hold["place"], "--by", "gracy", "--reason", "x", "--yes", "--dev")
        assert "did you mean `--by grace`?" in error.value.hint

    def test_a_worker_that_knows_better_is_told_as_it_says(self, world, run, monkeypatch):
        hold = world.ask()
        monkeypatch.setattr(holds_answer, "require_approver", lambda *_: None)
        code, text = run("approve", hold["place"], "--by", "boss", "--reason", "x", "--yes", "--dev")
        assert code == 2
        assert "your answer changed nothing, not_approver\n→ an active approver, and not" in text


class TestBeforeAnythingIsRead:
    @pytest.mark.parametrize("more", [(), ("--json",)])
    def test_who_cannot_be_asked_has_to_say_yes(self, run, more):
        with pytest.raises(CallerError, match="nobody here to be asked") as error:
            run("approve", "0/1", "--by", "grace", "--reason", "x", "--dev", *more)
        assert "--yes" in error.value.hint

    def test_an_unsigned_realm_is_asked_for(self, run, monkeypatch):
        monkeypatch.delenv("HARNESS_DEV", raising=False)
        with pytest.raises(CallerError, match="an approver signs what is said") as error:
            run("deny", "0/1", "--by", "grace", "--reason", "x", "--yes")
        assert "harness agents enroll NAME --tenant T --role approver" in error.value.hint

    def test_a_reason_is_one_line(self, world, run):
        hold = world.ask()
        with pytest.raises(CallerError, match="the answer cannot be written: reason: must be one line of text"):
            run("approve", hold["place"], "--by", "grace", "--reason", "a\nb", "--yes", "--dev")

    def test_why_is_needed(self, run):
        code, text = run("approve", "0/1", "--by", "grace", "--yes", "--dev")
        assert code == 2
        assert "--reason" in text

    def test_who_is_needed(self, run):
        with pytest.raises(CallerError, match="not said who is the approver") as error:
            run("approve", "0/1", "--reason", "x", "--yes", "--dev")
        assert "--by NAME" in error.value.hint


class TestAsking:
    @pytest.fixture
    def terminal(self, monkeypatch):
        monkeypatch.setattr(holds.sys, "stdin", type("Terminal", (), {"isatty": lambda _self: True})())
        asked = []
        monkeypatch.setattr(holds.typer, "confirm", lambda text, **_how: asked.append(text))
        return asked

    def test_a_person_sees_what_is_answered_before_it_is(self, world, terminal, monkeypatch, capsys):
        hold = world.ask()
        realm = world.realm()
        wish = holds.Wish("approve", "grace", "x", ("pii",))
        found, became = holds.said(realm, hold["place"], wish, yes=False)
        assert terminal == ["Approve it as grace and take pii off its chain?"]
        assert "crm.export crm://orders/1" in capsys.readouterr().out
        assert holds.exit_code(wish, became) == 0
        assert found.hold.digest == hold["digest"]


def test_the_commands_are_where_they_are_looked_for():
    assert list(COMMANDS["holds"].entries) == ["list", "show", "approve", "deny"]
    assert "second-look" not in RULES
