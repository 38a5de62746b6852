"""Whether enforcers were told of every agent that was stopped, and of nobody else (`core.notice`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from harness_stream.core.fold import Place
from harness_stream.core.notice import STOPPED, Stopped, heard
from harness_stream.wire.decisions import read_body
from tests.simulation.world import TOPICS

if TYPE_CHECKING:
    from tests.log_checker import Report
    from tests.simulation.world import World


def notices(world: World, partition: int) -> list[tuple[int, Stopped]]:
    """Offset and content of every notice that an enforcer would obey."""
    place, found = Place.genesis("i1", partition), []
    verifier, records = world.verifier(judges=False), world.everything(TOPICS.verdicts, partition)
    if not any(b'"kind":"notice"' in (record.value or b"") for record in records):
        return []
    for record in records:
        if verifier.decision_authentic(record):
            body, digest = read_body(record.value)
            if (said := heard(place.header, body)) is not None:
                found.append((record.offset, said))
            place = place.after(record.offset, body, digest) or place
    return found


def untold(world: World, partition: int, report: Report) -> list[str]:
    """What is wrong with a healed world's notices."""
    rows = [(r.offset, (r.key or b"").decode(), _row(r.value)) for r in world.everything(TOPICS.identity, 0)]
    said = {(notice.agent_id, notice.revision): notice.status for _, notice in notices(world, partition)}
    true = {(key, offset): row.get("status") for offset, key, row in rows}
    wrong = [f"{about}: told {status}, its row said {true.get(about)}" for about, status in said.items() if true.get(about) != status]
    newest = {key: (offset, row) for offset, key, row in rows}
    approved = {b["agent_id"] for b in report.effective if b["kind"] == "verdict" and b["decision"] == "approve"}
    for agent in sorted(approved & newest.keys()):
        offset, row = newest[agent]
        if row.get("status") in STOPPED and (agent, offset) not in said:
            wrong.append(f"{agent} is {row['status']} since revision {offset}, and nobody was told")
    world.happened["told of stopped agents"] += len(said)
    return wrong


def _row(value: bytes | None) -> dict[str, Any]:
    return {} if value is None else dict(orjson.loads(value))
