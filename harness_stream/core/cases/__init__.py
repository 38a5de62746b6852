"""Cases: what a rule set has to say of an event after a history, as text, as data, with its rows."""

from harness_stream.core.cases.model import Case, CaseFile, Expectation, Folder, InlineRow, Step
from harness_stream.core.cases.read import Read, against, read_cases
from harness_stream.core.cases.rows import rows_of

__all__ = [
    "Case",
    "CaseFile",
    "Expectation",
    "Folder",
    "InlineRow",
    "Read",
    "Step",
    "against",
    "read_cases",
    "rows_of",
]
