"""A rule text, or its bundle, as a `Program`.

Rule: what is loaded is named by the SHA-256 of its canonical bytes, and those bytes alone make the same program again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core.rules.check import check
from harness_stream.core.rules.language import TEXT_BYTES_MAX, TIMESPAN_MS_MAX, Scalar
from harness_stream.core.rules.mistakes import ERROR, Findings, Mistake
from harness_stream.core.rules.parse import Correlation, Draft, Rule, RuleSet, read, read_bundle
from harness_stream.core.rules.program import Judged, Program, Selected
from harness_stream.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Judged", "Program", "Selected", "from_bundle", "inspect", "load"]

_SECOND_MS: Final = 1_000


def inspect(
    text: str,
    file: str = "<rules>",
    overrides: Mapping[str, Scalar] | None = None,
    *,
    timespan_ms_max: int = TIMESPAN_MS_MAX,
) -> tuple[Program | None, tuple[Mistake, ...]]:
    """Loads a rule text and reports everything found, warnings too. Never raises for any text.

    Returns:
        The program, or None if any finding is an error; and all findings in the order of the text.
    """
    findings = Findings(text, file)
    program = _program(read(text, findings, overrides or {}), timespan_ms_max)
    return program, findings.all()


def load(
    text: str,
    file: str = "<rules>",
    overrides: Mapping[str, Scalar] | None = None,
    *,
    timespan_ms_max: int = TIMESPAN_MS_MAX,
) -> Program:
    """Loads a rule text.

    Args:
        text: YAML (DESIGN §6), at most 256 KiB.
        file: name used in mistakes.
        overrides: parameters to set instead of the text's values.
        timespan_ms_max: `topics.max_timespan`.

    Raises:
        InvalidInput: with every `Mistake` in `mistakes`.
    """
    program, mistakes = inspect(text, file, overrides, timespan_ms_max=timespan_ms_max)
    if program is None:
        raise _invalid(file, mistakes)
    return program


def from_bundle(bundle: bytes, *, timespan_ms_max: int = TIMESPAN_MS_MAX) -> Program:
    """Compiles the bytes of `Program.bundle` again; the digest is the same.

    Raises:
        InvalidInput: the bytes are no bundle, or not in canonical form.
    """
    name = "<bundle>"
    findings = Findings("", name)
    program = _program(read_bundle(bundle, findings), timespan_ms_max)
    if program is None:
        raise _invalid(name, findings.all(), lines=False)
    if program.bundle != bundle:
        raise InvalidInput(f"{name}: not in canonical form", hint="make bundles with `harness rules push`")
    return program


def _program(draft: Draft | None, timespan_ms_max: int) -> Program | None:
    checked = check(draft, timespan_ms_max=timespan_ms_max) if draft else None
    if draft is None or checked is None:
        return None
    bundle = _canonical(draft.rule_set)
    if len(bundle) > TEXT_BYTES_MAX:
        draft.findings.at(1, 1, f"the bundle would have {len(bundle):,} bytes", "split the rule set")
        return None
    return Program(draft, checked, bundle)


def _invalid(file: str, mistakes: tuple[Mistake, ...], *, lines: bool = True) -> InvalidInput:
    errors = [mistake for mistake in mistakes if mistake.severity == ERROR]
    first = errors[0]
    counted = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
    place = f", the first on line {first.line}" if lines else ", the first" if len(errors) > 1 else ""
    message = f"{file}: {counted}{place}: {first.message}"
    return InvalidInput(message, hint=first.fix, mistakes=mistakes)


# --- The bundle -------------------------------------------------------------------------------------------------------


def _canonical(rule_set: RuleSet) -> bytes:
    """The rule set in the keys of its own text, resolved and complete, as canonical bytes."""
    document = {
        "rule_set": rule_set.name,
        "default": rule_set.default,
        "params": dict(rule_set.params),
        "selections": dict(rule_set.selections),
        "rules": [_rule(rule) for rule in rule_set.rules],
    }
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _rule(rule: Rule) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": rule.id,
        "effect": rule.effect,
        "when": rule.when,
        "mode": rule.mode,
        "because": rule.because,
        "severity": rule.severity,
    }
    if rule.obligations:
        plain["obligations"] = dict(rule.obligations)
    if rule.correlation:
        plain["correlation"] = _window(rule.correlation)
    return plain


def _window(window: Correlation) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "type": window.type,
        "rules": list(window.selections),
        "group-by": list(window.group_by),
        "timespan": f"{window.timespan_ms // _SECOND_MS}s",
    }
    if window.include_attempts:
        plain["include"] = "attempts"
    if window.condition:
        field = {"field": window.condition.field} if window.condition.field else {}
        plain["condition"] = {window.condition.op: window.condition.threshold} | field
    return plain
