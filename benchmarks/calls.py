"""What one verdict costs without a clock: a guard against slow growth that gives the same figure on any machine.

    python benchmarks/calls.py              prints the cost per verdict, by module, beside the committed figure
    python benchmarks/calls.py --update     commits what it counts now, after a change that is worth its price
    python benchmarks/calls.py --update --also python3.12 python3.13     same, with those as well

The trace is fixed: a worker on the memory log and a virtual clock, signed, with the 100 rules of which 30 have windows
that the goals speak of; intents without arguments, mandate or delegation, all approved. Four things are counted:

    instructions    bytecode that Python ran, of our functions and of every library's
    calls           of Python functions, same
    calls into C    of functions and methods; a type that is called (`list(x)`) is none
    bytes           that were allocated between two calls or returns, as far as they were held at once

So a loop shows in the first, what calls or copies in all, and what C does alone by what it calls or holds meanwhile
(`sorted`). What C does with what is there already shows in none: a long `x in list`, a slow pattern, more to hash.
Not counted are the memory log, which stands for a broker, and this folder.

`calls.json` has a figure for each version of Python that it was made with, since each compiles differently. `--also`
names others that have what the harness needs; figures that are not made anew stay. `tests/unit/test_calls.py` fails if
a figure leaves its tolerance, downwards as well: then it is to be updated, so that the next one who makes a verdict
dearer is told. By a version of Python without a figure it only tells what is far off, and says so.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from figures import table
from in_process import Signed, broker_with, covered, decisions, fill, turn_until, worker
from workload import many_rules

import harness_stream
from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.state import MemoryStateStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

FIGURE: Final = Path(__file__).with_suffix(".json")
VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGE: Final = str(Path(harness_stream.__file__).parent)
NOT_COUNTED: Final = (f"{PACKAGE}/adapters/memory/", f"{Path(__file__).parent}/")
INSTRUCTIONS, CALLS, INTO_C, BYTES = KINDS = ("instructions", "calls", "calls into C", "bytes")
# Runs of the same code differ by 0.03 % (bytes 0.2 %): ids are random, so windows and tables move at other moments.
# What is left lets somebody add a line without an update, not a loop and not ten calls: 0.5 % are some 60 instructions,
# 1 % some five calls. Bytes also follow Python's third number and the libraries' versions.
TOLERANCE: Final[Mapping[str, float]] = {INSTRUCTIONS: 0.005, CALLS: 0.01, INTO_C: 0.01, BYTES: 0.05}
# Versions of Python differ by less; a mistake that repeats work for each rule or event is more.
LOOSE: Final[Mapping[str, float]] = dict.fromkeys(KINDS, 0.5)
RULES: Final = 100
AGENTS: Final = 20
# Windows hold some events by then, what is compiled and remembered once is, and each unit of ids is in the store.
WARM_UP: Final = 2_000
COUNTED: Final = 200  # in each of two passes; even over the partitions
MODULES_TOLD: Final = 5
UPDATE: Final = "`python benchmarks/calls.py --update`"

# --- counting ---


class Trace:
    """A worker that has judged `WARM_UP` intents; the same in every run but for keys and the random part of ids."""

    def __init__(self) -> None:
        self._clock, self._mix, self._keys = ManualClock(), many_rules(RULES), Signed.of(AGENTS)
        self._broker = broker_with(self._clock, AGENTS, self._mix, self._keys)
        self._worker = worker(self._broker, self._clock, MemoryStateStore(), keys=self._keys)
        turn_until(self._worker, self._clock, lambda: self._worker.readiness().ready)
        self._filled = 0
        self.fill(WARM_UP)
        self.judge()

    def fill(self, count: int) -> None:
        """Append so many intents."""
        fill(self._broker, AGENTS, count, mix=self._mix, keys=self._keys, clock=self._clock)
        self._filled += count

    def judge(self) -> None:
        """Let the worker answer all of them."""
        turn_until(self._worker, self._clock, lambda: covered(self._worker) >= self._filled)

    def said(self) -> Counter[str]:
        """How they were decided."""
        return decisions(self._broker)


def count(trace: Trace | None = None) -> dict[str, Any]:
    """Of one verdict: `per_verdict`, and `by_module` the dearest first, each by kind.

    Raises:
        SystemExit: not every intent of the trace was approved, so that it is another trace.
    """
    trace, found = trace or Trace(), {kind: Counter[str]() for kind in KINDS}
    gc.disable()  # it would run at other moments than in a worker
    try:
        trace.fill(COUNTED)
        count_instructions(trace.judge, found[INSTRUCTIONS])
        trace.fill(COUNTED)
        count_calls_and_bytes(trace.judge, found)
    finally:
        gc.enable()
    if set(trace.said()) != {"approve"}:
        raise SystemExit(f"the fixed trace is to be approved, and was decided so: {dict(trace.said())}")
    return _told({kind: _by_module(files) for kind, files in found.items()})


def _counts(file: str) -> bool:
    return not file.startswith(NOT_COUNTED)


def count_instructions(work: Callable[[], None], found: Counter[str]) -> None:
    """Bytecode instructions by file."""

    def each(frame: FrameType, event: str, _: object) -> Any:  # noqa: ANN401  itself, which has no type
        if event == "opcode":
            found[frame.f_code.co_filename] += 1
        return each

    def entered(frame: FrameType, _event: str, _: object) -> Any:  # noqa: ANN401  same
        if not _counts(frame.f_code.co_filename):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return each

    here = sys._getframe()  # noqa: SLF001  3.12 sends instructions only if a frame asked for them before
    here.f_trace_opcodes = True
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.settrace(None)
        here.f_trace_opcodes = False


def count_calls_and_bytes(work: Callable[[], None], found: Mapping[str, Counter[str]]) -> None:
    """Calls by the file that is called, those into C by the calling one, and what was allocated since the last look."""
    before, kinds = 0, {"call": found[CALLS], "c_call": found[INTO_C]}

    def looked(frame: FrameType, event: str, _: object) -> None:
        nonlocal before
        peak = tracemalloc.get_traced_memory()[1]
        file = frame.f_code.co_filename
        if _counts(file):
            if event in kinds:
                kinds[event][file] += 1
            found[BYTES][file] += max(0, peak - before)
        before = tracemalloc.get_traced_memory()[0]  # what is noted here is nobody's
        tracemalloc.reset_peak()

    tracemalloc.start()
    sys.setprofile(looked)
    try:
        work()
    finally:
        sys.setprofile(None)
        tracemalloc.stop()


def _by_module(files: Mapping[str, int]) -> Counter[str]:
    modules = Counter[str]()
    for file, number in files.items():
        modules[_module(file)] += number
    return modules


def _module(file: str) -> str:
    """Of ours by its path within the package, of a library by its last two names."""
    return file[len(PACKAGE) + 1 :] if file.startswith(f"{PACKAGE}/") else "/".join(Path(file).parts[-2:])


def _told(found: Mapping[str, Counter[str]]) -> dict[str, Any]:
    modules = sorted(set().union(*found.values()), key=lambda module: (-found[INSTRUCTIONS][module], module))
    each = {module: {kind: round(found[kind][module] / COUNTED, 1) for kind in KINDS} for module in modules}
    return {
        "per_verdict": {kind: round(found[kind].total() / COUNTED, 1) for kind in KINDS},
        "by_module": {module: kinds for module, kinds in each.items() if any(kinds.values())},
    }


# --- comparing ---


class Compared(NamedTuple):
    """What was counted beside a committed figure.

    Attributes:
        left: a sentence for each kind that left its tolerance; none if all is as agreed.
        note: what to know of the comparison itself; empty if nothing.
    """

    left: list[str]
    note: str


def compared(counted: Mapping[str, Any], committed: Mapping[str, Any], version: str = VERSION) -> Compared:
    """Beside the figure of this version of Python, else loosely beside that of the nearest one."""
    if not committed:
        return Compared([f"there is no committed figure: {UPDATE} makes one"], "")
    nearest = min(committed, key=lambda other: abs(_minor(other) - _minor(version)))
    figure, tolerance, note = committed[nearest], TOLERANCE, ""
    if nearest != version:
        tolerance = LOOSE
        note = (
            f"NOT compared exactly: Python {version} has no committed figure. Beside that of {nearest}, only what is "
            f"{LOOSE[INSTRUCTIONS]:.0%} off is told; {UPDATE} with {version} makes one"
        )
    left = [_left(kind, counted, figure, tolerance[kind]) for kind in KINDS]
    return Compared([sentence for sentence in left if sentence], note)


def _minor(version: str) -> int:
    return int(version.partition(".")[2])


def _left(kind: str, counted: Mapping[str, Any], figure: Mapping[str, Any], tolerance: float) -> str:
    now, agreed = counted["per_verdict"][kind], figure["per_verdict"][kind]
    change = now / agreed - 1
    if abs(change) <= tolerance:
        return ""
    said = f"{kind} of a verdict: {now:,}, and {agreed:,} are agreed on ({change:+.1%}, tolerance {tolerance:.1%})."
    moved = f" Moved most: {_moved(kind, counted['by_module'], figure['by_module'], change)}"
    if change > 0:
        return f"DEARER: {said} If that is worth its price: {UPDATE}, and say why in the commit.{moved}"
    return f"Cheaper: {said} Well done; {UPDATE} keeps it so.{moved}"


def _moved(kind: str, now: Mapping[str, Any], agreed: Mapping[str, Any], change: float) -> str:
    """The modules that went furthest in the direction of the whole."""
    grown = {m: now.get(m, {}).get(kind, 0) - agreed.get(m, {}).get(kind, 0) for m in now.keys() | agreed.keys()}
    most = sorted(grown, key=lambda module: (-grown[module] if change > 0 else grown[module], module))
    return ", ".join(f"{module} {grown[module]:+,.1f}" for module in most[:MODULES_TOLD])


# --- the command ---


def committed() -> dict[str, Any]:
    """Version of Python → its figure; nothing if there is none yet."""
    found: dict[str, Any] = json.loads(FIGURE.read_text("utf-8")) if FIGURE.exists() else {}
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Count, and print or update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the figure that the test compares with")
    parser.add_argument("--also", nargs="+", default=[], metavar="PYTHON", help="do the same with these")
    asked = parser.parse_args(words)
    counted, before = count(), committed()
    print("\n".join(text(counted, before)))
    if asked.update:
        FIGURE.write_text(written({**before, VERSION: counted}), "utf-8")
    for python in asked.also:
        subprocess.run([python, __file__, *["--update"][: asked.update]], check=True)


def written(figures: Mapping[str, Any]) -> str:
    """As JSON, a line a module: a diff shows what moved."""
    each = []
    for version in sorted(figures, key=_minor):
        modules = [f"   {json.dumps(m)}: {json.dumps(kinds)}" for m, kinds in figures[version]["by_module"].items()]
        sums = f'  "per_verdict": {json.dumps(figures[version]["per_verdict"])}'
        each.append("\n".join([f' "{version}": {{', f"{sums},", '  "by_module": {', ",\n".join(modules), "  }", " }"]))
    return "\n".join(["{", ",\n".join(each), "}", ""])


def text(counted: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """A line a module, the sum, the committed figure, and what is to be said of them."""
    rows = [[module, *(f"{kinds[kind]:,.1f}" for kind in KINDS)] for module, kinds in counted["by_module"].items()]
    rows.append(["a verdict", *(f"{counted['per_verdict'][kind]:,.1f}" for kind in KINDS)])
    for version, figure in before.items():
        rows.append([f"committed for {version}", *(f"{figure['per_verdict'][kind]:,.1f}" for kind in KINDS)])
    found = compared(counted, before)
    return [*table([f"Python {VERSION}", *KINDS], rows), *filter(None, [found.note]), *found.left]


if __name__ == "__main__":
    main()
