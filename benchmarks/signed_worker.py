"""The product's worker, also on a signed realm of one replica; asked to, it notes where its CPU time goes.

    python signed_worker.py                      settings from HARNESS_*, as `harness worker` reads them
    python signed_worker.py patient              for a log that was filled before: nothing is denied with `overload`
    python signed_worker.py patient FILE         also writes what stages.py saw to FILE at its end

Rule of this file: nothing else is left out than the look at the topics' settings (`compose.verified_realm`), and what
a patient one does not do: whoever drains a filled log is behind for seconds, and would refuse most of it unjudged.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from stages import Stages

from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.cli.compose import kafka_worker, realm_of
from harness_stream.cli.worker import Stop, loop
from harness_stream.config import load_settings
from harness_stream.core import backlog, limits
from harness_stream.runtime.telemetry import PrometheusMetrics

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def main(words: list[str]) -> None:
    """Work until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stop, settings = Stop(), load_settings()
    realm = realm_of(settings, incarnation(settings))
    stop.by_draining()
    built = kafka_worker(settings, realm, PrometheusMetrics())
    stages = Stages() if words[1:] else None
    with stages or nullcontext(), patience() if words else nullcontext():
        loop(built, stop)
    if stages is not None:
        Path(words[1]).write_text(json.dumps(stages.to_json()), encoding="utf-8")


def patience() -> AbstractContextManager[object]:
    """A backlog never counts as lasting."""
    return mock.patch.object(backlog, "LASTING_MS", limits.INTEGER_MAX)


if __name__ == "__main__":
    main(sys.argv[1:])
