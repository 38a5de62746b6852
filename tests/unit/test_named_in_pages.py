"""The pages whose examples no other test runs: a reader finds every file and every command they name."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from pages import command_lines, understood

ROOT = Path(__file__).parents[2]
ROOMS = ("harness_stream", "topologies", "tests", "benchmarks", "examples", "docs", "deploy", "schemas")
PAGES = ("README.md", "harness_stream/ARCHITECTURE.md", "docs/raw-client.md", "docs/benchmarks.md", "examples/agentdojo/README.md")
TEXTS = {page: (ROOT / page).read_text("utf-8") for page in PAGES}
FILE = r"\w[\w./-]*\.(?:py|lua|yaml|jsonl)\b|\w[\w-]*/[\w./-]*\.md\b"
LINES = sorted({shlex.join(line) for text in TEXTS.values() for line in command_lines(text)})


@pytest.fixture(scope="module")
def files():
    """Every file of the repository that a page may name, from its root on."""
    return {f"/{path.relative_to(ROOT).as_posix()}" for room in ROOMS for path in (ROOT / room).rglob("*.*")}


@pytest.mark.parametrize("page", PAGES)
def test_a_file_that_is_named_is_there(page, files):
    named = set(re.findall(FILE, TEXTS[page]))
    assert named
    assert [name for name in sorted(named) if not any(file.endswith(f"/{name}") for file in files)] == []


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_that_is_shown_is_understood(line):
    understood(line)


@pytest.mark.parametrize("line", sorted({line for text in TEXTS.values() for line in re.findall(r"`(harness [a-z][^`]*)`", text)}))
def test_a_command_that_is_mentioned_exists(line):
    with pytest.raises(typer.Exit):
        understood(f"{line} --help")  # a mention leaves out what the command requires
