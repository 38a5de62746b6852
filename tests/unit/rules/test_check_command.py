"""`harness rules check`: what a rule author, an editor and CI see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness_stream.cli.main import app
from harness_stream.cli.rules_check import overrides, read_rules
from harness_stream.core.rules import inspect, load
from harness_stream.core.rules.mistakes import Code
from harness_stream.errors import ConfigError

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples/rules/production.yaml"
SOUND = "rule_set: x\ndefault: deny\nrules:\n  - {id: a, effect: approve, when: 'true'}\n"
WRONG = SOUND.replace("'true'", "identity.rols")
WARNED = SOUND + "  - {id: b, effect: hold, when: 'false'}\n"
KEYS = {"code", "severity", "message", "fix", "found", "line", "column", "end_line", "end_column", "text"}


def run(*arguments, stdin=None):
    return CliRunner().invoke(app, ["rules", "check", *map(str, arguments)], input=stdin)


@pytest.fixture
def written(tmp_path):
    def write(text, name="r.yaml"):
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    return write


# --- for people ---


def test_a_sound_file_is_counted_and_named():
    result = run(EXAMPLE)
    assert result.exit_code == 0
    assert result.stdout == f"6 rules, 4 selections, 3 windows, digest {load(EXAMPLE.read_text('utf-8')).digest}\n"


def test_a_mistake_shows_its_line_what_is_meant_and_the_fix(written):
    file = written(WRONG)
    result = run(file)
    assert result.exit_code == 2
    assert result.stdout.split("\n\n")[0] == (
        f"{file}:4:45: unknown field `identity.rols` [unknown-field]\n"
        "      - {id: a, effect: approve, when: identity.rols}\n"
        f"    {' ' * 44}^^^^\n"
        "  → did you mean `identity.roles`?"
    )
    assert result.stdout.endswith("1 mistake; nothing was loaded\n")


def test_a_warning_is_shown_and_does_not_fail(written):
    result = run(written(WARNED))
    assert result.exit_code == 0
    assert "5:34: warning: `b` never fires: its condition is never true [never-fires]" in result.stdout
    assert result.stdout.endswith(", 1 warning\n")


def test_what_a_text_says_to_a_terminal_is_not_passed_on(written):
    told = run(written(f"{SOUND}# \x1b[2J\x07 \x1b]0;title\n")).stdout
    assert "U+001B" in told
    assert "\x1b" not in told


def test_strict_makes_warnings_fail(written):
    assert run(written(WARNED), "--strict").exit_code == 2
    assert run(written(SOUND), "--strict").exit_code == 0


def test_several_files_are_all_looked_at(written):
    result = run(written(WRONG, "a.yaml"), written(SOUND, "b.yaml"), EXAMPLE)
    assert result.exit_code == 2
    summaries = [part for part in result.stdout.split("\n\n") if "→" not in part]
    assert [part.partition(": ")[2].split()[:2] for part in summaries] == [
        ["1", "mistake;"],
        ["1", "rule,"],
        ["6", "rules,"],
    ]


def test_of_a_folder_every_rule_set_below_it_is_checked(written, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "tables").mkdir()
    written(SOUND, "b.yaml")
    written("# a comment\n" + WRONG, "deep/a.yml")
    written("rules: b.yaml\ncases: []\n", "b.cases.yaml")
    written("- {agent_id: a}\n", "tables/identity.yaml")
    written(WRONG, "notes.txt")
    told = json.loads(run(tmp_path, tmp_path / "b.yaml", "--json").stdout)
    assert [(one["file"], one["ok"]) for one in told["files"]] == [
        (str(tmp_path / "b.yaml"), True),
        (str(tmp_path / "deep/a.yml"), False),
    ]


def test_a_folder_without_a_rule_set_is_refused(tmp_path):
    found = run(tmp_path).exception
    assert isinstance(found, ConfigError)
    assert "holds no rule set" in found.message


def test_the_pack_is_checked_as_a_folder():
    result = run(ROOT / "examples/rules", "--strict")
    assert result.exit_code == 0, result.stdout


@pytest.mark.parametrize("content", [None, b"\xff", b"#" * 262_145])
def test_a_file_that_cannot_be_a_rule_set_is_a_mistake_beside_the_others(tmp_path, content):
    file = tmp_path / "r.yaml"
    if content is not None:
        file.write_bytes(content)
    told = json.loads(run(EXAMPLE, file, "--json").stdout)
    assert [one["ok"] for one in told["files"]] == [True, False]
    assert [(m["code"], m["line"]) for m in told["files"][1]["mistakes"]] == [("unreadable", 1)]
    with pytest.raises(ConfigError):
        read_rules(file)


def test_a_cases_file_is_sent_to_its_own_command():
    result = run(EXAMPLE.with_name("production.cases.yaml"))
    assert result.exit_code == 2
    assert result.stdout.count("→") == 1
    assert "this is a cases file, not a rule set" in result.stdout
    assert "→ run it by `harness rules test`" in result.stdout


def test_standard_input_has_a_name():
    assert run("-", stdin=SOUND).exit_code == 0
    assert run("-", stdin=WRONG).stdout.startswith("<stdin>:4:45: ")
    assert run("-", "--name", "draft.yaml", stdin=WRONG).stdout.startswith("draft.yaml:4:45: ")
    assert run("-", stdin=b"\xff").stdout.startswith("<stdin>:1:1: not UTF-8 at byte 0")
    assert isinstance(run(EXAMPLE, "--name", "x").exception, ConfigError)


def test_a_parameter_can_be_set():
    assert run(EXAMPLE).stdout != run(EXAMPLE, "--set", "exports_a_day=2").stdout
    told = run(EXAMPLE, "--set", "exports=2").stdout
    assert "no parameter `exports` [setting]\n    params:\n    ^^^^^^\n" in told


def test_a_set_without_params_takes_no_setting(written):
    assert "leave it out: this set has no params" in run(written(SOUND), "--set", "n=2").stdout


def test_the_longest_window_is_the_realms(monkeypatch):
    monkeypatch.setenv("HARNESS_MAX_TIMESPAN_MS", "3600000")
    assert "the longest window is 3,600 s" in run(EXAMPLE).stdout


def test_settings_are_what_they_look_like():
    settings = overrides(["a=1", "b=-1.5", "c=true", "d=x=y", 'e="1"', "f="])
    assert settings == {"a": 1, "b": -1.5, "c": True, "d": "x=y", "e": "1", "f": ""}


@pytest.mark.parametrize("settings", [["a"], ["=1"], ["a=1", "a=2"]])
def test_a_malformed_setting_is_refused(settings):
    with pytest.raises(ConfigError):
        overrides(settings)


# --- for editors and CI ---


def test_json_is_one_object_with_every_file_and_every_mistake(written):
    sound, wrong, warned = written(SOUND, "a.yaml"), written(WRONG, "b.yaml"), written(WARNED, "c.yaml")
    told = json.loads(run(sound, wrong, warned, "--json").stdout)
    assert {key: told[key] for key in ("ok", "errors", "warnings")} == {"ok": False, "errors": 1, "warnings": 1}
    assert [(one["file"], one["ok"]) for one in told["files"]] == [
        (str(sound), True),
        (str(wrong), False),
        (str(warned), True),
    ]
    assert {key: told["files"][0][key] for key in ("rules", "selections", "windows", "mistakes")} == {
        "rules": 1,
        "selections": 0,
        "windows": 0,
        "mistakes": [],
    }
    assert told["files"][0]["digest"] == load(SOUND).digest
    assert told["files"][1]["mistakes"] == [
        {
            "code": "unknown-field",
            "severity": "error",
            "message": "unknown field `identity.rols`",
            "fix": "did you mean `identity.roles`?",
            "found": "rols",
            "line": 4,
            "column": 45,
            "end_line": 4,
            "end_column": 49,
            "text": "  - {id: a, effect: approve, when: identity.rols}",
        }
    ]


def test_json_is_ok_when_the_exit_code_is_0(written):
    for file, arguments, ok in ((WARNED, (), True), (WARNED, ("--strict",), False), (WRONG, (), False)):
        result = run(written(file), "--json", *arguments)
        assert (json.loads(result.stdout)["ok"], result.exit_code) == (ok, 0 if ok else 2)


def test_help_names_every_key_of_the_json_and_the_way_to_editors():
    told = " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(app, ["rules", "check", "--help"]).stdout.split())
    for key in KEYS | {"ok", "errors", "warnings", "files", "file", "rules", "selections", "windows", "digest"}:
        assert key in told
    for words in ("harness rules schema", "# yaml-language-server: $schema=", "# check: allow CODE", "Example:"):
        assert words in told


def test_every_code_is_explained_in_the_docs():
    page = (ROOT / "docs/rules.md").read_text("utf-8")
    assert [code for code in Code if f"| `{code}` |" not in page] == []


# --- every mistake of the list, each alone and all at once ---

HEAD = """\
rule_set: x
default: deny
params: {low: -1, n: 3, idle: 1}
selections:
  mails: event.action == "email.send"
  spare: event.action == "a.b"
  denied: event.decision == "deny"
rules:
  - {id: ok, effect: approve, when: intent.action in identity.actions}
"""


def window(text, effect="deny", when="mails"):
    return f"  - {{id: r, effect: {effect}, when: '{when}', correlation: {{{text}}}}}\n"


LIST = {
    "unknown-field": ("  - {id: r, effect: deny, when: identity.rols == identity.roles}\n", "rols"),
    "unknown-name": ("  - {id: r, effect: deny, when: mail}\n", "mail"),
    "unknown-function": ("  - {id: r, effect: deny, when: 'intent.action.startWith(\"a\")'}\n", "startWith"),
    "unknown-key": ("  - {id: r, effect: deny, when: mails, becuase: x}\n", "becuase"),
    "unknown-word": ("  - {id: r, effect: denny, when: mails}\n", "denny"),
    "unknown-param": (
        window("type: event_count, rules: [mails], timespan: 1m, condition: {gt: params.m}"),
        "params.m",
    ),
    "unknown-selection": (window("type: temporal, rules: [mail], timespan: 1m"), "mail"),
    "type": ("  - {id: r, effect: deny, when: intent.action > 5}\n", ">"),
    "unguarded": ("  - {id: r, effect: deny, when: intent.measures.rows > 5}\n", "intent.measures.rows"),
    "absent-row": ("  - {id: r, effect: deny, when: risk.score > 0.5}\n", "risk.score"),
    "syntax": ("  - {id: r, effect: deny, when: mails and true}\n", "and"),
    "wide-group": (window("type: absent, rules: [spare], group-by: [realm], timespan: 1m"), "realm"),
    "long-window": (window("type: temporal, rules: [spare, mails], timespan: 25h"), "25h"),
    "chain-only": (window("type: temporal, rules: [spare], group-by: [chain_id], timespan: 1m"), "chain_id"),
    "never-fires": ("  - {id: r, effect: deny, when: 'false'}\n", "false"),
    "never-matches": (
        "  - {id: r, effect: deny, when: mails, correlation: {type: temporal, rules: [denied], timespan: 1m}}\n",
        "denied",
    ),
    "always-holds": (window("type: event_count, rules: [mails], timespan: 1m, condition: {gt: 0}"), "{gt: 0}"),
    "overruled": (
        "  - {id: r, effect: deny, when: mails}\n  - {id: s, effect: hold, when: 'mails && true'}\n",
        "mails && true",
    ),
    "unused-selection": ("", "spare"),
    "unused-param": ("", "idle"),
    "duplicate-id": ("  - {id: ok, effect: deny, when: mails}\n", "ok"),
    "eq-lets-through": (window("type: event_count, rules: [mails], timespan: 1m, condition: {eq: 3}"), "eq"),
    "negative-count": (
        window("type: event_count, rules: [mails], timespan: 1m, condition: {gt: params.low}"),
        "params.low",
    ),
    "inexact": (
        window("type: value_count, rules: [mails], timespan: 1m, condition: {gt: 2000, field: resource.uri}"),
        "2000",
    ),
    "window-condition": (window("type: event_count, rules: [mails], timespan: 1m"), "{type"),
}


@pytest.mark.parametrize("code", LIST)
def test_each_mistake_has_its_code_its_place_and_what_stands_there(code):
    rules, underlined = LIST[code]
    _, mistakes = inspect(HEAD + rules)
    found = [m for m in mistakes if m.code == code]
    assert [m.found for m in found if m.found.startswith(underlined)], mistakes
    for m in found:
        assert m.fix
        assert m.text == (HEAD + rules).split("\n")[m.line - 1]
        assert m.text[m.column - 1 : m.end_column - 1] == m.found


def test_all_mistakes_are_found_in_one_look():
    parts = [
        rules.replace("id: r", f"id: r{i}").replace("id: s", f"id: s{i}") for i, (rules, _) in enumerate(LIST.values())
    ]
    _, mistakes = inspect(HEAD + "".join(parts))
    assert set(LIST) - {m.code for m in mistakes} <= {"unused-selection"}  # `spare` is used by others here
