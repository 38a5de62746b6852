"""`harness holds list | show | approve | deny`: what waits for a person, all that is known of it, and the answer.

Rule of this file: holds come from the decision log, so they are right without Redis; only where values come from is
read from there, and said to be unknown without it. An answer is told by what the log made of it, not by what was sent.
"""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness_stream.cli import failures
from harness_stream.cli.as_said import CredentialsFile, Speaker, reader_of, speaker_of
from harness_stream.cli.flags import takes
from harness_stream.errors import (
    CallerError,
    Denied,
    HarnessError,
    ProtocolError,
    StateUnavailable,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from harness_stream.cli.holds_answer import Became, Voice
    from harness_stream.cli.holds_read import Book, Found, HoldsSource
    from harness_stream.cli.holds_shown import Whole
    from harness_stream.config import Settings
    from harness_stream.ports import StateStore
    from harness_stream.runtime.hold_view import HoldView
    from harness_stream.runtime.table_load import TableView

EXIT_DENIED: Final = Denied.exit_code
EXIT_HELD: Final = 6
EXIT_TOO_LATE: Final = 7
APPROVER: Final = "approver"

NAME: Final = "PARTITION/OFFSET as the list has it, or how the hold's id or its intent's id begins."

Named = Annotated[str, typer.Argument(metavar="HOLD", help=NAME)]
Approver = Annotated[str | None, typer.Option(metavar="APPROVER", help="Who answers, in a `--dev` realm.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; one line, it stays in the log.")]
Unasked = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
AsObject = Annotated[bool, typer.Option("--json", help="Print one JSON object; needs --yes.")]


class TooLate(HarnessError):  # noqa: N818  reads as what it is
    """The hold was answered before, or has expired."""

    exit_code = EXIT_TOO_LATE


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for.

    Attributes:
        decision: approve or deny.
        by: identity that answers.
        declassify: labels that the chain shall lose.
        values_of: arguments whose values shall be known to the chain.
    """

    decision: str
    by: str
    reason: str
    declassify: tuple[str, ...] = ()
    values_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Realm:
    """A realm that holds are read from, and how to reach what only some commands need.

    Attributes:
        name: as inputs name it.
        partitions: P.
        voice: opens what an answer is written by.
        store: opens the workers' state store.
    """

    name: str
    source: HoldsSource
    partitions: int
    voice: Callable[[], AbstractContextManager[Voice]]
    store: Callable[[], AbstractContextManager[StateStore]]

    def identities(self) -> TableView:
        """The identity table as of now (raises BrokerUnavailable)."""
        import time  # noqa: PLC0415  only commands wait by sleeping

        from harness_stream.runtime.table_load import read_tables  # noqa: PLC0415  slow to load, `--help` is not

        topics = {"identity": self.source.topics.identity}
        source = self.source
        return read_tables(source.reader, topics, source.clock, lambda ms: time.sleep(ms / 1000))["identity"]


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def listed(
    *,
    settings: Settings,
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    lane: Annotated[str | None, typer.Option(help="Only this lane's.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition's.")] = None,
    credentials: CredentialsFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the intents that wait for a person, the longest waiting first.

    Holds are found by folding the last quarter of an hour of the decision log
    to its end; Redis is not asked. A hold that nobody answers within 15
    minutes is denied.

    Example: harness holds list

    Example: harness holds list --lane acme --json
    """
    from harness_stream.cli.holds_shown import hold_json, list_text, sources_json  # noqa: PLC0415  slow to load, `--help` is not

    with _realm(reader_of(settings, credentials)) as realm:
        books = [_book(realm, number) for number in _numbers(realm, agent, lane, partition)]
        clock = realm.source.clock
        now = {book.partition: book.now(clock) for book in books}
    found = [f for f in _open(books, now) if _wanted(f, agent, lane)]
    if json:
        holds = [hold_json(f, now[f.book.partition]) for f in found]
        failures.print_json({"holds": holds, **sources_json(books)})
    else:
        typer.echo(list_text(found, books, now))


@takes("bootstrap", "prefix", "realm", "redis_url", "dev", "keys")
def show(
    *,
    settings: Settings,
    hold: Named,
    credentials: CredentialsFile = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show all that is known of one hold: what is wanted, by which facts and rules, after what, and from where.

    Evidence is what the rules that ask name: earlier actions, which may be
    another agent's of the same lane. The origin of values and of the chain's
    labels is what an answer would be decided on now; it comes from Redis, and
    without Redis the rest is shown.

    Exit code 1: no such hold in the last 76 minutes.

    Example: harness holds show 0/1234

    Example: harness holds show 3f9a1c --json
    """
    from harness_stream.cli.holds_shown import whole_json, whole_text  # noqa: PLC0415  slow to load, `--help` is not

    with _realm(reader_of(settings, credentials)) as realm:
        whole = _whole(realm, hold)
    if json:
        failures.print_json(whole_json(whole))
    else:
        typer.echo(whole_text(whole))


@takes("bootstrap", "prefix", "realm", "dev")
def approve(
    *,
    settings: Settings,
    hold: Named,
    reason: Reason,
    credentials: CredentialsFile = None,
    by: Approver = None,
    declassify: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Taken off the chain, if approved; may be given again.")
    ] = None,
    value_of: Annotated[
        list[str] | None,
        typer.Option(metavar="ARGUMENT", help="Its values are known to the chain from then on; again for more."),
    ] = None,
    yes: Unasked = False,
    json: AsObject = False,
) -> None:
    """Approve a hold. It is decided again on what the chain is now; only the rules that asked are satisfied.

    The approver is an active identity with role `approver`, and neither the
    agent, nor its owner, nor who speaks for it, nor whom it acts for. The
    action runs only in the process that asked and still waits. In a signed
    realm the approver's credentials file says who answers, and where.

    With `--value-of` the same question is not asked again: in this chain, and
    for what this action does, the argument's values count as if the user had
    named them.

    Exit code: 0 approved; 5 denied, the chain, facts or rules are not what
    they were; 6 held again, another rule asks; 7 too late, it expired or was
    answered before; 2 not allowed; 1 no such hold; 3 no worker answered
    within 15 s, the answer still counts when one comes.

    Example: harness holds approve 0/1234 --credentials grace.json --reason "quarterly report"

    Example: harness holds approve 3f9a1c --credentials grace.json --reason "our supplier" --value-of iban

    Example: harness holds approve 3f9a1c --by grace --reason "reviewed" --declassify pii --yes --json --dev
    """
    speaker = speaker_of(settings, credentials, by, APPROVER)
    wish = Wish("approve", speaker.by, reason, tuple(declassify or ()), tuple(value_of or ()))
    _answer(speaker, hold, wish, yes=yes, json=json)


@takes("bootstrap", "prefix", "realm", "dev")
def deny(
    *,
    settings: Settings,
    hold: Named,
    reason: Reason,
    credentials: CredentialsFile = None,
    by: Approver = None,
    yes: Unasked = False,
    json: AsObject = False,
) -> None:
    """Deny a hold. That is final: the agent needs a new intent.

    Exit code: 0 denied; 7 too late, it expired or was answered before; 2 not
    allowed; 1 no such hold; 3 no worker answered within 15 s.

    Example: harness holds deny 0/1234 --credentials grace.json --reason "not this customer"
    """
    speaker = speaker_of(settings, credentials, by, APPROVER)
    _answer(speaker, hold, Wish("deny", speaker.by, reason), yes=yes, json=json)


# --- Reading ---


@contextmanager
def _realm(speaker: Speaker) -> Iterator[Realm]:
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka import admin  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.cli.holds_read import HoldsSource  # noqa: PLC0415  same
    from harness_stream.cli.replay_output import Progress  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    speaker.require_root()
    settings = speaker.settings
    topics = Topics(settings.prefix)
    read = [topics.intents, topics.verdicts, topics.heads, topics.identity]
    admin.require_topics(settings.kafka, read)
    incarnation = admin.incarnation(settings)
    with closing(KafkaReader(settings.kafka, topics=read)) as reader, closing(Progress()) as progress:
        source = HoldsSource(
            reader,
            topics,
            incarnation,
            speaker.verifier(incarnation),
            SystemClock(),
            lambda number, at_ms: admin.offsets_at(settings, topics.verdicts, [number], at_ms)[number],
            lambda done, of: progress.show(done, "records of the decision log", done / max(of, 1)),
        )
        count = admin.partitions(settings, topics.verdicts)
        store = partial(_store, settings, incarnation)
        yield Realm(settings.realm, source, count, partial(_voice, speaker, incarnation), store)


@contextmanager
def _voice(speaker: Speaker, incarnation: str) -> Iterator[Voice]:
    from harness_stream.adapters.kafka.log import KafkaWriter  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.cli.holds_answer import Voice  # noqa: PLC0415  same

    with closing(KafkaWriter(speaker.settings.kafka)) as writer:
        yield Voice(writer, speaker.signer(incarnation), speaker.settings.realm)


@contextmanager
def _store(settings: Settings, incarnation: str) -> Iterator[StateStore]:
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.redis.keys import Whose  # noqa: PLC0415  same
    from harness_stream.adapters.redis.state import RedisStateStore  # noqa: PLC0415  same
    from harness_stream.cli.chain import STORE_MS_MAX  # noqa: PLC0415  same

    whose = Whose.of(settings, incarnation)
    with closing(RedisStateStore(settings.redis, whose, SystemClock(), timeout_ms=STORE_MS_MAX)) as store:
        yield store


def _numbers(realm: Realm, agent: str | None, lane: str | None, partition: int | None) -> list[int]:
    """The partitions to look at."""
    from harness_stream.core.lanes import partition_of  # noqa: PLC0415  slow to load, `--help` is not

    count = realm.partitions
    if partition is not None and partition >= count:
        raise CallerError(f"there is no partition {partition}", hint=f"this realm has 0 to {count - 1}")
    lanes = [] if lane is None else [lane]
    if agent is not None:
        lanes.append(_lane_of(realm, agent))
    chosen = set(range(count)) if partition is None else {partition}
    return sorted(chosen.intersection(*({partition_of(each, count)} for each in lanes)))


def _lane_of(realm: Realm, agent: str) -> str:
    lane = realm.identities().lanes.get(agent)
    if lane is None:
        raise HarnessError(f"there is no agent `{agent}`", hint="`harness tables get identity` lists those there are")
    return lane


def _book(realm: Realm, number: int) -> Book:
    """One partition's holds; a list that leaves one out would look complete, so its error says how to go around it."""
    from harness_stream.cli.holds_read import read_book  # noqa: PLC0415  slow to load, `--help` is not

    try:
        return read_book(realm.source, number)
    except ProtocolError as error:
        raise ProtocolError(error.message, hint=f"{error.hint} The others: `--partition`") from None


def _open(books: Sequence[Book], now: dict[int, int]) -> list[Found]:
    """Open holds of all partitions, the longest waiting first."""
    from harness_stream.cli.holds_read import Found  # noqa: PLC0415  slow to load, `--help` is not

    found = [Found(book, hold, None) for book in books for hold in book.holds.open_at(now[book.partition])]
    return sorted(found, key=lambda f: f.hold.asked_at)


def _wanted(found: Found, agent: str | None, lane: str | None) -> bool:
    return agent in {None, found.hold.agent_id} and lane in {None, found.hold.event["lane"]}


def _whole(realm: Realm, name: str) -> Whole:
    from harness_stream.cli.holds_read import attempts, evidence, find  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.cli.holds_shown import Whole  # noqa: PLC0415  same

    source = realm.source
    found = find(source, range(realm.partitions), name)
    now, events, tried = found.book.now(source.clock), evidence(source, found), attempts(source, found)
    try:
        view, behind = _view(realm, found)
    except StateUnavailable as error:
        return Whole(found, now, events, tried, unknown=f"{error.message}: {error.hint}")
    return Whole(found, now, events, tried, view, behind=behind)


def _view(realm: Realm, found: Found) -> tuple[HoldView, int]:
    """The chain as Redis has it, and by how many records that is behind.

    Raises:
        StateUnavailable: Redis does not answer, or does not hold what the log says.
    """
    from harness_stream.cli.chain import windows_in_force  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.runtime.hold_view import view_of  # noqa: PLC0415  same

    source, number = realm.source, found.book.partition
    with realm.store() as store:
        topic, verifier = source.topics.rules, source.verifier
        view = view_of(store, number, found.hold, lambda d: windows_in_force(source.reader, topic, d, verifier))
    if view.place.header.incarnation != source.incarnation:
        raise StateUnavailable("Redis holds the state of former topics", hint="a running worker replaces it")
    source.log.require_record_of(number, view.place)
    return view, max(0, found.book.place.offset - view.place.offset)


# --- Answering ---


def _answer(speaker: Speaker, name: str, wish: Wish, *, yes: bool, json: bool) -> None:
    from harness_stream.cli.holds_shown import became_json, became_text  # noqa: PLC0415  same

    if not yes and (json or not sys.stdin.isatty()):
        raise CallerError("there is nobody here to be asked", hint="add --yes; --json always needs it")
    with _realm(speaker) as realm:
        found, became = said(realm, name, wish, yes=yes)
    code = exit_code(wish, became)
    if json:
        failures.print_json(became_json(found, wish, became, code))
    else:
        typer.echo(became_text(found, wish, became), err=code not in {0, EXIT_DENIED, EXIT_HELD})
    if code:
        raise typer.Exit(code)


def said(realm: Realm, name: str, wish: Wish, *, yes: bool) -> tuple[Found, Became]:
    """Find, look who asks, ask back, publish, wait."""
    from harness_stream.cli.holds_answer import approval_of, await_end, publish, require_approver  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.cli.holds_read import find  # noqa: PLC0415  same

    source = realm.source
    found = find(source, range(realm.partitions), name)
    require_open(found)
    require_approver(realm.identities(), found.hold, wish.by)
    approval = approval_of(found, wish, realm.name, source.clock)
    if not yes:
        _ask(found, wish, source)
    with realm.voice() as voice:
        offset = publish(voice, source, found, approval)
        became = await_end(source, found, offset)
    if became is None:
        raise _no_answer(found, offset)
    return found, became


def require_open(found: Found) -> None:
    """Refuse what the log says is over.

    Raises:
        TooLate: it was answered, or expired in chain time.
    """
    from harness_stream.cli.holds_shown import settled_text  # noqa: PLC0415  slow to load, `--help` is not

    if found.settled is not None:
        again = f"{found.book.partition}/{found.settled.offset}"
        asked = found.settled.body["decision"] == "hold"
        hint = f"`harness holds show {again}` is the question now" if asked else "the first answer counts"
        hint += "; nothing was published"
        raise TooLate(f"{found.name} was answered before: {settled_text(found.settled)}", hint=hint)
    if found.book.place.header.t > found.hold.until:
        hint = "which denied it, and nothing was published; the agent needs a new intent"
        raise TooLate(f"{found.name} has expired: nobody answered in time", hint=hint)


def _ask(found: Found, wish: Wish, source: HoldsSource) -> None:
    """Show what is answered, and ask; no is the end."""
    from harness_stream.cli.holds_shown import list_text  # noqa: PLC0415  slow to load, `--help` is not

    number = found.book.partition
    typer.echo(list_text([found], [found.book], {number: found.book.now(source.clock)}))
    labels = f" and take {', '.join(wish.declassify)} off its chain" if wish.declassify else ""
    values = f", and take values of {', '.join(wish.values_of)} as known there" if wish.values_of else ""
    typer.confirm(f"{wish.decision.capitalize()} it as {wish.by}{labels}{values}?", abort=True)


def _no_answer(found: Found, offset: int) -> Unavailable:
    from harness_stream.cli.holds_answer import ANSWER_MS_MAX  # noqa: PLC0415  slow to load, `--help` is not

    place = f"{found.book.partition}/{offset}"
    return Unavailable(
        f"no worker has answered within {ANSWER_MS_MAX // 1000} s; your answer is input {place} and still counts",
        hint=f"does a worker run? `harness partitions`; then `harness holds show {found.name}` tells what became of it",
    )


def exit_code(wish: Wish, became: Became) -> int:
    """By what became of an answer; see the commands' own words."""
    from harness_stream.cli.holds_answer import End  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.core.reasons import Refuse  # noqa: PLC0415  same

    if became.end is End.REFUSED:
        return CallerError.exit_code if became.reason == Refuse.NOT_APPROVER else EXIT_TOO_LATE
    if became.end is End.DENIED:
        return 0 if wish.decision == "deny" else EXIT_DENIED
    return {End.APPROVED: 0, End.HELD: EXIT_HELD}.get(became.end, Unavailable.exit_code)
