"""Copies of garbage for people to look at; nobody waits for one, and whoever sends garbage decides how many there are.

Rule of this file: they share the local queue with claims, decisions and checkpoints, of all partitions, and never take
more of it than a share of their own. What is not kept is counted; the skip in the log names its offset and reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.core import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.errors import GarbageRecord
    from harness_stream.ports import Delivery, LogRecord
    from harness_stream.runtime.realm import Ports, Realm

# What a copy takes besides key and value: headers (some hundred bytes), and one of the queue's records, of which there
# is one for each 0.7 KiB. So the share bounds how many small copies are open as well.
OVERHEAD_BYTES: Final = limits.KIB


class DeadLetters:
    """Keeps one worker's copies.

    Args:
        realm: this realm.
        ports: its ports.
        next_token: gives tokens for appends.
    """

    def __init__(self, realm: Realm, ports: Ports, next_token: Callable[[], int]) -> None:
        self._topic, self._writer, self._metrics = realm.topics.deadletter, ports.writer, ports.metrics
        self._next_token = next_token
        self._open: dict[int, int] = {}  # token → bytes
        self._open_bytes = 0

    def bury(self, record: LogRecord, garbage: GarbageRecord) -> None:
        """Keep a copy, if there is room."""
        if not self._is_kept(record, garbage):
            self._metrics.count("harness_deadletter_dropped_total")

    def _is_kept(self, record: LogRecord, garbage: GarbageRecord) -> bool:
        headers = [("reason", garbage.reason.encode()), ("offset", f"{record.partition}/{record.offset}".encode())]
        value = (record.value or b"")[: limits.INTENT_BYTES_MAX]
        size, token = len(record.key or b"") + len(value) + OVERHEAD_BYTES, self._next_token()
        if self._open_bytes + size > limits.DEADLETTER_BYTES_MAX:
            return False
        try:
            self._writer.append(self._topic, 0, record.key, value, headers, token=token)
        except BufferError:
            return False
        self._open[token] = size
        self._open_bytes += size
        return True

    def delivered(self, delivery: Delivery) -> None:
        """The fate of a copy, whatever it is, makes room for others."""
        self._open_bytes -= self._open.pop(delivery.token, 0)
