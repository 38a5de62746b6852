"""The `harness` command from its first moment; `python -m harness_stream` is the same.

Rule of this file: SIGTERM is caught before anything slow is imported. A first process (in a container without an init)
has no default handling of signals, so that a stop would be lost there. Here it ends the process as it does elsewhere,
at once; a command that has something to put away (the worker, the demo) has a way of its own.
"""

from __future__ import annotations

import os
import signal

EXIT_TERMINATED = 143
"""128 + SIGTERM, the shells' convention."""


def main() -> None:
    """Run the command line. Exit codes: those of `cli.main.main`, and 143 if SIGTERM ended it."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(EXIT_TERMINATED))
    from harness_stream.cli.main import main as command  # noqa: PLC0415  takes a quarter of a second

    command()


if __name__ == "__main__":
    main()
