"""`harness verdicts tail`: what one line tells."""

from __future__ import annotations

import pytest

from harness_stream.cli.verdicts import Entry, as_line


@pytest.mark.parametrize(
    ("warmed", "told"),
    [
        ({"offset": 7}, "new windows warmed"),
        (None, "no windows warmed (--now, or none were new)"),
    ],
)
def test_a_switch_tells_revision_digest_and_whether_its_windows_know_what_came_before(warmed, told):
    body = {"kind": "switch", "rules": {"digest": "d" * 64, "revision": 3}, "warmed": warmed}
    assert f"rules revision 3, digest dddddddddddd: {told}" in as_line(Entry(0, 12, 0, True, body))
