"""Rule sets that more than one test judges by, as texts.

Rule of this file: thresholds and timespans are the tests' own, since each has its reason for them.
"""

import json

READS = 'event.action == "crm.read"'
EGRESS = 'event.action == "email.send"'

ALLOWED = """\
  - {id: allowed, effect: approve, when: "intent.action in identity.actions"}
"""


def rule_set(*rules: str, name: str = "production", **selections: str) -> str:
    """A set that denies what none of these rules approves; selections by their names."""
    chosen = "".join(f"  {selection}: {json.dumps(condition)}\n" for selection, condition in selections.items())
    return f"rule_set: {name}\ndefault: deny\nselections:\n{chosen}rules:\n" + "".join(rules)


def no_egress_after_read(timespan: str) -> str:
    """Of the selections `reads` and `egress`."""
    return f"""\
  - id: no-egress-after-read
    effect: deny
    when: egress
    correlation: {{type: temporal, rules: [reads], group-by: [chain_id], timespan: {timespan}}}
"""


def budget(count: int, timespan: str) -> str:
    """So many of the selection `any` an agent."""
    return f"""\
  - id: budget
    effect: deny
    when: any
    correlation:
      {{type: event_count, rules: [any], group-by: [agent_id], timespan: {timespan}, condition: {{gt: {count}}}}}
"""


# A set with a window that is longer than what workers load unless they are told.
TWO_DAYS = rule_set(
    """\
  - {id: ok, effect: approve, when: "true"}
  - id: two-days
    effect: deny
    when: reads
    correlation: {type: temporal, rules: [reads], group-by: [agent_id], timespan: 2d}
""",
    reads=READS,
)
