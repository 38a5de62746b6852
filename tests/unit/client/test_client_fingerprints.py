"""Fingerprints: keyed, of kind and form, the same for all clients of a realm; and what mandates and intents say (PROVENANCE §1)."""

import base64
import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.client import fingerprints
from harness_stream.client.atoms import Atom
from harness_stream.client.credentials import Credentials
from harness_stream.client.fingerprints import (
    GOAL_CHARS_MAX,
    INTENT_VALUES_MAX,
    KEY_BYTES,
    Seal,
    arguments_of,
    dev_key,
    fingerprint_of,
    fingerprints_of,
    read_key,
    with_goal,
)
from harness_stream.core import limits
from harness_stream.core.canonical import canonical_bytes
from harness_stream.core.model import Argument, Mandate
from harness_stream.errors import CallerError, ConfigError, InvalidInput

KEY = bytes(range(KEY_BYTES))
SEAL = Seal(KEY)
BOB = SEAL(Atom("email", "bob@example.com"))
ORDERED = {
    "realm": "default",
    "by": "assistant-ui",
    "agent_id": "support-1",
    "mandate_id": "01970000-0000-7000-8000-000000000001",
    "chain_id": "ticket-7",
    "expires_at": 4_000_000_000_000,
}


def told(arguments, roles=None, seal=SEAL):
    return arguments_of(arguments, roles or {}, seal)


class TestSeal:
    def test_a_fingerprint_is_what_other_languages_must_compute(self):
        """Keyed BLAKE2b, 8 bytes, person `hs-value`, over kind, a zero byte and the form."""
        assert BOB == "2e11ad0f596fd74c"

    def test_kind_form_and_key_all_count(self):
        atoms = [Atom("number", "13"), Atom("identifier", "13"), Atom("number", "14")]
        assert len({Seal(key)(atom) for key in (KEY, KEY[::-1]) for atom in atoms}) == 6

    @given(st.text())
    def test_any_form_has_sixteen_hex_digits(self, form):
        text = form.encode("utf-8", "ignore").decode()
        assert len(bytes.fromhex(SEAL(Atom("phrase", text)))) * 2 == limits.FINGERPRINT_DIGITS

    @pytest.mark.parametrize("wrong", [b"", b"x" * 31, b"x" * 33])
    def test_a_key_has_32_bytes(self, wrong):
        with pytest.raises(CallerError, match="32 bytes"):
            Seal(wrong)


class TestKeys:
    def test_dev_clients_of_one_realm_agree_and_of_two_do_not(self):
        one, same, other = (Credentials(agent_id=a, realm=r, dev=True) for a, r in [("a", "r"), ("b", "r"), ("a", "s")])
        assert one.value_key() == same.value_key() == dev_key("r")
        assert one.value_key() != other.value_key()

    def test_a_key_in_the_credentials_wins_and_is_not_shown(self):
        text = base64.urlsafe_b64encode(KEY).decode().rstrip("=")
        credentials = Credentials(agent_id="a", dev=True, fingerprint_key=text)
        assert credentials.value_key() == KEY == read_key(text + "=")
        assert text not in repr(credentials)
        assert text not in str(credentials.model_dump())
        assert Credentials.of(credentials, lane="l").value_key() == KEY

    def test_a_signed_realm_without_one_has_none(self):
        assert Credentials(agent_id="a").value_key() is None

    @pytest.mark.parametrize("wrong", ["", "abc", "!" * 43, "A" * 44 + "AAAA"])
    def test_what_is_no_key_is_a_config_error_that_does_not_show_it(self, tmp_path, wrong):
        path = tmp_path / "agent.json"
        path.write_text(json.dumps({"agent_id": "a", "fingerprint_key": wrong}))
        with pytest.raises(ConfigError, match=r"`fingerprint_key`.*32 bytes") as caught:
            Credentials.of(path)
        assert not wrong or wrong not in str(caught.value)


class TestArguments:
    def test_name_role_values_exact_and_links(self):
        arguments, unparsed = told({"to": "Bob@Example.com", "body": "see www.x.com"}, {"to": "destination"})
        assert not unparsed
        assert arguments == [
            {"name": "to", "role": "destination", "values": [BOB], "exact": True, "links": []},
            {
                "name": "body",
                "role": "other",
                "values": [SEAL(Atom("phrase", "see www.x.com"))],
                "exact": True,
                "links": [SEAL(Atom("host", "www.x.com"))],
            },
        ]
        assert [Argument.model_validate(a).name for a in arguments] == ["to", "body"]

    def test_a_secret_is_told_like_anything_else(self):
        [secret] = told({"password": "new_password"}, {"password": "secret"})[0]
        assert secret["values"] == [SEAL(Atom("identifier", "new_password"))]

    def test_what_is_nothing_is_left_out(self):
        assert [a["name"] for a in told({"to": "a", "cc": None, "bcc": [], "note": " ", "n": 0})[0]] == ["to", "n"]

    def test_a_look_alike_is_not_exact(self):
        [look_alike] = told({"to": "ｂｏｂ@example.com"})[0]
        assert (look_alike["values"], look_alike["exact"]) == ([BOB], False)

    def test_one_that_cannot_be_taken_apart_leaves_none_readable(self):
        arguments, unparsed = told(
            {"to": "bob@example.com", "file": "QUJDabcdefghijklmnopq" * 20}, {"to": "destination"}
        )
        assert unparsed
        assert arguments == [{"name": "to", "role": "destination"}, {"name": "file", "role": "other"}]
        assert not Argument.model_validate(arguments[0]).exact

    def test_too_many_values_in_all_are_unparsed(self):
        each = [f"n{n}@x.com" for n in range(limits.ARGUMENT_VALUES_MAX)]
        count = INTENT_VALUES_MAX // limits.ARGUMENT_VALUES_MAX
        assert not told({f"a{n}": each for n in range(count)})[1]
        assert told({f"a{n}": each for n in range(count + 1)})[1]

    def test_the_largest_arguments_fit_into_an_intent(self):
        each = [f"n{n}@x.com" for n in range(limits.ARGUMENT_VALUES_MAX)]
        arguments, _ = told({f"{'a' * 60}{n}": each for n in range(4)} | {f"{'b' * 60}{n}": True for n in range(60)})
        assert len(canonical_bytes(arguments)) < limits.INTENT_BYTES_MAX * 0.6

    def test_without_a_key_nothing_is_readable(self):
        assert told({"to": "a"}, {}, None) == ([{"name": "to", "role": "other"}], True)
        assert told({"to": None}, {}, None) == ([], False)

    def test_a_role_without_argument_is_the_callers_mistake(self):
        with pytest.raises(CallerError, match="`cc`"):
            told({"to": "a"}, {"cc": "destination"})


class TestMandates:
    def test_values_and_phrases_that_the_user_named(self):
        named = fingerprints_of("Invite Sarah Connor (bob@example.com) to 'the old bridge'", KEY)
        assert named["values"] == [BOB]
        assert {SEAL(Atom("name", "sarah connor")), SEAL(Atom("name", "the old bridge"))} <= set(named["phrases"])

    def test_what_the_user_named_is_what_an_argument_uses(self):
        named = fingerprints_of(
            "Please refund GB29 NWBK 6016 1331 9268 19, set it to new_password, delete file 13", KEY
        )
        used = told({"recipient": "GB29NWBK60161331926819", "password": "new_password", "file_id": 13})[0]
        assert {value for a in used for value in a["values"]} <= set(named["values"])

    def test_a_goal_in_plain_words_becomes_fingerprints(self):
        goal = "Mail bob@example.com about the invoice"
        fields = with_goal({**ORDERED, "goal": goal, "values": ["a" * 16]}, KEY)
        mandate = Mandate.model_validate(fields)
        assert mandate.values == ("a" * 16, BOB)
        assert mandate.goal_digest == sha256(goal.encode()).hexdigest()
        assert "goal" not in fields

    def test_a_mandate_without_goal_stays_as_it_is(self):
        assert with_goal(ORDERED, KEY) == ORDERED

    def test_without_a_key_only_the_digest_is_told(self):
        fields = with_goal({**ORDERED, "goal": "Mail bob@example.com"}, None)
        assert (fields["values"], fields["phrases"]) == ([], [])
        assert fields["goal_digest"]

    @pytest.mark.parametrize("wrong", [7, ["a"], "x" * (GOAL_CHARS_MAX + 1), " ".join(f"n{n}" for n in range(1_100))])
    def test_what_is_no_goal(self, wrong):
        with pytest.raises(InvalidInput):
            with_goal({**ORDERED, "goal": wrong}, KEY)

    def test_one_value_by_itself_for_tables_and_delegates(self):
        assert fingerprint_of("Bob@example.com", KEY) == BOB
        assert fingerprint_of("13", KEY, name="file_id") == SEAL(Atom("identifier", "13"))

    @pytest.mark.parametrize("wrong", ["", "a@x.com, b@x.com", "ｂｏｂ@example.com"])
    def test_what_is_not_one_exact_value_has_no_fingerprint(self, wrong):
        with pytest.raises(InvalidInput, match="one value"):
            fingerprint_of(wrong, KEY)


def test_the_personalisations_are_allowed_and_differ():
    assert len({fingerprints._PERSON, fingerprints._PERSON_DEV_KEY}) == 2
    assert max(len(fingerprints._PERSON), len(fingerprints._PERSON_DEV_KEY)) <= 16
