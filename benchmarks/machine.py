"""On what something was measured: every figure belongs to a machine and to versions. Shared with `tests/faults`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import confluent_kafka

from harness_stream.local.artifacts import KAFKA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNKNOWN: Final = "unknown"
LOAD: Final = "load average"
# A quarter of each CPU is taken by something else: then a p99 shows that, and not us.
BUSY_SHARE: Final = 0.25
_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_ROOT = Path(__file__).resolve().parents[1]
_ANSWER_S_MAX: Final = 10.0


def machine() -> dict[str, str]:
    """The machine, how busy it is at this moment, and the versions of what takes part."""
    return {
        "cpu": f"{os.cpu_count()} × {_first(_CPUINFO, 'model name')}",
        "memory": f"{_gib(_first(_MEMINFO, 'MemTotal'))} GiB",
        LOAD: f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "confluent-kafka": version("confluent-kafka"),
        "librdkafka": confluent_kafka.libversion()[0],
        "redis-py": version("redis"),
        "cel-expr-python": version("cel-expr-python"),
    }


def measured_on(servers: Mapping[str, str] | None = None) -> dict[str, str]:
    """The same with date and own version, for a measurement that begins now.

    Args:
        servers: what takes part besides this process, by name: Kafka, Redis, Java; None: nothing.
    """
    found = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "commit": commit(), **machine()}
    del found["kafka"]  # that is what we would start, not what was asked
    return found | dict(servers or {})


def lines(on: Mapping[str, str]) -> list[str]:
    """The head of an output: all of it, and a warning if something else runs."""
    told = [f"on: {', '.join(f'{name} {value}' for name, value in on.items())}"]
    load, processors = float(on.get(LOAD, 0)), os.cpu_count() or 1
    if load > BUSY_SHARE * processors:
        told.append(f"BUSY: at the start something else ran (load average {load}, {processors} CPUs): trust no figure")
    return told


def commit() -> str:
    """What is checked out here, `+` if files differ from it."""
    said = _said(["git", "-C", str(_ROOT), "describe", "--always", "--dirty=+", "--exclude=*"])
    return said.strip() or UNKNOWN


def java_version() -> str:
    """Of the Java that starts our own Kafka."""
    home = os.environ.get("JAVA_HOME")
    said = _said([f"{home}/bin/java" if home else "java", "-version"])
    return said.partition('"')[2].partition('"')[0] or UNKNOWN


def _said(command: Sequence[str]) -> str:
    """What a program says in both of its outputs; nothing if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_ANSWER_S_MAX)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr


def _first(path: Path, name: str) -> str:
    """What a file that Linux makes up says behind the name; other systems have none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), UNKNOWN)


def _gib(text: str) -> str:
    kib = text.partition(" ")[0]
    return f"{int(kib) / 1024**2:.0f}" if kib.isdigit() else text
