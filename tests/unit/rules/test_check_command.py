"""`harness rules check`: what a rule author sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness_stream.cli.rules_check import check, overrides
from harness_stream.core.rules import load
from harness_stream.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "examples/rules/production.yaml"


def run(*arguments):
    app = typer.Typer()
    app.command()(check)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_sound_file_is_counted_and_named():
    result = run(EXAMPLE)
    assert result.exit_code == 0
    assert result.stdout == f"6 rules, 4 selections, 3 windows, digest {load(EXAMPLE.read_text('utf-8')).digest}\n"


def test_a_mistake_shows_its_line_a_caret_and_the_fix(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("rule_set: x\ndefault: deny\nrules:\n  - {id: a, effect: approve, when: identity.rols}\n", "utf-8")
    result = run(file)
    assert result.exit_code == 2
    assert result.stdout.split("\n\n")[0] == (
        f"{file}:4:45: unknown field `identity.rols`\n"
        "      - {id: a, effect: approve, when: identity.rols}\n"
        f"    {' ' * 44}^\n"
        "  → did you mean `identity.roles`?"
    )
    assert result.stdout.endswith("1 mistake; nothing was loaded\n")


def test_json_says_the_same(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("rule_set: x\n", "utf-8")
    result = run(file, "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert {mistake["message"] for mistake in found["mistakes"]} == {
        "the rule set needs `default`",
        "the rule set needs `rules`",
    }
    assert json.loads(run(EXAMPLE, "--json").stdout)["windows"] == 3


def test_a_parameter_can_be_set():
    assert run(EXAMPLE).stdout != run(EXAMPLE, "--set", "exports_a_day=2").stdout
    assert "no parameter `exports`" in run(EXAMPLE, "--set", "exports=2").stdout


def test_settings_are_what_they_look_like():
    settings = overrides(["a=1", "b=-1.5", "c=true", "d=x=y", 'e="1"', "f="])
    assert settings == {"a": 1, "b": -1.5, "c": True, "d": "x=y", "e": "1", "f": ""}


@pytest.mark.parametrize("settings", [["a"], ["=1"], ["a=1", "a=2"]])
def test_a_malformed_setting_is_refused(settings):
    with pytest.raises(ConfigError):
        overrides(settings)


@pytest.mark.parametrize("content", [None, b"\xff", b"#" * 262_145])
def test_a_file_that_cannot_be_a_rule_set_is_refused(tmp_path, content):
    file = tmp_path / "r.yaml"
    if content is not None:
        file.write_bytes(content)
    assert isinstance(run(file).exception, ConfigError)
