"""Each code has one explanation."""

import re
from pathlib import Path

from harness_stream.core import reasons


def test_a_refused_delegation_is_explained_by_all_that_can_refuse_it():
    """One code has many causes; an explanation of one of them sends people the wrong way whenever it is another."""
    told = reasons.EXPLAIN[reasons.Deny.DELEGATION]
    causes = (
        "names none",
        "not active",
        "does not delegate",
        "is not approved",
        "not do this itself",
        "depth",
        "fan-out",
    )
    assert [cause for cause in causes if cause not in told] == []


def test_no_code_is_explained_twice():
    """Codes of two kinds may be the same word: then one text has to fit both, and the later would silently win."""
    found = re.findall(r"^    (\w+)\.(\w+): ", Path(reasons.__file__).read_text(), re.MULTILINE)
    codes = [str(getattr(getattr(reasons, kind), name)) for kind, name in found]
    assert len(codes) > 50
    assert sorted(codes) == sorted(set(codes))
