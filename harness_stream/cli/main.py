"""The `harness` command: a table of names, each loaded when it is called.

Rule of this file: it imports no command. So `harness --help` is fast, and a command whose optional packages are missing
disturbs no other. One file a command; a command is a function that typer understands, or a typer app.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from harness_stream.__main__ import EXIT_INTERRUPTED
from harness_stream.cli.failures import json_wanted, print_json, show, told
from harness_stream.errors import CallerError, HarnessError

DISTRIBUTION: Final = "harness-stream"
USAGE_ERROR: Final[Any] = typer.BadParameter.__base__
"""What every mistake in a command line derives from; typer's own name for it is private, and depends on its version."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one command lives.

    Attributes:
        target: `module:attribute` inside `harness_stream.cli`; a function or a typer app.
        help: its line in `harness --help`.
    """

    target: str
    help: str


@dataclass(frozen=True, slots=True)
class Family:
    """Commands that share their first word.

    Attributes:
        help: the family's line in `harness --help`.
        entries: second word → command.
    """

    help: str
    entries: dict[str, Entry]


COMMANDS: dict[str, Entry | Family] = {
    "up": Entry("stack:up", "Start Kafka and Redis on this machine, without containers."),
    "down": Entry("stack:down", "Stop them."),
    "status": Entry("stack:status", "Show what runs, and whether it answers."),
    "demo": Entry("demo:demo", "Watch agents being judged, alone and in one process."),
    "topics": Family("The realm's topics.", {"apply": Entry("topics:apply", "Create or verify the topics.")}),
    "keys": Family(
        "The realm's keys.",
        {
            "init": Entry("keys:init", "Make them: root, PDP, a first worker's with its certificate."),
            "certify": Entry("keys:certify", "Certify a worker's key or a rule-pusher's, also anew."),
            "rotate": Entry("keys:rotate", "Put a new key in the place of one."),
        },
    ),
    "agents": Family(
        "Who may ask.",
        {
            "enroll": Entry("agents:enroll", "Make an agent's keys, its credentials file and its row."),
            "suspend": Entry("agents_status:suspend", "Stop an agent until it is resumed."),
            "kill": Entry("agents_status:kill", "Stop an agent for good."),
            "resume": Entry("agents_status:resume", "Let a suspended agent go on."),
        },
    ),
    "tables": Family(
        "The facts: identity, infrastructure, risk, classification.",
        {
            "load": Entry("tables:load", "Load rows from a folder of YAML, JSON lines or CSV."),
            "get": Entry("tables:get", "Show the rows in force."),
        },
    ),
    "rules": Family(
        "Rule sets.",
        {
            "check": Entry("rules_check:check", "Find every mistake in rule sets."),
            "test": Entry("rules_test:run_cases", "Run the cases beside a rule set, and say why one fails."),
            "schema": Entry("rules_schema:schema", "Print the JSON Schema that editors complete rule files by."),
            "push": Entry("rules:push", "Publish a rule set and put it in force."),
            "status": Entry("rules:status", "Show which rule set each partition decides by."),
        },
    ),
    "worker": Entry("worker:worker", "Decide."),
    "partitions": Entry("partitions:app", "Show where each partition stands; let a halted one go on."),
    "replay": Entry("replay:replay", "Decide events again: of a file, or of the real log."),
    "mandates": Family(
        "What users asked for.", {"sign": Entry("mandates:sign", "Sign one, for the agent's process to publish.")}
    ),
    "intents": Family(
        "What agents want to do.", {"send": Entry("intents:send", "Publish one intent and show its verdict.")}
    ),
    "holds": Family(
        "What waits for a person.",
        {
            "list": Entry("holds:listed", "List the intents that wait for an answer."),
            "show": Entry("holds:show", "Show one with facts, evidence and where its values come from."),
            "approve": Entry("holds:approve", "Answer yes; it is decided again on what the chain is now."),
            "deny": Entry("holds:deny", "Answer no."),
        },
    ),
    "token": Family(
        "What executors elsewhere are shown.",
        {"verify": Entry("token:verify", "Say what a token allows, or why it is refused.")},
    ),
    "verdicts": Family("What was decided.", {"tail": Entry("verdicts:tail", "Follow the decision log.")}),
    "log": Family(
        "The decision log as a whole.",
        {
            "verify": Entry("log_verify:verify", "Audit it: which record is wrong, and how."),
            "export": Entry("log_export:export", "Print its records as JSON lines."),
            "witness": Entry("log_witness:witness", "Keep its checkpoints elsewhere, so that no cut goes unnoticed."),
        },
    ),
    "chain": Family("What agents did.", {"show": Entry("chain:show", "Show one agent's chain.")}),
}


class LazyGroup(TyperGroup):
    """A group that knows its commands' names and help lines, and loads a command only to run it."""

    table: dict[str, Entry | Family] = COMMANDS

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002, ANN401  the base class's signature; typer's own type is private
        """Names in the table's order."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002, ANN401  as above
        """A stand-in with name and help line: enough for listing."""
        entry = self.table.get(cmd_name)
        if isinstance(entry, Family):
            return _family_command(cmd_name, entry)
        return None if entry is None else _command(cmd_name, _nothing, entry.help)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  as above
        """Run what was asked for; a command line nobody understands is told as JSON too, before typer tells it."""
        try:
            return super().invoke(ctx)
        except USAGE_ERROR as error:
            if ctx.parent is None and json_wanted():
                print_json(told(CallerError(error.format_message(), hint=f"`{_words(error.ctx, ctx)} --help`")))
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401  as above
        """The real command, to be run."""
        self.commands = {name: self.get_command(ctx, name) for name in self.table}  # read to suggest a near name
        name, command, rest = super().resolve_command(ctx, args)
        entry = self.table.get(name or "")
        if isinstance(entry, Entry) and name is not None:
            command = _command(name, _load(f"{ctx.command_path} {name}", entry), None)
        return name, command, rest


def _words(found: Any, ctx: Any) -> str:  # noqa: ANN401  as above
    """The command that was asked for, as far as it was understood."""
    return str((found or ctx).command_path)


def _nothing() -> None:
    """Stands for a command that was not loaded."""


def _command(name: str, target: Any, line: str | None) -> Any:  # noqa: ANN401  typer's own command type is private
    if isinstance(target, typer.Typer):
        command = typer.main.get_command(target)
    else:
        holder = typer.Typer(add_completion=False)
        holder.command(name, help=line)(target)
        command = typer.main.get_command(holder)
    command.name = name
    return command


def _family_command(name: str, family: Family) -> Any:  # noqa: ANN401  as above
    group = type("FamilyGroup", (LazyGroup,), {"table": family.entries})
    holder = typer.Typer(cls=group, name=name, help=family.help, no_args_is_help=True, add_completion=False)
    holder.callback()(_nothing_of(family.help))
    command = typer.main.get_command(holder)
    command.name = name
    return command


def _nothing_of(line: str) -> Any:  # noqa: ANN401  a function whose docstring typer shows
    def family() -> None: ...

    family.__doc__ = line
    return family


def _load(path: str, entry: Entry) -> Any:  # noqa: ANN401  a function or a typer app
    module, _, attribute = entry.target.partition(":")
    wanted = f"{__package__}.{module}"
    try:
        return getattr(importlib.import_module(wanted), attribute)
    except ModuleNotFoundError as error:
        if error.name == wanted:
            raise CallerError(
                f"`{path}` is not part of this version", hint="`harness --help` lists the commands"
            ) from error
        raise CallerError(
            f"`{path}` needs the package `{error.name}`, which is not installed",
            hint="`pip install 'harness-stream[all]'` brings every optional package",
        ) from error


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  only this flag needs it

    try:
        typer.echo(f"harness {version(DISTRIBUTION)}")
    except PackageNotFoundError as error:
        raise CallerError(f"`{DISTRIBUTION}` is not installed, so it has no version", hint="pip install .") from error
    raise typer.Exit


@app.callback()
def harness(
    *,
    _wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """AI Harness: every action an agent intends is judged before it runs, against what it already did.

    Example: harness demo
    """


def main() -> None:
    """Run `harness`."""
    run(app, "harness")


def run(command: typer.Typer, name: str) -> None:
    """Run a command line of this project to its end, and that of the process if something is wrong.

    Exit codes: 0 done, 1 the answer is no, 2 the caller's mistake, 3 something does not answer, 4 a peer broke the
    protocol, 130 interrupted. A traceback is a bug of ours.
    """
    try:
        command(prog_name=name)
    except HarnessError as error:
        if json_wanted():
            print_json(told(error))
        show(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
