"""Puts rule files of the pack together into one rule set, comments and all.

    python examples/rules/combine.py least-privilege.yaml spending.yaml > mine.yaml

A rule set is one file, and rules combine by themselves: deny wins over hold, hold over approve, order never matters. So
parameters, selections and rules of all files just stand below each other. What several files say alike is written once;
what they say differently under one name is a mistake, and nothing is written.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECTIONS = {"params": "\n", "selections": "\n", "rules": "\n\n"}
"""What is put together, and what stands between two entries."""

_SECTION = re.compile(r"^(params|selections|rules):\n((?:  .*\n|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"  (?:- id: )?([\w.-]+)")
_HEAD = """\
# yaml-language-server: $schema=../../schemas/rules.schema.json
#
# Made by combine.py. Change its parts and make it again:
#
#   python combine.py {names}

rule_set: production
default: deny
"""


class ClashError(Exception):
    """Two files say different things under one name."""


@dataclass
class Entry:
    """A parameter, selection or rule: its name, the comment above it, its lines."""

    name: str
    comment: list[str]
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """As it stood in its file."""
        return "\n".join([*self.comment, *self.lines])


def main(words: Sequence[str] | None = None) -> None:
    """Write the files that the command line names to standard output, as one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="rule files of this pack, or written like them"
    )
    try:
        sys.stdout.write(combined(parser.parse_args(words).files))
    except (ClashError, OSError) as error:
        sys.exit(f"error: {error}")


def combined(files: Sequence[Path]) -> str:
    """One rule set of all files.

    Raises:
        ClashError: a name means different things in two of them.
        OSError: one cannot be read.
    """
    found: dict[str, dict[str, Entry]] = {section: {} for section in SECTIONS}
    for file in files:
        for section, entry in entries_of(file.read_text("utf-8")):
            known = found[section].setdefault(entry.name, entry)
            if known.lines != entry.lines:
                raise ClashError(f"{file}: `{entry.name}` says something else in a file before; rename one of them")
    text = _HEAD.format(names=" ".join(file.name for file in files))
    for section, entries in found.items():
        if entries:
            text += f"\n{section}:\n" + SECTIONS[section].join(entry.text for entry in entries.values()) + "\n"
    return text


def entries_of(text: str) -> Iterable[tuple[str, Entry]]:
    """Every entry of a file with its section."""
    for section, body in _SECTION.findall(text):
        comment = list[str]()
        entries = list[Entry]()
        for line in body.splitlines():
            if begins := _ENTRY.match(line):
                entries.append(Entry(begins[1], comment, [line]))
                comment = []
            elif line.startswith("  #"):
                comment.append(line)
            elif line:
                entries[-1].lines.append(line)
        yield from ((section, entry) for entry in entries)


if __name__ == "__main__":
    main()
