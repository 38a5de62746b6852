"""Generated rule sets and histories over a small world, as plain data.

Rule of this file: a scenario is data only, so that the same one can be run twice: in other batches, after a restart,
with its rules in another order. `scenario_runs.py` runs it, through the engine and past the oracle.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from harness_stream.core import limits
from harness_stream.core.rules.language import GROUP_PATHS
from tests.oracle_words import COUNTING, MEASURE, Predicate, Rule, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TIMES = 20 if os.environ.get("HARNESS_LONG") else 1
"""How many times as much as in CI is generated."""

# --- The world --------------------------------------------------------------------------------------------------------

ACTIONS = ("crm.read", "email.send", "web.get")
WORKLOADS = {"w-1": "prod", "w-2": "dev"}
UNKNOWN_WORKLOAD = "w-9"  # agents may name it, but it has no row
FOREIGN_WORKLOAD = "w-0"  # no agent may name it
# Three agents share a lane under two tenants; a fourth has the first one's tenant in a lane of its own. With their
# purposes, owners with a `|` make groups that only a sloppy join takes for one.
AGENTS: dict[str, dict[str, object]] = {
    "ann": {"tenant": "t1", "lane": "shared", "owner": "o", "delegates": ["bob", "cat", "eve"]},
    "bob": {"tenant": "t2", "lane": "shared", "owner": "x|o", "delegates": ["ann", "bob", "cat"]},
    "cat": {"tenant": "t1", "lane": "shared", "owner": "o", "delegates": ["bob"]},
    "eve": {"tenant": "t1", "lane": "alone", "owner": "e", "delegates": ["ann"]},
}
REACH = {"ann": (3, 2), "bob": (2, 1), "cat": (3, 1), "eve": (3, 16)}  # depth and fan-out of delegation
MAY_NOT = {"bob": "email.send"}
LANES = ("shared", "alone")
RESOURCES: dict[str, dict[str, object]] = {
    "crm://a": {"zone": "inner", "labels": ["pii"], "sensitivity": "high", "owner": "o"},
    "crm://b": {"zone": "inner", "labels": []},
    "mail://x": {"zone": "outer", "labels": [], "owner": "x|o"},
}
UNCLASSIFIED = "web://y"
TOOL_LABELS = {"web.get": ["web"]}
PURPOSES = ("", "p", "p|x")
OPEN_CHAIN, BRIEF_CHAIN = "case", "brief"
BRIEF_MS = 20_000  # how long the mandate of the second chain lasts

# What a table may say instead; each change is taken and taken back.
FLIPS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("resource", "crm://b", {"labels": ["pii"], "sensitivity": "high"}),
    ("resource", "crm://b", {"labels": ["pii"], "sensitivity": "high"}),
    ("resource", "mail://x", {"zone": "inner"}),
    ("agent", "bob", {"status": "suspended"}),
    ("agent", "bob", {"owner": "o"}),
    ("agent", "cat", {"status": "suspended"}),
    ("agent", "ann", {"delegates": ["cat"]}),
    ("agent", "ann", {"actions": ["email.send", "web.get"]}),
    ("agent", "cat", {"delegated_only": True}),
    ("agent", "cat", {"delegation": {"depth": 0, "fan_out": 2}}),
)

# --- What is generated ------------------------------------------------------------------------------------------------

WINDOW_KINDS: tuple[str, ...] = (*COUNTING, "value_sum", "temporal", *["temporal_ordered"] * 2, "absent")
STEP_KINDS: tuple[str, ...] = (*["intent"] * 24, *["answer"] * 8, *["outcome"] * 14, "close", *["flip"] * 3)
DELEGATES = True  # whether intents may name a parent
MEASURED_SELECTIONS = True  # whether selections may read measures, which outcomes raise

SELECTIONS = {
    "reads": Predicate(("crm.read",)),
    "sends": Predicate(("email.send", "web.get")),
    "outer": Predicate(zone="outer"),
    "personal": Predicate(label="pii"),
    "tagged": Predicate(tag="vip"),
    "large": Predicate(over=("rows", 2)),
    "denied": Predicate(decision="deny"),
    "anything": Predicate(),
}
OF_THE_CHAIN = (
    Predicate(chain_label="pii"),
    Predicate(("email.send",), chain_label="vip"),
    Predicate(zone="outer", chain_label="web"),
)
GROUPS: tuple[tuple[str, ...], ...] = (
    *((), (), ("agent_id",), ("agent_id",), ("chain_id",), ("chain_id",), ("tenant",), ("parent",), ("resource.uri",)),
    *(("agent_id", "resource.system"), ("chain_id", "action"), ("purpose", "owner"), ("purpose", "resource.owner")),
)
# Ties, both sides of every timespan's edge, and both sides of a hold's end.
SHORT_GAPS_MS = (0, 0, 0, 1, 999, 1_000, 1_001, 4_000, 5_000)
LONG_GAPS_MS = (limits.HOLD_MS_DEFAULT, limits.HOLD_MS_DEFAULT + 1)
GAPS_MS = (*SHORT_GAPS_MS * 4, *LONG_GAPS_MS)
TIMESPANS_MS = (1_000, 5_000, 30 * 60_000)
AMOUNTS = (0, 1, 2, "0.1", "0.1", "0.2", "2.5", "0.000001")
REPORTED = (0, "0.2", 2, "2.5", 3, 7, 10)
MEASURES = ("rows", "amount")
THRESHOLDS = {"value_sum": (0, 1, 2.5, 0.3, 7, 10), "event_count": (0, 1, 2, 3, 4), "value_count": (0, 1, 2, 3)}
OPERATORS = ("gt", "gt", "gte", "lt", "lte", "neq")
PARENTS = ((8, "delegating"), (6, "delegated"), (2, "approved"), (1, "other"), (1, "nobody"))


@dataclass(frozen=True)
class Step:
    """An intent, an approver's answer, an outcome, the end of a chain's mandate, or another row in a table.

    Attributes:
        pick: which one an answer, an outcome or a parent is about, counted from the newest.
        parent: (which, pick) of the intent that delegated: an `approved` one, one of an agent that is `delegating` to
            this one, such a one that is `delegated` itself, an `other` one (denied or held), or `nobody`'s.
        about: whether an outcome is about an `approved` intent, one still `unreported`, or an `other` one.
        by: who reports an outcome, or sends an intent: `agent`, `enforcer`, or (outcomes only) `stranger`.
        flip: index in FLIPS.
    """

    kind: str
    gap_ms: int = 0
    agent: str = "ann"
    chain: str | None = None
    action: str = "crm.read"
    resources: tuple[str, ...] = ()
    measures: tuple[tuple[str, int | str], ...] = ()
    labels: tuple[str, ...] = ()
    purpose: str = ""
    workload: str = "w-1"
    parent: tuple[str, int] | None = None
    stale: frozenset[str] = frozenset()
    pick: int = 0
    approve: bool = True
    about: str = "approved"
    status: str = "done"
    by: str = "agent"
    digest_right: bool = True
    flip: int = 0


@dataclass(frozen=True)
class Scenario:
    rules: tuple[Rule, ...]
    steps: tuple[Step, ...]


# --- Rules as text ----------------------------------------------------------------------------------------------------


def rules_text(rules: Iterable[Rule]) -> str:
    lines = ["rule_set: generated", "default: deny", "selections:"]
    lines += [f"  {name}: '{predicate.cel('event')}'" for name, predicate in SELECTIONS.items()]
    lines.append("rules:")
    for number, rule in enumerate(rules):
        head = f"id: {rule.id}, effect: {rule.effect}, mode: {rule.mode}"
        lines.append(f"  - {{{head}, when: '{_when(rule, by_name=number % 2 == 0)}'{_tail(rule.window)}}}")
    return "\n".join(lines)


def _when(rule: Rule, *, by_name: bool) -> str:
    guard = "infrastructure.present && " if rule.attested else ""
    names = [name for name, predicate in SELECTIONS.items() if predicate == rule.when]
    return guard + (names[0] if names and by_name else rule.when.cel("intent"))


def _tail(w: Window | None) -> str:
    if w is None:
        return ""
    attempts = ", include: attempts" if w.attempts else ""
    counted = f"field: {w.field}, " if w.field else ""
    condition = f", condition: {{{counted}{w.op}: {w.threshold}}}" if w.kind in COUNTING else ""
    fields = f"type: {w.kind}, rules: [{', '.join(w.selections)}], group-by: [{', '.join(w.group_by)}]"
    return f", correlation: {{{fields}, timespan: {w.timespan_ms // 1000}s{attempts}{condition}}}"


# --- Strategies -------------------------------------------------------------------------------------------------------

# Every rule and step is rolled from a number of its own: evenly spread, cheap, and a failing list of them still shrinks:
# nought stands for nothing.
_SEEDS = st.integers(0, 2**40)


def _one(dice: Random, *weighted: tuple[int, Any]) -> Any:
    """One of several values by weight."""
    weights, values = zip(*weighted, strict=True)
    return dice.choices(values, weights)[0]


def _some(dice: Random, pool: Sequence[str], least: int, most: int) -> tuple[str, ...]:
    return tuple(dice.sample(pool, dice.randint(least, most)))


def _selection_names() -> list[str]:
    return [name for name, p in SELECTIONS.items() if MEASURED_SELECTIONS or p.over is None]


def _field(dice: Random, kind: str) -> str | None:
    measures = [MEASURE + name for name in MEASURES]
    if kind == "event_count":
        return None
    texts = ("resource.uri", "resource.system", "action", "purpose", dice.choice(sorted(GROUP_PATHS)))
    # Only a measure may be lacking, and then a window says unknown.
    return dice.choice(measures if kind == "value_sum" or dice.random() < 0.6 else texts)


def _window(dice: Random, effect: str) -> Window:
    kind = dice.choice(WINDOW_KINDS)
    names = _some(dice, _selection_names(), 1, _one(dice, (1, 1), (3, 2), (1, 3)))
    group = _one(dice, (5, dice.choice(GROUPS)), (1, _some(dice, sorted(GROUP_PATHS), 0, 2)))
    basic = Window(kind, names, group, dice.choice(TIMESPANS_MS), attempts=dice.random() < 0.5)
    if kind not in COUNTING:
        return basic
    operators = (*OPERATORS, "eq", "eq") if effect == "approve" else OPERATORS
    op, threshold = dice.choice(operators), dice.choice(THRESHOLDS[kind])
    return replace(basic, field=_field(dice, kind), op=op, threshold=threshold)


def _rule(seed: int) -> Rule:
    dice = Random(seed)
    effect = _one(dice, (2, "deny"), (3, "hold"), (2, "approve"))
    window = None if dice.random() < 0.15 else _window(dice, effect)
    of_the_event = [SELECTIONS[name] for name in _selection_names()]
    conditions = (dice.choice(of_the_event), dice.choice(OF_THE_CHAIN))
    when = dice.choice((*conditions, Predicate(), Predicate())[: 4 if window else 2])
    mode = _one(dice, (1, "enforce"), (2, "shadow"))  # a shadow rule shows a window and changes nothing
    return Rule("", effect, when, mode, window, attested=dice.random() < 0.15)


def _intent(dice: Random) -> Step:
    delegated = DELEGATES and dice.random() < 0.35
    measured = _one(dice, (4, MEASURES), (2, MEASURES[:1]), (2, ()))
    return Step(
        "intent",
        dice.choice(GAPS_MS),
        agent=_one(dice, (4, "ann"), (3, "bob"), (2, "cat"), (1, "eve")),
        chain=_one(dice, (12, None), (12, OPEN_CHAIN), (2, BRIEF_CHAIN), (2, "nowhere")),
        action=dice.choice(ACTIONS),
        resources=_some(dice, (*RESOURCES, UNCLASSIFIED), 0, 3),
        measures=tuple((name, dice.choice(AMOUNTS)) for name in measured),
        labels=_one(dice, (2, ()), (1, ("vip",))),
        purpose=dice.choice(PURPOSES),
        workload=_one(dice, (12, "w-1"), (8, "w-2"), (4, UNKNOWN_WORKLOAD), (1, FOREIGN_WORKLOAD)),
        parent=(_one(dice, *PARENTS), _pick(dice)) if delegated else None,
        stale=frozenset(_one(dice, (24, ()), (1, ("classification",)), (1, ("infrastructure",)))),
        by=_one(dice, (2, "agent"), (1, "enforcer")),
    )


def _pick(dice: Random) -> int:
    return int(_one(dice, (5, 0), (2, 1), (1, 2), (1, 5)))


def _outcome(dice: Random) -> Step:
    measured = _one(dice, (5, MEASURES), (1, MEASURES[:1]), (1, ()))
    return Step(
        "outcome",
        dice.choice(SHORT_GAPS_MS),
        pick=_pick(dice),
        about=_one(dice, (10, "unreported"), (2, "approved"), (1, "other")),
        status=_one(dice, (6, "done"), (2, "failed"), (1, "unknown"), (4, "abandoned")),
        measures=tuple((name, dice.choice(REPORTED)) for name in measured),
        by=_one(dice, (2, "agent"), (8, "enforcer"), (1, "stranger")),
        digest_right=dice.random() < 0.95,
    )


def _step(seed: int) -> Step:
    dice = Random(seed)
    kind = dice.choice(STEP_KINDS)
    if kind == "intent":
        return _intent(dice)
    if kind == "answer":
        return Step("answer", dice.choice(GAPS_MS), pick=_pick(dice), approve=dice.random() < 0.7)
    if kind == "outcome":
        return _outcome(dice)
    if kind == "close":
        return Step("close", agent=dice.choice(sorted(AGENTS)), chain=dice.choice((OPEN_CHAIN, BRIEF_CHAIN)))
    return Step("flip", flip=dice.randrange(len(FLIPS)))


def _scenario(base: bool, rules: list[int], steps: list[int]) -> Scenario:
    named = [replace(_rule(seed), id=f"r{number}") for number, seed in enumerate(filter(None, rules))]
    approving = (Rule("base", "approve"),) if base or not named else ()
    return Scenario((*approving, *named), tuple(map(_step, filter(None, steps))))


def scenarios(steps_max: int = 40) -> st.SearchStrategy[Scenario]:
    """Mostly with a rule that approves everything, so that something happens."""
    rules = st.lists(_SEEDS, min_size=5, max_size=12)
    steps = st.lists(_SEEDS, min_size=steps_max // 2, max_size=steps_max)
    return st.builds(_scenario, st.sampled_from((True, True, True, True, True, False)), rules, steps)


def shown(scenario: Scenario) -> str:
    """For whoever reads a failure: the rules as text, and of each step what is not usual."""
    return "\n".join([rules_text(scenario.rules), *map(_unusual, scenario.steps)])


def _unusual(step: Step) -> str:
    usual = vars(Step(step.kind))
    told = (f"{name}={value!r}" for name, value in vars(step).items() if value != usual[name])
    return f"{step.kind} " + ", ".join(told)
