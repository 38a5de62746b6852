"""`harness demo`: a few agents, judged while one watches.

Rule of this file: it composes stage, tables, rules, agents and screen; exit code 1 if anything that must hold does not.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness_stream.cli.elsewhere import pointing_elsewhere
from harness_stream.config import Settings, load_settings
from harness_stream.errors import BrokerUnavailable, CallerError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.demo.agents import Agent, Attempt, Step
    from harness_stream.demo.audit import Audit, Watch
    from harness_stream.demo.screen import Screen
    from harness_stream.demo.stage import Stage
    from harness_stream.demo.story import Judged
    from harness_stream.demo.verify import Check
    from harness_stream.ports import Clock

# Two worker processes import, join the group and claim in 3 s; a loaded laptop takes a multiple.
READY_MS_MAX: Final = 30_000
# A verdict that an agent was told is in the log already; the second reader needs some milliseconds.
SEEN_MS_MAX: Final = 5_000
# Two lanes in more partitions show that lanes have their own; more would only cost claims.
PARTITIONS: Final = 4
RULE_SET: Final = "production"


def demo(
    *,
    kafka: Annotated[bool, typer.Option("--kafka", help="On the real broker and Redis of your settings.")] = False,
    fast: Annotated[bool, typer.Option("--fast", help="Without pauses to read along.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="With --kafka: leave the topics there to look at.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a verdict, then a summary.")] = False,
    bootstrap: Annotated[str | None, typer.Option(help="With --kafka: Kafka bootstrap servers.")] = None,
    redis: Annotated[str | None, typer.Option(help="With --kafka: Redis URL.")] = None,
) -> None:
    """Watch agents being judged: five of them act, some of what they are allowed to do is stopped, and you see why.

    It runs alone in this process and leaves nothing behind. With --kafka it creates topics of its own and starts two
    workers. It ends by checking both logs from the first record; exit code 1 if anything does not hold.

    Example: harness demo
    """
    if not kafka and (keep or bootstrap or redis):
        raise CallerError("`--keep`, `--bootstrap` and `--redis` need `--kafka`", hint="`harness demo --kafka --keep`")
    try:
        stage = _stage(kafka, keep, bootstrap, redis)
        with pointing_elsewhere(stage.settings) if kafka else nullcontext():
            holds = asyncio.run(_until_told(_Demo(stage, _screen(json), fast)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    if not holds:
        raise typer.Exit(1)


def samples() -> Path:
    """The folder with `tables` and `rules`: inside the installed package, else in the source tree.

    Raises:
        ConfigError: it is in neither.
    """
    package = Path(str(resources.files("harness_stream")))
    for folder in (package / "_examples", package.parent / "examples"):
        if (folder / "tables").is_dir():
            return folder
    raise ConfigError("the sample tables and rules are not here", hint="install the package again")


def _screen(as_json: bool) -> Screen:
    from harness_stream.demo.screen import JsonLines, Terminal  # noqa: PLC0415  `--help` needs neither

    return JsonLines() if as_json else Terminal()


def _clock() -> Clock:
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  as above

    return SystemClock()


def _stage(kafka: bool, keep: bool, bootstrap: str | None, redis: str | None) -> Stage:
    if not kafka:
        from harness_stream.demo.stage import MemoryStage  # noqa: PLC0415  as above

        return MemoryStage(Settings(partitions=PARTITIONS, rule_set=RULE_SET, realm="demo", dev=True), _clock())
    from harness_stream.demo.kafka_stage import KafkaStage  # noqa: PLC0415  as above

    settings = load_settings(
        bootstrap=bootstrap,
        redis_url=redis,
        prefix=f"demo-{secrets.token_hex(4)}",
        partitions=PARTITIONS,
        rule_set=RULE_SET,
        dev=True,
    )
    return KafkaStage(settings, _clock(), keep=keep)


@dataclass(slots=True)
class _Cue:
    """What the agents call while they act."""

    watch: Watch
    screen: Screen
    judged: list[Judged]

    async def done(self, attempt: Attempt) -> None:
        """Show what the log says of it, which is not the agent's word for it."""
        from harness_stream.demo.story import judged_of  # noqa: PLC0415  as above

        name = attempt.agent.name

        def logged(audit: Audit) -> bool:
            return len(audit.verdicts(name)) > attempt.number

        await self.watch.until(logged, f"the verdict for `{name}`", SEEN_MS_MAX)
        body = self.watch.audit.verdicts(name)[attempt.number]
        judged = judged_of(attempt, body, self.watch.audit)
        self.judged.append(judged)
        self.screen.judged(judged)


async def _until_told(demo: _Demo) -> bool:
    """SIGTERM ends it as Ctrl-C does, through every clean-up, so that no worker or topic is left behind."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is not None:
        signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(task.cancel))
    return await demo.run()


class _Demo:
    """One performance."""

    def __init__(self, stage: Stage, screen: Screen, fast: bool) -> None:
        from harness_stream.demo.agents import CAST  # noqa: PLC0415  as above

        self._stage, self._screen, self._fast = stage, screen, fast
        self._cast: Sequence[Agent] = CAST
        self._clock = _clock()

    async def run(self) -> bool:
        """Play and check; whether everything holds."""
        try:
            self._screen.opening(self._cast)
            self._prepare()
            self._stage.start()
            found = await self._play()
        finally:
            self._screen.stop()
            self._stage.close()
        rules = (f"$EDITOR {samples() / 'rules' / RULE_SET}.yaml", "the rules that judged, plain YAML")
        self._screen.next_steps((*self._stage.next_steps(), rules))
        return all(check.ok for check in found)

    def _prepare(self) -> None:
        """Topics; then tables and rules, as `tables load` and `rules push` write them."""
        from harness_stream.cli import rules, tables  # noqa: PLC0415  as above
        from harness_stream.cli.rules_check import read_rules  # noqa: PLC0415  as above
        from harness_stream.core.rules.compile import load  # noqa: PLC0415  as above
        from harness_stream.demo.agents import PARAMS  # noqa: PLC0415  as above

        stage, settings, file = self._stage, self._stage.settings, samples() / "rules" / f"{RULE_SET}.yaml"
        workers = f"{stage.workers} worker{'s' * (stage.workers > 1)}"
        self._screen.fact(f"Where: {stage.title}; {workers}, {settings.partitions} partitions, unsigned (--dev)")
        stage.open()
        program = load(read_rules(file), file.name, dict(PARAMS))
        with closing(stage.reader()) as reader, closing(stage.writer()) as writer:
            topics, options = tables.topics_of(settings), tables.Options()
            report = tables.load_folder(
                samples() / "tables", reader, writer, topics=topics, clock=self._clock, options=options
            )
            rules.publish(program, settings, reader, writer, self._clock)
        if report.mistakes:
            raise ConfigError(f"{len(report.mistakes)} mistakes in the sample tables", hint="install the package again")
        rows = sum(table.written for table in report.tables.values())
        knobs = ", ".join(f"{name}={value}" for name, value in PARAMS.items())
        self._screen.fact(f"Facts: {rows} rows of who, where, how risky and what data")
        self._screen.fact(f"Rules: {file.name} with {knobs}")

    async def _play(self) -> list[Check]:
        from harness_stream.demo.audit import Watch  # noqa: PLC0415  as above

        with closing(self._stage.reader()) as reader:
            watch = Watch(self._stage.realm(), reader, self._clock)
            await self._ready(watch)
            self._screen.curtain()
            cue, began = _Cue(watch, self._screen, []), time.monotonic()
            await self._act(cue)
            seconds = time.monotonic() - began
            self._screen.stop()
            found = await self._check(watch, cue.judged)
        chains = {agent.name: [j for j in cue.judged if j.agent_id == agent.name] for agent in self._cast}
        self._screen.closing(chains, found, seconds)
        return found

    async def _ready(self, watch: Watch) -> None:
        def deciding(audit: Audit) -> bool:
            failure = self._stage.failure()
            if failure:
                raise BrokerUnavailable(f"a worker could not start: {failure}", hint="`harness status` shows what runs")
            return len(audit.deciding) >= self._stage.workers

        await watch.until(deciding, "workers for every partition", READY_MS_MAX)

    async def _act(self, cue: _Cue) -> None:
        """Everybody at once; the first that cannot go on ends it for all."""
        from harness_stream.demo.agents import play  # noqa: PLC0415  as above

        def asks(agent: Agent, step: Step) -> None:
            self._screen.asked(agent, step)

        acting = [
            asyncio.create_task(play(agent, self._stage.wiring(), asks, cue.done, fast=self._fast))
            for agent in self._cast
        ]
        try:
            await asyncio.gather(*acting)
        finally:
            for task in acting:
                task.cancel()
            await asyncio.gather(*acting, return_exceptions=True)

    async def _check(self, watch: Watch, judged: Sequence[Judged]) -> list[Check]:
        """Wait until every input is covered, stop the workers, and read both logs again."""
        from harness_stream.demo import verify  # noqa: PLC0415  as above

        realm = self._stage.realm()
        with closing(self._stage.reader()) as reader:
            ends = verify.input_ends(realm, reader, self._clock)

            def covered(audit: Audit) -> bool:
                return all(audit.next_input(partition) >= end for partition, end in ends.items())

            await watch.until(covered, "an answer to every input", SEEN_MS_MAX)
            await asyncio.to_thread(self._stage.stop)
            audit = verify.fold_again(realm, reader, self._clock)
        intended = sum(len(agent.steps) for agent in self._cast)
        return verify.checks(audit, ends, judged, intended)
