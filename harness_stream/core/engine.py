"""Which engine decides."""

from __future__ import annotations

from typing import Final

ENGINE: Final = "harness-stream/3"
"""Names the semantics of decide; part of every verdict's inputs, for it recomputes by no other (V1)."""
