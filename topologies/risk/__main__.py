"""`python -m topologies.risk`: the Faust worker with this project's settings; SIGTERM stops it cleanly.

The same as `faust -A topologies.risk.app worker -l info`, without Faust's own command line. Several share the work.
"""

from __future__ import annotations

import sys

from harness_stream.config import load_settings
from harness_stream.errors import HarnessError


def main() -> None:
    """Run until stopped. Exit codes are those of `harness`."""
    from topologies.risk.app import build  # noqa: PLC0415  Faust takes a second to load; a wrong setting must not

    try:
        app = build(load_settings())
    except HarnessError as error:
        sys.exit(_said(error))
    app.Worker(loglevel="info").execute_from_commandline()


def _said(error: HarnessError) -> int:
    sys.stderr.write(f"error: {error.message}\n" + (f"→ {error.hint}\n" if error.hint else ""))
    return error.exit_code


main()
