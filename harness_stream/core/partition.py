"""A worker's partition, as a table of states (PROTOCOL §5).

Rule of this file: everything that may happen to a partition's ownership stands in `TRANSITIONS`; what is not there is a
bug and raises. What is done in a state is the runtime's business; *whether* it may be done is decided here.

    LOADING   checkpoint + state, then fold the decision log to its end
    CLAIMING  a claim is appended; nothing is decided before it is read back
    DECIDING  own records with contiguous offsets are effective; the only state that answers
    RESYNC    something is unknown: nothing is decided until a new claim says what landed
    LOST      somebody else owns it; the state is dropped
    HALTED    a log is shorter than what is known of it: deny by silence, only an operator continues
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Phase(StrEnum):
    """Where a partition's ownership stands."""

    LOADING = "loading"
    CLAIMING = "claiming"
    DECIDING = "deciding"
    RESYNC = "resync"
    LOST = "lost"
    HALTED = "halted"


class Signal(StrEnum):
    """What happened to it."""

    LOADED = "loaded"
    CLAIM_READ_BACK = "claim_read_back"
    FAULT = "fault"
    """A delivery error, an own record void, a foreign record, a gap in own offsets."""
    SETTLED = "settled"
    """All outstanding reports are in and the log is folded to its end."""
    OVERTAKEN = "overtaken"
    """A higher epoch was seen."""
    STATE_GONE = "state_gone"
    """State that is not in memory cannot be had from the store any more."""
    UNEXTENDABLE = "unextendable"
    """The decision log cannot extend a valid checkpoint, the input log has lost inputs that were answered, or both are
    of another incarnation than this process."""
    RETRY = "retry"


TRANSITIONS: Mapping[tuple[Phase, Signal], Phase] = {
    (Phase.LOADING, Signal.LOADED): Phase.CLAIMING,
    (Phase.LOADING, Signal.STATE_GONE): Phase.LOADING,
    (Phase.LOADING, Signal.FAULT): Phase.LOADING,
    (Phase.LOADING, Signal.UNEXTENDABLE): Phase.HALTED,
    (Phase.CLAIMING, Signal.CLAIM_READ_BACK): Phase.DECIDING,
    (Phase.CLAIMING, Signal.FAULT): Phase.RESYNC,
    (Phase.CLAIMING, Signal.OVERTAKEN): Phase.LOST,
    (Phase.CLAIMING, Signal.STATE_GONE): Phase.LOADING,
    (Phase.CLAIMING, Signal.UNEXTENDABLE): Phase.HALTED,
    (Phase.DECIDING, Signal.FAULT): Phase.RESYNC,
    (Phase.DECIDING, Signal.OVERTAKEN): Phase.LOST,
    (Phase.DECIDING, Signal.STATE_GONE): Phase.LOADING,
    (Phase.DECIDING, Signal.UNEXTENDABLE): Phase.HALTED,
    (Phase.RESYNC, Signal.FAULT): Phase.RESYNC,
    (Phase.RESYNC, Signal.SETTLED): Phase.CLAIMING,
    (Phase.RESYNC, Signal.OVERTAKEN): Phase.LOST,
    (Phase.RESYNC, Signal.STATE_GONE): Phase.LOADING,
    (Phase.LOST, Signal.FAULT): Phase.LOST,
    (Phase.LOST, Signal.RETRY): Phase.LOADING,
    (Phase.HALTED, Signal.FAULT): Phase.HALTED,
    (Phase.HALTED, Signal.RETRY): Phase.LOADING,
}


def after(phase: Phase, signal: Signal) -> Phase:
    """The phase after `signal`.

    Raises:
        AssertionError: the signal may not happen in this phase; our own bug.
    """
    nxt = TRANSITIONS.get((phase, signal))
    if nxt is None:
        raise AssertionError(f"a partition that is {phase} cannot see `{signal}`")
    return nxt
