"""The benchmark of signing runs to its end and says what it promises to say; times are the machine's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "benchmarks/signing.py"


def test_signed_is_shown_beside_unsigned_for_each_size(tmp_path):
    out = tmp_path / "out.json"
    words = [sys.executable, str(SCRIPT), "--rounds", "1", "--sizes", "1", "3", "--json", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text())
    for size in (1, 3):
        ratio = told[f"signed {size}"]["median"] / told[f"unsigned {size}"]["median"]
        assert told[f"ratio {size}"]["median"] == ratio
        assert f"ratio {size}" in done.stdout
    assert told["input judged"]["least"] > 0
