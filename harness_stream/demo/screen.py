"""What the audience sees: lines and live chains on a terminal, plain lines elsewhere, or JSON.

Rule of this file: it draws what it is given and knows nothing of logs; each answer is one line, each surprising one is
followed by why, in plain words.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness_stream.demo.story import SAID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness_stream.demo.agents import Agent, Step
    from harness_stream.demo.story import Judged
    from harness_stream.demo.verify import Check

# Wider lines are hard to follow with the eye; narrower terminals get shortened resources.
WIDTH_MAX: Final = 120
WIDTH_PLAIN: Final = 110
FRAMES_A_SECOND: Final = 12
_MARK: Final = {"approve": ("✓", "green"), "deny": ("✗", "red"), "hold": ("⏸", "yellow")}


class Screen(Protocol):
    """What the demo tells its audience."""

    def opening(self, cast: Sequence[Agent]) -> None:
        """Before anything."""

    def fact(self, text: str) -> None:
        """What is being made ready: where, by which rules."""

    def curtain(self) -> None:
        """Everything is ready."""

    def asked(self, agent: Agent, step: Step) -> None:
        """An agent wants to act."""

    def judged(self, judged: Judged) -> None:
        """It was answered."""

    def stop(self) -> None:
        """No more answers; also after an interrupt."""

    def closing(self, chains: Mapping[str, Sequence[Judged]], checks: Sequence[Check], seconds: float) -> None:
        """Every chain as the log has it, and what was checked."""

    def next_steps(self, steps: Sequence[tuple[str, str]]) -> None:
        """Command → what it shows."""


class Terminal:
    """For people.

    Args:
        console: where to; default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        found = console or Console(highlight=False)
        width = min(found.width, WIDTH_MAX) if found.is_terminal else WIDTH_PLAIN
        found.width = width
        self._console = found
        self._cast: Sequence[Agent] = ()
        self._chains: defaultdict[str, list[Judged]] = defaultdict(list)
        self._waiting: dict[str, str] = {}
        self._live: Live | None = None

    def opening(self, cast: Sequence[Agent]) -> None:
        """Introduce the product and the cast."""
        self._cast = cast
        out = self._console.print
        out(Text("AI Harness judges every action an agent wants to take, before it runs, against what it already did."))
        out(Text(f"{len(cast)} agents act now, each only as its role allows. Watch what is not approved, and why.\n"))
        who = Table.grid(padding=(0, 2))
        for agent in cast:
            who.add_row(Text(agent.name, "bold"), Text(agent.does))
        out(Padding(who, (0, 0, 0, 2), expand=False))
        out()

    def fact(self, text: str) -> None:
        """One dim line."""
        self._console.print(Text(text, "dim"))

    def curtain(self) -> None:
        """Head of the lines, and the live chains below them."""
        self._console.print()
        self._console.print(self._row(("agent", "intent", "verdict", "rule", "latency"), "dim"))
        if self._console.is_terminal:
            self._live = Live(self._footer(), console=self._console, refresh_per_second=FRAMES_A_SECOND, transient=True)
            self._live.start()

    def asked(self, agent: Agent, step: Step) -> None:
        """Show below the lines what waits."""
        self._waiting[agent.name] = step.tool
        self._refresh()

    def judged(self, judged: Judged) -> None:
        """One line, and why if it may surprise."""
        self._waiting.pop(judged.agent_id, None)
        self._chains[judged.agent_id].append(judged)
        style = _MARK[judged.decision][1]
        intent = f"{judged.action} {judged.resource.partition('://')[2]}"
        verdict = Text(f"{_MARK[judged.decision][0]} {judged.decision}", style)
        self._console.print(self._row((judged.agent_id, intent, verdict, judged.rule, f"{judged.latency_ms:.1f} ms")))
        if judged.explanation and not self._explained(judged):
            self._console.print(Padding(Text(f"↳ {judged.explanation}", style), (0, 2, 0, 4), expand=False))
        self._refresh()

    def stop(self) -> None:
        """End the live part."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def closing(self, chains: Mapping[str, Sequence[Judged]], checks: Sequence[Check], seconds: float) -> None:
        """Chains, checks, and what it was about."""
        self.stop()
        out = self._console.print
        out()
        out(Text("What each agent did, folded from the decision log", "bold"))
        grid = Table.grid(padding=(0, 2))
        for agent_id, chain in chains.items():
            grid.add_row(Text(agent_id), _chain_text(chain))
        out(Padding(grid, (0, 0, 0, 2), expand=False))
        out()
        out(Text("Checked, by reading both logs again from the first record", "bold"))
        for check in checks:
            mark, style = _MARK["approve" if check.ok else "deny"]
            out(Padding(Text(f"{mark} {check.text}", style), (0, 0, 0, 2), expand=False))
        out()
        out(Text(_in_short(chains, seconds)))

    def next_steps(self, steps: Sequence[tuple[str, str]]) -> None:
        """Commands to go on with."""
        self._console.print(Text("\nNext", "bold"))
        for command, shows in steps:
            self._console.print(Text(f"  {command}", "cyan"), soft_wrap=True)  # never cut: it is there to be copied
            self._console.print(Padding(Text(shows, "dim"), (0, 0, 0, 6), expand=False))

    def _explained(self, judged: Judged) -> bool:
        """Was the same rule's denial of this agent explained just before?"""
        before = self._chains[judged.agent_id][:-1]
        return bool(before) and (before[-1].rule, before[-1].decision) == (judged.rule, judged.decision)

    def _row(self, cells: Sequence[str | Text], style: str = "") -> Table:
        row = Table.grid(expand=True, padding=(0, 1))
        names = max((len(member.name) for member in self._cast), default=16)
        row.add_column(width=names, no_wrap=True)
        row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        row.add_column(width=9, no_wrap=True)
        row.add_column(width=19, no_wrap=True, overflow="ellipsis")
        row.add_column(width=9, no_wrap=True, justify="right")
        row.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)
        return row

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.update(self._footer())

    def _footer(self) -> Group:
        grid = Table.grid(padding=(0, 2))
        for agent in self._cast:
            line = Text()
            for judged in self._chains[agent.name]:
                line.append(_MARK[judged.decision][0] + " ", _MARK[judged.decision][1])
            waits = self._waiting.get(agent.name)
            if waits is not None:
                line.append(f"… {waits}?", "dim")
            elif len(self._chains[agent.name]) == len(agent.steps):
                line.append("done", "dim")
            grid.add_row(Text(agent.name, "dim"), line)
        return Group(Text(), Padding(grid, (0, 0, 0, 2), expand=False))


class JsonLines:
    """For machines: one object a verdict, then one summary."""

    def opening(self, cast: Sequence[Agent]) -> None:
        """Nothing: introductions are for people."""

    def fact(self, text: str) -> None:
        """Nothing, as above."""

    def curtain(self) -> None:
        """Nothing, as above."""

    def asked(self, agent: Agent, step: Step) -> None:
        """Nothing: an answer follows."""

    def judged(self, judged: Judged) -> None:
        """One object."""
        _print_json({"type": "verdict", **asdict(judged), "latency_ms": round(judged.latency_ms, 3)})

    def stop(self) -> None:
        """Nothing is drawn."""

    def closing(self, chains: Mapping[str, Sequence[Judged]], checks: Sequence[Check], seconds: float) -> None:
        """The summary."""
        _print_json(
            {
                "type": "summary",
                "ok": all(check.ok for check in checks),
                "checks": [asdict(check) for check in checks],
                "chains": {
                    agent_id: [{"action": j.action, "decision": j.decision, "rule": j.rule} for j in chain]
                    for agent_id, chain in chains.items()
                },
                "seconds": round(seconds, 3),
            }
        )

    def next_steps(self, steps: Sequence[tuple[str, str]]) -> None:
        """Nothing: the last line is the summary."""


def _print_json(value: Mapping[str, Any]) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201  standard output is what `--json` is for


def _chain_text(chain: Sequence[Judged]) -> Text:
    """`✓ crm.read  ✗ email.send (no-egress-after-pii)`; equal neighbours are counted."""
    text = Text()
    for (action, decision, rule), same in groupby(chain, key=lambda j: (j.action, j.decision, j.rule)):
        count = len(list(same))
        times = f" {count} times" if count > 1 else ""
        why = "" if decision == "approve" else f" ({rule})"
        text.append(f"{_MARK[decision][0]} {action}{times}{why}   ", _MARK[decision][1])
    return text


def _in_short(chains: Mapping[str, Sequence[Judged]], seconds: float) -> str:
    every = [judged for chain in chains.values() for judged in chain]
    counts = ", ".join(f"{sum(j.decision == d for j in every)} {said}" for d, said in SAID.items())
    latencies = sorted(j.latency_ms for j in every)
    median = f"{latencies[len(latencies) // 2]:.1f} ms" if latencies else "no time"
    return (
        f"In short: {len(every)} intents in {seconds:.1f} s, {counts}; half were answered within {median}. "
        "No single action was forbidden: what was stopped was stopped for what the agent had done before, or for what "
        "became known about it."
    )
