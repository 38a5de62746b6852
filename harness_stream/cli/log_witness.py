"""`harness log witness`: keeps checkpoints where the broker's owner cannot reach them.

Rule of this file: it opens, loops and shows; what contradicts what is `runtime.witness`'s to say.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness_stream.cli.flags import takes
from harness_stream.cli.replay_output import as_json
from harness_stream.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.config import Settings
    from harness_stream.core.audit import Finding
    from harness_stream.runtime.witness import Witness

EXIT_FOUND: Final = 1
# Checkpoints come once a second: at this rate looking for them is not seen in `top`, and Ctrl-C is heeded at once.
LOOK_S: Final = 0.1
EVERY: Final = "60s"
# A shorter interval holds every checkpoint there is: a busy owner writes one a second.
EVERY_MS_MIN: Final = 1_000
DAY_MS: Final = 86_400_000
LINE_BYTES: Final = 550  # incarnation, three digests, a writer and numbers; a test compares it with a real line


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def witness(
    *,
    settings: Settings,
    path: Annotated[str, typer.Argument(help="A file, or a folder (ending in /) with one file a partition.")],
    once: Annotated[bool, typer.Option("--once", help="End where the heads topic ends now.")] = False,
    every: Annotated[str, typer.Option(metavar="60s", help="Hold the newest of each so long.")] = EVERY,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a finding, then a summary.")] = False,
) -> None:
    """Hold the decision log's checkpoints somewhere else, until Ctrl-C.

    Whoever owns the broker can cut the decision log or write it anew, and
    its checkpoints with it. What is held out of reach makes that visible:
    `harness log verify --witness PATH` compares it with the log. So keep PATH
    on a machine that the broker's owner does not administer.

    It follows the heads topic and appends a JSON line a checkpoint: place,
    digest, head, epoch, next_input, incarnation, append time. Nothing that
    stands there is ever changed; each line is on the disk before the next one
    is looked at, and what a crash tore is mended at the next start.

    Of each interval (--every) and partition the newest one is held: with 60s
    at most 1,440 lines, 0.8 MB, a day and partition; what a cut takes
    away is known to the interval. While nobody watches, the heads topic keeps
    the newest checkpoint and those of some ten minutes, so a cut that happens
    meanwhile is found as well.

    A checkpoint that cannot come from a log that goes on from what is held
    (lower offset, another record, an epoch that goes back, inputs answered
    again without a resume) is told at once, after a look into the log, and
    held as well, since it is evidence. Exit code 1 if there was any; 3 if the
    broker stays away when it must be asked: started again it goes on where it
    was, and first looks whether what it held last still stands.

    Example: harness log witness /mnt/elsewhere/heads/

    Example: harness log witness heads.jsonl --once
    """
    every_ms = _every_ms(every)
    found = 0
    with ExitStack() as ending, _opened(settings, path, every_ms) as built:
        if not once:
            _say_what_it_does(path, every, every_ms)
        for finding in _once(built, settings) if once else _until_stopped(built, ending):
            found += 1
            _tell(finding, json=json)
        built.finish()
        _summary(built, found, json=json)
    if found:
        raise typer.Exit(EXIT_FOUND)


def _every_ms(text: str) -> int:
    from harness_stream.cli.replay_part import duration_ms  # noqa: PLC0415  slow to load, `--help` is not

    found = duration_ms(text, "--every")
    if found < EVERY_MS_MIN:
        raise CallerError(f"--every {text}: too short", hint="a partition has one checkpoint a second: 1s or more")
    return found


@contextmanager
def _opened(settings: Settings, path: str, every_ms: int) -> Iterator[Witness]:
    """A witness of all partitions; what it has seen and not held yet is held in the end, whatever ends it."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import incarnation, partitions, require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import keys_of, verifier_of  # noqa: PLC0415  same
    from harness_stream.adapters.witness_file import WitnessFile  # noqa: PLC0415  same
    from harness_stream.runtime.witness import Witness, WitnessPorts  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    keys_of(settings)
    topics, kafka = Topics(settings.prefix), settings.kafka
    with closing(WitnessFile(path)) as keeper:
        read = [topics.verdicts, topics.heads]
        require_topics(kafka, read, describes=[topics.intents])
        count = partitions(settings, topics.verdicts)
        with closing(KafkaReader(kafka, topics=read)) as reader, closing(KafkaReader(kafka, topics=read)) as again:
            asked, verifier = partial(incarnation, settings), verifier_of(settings, incarnation(settings))
            ports = WitnessPorts(reader, again, topics, verifier, SystemClock(), asked)
            built = Witness(ports, keeper, range(count), every_ms)
            try:
                yield built
            finally:
                built.finish()


def _once(built: Witness, settings: Settings) -> Iterator[Finding]:
    """Up to the end there was when it began."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.runtime.to_end import wait_or_give_up  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    clock, topic = SystemClock(), Topics(settings.prefix).heads
    yield from built.begin()
    heard_ms, read = clock.elapsed_ms(), built.read
    while built.behind:
        yield from built.step()
        if built.read > read:
            heard_ms, read = clock.elapsed_ms(), built.read
        else:
            wait_or_give_up(topic, clock, heard_ms)


def _until_stopped(built: Witness, ending: ExitStack) -> Iterator[Finding]:
    """Until a signal. What is written to may hang: until all is put away (`ending`) a second Ctrl-C counts."""
    from harness_stream.cli.worker import Stop  # noqa: PLC0415  slow to load, `--help` is not

    stop = Stop()
    stop.by_draining()
    ending.callback(stop.by_ending)
    yield from built.begin()
    while not stop.asked:
        read = built.read
        yield from built.step()
        if built.read == read:
            time.sleep(LOOK_S)


# --- What is shown ---


def _say_what_it_does(path: str, every: str, every_ms: int) -> None:
    lines = DAY_MS // every_ms
    size = f"at most {lines:,} lines, {lines * LINE_BYTES / 1_000_000:.1f} MB, a day and partition"
    typer.echo(f"holding the newest checkpoint of each {every} in {path}: {size}; Ctrl-C ends it", err=True)


def _tell(finding: Finding, *, json: bool) -> None:
    from harness_stream.cli.log_verify import finding_text  # noqa: PLC0415  slow to load, `--help` is not

    typer.echo(as_json(finding.to_json()) if json else finding_text(finding))


def _summary(built: Witness, found: int, *, json: bool) -> None:
    told: dict[str, Any] = {"findings": found, "held": built.kept}
    if json:
        typer.echo(as_json({"summary": told}))
        return
    held = f"{built.kept:,} checkpoint{'' if built.kept == 1 else 's'} held"
    wrong = f"{found:,} contradiction{'' if found == 1 else 's'}" if found else "nothing contradicts what was held"
    typer.echo(f"{held}; " + typer.style(wrong, fg="red" if found else "green"))
