"""The auditor: what is wrong with one partition's logs, record by record (PROTOCOL §10: V1, V2, V3, V5, V6).

Rule of this package: pure, and it believes nobody. What counts is `core.fold`'s to say, what should have been answered
is `core.intake`'s; here both are held against what was written, and each difference is a finding with its place.
"""

from harness_stream.core.audit.audit import Audit
from harness_stream.core.audit.findings import Finding, Input, Kind, Record

__all__ = ["Audit", "Finding", "Input", "Kind", "Record"]
