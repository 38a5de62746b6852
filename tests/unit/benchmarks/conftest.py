"""Scripts import each other by their bare names, as they do when `python benchmarks` runs them."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """Imports one of them; nobody else sees those names afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield import_module
    own = {path.stem for path in BENCHMARKS.glob("*.py")}
    for name in own & (set(sys.modules) - before):
        del sys.modules[name]
