"""Where the stack of this folder is, when a command looked for a server at another address and nobody answered there.

Rule of this file: it reads the stack's records and adds to an error's hint; it asks no server and changes no setting.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness_stream.config import ENV_PREFIX, Settings
from harness_stream.errors import BrokerUnavailable, StateRefused, StateUnavailable, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.local.stack import Service


@contextmanager
def pointing_elsewhere(settings: Settings) -> Iterator[None]:
    """Let an error of a server that does not answer say where this folder's stack is, if it is not where we looked."""
    try:
        yield
    except StateRefused:  # it is there, and answers
        raise
    except (BrokerUnavailable, Unreachable, StateUnavailable) as error:
        failed = "redis_url" if isinstance(error, StateUnavailable) else "bootstrap"
        hints = [_elsewhere(settings, failed), error.hint]
        if getattr(settings, failed) != getattr(Settings(), failed):  # named by somebody, so it is meant
            hints.reverse()
        error.hint = "; otherwise: ".join(filter(None, hints))
        raise


def _elsewhere(settings: Settings, failed: str) -> str:
    """What to export, with the reason; empty if the stack was never started, or is where `failed` names it."""
    from harness_stream.local.stack import DEFAULT_DIRECTORY, Stack  # noqa: PLC0415  only an error needs it

    stack = Stack(DEFAULT_DIRECTORY)
    known: dict[str, tuple[Service, str]] = {
        "bootstrap": (stack.brokers[0], stack.bootstrap),
        "redis_url": (stack.redis, stack.redis_url),
    }
    moved = {
        name: (service, address)
        for name, (service, address) in known.items()
        if service.last_address() is not None and not _places(address) & _places(getattr(settings, name))
    }
    if failed not in moved:
        return ""
    # The other server, if somebody said where it is, is meant to be there.
    usual = Settings()
    named = [name for name in moved if name == failed or getattr(settings, name) == getattr(usual, name)]
    exports = " ".join(f"{ENV_PREFIX}{name.upper()}={moved[name][1]}" for name in named)
    service, address = moved[failed]
    where = f"the stack in {DEFAULT_DIRECTORY} has {'Redis' if failed == 'redis_url' else 'Kafka'}"
    if service.running() is None:
        return f"{where} stopped, last at {address}: `harness up` starts it there again, then `export {exports}`"
    return f"{where} at {address}: `export {exports}`"


def _places(addresses: str) -> set[str]:
    """`host:port` of each, however it is spelled."""
    places = (urlsplit(address if "//" in address else f"//{address}").netloc for address in addresses.split(","))
    return {place.rpartition("@")[2].strip().replace("localhost", "127.0.0.1") for place in places}
