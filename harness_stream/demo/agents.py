"""The cast: who acts in the demo, with what functions, and what each intent is expected to be answered.

Rule of this file: agents stand in `examples/tables`, rules in `examples/rules`; here is only what they try. Every
function is guarded by one line, and its body does nothing but note that it ran.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from harness_stream.client.harness import Chain, Harness
from harness_stream.errors import Denied, Held

if TYPE_CHECKING:
    from harness_stream.client.wiring import Wiring

Decision = Literal["approve", "deny", "hold"]
Tool = Callable[..., Awaitable[None]]

PARAMS: Final = {"same_action_a_minute": 6, "exports_a_day": 3}
"""Knobs of the sample rules, turned so low that the demo reaches them within seconds (`rules push --set`)."""

_NS_PER_MS: Final = 1_000_000
_HOUSE: Final = "@acme.example"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing an agent tries.

    Attributes:
        tool: name of the function, see `tools_of`.
        arguments: what it is called with.
        expect: the answer the demo is built to get.
        remark: why an answer may surprise; said after the log's own words.
    """

    tool: str
    arguments: Mapping[str, Any]
    expect: Decision = "approve"
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent of the sample tables.

    Attributes:
        name: its agent_id.
        lane: its tenant.
        workload: where it runs.
        does: what it is for, in a few words.
        steps: what it tries, one after the other.
        pace_s: seconds before each step, so that people can read along.
    """

    name: str
    lane: str
    workload: str
    does: str
    steps: tuple[Step, ...]
    pace_s: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one step went, as its agent saw it.

    Attributes:
        agent: who.
        number: which of its steps, from 0.
        step: what.
        decision: the answer.
        ran: whether the function's body ran.
        latency_ms: from the call to the first line of the body, or to the refusal.
    """

    agent: Agent
    number: int
    step: Step
    decision: Decision
    ran: bool
    latency_ms: float


def _mail(to: str) -> dict[str, str]:
    return {"to": to, "subject": "Your ticket", "body": "We look into it."}


SUPPORT: Final = Agent(
    "support-1",
    "acme",
    "wl-support",
    "answers customers: may read their records, may send mail",
    (
        Step("send_mail", _mail("pat@example.com")),
        Step("read_customer", {"customer": "4711"}),
        Step(
            "send_mail",
            _mail("pat@example.com"),
            "deny",
            "The very same mail was approved before. Reading and mailing are both allowed to this agent: access "
            "control would have said yes twice. The send function did not run.",
        ),
        Step("send_mail", _mail(f"team{_HOUSE}")),
    ),
    1.8,
)
EXPORTER: Final = Agent(
    "exporter-1",
    "acme",
    "wl-exporter",
    "makes reports: may export customer data",
    (
        *(Step("export_customers", {"region": region}) for region in ("north", "east", "south")),
        Step(
            "export_customers",
            {"region": "west"},
            "hold",
            "Each export was small and allowed; together they are the whole table. Nothing runs until a person with "
            "role approver says yes.",
        ),
    ),
    1.5,
)
LOOPER: Final = Agent(
    "looper-1",
    "acme",
    "wl-looper",
    "searches the web, and has got stuck",
    (
        *(Step("search", {"query": "cheap-flights"}) for _ in range(PARAMS["same_action_a_minute"])),
        Step(
            "search",
            {"query": "cheap-flights"},
            "deny",
            "Not one of these searches is forbidden; the loop is. Attempts count, so asking again does not help.",
        ),
        *(Step("search", {"query": "cheap-flights"}, "deny") for _ in range(2)),
    ),
    0.7,
)
ANALYST: Final = Agent(
    "analyst-1",
    "acme",
    "wl-analyst",
    "honest work: reads reports and files",
    (
        Step("read_report", {"name": "week-46"}),
        Step("read_file", {"name": "price-list"}),
        Step("read_report", {"name": "week-47"}),
        Step("read_file", {"name": "targets"}),
        Step("read_report", {"name": "summary"}),
    ),
    1.2,
)
STOLEN: Final = Agent(
    "globex-support-1",
    "globex",
    "wl-globex",
    "another tenant's support agent, whose credentials leaked",
    (
        Step(
            "read_customer",
            {"customer": "0815"},
            "deny",
            "It may read customers and its chain is empty; but the risk table, fed by whoever watches, says that its "
            "credentials were seen in a paste.",
        ),
    ),
    3.0,
)
CAST: Final = (SUPPORT, EXPORTER, LOOPER, ANALYST, STOLEN)


def tools_of(chain: Chain, ran: Callable[[], None]) -> dict[str, Tool]:
    """The functions of one agent, guarded by its chain.

    Args:
        chain: what each call is judged against.
        ran: called by a body that runs.
    """

    @chain.guard("crm.read", roles={"customer": "object"}, resources="crm://customers/{customer}")
    async def read_customer(customer: str) -> None:
        del customer
        ran()

    @chain.guard("crm.export", roles={"region": "object"}, resources="crm://customers/{region}")
    async def export_customers(region: str) -> None:
        del region
        ran()

    @chain.guard("email.send", roles={"to": "destination", "body": "content"}, resources=_mailbox)
    async def send_mail(to: str, subject: str, body: str) -> None:
        del to, subject, body
        ran()

    @chain.guard("search.query", resources="search://web/{query}")
    async def search(query: str) -> None:
        del query
        ran()

    @chain.guard("reports.read", resources="reports://2026/{name}")
    async def read_report(name: str) -> None:
        del name
        ran()

    @chain.guard("files.read", resources="files://public/{name}")
    async def read_file(name: str) -> None:
        del name
        ran()

    tools = (read_customer, export_customers, send_mail, search, read_report, read_file)
    return {tool.__name__: tool for tool in tools}


def _mailbox(arguments: Mapping[str, Any]) -> str:
    """Inside or outside of the house, as `examples/tables/classification.yaml` tells them apart."""
    to: str = arguments["to"]
    return f"email://internal/{to}" if to.endswith(_HOUSE) else f"email://external/{to}"


@dataclass(slots=True)
class _Stopwatch:
    """When a call began, and when a body ran, if it did."""

    began_ns: int = field(default_factory=time.perf_counter_ns)
    ran_ns: int | None = None

    def ran(self) -> None:
        self.ran_ns = time.perf_counter_ns()

    def latency_ms(self) -> float:
        return ((self.ran_ns or time.perf_counter_ns()) - self.began_ns) / _NS_PER_MS


async def play(
    agent: Agent,
    wiring: Wiring,
    asks: Callable[[Agent, Step], None],
    done: Callable[[Attempt], Awaitable[None]],
    *,
    fast: bool,
) -> None:
    """Let one agent act, alone on its connection.

    Args:
        agent: who.
        wiring: its way to the log.
        asks: told before each step.
        done: told after each step.
        fast: without pauses.

    Raises:
        Unavailable, ProtocolError: it could not connect, or got no answer.
    """
    watch = _Stopwatch()

    def ran() -> None:
        watch.ran()

    realm = wiring.realm
    connection = Harness.connect(
        agent=agent.name, lane=agent.lane, workload=agent.workload, realm=realm.name, dev=True, wiring=wiring
    )
    async with connection as harness:
        tools = tools_of(await harness.chain(), ran)
        for number, step in enumerate(agent.steps):
            await asyncio.sleep(0 if fast else agent.pace_s)
            asks(agent, step)
            watch = _Stopwatch()
            decision = await _tried(tools[step.tool], step)
            await done(Attempt(agent, number, step, decision, watch.ran_ns is not None, watch.latency_ms()))


async def _tried(tool: Tool, step: Step) -> Decision:
    try:
        await tool(**step.arguments)
    except Denied:
        return "deny"
    except Held:
        return "hold"
    return "approve"
