"""From a rule text to something that can be evaluated: parse (shape), check (meaning), compile (program)."""

from harness_stream.core.rules.compile import Program, from_bundle, inspect, load
from harness_stream.core.rules.parse import Condition, Correlation, Mistake, Rule, RuleSet, parse

__all__ = [
    "Condition",
    "Correlation",
    "Mistake",
    "Program",
    "Rule",
    "RuleSet",
    "from_bundle",
    "inspect",
    "load",
    "parse",
]
