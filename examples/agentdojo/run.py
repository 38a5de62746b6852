"""Replay a benchmark's tool calls as intents through a running harness, and print what was approved and what was not.

    python examples/agentdojo/run.py --bootstrap 127.0.0.1:9092 --attacks    (or `python -m examples.agentdojo.run …`)

Needs the `agentdojo` package, and a worker that decides by the tables and rules beside this file: see README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))  # `python -m` does not look for the files beside this one

from actions import Tools
from extract import SUITES, Suite
from replay import Player
from report import line_of, summary, summary_text

from harness_stream.client.blocking import HarnessSync
from harness_stream.config import load_settings
from harness_stream.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from replay import Played

    from harness_stream.config import Settings

HERE = Path(__file__).parent
LANE = "household"
WORKLOAD = "wl-assistant"


def main(words: Sequence[str] | None = None) -> None:
    """Replay what the command line asks for."""
    asked = _arguments().parse_args(words)
    settings = load_settings(bootstrap=asked.bootstrap, prefix=asked.prefix)
    chains, found = list[dict[str, object]](), []
    for name in (asked.suite,) if asked.suite else SUITES:
        played = []
        for chain in _replay(settings, name, asked.tasks, attacks=asked.attacks):
            played.append(chain)
            chains.append(asdict(chain))
            if not asked.json:
                print(line_of(chain), flush=True)
        found.append(summary(name, played))
    if asked.json:
        print(json.dumps({"chains": chains, "summary": found}))
    else:
        print("", *map(summary_text, found), sep="\n")


def _replay(settings: Settings, name: str, only: Sequence[str], *, attacks: bool) -> Iterator[Played]:
    """Honest work first, then, if asked, attacks."""
    suite, tools = Suite(name), Tools(HERE / "tables")
    for kind in (False, True) if attacks else (False,):
        harness = HarnessSync.connect(
            agent=f"{name}-attacked" if kind else f"{name}-agent",
            lane=LANE,
            workload=WORKLOAD,
            realm=settings.realm,
            bootstrap=settings.bootstrap,
            prefix=settings.prefix,
            dev=True,
        )
        with harness:
            yield from map(Player(harness, suite, tools).play, suite.scripts(attacks=kind, only=only))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bootstrap", help="Kafka bootstrap servers; default as every `harness` command")
    parser.add_argument("--prefix", help="first part of topic names; default as every `harness` command")
    parser.add_argument("--suite", choices=SUITES, help="only this one")
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=[], help="only these, comma-separated")
    parser.add_argument("--attacks", action="store_true", help="also every task with every attack")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


if __name__ == "__main__":
    try:
        main()
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
