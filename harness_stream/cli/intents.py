"""`harness intents send`: one intent by hand, through the client as a program would, and its verdict.

Rule of this file: it runs nothing, whatever the decision, and says so. What is approved here is approved for nobody
else. It reports no outcome by itself, so an approval counts as done (PROTOCOL §8); `--report` says how it ended.
"""

from __future__ import annotations

import json as json_format
import re
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast, get_args

import typer

from harness_stream.cli import failures
from harness_stream.cli.flags import takes
from harness_stream.core import limits
from harness_stream.core.reasons import Client
from harness_stream.errors import CallerError, Denied, HarnessError, Held, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_stream.client.blocking import HarnessSync
    from harness_stream.client.verdict import BlockingVerdict
    from harness_stream.config import Settings

EXIT: Final = {"approve": 0, "deny": Denied.exit_code, "hold": 6, "none": Unavailable.exit_code}
"""Exit code by what the answer was; `none`: no verdict by the deadline, or nobody could be reached."""

AT_A_TERMINAL: Final[Mapping[str, str]] = {
    Client.RULE: "change what the rule looks at, or ask its owner; "
    "`harness verdicts tail --from-beginning --no-follow` shows the intents that made it fire",
    Client.HOLD: "an approver has to answer: `harness holds list`, then `approve`; `harness verdicts tail` shows the "
    "answer, and only a program that waits for it can act on a yes",
}
"""What to do next, where the client's own hint says it for a program."""

A_MEASURE: Final = (
    f"a measure is finite and >= 0, in plain digits, with at most {limits.MEASURE_WHOLE_DIGITS_MAX} before the point "
    f"and {limits.MEASURE_DECIMALS_MAX} decimals: `--measure rows=10`, `--measure amount=12.5`"
)

Status = Literal["done", "failed", "unknown"]
"""What an agent may report of its own action. `abandoned` it may not (PROTOCOL §8): nobody could believe it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for."""

    action: str
    resources: tuple[str, ...]
    measures: Mapping[str, str | int]
    labels: tuple[str, ...]
    purpose: str
    deadline_ms: int
    chain: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """The answer, as far as there is one.

    Attributes:
        decision: approve, deny, hold, or none.
        reasons: the strongest first.
        hint: what to do next; may be empty.
        latency_ms: from asking to the answer, connecting left out.
        intent_id: by which the log and the chain know it, also if there was no answer.
        reported: status that was taken in as the outcome; None: none was.
        ran: whether the action was run: never, here.
    """

    decision: str
    reasons: tuple[Any, ...] = ()
    shadow: tuple[Any, ...] = ()
    obligations: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    message: str = ""
    latency_ms: float = 0.0
    intent_id: str = ""
    verdict_digest: str = ""
    verdict_offset: int | None = None
    hold_until: int | None = None
    reported: str | None = None
    ran: bool = False


class _ShownOnly(dict[str, "Callable[[Any], object]"]):
    """A handler for every obligation: a person is shown it, and no action follows that would need it."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Callable[[Any], object]:
        return lambda _value: None


@takes("bootstrap", "prefix", "realm", "dev")
def send(
    *,
    settings: Settings,
    action: Annotated[str, typer.Option(help="Dotted verb, `crm.read`.")],
    agent: Annotated[str | None, typer.Option(help="The agent that acts, in a `--dev` realm.")] = None,
    credentials: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Who acts and where, as `harness agents enroll` wrote it; or env:NAME, command:WORDS."
        ),
    ] = None,
    resource: Annotated[list[str] | None, typer.Option(metavar="URI", help="May be given again.")] = None,
    measure: Annotated[list[str] | None, typer.Option(metavar="NAME=NUMBER", help="`rows=10`; again for more.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Added to the table's labels; may be given again.")] = None,
    purpose: Annotated[str, typer.Option(help="One line for a person.")] = "",
    chain: Annotated[str | None, typer.Option(help="A chain that a mandate opened; default the agent's own.")] = None,
    workload: Annotated[str | None, typer.Option(help="Default: the first its identity row allows.")] = None,
    lane: Annotated[str | None, typer.Option(help="Default: as its identity row says.")] = None,
    deadline_ms: Annotated[
        int, typer.Option(min=1, max=limits.DEADLINE_MS_MAX, help="No verdict by then means no.")
    ] = limits.DEADLINE_MS_DEFAULT,
    report: Annotated[
        str | None, typer.Option(metavar="STATUS", help=f"If approved, report {', '.join(get_args(Status))}.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Publish one intent as this agent, wait for its verdict and show it. Nothing is run.

    In a signed realm the agent's credentials file says everything: realm, broker, agent, lane, workload and keys.

    Exit code: 0 approve, 5 deny, 6 hold, 3 no verdict by the deadline or nobody there. An outcome that was not taken
    in is an error that follows the answer: 5 refused, 3 nobody there.

    Example: harness intents send --agent support-1 --action crm.read --resource crm://customers/42 --dev

    Example: harness intents send --credentials support-1.json --action crm.read --resource crm://customers/42
    """
    wish = Wish(action, tuple(resource or ()), measures(measure or []), tuple(label or ()), purpose, deadline_ms, chain)
    if report not in {None, *get_args(Status)}:
        raise CallerError(f"`{report}` is no outcome of an agent", hint=f"one of {', '.join(get_args(Status))}")
    harness = _as_said(credentials, agent, lane, workload) if credentials else _as(settings, agent, lane, workload)
    with harness:
        told, unreported = answered(harness, wish, report)
    if json:
        failures.print_json(as_document(told, unreported))
    else:
        typer.echo(as_text(wish, told))
    if unreported is not None:
        failures.show(unreported)
        raise typer.Exit(unreported.exit_code)
    raise typer.Exit(EXIT[told.decision])


def measures(given: list[str]) -> dict[str, str | int]:
    """Measures from `NAME=NUMBER`; numbers with decimals stay text, which is exact.

    Raises:
        CallerError: one is malformed or named twice.
    """
    from harness_stream.core.scalars import DECIMAL_PATTERN  # noqa: PLC0415  slow to load, `--help` is not

    found: dict[str, str | int] = {}
    for text in given:
        name, equals, number = text.partition("=")
        if not (equals and name and number):
            raise CallerError(f"`--measure {text}` is not NAME=NUMBER", hint="write for example `--measure rows=10`")
        if re.fullmatch(DECIMAL_PATTERN, number) is None:
            raise CallerError(f"`--measure {text}`: `{number}` is no number that a measure can be", hint=A_MEASURE)
        if name in found:
            raise CallerError(f"`--measure {name}` is given twice", hint="keep one of them")
        found[name] = number if "." in number else int(number)
    return found


def _as_said(credentials: str, agent: str | None, lane: str | None, workload: str | None) -> HarnessSync:
    """As the file says, but for what the command line names."""
    from harness_stream.client.blocking import HarnessSync  # noqa: PLC0415  slow to load, `--help` is not

    return HarnessSync.connect(credentials, agent=agent, lane=lane, workload=workload)


def _as(settings: Settings, agent: str | None, lane: str | None, workload: str | None) -> HarnessSync:
    """As an agent of an unsigned realm."""
    from harness_stream.client.blocking import HarnessSync  # noqa: PLC0415  slow to load, `--help` is not

    if agent is None or not settings.dev:
        raise CallerError(
            "it is not said who acts" if agent is None else f"an intent of `{agent}` has to be signed with its keys",
            hint="--credentials FILE, which `harness agents enroll` wrote; an unsigned realm needs --agent and --dev",
        )
    lane, workload = _home(settings, agent, lane, workload)
    return HarnessSync.connect(
        agent=agent,
        lane=lane,
        workload=workload,
        realm=settings.realm,
        bootstrap=settings.bootstrap,
        prefix=settings.prefix,
        dev=settings.dev,
    )


def _home(settings: Settings, agent: str, lane: str | None, workload: str | None) -> tuple[str | None, str | None]:
    """Lane and workload, as the identity table knows them where nothing was said."""
    if lane is not None and workload is not None:
        return lane, workload
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.cli.chain import identity_of  # noqa: PLC0415  same

    with closing(KafkaReader(settings.kafka)) as reader:
        row, known = identity_of(settings, reader, agent)
    allowed = row.workloads if row is not None else ()
    return lane or known, workload or next(iter(allowed), None)


def answered(harness: HarnessSync, wish: Wish, report: str | None) -> tuple[Told, HarnessError | None]:
    """Ask, and report the outcome if that was asked for.

    Returns:
        The answer, and why the outcome was not taken in.
    """
    began_s = time.monotonic()
    try:
        verdict = harness.chain(chain_id=wish.chain).decide(
            wish.action,
            wish.resources,
            measures=wish.measures,
            labels=wish.labels,
            purpose=wish.purpose,
            deadline_ms=wish.deadline_ms,
            obligations=_ShownOnly(),
        )
    except (Denied, Held, Unavailable) as error:
        return _refused(error, _ms_since(began_s)), None
    latency_ms = _ms_since(began_s)
    unreported = _not_reported(verdict, report)
    told = Told(
        decision=verdict.decision,
        reasons=_plain(verdict.reasons),
        shadow=_plain(verdict.shadow),
        obligations=dict(verdict.obligations),
        latency_ms=latency_ms,
        intent_id=verdict.intent_id,
        verdict_digest=verdict.digest,
        verdict_offset=verdict.offset,
        reported=None if unreported else report,
    )
    return told, unreported


def _not_reported(verdict: BlockingVerdict, status: str | None) -> HarnessError | None:
    """Why the outcome was not taken in; None if it was, or if there is none to report."""
    if status is None:
        return None
    try:
        verdict.start()
        verdict.report(cast("Status", status))
    except HarnessError as error:
        return error
    return None


def _refused(error: HarnessError, latency_ms: float) -> Told:
    """What was not a yes."""
    answer = getattr(error, "verdict", None)
    decision = "hold" if isinstance(error, Held) else "deny" if isinstance(error, Denied) else "none"
    reasons = _plain(getattr(error, "reasons", ()))
    told = Told(decision, reasons, (), {}, _next(error), error.message, latency_ms, error.intent_id)
    if answer is None:
        return told
    return replace(
        told,
        shadow=_plain(answer.shadow),
        obligations=dict(answer.obligations),
        verdict_digest=answer.digest,
        verdict_offset=answer.offset,
        hold_until=answer.hold_until,
    )


def _next(error: HarnessError) -> str:
    """The error's hint, or what a person does instead."""
    hinted = (reason.code for reason in getattr(error, "reasons", ()) if reason.hint == error.hint)
    code = Client.HOLD if isinstance(error, Held) else next(hinted, "")
    return AT_A_TERMINAL.get(code, error.hint)


def _ms_since(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1000, 1)


def _plain(reasons: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    return tuple(reason._asdict() for reason in reasons)


def as_document(told: Told, unreported: HarnessError | None) -> dict[str, Any]:
    """The answer for a program; `unreported`: why the outcome was not taken in, None if nothing is wrong with it."""
    return {**asdict(told), "unreported": None if unreported is None else failures.told(unreported)}


def as_text(wish: Wish, told: Told) -> str:
    """The answer for a terminal."""
    from harness_stream.cli.verdicts import decision_text, reason_text  # noqa: PLC0415  only text needs it

    word = "no verdict" if told.decision == "none" else told.decision
    lines = [f"{decision_text(word)} {wish.action}  {told.latency_ms:g} ms"]
    lines += [f"  {reason_text(reason)}{_evidence(reason)}" for reason in told.reasons]
    lines += [f"  shadow: {reason_text(reason)}" for reason in told.shadow]
    lines += [f"  obligation: {name} = {json_format.dumps(value)}" for name, value in told.obligations.items()]
    if told.message and not told.reasons:
        lines.append(f"  {told.message}")
    if told.decision == "hold":
        lines.append(f"  an approver names {told.verdict_digest} at offset {told.verdict_offset}")
    lines.append(f"  {_consequence(told)}")
    if told.intent_id:
        lines.append(f"  intent {told.intent_id}")
    return "\n".join([*lines, f"→ {told.hint}"] if told.hint else lines)


def _consequence(told: Told) -> str:
    """What follows from the answer."""
    if told.decision != "approve":
        return "nothing was run"
    outcome = f"reported: {told.reported}" if told.reported else "it counts as done, as no outcome was reported"
    duties = ", ".join(f"`{name}`" for name in told.obligations)
    duty = f"; whoever acts has to fulfil {duties}" if duties else ""
    return f"nothing was run; {outcome}{duty}"


def _evidence(reason: Mapping[str, Any]) -> str:
    return f", after {', '.join(reason['evidence'])}" if reason.get("evidence") else ""
