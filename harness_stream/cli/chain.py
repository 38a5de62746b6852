"""`harness chain show`: what one agent did, as the workers' store has it, and how far that is behind the log.

Rule of this file: the store is a cache, so the answer always says as of which verdict it holds, and there is none if
the log has not that verdict.
"""

from __future__ import annotations

import json as json_format
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness_stream.cli.flags import takes
from harness_stream.errors import HarnessError, ProtocolError, StateUnavailable
from harness_stream.wire.rules_topic import bundle_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_stream.config import Settings
    from harness_stream.core.chain import Chain
    from harness_stream.core.fold import Place
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.tables import IdentityRow
    from harness_stream.ports import LogReader, StateStore, Verifier
    from harness_stream.runtime.chain_view import ChainView, Seen, WindowView
    from harness_stream.wire.topics import Topics

# A person waits longer than a worker's loop, which has 20 ms.
STORE_MS_MAX: Final = 2_000
EVENTS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Found:
    """An agent and what is stored of it.

    Attributes:
        behind: records that count in the decision log after the one the store stands at.
    """

    agent_id: str
    status: str
    lane: str
    partition: int
    view: ChainView
    behind: int


@takes("bootstrap", "prefix", "realm", "redis_url", "dev", "keys")
def show(
    *,
    settings: Settings,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id.")],
    events: Annotated[int, typer.Option(min=0, help="Newest events shown of each chain.")] = EVENTS_SHOWN,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show one agent's chains: mandate, labels, newest events, and what the rules' windows count for it.

    It reads Redis, and says as of which verdict and how far behind the log's end. Exit code 1 for an unknown agent,
    3 if Redis does not answer or does not hold what the log says: nothing is lost then, a worker brings it back. Also 3
    if Redis knows of decisions that the log has lost: nothing of them is shown.

    Example: harness chain show support-1
    """
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import incarnation  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.adapters.redis.keys import Whose  # noqa: PLC0415  same
    from harness_stream.adapters.redis.state import RedisStateStore  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import keys_of  # noqa: PLC0415  same

    keys_of(settings)
    realm_id = incarnation(settings)
    whose, clock = Whose.of(settings, realm_id), SystemClock()
    with (
        closing(KafkaReader(settings.kafka)) as reader,
        closing(RedisStateStore(settings.redis, whose, clock, timeout_ms=STORE_MS_MAX)) as store,
    ):
        found = _found(agent, settings, realm_id, reader, store)
    typer.echo(json_format.dumps(_as_json(found, events), ensure_ascii=False) if json else _as_text(found, events))


def identity_of(settings: Settings, reader: LogReader, agent_id: str) -> tuple[IdentityRow | None, str | None]:
    """The agent's row in force, and its lane, which outlives the row; both None for one nobody ever enrolled.

    Raises:
        BrokerUnavailable: the broker does not answer.
        ProtocolError: there is no identity table.
    """
    import time  # noqa: PLC0415  only commands wait by sleeping

    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import require_topics  # noqa: PLC0415  same
    from harness_stream.core.tables import IdentityRow, lane_of  # noqa: PLC0415  same
    from harness_stream.runtime.table_load import read_tables  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    topics = {"identity": Topics(settings.prefix).identity}
    require_topics(settings.kafka, list(topics.values()))
    view = read_tables(reader, topics, SystemClock(), lambda wait_ms: time.sleep(wait_ms / 1000))["identity"]
    row = view.row(agent_id)
    if isinstance(row, IdentityRow):
        return row, lane_of(row)
    return None, view.lanes.get(agent_id)


def _found(agent_id: str, settings: Settings, realm_id: str, reader: LogReader, store: StateStore) -> Found:
    from harness_stream.adapters.kafka.admin import partitions, require_topics  # noqa: PLC0415  slow
    from harness_stream.adapters.signing.pairs import verifier_of  # noqa: PLC0415  same
    from harness_stream.core.fold import Place  # noqa: PLC0415  same
    from harness_stream.core.lanes import partition_of  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    topics = Topics(settings.prefix)
    count = partitions(settings, topics.verdicts)
    require_topics(settings.kafka, [topics.verdicts, topics.heads, topics.rules])
    row, lane = identity_of(settings, reader, agent_id)
    if lane is None:
        raise HarnessError(
            f"there is no agent `{agent_id}`", hint="`harness tables get identity` lists those there are"
        )
    partition = partition_of(lane, count)
    verifier = verifier_of(settings, realm_id)
    seen = _seen(store, partition, agent_id, lambda digest: windows_in_force(reader, topics.rules, digest, verifier))
    if seen.place is not None and seen.place.header.incarnation != realm_id:
        raise ProtocolError(
            f"Redis holds the state of other topics than `{topics.verdicts}`: they were recreated",
            hint="a running worker replaces it; is one running?",
        )
    behind = _behind(reader, topics, verifier, seen.place or Place.genesis(realm_id, partition))
    if seen.place is None and behind:
        raise StateUnavailable(
            f"Redis holds nothing of partition {partition}, in whose log {_records(behind)} stand, so what "
            f"`{agent_id}` did is not known here",
            hint=f"a worker fills Redis again from the log; does one run? `harness worker`; {_from_the_log(agent_id)}",
        )
    return Found(agent_id, "deleted" if row is None else row.status, lane, partition, seen, behind)


def _seen(store: StateStore, partition: int, agent_id: str, windows_of: Callable[[str], Windows]) -> ChainView:
    """What the store says (raises StateUnavailable, which says where else it is to be found)."""
    from harness_stream.runtime.chain_view import view  # noqa: PLC0415  slow to load, `--help` is not

    try:
        return view(store, partition, agent_id, windows_of)
    except StateUnavailable as error:
        raise StateUnavailable(error.message, hint=f"{error.hint}; {_from_the_log(agent_id)}") from error


def _from_the_log(agent_id: str) -> str:
    return f"nothing is lost, `harness verdicts tail --from-beginning --no-follow --agent {agent_id}` reads the log"


def _records(count: int) -> str:
    return f"{count} record{'' if count == 1 else 's'}"


def _behind(reader: LogReader, topics: Topics, verifier: Verifier, place: Place) -> int:
    """Records after `place` that count.

    Raises:
        StateUnavailable: the log lost the record of that place.
    """
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.cli.decision_log import DecisionLog  # noqa: PLC0415  same
    from harness_stream.cli.verdicts import Tailing  # noqa: PLC0415  same

    header = place.header
    log = DecisionLog(reader, topics, header.incarnation, verifier, SystemClock())
    log.require_record_of(header.partition, place)
    tailing = Tailing(reader, log, verifier, topics.verdicts)
    tailing.begin_at(header.partition, place)
    return sum(entry.effective for entry in tailing.entries(follow=False))


def windows_in_force(reader: LogReader, topic: str, digest: str, verifier: Verifier) -> Windows:
    """The bundle of this digest, compiled; what names it comes from Redis, so one that nobody signed is none.

    Raises:
        BrokerUnavailable: the broker does not answer.
        ProtocolError: the rules topic does not hold it.
    """
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.core.rules.compile import from_bundle  # noqa: PLC0415  same
    from harness_stream.core.rules.language import TIMESPAN_MS_ANY  # noqa: PLC0415  same
    from harness_stream.core.rules.windows import Windows  # noqa: PLC0415  same
    from harness_stream.runtime.to_end import read_to_end  # noqa: PLC0415  same
    from harness_stream.wire.decisions import digest_of  # noqa: PLC0415  same

    for record in read_to_end(reader, topic, 0, SystemClock()):
        value = record.value if record.key == bundle_key(digest) else None
        if value and digest_of(value) == digest and not verifier.why_rules_refused(record):
            return Windows(from_bundle(value, timespan_ms_max=TIMESPAN_MS_ANY))
    raise ProtocolError(f"the rule bundle {digest[:12]} that decides is not in `{topic}`", hint="push it again")


# --- For programs ---


def _as_json(found: Found, events: int) -> dict[str, Any]:
    place, seen = found.view.place, found.view.seen
    told: dict[str, Any] = {
        "agent_id": found.agent_id,
        "status": found.status,
        "lane": found.lane,
        "partition": found.partition,
        "seen": seen is not None,
        "as_of": None if place is None else place.offset,
        "t": None if place is None else place.header.t,
        "behind": found.behind,
        "rules": None if place is None or place.header.rules is None else place.header.rules[0],
        "chains": {},
        "windows": [],
    }
    if seen is not None:
        told["chains"] = {chain_id: _chain_json(chain, events) for chain_id, chain in seen.chains.items()}
        told["windows"] = [asdict(window) for window in seen.windows]
    return told


def _chain_json(chain: Chain, events: int) -> dict[str, Any]:
    return {
        "mandate": None if chain.mandate is None else dict(chain.mandate),
        "closed_at": chain.closed_at,
        "events": chain.events,
        "labels": list(chain.labels),
        "newest": _newest(chain, events),
    }


def _newest(chain: Chain, events: int) -> list[dict[str, Any]]:
    return [dict(event) for event in chain.kept[-events:]] if events else []


# --- For people ---

_WHAT: Final = {"event_count": "counted", "value_count": "values", "value_sum": "in sum"}


def _as_text(found: Found, events: int) -> str:
    lines = [f"{found.agent_id} ({found.status}), lane {found.lane}, partition {found.partition}", _standing(found)]
    if found.view.seen is None:
        lines.append("until then it had done nothing" if found.behind else "it has done nothing yet")
        return "\n".join(lines)
    for chain_id, chain in found.view.seen.chains.items():
        lines += ["", *_chain_lines(chain_id, chain, events)]
    return "\n".join([*lines, *_window_lines(found.view.seen)])


def _standing(found: Found) -> str:
    from harness_stream.cli.verdicts import clock_text  # noqa: PLC0415  only text needs it

    place = found.view.place
    if place is None:
        return "nothing was decided in this partition yet"
    behind = f"{_records(found.behind)} behind the log's end" if found.behind else "which is the log's end"
    when = f"chain time {clock_text(place.header.t)}" if place.header.t else "before the first input"
    return f"as of record {found.partition}/{place.offset}, {when}, {behind}"


def _chain_lines(chain_id: str, chain: Chain, events: int) -> list[str]:
    from harness_stream.cli.verdicts import clock_text  # noqa: PLC0415  only text needs it

    closed = "" if chain.closed_at is None else f", closed {clock_text(chain.closed_at)}"
    lines = [f"chain {chain_id}: {chain.events} events{closed}", *_mandate_lines(chain.mandate)]
    if chain.labels:
        lines.append(f"  labels: {', '.join(chain.labels)}")
    return lines + [_event_line(event) for event in _newest(chain, events)]


def _mandate_lines(mandate: Mapping[str, Any] | None) -> list[str]:
    from harness_stream.cli.verdicts import clock_text  # noqa: PLC0415  only text needs it

    if mandate is None:
        return []
    classes = ", ".join(f"{c['operation']} {c['object']}" for c in mandate.get("action_classes", ())) or "none declared"
    until = clock_text(mandate["expires_at"])
    return [f"  mandate by {mandate['by']} ({mandate['declared_by']}) until {until}, classes: {classes}"]


def _event_line(event: Mapping[str, Any]) -> str:
    from harness_stream.cli.verdicts import clock_text, decision_text, printable  # noqa: PLC0415  only text needs it

    outcome = f"  → {event['outcome']}" if event.get("outcome") else ""
    resources = " ".join(resource["uri"] for resource in event["resources"])
    shown = f"{printable(event['action']):<18} {printable(resources)}"
    return f"  {clock_text(event['t'])}  {decision_text(event['decision'])} {shown}{outcome}"


def _window_lines(seen: Seen) -> list[str]:
    return ["", "windows", *map(_window_line, seen.windows)] if seen.windows else []


def _window_line(window: WindowView) -> str:
    from harness_stream.cli.verdicts import printable  # noqa: PLC0415  only text needs it

    exact = window.least == window.most
    count = str(window.least) if exact else f"{window.least} to {'?' if window.most is None else window.most}"
    what = _WHAT.get(window.kind, "of its selections")
    group = ", ".join(f"{path}={value}" for path, value in window.group.items())
    return f"  {', '.join(window.rules)}: {count} {what} in {window.timespan_ms // 1000} s  {printable(group)}"
