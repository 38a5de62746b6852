"""The language's own functions are look-ups, rewritten when a rule set is loaded (DESIGN §6, §9)."""

import pytest

from harness_stream.core.rules import inspect, load
from harness_stream.core.rules.functions import rewritten


def rule(when: str) -> str:
    return f"rule_set: r\ndefault: deny\nrules:\n  - id: one\n    effect: approve\n    when: |\n      {when}\n"


def holds(when: str, **variables) -> bool | str:
    found = {"args": {}, "mandate": {"present": False, "classes": [], "named": []}, **variables}
    return load(rule(when)).judge(found).of(0)


ARGS = {"to": {"origin": "prose", "values": ["ab"], "role": "destination", "exact": True, "links": "none"}}
MANDATE = {"present": True, "declared_by": "orchestrator", "classes": ["send email"], "named": ["ab"]}


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ('origin("to") == "prose"', True),
        ("origin('to') in ['mandate', 'self']", False),
        ('origin("nobody") == "never_seen"', True),
        ('args.exists(n, args[n].role == "destination" && origin(n) == "prose")', True),
        ('args.all(n, origin(n) != "prose")', False),
        ('"to" in args && args["to"].origin == "prose"', True),
        ('"to" in args && args["to"].links == "none"', True),
        ('mandate.allows("send", "email")', True),
        ('mandate.allows("send", "ema" + "il") && !mandate.allows("delete", "email")', True),
        ('"to" in args && args["to"].values.exists(v, mandate.mentions(v))', True),
        ('mandate.mentions("cd")', False),
        ('origin("to") == "prose" && mandate.allows("send", "email") && origin("x") == "never_seen"', True),
    ],
)
def test_what_they_say(when: str, expected: bool):
    assert holds(when, args=ARGS, mandate=MANDATE) is expected


def test_without_a_mandate_nothing_is_allowed_or_mentioned():
    assert holds('mandate.allows("send", "email") || mandate.mentions("ab")', args=ARGS) is False


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        ('mandate.allows("a,b)", "c")', ['"a,b)"', '"c"']),
        ("mandate.allows('it\\'s)', f(x, [1, 2]))", ["'it\\'s)'", "f(x, [1, 2])"]),
        ('mandate.allows(r"a,)", "c")', ['r"a,)"', '"c"']),
        ('mandate.allows("""a")""", "c")', ['"""a")"""', '"c"']),
        ('mandate.allows("a", // no )\n "c")', ['"a"', '// no )\n "c"']),
    ],
)
def test_a_call_ends_where_its_bracket_closes(call: str, parts: list[str]):
    first, second = parts
    assert rewritten(f"x && {call} || y", 5, "mandate.allows") == (
        f'x && ((({first}) + " " + ({second})) in mandate.classes) || y'
    )


@pytest.mark.parametrize(
    ("when", "message", "fix"),
    [
        ("origin(intent.action) == 'prose'", "takes an argument's name", 'origin("to")'),
        ('origin("a", "b") == "prose"', "takes 1", "origin(name)"),
        ('mandate.allows("send")', "takes 2", "mandate.allows(operation, object)"),
        ('mandate.allows("send", 1)', "does not take", ""),
        ('origin("to")', "not true or false", "compare it"),
        ('mandate.alows("send", "x")', "alows", ""),
    ],
)
def test_mistakes(when: str, message: str, fix: str):
    program, mistakes = inspect(rule(when))
    assert program is None
    assert any(message in m.message and fix in m.fix for m in mistakes), mistakes


def test_a_selection_cannot_ask_them():
    text = rule("chosen").replace("rules:", "selections:\n  chosen: 'origin(\"to\") == \"prose\"'\nrules:")
    program, mistakes = inspect(text)
    assert program is None
    assert any("asks of the intent, not of history" in m.message for m in mistakes)
