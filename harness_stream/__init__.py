"""AI Harness: Zero Trust for what autonomous agents do.

What a program needs to guard its actions can be imported from here. Each name is loaded when it is first used, so that
importing the package costs nothing and no broker library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness_stream.client.blocking import HarnessSync
    from harness_stream.client.credentials import Credentials
    from harness_stream.client.fingerprints import fingerprints_of
    from harness_stream.client.harness import Harness
    from harness_stream.client.returned import Record
    from harness_stream.client.revocation import revoked
    from harness_stream.errors import Denied, HarnessError, Held, Overloaded, Revoked, TimedOut, Unreachable

__all__ = [
    "Credentials",
    "Denied",
    "Harness",
    "HarnessError",
    "HarnessSync",
    "Held",
    "Overloaded",
    "Record",
    "Revoked",
    "TimedOut",
    "Unreachable",
    "fingerprints_of",
    "revoked",
]

_HOMES = {
    "Credentials": "harness_stream.client.credentials",
    "Harness": "harness_stream.client.harness",
    "HarnessSync": "harness_stream.client.blocking",
    "Record": "harness_stream.client.returned",
    "fingerprints_of": "harness_stream.client.fingerprints",
    "revoked": "harness_stream.client.revocation",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  each name has its own type, see above
    if name not in __all__:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    return getattr(import_module(_HOMES.get(name, "harness_stream.errors")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
