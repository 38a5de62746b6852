"""How many of our functions one verdict calls: a guard against slow growth that no clock is asked for.

    python benchmarks/calls.py              prints the calls per verdict, by module, beside the committed figure
    python benchmarks/calls.py --update     commits what it counts now, after a change that is worth its price

The trace is fixed: the benchmarks' workload over a worker on the memory log and a virtual clock. Counted are calls of
functions of `core` and `wire`, which are on the way of each intent. Not counted are comprehensions and lambdas, since
Python versions differ in what they call, and `core/units.py`, which writes behind whenever there is time.
`tests/unit/test_calls.py` fails if the figure leaves its tolerance, downwards as well: then it is to be updated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from in_process import broker_with, covered, fill, turn_until, worker

import harness_stream
from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.state import MemoryStateStore

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

FIGURE: Final = Path(__file__).with_suffix(".json")
PACKAGE: Final = str(Path(harness_stream.__file__).parent)
COUNTED_IN: Final = tuple(f"{PACKAGE}/{name}/" for name in ("core", "wire"))
BEHIND: Final = f"{PACKAGE}/core/units.py"
AGENTS: Final = 20
# Windows hold some events by then, and what is compiled and remembered once is.
WARM_UP: Final = 200
COUNTED: Final = 400
# A call more in a hundred is somebody's decision; half of it is how often a batch is cut.
TOLERANCE: Final = 0.02


def main(words: Sequence[str] | None = None) -> None:
    """Count, and print or update."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="write the figure that the test compares with")
    asked = parser.parse_args(words)
    counted = count()
    before = json.loads(FIGURE.read_text("utf-8")) if FIGURE.exists() else {"per_verdict": None, "by_module": {}}
    for module, calls in counted["by_module"].items():
        print(f"{calls:8.1f}  {module:<40} was {before['by_module'].get(module, 0)}")
    print(f"{counted['per_verdict']:8.1f}  calls per verdict; the committed figure is {before['per_verdict']}")
    if asked.update:
        FIGURE.write_text(json.dumps(counted, indent=1) + "\n", "utf-8")


def count() -> dict[str, Any]:
    """Calls per verdict: `per_verdict`, and `by_module`, the dearest first."""
    clock = ManualClock(time.time_ns() // 1_000_000)  # the intents have ids of now
    broker = broker_with(clock, AGENTS)
    made = worker(broker, clock, MemoryStateStore())
    turn_until(made, clock, lambda: made.readiness().ready)
    fill(broker, AGENTS, WARM_UP)
    turn_until(made, clock, lambda: covered(made) >= WARM_UP)
    fill(broker, AGENTS, COUNTED)
    calls = Counter[str]()

    def called(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        ours = code.co_filename.startswith(COUNTED_IN) and code.co_filename != BEHIND
        if event == "call" and ours and not code.co_name.startswith("<"):
            calls[code.co_filename[len(PACKAGE) + 1 :]] += 1

    sys.setprofile(called)
    try:
        turn_until(made, clock, lambda: covered(made) >= WARM_UP + COUNTED)
    finally:
        sys.setprofile(None)
    by_module = {module: round(number / COUNTED, 1) for module, number in calls.most_common()}
    return {"per_verdict": round(calls.total() / COUNTED, 1), "by_module": by_module}


if __name__ == "__main__":
    main()
