"""A verdict costs no more than the committed figure says (`benchmarks/calls.py`), and that guard sees what costs."""

import copy
import json
import subprocess
import sys
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from harness_stream.adapters.memory.broker import MemoryBroker

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# In a process of its own: what else this one has loaded and warmed is not in the figure.
MEASURE = "import calls, json; print(json.dumps(calls.compared(calls.count(), calls.committed())))"


def test_a_verdict_costs_what_was_agreed_on():
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left, note = json.loads(done.stdout)
    if note:
        warnings.warn(note, stacklevel=1)
    assert not left, "\n".join(left)


@pytest.fixture(scope="module")
def calls():
    """The script; it imports its neighbours by their bare names."""
    before, path = set(sys.modules), sys.path[:]
    sys.path.insert(0, str(BENCHMARKS))
    yield import_module("calls")
    sys.path[:] = path
    for name in {path.stem for path in BENCHMARKS.glob("*.py")} & (set(sys.modules) - before):
        del sys.modules[name]


# --- it sees a worker become slower ---


@pytest.fixture(scope="module")
def small(calls):
    """Counts over a short trace of its own each time; with the figure of the worker as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "WARM_UP", 40)
        patch.setattr(calls, "COUNTED", 40)
        yield calls.count, {calls.VERSION: typical(calls.count)}


def typical(count):
    """The middle one of three: ids are random, and 40 verdicts differ by 0.3 % by themselves."""
    return sorted((count() for _ in range(3)), key=lambda figures: figures["per_verdict"]["instructions"])[1]


def nothing():
    pass


def loops():
    for _ in range(100):
        pass


def sorts():
    sorted(range(20_000), key=str)


def copies():
    copy.deepcopy({"intent": {"resources": ["crm://customers/1"], "measures": {"rows": 10}}})


def calls_ten_times():
    nothing(), nothing(), nothing(), nothing(), nothing(), nothing(), nothing(), nothing(), nothing(), nothing()


@pytest.mark.parametrize("slowdown", [loops, sorts, copies, calls_ten_times])
def test_a_slowdown_in_every_join_is_told(calls, small, monkeypatch, slowdown):
    from harness_stream.core import intake

    count, before = small
    join = intake.join

    def slower(*words, **named):
        slowdown()
        return join(*words, **named)

    monkeypatch.setattr(intake, "join", slower)
    left, note = calls.compared(count(), before)
    assert [told[:7] for told in left] == ["DEARER:"] * len(left) != []
    assert note == ""
    assert any("unit/test_calls.py +" in told for told in left)


def test_the_same_worker_again_costs_the_same(calls, small):
    count, before = small
    assert calls.compared(typical(count), before) == ([], "")


# --- what it counts ---


def counted(calls, work):
    found = {kind: Counter() for kind in calls.KINDS}
    calls.count_instructions(work, found["instructions"])
    calls.count_calls_and_bytes(work, found)
    return tuple(files[__file__] for files in found.values())


def test_a_longer_loop_is_more_instructions(calls):
    short, long = (counted(calls, lambda n=n: [None for _ in range(n)])[0] for n in (10, 110))
    assert long - short >= 300


def test_a_call_into_c_is_one_and_what_it_holds_is_bytes(calls):
    values = list(range(10_000))
    _, called, into_c, allocated = counted(calls, lambda: sorted(values))
    assert (called, into_c) == (1, 1)  # the lambda, and sorted
    assert allocated >= 8 * len(values)


def test_what_stands_for_a_broker_is_not_counted(calls):
    found = Counter()
    broker = MemoryBroker({"intents": 1}, lambda: 0)
    calls.count_instructions(lambda: broker.append("intents", 0, b"", b""), found)
    assert not [file for file in found if "adapters/memory" in file]


# --- what it says ---


def figure(instructions, into_c=100.0, allocated=1_000.0, **modules):
    def kinds(number):
        return {"instructions": number, "calls": 100.0, "calls into C": into_c, "bytes": allocated}

    return {"per_verdict": kinds(instructions), "by_module": {name: kinds(n) for name, n in modules.items()}}


def test_what_stays_within_its_tolerance_is_as_agreed(calls):
    committed = {"3.11": figure(1_000.0)}
    assert calls.compared(figure(1_004.0, 100.9, 1_049.0), committed, "3.11") == ([], "")


def test_dearer_says_where_and_how_to_agree_on_it(calls):
    (told,), _ = calls.compared(figure(1_100.0, join=900.0, fold=200.0), {"3.11": figure(1_000.0, join=790.0, fold=210.0)}, "3.11")
    assert told.startswith("DEARER: instructions of a verdict: 1,100.0, and 1,000.0 are agreed on (+10.0%")
    assert "calls.py --update" in told
    assert told.endswith("Moved most: join +110.0, fold -10.0")


def test_cheaper_is_praised_and_to_be_kept(calls):
    (told,), _ = calls.compared(figure(900.0, join=600.0, fold=300.0), {"3.11": figure(1_000.0, join=700.0, fold=300.0)}, "3.11")
    assert told.startswith("Cheaper: ")
    assert "worth its price" not in told
    assert "Moved most: join -100.0" in told


def test_another_version_of_python_is_compared_loosely_and_says_so(calls):
    committed = {"3.11": figure(1_000.0), "3.13": figure(800.0)}
    left, note = calls.compared(figure(900.0), committed, "3.14")
    assert left == []
    assert "3.14 has no committed figure" in note
    assert "Beside that of 3.13" in note
    assert calls.compared(figure(1_300.0), committed, "3.14").left[0].startswith("DEARER")


def test_without_any_figure_it_says_how_to_make_one(calls):
    (told,), _ = calls.compared(figure(1.0), {})
    assert "--update" in told


def test_an_update_keeps_the_figures_of_other_versions(calls, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(calls, "FIGURE", tmp_path / "calls.json")
    calls.FIGURE.write_text(json.dumps({"3.9": figure(7.0)}))
    monkeypatch.setattr(calls, "count", lambda: figure(10.0))
    calls.main(["--update"])
    assert calls.committed() == {"3.9": figure(7.0), calls.VERSION: figure(10.0)}
