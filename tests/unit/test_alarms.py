"""Whatever is logged above INFO has a name, at the line's end, and the name is what people search for."""

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path

import pytest

from harness_stream.alarms import Alarm, sound
from harness_stream.cli.worker import JsonLines

PACKAGE = Path(__file__).parents[2] / "harness_stream"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "alarms.py")
ABOVE_INFO = {"warning", "warn", "error", "exception", "critical", "fatal", "log"}


def unnamed(path):
    """Lines that log above INFO, or at a level nobody sees here, without a name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ABOVE_INFO:
            logger = node.func.value
            if isinstance(logger, ast.Name) and re.fullmatch(r"_?(log|logger|logging)", logger.id, re.IGNORECASE):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_nothing_is_logged_above_info_without_a_name():
    assert [line for path in SOURCES for line in unnamed(path)] == []


@pytest.mark.parametrize("alarm", Alarm)
def test_every_alarm_can_be_raised(alarm):
    assert any(f"Alarm.{alarm.name}" in path.read_text("utf-8") for path in SOURCES)


def test_the_name_ends_the_line(caplog):
    sound(logging.getLogger("any"), Alarm.STORE_SILENT, "100 % of it is away")
    assert caplog.record_tuples == [("any", logging.WARNING, "100 % of it is away [store_silent]")]


def test_what_does_not_mend_itself_is_an_error(caplog):
    for alarm in Alarm:
        sound(logging.getLogger("any"), alarm, "it happened")
    errors = {Alarm(r.message[len("it happened [") : -1]) for r in caplog.records if r.levelno == logging.ERROR}
    lasting = {
        *(Alarm.HALTED, Alarm.LOG_DAMAGED, Alarm.INPUT_LOST, Alarm.DECISIONS_LOST, Alarm.QUARANTINED),
        *(Alarm.BUNDLE_UNUSABLE, Alarm.ACCESS_REFUSED),
    }
    assert errors == lasting


def test_a_json_line_stays_json_whatever_it_says():
    record = logging.LogRecord("any", logging.ERROR, "", 0, 'a "quoted"\nword at %s', ("C:\\rules",), None)
    told = JsonLines().format(record)
    assert "\n" not in told
    assert json.loads(told) | {"at": ""} == {"at": "", "level": "ERROR", "message": 'a "quoted"\nword at C:\\rules'}


def test_a_json_line_has_the_traceback():
    raised = (LookupError, LookupError("gone"), None)
    record = logging.LogRecord("any", logging.ERROR, "", 0, "failed", (), raised)
    assert "LookupError: gone" in json.loads(JsonLines().format(record))["traceback"]
