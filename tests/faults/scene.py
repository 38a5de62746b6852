"""What a fault is given: the site under load, its own dice, and the clock that is stopped when everybody is served again."""

import time
from dataclasses import dataclass, field

from tests.faults.answers import Answers, now
from tests.faults.audit import Verified, verified
from tests.faults.following import Following
from tests.faults.heard import Heard

# Twice what the slowest takes on two shared cores: a broker's crash recovery, then a group of three that joins anew.
SERVING_S_MAX = 90.0
ASK_S = 0.05
CLIENTS = 2
SEED_STEP = 1_000_003  # clients of one seed have others than those of the next


class NotServedError(AssertionError):
    """A partition did not come back."""


@dataclass
class Told:
    """One fault, as it went.

    Attributes:
        kind: which.
        variant: what was drawn, in words.
        recover_s: each wait until every partition served again, by its name, in seconds.
        silence_s: the longest time within which some partition answered nobody, from the fault to the last recovery.
        cost: what the decision log says of it.
        notes: what processes said, where that is the point.
    """

    kind: str
    variant: str = ""
    recover_s: dict = field(default_factory=dict)
    silence_s: float = 0.0
    cost: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)


class Scene:
    """One site, and all that is told of it."""

    def __init__(self, site, chance, seed, transaction_s):
        self.site, self.chance, self.transaction_s = site, chance, transaction_s
        self._seed, self.lives, self.heard_lives, self.read_lives = seed, 0, 0, 0
        self.total, self.heard = Verified(), Heard()
        self.told, self._began, self._from = None, 0.0, 0.0

    # --- a life: from one start of clients to the audit ---

    def begin_life(self):
        self.lives += 1
        self.answers, self.logs = Answers(), Following(self.site.realm)
        seeds = [self._seed + SEED_STEP * (self.lives * CLIENTS + number) for number in range(CLIENTS)]
        self._outs = self.site.start_clients(seeds)

    def end_life(self):
        """Clients stop; both logs are read; what was found is kept."""
        self.site.stop_clients()
        self.answers.read(self._outs)
        found = verified(self.site.realm, self.answers, self.logs)
        self.logs.close()
        self.total.add(found)
        self.heard.add(self.answers.heard)
        self.read_lives += 1
        self.heard_lives += 1
        return found

    def drop_life(self):
        """Its logs are gone, so nothing can be held against them; what clients were told still counts."""
        self.site.stop_clients()
        self.answers.read(self._outs)
        self.logs.close()
        self.heard.add(self.answers.heard)
        self.heard_lives += 1

    def first_served(self):
        self.told = Told("start")
        self.began()
        self.serving("start")

    # --- a fault ---

    def play(self, kind, fault):
        """Make one fault, wait until all is well, and tell."""
        self.told = Told(kind)
        self.began()
        fault(self)
        until = now()
        self.answers.read(self._outs)
        silences = [self.answers.silence_s(p, min(self._began, until), until) for p in self.partitions]
        self.told.silence_s = round(max(silences), 3)
        self.told.cost = vars(self.logs.cost())
        self.answers.forget_before(until - 1)
        return self.told

    def began(self):
        self._began = self._from = now()

    def healed(self):
        self._from = now()

    @property
    def partitions(self):
        return range(self.site.realm.settings.partitions)

    def serving(self, name):
        """Wait until each partition has answered an intent that was published after the fault, or its end; note how long."""
        end = time.monotonic() + SERVING_S_MAX
        while True:
            self.answers.read(self._outs)
            served = {p: self.answers.served_since(p, self._from) for p in self.partitions}
            if None not in served.values():
                waited = round(max(served.values()) - self._from, 3)
                self.told.recover_s[name] = max(waited, self.told.recover_s.get(name, 0.0))
                return
            if time.monotonic() > end:
                missing = [p for p, at in served.items() if at is None]
                raise NotServedError(f"{self.told.kind} {self.told.variant}: nobody serves {missing} ({name})")
            time.sleep(ASK_S)

    def watch(self, seconds):
        time.sleep(seconds)
        self.answers.read(self._outs)

    def nothing_approved(self, since, why):
        self.answers.read(self._outs)
        assert not self.answers.approved_since(since), f"{why}: {self.answers.approved_since(since)} approvals"

    def any_worker(self):
        """One of those that run, by the dice."""
        seat = self.chance.choice(sorted(self.site.workers))
        self.told.variant = f"{self.told.variant} seat {seat}".strip()
        return self.site.workers[seat]
