"""Faults of workers: killed, asleep, asked to stop, joined by one more, replaced one after another."""

# Beyond the session's 6 s: the group has given the partitions away when the sleeper wakes up.
ASLEEP_S = 8.0


def killed(scene):
    """SIGKILL; the others take over. Then a new one takes the seat."""
    victim = scene.any_worker()
    scene.began()
    victim.kill()
    scene.serving("taken over")
    replaced(scene, victim.seat)


def asleep(scene):
    """SIGSTOP beyond the session, then SIGCONT: a zombie with records under way."""
    victim = scene.any_worker()
    scene.began()
    victim.pause()
    try:
        scene.watch(ASLEEP_S)
        scene.serving("taken over")
    finally:
        victim.go_on()
    scene.healed()
    scene.serving("after waking")


def leaves(scene):
    """SIGTERM: the others take over at once. Then a new one takes the seat."""
    victim = scene.any_worker()
    scene.began()
    victim.ask_to_stop()
    scene.serving("taken over")
    victim.stop()
    replaced(scene, victim.seat)


def joins(scene):
    """One more joins, and leaves again."""
    seat = scene.site.spare_seat
    joiner = scene.site.start_worker(seat)
    joiner.wait_until_ready()
    scene.healed()
    scene.serving("moved to it")
    scene.healed()
    joiner.ask_to_stop()
    scene.serving("moved back")
    joiner.stop()
    del scene.site.workers[seat]


def rolling(scene):
    """Each in turn is asked to stop and replaced, under load."""
    for seat in sorted(scene.site.workers):
        scene.site.workers[seat].stop()
        replaced(scene, seat)


def replaced(scene, seat):
    scene.site.start_worker(seat).wait_until_ready()
    scene.healed()
    scene.serving("with the new one")


KINDS = {
    "worker killed (SIGKILL)": killed,
    "worker asleep (SIGSTOP 8 s, SIGCONT)": asleep,
    "worker leaves (SIGTERM)": leaves,
    "worker joins, and leaves": joins,
    "rolling restart": rolling,
}
