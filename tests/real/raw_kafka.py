"""Writes records that no client would: one Produce request (version 3), byte by byte."""

import socket
import struct
import time

NOT_THERE_YET = (3, 6)  # unknown topic, not its leader: for a moment after a topic was created


def append_raw(bootstrap, topic, partition, value, headers):
    """Append one record; header names and values are bytes, a value may be None."""
    end = time.monotonic() + 10
    while (error := _produce(bootstrap, topic, partition, value, headers)) in NOT_THERE_YET:
        assert time.monotonic() < end, f"the broker answers {error}"
        time.sleep(0.02)
    assert error == 0, f"the broker answered {error}"


def _produce(bootstrap, topic, partition, value, headers):
    batch = _batch(_record(value, headers))
    request = (
        struct.pack(">hhi", 0, 3, 1)  # Produce, version, correlation
        + _text(b"raw")
        + struct.pack(">hhii", -1, -1, 5_000, 1)  # no transaction, acks=all, time-out, one topic
        + _text(topic.encode())
        + struct.pack(">iii", 1, partition, len(batch))
        + batch
    )
    host, port = bootstrap.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        reader = connection.makefile("rb")
        answer = reader.read(struct.unpack(">i", reader.read(4))[0])
    name_end = 4 + 4 + 2 + len(topic)
    return struct.unpack_from(">h", answer, name_end + 4 + 4)[0]


def _batch(record):
    now_ms = time.time_ns() // 1_000_000
    body = struct.pack(">hiqqqhii", 0, 0, now_ms, now_ms, -1, -1, -1, 1) + record
    return struct.pack(">qiibI", 0, 9 + len(body), -1, 2, _crc32c(body)) + body


def _record(value, headers):
    body = b"\0" + _varint(0) * 2 + _varint(-1) + _bytes(value) + _varint(len(headers))
    for name, content in headers:
        body += _bytes(name) + (_varint(-1) if content is None else _bytes(content))
    return _bytes(body)


def _text(value):
    return struct.pack(">h", len(value)) + value


def _bytes(value):
    return _varint(len(value)) + value


def _varint(number):
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
