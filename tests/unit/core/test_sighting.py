"""What judging made of a window is what counting keeps, and only that: an observed state is for the state it began with."""

from __future__ import annotations

import pytest

from harness_stream.core import window
from harness_stream.core.counting import Sighting
from harness_stream.core.window import Entry, Match, Spec

T = 1_000
MATCHES = {"event_count": Match(0b1), "value_count": Match(0b1, values=("a",)), "value_sum": Match(0b1, amount=5)}


def spec_of(kind):
    field = {"value_count": "action", "value_sum": "measures.rows"}.get(kind)
    return Spec("w", kind, (0, 1), ("agent_id",), T, attempts=False, field=field)


@pytest.mark.parametrize("kind", sorted(window.KINDS))
def test_a_window_is_observed_once_from_each_state(kind):
    spec, match = spec_of(kind), MATCHES.get(kind, Match(0b1))
    sighting, entry = Sighting(spec, "a:x", ("x",), match), Entry(50, "i2")
    before = window.observe(spec, window.empty(spec, None), Entry(40, "i1"), match)
    other = window.observe(spec, window.empty(spec, 45), Entry(30, "i0"), match)
    for state in (before, other, before):
        after = sighting.observed(state, entry)
        assert after == window.observe(spec, state, entry, match)
        assert sighting.observed(state, entry) is after
    assert sighting.observed(before, entry) != sighting.observed(other, entry)
