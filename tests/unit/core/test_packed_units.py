"""A unit that was brought as bytes cannot be told from one that was brought taken apart."""

from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.state import State

UNITS = ("a:1", "a:2", "l:x")
KEYS = (("k", 1), ("k", 2))
VALUES = st.integers(0, 3)
STORED = {unit: {KEYS[0]: number} for number, unit in enumerate(UNITS)}


def decode(data):
    return dict(STORED[data.decode()])


def told(state):
    """All that anybody can ask of a state."""
    return (
        {unit: state.confirmed(unit) for unit in UNITS},
        {(unit, key): state.get(unit, key) for unit in UNITS for key in KEYS},
        set(state.units()),
        state.all_units(),
        len(state),
        state.complete,
        state.hot_bytes,
    )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(UNITS), st.sampled_from(KEYS), VALUES),
        st.tuples(st.just("get"), st.sampled_from(UNITS), st.sampled_from(KEYS)),
        st.tuples(st.just("forget"), st.sampled_from(UNITS), st.just(KEYS[:1])),
        st.tuples(st.just("evict"), st.sampled_from(UNITS)),
        st.tuples(st.just("push")),
        st.tuples(st.just("confirm")),
        st.tuples(st.just("rollback")),
    ),
    max_size=12,
)


def take(state, name, *words):
    if name == "confirm" and not state.in_flight:
        return
    if name == "evict" and state.is_open(*words):
        return
    getattr(state, name)(*words)


@given(steps)
def test_nobody_can_tell(steps):
    packed, apart = State(decode=decode), State()
    for unit in UNITS:
        packed.install_packed(unit, unit.encode())
        apart.install(unit, STORED[unit], len(unit))
    for step in steps:
        take(packed, *step)
        take(apart, *step)
    packed_told, apart_told = told(packed), told(apart)
    assert packed_told == apart_told


@given(steps)
def test_its_bytes_are_given_as_long_as_they_say_what_it_is(steps):
    state = State(decode=decode)
    for unit in UNITS:
        state.install_packed(unit, unit.encode())
    for step in steps:
        take(state, *step)
    for unit in UNITS:
        data = state.packed(unit)
        assert data is None or decode(data) == state.confirmed(unit)


def test_what_was_looked_into_once_is_not_taken_apart_again():
    taken = []
    state = State(decode=lambda data: taken.append(data) or decode(data))
    state.install_packed("a:1", b"a:1")
    state.install_packed("a:2", b"a:2")
    assert [state.get("a:1", KEYS[0]) for _ in range(3)] == [0, 0, 0]
    assert taken == [b"a:1"]
    assert list(state.units()) == ["a:2", "a:1"], "the longest unchanged first"
