"""An intake that knows the facts of one record as the log tells them, and no table.

Rule of this file: what a record says of facts and roles is taken as said; what follows from them is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness_stream.core import delegation
from harness_stream.core.backlog import waited_too_long
from harness_stream.core.intake import Intake, inputs_of, not_admitted_by, overloaded
from harness_stream.core.join import empty_tables, system_of
from harness_stream.core.reasons import Deny, Refuse

if TYPE_CHECKING:
    from harness_stream.core.decide import Arrival, Decided
    from harness_stream.core.fold import Body
    from harness_stream.core.model import Intent
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State

# Refusals for the lack of a role, which tables say and the log does not.
ROLE_REFUSALS = frozenset({Refuse.NOT_ORCHESTRATOR, Refuse.NOT_REPORTER, Refuse.NOT_ENFORCER, Refuse.NOT_APPROVER})


@dataclass(slots=True)
class RecordedIntake(Intake):
    """Answers the input that `real` covers, from the facts that `real` records."""

    real: Body

    def facts(self, intent: Intent, t: int, decided_at: int) -> dict[str, Any]:  # noqa: ARG002  the base's signature
        """The recorded `inputs`.

        Raises:
            ValueError: they are facts of something else than this intent, or none.
        """
        if not self.real["inputs"].get("tables"):
            raise ValueError("it records no facts, and history asks for more than a denial without a look")
        inputs = inputs_of(self.real)
        uris = [resource["uri"] for resource in inputs["resources"]]
        if self.real["event"] is not None and uris != list(intent.resources):
            raise ValueError(f"facts of the resources {uris}, and the intent names {list(intent.resources)}")
        if any(resource["system"] != system_of(resource["uri"]) for resource in inputs["resources"]):
            raise ValueError("a resource's `system` is not its URI's scheme")
        told = [row["agent_id"] for row in inputs.get("above", ())]
        above = list(delegation.ancestors(self.state, intent, t))
        if told != above:
            raise ValueError(f"facts of the agents above {told}, and those above are {above}")
        return inputs

    def not_admitted(self, intent: Intent, arrival: Arrival, decided_at: int) -> Decided | None:
        """As it was: what a worker had seen of lanes and its backlog is no history; how long it waited is."""
        told = not_admitted_by(self.real)
        waited_ms = decided_at - arrival.append_ms
        if told is None or told.reasons[0]["code"] != Deny.OVERLOAD:
            return told
        return overloaded(waited_ms, intent.deadline_ms) if waited_too_long(waited_ms, intent.deadline_ms) else None

    def lane(self, agent_id: str) -> str:
        """As recorded with the change."""
        mandate = (self.real.get("change") or {}).get("mandate") or {}
        return str(mandate.get("lane", agent_id))

    def owner(self, agent_id: str) -> str:  # noqa: ARG002  the base's signature
        """As recorded with the verdict; an ack does not say it."""
        return str(self.real.get("inputs", {}).get("identity", {}).get("owner", ""))

    def roles_known(self, decided_at: int) -> bool:  # noqa: ARG002  the base's signature
        """What the answer implies."""
        return self.real.get("reason") != Refuse.STALE_FACTS

    def has_role(self, identity: str, role: str, same_lane_as: str | None) -> bool:  # noqa: ARG002  the base's signature
        """What the answer implies."""
        return self.real.get("reason") not in ROLE_REFUSALS


def recorded_intake(state: State, windows: Windows, rules: tuple[str, int], real: Body) -> RecordedIntake:
    """For one record.

    Args:
        state: the history before it.
        windows: the bundle in force.
        rules: as the log names it.
        real: the record's body.
    """
    return RecordedIntake(None, 1, state, empty_tables(), windows, rules, real)
