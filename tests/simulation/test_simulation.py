"""The whole worker under seeded faults: whatever goes wrong, the promises hold (V1, V2, V3, V5, V8, V9)."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness_stream.runtime.collector import tune_collector
from tests.simulation.judge import check
from tests.simulation.script import ALL, MIXES
from tests.simulation.shrink import proven, told
from tests.simulation.tally import Tally
from tests.simulation.world import PARTITIONS, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.simulation.script import Mix


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
FOUND_BY_LONG_RUNS = (940, 5724, 6452, 9669, 21791, 42621, 427450, 512446)
SIGNED_SEEDS, SIGNED_CHUNKS = 120, 4
RETENTION_SEEDS, RETENTION_CHUNKS = 80, 4
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


def held(mix: Mix, seeds: Iterable[int]) -> Iterator[World]:
    """The worlds of all of these, each of which kept the promises; one that fails is told as small as it can be made."""
    for seed in seeds:
        try:
            world = proven(seed, mix=mix)
        except Exception as error:
            raise AssertionError(told(seed, mix)) from error
        yield world


def met(mix: str, seeds: Iterable[int]) -> Counter[str]:
    """What happened in all of these, and what was forged."""
    happened = Counter[str]()
    for world in held(MIXES[mix], seeds):
        happened += world.happened + world.forged
    return happened


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
    for world in held(ALL, seeds(chunk)):
        tally.take(world.seed, world)
    assert len(tally.seeds) < SEEDS_WITH_EVERY_FAULT or not tally.missing
    record_property(Tally.PROPERTY, tally.to_json())


@pytest.mark.parametrize("seed", FOUND_BY_LONG_RUNS)
def test_what_a_long_run_once_found_is_mended(seed: int) -> None:
    proven(seed)


@pytest.mark.parametrize("chunk", range(SIGNED_CHUNKS))
def test_the_promises_hold_where_records_are_signed_and_some_are_forged(chunk: int) -> None:
    happened = met("signed", range(FIRST_SEED + chunk, FIRST_SEED + SIGNED_SEEDS, SIGNED_CHUNKS))
    assert all(happened[kind] for kind in ("unsigned", "changed", "claim"))


@pytest.mark.parametrize("chunk", range(RETENTION_CHUNKS))
def test_the_promises_hold_though_retention_takes_what_snapshots_hold(chunk: int) -> None:
    """Then only snapshots and the store reach the history, and a start from the log's first record would forget it."""
    happened = met("retention", range(2 * chunk, 2 * RETENTION_SEEDS, 2 * RETENTION_CHUNKS))  # even ones change no rules
    assert happened["decision retention"]


@pytest.mark.parametrize("chunk", range(INPUT_CUT_CHUNKS))
def test_the_promises_hold_though_input_logs_lose_what_was_answered(chunk: int) -> None:
    """Others take the offsets: behind an operator's word they are answered, without it never."""
    happened = met("input-cuts", range(FIRST_SEED + chunk, FIRST_SEED + INPUT_CUT_SEEDS, INPUT_CUT_CHUNKS))
    # Nobody is asked for a word where the log has grown again before it could be found too short.
    often = "input cut and grown" if (FIRST_SEED + chunk) % 2 else "offset answered anew"
    assert all(happened[kind] for kind in ("input cut", often, "never answered at its offset"))


@pytest.mark.parametrize("seed", FOUND_WITH_INPUT_CUTS)
def test_what_a_cut_input_log_once_showed_is_mended(seed: int) -> None:
    proven(seed, mix=MIXES["input-cuts"])


@pytest.mark.parametrize("chunk", range(RESTORE_CHUNKS))
def test_the_promises_hold_though_state_of_a_lost_history_comes_back(chunk: int) -> None:
    happened = met("restores", range(FIRST_SEED + chunk, FIRST_SEED + RESTORE_SEEDS, RESTORE_CHUNKS))
    assert all(happened[kind] for kind in ("log cut", "store restore", "resume"))


@pytest.mark.parametrize("chunk", range(STORE_LOSS_CHUNKS))
def test_the_promises_hold_though_the_store_loses_names_and_content(chunk: int) -> None:
    happened = met("store-losses", range(FIRST_SEED + chunk, FIRST_SEED + STORE_LOSS_SEEDS, STORE_LOSS_CHUNKS))
    assert all(happened[kind] for kind in ("store names lost", "store partial loss", "replay", "crash"))


@pytest.mark.parametrize("seed", FOUND_WITH_STORE_LOSSES)
def test_what_lost_names_once_showed_is_mended(seed: int) -> None:
    proven(seed, mix=MIXES["store-losses"])


@pytest.mark.parametrize("seed", FOUND_WITH_RESTORES)
def test_what_state_of_a_lost_history_once_showed_is_mended(seed: int) -> None:
    proven(seed, mix=MIXES["restores"])


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
