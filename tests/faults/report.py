"""The report of a run, as text for people and as JSON."""

import json
import statistics
from collections import Counter
from dataclasses import asdict, replace

from tests.faults.run import Options
from tests.faults.scene import CLIENTS

# Issue 5, point 4: within so many seconds, measured to the first answer of the slowest partition.
GOALS = {
    ("worker killed (SIGKILL)", "taken over"): 10.0,
    ("worker asleep (SIGSTOP 8 s, SIGCONT)", "taken over"): 10.0,
    ("worker leaves (SIGTERM)", "taken over"): 2.0,
}
FIGURES = ("inputs", "acknowledged", "verdicts", "rejects", "void")


def as_json(result):
    content = asdict(replace(result, total={}, heard={}))
    del content["heard"]
    content |= vars(result.heard) | {"overdue": result.heard.overdue[:10]}
    content["total"] = vars(result.total)
    return json.dumps(content, indent=1, ensure_ascii=False)


def as_text(result):
    return "\n".join([*_head(result), "", *_kinds(result), "", *_totals(result), *_notes(result), *_end(result)]) + "\n"


def _head(result):
    options, where = result.options, ", ".join(f"{k} {v}" for k, v in result.machine.items())
    return [
        f"faults: {len(result.told)} of {options.faults} in {result.seconds / 60:.1f} minutes, seed {options.seed}",
        f"on: {options.workers} workers, {options.partitions} partitions, 1 broker, 1 Redis",
        f"load: {CLIENTS} clients at {options.rate} intents/s each; {result.lives} lives of the realm"
        + (f", the logs of {result.read_lives} were read" if result.failed else ""),
        f"with: {where}",
        f"again: python -m tests.faults {_again(options)}",
    ]


def _again(options):
    """The words that make the same run."""
    standard = Options()
    numbers = ("faults", "seed", "workers", "partitions", "rate", "transaction_s")
    always = ("faults", "seed")
    changed = [n for n in numbers if n in always or getattr(options, n) != getattr(standard, n)]
    words = [f"--{name.replace('_', '-')} {getattr(options, name)}" for name in changed]
    return " ".join([*words, *([] if options.kinds == standard.kinds else [f'--only "{k}"' for k in options.kinds])])


def missed(result):
    """In words: each takeover that took longer than its goal."""
    limits = ((told, name, GOALS.get((told.kind, name))) for told in result.told for name in told.recover_s)
    late = ((told, name, limit) for told, name, limit in limits if limit is not None and told.recover_s[name] > limit)
    return [f"{told.kind}, {name}: {told.recover_s[name]:.2f} s, goal {limit:g} s" for told, name, limit in late]


def _kinds(result):
    """A line a kind and wait: how often, and how long until every partition served again."""
    lines = [f"{'fault':37} {'wait until every partition served':26} {'n':>3} {'p50 s':>6} {'max s':>6}  goal"]
    for kind in sorted({told.kind for told in result.told}):
        of_kind = [told for told in result.told if told.kind == kind]
        for name in dict.fromkeys(name for told in of_kind for name in told.recover_s):
            waits = [told.recover_s[name] for told in of_kind if name in told.recover_s]
            lines.append(f"{kind:37} {name:26} {_spread(waits)}  {_goal(kind, name, waits)}".rstrip())
        silences = [told.silence_s for told in of_kind]
        voids = sum(told.cost["void"] for told in of_kind)
        lines.append(f"{'':37} {'longest silence meanwhile':26} {_spread(silences)}  {voids} void records")
    return lines


def _spread(seconds):
    return f"{len(seconds):3} {statistics.median(seconds):6.2f} {max(seconds):6.2f}"


def _goal(kind, name, waits):
    limit = GOALS.get((kind, name))
    return "" if limit is None else f"≤ {limit:g} s: {sum(wait <= limit for wait in waits)} of {len(waits)}"


def _totals(result):
    """What was counted; of a run that was stopped, nothing that nobody came to count."""
    read, heard = _read(result) if result.read_lives else [], _heard(result) if result.heard_lives else []
    return [*read, *heard] or ["no logs were read and no client was heard to its end: nothing was counted"]


def _read(result):
    total = result.total
    return [
        "; ".join(f"{name} {getattr(total, name):,}" for name in FIGURES),
        f"effective verdicts: {_counted(total.decisions)}",
        "; ".join(f"{name} {getattr(total, name)}" for name in total.MUST_BE_NONE),
    ]


def _heard(result):
    heard, silence = result.heard, result.heard.ends["silence"]
    ends = f"begun after the deadline {len(heard.overdue)}; waits without an end {heard.unended}"
    return [
        f"what clients were told: {_counted(heard.ends)}; without a rule's answer: {_counted(heard.silent)}",
        f"latest end after its deadline: {1000 * max(0.0, heard.slowest_s):.0f} ms",
        f"no answer by the deadline {silence:,}; {ends}",
    ]


def _counted(counts):
    return ", ".join(f"{name} {count:,}" for name, count in sorted(Counter(counts).items())) or "none"


def _notes(result):
    notes = dict.fromkeys(note for told in result.told for note in told.notes)
    return [] if not notes else ["", "workers of a realm that is gone said:", *(f"  {note}" for note in notes)]


def _end(result):
    late = [f"MISSED: {text}" for text in missed(result)]
    if not result.wrong:
        return ["", *late, "nothing lost, nothing double, no history wrong"]
    return ["", *late, "FAILED", *result.total.examples, result.failed]
