"""A forked process that is to be refused something, and must not hang."""

import os
import signal
import time

from harness_stream.errors import CallerError

REFUSED = 7
PATIENCE_S = 5


def forked(use):
    """How a forked process ended that does `use`: REFUSED, 0 if it was let, 1 after any other error."""
    child = os.fork()
    if child == 0:
        os._exit(_ended(use))
    return _exit_code(child)


def _ended(use):
    try:
        use()
    except CallerError:
        return REFUSED
    except BaseException:  # noqa: BLE001  a child may not go on with the parent's tests
        return 1
    return 0


def _exit_code(pid):
    patience = time.monotonic() + PATIENCE_S
    while time.monotonic() < patience:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "it hangs"
