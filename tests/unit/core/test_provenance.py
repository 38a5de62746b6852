"""Where a value came from: what the chain saw, and what a rule is told of an argument (PROVENANCE.md)."""

import factories as make
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core import limits
from harness_stream.core.model import TABLES
from harness_stream.core.names import agent_unit
from harness_stream.core.provenance import NEVER_SEEN, WORDS, Origin, ValueMap, found_in, links_of, origin_of
from harness_stream.core.units import decode_unit, encode_unit
from harness_stream.core.variables import variables_of

NOW = make.NOW
A, B, C, D = (digit * limits.FINGERPRINT_DIGITS for digit in "abcd")
MAIL = {"subject": "tool:mail.read", "free_text": ["body"]}


def row(**fields):
    return TABLES["classification"].model_validate({**MAIL, **fields})


def values(place: str, *fingerprints: str, name: str | None = None) -> dict:
    return {"kind": "email", "place": place, "name": name, "values": list(fingerprints)}


def outcome(*records: list[dict], **over):
    return make.outcome(records=[{"values": list(record)} for record in records], **over)


def argument(**over):
    fields = {"name": "to", "role": "destination", "values": (A,), "exact": True, **over}
    return make.intent(arguments=[fields]).arguments[0]


def origins(**bits: Origin):
    return lambda fingerprint: bits.get(fingerprint[0], 0)


class TestRecords:
    @pytest.mark.parametrize(
        ("tool", "place", "name", "origin"),
        [
            (row(), "identifier", None, Origin.FIELD),
            (row(), "field", "sender", Origin.FIELD),
            (row(), "field", "body", Origin.PROSE),
            (row(), "free_text", None, Origin.PROSE),
            (row(trust="directory"), "field", "sender", Origin.DIRECTORY),
            (row(trust="directory"), "free_text", None, Origin.PROSE),
            (row(trust="untrusted"), "field", "sender", Origin.PROSE),
            (None, "identifier", None, Origin.PROSE),
        ],
    )
    def test_a_value_is_worth_what_its_place_and_tool_are(self, tool, place, name, origin):
        assert found_in(outcome([values(place, A, name=name)]), tool, {}) == {A: origin}

    def test_a_record_the_mandate_names_is_worth_more(self):
        record = [values("identifier", A), values("field", B, name="iban"), values("free_text", C)]
        found = found_in(outcome(record, [values("field", D)]), row(), {"values": [A]})
        assert found == {A: Origin.NAMED_FIELD, B: Origin.NAMED_FIELD, C: Origin.NAMED_TEXT, D: Origin.FIELD}

    def test_a_record_whose_instructions_may_be_followed_is_worth_most(self):
        record = [values("identifier", A), values("free_text", C)]
        assert found_in(outcome(record), row(), {"delegates_to": [A]})[C] == Origin.NAMED_FIELD

    def test_a_phrase_names_a_record_too(self):
        assert found_in(outcome([values("identifier", A)]), row(), {"phrases": [A]}) == {A: Origin.NAMED_FIELD}

    def test_only_an_identifier_names_a_record(self):
        found = found_in(outcome([values("field", A), values("free_text", C)]), row(), {"values": [A]})
        assert found == {A: Origin.FIELD, C: Origin.PROSE}

    def test_a_value_in_several_places_keeps_all_of_them(self):
        assert found_in(outcome([values("field", A)], [values("free_text", A)]), row(), {}) == {A: 16 | 64}


class TestWords:
    def test_each_values_best_then_the_worst_of_all(self):
        seen = origins(a=Origin.MANDATE | Origin.PROSE, b=Origin.FIELD | Origin.NAMED_TEXT)
        assert origin_of(argument(values=(A,)), seen, unparsed=False) == "mandate"
        assert origin_of(argument(values=(A, B)), seen, unparsed=False) == "field"
        assert origin_of(argument(values=(A, B, C)), seen, unparsed=False) == NEVER_SEEN

    @pytest.mark.parametrize("over", [{"exact": False}, {"values": ()}])
    def test_what_is_not_exact_or_empty_was_never_seen(self, over):
        assert origin_of(argument(**over), origins(a=Origin.MANDATE), unparsed=False) == NEVER_SEEN

    def test_unparsed_taints_every_argument(self):
        assert origin_of(argument(), origins(a=Origin.MANDATE), unparsed=True) == NEVER_SEEN
        assert links_of(argument(), origins(), unparsed=True) == NEVER_SEEN

    def test_links_have_a_word_of_their_own(self):
        assert links_of(argument(), origins(), unparsed=False) == "none"
        assert links_of(argument(links=(B,)), origins(b=Origin.PROSE), unparsed=False) == "prose"

    @given(st.integers(0, 127), st.integers(0, 127))
    def test_another_sighting_never_makes_a_value_worse(self, bits: int, more: int):
        before, after = (
            WORDS.index(origin_of(argument(), origins(a=Origin(b)), unparsed=False)) for b in (bits, bits | more)
        )
        assert after <= before


class TestMap:
    def test_it_survives_json(self):
        seen = ValueMap().after({A: 1, B: 64}, overflow=False).after({A: 4}, overflow=True)
        assert list(seen.origins.items()) == [(B, 64), (A, 5)]
        assert ValueMap.from_json(orjson.loads(orjson.dumps(seen.to_json()))) == seen

    def test_beyond_its_limit_the_longest_unseen_are_gone(self):
        many = {f"{n:0{limits.FINGERPRINT_DIGITS}x}": 16 for n in range(limits.CHAIN_VALUES_MAX)}
        seen = ValueMap().after({A: 1}, overflow=False).after(many, overflow=False)
        assert (A in seen.origins, len(seen.origins), seen.overflow) == (False, limits.CHAIN_VALUES_MAX, True)
        assert len(seen.to_json()[0]) < limits.CHAIN_VALUES_BYTES_MAX * 4 / 3


class Told:
    """What a rule is told of an argument at the end of a story."""

    def __init__(self, **over):
        tables = make.tables(
            *make.people(),
            make.identity_row("boss", delegates=["agent-1"]),
            classification=({**MAIL, "subject": "tool:crm.read"},),
        )
        self.story = make.Story(tables=tables, **over)

    def returned(self, *records: list[dict], **over) -> None:
        """An approved read, and what it returned."""
        body = self.story.act(**over)
        by = body["agent_id"]
        told = outcome(
            *records, agent_id=by, by=by, intent_id=body["intent_id"], verdict_digest=self.story.digests[-1]
        )
        assert self.story.take(told)["status"] == "accepted"

    def origin(self, fingerprint: str, **over) -> str:
        intake, intent = self.story.intake, make.intent(arguments=[argument(values=(fingerprint,))], **over)
        inputs = intake.facts(intent, NOW, NOW)
        body = self.story.act(arguments=[argument(values=(fingerprint,))], **over)
        found = variables_of(intent, inputs, body["event"], self.story.state, self.story.windows)
        return found["args"]["to"]["origin"]


def test_the_tools_row_says_what_an_argument_steers():
    tables = make.tables(classification=({**MAIL, "subject": "tool:crm.read", "argument_roles": {"to": "object"}},))
    story = make.Story(tables=tables)
    given = [argument(), argument(name="cc")]
    intent = make.intent(arguments=given)
    inputs = story.intake.facts(intent, NOW, NOW)
    body = story.act(arguments=given)
    found = variables_of(intent, inputs, body["event"], story.state, story.windows)["args"]
    assert (found["to"]["role"], found["cc"]["role"]) == ("object", "destination")


class TestChains:
    def test_never_seen_then_seen_in_prose(self):
        told = Told()
        assert told.origin(A) == NEVER_SEEN
        told.returned([values("free_text", A)])
        assert told.origin(A) == "prose"

    def test_what_the_user_named_is_the_mandates(self):
        told = Told()
        told.story.take(make.mandate(values=(A,), phrases=(B,)))
        assert [told.origin(fp, chain_id="chain-1") for fp in (A, B, C)] == ["mandate", "mandate", NEVER_SEEN]
        assert told.origin(A) == NEVER_SEEN, "another chain, another mandate"

    def test_what_an_agent_declares_of_itself_names_nothing(self):
        told = Told()
        told.story.take(make.mandate(by="agent-1", values=(A,)))
        assert told.origin(A, chain_id="chain-1") == NEVER_SEEN

    def test_the_principals_own_addresses(self):
        told = Told()
        identity = told.story.intake.tables["identity"]
        identity.put("agent-1", orjson.dumps(make.identity_row(addresses=[A])), 9)
        assert told.origin(A) == "self"

    def test_a_tree_has_one_map_of_values(self):
        told = Told()
        root = told.story.act(agent_id="boss", by="boss")
        parent = {"agent_id": "boss", "intent_id": root["intent_id"]}
        told.returned([values("field", A)], parent=parent)
        assert told.origin(A, agent_id="boss", by="boss") == "field"
        told.returned([values("field", B)], agent_id="boss", by="boss")
        assert told.origin(B, parent=parent) == "field"
        assert told.origin(B) == NEVER_SEEN, "for itself it did not see it"

    def test_a_child_knows_what_its_parents_mandate_names(self):
        told = Told()
        boss = {"agent_id": "boss", "by": "boss", "chain_id": "chain-1"}
        told.story.take(make.mandate(agent_id="boss", values=(A,)))
        root = told.story.act(**boss)
        parent = {"agent_id": "boss", "intent_id": root["intent_id"]}
        assert told.origin(A, parent=parent) == "mandate"


SENDING = {"subject": "tool:email.send", "operation": "send", "object_class": "email"}
POSTING = {"subject": "tool:http.post", "operation": "send", "object_class": "request"}
ASKING = make.APPROVE_ALL + """  - {id: payee, effect: hold, when: '"to" in args && origin("to") == "never_seen"'}
"""


class TestAnswers:
    """`scope: value`: an approver answers for a value and class in one chain, so that one question is asked once."""

    @pytest.fixture
    def story(self) -> make.Story:
        actions = ["crm.read", "email.send", "http.post"]
        people = [make.identity_row(actions=actions) if r["agent_id"] == "agent-1" else r for r in make.people()]
        story = make.Story(ASKING, tables=make.tables(*people, classification=(SENDING, POSTING)))
        story.take(make.mandate())
        return story

    def ask(self, story: make.Story, *fingerprints: str, t: int = NOW, **over) -> dict:
        return story.act(t, **{"action": "email.send", "arguments": [argument(values=fingerprints)], **over})

    def answered(self, story: make.Story, *fingerprints: str, **over) -> dict:
        """A hold of a value, and an answer for it."""
        body = self.ask(story, *fingerprints)
        assert body["decision"] == "hold"
        named = {"scope": "value", "values": list(fingerprints), **over}
        return story.take(make.approval(hold_digest=story.digests[-1], **named), NOW + 1)

    def test_it_is_asked_once_and_names_what_it_answers(self, story):
        body = self.answered(story, A)
        assert body["decision"] == "approve"
        assert body["approval"]["answers"] == {"class": "send email", "values": [A]}
        assert self.ask(story, A, t=NOW + 2)["decision"] == "approve"
        assert self.ask(story, B, t=NOW + 3)["decision"] == "hold", "another value"
        assert self.ask(story, A, B, t=NOW + 4)["decision"] == "hold", "the worst value counts"

    def test_not_for_another_class_of_action(self, story):
        self.answered(story, A)
        assert self.ask(story, A, t=NOW + 2, action="http.post")["decision"] == "hold"

    def test_not_in_another_chain(self, story):
        self.answered(story, A)
        assert self.ask(story, A, t=NOW + 2, chain_id="chain-1")["decision"] == "hold"

    def test_a_tool_that_no_row_describes_is_a_class_of_its_own(self, story):
        body = self.ask(story, A, action="crm.read")
        assert body["decision"] == "hold"
        said = make.approval(hold_digest=story.digests[-1], scope="value", values=[A])
        assert story.take(said, NOW + 1)["approval"]["answers"]["class"] == "crm.read"
        assert self.ask(story, A, t=NOW + 2, action="crm.read")["decision"] == "approve"
        assert self.ask(story, A, t=NOW + 3)["decision"] == "hold"

    def test_only_for_values_that_the_held_intent_names(self, story):
        refused = self.answered(story, A, values=[A, B])
        assert (refused["status"], refused["reason"]) == ("refused", "foreign_values")
        assert self.ask(story, B, t=NOW + 2)["decision"] == "hold"

    def test_an_answer_for_this_intent_is_for_no_other(self, story):
        body = self.answered(story, A, scope="intent", values=[])
        assert (body["decision"], "answers" in body["approval"]) == ("approve", False)
        assert self.ask(story, A, t=NOW + 2)["decision"] == "hold"

    def test_denied_though_approved_it_answers_for_nothing(self, story):
        self.ask(story, A)
        digest = story.digests[-1]
        identity = story.intake.tables["identity"]
        for status in ("suspended", "active"):
            identity.put("agent-1", orjson.dumps(make.identity_row(actions=["email.send"], status=status)), 9)
            if status == "suspended":
                body = story.take(make.approval(hold_digest=digest, scope="value", values=[A]), NOW + 1)
        assert (body["decision"], "answers" in body["approval"]) == ("deny", False)
        assert self.ask(story, A, t=NOW + 2)["decision"] == "hold"

    def test_a_mandate_mentions_it_then(self, story):
        rule = "  - {id: known, effect: hold, when: 'mandate.present && !mandate.mentions(args[\"to\"].values[0])'}\n"
        story.switch(make.APPROVE_ALL + rule.replace('args["to"].values[0]', f'"{A}"'))
        assert self.ask(story, A, chain_id="chain-1")["decision"] == "hold"
        said = make.approval(hold_digest=story.digests[-1], scope="value", values=[A])
        assert story.take(said, NOW + 1)["decision"] == "approve"
        assert self.ask(story, A, t=NOW + 2, chain_id="chain-1")["decision"] == "approve"

    def test_they_are_bounded_and_survive_a_store(self, story):
        for number in range(3):
            fingerprints = [f"{number}{n:0{limits.FINGERPRINT_DIGITS - 1}x}" for n in range(limits.ARGUMENT_VALUES_MAX)]
            self.answered(story, *fingerprints)
        key = ("answered", "agent:agent-1")
        kept = story.state.get(agent_unit("agent-1"), key)
        assert len(kept) == limits.CHAIN_ANSWERED_MAX < 3 * limits.ARGUMENT_VALUES_MAX
        assert kept[-1] == ("send email", fingerprints[-1])
        assert decode_unit(encode_unit({key: kept}, 7, NOW))[0] == {key: kept}

    def test_a_no_is_for_this_intent_alone(self):
        with pytest.raises(ValueError, match="a no is to this intent alone"):
            make.approval(scope="value", values=[A], decision="deny")
