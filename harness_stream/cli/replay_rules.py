"""Who decides in `harness replay`: one rule set, compared with another, with what was really decided, or with nothing.

Rule of this file: it reads rule files and knows no event.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from harness_stream.cli.rules_check import EXIT_MISTAKES, overrides, read_rules, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.config import Settings
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.window.spec import Spec

THE_LOG: Final = "log"
"""As the value of `--compare`: what was really decided."""

_OF_ONE_AGENT: Final = frozenset({"agent_id", "chain_id"})


@dataclass(frozen=True, slots=True)
class Rules:
    """Who decides: `after`, compared with `before`, with the real log, or with nothing."""

    after: Windows
    before: Windows | None = None
    against_log: bool = False

    @property
    def compared(self) -> bool:
        """With anything."""
        return self.against_log or self.before is not None

    @property
    def reach_ms(self) -> int:
        """The longest window."""
        return max((spec.timespan_ms for spec in self._specs()), default=0)

    @property
    def shared(self) -> bool:
        """Some window counts over the agents of a lane."""
        return any(_OF_ONE_AGENT.isdisjoint(spec.group_by) for spec in self._specs())

    def _specs(self) -> list[Spec]:
        return [*self.after.specs, *(self.before.specs if self.before else ())]


def rules_asked(file: Path, sets: Sequence[str], compare: str | None, settings: Settings) -> Rules:
    """What `--rules`, `--set` and `--compare` name.

    Raises:
        ConfigError: a file cannot be read, or a setting is none.
        Exit: a rule set has mistakes, which were shown.
    """
    after = _windows(file, sets, settings)
    if compare is None or compare == THE_LOG:
        return Rules(after, against_log=compare == THE_LOG)
    return Rules(after, _windows(Path(compare), (), settings))


def _windows(file: Path, sets: Sequence[str], settings: Settings) -> Windows:
    from harness_stream.core.rules import inspect  # noqa: PLC0415  CEL is slow to load, `--help` is not
    from harness_stream.core.rules.windows import Windows  # noqa: PLC0415  same

    limit_ms = settings.max_timespan_ms
    program, mistakes = inspect(read_rules(file), str(file), overrides(sets), timespan_ms_max=limit_ms)
    for mistake in mistakes:
        typer.echo(show(mistake), err=True)
    if program is None:
        raise typer.Exit(EXIT_MISTAKES)
    return Windows(program)
