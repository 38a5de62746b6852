"""The example with real input is started by its path or as a module."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("form", [["-m", "examples.agentdojo.run"], [str(ROOT / "examples" / "agentdojo" / "run.py")]])
def test_both_forms_of_the_command_find_the_files_beside_it(form):
    done = subprocess.run(
        [sys.executable, *form, "--help"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--attacks" in done.stdout
