"""What the clients say, read as it comes: when each partition serves again, and how long it was silent."""

import itertools
import json
import time
from dataclasses import dataclass, field

from tests.faults.heard import Heard

SERVED = ("approve", "deny")


@dataclass
class Answers:
    """Of all clients of one realm's life.

    Attributes:
        acked: id of an intent → (agent, partition, offset), as the broker said.
        approved: (agent, id) of what clients were let run.
        heard: the sum of it.
    """

    acked: dict = field(default_factory=dict)
    approved: set = field(default_factory=set)
    heard: Heard = field(default_factory=Heard)
    _served: dict = field(default_factory=dict)  # partition → [(published, at)]
    _approvals: list = field(default_factory=list)  # times of publishing
    _files: dict = field(default_factory=dict)

    def read(self, outs):
        """Take in what has been written since."""
        for out in outs:
            with out.open("rb") as lines:
                lines.seek(self._files.get(out, 0))
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    self._files[out] = self._files.get(out, 0) + len(line)
                    self._take(json.loads(line))

    def _take(self, event):
        if "begun" in event:
            return
        if "unended" in event:
            self.heard.unended += event["unended"]
            return
        if "acked" in event:
            self.acked[event["acked"]] = (event["agent"], event["partition"], event["offset"])
            return
        kind, published, at = event["as"], event["published"], event["at"]
        self.heard.ends[kind] += 1
        if kind not in SERVED:
            self.heard.silent[event["why"]] += 1
        over_s = at - event["deadline"] - (published or event["asked"])
        self.heard.slowest_s = max(self.heard.slowest_s, over_s)
        if kind == "approve":
            self.approved.add((event["agent"], event["ended"]))
            self._approvals.append(published)
            if event["ran"] and over_s > 0:
                self.heard.overdue.append(event)
        if kind in SERVED:
            self._served.setdefault(event["partition"], []).append((published, at))

    # --- questions ---

    def served_since(self, partition, since):
        """When the first intent published at `since` or later was answered by a rule; None if none was."""
        return min((at for published, at in self._served.get(partition, ()) if published >= since), default=None)

    def silence_s(self, partition, since, until):
        """The longest time within which nobody was answered."""
        times = sorted({at for _, at in self._served.get(partition, ()) if since <= at <= until} | {since, until})
        return max(after - before for before, after in itertools.pairwise(times))

    def approved_since(self, since):
        """How many intents published at `since` or later were approved."""
        return sum(published >= since for published in self._approvals)

    def forget_before(self, since):
        """Let go of what no question will reach any more."""
        for partition, served in self._served.items():
            self._served[partition] = [pair for pair in served if pair[1] >= since]
        self._approvals = [published for published in self._approvals if published >= since]


def now():
    """CLOCK_MONOTONIC, which all processes of the machine share."""
    return time.monotonic()
