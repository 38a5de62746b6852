"""Fixtures for every lane of the suite. A test that wants a real Kafka and Redis asks for `real_stack`."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from real_servers import RealStack, open_real_stack
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Machines are shared and noisy: how long one example took says nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    # A CI that ends the run sends SIGTERM; as an interrupt it tears the fixtures down, so no broker is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class Lanes(LoadScopeScheduling):
    """With several processes (`-n`) each fixture that costs much is made by one of them.

    Three of four have servers and wait for them most of the time; the fourth has a core for what only computes.

    What shares one real broker are two scopes, what starts servers of its own a third; all else goes wherever there is
    room. (`--dist loadgroup` would do by marks, but its groups are lost on pytest 9's node ids.)
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/mutants/"):
            return SHARED_SERVERS if "on_real_servers" in nodeid else "mutants"
        if nodeid.startswith(OWN_SERVERS):
            return "own servers"
        if nodeid.startswith(SECOND_SERVERS):
            return "second servers"
        return SHARED_SERVERS if nodeid.startswith(("tests/real/", "tests/contract/")) else nodeid


SHARED_SERVERS = "shared servers"
# About half of what shares one: a second process has a broker and a Redis of its own for them.
SECOND_SERVERS = tuple(
    f"tests/real/test_{name}"
    for name in ("holds", "log_verify", "replay_from_log", "risk_", "partitions", "tables_cli", "demo_kafka", "agentdojo")
)
OWN_SERVERS = tuple(
    f"tests/real/test_{name}.py"
    for name in ("three_brokers", "faults", "broker_restart", "local_stack", "standstill", "signed_realm", "transport")
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    return Lanes(config, log)


SAID_AS_IT_IS = ("faults on real servers", "mutants")
"""Names of properties that tests record for the end of the output."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have to say beside that they passed: which faults there were, which mutant each one killed."""
    reports = [r for reports in terminalreporter.stats.values() for r in reports if getattr(r, "when", None) == "call"]
    told: dict[str, list[str]] = {}
    for name, value in (each for report in reports for each in getattr(report, "user_properties", ())):
        told.setdefault(name, []).append(value)
    for name in SAID_AS_IT_IS:
        if name in told:
            terminalreporter.section(name)
            terminalreporter.write_line("\n".join(told[name]))
    if "simulation" in told:
        from tests.simulation.tally import Tally

        failed = [report for report in terminalreporter.stats.get("failed", ()) if "seeds" in report.keywords]
        tally, *others = map(Tally.from_json, told["simulation"])
        for other in others:
            tally.add(other)
        terminalreporter.section("simulation")
        for line in tally.lines(len(failed)):
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def real_stack() -> Iterator[RealStack]:
    """One real broker and Redis for the whole session; tests share them and use topics and keys of their own."""
    with open_real_stack() as stack:
        yield stack
