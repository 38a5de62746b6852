"""A whole run: servers up, faults one after another, the audit, and what came of it."""

import random
import time
import traceback
from dataclasses import dataclass, field

from benchmarks.command import Terminated
from benchmarks.machine import commit, machine
from tests.faults.heard import Heard
from tests.faults.plan import KINDS, planned
from tests.faults.scene import Scene
from tests.faults.site import Site

REST_S = 1.0  # between two faults: some hundred intents that nothing disturbs


@dataclass(frozen=True)
class Options:
    """What a run is made of; `minutes` None: until all faults were made.

    Attributes:
        faults: how many.
        minutes: no fault begins later than this.
        seed: of the order, of what each fault draws, and of the clients' intents.
        kinds: which.
        workers: that run when nothing is wrong.
        partitions: of the realm.
        rate: intents a second and client.
        transaction_s: how long a transaction stays open.
    """

    faults: int = 150
    minutes: float | None = None
    seed: int = 1
    kinds: tuple = tuple(KINDS)
    workers: int = 3
    partitions: int = 4
    rate: int = 30
    transaction_s: float = 31.0


@dataclass
class Result:
    """What a run came to; `failed` is why it ended early, in words.

    `lives` were begun; of `heard_lives` it is known what clients were told, of `read_lives` what the logs say.
    """

    options: Options
    machine: dict
    seconds: float = 0.0
    told: list = field(default_factory=list)
    total: dict = field(default_factory=dict)
    heard: Heard = field(default_factory=Heard)
    lives: int = 0
    heard_lives: int = 0
    read_lives: int = 0
    failed: str = ""
    wrong: bool = False


def run(options, folder, progress=print):
    """Make the faults; every process of it has ended afterwards."""
    result, began = Result(options, {"commit": commit(), **machine()}), time.monotonic()
    site = Site(folder, workers=options.workers, partitions=options.partitions, rate=options.rate)
    scene = Scene(site, random.Random(options.seed), options.seed, options.transaction_s)
    try:
        site.open()
        scene.begin_life()
        scene.first_served()
        _play(scene, options, result, began, progress)
        scene.end_life()
    except (KeyboardInterrupt, Terminated) as end:
        how = "SIGTERM" if isinstance(end, Terminated) else "Ctrl-C"
        result.failed = f"stopped by {how} in the middle of a fault: the logs after the last life were not read\n"
    except Exception:  # noqa: BLE001  whatever it was belongs into the report, with what came before
        result.failed = traceback.format_exc()
    finally:
        site.close()
    result.seconds, result.lives = time.monotonic() - began, scene.lives
    result.total, result.heard = scene.total, scene.heard
    result.heard_lives, result.read_lives = scene.heard_lives, scene.read_lives
    doubts = (result.failed, scene.heard.faulty, scene.total.faulty)
    result.wrong = any(doubts) or any(told.cost["doubles"] for told in result.told)
    return result


def _play(scene, options, result, began, progress):
    kinds = planned(options.faults, options.seed, options.kinds)
    for number, kind in enumerate(kinds, 1):
        if options.minutes is not None and time.monotonic() - began > options.minutes * 60:
            return
        result.told.append(scene.play(kind, KINDS[kind]))
        told = result.told[-1]
        times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in told.recover_s.items())
        progress(f"{time.monotonic() - began:6.0f} s  {number}/{len(kinds)}  {kind} ({told.variant}): {times}")
        dead = [w.said()[-1000:] for w in scene.site.workers.values() if not w.running]
        assert not dead, dead
        time.sleep(REST_S)
