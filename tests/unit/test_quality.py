"""What a machine can see of the rules we keep: types, lint with reasons, imports that point inward, lengths."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = Path(sys.executable)


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_types_are_strict():
    run(str(PYTHON), "-m", "mypy")


def test_lint():
    run(str(PYTHON), "-m", "ruff", "check", ".")


def test_imports_point_inward():
    run(str(PYTHON.with_name("lint-imports")))


def sources():
    return sorted([*(ROOT / "harness_stream").rglob("*.py"), *(ROOT / "topologies").rglob("*.py")])


def test_every_exception_has_a_reason():
    bare = [f"{p}: {line}" for p in sources() for line in p.read_text().splitlines() if re.search(r"# noqa(: [A-Z0-9, ]+)?$", line)]
    assert not bare


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_and_functions_stay_short(path):
    """Modules ≤ 500 lines of code, functions ≤ 70 (DESIGN §7)."""
    text = path.read_text()
    tree = ast.parse(text)
    code = {n for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("#")}
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            code -= set(range(body[0].lineno, (body[0].end_lineno or 0) + 1))
    assert len(code) <= 500
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert len(code & set(range(node.lineno, (node.end_lineno or 0) + 1))) <= 70, node.name


# They begin before they know that a broker is there, and learning would wait for it.
READ_WITHOUT_ASKING_FIRST = {"chain.py", "intents.py", "replay.py"}


def test_a_command_names_the_topics_that_it_reads_since_each_it_does_not_is_met_a_second_later():
    commands = [path for path in sources() if path.parent.name == "cli"]
    unnamed = {p.name for p in commands if re.search(r"KafkaReader\([\w.]+\)", p.read_text())}
    assert unnamed == READ_WITHOUT_ASKING_FIRST
