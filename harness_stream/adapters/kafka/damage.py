"""Tells a batch that cannot be read from one that could not be read just now.

librdkafka names a batch with a wrong checksum by its first offset in an error, does not go on behind it and asks the
broker again, ten times a second and for ever. After that, or after a header that it does not know, it may also read on
somewhere inside of the batch and end outside of the log, where it stands without another word.

Rule: only an answer to a position that was set anew counts as another try; a broker that is away has given none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from collections.abc import Mapping

PlaceName = tuple[str, int]  # topic, partition

# A checksum that is wrong, as we or the broker find it; one of what was packed; a header of no version there is.
UNREADABLE: Final = frozenset(
    {KafkaError._BAD_MSG, KafkaError.INVALID_MSG, KafkaError._BAD_COMPRESSION, KafkaError._NOT_IMPLEMENTED}  # noqa: SLF001  public names of librdkafka's local errors
)
# A leader that has just changed, or a broken wire, is another one a second later; together well within the time after
# which a consumer is replaced (standstill.py), a client gives up opening, and a command gives up.
TRIES: Final = 4
TRY_MS: Final = 600


@dataclass(slots=True)
class _Suspect:
    offset: int
    again_ms: int
    tries: int = 1
    asked: bool = False


class Damage:
    """What could not be read, of the partitions of one consumer.

    Attributes:
        suspects: those with a batch that could not be read and has not come since.
    """

    def __init__(self) -> None:
        self.suspects: dict[PlaceName, _Suspect] = {}

    def seen(self, name: PlaceName, offset: int, now_ms: int) -> bool:
        """The batch at `offset` could not be read; True if that is certain from now on."""
        suspect = self.suspects.get(name)
        if suspect is None:
            self.suspects[name] = _Suspect(offset, now_ms + TRY_MS)
            return False
        if not suspect.asked:
            return False
        suspect.asked = False
        suspect.tries += 1
        return suspect.tries == TRIES

    def due(self, now_ms: int) -> list[PlaceName]:
        """Whose position is to be set anew now; also of those that are certain, whose log may be mended."""
        due = [name for name, suspect in self.suspects.items() if now_ms >= suspect.again_ms]
        for name in due:
            self.suspects[name].again_ms, self.suspects[name].asked = now_ms + TRY_MS, True
        return due

    def forget(self, name: PlaceName) -> None:
        """It is read again, or from elsewhere, or not at all."""
        self.suspects.pop(name, None)

    def certain(self) -> Mapping[PlaceName, int]:
        """The first offset that cannot be read, of each partition with one."""
        return {name: suspect.offset for name, suspect in self.suspects.items() if suspect.tries >= TRIES}
