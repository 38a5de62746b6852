"""An incarnation that is what it is set to (implements `ports.Incarnations`)."""

from __future__ import annotations

from harness_stream.ports import Known


class MemoryIncarnations:
    """Answers at once.

    Attributes:
        current: what the log topics are of now.
    """

    def __init__(self, current: str) -> None:
        self.current = current
        self._known: Known | None = None

    def ask(self, now_ms: int) -> None:
        """Note what is true now."""
        self._known = Known(self.current, now_ms)

    def known(self) -> Known | None:
        """The newest answer; None before the first."""
        return self._known

    def close(self) -> None:
        """Nothing to free."""
