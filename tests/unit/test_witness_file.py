"""The file in which checkpoints are held: what a crash leaves, what nobody may change, who may write."""

import json
import os

import pytest

from harness_stream.adapters import witness_file
from harness_stream.adapters.witness_file import WitnessFile, held_in
from harness_stream.cli.log_witness import DAY_MS, LINE_BYTES
from harness_stream.core.fold import Header, Place
from harness_stream.core.witness import Held
from harness_stream.errors import CallerError, Unavailable
from harness_stream.wire.witness import decode_line, encode_line


def held(offset=100, partition=3):
    header = Header("i1", partition, 2, "a" * 32, "b" * 64, 40, ("c" * 64, 2), 1_000, 0)
    return Held(Place(header, offset, "d" * 64), 1_790_000_000_000, 7)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "heads.jsonl"


def keep(path, *ones):
    keeper = WitnessFile(str(path))
    for one in ones:
        keeper.append(one)
    keeper.close()
    return keeper


def test_what_is_held_is_read_again_in_its_order(path):
    keep(path, held(1), held(2, partition=0))
    keeper = keep(path, held(3))
    assert keeper.newest == {3: held(3), 0: held(2, partition=0)}
    assert list(held_in(str(path))) == [held(1), held(2, partition=0), held(3)]


def test_a_line_is_json_with_all_that_the_fold_states(path):
    keep(path, held())
    line = json.loads(path.read_text())
    assert {key: line[key] for key in ("v", "partition", "verdict_offset", "epoch", "next_input", "incarnation")} == {
        "v": 1,
        "partition": 3,
        "verdict_offset": 100,
        "epoch": 2,
        "next_input": 40,
        "incarnation": "i1",
    }
    assert (line["head"], line["record_digest"], line["append_ms"]) == ("b" * 64, "d" * 64, 1_790_000_000_000)


def test_a_line_is_as_long_as_the_command_says():
    header = held().place.header._replace(incarnation=f"{'x' * 22}.{'y' * 22}", t=1_790_000_000_000, next_input=10**9)
    real = held()._replace(place=Place(header, 10**9, "d" * 64), at=10**9)
    assert 0.8 * LINE_BYTES < len(encode_line(real)) <= LINE_BYTES
    assert DAY_MS // 60_000 == 1_440


def test_a_folder_has_one_file_a_partition(tmp_path):
    folder = tmp_path / "heads"
    keeper = keep(f"{folder}/", held(1), held(2, partition=0), held(3))
    assert sorted(file.name for file in folder.iterdir()) == ["partition-00000.jsonl", "partition-00003.jsonl"]
    assert keep(folder).newest == keeper.newest
    assert list(held_in(str(folder))) == [held(2, partition=0), held(1), held(3)]


@pytest.mark.parametrize("left", [1, 40, len(encode_line(held(3))) - 2])
def test_a_torn_last_line_is_cut_off_and_nothing_before_it(path, left):
    keep(path, held(1), held(2))
    whole = path.read_bytes()
    path.write_bytes(whole + encode_line(held(3))[:left])
    assert list(held_in(str(path))) == [held(1), held(2)], "its witness may be writing it"
    keep(path, held(4))
    assert path.read_bytes() == whole + encode_line(held(4))


def test_a_last_line_that_lacks_only_its_end_gets_one(path):
    keep(path, held(1))
    path.write_bytes(path.read_bytes() + encode_line(held(2)).rstrip())
    keep(path, held(3))
    assert list(held_in(str(path))) == [held(1), held(2), held(3)]


def test_a_file_that_was_torn_in_its_first_line_begins_anew(path):
    path.write_bytes(b'{"v": 1, "parti')
    keep(path, held(1))
    assert list(held_in(str(path))) == [held(1)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"no JSON", "Invalid JSON"),
        (b"", "Invalid JSON"),
        (encode_line(held()).replace(b"dddd", b"xxxx").rstrip(), "record_digest"),
        (encode_line(held()).replace(b'"v":1', b'"v":2').rstrip(), "v: "),
        (encode_line(held()).replace(b'"epoch":2', b'"epoch":"2"').rstrip(), "epoch: "),
    ],
)
def test_any_other_line_that_is_none_is_named_and_left_alone(path, line, why):
    text = encode_line(held(1)) + line + b"\n" + encode_line(held(3))
    path.write_bytes(text)
    for attempt in (lambda: WitnessFile(str(path)), lambda: list(held_in(str(path)))):
        with pytest.raises(CallerError, match="line 2 is no held checkpoint") as told:
            attempt()
        assert why in told.value.message
    assert path.read_bytes() == text


def test_what_a_later_version_adds_to_a_line_disturbs_nobody():
    assert decode_line(encode_line(held()).replace(b'"v":1', b'"v":1,"signature":"x"')) == held()


def test_a_line_is_on_the_disk_before_it_counts(path, monkeypatch):
    order = []
    monkeypatch.setattr(witness_file.os, "fsync", lambda number: order.append(os.fstat(number).st_size))
    keeper = WitnessFile(str(path))
    keeper.append(held(1))
    keeper.append(held(2))
    size = len(encode_line(held(1)))
    assert order[-2:] == [size, 2 * size]
    assert len(order) == 3, "the new file's name, too"
    keeper.close()


def test_a_full_disk_is_told_and_costs_nothing_that_was_held(path, monkeypatch):
    keep(path, held(1))
    keeper = WitnessFile(str(path))

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(witness_file.os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        keeper.append(held(2))
    assert keeper.newest == {3: held(1)}
    keeper.close()


def test_one_path_has_one_witness(path):
    keeper = WitnessFile(str(path))
    keeper.append(held(1))
    with pytest.raises(CallerError, match="held open by another"):
        WitnessFile(str(path))
    assert list(held_in(str(path))) == [held(1)], "reading disturbs nobody"
    keeper.close()
    keep(path, held(2))


@pytest.mark.parametrize("name", ["missing/heads.jsonl", "file/below", "file/below/"])
def test_a_path_that_cannot_be_written_is_told_before_anything_is_read(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(CallerError, match=r"No such file|Not a directory"):
        WitnessFile(f"{tmp_path}/{name}")


@pytest.mark.parametrize("make", ["missing", "empty", "folder"])
def test_nothing_held_is_no_proof(tmp_path, make):
    path = tmp_path / make
    if make == "empty":
        path.write_text("")
    elif make == "folder":
        path.mkdir()
    with pytest.raises(CallerError, match=r"No such file|holds no checkpoint"):
        list(held_in(str(path)))
