"""Which faults, in which order: a function of the seed."""

import random

from tests.faults.kinds import broker, log, network, store, workers

KINDS = workers.KINDS | broker.KINDS | store.KINDS | network.KINDS | log.KINDS
EMPTIED = "broker with an empty disk"
# These take half a minute each: a realm is made anew, every worker is replaced, a transaction has to stay open.
SLOW = (EMPTIED, "rolling restart", "transaction left open")
LEAST = 5  # of each kind in a long run


def planned(count, seed, kinds):
    """`count` kinds: each equally often, except that the slow ones come LEAST times at most, then shuffled."""
    chance, order = random.Random(seed), list(kinds)
    drawn = []
    while len(drawn) < count:
        drawn += [kind for kind in order if kind not in SLOW or drawn.count(kind) < LEAST or set(order) <= set(SLOW)]
    drawn = drawn[:count]
    chance.shuffle(drawn)
    return drawn
