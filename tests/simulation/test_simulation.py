"""The whole worker under seeded faults: whatever goes wrong, the promises hold (V1, V2, V3, V5, V8, V9)."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import orjson
import pytest

from harness_stream.runtime.collector import tune_collector
from tests.simulation.faults import FAULTS, RETENTION, WITHOUT_RETENTION
from tests.simulation.judge import check
from tests.simulation.script import run, with_input_cuts, with_restores, with_store_losses
from tests.simulation.shrink import proven, told
from tests.simulation.tally import Tally
from tests.simulation.world import PARTITIONS, TOPICS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.simulation.script import Step


def asked(name, kind, standard):
    """A number of the environment; whoever mistypes it reads its name and no trace."""
    text = os.environ.get(name, standard)
    try:
        return kind(text)
    except ValueError:
        raise pytest.Collector.CollectError(f"{name} is `{text}`, which is no number; default: {standard}") from None


SEEDS = asked("HARNESS_SIMULATION_SEEDS", int, "5000")
FIRST_SEED = asked("HARNESS_SIMULATION_FIRST_SEED", int, "0")
# The long run: so many seconds of one process, whatever SEEDS says; processes that share the chunks share them as well.
SECONDS = asked("HARNESS_SIMULATION_SECONDS", float, "0")
# As many as leave each enough to have met every fault; the last one may leave the other process without work. A prime:
# what kind of world a seed has depends on its remainders by small numbers, and each chunk shall have all of them.
CHUNKS = 23
# 9669: an owner that had not noticed that its log was cut wrote a snapshot of lost records. 5724: a unit forgot as of
# which record it stood once it had taken in what waited. 6452: a store that had been away was not asked again.
# 42621: an owner that knew that a publish had failed wrote snapshots of lost records in that very turn.
# 21791: windows were counted from a checkpoint of lost records that had landed after the cut.
# 427450: a world was taken for healed before its owner had read who was stopped.
# 940: the shortest that needs to look whether a snapshot's record is in the log (`tests/mutants/table.py`).
FOUND_BY_LONG_RUNS = (940, 5724, 6452, 9669, 21791, 42621, 427450)
SIGNED_SEEDS, SIGNED_CHUNKS = 120, 4
# Long enough for some cycles of snapshots.
RETENTION_SEEDS, RETENTION_CHUNKS, RETENTION_STEPS = 80, 4, 80
INPUT_CUT_SEEDS, INPUT_CUT_CHUNKS = 80, 4
# 18: the log was as long again before anybody could tell that it was short, and its owner answered nothing any more.
FOUND_WITH_INPUT_CUTS = (18,)
RESTORE_SEEDS, RESTORE_CHUNKS = 80, 4
STORE_LOSS_SEEDS, STORE_LOSS_CHUNKS = 120, 4
# The store was known by its offset alone, so that one of a lost history was taken for this log's: 9 to 485 forgot and
# made up history, 16 to 283 had a store that never followed.
FOUND_WITH_RESTORES = (9, 16, 99, 123, 169, 283, 302, 376, 385, 448, 485)
# Who began from a store whose list of names was gone had forgotten everything, and approved the same bytes twice.
FOUND_WITH_STORE_LOSSES = (4, 10)
# The rarest kind happens once in some fifteen runs: that none of so many has it is a chance of one in a million.
SEEDS_WITH_EVERY_FAULT = 200


def seeds(chunk: int) -> Iterator[int]:
    """Every CHUNKS-th, so that all chunks take about equally long."""
    began_s, seed = time.monotonic(), FIRST_SEED + chunk
    while seed < FIRST_SEED + SEEDS if not SECONDS else time.monotonic() - began_s < SECONDS / CHUNKS:
        yield seed
        seed += CHUNKS


@pytest.fixture(autouse=True)
def _collector_as_a_worker_has_it() -> Iterator[None]:
    """With Python's own thresholds it looks at the whole process again and again, a twentieth of the time."""
    before = gc.get_threshold()
    tune_collector()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.seeds
@pytest.mark.timeout(max(300.0, 2 * SECONDS / CHUNKS))
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_promises_hold_whatever_happens(chunk: int, record_property: Callable[[str, object], None]) -> None:
    tally = Tally()
    for seed in seeds(chunk):
        try:
            world = proven(seed)
        except Exception as error:
            raise AssertionError(told(seed) or f"seed {seed} fails now and then") from error
        assert world.happened["input retention"] or not world.happened["told of lost inputs"], f"seed {seed}: a false alarm"
        tally.take(seed, world)
    assert len(tally.seeds) < SEEDS_WITH_EVERY_FAULT or not tally.missing
    record_property(Tally.PROPERTY, tally.to_json())


@pytest.mark.parametrize("seed", FOUND_BY_LONG_RUNS)
def test_what_a_long_run_once_found_is_mended(seed: int) -> None:
    proven(seed)


@pytest.mark.parametrize("chunk", range(SIGNED_CHUNKS))
def test_the_promises_hold_where_records_are_signed_and_some_are_forged(chunk: int) -> None:
    forged = Counter[str]()
    for seed in range(FIRST_SEED + chunk, FIRST_SEED + SIGNED_SEEDS, SIGNED_CHUNKS):
        try:
            world = proven(seed, signed=True)
        except Exception as error:
            raise AssertionError(f"signed, seed {seed}: {type(error).__name__}: {error}") from error
        forged += world.forged
        check_forged(world)
    assert set(forged) == {"unsigned", "changed", "claim"}


@pytest.mark.parametrize("chunk", range(RETENTION_CHUNKS))
def test_the_promises_hold_though_retention_takes_what_snapshots_hold(chunk: int) -> None:
    """Then only snapshots and the store reach the history, and a start from the log's first record would forget it."""
    taken = 0
    for seed in range(2 * chunk, 2 * RETENTION_SEEDS, 2 * RETENTION_CHUNKS):  # even ones change no rules
        dice = Random(f"retention {seed}")
        others = [kind for kind in FAULTS if kind not in WITHOUT_RETENTION and dice.random() < 0.5]
        try:
            world = run(seed, [*others, *RETENTION, *RETENTION, *RETENTION], RETENTION_STEPS)
            check(world)
        except Exception as error:
            raise AssertionError(f"retention, seed {seed}: {type(error).__name__}: {error}") from error
        taken += world.happened["decision retention"]
    assert taken


def met(steps_of: Callable[[int], list[Step]], seeds: Iterable[int]) -> Counter[str]:
    """What happened in all of these; one that fails is told as small as it can be made."""
    happened = Counter[str]()
    for seed in seeds:
        try:
            happened += proven(seed, steps_of(seed)).happened
        except Exception as error:
            raise AssertionError(told(seed, steps_of) or f"seed {seed} fails now and then") from error
    return happened


@pytest.mark.parametrize("chunk", range(INPUT_CUT_CHUNKS))
def test_the_promises_hold_though_input_logs_lose_what_was_answered(chunk: int) -> None:
    """Others take the offsets: behind an operator's word they are answered, without it never."""
    happened = met(with_input_cuts, range(FIRST_SEED + chunk, FIRST_SEED + INPUT_CUT_SEEDS, INPUT_CUT_CHUNKS))
    # Nobody is asked for a word where the log has grown again before it could be found too short.
    often = "input cut and grown" if (FIRST_SEED + chunk) % 2 else "offset answered anew"
    assert all(happened[kind] for kind in ("input cut", often, "never answered at its offset"))


@pytest.mark.parametrize("seed", FOUND_WITH_INPUT_CUTS)
def test_what_a_cut_input_log_once_showed_is_mended(seed: int) -> None:
    proven(seed, with_input_cuts(seed))


@pytest.mark.parametrize("chunk", range(RESTORE_CHUNKS))
def test_the_promises_hold_though_state_of_a_lost_history_comes_back(chunk: int) -> None:
    happened = met(with_restores, range(FIRST_SEED + chunk, FIRST_SEED + RESTORE_SEEDS, RESTORE_CHUNKS))
    assert all(happened[kind] for kind in ("log cut", "store restore", "resume"))


@pytest.mark.parametrize("chunk", range(STORE_LOSS_CHUNKS))
def test_the_promises_hold_though_the_store_loses_names_and_content(chunk: int) -> None:
    happened = met(with_store_losses, range(FIRST_SEED + chunk, FIRST_SEED + STORE_LOSS_SEEDS, STORE_LOSS_CHUNKS))
    assert all(happened[kind] for kind in ("store names lost", "store partial loss", "replay", "crash"))


@pytest.mark.parametrize("seed", FOUND_WITH_STORE_LOSSES)
def test_what_lost_names_once_showed_is_mended(seed: int) -> None:
    proven(seed, with_store_losses(seed))


@pytest.mark.parametrize("seed", FOUND_WITH_RESTORES)
def test_what_state_of_a_lost_history_once_showed_is_mended(seed: int) -> None:
    proven(seed, with_restores(seed))


def check_forged(world: World) -> None:
    """Each forged input is skipped as not authentic where it stands, and no forged claim ever counted."""
    for partition in range(PARTITIONS):
        bodies = [orjson.loads(r.value or b"{}") for r in world.everything(TOPICS.verdicts, partition)]
        skips = [body for body in bodies if body["kind"] == "skip"]
        told = {o["offset"]: o["reason"] for body in skips for o in body["offsets"]}
        passed = {at for body in bodies if body["kind"] == "resume" for at in range(body["next_input"])}
        lost = (range(body["covers"][0], body["covers"][1] + 1) for body in skips if body["reason"] == "input_lost")
        passed.update(*lost)  # retention was faster than any worker
        for at, offset in world.forged_at:
            assert at != partition or told.get(offset) == "not_authentic" or offset in passed


def test_without_faults_nothing_is_void_and_one_claim_a_partition_is_enough() -> None:
    world = World(1, workers=1)
    for _ in range(50):
        world.send()
        world.turn()
    world.heal()
    reports = check(world)
    assert all(r.void == 0 for r in reports)
    assert sum(b["kind"] == "claim" for r in reports for b in r.effective) == PARTITIONS


def test_a_variable_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("HARNESS_SIMULATION_SEEDS", "abc")
    with pytest.raises(pytest.Collector.CollectError, match="HARNESS_SIMULATION_SEEDS is `abc`, which is no number"):
        asked("HARNESS_SIMULATION_SEEDS", int, "5000")
