"""`harness mandates sign`: an orchestrator says what its user asked for, in a file that the agent's process publishes.

Rule of this file: the agent never gets the orchestrator's keys, and nothing is published here. What the signature is
bound to, lane and log topics, comes from the realm itself unless it is given, so that the file counts where it should.
"""

from __future__ import annotations

import json as json_format
import time
from contextlib import closing

# typer reads the annotations of commands at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from harness_stream.cli.as_said import CredentialsFile, Speaker, speaker_of
from harness_stream.cli.flags import takes
from harness_stream.errors import CallerError, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.config import Settings
    from harness_stream.core.model import Mandate

ORCHESTRATOR: Final = "orchestrator"


class Place(NamedTuple):
    """Where a mandate is to count.

    Attributes:
        lane: of the agent.
        incarnation: ids of the two log topics; empty in an unsigned realm.
    """

    lane: str
    incarnation: str


@takes("bootstrap", "prefix", "realm", "dev")
def sign(
    *,
    settings: Settings,
    agent: Annotated[str, typer.Option(help="The agent that gets the task.")],
    credentials: CredentialsFile = None,
    by: Annotated[str | None, typer.Option(metavar="ORCHESTRATOR", help="Who says it, in a `--dev` realm.")] = None,
    chain: Annotated[str | None, typer.Option(help="The chain it opens, or closes; default a new one.")] = None,
    goal: Annotated[str | None, typer.Option(help="The user's own words; only fingerprints of them are kept.")] = None,
    action_class: Annotated[
        list[str] | None, typer.Option("--class", metavar="OP:OBJECT", help="What it needs, `send:email`; repeat.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="`2h` from now, or 2026-11-02T09:00:00Z.")
    ] = None,
    close: Annotated[bool, typer.Option("--close", help="End the chain instead; needs --chain.")] = False,
    lane: Annotated[str | None, typer.Option(help="The agent's lane; default as its identity row says.")] = None,
    incarnation: Annotated[
        str | None, typer.Option(metavar="IDS", help="Ids of the log topics, where no broker can be asked.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default mandate.json; nothing is replaced.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Sign what a user asked an agent for. The agent's process publishes the file: `harness.chain(mandate=FILE)`.

    The signature counts for this realm, its log topics as they are, and the
    agent's lane. An orchestrator is an identity with that role in the agent's
    lane. What an agent signs for itself is only inferred and names no values.
    `--close` makes the file that ends a chain: `harness.end_chain(mandate=FILE)`.

    Example: harness mandates sign --credentials ui.json --agent a-1 --goal "mail Ann" --class send:email --expires 2h

    Example: harness mandates sign --credentials ui.json --agent support-1 --chain case-7 --close --out close.json
    """
    speaker = speaker_of(settings, credentials, by, ORCHESTRATOR)
    fields = {"agent_id": agent, "by": speaker.by, "realm": speaker.settings.realm, "close": close}
    fields |= _ending(chain) if close else _opening(chain, goal, action_class or (), expires)
    path = out or Path(f"{'close' if close else 'mandate'}.json")
    mandate, place = signed_into(path, speaker, fields, lane, incarnation)
    _tell(mandate, place, path, json=json)


def signed_into(
    path: Path, speaker: Speaker, fields: dict[str, Any], lane: str | None, incarnation: str | None
) -> tuple[Mandate, Place]:
    """Write the file.

    Raises:
        InvalidInput: a field breaks the schema.
        CallerError: there is no such agent.
        ConfigError: the file is there already.
    """
    from harness_stream.client.signed_mandate import signed_mandate  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.private_files import PUBLIC_MODE, write_new  # noqa: PLC0415  same
    from harness_stream.wire.codec import encode  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    mandate = _mandate(speaker, fields)
    place = _place(speaker, mandate.agent_id, lane, incarnation)
    if speaker.credentials is None or speaker.credentials.dev:
        content = encode(mandate) + b"\n"
    else:
        topic = Topics(speaker.settings.prefix).intents
        bound = (speaker.settings.realm, place.incarnation, topic, place.lane)
        content = signed_mandate(mandate, speaker.signer(place.incarnation), bound)
    write_new(path, content.decode(), PUBLIC_MODE)
    return mandate, place


# --- What it says ---


def _opening(chain: str | None, goal: str | None, classes: Sequence[str], expires: str | None) -> dict[str, Any]:
    if expires is None:
        raise CallerError("it is not said until when the mandate counts", hint="--expires 2h")
    told = {"expires_at": _expiry_ms(expires), "action_classes": [_class(text) for text in classes]}
    return {**told, **({} if chain is None else {"chain_id": chain}), **({} if goal is None else {"goal": goal})}


def _ending(chain: str | None) -> dict[str, Any]:
    if chain is None:
        raise CallerError("it is not said which chain ends", hint="--chain CHAIN, as the mandate named it")
    return {"chain_id": chain}


def _class(text: str) -> dict[str, str]:
    operation, colon, named = text.partition(":")
    if not (colon and operation and named):
        hint = "as tools' rows say it: `--class send:email`"
        raise CallerError(f"`--class {text}` is not OPERATION:OBJECT", hint=hint)
    return {"operation": operation, "object": named}


def _expiry_ms(text: str) -> int:
    from harness_stream.cli.replay_part import duration_ms  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.core.instant import instant_ms  # noqa: PLC0415  same

    now_ms = time.time_ns() // 1_000_000
    try:
        at_ms = instant_ms(int(text) if text.isdigit() else text)
    except ValueError:
        return now_ms + duration_ms(text, "--expires")
    if at_ms <= now_ms:
        raise CallerError(f"--expires {text}: that is over", hint="give a time to come, or a duration: `--expires 2h`")
    return at_ms


def _mandate(speaker: Speaker, fields: dict[str, Any]) -> Mandate:
    from pydantic import ValidationError  # noqa: PLC0415  slow to load, `--help` is not

    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  same
    from harness_stream.client.fingerprints import dev_key, with_goal  # noqa: PLC0415  same
    from harness_stream.client.ids import Ids  # noqa: PLC0415  same
    from harness_stream.core.model import Mandate  # noqa: PLC0415  same
    from harness_stream.core.refusals import refusals  # noqa: PLC0415  same

    own_id = Ids(SystemClock()).new()
    found = speaker.credentials
    key = dev_key(speaker.settings.realm) if found is None else found.value_key()
    whole = {"v": 1, "type": "mandate", "mandate_id": own_id, "chain_id": f"mandate:{own_id}", **fields}
    try:
        return Mandate.model_validate(with_goal(whole, key))
    except ValidationError as error:
        mistakes = tuple(map(str, refusals(error)))
        raise InvalidInput(f"the mandate cannot be written: {'; '.join(mistakes)}", mistakes=mistakes) from None


# --- Where it counts ---


def _place(speaker: Speaker, agent: str, lane: str | None, incarnation: str | None) -> Place:
    """As given, else as the realm says."""
    if speaker.credentials is None or speaker.credentials.dev:
        return Place(lane or "", "")  # nothing is bound where nothing is signed
    from harness_stream.adapters.kafka import admin  # noqa: PLC0415  slow to load, `--help` is not

    ids = incarnation or admin.incarnation(speaker.settings)
    return Place(lane or _lane_of(speaker.settings, agent), ids)


def _lane_of(settings: Settings, agent: str) -> str:
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.runtime.table_load import read_tables  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    topics = {"identity": Topics(settings.prefix).identity}
    with closing(KafkaReader(settings.kafka, topics=topics.values())) as reader:
        view = read_tables(reader, topics, SystemClock(), lambda wait_ms: time.sleep(wait_ms / 1000))["identity"]
    lane = view.lanes.get(agent)
    if lane is None:
        raise CallerError(f"there is no agent `{agent}`", hint="`harness tables get identity` lists those there are")
    return lane


def _tell(mandate: Mandate, place: Place, path: Path, *, json: bool) -> None:
    own = mandate.by == mandate.agent_id
    if json:
        told = {"file": str(path), "chain_id": mandate.chain_id, "agent_id": mandate.agent_id, "by": mandate.by}
        told |= {"lane": place.lane, "incarnation": place.incarnation, "declared_by": "agent" if own else ORCHESTRATOR}
        typer.echo(json_format.dumps({**told, "expires_at": mandate.expires_at}, ensure_ascii=False))
        return
    what = "ends" if mandate.close else "opens"
    typer.echo(f"{path} {what} chain `{mandate.chain_id}` of `{mandate.agent_id}`, in the word of `{mandate.by}`")
    if own:
        typer.echo("it is the agent's own word: its classes are only inferred, and its goal names no values", err=True)
    call = "end_chain" if mandate.close else "chain"
    typer.echo(f"→ in the agent's process: `harness.{call}(mandate={str(path)!r})`")
