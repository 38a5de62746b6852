"""The words of the wire, in one place to import from: input events (`events`), table rows (`tables`), scalars."""

from __future__ import annotations

from harness_stream.core.events import (
    EVENTS,
    OWN_CHAIN_PREFIX,
    ActionClass,
    Approval,
    Argument,
    InputEvent,
    Intent,
    Mandate,
    Outcome,
    Parent,
    Part,
    ReturnedRecord,
    ReturnedValues,
)
from harness_stream.core.scalars import TableName, measure_of, micro_of
from harness_stream.core.tables import (
    TABLES,
    ClassificationRow,
    DelegationLimits,
    IdentityRow,
    InfrastructureRow,
    PublicKey,
    RiskRow,
    Row,
    lane_of,
    lane_of_fields,
)

__all__ = [
    "EVENTS",
    "OWN_CHAIN_PREFIX",
    "TABLES",
    "ActionClass",
    "Approval",
    "Argument",
    "ClassificationRow",
    "DelegationLimits",
    "IdentityRow",
    "InfrastructureRow",
    "InputEvent",
    "Intent",
    "Mandate",
    "Outcome",
    "Parent",
    "Part",
    "PublicKey",
    "ReturnedRecord",
    "ReturnedValues",
    "RiskRow",
    "Row",
    "TableName",
    "lane_of",
    "lane_of_fields",
    "measure_of",
    "micro_of",
]
