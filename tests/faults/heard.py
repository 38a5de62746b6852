"""What clients were told, summed up: of one life of a realm, or of a whole run."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Heard:
    """How intents ended, and what must not have been.

    Attributes:
        ends: how each intent ended.
        silent: of those that no answer ended, why.
        overdue: actions that began after their deadline.
        slowest_s: how long after its deadline the latest answer of any kind came.
        unended: waits that were still open when their client gave up, seconds after the last deadline.
    """

    ends: Counter = field(default_factory=Counter)
    silent: Counter = field(default_factory=Counter)
    overdue: list = field(default_factory=list)
    slowest_s: float = 0.0
    unended: int = 0

    def add(self, other):
        self.ends.update(other.ends)
        self.silent.update(other.silent)
        self.overdue += other.overdue
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.unended += other.unended

    @property
    def faulty(self):
        return bool(self.overdue or self.unended or self.ends["broken"])
