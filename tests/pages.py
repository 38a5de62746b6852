"""Reads our pages as their tests do: fenced blocks, command lines, headings, tables."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

import typer

from harness_stream.cli import main as cli

if TYPE_CHECKING:
    from collections.abc import Iterator


class Block(NamedTuple):
    """A fenced block of a page: what stands behind its fence, its text, its line."""

    kind: str
    text: str
    line: int

    @property
    def name(self) -> str:
        return f"{self.kind.replace(' ', '-')}-{self.line}"


def blocks(page: str) -> Iterator[Block]:
    """Every fenced block; one inside of a list item is indented."""
    fence = re.compile(r"^( *)```(\w[^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    for found in fence.finditer(page):
        text = re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)
        yield Block(found[2], text, page.count("\n", 0, found.start()) + 1)


def command_lines(text: str) -> Iterator[list[str]]:
    """Every `harness …` of a shell block or a comment, without what follows it."""
    joined = text.replace("\\\n", " ")
    for line in re.findall(r"^(?:#   |\s*)(harness [^\n|&]*)", joined, re.MULTILINE):
        yield shlex.split(line, comments=True)


def understood(line: str) -> dict[str, object]:
    """What the command makes of a `harness …` line; raises typer's usage error if it would refuse it."""
    command, rest, context = typer.main.get_command(cli.app), shlex.split(line)[1:], None
    while hasattr(command, "resolve_command"):
        context = command.make_context(command.name, rest, parent=context)
        if not context._protected_args and not context.args:  # a family that does something itself
            return context.params
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    return command.make_context(command.name, rest, parent=context).params


def chapter(page: str, title: str) -> str:
    """What stands under a heading, sub-chapters included."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |^#{{1,2}} |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no chapter `{title}`"
    return found[2]


def headings(text: str, depth: int) -> list[str]:
    return re.findall(rf"^#{{{depth}}} (.+)$", text, re.MULTILINE)


def anchors(page: str) -> set[str]:
    """Where links into a page may lead, as code hosts name headings."""
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def column(text: str, number: int = 0) -> list[str]:
    """Names in backticks of one column of the tables in a text, row by row."""
    rows = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|"))
    return [name for row in rows if len(row) > number for name in re.findall(r"`([^`]+)`", row[number])]
