"""A verdict calls no more of our functions than the committed figure says (`benchmarks/calls.py`)."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MEASURE = "import calls, json; print(json.dumps([calls.count(), calls.TOLERANCE]))"


def test_a_verdict_costs_what_was_agreed_on():
    figure = json.loads((BENCHMARKS / "calls.json").read_text("utf-8"))
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    counted, tolerance = json.loads(done.stdout)
    dearer = {m: (figure["by_module"].get(m, 0), n) for m, n in counted["by_module"].items() if n > figure["by_module"].get(m, 0)}
    apart = abs(counted["per_verdict"] / figure["per_verdict"] - 1)
    assert apart <= tolerance, (
        f"{counted['per_verdict']} calls per verdict, and {figure['per_verdict']} are agreed on. If that is worth its price: "
        f"`python benchmarks/calls.py --update`, and say why in the commit. Dearer than before: {dearer}"
    )
