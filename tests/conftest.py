"""Fixtures for every lane of the suite. A test that wants a real Kafka and Redis asks for `real_stack`."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from real_servers import RealStack, open_real_stack
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# Machines are shared and noisy: how long one example took says nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    # A CI that ends the run sends SIGTERM; as an interrupt it tears the fixtures down, so no broker is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class OneRealLane(LoadScopeScheduling):
    """With several processes (`-n`), one runs all that needs real servers: there is one broker, and a core left for it.

    (`--dist loadgroup` would do by marks, but its groups are lost on pytest 9's node ids.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return "real" if nodeid.startswith(REAL_LANE) else nodeid


REAL_LANE = ("tests/real/", "tests/contract/", "tests/mutants/")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneRealLane:
    return OneRealLane(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the simulation's runs went through, so that a reader sees that the faults happen."""
    reports = [r for reports in terminalreporter.stats.values() for r in reports if getattr(r, "when", None) == "call"]
    told = [value for r in reports for name, value in getattr(r, "user_properties", ()) if name == "simulation"]
    if told:
        from tests.simulation.tally import Tally

        tally = Tally()
        for text in told:
            tally.add(Tally.from_json(text))
        terminalreporter.section("simulation")
        for line in tally.lines():
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def real_stack() -> Iterator[RealStack]:
    """One real broker and Redis for the whole session; tests share them and use topics and keys of their own."""
    with open_real_stack() as stack:
        yield stack
