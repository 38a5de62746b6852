"""Combining what the rules said: deny over hold over approve; an error denies; order never matters (DESIGN §6)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Reason = Mapping[str, Any]


def combine(findings: Sequence[Reason]) -> tuple[str, tuple[dict[str, Any], ...]]:
    """The decision and the reasons that made it, sorted by rule id.

    Args:
        findings: reasons of enforced rules that fired (`code` rule) or failed (any other code).
    """
    said: dict[str, list[Reason]] = {"deny": [], "hold": [], "approve": []}
    for finding in findings:
        said[finding["effect"] if finding["code"] == "rule" else "deny"].append(finding)
    for decision, found in said.items():
        if found:
            return decision, tuple([dict(f) for f in sorted(found, key=_rule_of)])
    return "deny", ()


def _rule_of(finding: Reason) -> str:
    return str(finding["rule"])


def merge_obligations(all_of: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One set that fulfils all: the smaller number, the union of lists, else the first by its JSON text."""
    merged: dict[str, Any] = {}
    for obligations in all_of:
        for name, value in obligations.items():
            plain = list(value) if isinstance(value, tuple) else value  # as the log gives it back
            merged[name] = _stricter(merged[name], plain) if name in merged else plain
    return dict(sorted(merged.items()))


def _stricter(a: Any, b: Any) -> Any:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    if numbers:
        return min(a, b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return sorted({*a, *b}, key=repr)
    return min(a, b, key=lambda x: json.dumps(x, sort_keys=True, default=str))
