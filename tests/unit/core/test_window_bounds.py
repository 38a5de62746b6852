"""Beyond its bounds a window's interval contains the truth, and below them it is the truth (V3, DESIGN §5).

Long seeded histories with a ladder of shadow rules on each window: which rungs fire, stay silent or are unknown shows
the interval, without a look inside. The truth is counted anew from the oracle's whole history. `HARNESS_LONG=1` tells
more stories.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

import pytest
from scenario_runs import Run, Witness, said
from scenarios import TIMES, Scenario, Step

from harness_stream.core import limits
from tests.expectation import NO, UNKNOWN, YES
from tests.oracle_words import Event, Predicate, Rule, Window

SPAN_MS = 30 * 60_000  # longer than a hold, so that holds expire inside
BUCKET_MS = SPAN_MS // limits.WINDOW_BUCKETS
RUNGS = (511, 512, 650, 800, 1_024)
DISTINCT = 4_000  # more values than a window keeps
# Many at once; hardly any, until the first are about to leave; half as many as leave; hardly any again.
PHASES = ((1_200, 200), (30, 53_000), (480, 500), (60, 5_000))  # steps, and about how many ms each takes
WINDOWS = {
    "count": Window("event_count", ("anything",), (), SPAN_MS),
    "attempts": Window("event_count", ("anything",), (), SPAN_MS, attempts=True),
    "sum": Window("value_sum", ("anything",), (), SPAN_MS, field="measures.rows"),
    "distinct": Window("value_count", ("anything",), (), SPAN_MS, field="purpose"),
}


class Story(NamedTuple):
    """How many in a hundred steps of a history are what; the others are plain acts that are approved."""

    holds: int = 0
    denied: int = 0
    answers: int = 0
    done: int = 0
    abandoned: int = 0


PLAIN = Story()
EVENTFUL = Story(holds=8, denied=8, answers=8, done=8, abandoned=4)


def rules() -> tuple[Rule, ...]:
    ask, never = Rule("ask", "hold", Predicate(tag="vip")), Rule("never", "deny", Predicate(("web.get",)))
    ladders = (
        Rule(f"{name}-{rung}", "deny", mode="shadow", window=replace(window, threshold=rung))
        for name, window in WINDOWS.items()
        for rung in RUNGS
    )
    return (Rule("base", "approve"), ask, never, *ladders)


def steps(story: Story, seed: int) -> Iterator[Step]:
    dice = random.Random(seed)
    for pace_ms in (pace_ms for count, pace_ms in PHASES for _ in range(count)):
        gap_ms = pace_ms if pace_ms > BUCKET_MS else dice.choice((0, pace_ms // 2, pace_ms, 2 * pace_ms))
        pick = dice.choice((0, 1, 5, 40, 100))
        rows = (("rows", dice.choice((0, 1, 2, "0.5", "0.000001"))),)
        kinds = {"ask": story.holds, "deny": story.denied, "answer": story.answers}
        kinds |= {"done": story.done, "abandoned": story.abandoned}
        kind = dice.choices([*kinds, "act"], [*kinds.values(), 100 - sum(kinds.values())])[0]
        if kind == "answer":
            yield Step("answer", gap_ms, pick=pick, approve=dice.random() < 0.5)
        elif kind in {"done", "abandoned"}:
            yield Step("outcome", gap_ms, pick=pick, status=kind, measures=rows, by="enforcer")
        else:
            action, labels = "web.get" if kind == "deny" else "crm.read", ("vip",) if kind == "ask" else ()
            agent, purpose = dice.choice(("ann", "bob", "cat")), f"p{dice.randrange(DISTINCT)}"
            yield Step("intent", gap_ms, agent, action=action, labels=labels, purpose=purpose, measures=rows)


def size(name: str, events: list[Event]) -> Decimal:
    if name == "sum":
        return sum((event.measures["rows"] for event in events), Decimal(0))
    return Decimal(len({event.purpose for event in events}) if name == "distinct" else len(events))


def may_be_unknown(name: str, events: list[Event], now: Event, rung: int, *, plain: bool) -> bool:
    """Is there more in the window than it has to keep, and can that hide on which side of the rung the truth is?"""
    taken = [e for e in events if now.t - SPAN_MS <= e.t and (WINDOWS[name].attempts or e.decision != "deny")]
    if name == "distinct":
        return size(name, taken) > limits.WINDOW_VALUES_MAX <= rung + 1 or doubtful(taken)
    if len(taken) <= limits.WINDOW_EXACT_MAX:
        return False
    ends = [size(name, [e for e in events if e.t >= now.t - SPAN_MS + shift]) for shift in (BUCKET_MS, -BUCKET_MS)]
    return not plain or ends[0] <= rung < ends[1]


def doubtful(taken: list[Event]) -> bool:
    """Were two events of a value released that a third one may stand below?"""
    gone = Counter(e.purpose for e in taken if e.released)
    there = Counter(e.purpose for e in taken if gone[e.purpose] >= limits.WINDOW_FIRM_KEPT)
    return any(count > limits.WINDOW_FIRM_KEPT for count in there.values())


def wrong(witness: Witness, now: Event, spoke: dict[str, str], *, plain: bool) -> Iterator[str]:
    """Rungs that say what is not so, or nothing where they must know."""
    events = [*(e for e in witness.oracle.history.values() if e.t >= now.t - SPAN_MS - BUCKET_MS), now]
    for name, window in WINDOWS.items():
        inside = (e for e in events if now.t - SPAN_MS <= e.t)
        truth = size(name, [e for e in inside if e is now or e.counts(now.t, attempts=window.attempts)])
        for rung in RUNGS:
            answer = spoke.get(f"{name}-{rung}", NO)
            if answer not in {UNKNOWN, YES if truth > rung else NO}:
                yield f"{name} {truth} more than {rung}: {answer}"
            if answer == UNKNOWN and not may_be_unknown(name, events, now, rung, plain=plain):
                yield f"unknown whether {name} {truth} is more than {rung}"


@pytest.mark.parametrize("seed", range(TIMES))
@pytest.mark.parametrize("story", [PLAIN, EVENTFUL], ids=["plain", "eventful"])
def test_the_interval_contains_the_truth(story: Story, seed: int):
    run = Run(Scenario(rules(), ()))
    witness = Witness(run)
    seen: Counter[tuple[str, str]] = Counter()
    for number, step in enumerate(steps(story, seed)):
        taken = run.step(step, number)
        if taken is None:
            continue
        if taken.event.type == "intent":
            now, spoke = witness.event_of(taken.event, taken.t), said(taken.body)
            assert list(wrong(witness, now, spoke, plain=story is PLAIN)) == []
            seen.update((rule.partition("-")[0], answer) for rule, answer in spoke.items())
        assert witness.hear(taken, ask=False) == []
    assert [name for name in WINDOWS if seen[name, YES] < 20] == []
    # The eventful story has fewer values than are kept, and a value is hardly ever released twice.
    unknown = {name for name in WINDOWS if seen[name, UNKNOWN] >= 20}
    assert unknown == ({*WINDOWS} if story is PLAIN else {*WINDOWS} - {"distinct"})
