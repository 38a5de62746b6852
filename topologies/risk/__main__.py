"""`python -m topologies.risk`: the Faust worker with this project's settings; SIGTERM stops it cleanly.

The same as `faust -A topologies.risk.app worker -l info`, without Faust's own command line. Several share the work.
What Faust's client would show as a traceback (no broker, a topic that is missing) is asked for first.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from harness_stream.config import load_settings
from harness_stream.errors import CallerError, HarnessError
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from harness_stream.config import Settings


def main() -> None:
    """Run until stopped. Exit codes are those of `harness`."""
    try:
        app = _ready(load_settings())
    except HarnessError as error:
        sys.exit(_said(error))
    app.Worker(loglevel="info").execute_from_commandline()


def _ready(settings: Settings) -> Any:  # noqa: ANN401  Faust has no types
    """The app, once everything it will ask the broker for is known to be there."""
    try:
        from topologies.risk.app import build  # noqa: PLC0415  Faust takes a second to load; a wrong setting must not
    except ModuleNotFoundError as error:
        raise CallerError(
            f"the risk topology needs the package `{error.name}`, which is not installed",
            hint="`pip install 'harness-stream[topologies]'` brings it",
        ) from error
    from harness_stream.adapters.kafka.admin import require_topics  # noqa: PLC0415  as above

    app, topics = build(settings), Topics(settings.prefix)
    require_topics(settings.bootstrap, [topics.intents, topics.verdicts, topics.heads, topics.risk])
    return app


def _said(error: HarnessError) -> int:
    sys.stderr.write(f"error: {error.message}\n" + (f"→ {error.hint}\n" if error.hint else ""))
    return error.exit_code


main()
