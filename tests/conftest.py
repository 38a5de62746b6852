"""Fixtures for every lane of the suite. A test that wants a real Kafka and Redis asks for `real_stack`."""

import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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
        return scope_of(nodeid)


def scope_of(nodeid: str) -> str:
    """What is run by one process: by its name, one of what shares servers; a file; or one test."""
    if nodeid.startswith("tests/mutants/"):
        return SHARED_SERVERS if "on_real_servers" in nodeid else "mutants"
    if nodeid.startswith(OWN_SERVERS):
        return "own servers"
    if nodeid.startswith(SECOND_SERVERS):
        return "second servers"
    if nodeid.startswith(("tests/real/", "tests/contract/")) and not nodeid.startswith(WITHOUT_SERVERS):
        return SHARED_SERVERS
    file = nodeid.partition("::")[0]
    return file if _shares_a_fixture(file) else nodeid


@cache
def _shares_a_fixture(file: str) -> bool:
    """Made anew by each process that has one of its tests; those that are shared cost up to a minute."""
    return 'scope="module"' in (ROOT / file).read_text()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes the longest come first, so that none ends alone with one of them."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> int:
    scope = scope_of(nodeid)
    if scope in FIRST:
        return FIRST.index(scope)
    return len(FIRST) + (0 if nodeid.startswith(LONGEST) else 1 if scope != nodeid else 2)


ROOT = Path(__file__).parents[1]
SHARED_SERVERS = "shared servers"
FIRST = ("own servers", SHARED_SERVERS, "second servers", "mutants")
# Benchmarks that only compute.
WITHOUT_SERVERS = "tests/real/test_benchmark_smoke.py::test_the_"
LONGEST = (
    "tests/unit/core/test_engine_equals_oracle.py",
    "tests/unit/rules/test_compiled_equals_each.py::test_judging_together_equals_judging_each",
    "tests/simulation/test_overload.py",
    "tests/unit/test_quality.py::test_types_are_strict",
    "tests/unit/core/test_state.py::TestLayered",
    "tests/unit/rules/test_rule_pack.py::test_together_every_part_still_keeps_its_promises",
    "tests/simulation/test_resume.py::test_wherever_the_sample_begins_what_counts_is_not_called_void",
    WITHOUT_SERVERS,
)
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
    config.option.loadscopereorder = False  # by the number of tests; ours come in order
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
