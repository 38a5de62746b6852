"""On what something was measured: every figure belongs to a machine and to versions. Shared with `tests/faults`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import confluent_kafka

from harness_stream.local.artifacts import KAFKA_VERSION

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")


def machine() -> dict[str, str]:
    """The machine, how busy it is at this moment, and the versions of what takes part."""
    return {
        "cpu": f"{os.cpu_count()} × {_first(_CPUINFO, 'model name')}",
        "memory": f"{_gib(_first(_MEMINFO, 'MemTotal'))} GiB",
        "load average": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "confluent-kafka": version("confluent-kafka"),
        "librdkafka": confluent_kafka.libversion()[0],
        "redis-py": version("redis"),
        "cel-expr-python": version("cel-expr-python"),
    }


def _first(path: Path, name: str) -> str:
    """What a file that Linux makes up says behind the name; other systems have none."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")


def _gib(text: str) -> str:
    kib = text.partition(" ")[0]
    return f"{int(kib) / 1024**2:.0f}" if kib.isdigit() else text
