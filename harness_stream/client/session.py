"""One agent's speech: builds its events, asks its enforcer, reports its outcomes. Shared by asyncio and blocking form.

Rule of this file: an event that breaks the schema raises before anything is published; nothing here waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from harness_stream.client.enforcer import Enforcer
from harness_stream.client.fingerprints import Seal, arguments_of
from harness_stream.client.ids import Ids
from harness_stream.client.misuse import MISUSES, alarm, unpublished, watch
from harness_stream.client.request import Kind, Request
from harness_stream.client.returned import Records, Returned, returned
from harness_stream.client.signed_mandate import read_mandate, require_fit
from harness_stream.core import limits
from harness_stream.core.canonical import arguments_digest
from harness_stream.core.model import Intent, Mandate, Outcome
from harness_stream.core.reasons import Misuse
from harness_stream.core.refusals import refusals
from harness_stream.errors import CallerError, GarbageRecord, HarnessError, InvalidInput
from harness_stream.wire.cloudevents import envelope, source_of
from harness_stream.wire.codec import decode_input, encode

if TYPE_CHECKING:
    from concurrent.futures import Future

    from harness_stream.client.answer import Answer, Handlers
    from harness_stream.client.credentials import Credentials
    from harness_stream.client.signed_mandate import Said
    from harness_stream.client.wiring import Wiring
    from harness_stream.errors import Expired, Misused
    from harness_stream.ports import Headers

M = TypeVar("M", bound=BaseModel)
Measure = int | float | str | Decimal
Measures = Mapping[str, Measure]
Status = Literal["done", "failed", "abandoned", "unknown"]
MandateSource = str | Path | bytes | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of one action, besides its name. Attributes: see `harness.Chain.decide`."""

    resources: Iterable[str] = ()
    measures: Measures | None = None
    arguments: Mapping[str, Any] | None = None
    roles: Mapping[str, str] | None = None
    labels: Iterable[str] = ()
    purpose: str = ""
    parent: tuple[str, str] | None = None
    deadline_ms: int = limits.DEADLINE_MS_DEFAULT
    min_revision: Mapping[str, int] | None = None
    wait_for_hold: bool = False
    obligations: Handlers = field(default_factory=dict)


class Session:
    """Speaks for one agent in one process.

    Args:
        credentials: who.
        wiring: to which log; closed with the session.
    """

    def __init__(self, credentials: Credentials, wiring: Wiring) -> None:
        self.credentials = credentials
        # An agent that says of itself that it never started is refused (PROTOCOL §8), so then nothing is said.
        self._releases = credentials.reporter() != credentials.agent_id
        self.enforcer = Enforcer(wiring, self._abandoned if self._releases else None, self._bypass)
        self._clock, self._signer, self._tokens = wiring.clock, wiring.signer, wiring.tokens
        self._realm, self._wired = wiring.realm.name, wiring.realm
        self._ids = Ids(wiring.clock)
        self._value_key = credentials.value_key()
        self._seal = None if self._value_key is None else Seal(self._value_key)

    def ask(self, chain_id: str | None, action: str, ask: Ask, digest: str | None = None) -> Future[Answer]:
        """Publish an intent; the future gives its approval or raises.

        Args:
            chain_id: None is the agent's own chain.
            action: dotted verb.
            ask: everything else.
            digest: of the arguments, if the caller has serialised them already.

        Raises:
            InvalidInput: the intent breaks the schema or a limit.
            CallerError: a role names no argument.
            TypeError: an argument is not JSON.
            Overloaded, Unreachable, CallerError: as `Enforcer.submit`.
        """
        arguments = dict(ask.arguments or {})
        digest = arguments_digest(arguments) if digest is None else digest
        used, unparsed = arguments_of(arguments, ask.roles or {}, self._seal)
        fields = {
            **self._common(self.credentials.agent_id),
            "intent_id": self._ids.new(),
            "workload_id": self.credentials.place(),
            "chain_id": chain_id,
            "parent": None if ask.parent is None else dict(zip(("agent_id", "intent_id"), ask.parent, strict=True)),
            "action": action,
            "resources": list(ask.resources),
            "arguments": used,
            "unparsed": unparsed,
            "arguments_digest": digest,
            "measures": _measures(ask.measures),
            "labels": list(ask.labels),
            "purpose": ask.purpose,
            "deadline_ms": ask.deadline_ms,
            "min_revision": dict(ask.min_revision or {}),
            "enforcer_nonce": self.enforcer.nonce,
        }
        intent = _model(Intent, fields, f"intent `{action}`")
        return self.enforcer.submit(
            Request(
                kind="intent",
                id=intent.intent_id,
                agent_id=intent.agent_id,
                lane=self.credentials.home(),
                value=_sized(encode(intent), f"intent `{action}`"),
                headers=self._headers("intent", intent.intent_id),
                deadline_ms=intent.deadline_ms,
                subject=f"`{action}`",
                arguments_digest=digest,
                wait_for_hold=ask.wait_for_hold,
                handlers=ask.obligations,
                nonrepudiable=self.credentials.signs(action),
            )
        )

    def declare(self, source: MandateSource, *, close: bool = False) -> tuple[str, Future[None]]:
        """Publish a mandate: as its orchestrator signed it, its bytes, or its fields with their `goal` as fingerprints.

        Args:
            source: the mandate.
            close: it must be one that ends its chain; else it must open one.

        Returns:
            The chain it opens or ends, and a future that is done when it was taken in.

        Raises:
            InvalidInput: it is no mandate for this agent.
            Overloaded, Unreachable, CallerError: as `Enforcer.submit`.
        """
        said = read_mandate(source, self._value_key)
        try:
            mandate = decode_input(said.value)
        except GarbageRecord as error:
            raise InvalidInput(f"the mandate cannot be used: {error}", mistakes=(str(error),)) from None
        if not isinstance(mandate, Mandate) or mandate.agent_id != self.credentials.agent_id:
            raise InvalidInput(f"this is no mandate for agent `{self.credentials.agent_id}`")
        if mandate.close != close:
            word, other = ("ends", "end_chain") if mandate.close else ("opens", "chain")
            hint = f"`harness.{other}(mandate=…)` publishes it"
            raise InvalidInput(f"this mandate {word} its chain; nothing was published", hint=hint)
        self._require_vouched(said, mandate)
        subject = f"the mandate of chain `{mandate.chain_id}`"
        request = self._request("mandate", mandate.mandate_id, said.value, subject, mandate.by)
        return mandate.chain_id, self.enforcer.submit(replace(request, seal=said.seal))

    def _require_vouched(self, said: Said, mandate: Mandate) -> None:
        if said.seal is None and not self._signer.speaks_for(mandate.by):
            raise CallerError(
                f"the mandate is by `{mandate.by}`, and this process has no keys of it; nothing was published",
                hint=f"have `{mandate.by}` sign it: `harness mandates sign`; its keys stay where they are",
            )
        if said.seal is not None and self.credentials.dev:
            raise InvalidInput(
                "the mandate is signed, and this realm is unsigned; nothing was published",
                hint="`harness mandates sign --dev` writes one for an unsigned realm",
            )
        require_fit(said, self._wired, self.credentials.home())

    def read(self, result: object, make: Records | None = None, about: Mapping[str, Any] | None = None) -> Returned:
        """What an outcome says of a result; see `client.returned.returned`."""
        return returned(result, self._seal, make, about)

    def report(
        self, answer: Answer, status: Status, measures: Measures | None = None, found: Returned | None = None
    ) -> Future[None]:
        """Publish an outcome; the future is done when it was taken in.

        Raises:
            InvalidInput: status or measures break the schema.
            CallerError: `abandoned`, and the credentials name no `enforcer`.
            Overloaded, Unreachable, CallerError: as `Enforcer.submit`.
        """
        if status == "abandoned" and not self._releases:
            raise CallerError(
                "nobody believes an agent that its approved action never started; nothing was published",
                hint="name an identity with role `enforcer` in the credentials; without one it counts as done",
            )
        return self.enforcer.submit(self._outcome_of(answer, status, measures, found))

    def token(self, answer: Answer, audience: str, valid_s: float | None = None) -> str:
        """Use an approval by handing it to an executor elsewhere; see `Verdict.token`."""
        try:
            answer.require_own_process()
            return self._token(answer, audience, valid_s)
        except MISUSES as error:
            self.misused(answer, error)
            raise

    def _token(self, answer: Answer, audience: str, valid_s: float | None) -> str:
        if self._tokens is None or not self._tokens.counts_at(self._clock.now_ms()):
            raise _no_tokens(self.credentials)
        if not 0 < len(audience) <= limits.IDENTIFIER_CHARS_MAX:
            raise CallerError(f"`audience` names the executor in 1 to {limits.IDENTIFIER_CHARS_MAX} characters")
        asked_ms = limits.TOKEN_MS_MAX if valid_s is None else int(valid_s * 1_000)
        if not 0 < asked_ms <= limits.TOKEN_MS_MAX:
            raise CallerError(f"a token is valid for up to {limits.TOKEN_MS_MAX // 1_000} s, and this is {valid_s}")
        left_ms = min(asked_ms, answer.hand_over())
        return self._tokens.seal_token(answer.record, audience, self._clock.now_ms() + left_ms)

    def post(self, answer: Answer, status: Status, found: Returned | None = None) -> None:
        """Publish an outcome if possible. One that gets lost counts as done, which is safe, so nothing is raised."""
        try:
            self.report(answer, status, found=found)
        except HarnessError:
            return

    def unused(self, answer: Answer, error: BaseException) -> None:
        """Say of an approval whose action did not begin that it never will; raises nothing."""
        self.post(answer, "abandoned")
        if isinstance(error, MISUSES):
            self.misused(answer, error)

    def misused(self, answer: Answer, error: Misused | Expired) -> None:
        """Tell who watches that an approval was to be used in another way than it was given; raises nothing.

        Of an approval once in each process. A forked one cannot publish: the one that asked does it.
        """
        if not answer.first_misuse():
            return
        what = f"intent {answer.intent_id} of `{self.credentials.agent_id}`: {error.message}"
        alarm(what)
        if answer.foreign:
            if not self.enforcer.tell_parent(answer.digest):
                unpublished(what)
            return
        try:
            watch(self.enforcer.submit(self._bypass(answer.digest, error.how), reserved=True), what)
        except HarnessError:
            unpublished(what)

    def _bypass(self, digest: str, how: str = Misuse.ELSEWHERE) -> Request:
        """The log's word for a misuse (PROTOCOL §8): an outcome of an intent that nobody asked for, a security event.

        So a fresh id that was never an intent is reported as `abandoned`, with the misused verdict's digest; the
        approved intent keeps the outcome it has.
        """
        return self._outcome(self._ids.new(), digest, "abandoned", {"misused": how})

    def _abandoned(self, request: Request, answer: Answer) -> Request:  # noqa: ARG002  the enforcer's signature
        return self._outcome_of(answer, "abandoned")

    def _outcome_of(
        self, answer: Answer, status: Status, measures: Measures | None = None, found: Returned | None = None
    ) -> Request:
        what = found or Returned()
        more = {
            "measures": _measures(measures),
            "records": what.records,
            "overflow": what.overflow,
            "truncated": what.truncated,
            "revoked": answer.revoked.reason,
        }
        return self._outcome(answer.intent_id, answer.digest, status, more)

    def _outcome(self, intent_id: str, digest: str, status: Status, more: Mapping[str, Any]) -> Request:
        fields = {
            **self._common(self.credentials.reporter()),
            "outcome_id": self._ids.new(),
            "intent_id": intent_id,
            "verdict_digest": digest,
            "status": status,
            **more,
        }
        outcome = _model(Outcome, fields, "outcome")
        return self._request("outcome", outcome.outcome_id, encode(outcome), f"the outcome `{status}`", outcome.by)

    def _request(self, kind: Kind, own_id: str, value: bytes, subject: str, by: str) -> Request:
        return Request(
            kind=kind,
            id=own_id,
            agent_id=self.credentials.agent_id,
            lane=self.credentials.home(),
            value=_sized(value, subject),
            headers=self._headers(kind, own_id),
            deadline_ms=limits.DEADLINE_MS_DEFAULT,
            subject=subject,
            by=by,
        )

    def _common(self, by: str) -> dict[str, Any]:
        self.enforcer.require_own_process()
        return {"v": 1, "realm": self._realm, "by": by, "agent_id": self.credentials.agent_id}

    def _headers(self, kind: Kind, own_id: str) -> Headers:
        source = source_of(self._realm, self.credentials.agent_id)
        return envelope(event_id=own_id, source=source, event_type=kind, time_ms=self._clock.now_ms())


def _no_tokens(credentials: Credentials) -> CallerError:
    """Why this process cannot sign any, and what to do."""
    if credentials.dev:
        return CallerError(
            "there are no tokens in an unsigned realm (`dev`): nobody could believe one",
            hint="make keys (`harness keys init`), and connect with the file that `harness agents enroll` writes",
        )
    return CallerError(
        "a token is signed by an identity with role `enforcer`, and the credentials have no keys of one that are "
        "certified for the realm's log topics as they are now, and for today",
        hint="`harness agents enroll NAME --role enforcer` makes its file: name it as `enforcer` in these credentials, "
        "and put its `keys` under that name into `others`",
    )


def _measures(measures: Measures | None) -> dict[str, Any]:
    return {name: _measure(value) for name, value in (measures or {}).items()}


def _measure(value: Measure) -> int | str:
    """Numbers that are not integers travel as decimal text, because 0.1 is not 0.1 in binary."""
    if not isinstance(value, float | Decimal):
        return value
    text = format(Decimal(repr(value)) if isinstance(value, float) else value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _model(model: type[M], fields: Mapping[str, Any], what: str) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        mistakes = tuple(map(str, refusals(error)))
        raise InvalidInput(f"{what}: {mistakes[0]}; nothing was published", mistakes=mistakes) from None


def _sized(value: bytes, what: str) -> bytes:
    if len(value) > limits.INTENT_BYTES_MAX:
        raise InvalidInput(
            f"{what} has {len(value):,} bytes, at most {limits.INTENT_BYTES_MAX:,}; nothing was published"
        )
    return value
