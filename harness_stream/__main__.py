"""The `harness` command from its first moment; `python -m harness_stream` is the same.

Rule of this file: SIGTERM is caught before anything slow is imported. A first process (in a container without an init)
has no default handling of signals, so that a stop would be lost there. Here it ends the process as it does elsewhere,
at once; a command that has something to put away (the worker, the demo) has a way of its own. So it is with Ctrl-C
while nothing but imports has happened, which would show a traceback.
"""

from __future__ import annotations

import os
import signal

EXIT_TERMINATED = 143
"""128 + SIGTERM, the shells' convention."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT."""


def main() -> None:
    """Run the command line. Exit codes: those of `cli.main.main`, 143 if SIGTERM ended it, 130 if Ctrl-C did."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(EXIT_TERMINATED))
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in the background of a script
    if heeded:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(EXIT_INTERRUPTED))
    from harness_stream.cli.main import main as command  # noqa: PLC0415  takes a quarter of a second

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()


if __name__ == "__main__":
    main()
