"""A server that outlives the command which started it, and is found again by its record file.

Rule of this file: no signal is sent to a process id before the system confirms that the id still belongs to the very
process we started. Process ids are reused; the time a process was born is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness_stream.errors import CallerError, ServerEnded, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOOPBACK = "127.0.0.1"

PORT_MAX = 65_535
"""TCP's own limit (RFC 9293)."""

KILL_LIMIT_S = 5.0
"""How long a process may take to vanish after SIGKILL: milliseconds; with much memory to free, a second."""

POLL_S = 0.02
"""Pause between two looks at a process or port: invisible to a person, and 50 looks a second cost no CPU."""

TOLD_S = 3.0
"""A person who sees nothing for longer believes that a command hangs; one broker serves within about that time."""

CONNECT_LIMIT_S = 1.0
"""A connection on this machine takes microseconds; a refused one too."""

LOG_TAIL_LINES = 5
"""Lines of a dead server's log shown with the error: enough for the cause, short enough to be read."""

LOG_TAIL_BYTES = 16_384
"""How much of the log's end is read to find those lines."""


class Progress(Protocol):
    """Told in the user's words what long step begins now."""

    def __call__(self, step: str, /) -> None:
        """Show `step`, for example "starting Redis"."""


def silent(step: str, /) -> None:
    """A `Progress` that shows nothing."""
    del step


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What the record file holds about one started process.

    Attributes:
        pid: process id.
        born: the system's own mark of the process's start, see `birth_mark`.
        started_at_s: seconds since the epoch, for showing the uptime only.
        address: where the server listens, as its clients write it.
    """

    pid: int
    born: str
    started_at_s: float
    address: str


def birth_mark(pid: int) -> str | None:
    """The system's mark of when process `pid` started, or None if no such process runs.

    Linux: boot id and start time in clock ticks, `/proc/PID/stat` field 22 (proc(5)). Elsewhere: `ps -o lstart`.
    A zombie does not run, unless threads of it are still ending: until the last has gone its ports stay taken.
    """
    if sys.platform != "linux":
        return _birth_mark_by_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    # The command's name stands in parentheses and may contain both spaces and parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    threads, start_time = int(fields[16]), fields[18]
    return None if state == "X" or (state == "Z" and threads <= 1) else f"{boot}/{start_time}"


def _birth_mark_by_ps(pid: int) -> str | None:
    answer = subprocess.run(  # noqa: S603  fixed command, a number as its argument
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, born = answer.stdout.strip().partition(" ")
    return None if not born or state.startswith("Z") else born.strip()


class DetachedProcess:
    """One server process in its own session, with a record file and a log file.

    Args:
        name: the server's name in messages.
        directory: where `NAME.json` (the record) and `NAME.log` are kept; created when the process starts.
    """

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.log_file = directory / f"{name}.log"
        self._record_file = directory / f"{name}.json"

    def last(self) -> ProcessRecord | None:
        """The record of the newest process, whether it still runs or not; None before the first."""
        try:
            return ProcessRecord(**json.loads(self._record_file.read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def running(self) -> ProcessRecord | None:
        """The record of the process, if it still runs."""
        record = self.last()
        if record is None:
            return None
        _reap(record.pid)
        return record if birth_mark(record.pid) == record.born else None

    def spawn(self, command: list[str], *, address: str, environment: Mapping[str, str] | None = None) -> ProcessRecord:
        """Start `command` in its own session, with its output in the log file, and write the record.

        The previous run's log is kept as `NAME.previous.log`, so logs never grow beyond two runs.

        Raises:
            ServerEnded: it ended at once.
            Unavailable: the system could not start it.
        """
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.log_file.replace(self.log_file.with_suffix(".previous.log"))
        pid = _spawn_in_own_session(command, self.log_file, environment)
        born = birth_mark(pid)
        if born is None:
            raise self.failed("ended as soon as it was started", ServerEnded)
        record = ProcessRecord(pid=pid, born=born, started_at_s=time.time(), address=address)
        draft = self._record_file.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(record)), encoding="utf-8")
        draft.replace(self._record_file)
        return record

    def wait_until(self, answers: Callable[[], bool], limit_s: float, progress: Progress = silent) -> None:
        """Return as soon as `answers()` is true; `progress` is told every `TOLD_S` that it is not yet.

        Raises:
            ServerEnded: the process ended.
            Unavailable: `limit_s` seconds passed.
        """
        began = told = time.monotonic()
        end = began + limit_s
        while not answers():
            if time.monotonic() - told >= TOLD_S:
                told = time.monotonic()
                progress(f"waiting for {self.name} to answer, {told - began:.0f} of at most {limit_s:.0f} s")
            if self.running() is None:
                raise self.failed("ended while starting", ServerEnded)
            if time.monotonic() > end:
                raise self.failed(f"runs, but did not answer within {limit_s:g} s")
            time.sleep(POLL_S)

    def stop(self, limit_s: float) -> bool:
        """SIGTERM, and SIGKILL after `limit_s` seconds. Safe to call at any time; returns whether anything ran."""
        record = self.running()
        if record is not None:
            self._signal(record, signal.SIGTERM)
            if not self._gone_within(limit_s):
                self._signal(record, signal.SIGKILL)
                self._require_gone()
        return record is not None

    def kill(self) -> None:
        """SIGKILL: what a crash looks like."""
        record = self.running()
        if record is not None:
            self._signal(record, signal.SIGKILL)
            self._require_gone()

    def failed(self, what: str, kind: type[Unavailable] = Unavailable) -> Unavailable:
        """The error that says what happened to this process, with the end of its log."""
        return kind(f"{self.name} {what}{_log_tail(self.log_file)}", hint=f"read {self.log_file}")

    def _signal(self, record: ProcessRecord, number: signal.Signals) -> None:
        if birth_mark(record.pid) != record.born:
            return
        try:
            os.kill(record.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise CallerError(
                f"{self.name} (process {record.pid}) belongs to another user", hint="stop it as the user who started it"
            ) from error

    def _gone_within(self, limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while self.running() is not None:
            if time.monotonic() > end:
                return False
            time.sleep(POLL_S)
        return True

    def _require_gone(self) -> None:
        if not self._gone_within(KILL_LIMIT_S):
            raise self.failed(f"did not vanish within {KILL_LIMIT_S:g} s of SIGKILL")


def _spawn_in_own_session(command: list[str], log_file: Path, environment: Mapping[str, str] | None) -> int:
    # posix_spawn, because a subprocess.Popen object wants to outlive its child, and here the child outlives us.
    output = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = (
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log_file), output, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    )
    try:
        return os.posix_spawn(
            command[0], command, {**os.environ, **(environment or {})}, file_actions=actions, setsid=True
        )
    except OSError as error:
        raise Unavailable(f"cannot start {command[0]}: {error.strerror}", hint="is it executable?") from error


def _reap(pid: int) -> None:
    # Only a child of this very process can be a zombie of ours; for all others this is a harmless error.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _log_tail(log_file: Path) -> str:
    try:
        with log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    # Java's stack traces are for the log; the lines between them say what happened.
    told = [line for line in lines if line and not line[0].isspace()]
    return "".join(f"\n  | {line}" for line in told[-LOG_TAIL_LINES:])


def accepts_connections(address: str) -> bool:
    """Whether something listens at `host:port`. Far cheaper than a client's attempt, and silent."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_LIMIT_S):
            return True
    except OSError:
        return False


def require_free_port(port: int, *, name: str, flag: str) -> None:
    """Check that `name` may listen on the loopback `port`.

    Raises:
        CallerError: another program uses the port, or it may not be used; `flag` is the option that changes it.
    """
    taken = CallerError(
        f"port {port}, wanted for {name}, is in use by another program",
        hint=f"stop that program, or choose another port: {flag} PORT",
    )
    if accepts_connections(f"{LOOPBACK}:{port}"):
        raise taken
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError as error:
            raise CallerError(f"port {port} needs more rights", hint=f"choose one above 1023: {flag} PORT") from error
        except OSError as error:
            raise taken from error


def free_port() -> int:
    """A loopback TCP port that nothing uses at this moment."""
    return free_ports(1)[0]


def free_ports(count: int) -> tuple[int, ...]:
    """So many of them, no two alike: one that was let go of may be given again at once."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return tuple(int(probe.getsockname()[1]) for probe in probes)
