"""One chain through the harness: declare the mandate, ask for each call, run what was approved, report how it ended.

Rule of this file: a call runs after `verdict.start()` and nowhere else. A refused call is not run, and the chain goes
on, as an agent that was talked into something would.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from actions import Places, Tools, action_of, measures_of
from extract import World

from harness_stream.adapters.clock import SystemClock
from harness_stream.client.ids import Ids
from harness_stream.errors import Denied, Held, Refused, Unavailable

if TYPE_CHECKING:
    from extract import Call, Ran, Script, Suite

    from harness_stream.client.blocking import BlockingChain, HarnessSync
    from harness_stream.client.session import Status
    from harness_stream.client.verdict import BlockingVerdict

MANDATE_MS: Final = 15 * 60_000  # a task takes well under a second; a person's work day would do as well
REFUSALS: Final = {Denied: "deny", Held: "hold"}


@dataclass(frozen=True, slots=True)
class Judged:
    """One call and what became of it.

    Attributes:
        tool: the suite's name.
        action: as it was judged.
        injected: an injected instruction asked for it.
        acting: it would change something.
        decision: approve, deny, hold, or `unanswered` if there was no verdict in time.
        because: rules or reasons, the strongest first.
        intent_id: of the verdict; None without one.
        outcome: done or failed; `unreported` if nobody took the report in; empty if it was not run.
    """

    tool: str
    action: str
    injected: bool
    acting: bool
    decision: str
    because: tuple[str, ...]
    intent_id: str | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """One chain and what became of it.

    Attributes:
        suite: its name.
        task_id: the user's task.
        attack_id: the injected task, None in honest work.
        chain_id: as the log names it.
        calls: in order.
        goal_reached: what the suite's own check says of the goal: the user's, or under attack the attacker's.
    """

    suite: str
    task_id: str
    attack_id: str | None
    chain_id: str
    calls: tuple[Judged, ...]
    goal_reached: bool


class Player:
    """Plays scripts of one suite through one agent's connection."""

    def __init__(self, harness: HarnessSync, suite: Suite, tools: Tools) -> None:
        self._harness, self._suite, self._tools = harness, suite, tools
        self._ids = Ids(SystemClock())

    def play(self, script: Script) -> Played:
        """Run one script in a chain of its own."""
        chain = self._harness.chain(self._mandate(script))
        world = World(self._suite, script)
        places = Places(world.before)
        calls = tuple(self._ask(chain, call, places, world) for call in script.calls)
        name = chain.chain_id or ""
        whole = all(judged.decision == "approve" for judged in calls if judged.injected == bool(script.attack_id))
        return Played(self._suite.name, script.task_id, script.attack_id, name, calls, world.goal_reached(whole=whole))

    def _mandate(self, script: Script) -> dict[str, Any]:
        """What an orchestrator signs: the action classes the user's task needs, and the user's words.

        The client publishes of the words their digest and the fingerprints of what they name.
        """
        own = dict.fromkeys(self._tools.action_class(call.tool) for call in script.calls if not call.injected)
        mandate_id, credentials = self._ids.new(), self._harness.credentials
        return {
            "realm": credentials.realm,
            "by": "orchestrator",
            "agent_id": credentials.agent_id,
            "mandate_id": mandate_id,
            "chain_id": f"{self._suite.name}-{script.task_id}-{script.attack_id or 'honest'}-{mandate_id}",
            "goal": script.goal,
            "action_classes": [{"operation": operation, "object": kind} for operation, kind in own],
            "expires_at": time.time_ns() // 1_000_000 + MANDATE_MS,
        }

    def _ask(self, chain: BlockingChain, call: Call, places: Places, world: World) -> Judged:
        action, roles = action_of(call.tool), self._tools.roles(call.tool)
        about = (call.tool, action, call.injected, not self._tools.only_reads(call.tool))
        try:
            verdict = chain.decide(
                action,
                places.of(call.tool, call.arguments),
                arguments=call.arguments,
                roles={name: role for name, role in roles.items() if name in call.arguments},
                measures=measures_of(call.arguments),
            )
            verdict.start()
        except Refused as refused:
            asked = refused.verdict.intent_id if refused.verdict is not None else None
            return Judged(*about, REFUSALS[type(refused)], _names(refused.reasons), asked)
        except Unavailable as error:
            return Judged(*about, "unanswered", (error.message,))
        outcome = _reported(verdict, world.run(call))
        return Judged(*about, "approve", _names(verdict.reasons), verdict.intent_id, outcome)


def _reported(verdict: BlockingVerdict, ran: Ran) -> str:
    """How it ended. A report that nobody took in is no reason to stop: the call counts as done.

    Of the result the client publishes the fingerprints of its values, so that later calls can be asked where theirs
    came from.
    """
    status: Status = "done" if ran.worked else "failed"
    try:
        verdict.report(status, result=ran.result)
    except Unavailable:
        return "unreported"
    return status


def _names(reasons: tuple[Any, ...]) -> tuple[str, ...]:
    """A rule's id; the engine's word where no rule speaks, or where the rule itself failed."""
    return tuple(": ".join(filter(None, (r.rule, r.code if r.code != "rule" else ""))) for r in reasons)
