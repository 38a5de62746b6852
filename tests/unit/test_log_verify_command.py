"""What `harness log verify` shows of what it found."""

import io
import json
import sys

import pytest
from click import unstyle
from typer.testing import CliRunner

from harness_stream.cli import replay_output
from harness_stream.cli.log_verify import FINDINGS_SHOWN, LINE_MAX, _as_text, _in_file, _show, _verdict, finding_text
from harness_stream.cli.main import app
from harness_stream.cli.replay_output import Progress
from harness_stream.core.audit import Finding, Kind, log
from harness_stream.core.fold import Place
from harness_stream.errors import CallerError

TOLD = {
    "partition": 3,
    "from": "genesis",
    "end": 1_210,
    "effective": {"claim": 2, "verdict": 1_150},
    "void": {"wrong prev": 4, "not authentic": 17},
    "void_at": {"wrong prev": [7, 8, 9, 30], "not authentic": list(range(100, 116))},
    "checkpoints": {"compared": 54, "too_old": 1},
    "inputs": {"first": 0, "next": 1_150, "end": 1_153},
    "undecided": 3,
    "resumed": [],
    "recomputed": {"verdict": 1_149},
    "unproven": {"denied as quarantined, unevaluated": 1},
}


def test_a_partition_is_told_in_a_few_lines():
    assert _as_text(TOLD).splitlines() == [
        "partition 3: from its first record to 1210; inputs 0 to 1149 are answered, 3 are not decided yet",
        "  count: 2 claim, 1,150 verdict",
        "  void:  4 wrong prev, at 7, 8, 9, 30",
        f"  void:  17 not authentic, at {', '.join(map(str, range(100, 116)))}, …",
        "  checkpoints: 54 compared, 1 of too old a place",
        "  recomputed: 1,149 verdict",
        "  unproven: 1 denied as quarantined, unevaluated",
    ]


@pytest.mark.parametrize("begin", [190, 0])
def test_a_log_that_ends_before_the_start_was_not_read_from_there_to_its_end(begin):
    """It was told as "from offset 190 to 0"."""
    first = _as_text({**TOLD, "from": begin, "end": 0}).splitlines()[0]
    assert first.startswith(f"partition 3: nothing is left to read; it ends at 0, and the start is offset {begin}; ")
    assert _as_text({**TOLD, "from": 190, "end": 191}).startswith("partition 3: from offset 190 to 191; ")


def test_one_input_is_not_decided_yet():
    assert _as_text({**TOLD, "undecided": 1}).splitlines()[0].endswith("answered, 1 is not decided yet")


RESUMED = {
    "offset": 640,
    "epoch": 7,
    "reason": "broker 2 lost its disk",
    "inputs_left_out": [600, 811],
    "records_lost": [640, 812],
    "forgets_history": True,
    "checkpoints_of_lost": 2,
}


def test_what_an_operator_gave_up_is_told_for_ever_and_is_nothing_wrong():
    line = '  resumed: at 640 with epoch 7, "broker 2 lost its disk"; '
    told = TOLD | {"resumed": [RESUMED]}
    parts = "inputs 600 to 811 left out; records 640 to 812 lost; history forgotten; 2 checkpoints of these"
    assert line + parts in _as_text(told).splitlines()
    assert "nothing wrong in 2 partitions, but what operators gave up in 1" in _verdict(0, [told, TOLD])


def test_a_long_finding_is_told_a_part_a_line_and_its_digests_in_short(capsys):
    """A checkpoint that differs in everything took 600 characters; programs get all of it."""
    said = Place.genesis("i1", 3)._replace(offset=9)
    folded = said._replace(header=said.header._replace(epoch=2, head="a" * 64, writer="b" * 32), digest="c" * 64)
    finding = Finding(Kind.CHECKPOINT, 3, 9, f"a checkpoint says of offset 9: {log._differences(said, folded)}")
    lines = unstyle(finding_text(finding)).splitlines()
    assert max(map(len, lines)) <= LINE_MAX
    assert f"    head {said.header.head[:12]}…, the fold has aaaaaaaaaaaa…;" in lines
    _show(finding, 1, json=True)
    assert json.loads(capsys.readouterr().out)["text"] == finding.text


@pytest.mark.parametrize("more", [0, 1])
def test_a_line_is_as_long_as_it_is_with_its_place_and_kind(more):
    place = "3/100  truncated: "
    text = f"first part; {'x' * (LINE_MAX - len(place) - len('first part; ') + more)}"
    lines = unstyle(finding_text(Finding(Kind.TRUNCATED, 3, 100, text))).splitlines()
    assert lines == ([f"{place}first part;", f"    {text.partition('; ')[2]}"] if more else [place + text])
    assert max(map(len, lines)) <= LINE_MAX


@pytest.mark.parametrize(("content", "told"), [(None, "No such file"), ("{}", "holds no checkpoint's body")])
def test_a_file_to_begin_from_is_looked_at_before_any_broker_is_asked(tmp_path, monkeypatch, content, told):
    """Nobody answers at this address; a mistake in a file's name was told only after that."""
    file = tmp_path / "checkpoint.json"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("HARNESS_BOOTSTRAP", "127.0.0.1:1")
    asked = CliRunner().invoke(app, ["log", "verify", "--dev", "--from", str(file)])
    assert isinstance(asked.exception, CallerError)
    assert told in asked.exception.message


def test_a_line_of_an_export_is_a_place_to_begin_from(tmp_path):
    place = Place.genesis("i1", 3)
    place = place._replace(header=place.header._replace(epoch=1, writer="a" * 32))
    stated = place.to_json() | {"kind": "checkpoint", "snapshot_cut": -1, "dev": True}
    line = {"partition": 3, "offset": 70, "append_ms": 1, "digest": "0" * 64, "status": "checkpoint", "body": stated}
    for number, document in enumerate((stated, line)):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(document))
        assert _in_file(file) == place


def test_a_break_is_told_with_what_is_not_proven_and_how_many_checkpoints_follow_it():
    broken = {"broken": [{"at": 69, "unproven": None}, {"at": 90, "unproven": [91, 99]}], "astray": 2}
    lines = _as_text({**TOLD, **broken}).splitlines()
    assert "  broken: at 69; what comes behind was audited" in lines
    assert "  broken: at 90; 91 to 99 are not proven" in lines
    assert "  broken: 2 more checkpoints differ because of it" in lines


def test_behind_a_break_that_cannot_be_gone_behind_nothing_is_called_undecided():
    lines = _as_text({**TOLD, "undecided": None, "stuck": {"from": 70, "checkpoint": 112}}).splitlines()
    assert "undecided" not in lines[0]
    assert "not decided" not in lines[0]
    again = "`harness log verify --partition 3 --from 3/112` shows what comes behind"
    assert f"  broken: from 70 on nothing is proven; {again}" in lines


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("count", "text"), [(1, "1 record of partition 0, "), (2, "2 records of partition 0, ")])
def test_how_far_it_is_does_not_stay_on_the_screen(monkeypatch, count, text):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(replay_output, "PROGRESS_S", 0)
    progress = Progress()
    progress.show(count, "records of partition 0")
    shown = screen.getvalue()
    assert shown.startswith(f"\r{text}")
    progress.close()
    assert screen.getvalue().removeprefix(shown) == "\r" + " " * len(shown.strip("\r")) + "\r"
    progress.close()
    assert screen.getvalue().count("\r") == 3


def test_an_empty_partition_is_told_too():
    nothing = {**TOLD, "inputs": {"first": 0, "next": 0, "end": 0}, "effective": {}, "undecided": 0, "end": 0}
    assert _as_text(nothing).splitlines()[:2] == [
        "partition 3: from its first record to 0; no input is answered",
        "  count: nothing",
    ]


def test_what_a_witness_held_is_told_and_what_is_no_longer_kept_with_its_time():
    witness = {"held": 1_500, "compared": 1_440, "by_digest": 0, "no_longer_kept": 0, "newest_no_longer_kept_ms": None}
    line = "  witness: 1,500 held, 1,440 found as they are held"
    assert line in _as_text({**TOLD, "witness": witness}).splitlines()
    witness |= {"by_digest": 3, "no_longer_kept": 60, "newest_no_longer_kept_ms": 1_790_000_000_000}
    told = f"{line} (3 by their records alone), 60 no longer kept, the newest of 2026-09-21 14:13:20.000Z"
    assert told in _as_text({**TOLD, "witness": witness}).splitlines()


@pytest.mark.parametrize(("found", "text"), [(0, "nothing wrong in 1 partition"), (1, "1 finding in 1 partition")])
def test_the_last_line_is_the_answer(found, text):
    assert text in _verdict(found, [TOLD])


def finding(offset, text="t is 1"):
    return Finding(Kind.TIME, 0, offset, text)


def test_people_see_the_first_findings_and_that_there_are_more(capsys):
    for number in range(1, FINDINGS_SHOWN + 3):
        _show(finding(number), number, json=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == FINDINGS_SHOWN + 1
    assert "more findings" in lines[-1]


def test_programs_see_all(capsys):
    for number in range(1, FINDINGS_SHOWN + 3):
        _show(finding(number), number, json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == {"finding": "time", "partition": 0, "offset": FINDINGS_SHOWN + 2, "text": "t is 1"}


def test_foreign_text_moves_no_cursor(capsys):
    _show(finding(1, "decision is \x1b[2J"), 1, json=False)
    assert "decision is ?[2J" in capsys.readouterr().out
