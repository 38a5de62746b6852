"""What signing costs a verdict: encoded and sealed in batches of 1, 16 and 256, signed beside unsigned in one run.

    python benchmarks/signing.py                       half a minute
    python benchmarks/signing.py --rounds 3 --json out.json

`encode` is a verdict of 1 KiB made into bytes, digest and headers. `unsigned` and `signed` add the seal of their pair;
the ratio is signed to unsigned, each round's own. `read` is what a reader adds who has not seen the batch before, and
`input` the MAC of one intent: made, and judged by a worker. No broker: this is CPU only. Rounds alternate.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import command
import machine
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier
from harness_stream.adapters.signing.certificate import certify
from harness_stream.adapters.signing.decisions import SignedDecisions
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import SignedInputs, Speaker
from harness_stream.adapters.signing.keys import kid_of, public_of, text_of
from harness_stream.adapters.signing.verifier import SignedVerifier
from harness_stream.core.tables import PublicKey
from harness_stream.ports import LogRecord, Sender
from harness_stream.wire.decisions import decision_headers, digest_of, encode_body

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from harness_stream.ports import DecisionSigner

SIZES: Final = (1, 16, 256)
SECONDS_ROUND: Final = 0.2
T: Final = 1_700_000_000_000
# The size of a real verdict with three windows and twelve conditions.
VERDICT: Final[Mapping[str, Any]] = {"kind": "verdict", "epoch": 7, "t": T, "prev": "a" * 64, "more": "x" * 800}
BOUND: Final = Bound("bench", "a" * 22 + "." + "b" * 22)
INTENT: Final = b'{"v":1,"type":"intent","by":"agent-1","text":"' + b"x" * 520 + b'"}'


class Case(NamedTuple):
    """One thing to measure: a name, how many records a call handles, and the call."""

    name: str
    records: int
    call: Callable[[], object]


class Keys(NamedTuple):
    """A realm's keys, made for this run."""

    root: Ed25519PrivateKey
    pdp: X25519PrivateKey
    speaker: Speaker

    def signer(self) -> SignedDecisions:
        """A worker with a key of its own."""
        worker = Ed25519PrivateKey.generate()
        return SignedDecisions(BOUND, worker, certify(self.root, BOUND, public_of(worker)))

    def verifier(self) -> SignedVerifier:
        """A worker, which judges inputs as well; it remembers nothing yet."""
        return SignedVerifier(BOUND, public_of(self.root), self.pdp)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    asked, on = _arguments().parse_args(words), machine.measured_on()
    keys = Keys(
        Ed25519PrivateKey.generate(),
        X25519PrivateKey.generate(),
        Speaker(X25519PrivateKey.generate(), Ed25519PrivateKey.generate()),
    )
    cases = [case for size in asked.sizes for case in _batch_cases(size, keys)] + _input_cases(keys)
    taken = {case.name: [] for case in cases}
    for case in cases:
        _us_per_record(case)  # the first one pays for what is loaded late
    for _ in range(asked.rounds):
        for case in cases:
            taken[case.name].append(_us_per_record(case))
    told = _told(asked.sizes, taken)
    print("\n".join(machine.lines(on)))
    _print(told, asked.rounds)
    if asked.json is not None:
        asked.json.write_text(json.dumps({"machine": on, **told}, indent=2) + "\n")


def _arguments() -> argparse.ArgumentParser:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=command.count, default=9, help="of each case")
    parser.add_argument("--sizes", type=command.count, nargs="+", default=SIZES, help="verdicts in a batch")
    parser.add_argument("--json", type=command.output, help="also write the numbers to this file")
    return parser


def sealed(signer: DecisionSigner, size: int) -> list[LogRecord]:
    """A micro-batch of verdicts as a worker hands it to its producer."""
    values = [encode_body({**VERDICT, "n": n}) for n in range(size)]
    digests = [digest_of(value) for value in values]
    seals = signer.seal_batch(3, digests)
    made = zip(values, digests, seals, strict=True)
    return [
        LogRecord("v", 3, 0, None, value, T, [*decision_headers("/bench/w", "verdict", digest, T), *seal])
        for value, digest, seal in made
    ]


def require(right: bool) -> None:
    """Nothing is worth measuring that does not work."""
    if not right:
        raise SystemExit("the signed pair does not agree with itself")


def _batch_cases(size: int, keys: Keys) -> list[Case]:
    signer, unsigned = keys.signer(), UnsignedSigner()
    records, plain, reader = sealed(signer, size), sealed(unsigned, size), keys.verifier()
    require(all(map(reader.decision_authentic, records)))

    def read() -> bool:
        return all(map(keys.verifier().decision_authentic, records))

    return [
        Case(f"unsigned {size}", size, partial(sealed, unsigned, size)),
        Case(f"signed {size}", size, partial(sealed, signer, size)),
        Case(f"read {size}", size, read),
        Case(f"read again {size}", size, lambda: all(map(reader.decision_authentic, records))),
        Case(f"read unsigned {size}", size, lambda: all(map(UnsignedVerifier().decision_authentic, plain))),
    ]


def _input_cases(keys: Keys) -> list[Case]:
    public = public_of(keys.speaker.exchange)
    sender = Sender("intent", "acme", (PublicKey(kid=kid_of(public), alg="x25519", public=text_of(public)),))
    inputs, verifier = SignedInputs(BOUND, public_of(keys.pdp), {"a": keys.speaker}), keys.verifier()
    record = LogRecord("i", 0, 0, None, INTENT, T, inputs.seal_input("i", "acme", INTENT, "intent", "a"))
    require(verifier.input_authentic(record, sender))
    require(not verifier.input_authentic(record._replace(value=INTENT + b" "), sender))
    return [
        Case("digest of an intent", 1, lambda: sha256(INTENT).hexdigest()),
        Case("input made", 1, lambda: inputs.seal_input("i", "acme", INTENT, "intent", "a")),
        Case("input judged", 1, lambda: verifier.input_authentic(record, sender)),
        Case("input forged", 1, partial(verifier.input_authentic, record._replace(value=INTENT + b" "), sender)),
    ]


def _us_per_record(case: Case) -> float:
    case.call()
    calls, began_s = 0, time.perf_counter()
    while (spent_s := time.perf_counter() - began_s) < SECONDS_ROUND:
        case.call()
        calls += 1
    return spent_s / calls / case.records * 1e6


def _told(sizes: Sequence[int], taken: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    told: dict[str, Any] = {name: _spread(values) for name, values in taken.items()}
    for size in sizes:
        pairs = zip(taken[f"signed {size}"], taken[f"unsigned {size}"], strict=True)
        told[f"ratio {size}"] = _spread([signed / unsigned for signed, unsigned in pairs])
    return told


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _print(told: Mapping[str, Mapping[str, float]], rounds: int) -> None:
    print(f"µs per record, median of {rounds} rounds (least to most)")
    for name, spread in told.items():
        unit = "×" if name.startswith("ratio") else "µs"
        print(f"  {name:<22} {spread['median']:8.2f} {unit}  ({spread['least']:.2f} to {spread['most']:.2f})")


if __name__ == "__main__":
    sys.exit(command.ended(main))
