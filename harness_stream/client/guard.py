"""Guarded functions: judged before they run, run once as approved, reported afterwards (DESIGN §10, V2, V4, V7).

Rule of this file: the function's body runs in exactly one place, inside `_reported`, after `Answer.start`; once the
approval is taken back, a coroutine is cancelled, and `revoked()` tells a plain function. What it returned goes to the
caller untouched, and into the outcome as fingerprints; what would run only afterwards is refused.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from harness_stream.client.binding import Binding, Call, Encoders, Places, Resources
from harness_stream.client.revocation import cancelling, current
from harness_stream.client.session import Ask, Measure, Measures, Session
from harness_stream.client.waiting import waited
from harness_stream.core import limits
from harness_stream.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from harness_stream.client.answer import Answer, Handlers
    from harness_stream.client.returned import Records

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Guarding:
    """How a function is guarded. Attributes: see `harness.Chain.guard`."""

    action: str
    roles: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = ()
    measures: Measures | Callable[[Mapping[str, Any]], Measures] | None = None
    labels: Iterable[str] = ()
    purpose: str = ""
    parent: tuple[str, str] | None = None
    deadline_ms: int = limits.DEADLINE_MS_DEFAULT
    min_revision: Mapping[str, int] | None = None
    wait_for_hold: bool = False
    obligations: Handlers = field(default_factory=dict)
    encode: Encoders | None = None
    records: Records | None = None


@dataclass(slots=True)
class _Run:
    """One approved run of a function.

    Attributes:
        args: positional arguments to run it with.
        kwargs: named ones.
        result: what it returned.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any = None


def guarded(session: Session, chain_id: str | None, how: Guarding, function: Callable[P, R]) -> Callable[P, R]:
    """`function`, run only when approved. A plain one stays plain and blocks its thread; an async one stays async.

    Raises:
        CallerError: `how` does not fit the function.
    """
    binding = Binding(function, how.encode)
    unknown = sorted(set(how.roles) - set(binding.names))
    if unknown:
        raise CallerError(f"`roles` names `{unknown[0]}`, which is no parameter of `{function.__name__}`")
    _check_measures(how)
    places = Places(how.resources, binding.names)

    def asked(call: Call) -> Future[Answer]:
        return session.ask(chain_id, how.action, _ask(how, places, call), call.digest)

    if _is_async(function):
        return cast("Callable[P, R]", _async(session, how, binding, asked, function))
    return _plain(session, how, binding, asked, function)


def _is_async(function: Callable[..., Any]) -> bool:
    """Does calling it give a coroutine? An object may say so by its class."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _require_ended(result: object, action: str) -> None:
    """Refuse what is still to run: it would begin after its approval was used up, and no kill could reach it.

    Raises:
        CallerError: the function gave a coroutine, a task or a generator; it is ended, as far as that can be.
    """
    late = inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)
    if not late:
        return
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()
    elif isinstance(result, asyncio.Future):
        result.cancel()
    raise CallerError(
        f"what was guarded for `{action}` gave a {type(result).__name__}, which would run later than it was approved",
        hint="guard the coroutine function itself, not what wraps it; of a generator, guard what each step does",
    )


def _check_measures(how: Guarding) -> None:
    """What could only fail in each call is refused before the first.

    Raises:
        CallerError: neither numbers by name nor a function that gives them.
    """
    if how.measures is None or callable(how.measures):
        return
    where = f"`measures` of `{how.action}`"
    named = how.measures if isinstance(how.measures, Mapping) else {}
    wrong = [f"`{name}` in {where} is {type(v).__name__}" for name, v in named.items() if not isinstance(v, Measure)]
    if wrong or named is not how.measures:
        raise CallerError(
            f"{wrong[0]}, not a number" if wrong else f"{where} is {type(how.measures).__name__}, not numbers by name",
            hint='write `measures={"rows": 10}`, or one function of all arguments: '
            '`measures=lambda given: {"bytes": len(given["body"])}`',
        )


def _async(
    session: Session,
    how: Guarding,
    binding: Binding,
    asked: Callable[[Call], Future[Answer]],
    function: Callable[P, Any],
) -> Callable[P, Any]:
    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> Any:  # noqa: ANN401  whatever the function returns
        call = binding.call(args, kwargs)
        answer = await asyncio.wrap_future(asked(call))
        with (
            _reported(session, how, answer, call) as approved,
            cancelling(answer.revoked, functools.partial(answer.taken_back, running=True)),
        ):
            approved.result = await function(*approved.args, **approved.kwargs)
            _require_ended(approved.result, how.action)
        return approved.result

    return run


def _plain(
    session: Session, how: Guarding, binding: Binding, asked: Callable[[Call], Future[Answer]], function: Callable[P, R]
) -> Callable[P, R]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        call = binding.call(args, kwargs)
        answer = waited(asked(call))
        with _reported(session, how, answer, call) as approved:
            approved.result = function(*approved.args, **approved.kwargs)
            _require_ended(approved.result, how.action)
        return cast("R", approved.result)

    return run


@contextmanager
def _reported(session: Session, how: Guarding, answer: Answer, call: Call) -> Iterator[_Run]:
    """Use the approval, let the body run, report how it ended and what values it returned."""
    try:
        approved = _Run(*call.run_with())
        answer.start()
    except BaseException as error:
        session.unused(answer, error)
        raise
    try:
        with current(answer.revoked):
            yield approved
    except Exception:
        session.post(answer, "unknown" if answer.revoked.reason else "failed")
        raise
    except BaseException:  # cancelled or interrupted: how far it came is not known
        session.post(answer, "unknown")
        raise
    about = {name: call.arguments[name] for name, role in how.roles.items() if role == "object"}
    session.post(answer, "done", session.read(approved.result, how.records, about))


def _ask(how: Guarding, places: Places, call: Call) -> Ask:
    ask = Ask(
        labels=how.labels,
        purpose=how.purpose,
        parent=how.parent,
        deadline_ms=how.deadline_ms,
        min_revision=how.min_revision,
        wait_for_hold=how.wait_for_hold,
        obligations=how.obligations,
        roles=how.roles,
        arguments=call.arguments,
    )
    measures = how.measures(call.arguments) if callable(how.measures) else how.measures
    return replace(ask, resources=places.of(call.arguments), measures=measures)
