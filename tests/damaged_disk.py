"""Bit rot on a broker's disk: one bit of a stored batch is turned, as the broker runs.

A broker sends what its files hold without looking at checksums, so that nobody but the reader finds out.
"""

import struct
from pathlib import Path

_HEADER = struct.Struct(">qi")  # first offset, bytes that follow
_LAST_DELTA_AT = 23


def _batches(log):
    """(where it ends in the file, first offset, last offset) of each batch."""
    at = 0
    while at + _LAST_DELTA_AT + 4 <= len(log):
        first, size = _HEADER.unpack_from(log, at)
        if size <= 0:  # the file is longer than what was written
            return
        yield at + _HEADER.size + size, first, first + struct.unpack_from(">i", log, at + _LAST_DELTA_AT)[0]
        at += _HEADER.size + size


def turn_bit(data, topic, partition, offset):
    """Turn the last bit of the batch that holds `offset`, or turn it back; the batch's (first, last) offsets."""
    for path in Path(data).glob(f"{topic}-{partition}/*.log"):
        with path.open("r+b") as file:
            for end, first, last in _batches(file.read()):
                if first <= offset <= last:
                    file.seek(end - 1)
                    byte = file.read(1)[0] ^ 1
                    file.seek(end - 1)
                    file.write(bytes([byte]))
                    return first, last
    raise LookupError(f"no batch of {topic}-{partition} holds {offset}")
