"""A guarded function runs only what was approved, once, in time, and says how it ended (V2, V4, V7)."""

import asyncio
import json
import threading
import time
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_worker import Live

from harness_stream import Denied, Harness, HarnessSync, TimedOut
from harness_stream.client.binding import Binding, Places
from harness_stream.core.canonical import arguments_digest
from harness_stream.errors import CallerError, InvalidInput, Misused


@pytest.fixture
def live():
    with Live() as live:
        yield live


@pytest.fixture
def chain(live):
    with HarnessSync.connect(**live.connection()) as harness:
        yield harness.chain()


def statuses(live, count=1):
    """What was reported so far, once `count` outcomes are in."""
    patience = time.monotonic() + 5
    while len(live.worker.of("outcome")) < count and time.monotonic() < patience:
        time.sleep(0.005)
    return [event["status"] for event in live.worker.of("outcome")]


ENFORCED = {"enforcer": "gate-1"}


def with_policy(policy, use, **words):
    with Live(policy) as live, HarnessSync.connect(**live.connection(), **words) as harness:
        return use(live, harness.chain())


class TestWhatIsJudged:
    def test_the_intent_names_action_arguments_roles_resources_and_measures(self, live, chain):
        @chain.guard(
            "email.send",
            roles={"to": "destination"},
            resources="email://external/{to}",
            measures=lambda a: {"bytes": len(a["body"])},
            labels=["outgoing"],
            purpose="answer",
        )
        def send(to, body, urgent=False):
            return (to, body, urgent)

        assert send("bob@example.com", body="hi") == ("bob@example.com", "hi", False)
        [intent] = live.worker.of("intent")
        assert intent["action"] == "email.send"
        assert intent["resources"] == ["email://external/bob@example.com"]
        assert intent["measures"] == {"bytes": 2}
        assert [(a["name"], a.get("role")) for a in intent["arguments"]][:2] == [("to", "destination"), ("body", None)]
        assert intent["arguments_digest"] == arguments_digest({"to": "bob@example.com", "body": "hi", "urgent": False})
        assert "bob" not in json.dumps(intent["arguments"])

    def test_measures_may_be_the_same_in_each_call(self, live, chain):
        chain.guard("email.send", measures={"bytes": 2, "cost": 0.5})(lambda: None)()
        assert live.worker.of("intent")[0]["measures"] == {"bytes": 2, "cost": "0.5"}

    @pytest.mark.parametrize(
        ("measures", "what"),
        [({"bytes": len}, "`bytes` in `measures` of `email.send` is builtin_function"), (10, "`measures` of .* is int")],
    )
    def test_measures_that_give_no_number_in_any_call_are_refused_when_decorating(self, chain, measures, what):
        with pytest.raises(CallerError, match=what) as caught:
            chain.guard("email.send", measures=measures)(lambda: None)
        assert "measures=lambda given" in caught.value.hint

    def test_self_is_no_argument(self, live, chain):
        class Mailer:
            sent = ()

            @chain.guard("email.send")
            def send(self, to):
                self.sent += (to,)

        mailer = Mailer()
        mailer.send("a")
        assert mailer.sent == ("a",)
        assert live.worker.of("intent")[0]["arguments_digest"] == arguments_digest({"to": "a"})

    def test_a_list_gives_one_resource_each_and_nothing_breaks_out_of_its_place(self):
        places = Places(["email://external/{to}", "log://{n}"], ["to", "n"])
        found = places.of({"to": ["a@x", "../internal/b c?"], "n": 7})
        assert found == ["email://external/a@x", "email://external/..%2Finternal%2Fb%20c%3F", "log://7"]

    def test_an_argument_may_itself_be_the_resource(self):
        assert Places("{url}", ["url"]).of({"url": "https://x.org/a?b=c"}) == ["https://x.org/a?b=c"]

    @pytest.mark.parametrize("nothing", [None, "", [], [None], {"a": 1}, [["a"]]])
    def test_an_argument_that_gives_no_resource_is_refused(self, nothing):
        with pytest.raises(InvalidInput, match="no resource to judge"):
            Places("email://external/{to}", ["to"]).of({"to": nothing})

    def test_resources_may_be_made_by_a_function(self, live, chain):
        chain.guard("crm.read", resources=lambda a: f"crm://orders/{a['order']}")(lambda order: order)(7)
        assert live.worker.of("intent")[0]["resources"] == ["crm://orders/7"]

    @pytest.mark.parametrize("wrong", [{"roles": {"x": "object"}}, {"resources": "a://{x}"}, {"encode": {"x": str}}])
    def test_a_name_that_is_no_parameter_is_a_mistake_when_decorating(self, chain, wrong):
        with pytest.raises(CallerError, match="`x`"):
            chain.guard("crm.read", **wrong)(lambda to: to)

    def test_a_generator_cannot_be_guarded(self, chain):
        def rows():
            yield 1

        async def more():
            yield 1

        for generator in (rows, more):
            with pytest.raises(CallerError, match="generator"):
                chain.guard("crm.read")(generator)

    def test_what_is_not_json_is_a_type_error_before_anything_is_published(self, live, chain):
        guarded = chain.guard("crm.read")(lambda day: day)
        with pytest.raises(TypeError, match=r"argument `day` is a date.*`encode=`"):
            guarded(date(2026, 1, 1))
        with pytest.raises(TypeError):
            guarded()
        assert live.worker.seen == []

    def test_an_encoder_says_what_is_judged_and_the_function_gets_the_value_itself(self, live, chain):
        guarded = chain.guard("crm.read", encode={"day": date.isoformat})(lambda day: day)
        assert guarded(date(2026, 1, 1)) == date(2026, 1, 1)
        assert live.worker.of("intent")[0]["arguments_digest"] == arguments_digest({"day": "2026-01-01"})


class TestWhatRuns:
    def test_an_argument_changed_between_approval_and_run_changes_nothing(self):
        shared = {"to": ["friend"]}

        def approve_and_change(_intent):
            shared["to"].append("attacker")
            return "approve", {}

        def use(_live, chain):
            return chain.guard("email.send")(lambda to: to)(shared["to"])

        assert with_policy(approve_and_change, use) == ["friend"]

    @pytest.mark.parametrize("how", ["measures", "resources"])
    def test_what_looks_at_a_call_cannot_change_what_runs(self, live, chain, how):
        ran = []

        def look(given):
            given["to"].append("eve")
            given["body"]["text"] = "changed"
            return {"recipients": len(given["to"])} if how == "measures" else "email://external"

        chain.guard("email.send", **{how: look})(lambda to, body: ran.append((to, body)))(["bob"], {"text": "hi"})
        assert ran == [(["bob"], {"text": "hi"})]
        assert live.worker.of("intent")[0]["arguments_digest"] == arguments_digest({"to": ["bob"], "body": {"text": "hi"}})

    def test_an_encoded_argument_changed_after_approval_changes_nothing(self):
        class Box:
            content = ("friend",)

        box = Box()

        def approve_and_change(_intent):
            box.content = ("attacker",)
            return "approve", {}

        def use(_live, chain):
            return chain.guard("email.send", encode={"box": lambda b: list(b.content)})(lambda box: box.content)(box)

        box.content = ("friend",)
        assert with_policy(approve_and_change, use) == ("friend",)

    def test_an_encoded_argument_that_cannot_be_copied_apart_and_changed_does_not_run(self):
        class Shared:
            content = "friend"

            def __deepcopy__(self, memo):
                return self

        shared = Shared()

        def approve_and_change(_intent):
            shared.content = "attacker"
            return "approve", {}

        def use(live, chain):
            guarded = chain.guard("email.send", encode={"box": lambda b: b.content})(lambda box: box.content)
            with pytest.raises(Misused, match="has changed since it was approved"):
                guarded(shared)
            statuses(live, 2)
            asked = live.worker.of("intent")[0]["intent_id"]
            return [(event["status"], event["intent_id"] == asked) for event in live.worker.of("outcome")]

        # Its own intent never started, and one that nobody asked for is a bypass.
        assert with_policy(approve_and_change, use, **ENFORCED) == [("abandoned", True), ("abandoned", False)]

    def test_a_denied_function_does_not_run(self):
        ran = []

        def use(live, chain):
            with pytest.raises(Denied):
                chain.guard("email.send")(lambda to: ran.append([to]))("x")
            return live.worker.of("outcome")

        assert with_policy(lambda _intent: ("deny", {}), use) == []
        assert ran == []

    def test_an_approval_that_has_run_out_does_not_run_and_is_reported_as_abandoned(self):
        ran = []

        def use(live, chain):
            with pytest.raises(TimedOut, match="run out"):
                chain.guard("email.send")(lambda to: ran.append([to]))("x")
            return statuses(live, 2)

        told_and_bypass = ["abandoned", "abandoned"]
        assert with_policy(lambda _intent: ("approve", {"valid_for_ms": 0}), use, **ENFORCED) == told_and_bypass
        assert ran == []

    def test_every_call_needs_its_own_approval(self, live, chain):
        guarded = chain.guard("crm.read")(lambda: 1)
        assert [guarded(), guarded(), guarded()] == [1, 1, 1]
        assert len({i["intent_id"] for i in live.worker.of("intent")}) == 3

    def test_an_obligation_is_fulfilled_right_before_the_run(self):
        order = []

        def use(_live, chain):
            chain.guard("email.send", obligations={"mask": order.append})(lambda: order.append("run"))()

        with_policy(lambda _intent: ("approve", {"obligations": {"mask": "iban"}}), use)
        assert order == ["iban", "run"]

    def test_an_obligation_that_fails_stops_the_run(self):
        def fail(_value):
            raise OSError("cannot mask")

        def use(live, chain):
            with pytest.raises(OSError, match="cannot mask"):
                chain.guard("email.send", obligations={"mask": fail})(lambda: pytest.fail("it ran"))()
            return statuses(live)

        assert with_policy(lambda _intent: ("approve", {"obligations": {"mask": 1}}), use, **ENFORCED) == ["abandoned"]

    def test_positional_and_keyword_rests_arrive_as_they_were(self, chain):
        def call(first, *rest, key=1, **more):
            return first, rest, key, more

        assert chain.guard("crm.read")(call)(1, 2, 3, key=4, extra=[5]) == (1, (2, 3), 4, {"extra": [5]})


class TestWhatWouldRunLater:
    """Whatever runs after the guarded call has ended was approved for another time, and no kill reaches it (V4)."""

    @pytest.fixture
    def ran(self):
        return []

    def late(self, ran, kind):
        async def send(to):
            ran.append(to)

        async def stream(to):
            ran.append(to)
            yield to

        def rows(to):
            ran.append(to)
            yield to

        return {"coroutine": send, "async_generator": stream, "generator": rows}[kind]

    @pytest.mark.parametrize("kind", ["coroutine", "async_generator", "generator"])
    def test_what_a_wrapper_gives_back_to_be_run_is_refused(self, live, chain, ran, kind):
        inner = self.late(ran, kind)

        def wrapper(to):
            return inner(to)

        with pytest.raises(CallerError, match=f"gave a {kind}") as refused:
            chain.guard("email.send")(wrapper)("bob")
        assert "guard the coroutine function itself" in refused.value.hint
        assert statuses(live) == ["failed"]
        assert ran == []

    @pytest.mark.parametrize("kind", ["coroutine", "async_generator", "generator"])
    def test_a_coroutine_function_may_not_give_it_back_either(self, live, ran, kind):
        inner = self.late(ran, kind)

        async def main():
            async with Harness.connect(**live.connection()) as harness:

                @(await harness.chain()).guard("email.send")
                async def send(to):
                    return inner(to)

                await send("bob")

        with pytest.raises(CallerError, match=f"gave a {kind}"):
            asyncio.run(main())
        assert (statuses(live), ran) == (["failed"], [])

    def test_a_task_that_was_begun_beside_it_is_ended(self, live, ran):
        async def main():
            async with Harness.connect(**live.connection()) as harness:

                async def beside():
                    await asyncio.sleep(0.05)
                    ran.append("late")

                @(await harness.chain()).guard("email.send")
                async def send():
                    return asyncio.ensure_future(beside())

                with pytest.raises(CallerError, match="gave a Task"):
                    await send()
                await asyncio.sleep(0.1)

        asyncio.run(main())
        assert ran == []

    def test_an_object_that_is_called_like_a_coroutine_function_is_guarded_as_one(self, live, ran):
        class Sender:
            async def __call__(self, to):
                await asyncio.sleep(0.05)
                ran.append((to, live.worker.of("outcome")))
                return f"sent to {to}"

        async def main():
            async with Harness.connect(**live.connection()) as harness:
                return await (await harness.chain()).guard("email.send")(Sender())("bob")

        assert asyncio.run(main()) == "sent to bob"
        assert (statuses(live), ran) == (["done"], [("bob", [])])


class TestOutcomes:
    def test_done(self, live, chain):
        chain.guard("crm.read")(lambda: 1)()
        assert statuses(live) == ["done"]

    def test_failed_when_the_function_raises_and_its_error_goes_on(self, live, chain):
        def broken():
            raise LookupError("no such order")

        with pytest.raises(LookupError, match="no such order"):
            chain.guard("crm.read")(broken)()
        assert statuses(live) == ["failed"]

    def test_unknown_when_it_is_interrupted(self, live, chain):
        def interrupted():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            chain.guard("crm.read")(interrupted)()
        assert statuses(live) == ["unknown"]

    def test_unknown_when_its_task_is_cancelled(self, live):
        async def main():
            async with Harness.connect(**live.connection()) as harness:
                started = asyncio.Event()

                @(await harness.chain()).guard("crm.read")
                async def slow():
                    started.set()
                    await asyncio.sleep(60)

                task = asyncio.create_task(slow())
                await started.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(main())
        assert statuses(live) == ["unknown"]

    def test_abandoned_when_its_task_is_cancelled_while_it_waits(self):
        asked, cancelled = threading.Event(), threading.Event()

        def late(_intent):
            asked.set()
            assert cancelled.wait(5)
            return "approve", {}

        async def main(live):
            async with Harness.connect(**live.connection(), **ENFORCED) as harness:

                @(await harness.chain()).guard("crm.read")
                async def never():
                    pytest.fail("it ran")

                waiting = asyncio.create_task(never())
                await asyncio.to_thread(asked.wait, 5)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                cancelled.set()
                return await asyncio.to_thread(statuses, live)

        with Live(late) as live:
            assert asyncio.run(main(live)) == ["abandoned"]

    def test_abandoned_is_said_by_the_enforcer_and_without_one_by_nobody(self):
        def run_out(intent):
            return "approve", {"valid_for_ms": 0} if intent["action"] == "email.send" else {}

        def use(live, chain):
            with pytest.raises(TimedOut, match="run out"):
                chain.guard("email.send")(lambda: pytest.fail("it ran"))()
            chain.guard("crm.read")(lambda: 1)()
            statuses(live, 2)  # the last one's, and that the approval was misused
            asked = {intent["intent_id"] for intent in live.worker.of("intent")}
            told = [event for event in live.worker.of("outcome") if event["intent_id"] in asked]
            return [(event["by"], event["status"]) for event in told]

        assert with_policy(run_out, use) == [("support-1", "done")]
        assert with_policy(run_out, use, **ENFORCED)[:1] == [("gate-1", "abandoned")]

    def test_an_agent_that_would_say_so_of_itself_is_told_what_to_do(self, live, chain):
        approved = chain.decide("crm.read")
        with pytest.raises(CallerError, match="nothing was published") as caught:
            approved.report("abandoned")
        assert "`enforcer`" in caught.value.hint
        approved.start()
        approved.report("done")
        assert statuses(live) == ["done"]


ARGUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(ARGUMENTS, st.dictionaries(st.from_regex("[a-z]{1,3}x", fullmatch=True), ARGUMENTS, max_size=3))
def test_what_runs_has_the_digest_that_was_judged(first, more):
    def function(a, b=2, **rest):
        return {"a": a, "b": b, "rest": rest}

    call = Binding(function, None).call((first,), more)
    args, kwargs = call.run_with()
    assert arguments_digest(function(*args, **kwargs)) == call.digest
    assert arguments_digest({"a": first, "b": 2, "rest": more}) == call.digest
