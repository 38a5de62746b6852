"""Faults of the broker: stopped, killed, and one that comes back with an empty disk."""

import re
import time

from harness_stream.errors import BrokerUnavailable

AWAY_S = (0.0, 4.0)  # on top of the restart's own 5 s: within and beyond the delivery time-out and the group's session
# A halted partition is looked at again every 5 s, so whoever would go on wrongly has done so after this.
REFUSING_S = 6.0
NOTHING_THERE_S = 3.0
HALTED_S_MAX = 60.0  # sessions end, the group forms anew, partitions are loaded: 10 s on a quiet machine
PREPARED_S_MAX = 60.0
RECREATED = "log topics recreated"


def stopped(scene):
    """A clean stop and a start."""
    back_after(scene, scene.site.broker.stop)


def killed(scene):
    """SIGKILL and a start."""
    back_after(scene, scene.site.broker.kill)


def back_after(scene, end):
    away_s = scene.chance.choice(AWAY_S)
    scene.told.variant = f"away {away_s:g} s longer"
    end()
    scene.watch(away_s)
    scene.site.broker.start()
    scene.healed()
    scene.serving("broker back")


def emptied(scene):
    """The broker comes back with nothing: no topics, then others of the same name. Both must serve nobody.

    What the log said is read before, since afterwards nobody can; a new realm begins, and its workers with it.
    """
    site = scene.site
    scene.end_life()
    scene.begin_life()
    scene.began()
    scene.serving("before")
    said = {worker: len(worker.said()) for worker in site.workers.values()}
    site.empty_broker()
    gone = time.monotonic()
    site.broker.start()
    scene.watch(NOTHING_THERE_S)
    scene.nothing_approved(gone, "without any topic")
    prepared(site.realm)
    wait_until_halted(scene, said)
    scene.watch(REFUSING_S)
    scene.nothing_approved(gone, "by workers and clients of the realm that is gone")
    scene.told.notes = sorted({line for w, seen in said.items() for line in clear(w.said()[seen:])})
    for seat, worker in list(site.workers.items()):
        worker.kill()
        site.start_worker(seat)
    scene.drop_life()
    site.wait_until_ready()
    scene.begin_life()
    scene.began()
    scene.serving("as a new realm")


def prepared(realm):
    """Topics, tables and rules; tried again, as a person would, while a broker that has just come up knows no controller."""
    end = time.monotonic() + PREPARED_S_MAX
    while True:
        try:
            realm.prepare()
        except BrokerUnavailable:
            if time.monotonic() > end:
                raise
        else:
            return


def wait_until_halted(scene, said):
    """Every worker of before has got partitions again, and has said why it does not decide."""
    end = time.monotonic() + HALTED_S_MAX
    while not all(RECREATED in worker.said()[seen:] for worker, seen in said.items()):
        assert time.monotonic() < end, "workers of a realm that is gone do not say so"
        scene.watch(0.2)


def clear(text):
    """What was said, each thing once: without times and numbers."""
    lines = [re.sub(r"^\S+ \S+ ", "", line) for line in text.splitlines()]
    return {re.sub(r"\d+", "N", line) for line in lines if not line.startswith(" ")}


KINDS = {
    "broker stopped and started": stopped,
    "broker killed (SIGKILL) and started": killed,
    "broker with an empty disk": emptied,
}
