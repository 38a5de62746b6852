"""The mover and a store that takes its steps but answers too late: nothing is sent again that is known to be there."""

from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.core.fold import Place
from harness_stream.core.state import State
from harness_stream.errors import StateUnavailable
from harness_stream.runtime.mover import RETRY_MS, Mover
from harness_stream.runtime.telemetry import PrometheusMetrics

QUICK_UNITS = 10
MANY = [f"a:agent-{number}" for number in range(100)]


class SlowStore(MemoryStateStore):
    """It takes a step of any size, and answers in time only those of few units."""

    def __init__(self):
        super().__init__()
        self.sent = []

    def move(self, move):
        at = super().move(move)
        self.sent.append(len(move.bases) + len(move.deltas))
        if self.sent[-1] > QUICK_UNITS:
            raise StateUnavailable("late")
        return at


class Partition:
    """One partition in which a unit changes at every turn."""

    def __init__(self):
        self.store, self.state, self.offset = SlowStore(), State(), 0
        self.mover = Mover(self.store, 0, PrometheusMetrics(), None)

    def turn(self, units):
        self.offset += 1
        for unit in units:
            self.state.put(unit, ("since", "w", 1), self.offset)
        self.mover.changed(frozenset(units), ())
        place = Place.genesis("i", 0)._replace(offset=self.offset)
        assert self.mover.flush(place, self.state, self.offset * RETRY_MS)


def test_a_step_that_was_taken_is_not_sent_again_though_its_answer_came_too_late():
    partition = Partition()
    partition.turn(MANY)
    for _ in range(5):
        partition.turn([MANY[0]])
    assert partition.store.sent == [100, 1, 1, 1, 1, 1]
    assert not partition.mover.behind
