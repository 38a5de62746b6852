"""The `harness` command: every mistake ends in one line that says what happened and one that says what to do."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import typer

from harness_stream.cli import main as cli
from harness_stream.cli.stack import _next_steps
from harness_stream.errors import BrokerUnavailable, CallerError, HarnessError, ProtocolError
from harness_stream.local.stack import Stack

RUN = "from harness_stream.cli.main import main; main()"


def python(*arguments: str, **where: object) -> subprocess.CompletedProcess[str]:
    """A Python process of its own."""
    command = [sys.executable, *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | where
    return subprocess.run(command, text=True, check=False, **streams)


def run_with(monkeypatch: pytest.MonkeyPatch, command: object, *arguments: str) -> int:
    """Run the command line in which `harness probe` is `command`; its exit code."""
    monkeypatch.setitem(cli.COMMANDS, "probe", cli.Entry("probe:probe", "A command of this test."))
    monkeypatch.setattr(cli, "_load", lambda _path, _entry: command)
    monkeypatch.setattr(sys, "argv", ["harness", "probe", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


def raising(error: BaseException):
    def probe() -> None:
        raise error

    return probe


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HarnessError("it broke", hint="mend it"), 1),
        (CallerError("it broke", hint="mend it"), 2),
        (BrokerUnavailable("it broke", hint="mend it"), 3),
        (ProtocolError("it broke", hint="mend it"), 4),
    ],
)
def test_our_errors_become_two_lines_and_their_exit_code(monkeypatch, capsys, error: HarnessError, code: int) -> None:
    assert run_with(monkeypatch, raising(error)) == code
    assert capsys.readouterr() == ("", "error: it broke\n→ mend it\n")


def test_an_error_without_a_hint_is_one_line(monkeypatch, capsys) -> None:
    run_with(monkeypatch, raising(CallerError("it broke")))
    assert capsys.readouterr().err == "error: it broke\n"


def commands_with_json() -> list[str]:
    """Words of every command that takes `--json`."""

    def words(command, path: list[str]):
        for name in command.list_commands(None):
            _, found, _ = command.resolve_command(CONTEXT(command, info_name="harness"), [name])
            if hasattr(found, "list_commands"):
                yield from words(found, [*path, name])
            if any("--json" in parameter.opts for parameter in found.params):
                yield " ".join([*path, name])

    return sorted(words(typer.main.get_command(cli.app), []))


CONTEXT = typer.Context.__base__
WITH_JSON = commands_with_json()


def ended(capsys, monkeypatch, *words: str) -> tuple[int, dict[str, object], str]:
    """Exit code, the JSON document on standard output and the text on standard error."""
    monkeypatch.setattr(sys, "argv", ["harness", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    return end.value.code, json.loads(said.out), said.err


def test_commands_of_every_form_are_among_those_with_json() -> None:
    assert {"up", "status", "intents send", "tables load", "partitions", "partitions resume"} <= set(WITH_JSON)


@pytest.mark.parametrize("words", WITH_JSON)
def test_with_json_an_error_is_a_document_on_standard_output_and_text_beside_it(monkeypatch, capsys, words) -> None:
    usual = typer.core.TyperGroup.make_context

    def breaks(command: object, *given: object, **named: object) -> object:
        if isinstance(command, cli.LazyGroup):
            return usual(command, *given, **named)
        raise BrokerUnavailable("it broke", hint="mend it")

    for kind in (typer.core.TyperCommand, typer.core.TyperGroup):
        monkeypatch.setattr(kind, "make_context", breaks)
    code, document, text = ended(capsys, monkeypatch, *words.split(), "--json")
    assert document == {"error": "it broke", "hint": "mend it", "exit_code": code}
    assert (code, text) == (3, "error: it broke\n→ mend it\n")


@pytest.mark.parametrize("words", WITH_JSON)
def test_with_json_so_is_a_command_line_nobody_understands(monkeypatch, capsys, words) -> None:
    code, document, text = ended(capsys, monkeypatch, *words.split(), "--json", "--nonsense")
    assert document["exit_code"] == code == 2
    assert "--nonsense" in document["error"]
    assert document["hint"] == f"`harness {words} --help`"
    assert "--nonsense" in text


def test_ctrl_c_ends_with_130_and_no_traceback(monkeypatch, capsys) -> None:
    assert run_with(monkeypatch, raising(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_of_ours_is_not_hidden(monkeypatch) -> None:
    monkeypatch.setitem(cli.COMMANDS, "probe", cli.Entry("probe:probe", ""))
    monkeypatch.setattr(cli, "_load", lambda _path, _entry: raising(ZeroDivisionError()))
    monkeypatch.setattr(sys, "argv", ["harness", "probe"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_command_decides_its_own_exit_code(monkeypatch) -> None:
    assert run_with(monkeypatch, raising(typer.Exit(1))) == 1


def test_a_command_takes_its_own_arguments(monkeypatch, capsys) -> None:
    def probe(agent: str, *, rows: int = 1) -> None:
        typer.echo(f"{agent} {rows}")

    assert run_with(monkeypatch, probe, "crm-7", "--rows", "3") == 0
    assert capsys.readouterr().out == "crm-7 3\n"


def test_a_typer_app_may_stand_for_a_command(monkeypatch, capsys) -> None:
    several = typer.Typer()
    several.command("one")(lambda: typer.echo("first"))
    several.command("two")(lambda: typer.echo("second"))

    assert run_with(monkeypatch, several, "two") == 0
    assert capsys.readouterr().out == "second\n"


def test_a_module_that_is_missing_disturbs_only_its_own_command(monkeypatch, capsys) -> None:
    monkeypatch.setitem(
        cli.COMMANDS, "rules", cli.Family("Rules.", {"absent": cli.Entry("absent:absent", "Not there.")})
    )
    for arguments, code in ((["rules", "--help"], 0), (["--help"], 0), (["rules", "absent"], 2)):
        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert (ended.value.code or 0) == code
    assert "`harness rules absent` is not part of this version" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "meant"), [(["staus"], "status"), (["topics", "aply"], "apply")])
def test_a_mistyped_command_gets_a_suggestion(monkeypatch, capsys, typed: list[str], meant: str) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", *typed])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert meant in capsys.readouterr().err


def test_the_version_is_that_of_the_installed_package() -> None:
    done = python("-c", RUN, "--version")
    assert (done.returncode, done.stdout) == (0, f"harness {version('harness-stream')}\n")


def test_help_lists_every_command_and_loads_none_of_the_heavy_packages() -> None:
    heavy = ["confluent_kafka", "redis", "pydantic", "cel_expr_python"]
    loaded_at_exit = f"print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    program = f"import atexit, json, sys; atexit.register(lambda: {loaded_at_exit}); {RUN}"

    done = python("-c", program, "--help")

    *text, loaded = done.stdout.splitlines()
    assert json.loads(loaded) == []
    assert all(any(name in line for line in text) for name in cli.COMMANDS)


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed_pipe:
        assert python("-c", RUN, "--help", stdout=closed_pipe).stderr == ""


def test_what_to_do_with_a_stack_names_the_folder_that_it_is_in(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = _next_steps(Stack(tmp_path / "my stack"))
    assert f"  harness status --dir '{tmp_path}/my stack'\n  harness down --dir '{tmp_path}/my stack'" in elsewhere
    assert "--dir" not in _next_steps(Stack())


def test_the_way_to_start_a_stack_names_the_folder_that_was_asked_about(tmp_path) -> None:
    asked = python("-c", RUN, "status", "--dir", str(tmp_path))
    assert (asked.returncode, asked.stdout.splitlines()[-1]) == (1, f"→ start it: harness up --dir {tmp_path.resolve()}")
    usual = python("-c", RUN, "status", cwd=tmp_path)
    assert usual.stdout.splitlines()[-1] == "→ start it: harness up"
