"""A map of which every version stays as it was, whatever became of the newer ones (DESIGN §5, decision 10)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.core import limits, window
from harness_stream.core.window import Entry, Match, Spec
from harness_stream.core.window.versions import Last, Versions

VALUES = Spec("v", "value_count", (0,), (), 1_000_000, attempts=False, field="purpose")
KEYS = 60
STEPS = st.lists(
    st.tuples(st.integers(0, KEYS - 1), st.integers(-30, 5), st.sampled_from(["put", "put", "put", "gone", "floor"])),
    min_size=80,
    max_size=120,
)


def last(t: int, name: str) -> Last:
    return Last((Entry(t, name),))


def listed(model: dict[str, Last], floor: int) -> list[tuple[str, Last]]:
    """In the order of time, and of equal times in the order they were put."""
    return sorted(((key, one) for key, one in model.items() if one.t >= floor), key=lambda item: item[1].t)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_every_version_says_what_a_plain_copy_would(steps):
    version, model, t, floor = Versions(), dict[str, Last](), 1_000, 0
    versions = []
    for number, (at, shift, kind) in enumerate(steps):
        t, key = t + max(shift, 0), f"k{at}"
        model = {k: one for k, one in model.items() if k != key}
        if kind == "floor":
            floor = t - 40
            version = version.put({key: None}, floor)
        elif kind == "gone":
            version = version.put({key: None})
        else:
            model[key] = last(t + min(shift, 0), f"e{number}")
            version = version.put({key: model[key]})
        versions.append((version, listed(model, floor), floor))
    for each, items, start in versions[::7]:
        assert each.oldest() == items
        assert each == Versions.of(items)
        assert (each != Versions.of(items[1:])) == bool(items)
        assert each.oldest(3) == items[:3]
        assert each.count() == len(items)
        assert each.count(start + 20) == sum(one.t >= start + 20 for _, one in items)
        assert each.newest(start, 5) == [one.known[-1] for _, one in items][-5:]
        assert {key: each.get(key) for key in model} == {key: dict(items).get(key) for key in model}
        for at in (start - 5, start + 20):
            there = {key for key, one in items if one.t >= at and key in model}
            assert each.lacking(model, at) == [key for key in model if key not in there]
            assert {key for key in model if each.inside(key, at) is not None} == there


def test_an_event_with_many_values_is_shown_once():
    entry = Entry(5, "b")
    version = Versions().put({"x": last(1, "a"), **{f"k{n}": Last((entry,)) for n in range(20)}})
    assert version.newest(0, 2) == [Entry(1, "a"), entry]


def test_what_an_event_costs_does_not_grow_with_what_is_kept():
    """The full map is copied once in so many changes, and no event copies more than those."""
    state = window.empty(VALUES, None)
    for n in range(limits.WINDOW_VALUES_MAX):
        state = window.observe(VALUES, state, Entry(n, str(n)), Match(1, values=(f"u{n}",)))
    bases = [state.values.base]
    for n in range(10 * limits.WINDOW_CHANGES_MAX):
        state = window.observe(VALUES, state, Entry(2_000 + n, f"e{n}"), Match(1, values=(f"u{n}",)))
        assert len(state.values.changed) <= limits.WINDOW_CHANGES_MAX
        bases += [state.values.base] if state.values.base is not bases[-1] else []
    assert len(bases) <= 11
