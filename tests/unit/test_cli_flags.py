"""Settings as flags: each command can be told which realm is meant, and a flag wins over environment and file."""

import importlib
from dataclasses import fields

import pytest
import typer
from typer.testing import CliRunner

from harness_stream.access import KAFKA_SETTINGS, REDIS_SETTINGS, SECRETS
from harness_stream.cli import main as cli
from harness_stream.cli.flags import FLAGS, takes
from harness_stream.config import Settings

SETTINGS = {field.name for field in fields(Settings)}
NO_REALM = {"up", "down", "status", "demo", "rules check", "rules test", "rules schema", "token verify"}
"""They speak to no realm: servers of this machine, a realm of their own, files, what is shown to an executor."""


def commands():
    """Words of each command → its target."""
    for word, entry in cli.COMMANDS.items():
        if isinstance(entry, cli.Family):
            yield from ((f"{word} {second}", inner) for second, inner in entry.entries.items())
        else:
            yield word, entry


def flags_of(entry):
    """Parameter → the flags of a command as typer sees it."""
    module, _, attribute = entry.target.partition(":")
    target = getattr(importlib.import_module(f"harness_stream.cli.{module}"), attribute)
    holder = target if isinstance(target, typer.Typer) else typer.Typer()
    if holder is not target:
        holder.command()(target)
    command = typer.main.get_command(holder)
    every = [command, *getattr(command, "commands", {}).values()]
    return {parameter.name: parameter.opts for one in every for parameter in one.params}


REALM_COMMANDS = {words: entry for words, entry in commands() if words not in NO_REALM}


def test_every_setting_but_secrets_has_a_flag_and_every_flag_is_a_setting():
    assert set(FLAGS) == SETTINGS - SECRETS


@pytest.mark.parametrize("words", REALM_COMMANDS)
def test_no_command_takes_a_secret_as_a_flag(words):
    assert SECRETS & set(flags_of(REALM_COMMANDS[words])) == set()


@pytest.mark.parametrize("words", REALM_COMMANDS)
def test_a_command_that_takes_a_servers_address_takes_the_way_into_it(words):
    found = set(flags_of(REALM_COMMANDS[words]))
    assert set(KAFKA_SETTINGS) - SECRETS <= found
    assert "redis_url" not in found or set(REDIS_SETTINGS) - SECRETS <= found


@pytest.mark.parametrize("words", REALM_COMMANDS)
def test_a_command_that_speaks_to_a_realm_takes_its_broker_and_its_prefix(words):
    found = flags_of(REALM_COMMANDS[words])
    assert found["bootstrap"] == ["--bootstrap"]
    assert found["prefix"] == ["--prefix"]


def test_a_setting_is_spelled_the_same_by_every_command_that_takes_it():
    spelled = {}
    for entry in REALM_COMMANDS.values():
        for name, flags in flags_of(entry).items():
            if name in SETTINGS:
                spelled.setdefault(name, set()).add(tuple(flags))
    assert {name for name, ways in spelled.items() if len(ways) > 1} == set()


def test_a_worker_takes_every_setting_but_those_of_the_risk_topology():
    left = SETTINGS - SECRETS - set(flags_of(REALM_COMMANDS["worker"]))
    assert left == {name for name in SETTINGS if name.startswith("risk_")}


@pytest.mark.parametrize(
    ("flags", "env", "file", "seen"),
    [
        (["--prefix", "flag"], {"HARNESS_PREFIX": "env"}, 'prefix = "file"', "flag"),
        ([], {"HARNESS_PREFIX": "env"}, 'prefix = "file"', "env"),
        ([], {}, 'prefix = "file"', "file"),
        ([], {}, "", "harness"),
    ],
)
def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path, monkeypatch, flags, env, file, seen):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_PREFIX", raising=False)
    (tmp_path / "harness.toml").write_text(file)

    @takes("prefix", "dev", "partitions")
    def probe(*, word: str, settings: Settings) -> None:
        typer.echo(f"{word} {settings.prefix} {settings.dev} {settings.partitions}")

    app = typer.Typer()
    app.command()(probe)
    done = CliRunner().invoke(app, ["read", "--dev", "--partitions", "3", *flags], env=env)
    assert done.output == f"read {seen} True 3\n"
