"""What selections say of texts is remembered, and of nothing else; never more than so many answers."""

from harness_stream.core.rules import program as programs
from harness_stream.core.rules.compile import load

TEXT = """
rule_set: r
default: deny
selections:
  reads: event.action == "crm.read"
rules:
  - id: a
    effect: deny
    when: "true"
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 1h, condition: {gt: 3}}
"""


def test_events_that_look_alike_are_asked_about_once():
    program = load(TEXT)
    first = program.select({"action": "crm.read", "t": 1})
    assert program.select({"action": "crm.read", "t": 2}) is first
    assert (first.matched, program.select({"action": "crm.write"}).matched) == (1, 0)


def test_no_more_than_so_many_answers_are_kept(monkeypatch):
    monkeypatch.setattr(programs, "SELECTED_MAX", 1)
    program = load(TEXT)
    former = program.select({"action": "crm.write"})
    newest = program.select({"action": "crm.read"})
    assert program.select({"action": "crm.read"}) is newest
    assert len(program._selected) == 1
    assert program.select({"action": "crm.write"}) is not former


def test_what_is_no_text_is_asked_about_anew():
    program = load(TEXT)
    program.select({"action": 1})
    program.select({})
    assert program._selected == {}
