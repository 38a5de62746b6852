"""Every log line that somebody may have to act on, by a name that stays when its words change.

Rule of this file: what is logged above INFO is an `Alarm` and goes through `sound`, nothing else may be (a test looks).
The name ends the line in brackets, so that it can be searched for; `docs/runbook.md` has a chapter for each.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Final


class Alarm(StrEnum):
    """What happened."""

    HALTED = "halted"
    """A partition cannot go on without an operator."""
    LOG_DAMAGED = "log_damaged"
    """What is stored of a topic cannot be read, however often it is asked for."""
    INPUT_LOST = "input_lost"
    """Retention deleted inputs before anybody answered them, or the input log was cut."""
    DECISIONS_LOST = "decisions_lost"
    """The state store knows of decisions that the log has not any more."""
    QUARANTINED = "quarantined"
    """Workers crashed on an input again and again; it was set aside unevaluated."""
    BUNDLE_UNUSABLE = "bundle_unusable"
    """The rule bundle that shall be in force is missing or does not load."""
    STORE_SILENT = "store_silent"
    """The state store does not answer."""
    STORE_REPLACED = "store_replaced"
    """The state store was emptied, or is older than what was left in it; memory holds everything and refills it."""
    STATE_GONE = "state_gone"
    """State that is not in memory cannot be had from the store, or the log was cut; the partition loads again."""
    FOREIGN_RECORD = "foreign_record"
    """Somebody who never owned the partition wrote into its decision log; it changes nothing."""
    PARTITION_LOST = "partition_lost"
    """The group took a partition away, or ended this member's session, without a word before."""
    CLIENT_STOOD_STILL = "client_stood_still"
    """A Kafka client got nothing while a broker answered another one; it was replaced."""
    ACCESS_REFUSED = "access_refused"
    """Kafka or Redis answers, and does not let this process in, or not do what it needs."""
    SETTING_IGNORED = "setting_ignored"
    """An environment variable is nearly a setting."""
    APPROVAL_MISUSED = "approval_misused"
    """In an agent's process: an approval was to be used again, elsewhere, or for something else; nothing was run."""


_ERRORS: Final = frozenset(
    {
        *(Alarm.HALTED, Alarm.LOG_DAMAGED, Alarm.INPUT_LOST, Alarm.DECISIONS_LOST, Alarm.QUARANTINED),
        *(Alarm.BUNDLE_UNUSABLE, Alarm.ACCESS_REFUSED),
    }
)
"""Those that do not mend themselves; all others are warnings."""


def sound(log: logging.Logger, alarm: Alarm, text: str) -> None:
    """Log `text`, one sentence for people, under the alarm's name."""
    log.log(logging.ERROR if alarm in _ERRORS else logging.WARNING, "%s [%s]", text, alarm)
