"""Both clients on real servers: thirty lines of plain Kafka, and ours beside them on the same tables and rules."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from own_realm import OwnRealm

from harness_stream import Denied, Harness, HarnessSync

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def realm(real_stack, tmp_path_factory):
    tables = {p.stem: yaml.safe_load(p.read_text()) for p in (ROOT / "examples" / "tables").glob("*.yaml")}
    rules = (ROOT / "examples" / "rules" / "production.yaml").read_text()
    folder = tmp_path_factory.mktemp("clients")
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, folder, rules=rules, tables=tables).prepare()
    with realm.worker():
        yield realm
    realm.check()


@pytest.fixture
def connection(realm):
    settings = realm.settings
    words = {"realm": settings.realm, "bootstrap": settings.bootstrap, "prefix": settings.prefix, "dev": True}
    return {**words, "agent": "support-1", "lane": "acme", "workload": "wl-support"}


def test_thirty_lines_of_plain_kafka_get_a_verdict(realm):
    program = str(ROOT / "examples" / "raw_producer_consumer.py")
    command = [sys.executable, program, realm.settings.bootstrap, realm.settings.prefix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  our own program
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["kind"], verdict["decision"], verdict["agent_id"]) == ("verdict", "approve", "support-1")


def test_a_guarded_function_runs_what_is_approved_and_not_what_the_chain_forbids(connection):
    with HarnessSync.connect(**connection) as harness:
        chain = harness.chain()

        @chain.guard("crm.read", resources="crm://products/{product}")
        def look_up(product):
            return {"product": product}

        @chain.guard("crm.read", resources="crm://orders/{order}")
        def read_order(order):
            return {"order": order}

        @chain.guard("email.send", roles={"to": "destination"}, resources="email://external/{to}")
        def send(to):
            pytest.fail(f"mailed {to}")

        assert look_up("p-1") == {"product": "p-1"}
        assert read_order("o-1") == {"order": "o-1"}
        with pytest.raises(Denied) as caught:
            send("bob@example.com")
    assert caught.value.reasons[0].rule == "no-egress-after-pii"
    assert caught.value.verdict.evidence


def test_two_hundred_intents_at_once_on_one_loop(connection):
    async def main():
        async with Harness.connect(**{**connection, "agent": "analyst-1", "workload": "wl-analyst"}) as harness:
            chain = await harness.chain()
            asked = (chain.decide("reports.read", arguments={"n": n}) for n in range(200))
            return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(main())
    kinds = {type(answer).__name__ for answer in answers}
    assert kinds == {"Verdict", "Denied"}, answers
    assert {a.reasons[0].rule for a in answers if isinstance(a, Denied)} == {"runaway-loop"}
    assert sum(type(answer).__name__ == "Verdict" for answer in answers) == 30
