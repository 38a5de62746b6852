"""Bytes for decoders of untrusted input: true ones, changed by structure or by bit, and hostile ones of a fixed list."""

from __future__ import annotations

import json
import math
import os
import time
import tracemalloc
from copy import deepcopy
from random import Random
from typing import Any

from hypothesis import strategies as st

EXAMPLES = 3_000 if os.environ.get("HARNESS_LONG") else 60
"""Of each decoder; 60 take a tenth of a second."""
HOSTILE_S_MAX = 5.0
"""Of CPU. The slowest take a few tenths here; what is square in size takes minutes."""
HOSTILE_BYTES_MAX = 192 * 1024 * 1024

NASTY: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**53, -(2**53), 2**63, 2**64, 10**30, 0.5, 1.0, 1e308, math.inf, math.nan),
    *("", "x", "7", "-1", "\x00", "\x1b[2J", "\ud800", "a" * 300, "0" * 64, "f" * 32, "ä\U0001f600", "9" * 5_000),
    *([], {}, [[]], [None], [1, 2, 3], {"": None}, {"kind": "claim"}, {"a": {"b": []}}, [{}] * 40),
]

HOSTILE: list[bytes] = [
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"kind":' * 2_000 + b"1" + b"}" * 2_000,
    b"9" * 200_000,
    b"1e" + b"9" * 100_000,
    b'{"epoch":' + b"9" * 6_000 + b"}",
    b'"' + b"a" * 1_000_000 + b'"',
    b'"' + b"\\u0041" * 100_000 + b'"',
    b'{"k":1,' * 20_000 + b'"z":1' + b"}" * 20_000,
    b"{" + b",".join(b'"k":1' for _ in range(20_000)) + b"}",
    b"[" + b"0," * 100_000 + b"0]",
    b" " * 1_000_000,
    b"\n" * 300_000,
    b"A" * 300_000,
    b"\x00" * 300_000,
    b"- " * 100_000,
    b"a: &a [*a]\n",
    b"a: &a [1]\n" + b"".join(b"b%d: [*a,*a,*a]\n" % n for n in range(2_000)),
]


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value."""
    found = [path]
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, child in children:
        found += places(child, (*path, step))
    return found


def nasty(rng: Random) -> Any:
    """A copy: what is put in is changed in its turn, and must neither stay changed nor come to hold itself."""
    return deepcopy(rng.choice(NASTY))


def at(node: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        node = node[step]
    return node


def changed(seed: bytes, rng: Random) -> bytes:
    """One to three changes of a JSON text, in its structure."""
    body = json.loads(seed)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(places(body))
        if not path:
            if rng.random() < 0.05:
                body = nasty(rng)
            continue
        above, step = at(body, path[:-1]), path[-1]
        how = rng.choice(["replace", "replace", "replace", "delete", "move", "more"])
        if how == "delete":
            del above[step]
        elif how == "move":
            above[step] = json.loads(json.dumps(at(body, rng.choice(places(body)))))
        elif how == "more" and isinstance(above, dict):
            above[rng.choice(["", "extra", "v", "kind", "type"])] = nasty(rng)
        else:
            above[step] = nasty(rng)
    return json.dumps(body).encode()


def bent(seed: bytes, rng: Random) -> bytes:
    """Bytes flipped, cut out, doubled or put in."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice([1, 1, 4, 40]))
        how = rng.choice(["flip", "cut", "double", "insert"])
        if how == "flip" and start < len(data):
            data[start] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del data[start:end]
        elif how == "double":
            data[start:start] = data[start:end]
        else:
            data[start:start] = rng.choice([b"\x00", b"\xff", b'"', b"}", b"[", b"9" * 30, b"\xe2\x82", rng.randbytes(8)])
    return bytes(data)


def is_json(seed: bytes) -> bool:
    try:
        return isinstance(json.loads(seed), dict | list)
    except ValueError:
        return False


def mutations(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """True ones, changed; a failing one is told whole, and shrinks to another seed only."""

    def make(number: int) -> bytes:
        rng = Random(number)
        seed = rng.choice(seeds)
        if rng.random() < 0.7 and is_json(seed):
            return changed(seed, rng)
        return bent(seed, rng)

    return st.integers(0, 2**48).map(make) | st.binary(max_size=200)


def seconds(call: Any, data: bytes) -> float:
    """Of CPU, that a call took."""
    began = time.process_time()
    call(data)
    return time.process_time() - began


def peak_bytes(call: Any, data: bytes) -> int:
    """That a call needed at most, at a time."""
    tracemalloc.start()
    try:
        call(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
