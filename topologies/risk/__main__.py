"""`python -m topologies.risk`: the Faust worker with this project's settings; SIGTERM stops it cleanly.

The same as `faust -A topologies.risk.app worker -l info`, without Faust's own command line. Several share the work.
What Faust's client would show as a traceback (no broker, a topic that is missing) is asked for first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from harness_stream.cli.flags import takes
from harness_stream.cli.main import run
from harness_stream.errors import CallerError
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from harness_stream.config import Settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
@takes("bootstrap", "prefix", "realm", "dev", "keys", "risk_half_life_ms", "risk_denials_full", "risk_ignored_rules")
def risk(*, settings: Settings) -> None:
    """Turn denials into risk until stopped: an agent that is denied again and again becomes risky, and recovers.

    It reads the decision log and writes the `agent:` rows of the risk table, which rules read as `risk.score`. Start
    several to share the work. It keeps nothing: a new process rebuilds the scores from the log. SIGTERM stops it.

    Example: python -m topologies.risk --dev
    """
    _ready(settings).Worker(loglevel="info").execute_from_commandline()


def _ready(settings: Settings) -> Any:  # noqa: ANN401  Faust has no types
    """The app, once everything it will ask the broker for is known to be there."""
    try:
        from topologies.risk.app import build  # noqa: PLC0415  Faust takes a second to load; a wrong setting must not
    except ModuleNotFoundError as error:
        raise CallerError(
            f"the risk topology needs the package `{error.name}`, which is not installed",
            hint="`pip install 'harness-stream[topologies]'` brings it",
        ) from error
    from harness_stream.adapters.kafka.admin import KafkaAdmin, require_topics  # noqa: PLC0415  as above
    from harness_stream.wire.acls import risk_group  # noqa: PLC0415  as above

    built, topics = build(settings), Topics(settings.prefix)
    require_topics(
        settings.kafka, [topics.verdicts, topics.heads], writes=[topics.risk], describes=[topics.intents]
    )
    KafkaAdmin(settings.kafka).require_group(risk_group(settings.prefix))
    return built


run(app, "python -m topologies.risk")
