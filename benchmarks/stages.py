"""Where a worker's CPU time goes, by the stages of DESIGN §2: looked at some hundred times a CPU second from inside.

Rule of this file: it changes nothing of what it looks at. A look finds the innermost function that `STAGES` names and
gives it what the main thread has used since the last look; so helpers count for whoever called them, and no call is
made dearer than another, as a tracing profiler does. What the process uses beyond that are librdkafka's threads.
"""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import harness_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

PACKAGE: Final = Path(harness_stream.__file__).parent
LOOK_EVERY_S: Final = 0.001  # the system may look less often: as its clock ticks
FUNCTIONS_SHOWN: Final = 60
LIBRARY, REST, DECIDES = "librdkafka's threads", "loop and the rest", "rules"

STAGES: Final[Mapping[str, str]] = {
    "adapters/kafka/group.py": "consume",
    "adapters/kafka/record.py": "consume",
    "runtime/inbox.py": "consume",
    "runtime/admission.py": "decode",
    "wire/codec.py": "decode",
    "adapters/signing/inputs.py": "MAC",
    "adapters/signing/verifier.py": "MAC",
    "core/join.py": "join",
    "core/tables.py": "join",
    "core/rules/*": "rules",
    "core/combine.py": "rules",
    "core/variables.py": "rules",
    "core/views.py": "rules",
    "core/rules/windows.py": "windows",
    "core/window/*": "windows",
    "core/counting.py": "windows",
    "core/groups.py": "windows",
    "core/decide.py": "decide, and what is left of it",
    "core/intake.py": "decide, and what is left of it",
    "core/apply.py": "fold and state",
    "core/fold.py": "fold and state",
    "core/state.py": "fold and state",
    "core/chain.py": "fold and state",
    "core/ids.py": "fold and state",
    "wire/decisions.py": "encode",
    "runtime/batch.py": "encode",
    "adapters/signing/decisions.py": "sign",
    "adapters/signing/merkle.py": "sign",
    "wire/decisions.py:decision_headers": "produce",
    "runtime/outbox.py": "produce",
    "adapters/kafka/log.py:append": "produce",
    "adapters/kafka/log.py:deliveries": "confirm",
    "adapters/kafka/log.py:report": "confirm",
    "runtime/outbox.py:take": "confirm",
    "runtime/deciding.py:delivered": "confirm",
    "runtime/deciding.py:_confirm": "confirm",
    "runtime/checkpoints.py": "checkpoint",
    "runtime/outbox.py:copy_to_heads": "checkpoint",
    "runtime/mover.py": "store and snapshots",
    "runtime/snapshots.py": "store and snapshots",
    "adapters/redis/*": "store and snapshots",
    "core/units.py": "store and snapshots",
}
"""`file`, `folder/*` or `file:function` of the package → stage; the most exact wins, the unnamed is its caller's."""

ORDER: Final = (*dict.fromkeys(STAGES.values()), REST, LIBRARY)


def stage_of(file: str, function: str) -> str | None:
    """The stage that names a function, None if none does."""
    folder = file.rpartition("/")[0]
    return STAGES.get(f"{file}:{function}") or STAGES.get(file) or STAGES.get(f"{folder}/*")


class Stages:
    """Looks while it is entered; main thread only, since Python runs signal handlers there.

    What counts lies between the first and the last look that met a rule being asked: not the start, not idling.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._functions: dict[str, float] = defaultdict(float)
        self._since: list[tuple[str, str, float]] = []  # since a rule was last met
        self._looks, self._deciding = 0, False
        self._before = self._library_from = self._library_s = 0.0
        self._names: dict[Any, tuple[str | None, str]] = {}

    def __enter__(self) -> Self:
        self._before = time.thread_time()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, LOOK_EVERY_S, LOOK_EVERY_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def to_json(self) -> dict[str, Any]:
        """Seconds by stage, librdkafka's included; and of the dearest functions of ours, with what they call."""
        dearest = sorted(self._functions.items(), key=itemgetter(1), reverse=True)
        return {
            "looks": self._looks,
            "seconds": {**self._seconds, LIBRARY: self._library_s},
            "functions": dict(dearest[:FUNCTIONS_SHOWN]),
        }

    def _look(self, _number: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        spent, self._before = now - self._before, now
        found = list(self._frames(frame))
        stage = next((stage for stage, _ in found if stage is not None), REST)
        self._since.append((stage, found[0][1] if found else "outside", spent))
        if stage == DECIDES:
            self._count(time.process_time() - now)

    def _count(self, library_s: float) -> None:
        if self._deciding:
            for stage, function, spent in self._since:
                self._seconds[stage] += spent
                self._functions[function] += spent
            self._looks += len(self._since)
            self._library_s = max(0.0, library_s - self._library_from)
        else:
            self._deciding, self._library_from = True, library_s
        self._since.clear()

    def _frames(self, frame: FrameType | None) -> Iterator[tuple[str | None, str]]:
        """(stage, name) of each of the package's functions on the stack, the innermost first."""
        while frame is not None:
            code = frame.f_code
            if code not in self._names:
                self._names[code] = _named(code.co_filename, code.co_name)
            if self._names[code][1]:
                yield self._names[code]
            frame = frame.f_back


def _named(path: str, function: str) -> tuple[str | None, str]:
    if not path.startswith(f"{PACKAGE}/"):
        return None, ""
    file = path[len(str(PACKAGE)) + 1 :]
    return stage_of(file, function), f"{file}:{function}"
