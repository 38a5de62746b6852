"""Both forms of the API, from connecting to the end, on one log with one live worker."""

import asyncio
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from scripted_worker import HOME, LANE, Live

import harness_stream
from harness_stream import Credentials, Denied, Harness, HarnessSync, Held, Revoked, TimedOut, Unreachable
from harness_stream.adapters.kafka import admin
from harness_stream.adapters.memory.log import Fate
from harness_stream.adapters.signing import UnsignedVerifier
from harness_stream.errors import CallerError, ConfigError, InvalidInput, Misused
from harness_stream.ports import Sender
from harness_stream.wire.cloudevents import read_headers
from harness_stream.wire.codec import decode_input


def by_action(intent):
    """A worker for whom the action says the answer."""
    word = intent["action"].split(".")[1]
    decision = {"read": "approve", "send": "deny", "export": "hold", "lose": None}[word]
    return decision, {}


@pytest.fixture
def live():
    with Live(by_action) as live:
        yield live


class Blocking:
    """The blocking form, driven like the other one."""

    def run(self, live, use):
        with HarnessSync.connect(**live.connection()) as harness:
            return use(self, harness)

    def do(self, result):
        return result


class Async:
    """The asyncio form: every result is awaited on one loop."""

    def run(self, live, use):
        with asyncio.Runner() as self.runner:
            harness = Harness.connect(**live.connection())
            self.do(harness.open())
            try:
                return use(self, harness)
            finally:
                self.do(harness.close())

    def do(self, result):
        return self.runner.run(result)


@pytest.fixture(params=[Blocking, Async], ids=["blocking", "asyncio"])
def form(request):
    return request.param()


class TestBothForms:
    def test_decide_start_report(self, live, form):
        def use(form, harness):
            chain = form.do(harness.chain())
            verdict = form.do(chain.decide("crm.read", resources=["crm://orders/1"], measures={"rows": 3}))
            assert verdict.decision == "approve"
            assert verdict.valid
            assert verdict.evidence == ("e-1", "e-2")
            verdict.start()
            assert not verdict.valid
            form.do(verdict.report("done", measures={"rows": Decimal("2.50")}))
            return verdict.digest

        digest = form.run(live, use)
        [outcome] = live.worker.of("outcome")
        assert outcome["verdict_digest"] == digest
        assert outcome["measures"] == {"rows": "2.5"}

    def test_denied_held_timed_out(self, live, form):
        def use(form, harness):
            chain = form.do(harness.chain())
            with pytest.raises(Denied) as denied:
                form.do(chain.decide("email.send"))
            with pytest.raises(Held) as held:
                form.do(chain.decide("crm.export"))
            with pytest.raises(TimedOut) as silent:
                form.do(chain.decide("crm.lose", deadline_ms=100))
            return denied.value, held.value, silent.value

        denied, held, silent = form.run(live, use)
        assert denied.reasons[0].rule == "allowed"
        assert held.verdict.hold_until
        assert silent.reasons
        assert all(e.hint for e in (denied, held, silent))

    def test_a_mandate_opens_a_chain_in_which_intents_are_asked(self, live, form, tmp_path):
        mandate = {
            "v": 1,
            "type": "mandate",
            "realm": "default",
            "by": "assistant-ui",
            "agent_id": "support-1",
            "mandate_id": "01970000-0000-7000-8000-000000000001",
            "chain_id": "ticket-7",
            "expires_at": 4_000_000_000_000,
        }
        path = tmp_path / "mandate.json"
        path.write_text(json.dumps(mandate, indent=2))

        def use(form, harness):
            for source in (mandate, str(path), path, path.read_bytes()):
                chain = form.do(harness.chain(mandate=source))
                assert chain.chain_id == "ticket-7"
            form.do(chain.decide("crm.read"))
            form.do(form.do(harness.chain(chain_id="ticket-6")).decide("crm.read"))
            form.do(form.do(harness.chain()).decide("crm.read"))

        form.run(live, use)
        published = live.broker.read("harness.intents", HOME, 0, 9)
        assert published[1].value == path.read_bytes(), "signed bytes must not be written anew"
        assert [i.get("chain_id") for i in live.worker.of("intent")] == ["ticket-7", "ticket-6", None]

    def test_a_mandate_that_is_refused_is_denied_with_the_reason(self, live, form):
        live.worker.refuse["mandate"] = "not_orchestrator"
        mandate = {
            "realm": "default",
            "by": "mallory",
            "agent_id": "support-1",
            "mandate_id": "01970000-0000-7000-8000-000000000001",
            "chain_id": "c",
            "expires_at": 1,
        }
        with pytest.raises(Denied) as caught:
            form.run(live, lambda form, harness: form.do(harness.chain(mandate=mandate)))
        assert caught.value.reasons[0].code == "not_orchestrator"

    @pytest.mark.parametrize("wrong", [b"{}", {"agent_id": "x"}, "/does/not/exist.json"], ids=str)
    def test_what_is_no_mandate_for_this_agent_is_not_published(self, live, form, wrong):
        with pytest.raises(InvalidInput):
            form.run(live, lambda form, harness: form.do(harness.chain(mandate=wrong)))
        assert live.worker.seen == []

    @pytest.mark.parametrize(
        "wrong",
        [
            {"action": "Not An Action"},
            {"resources": ["no scheme"]},
            {"measures": {"rows": -1}},
            {"measures": {"rows": 0.123_456_789}},
            {"deadline_ms": 60_001},
            {"labels": ["a", "a"]},
            {"purpose": "two\nlines"},
            {"min_revision": {"moods": 1}},
            {"resources": ["crm://x"] * 33},
        ],
        ids=str,
    )
    def test_an_intent_that_breaks_the_schema_is_not_published(self, live, form, wrong):
        asked = {"action": "crm.read", **wrong}
        with pytest.raises(InvalidInput, match="nothing was published"):
            form.run(live, lambda form, harness: form.do(form.do(harness.chain()).decide(**asked)))
        assert live.worker.seen == []

    def test_every_field_reaches_the_wire(self, live, form):
        asked = {
            "resources": ["crm://a"],
            "measures": {"rows": 1, "amount": 0.1},
            "arguments": {"to": "bob", "n": 1},
            "roles": {"to": "destination"},
            "labels": ["pii"],
            "purpose": "why",
            "parent": ("boss", "01970000-0000-7000-8000-000000000001"),
            "deadline_ms": 1_234,
            "min_revision": {"identity": 3},
        }
        form.run(live, lambda form, harness: form.do(form.do(harness.chain()).decide("crm.read", **asked)))
        [record] = live.broker.read("harness.intents", HOME, 0, 9)
        intent = decode_input(record.value)
        assert intent.resources == ("crm://a",)
        assert intent.measures == {"rows": 1, "amount": "0.1"}
        assert [(a.name, a.role) for a in intent.arguments] == [("to", "destination"), ("n", "other")]
        assert intent.parent.agent_id == "boss"
        assert (intent.labels, intent.purpose, intent.deadline_ms) == (("pii",), "why", 1_234)
        assert intent.min_revision == {"identity": 3}
        assert (intent.by, intent.agent_id, intent.workload_id) == ("support-1", "support-1", "wl-support")
        headers = read_headers(record.headers)
        assert (headers.id, headers.type, headers.source) == (
            intent.intent_id,
            "harness.intent",
            "/default/support-1",
        )
        assert UnsignedVerifier().input_authentic(record, Sender("intent", LANE))

    def test_an_argument_too_large_is_refused_before_it_is_published(self, live, form):
        asked = {"arguments": {f"argument-{n:03}": 1 for n in range(65)}}
        with pytest.raises(InvalidInput):
            form.run(live, lambda form, harness: form.do(form.do(harness.chain()).decide("crm.read", **asked)))


class TestConcurrency:
    def test_a_thousand_intents_of_one_process_each_get_their_own_answer(self, live):
        async def main():
            async with Harness.connect(**live.connection()) as harness:
                chain = await harness.chain()
                asked = (chain.decide(("crm.read", "email.send")[n % 2], arguments={"n": n}) for n in range(1_000))
                return await asyncio.gather(*asked, return_exceptions=True)

        answers = asyncio.run(main())
        assert [type(a).__name__ for a in answers] == ["Verdict", "Denied"] * 500
        ids = [a.intent_id if n % 2 == 0 else a.verdict.intent_id for n, a in enumerate(answers)]
        assert ids == [i["intent_id"] for i in sorted(live.worker.of("intent"), key=lambda i: i["intent_id"])]

    def test_threads_share_one_connection(self, live):
        with HarnessSync.connect(**live.connection()) as harness, ThreadPoolExecutor(32) as pool:
            chain = harness.chain()
            verdicts = list(pool.map(lambda n: chain.decide("crm.read", arguments={"n": n}), range(200)))
        assert len({v.intent_id for v in verdicts}) == 200

    def test_a_plain_function_may_be_guarded_by_an_async_chain_and_the_other_way_round(self, live):
        async def plain_in_async():
            async with Harness.connect(**live.connection()) as harness:
                guarded = (await harness.chain()).guard("crm.read")(lambda n: n + 1)
                return await asyncio.to_thread(guarded, 1)

        assert asyncio.run(plain_in_async()) == 2

        with HarnessSync.connect(**live.connection()) as harness:

            @harness.chain().guard("crm.read")
            async def later(n):
                return n + 1

            assert asyncio.run(later(1)) == 2


class TestConnecting:
    def test_credentials_come_from_a_file_and_words_win(self, tmp_path):
        path = tmp_path / "agent.json"
        path.write_text(json.dumps({"realm": "r", "agent_id": "a", "lane": "l", "partitions": 8, "dev": True}))
        found = Harness.connect(path, lane="other").credentials
        assert (found.realm, found.agent_id, found.home(), found.place(), found.partitions) == (
            "r",
            "a",
            "other",
            "a",
            8,
        )
        assert Harness.connect(found).credentials == found

    @pytest.mark.parametrize(
        ("content", "place"),
        [("{", "cannot be read"), ("[]", "one JSON object"), ('{"agnt": 1}', "`agnt`"), ("{}", "`agent_id`")],
    )
    def test_broken_credentials_say_where(self, tmp_path, content, place):
        path = tmp_path / "agent.json"
        path.write_text(content)
        with pytest.raises(ConfigError, match=place):
            HarnessSync.connect(path)

    def test_a_missing_file_is_a_config_error(self):
        with pytest.raises(ConfigError, match=r"`nowhere\.json` cannot be read: No such file or directory\n") as refused:
            HarnessSync.connect("nowhere.json")
        assert "harness agents enroll" in refused.value.hint

    def test_a_realm_that_is_not_dev_is_refused_for_want_of_keys(self):
        with pytest.raises(ConfigError, match="have to be signed"), HarnessSync.connect(agent="a"):
            pytest.fail("connected")

    def test_without_a_broker_connecting_is_unreachable(self, monkeypatch):
        monkeypatch.setattr(admin, "ADMIN_S_MAX", 0.3)
        nobody = Credentials(agent_id="a", dev=True, bootstrap="127.0.0.1:1")
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"), HarnessSync.connect(nobody):
            pytest.fail("connected")

    def test_what_is_not_open_cannot_be_used(self, live):
        harness = HarnessSync.connect(**live.connection())
        with pytest.raises(CallerError, match="not connected"):
            harness.chain()
        with harness:
            pass
        with pytest.raises(CallerError, match="not connected"):
            harness.chain()

    def test_mandate_and_chain_id_together_are_a_mistake(self, live):
        with HarnessSync.connect(**live.connection()) as harness, pytest.raises(CallerError):
            harness.chain(mandate={}, chain_id="c")

    def test_outcomes_posted_before_the_end_still_land(self, live):
        with HarnessSync.connect(**live.connection()) as harness:
            harness.chain().guard("crm.read")(lambda: 1)()
        records = live.broker.read("harness.intents", HOME, 0, 9)
        assert [json.loads(r.value)["type"] for r in records] == ["intent", "outcome"]

    def test_a_publish_that_fails_is_unreachable_in_the_callers_hands(self, live):
        connection = live.connection()
        connection["wiring"].writer._fate = lambda _record: Fate(lands=False, reports="failed")
        with HarnessSync.connect(**connection) as harness, pytest.raises(Unreachable, match="nothing was run"):
            harness.chain().decide("crm.read")


class TestErrorsOfAnotherProcess:
    """A pool's worker asks, and whoever waits for it learns why nothing ran."""

    def test_an_error_crosses_without_its_verdict(self, live):
        with HarnessSync.connect(**live.connection()) as harness, pytest.raises(Denied) as caught:
            harness.chain().decide("email.send")
        found = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own bytes
        assert type(found) is Denied
        assert (str(found), found.reasons, found.intent_id) == (str(caught.value), caught.value.reasons, caught.value.intent_id)
        assert caught.value.verdict is not None
        assert found.verdict is None

    @pytest.mark.parametrize("error", [Misused("again", how="again", hint="h"), InvalidInput("x", mistakes=("y",)), Revoked("z")])
    def test_so_does_each_kind(self, error):
        found = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
        assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


class TestImports:
    def test_importing_the_api_loads_no_broker_store_rule_or_terminal_library(self):
        program = (
            "import sys, harness_stream\n"
            "from harness_stream import Harness, HarnessSync, Denied, Held, TimedOut, Unreachable\n"
            "heavy = ('confluent_kafka', 'redis', 'cel_expr_python', 'typer', 'rich', 'yaml')\n"
            "print([m for m in heavy if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_importing_the_package_loads_nothing_of_it(self):
        program = "import sys, harness_stream; print([m for m in sys.modules if m.startswith('harness_stream.')])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_every_public_name_is_there_and_no_other(self):
        assert all(getattr(harness_stream, name) for name in harness_stream.__all__)
        assert set(harness_stream.__all__) <= set(dir(harness_stream))
        with pytest.raises(AttributeError, match="`Harnes`"):
            _ = harness_stream.Harnes
