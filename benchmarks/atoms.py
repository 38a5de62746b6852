"""What taking values apart costs a client, beside reading and hashing the same bytes, in one run.

    python benchmarks/atoms.py
    python benchmarks/atoms.py --rounds 30 --json out.json

`bare` is `json.loads` and one BLAKE2b over the same JSON text; `harness` is what the client does with the parsed value:
typed atoms and keyed fingerprints, of an intent's arguments or an outcome's records. Rounds alternate; times are CPU
time of this process, medians over the rounds. The ratio travels between machines, the microseconds don't.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import command
import machine

from harness_stream.client.fingerprints import Seal, arguments_of, dev_key
from harness_stream.client.returned import returned

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

SEAL: Final = Seal(dev_key("benchmark"))
ROUNDS: Final = 15
CALLS: Final = 100  # in one round of one sample: some milliseconds, above the clock's resolution

PROSE: Final = (
    "Thank you for your patience while we looked into this. The team has found what went wrong and will send a new "
    "copy as soon as it is printed, which should take no longer than a few days. "
)
MAIL: Final = {
    "id": "msg-4711",
    "sender": "bob.smith@example.com",
    "recipients": ["ann@example.com", "support@acme.example"],
    "subject": "Invoice for March",
    "date": "2026-03-31T10:15:00Z",
    "body": PROSE * 3 + "Please pay $1,250.00 to GB29NWBK60161331926819 by April 15th; see www.example.com/pay. Bob",
    "read": False,
    "attachments": [{"file_id": 19, "filename": "invoice-march.pdf", "size": 20480}],
}
ROW: Final = {"id": 7, "payee": "GB29NWBK60161331926819", "amount": 98.70, "date": "2026-03-31", "subject": "Rent"}
ARGUMENTS: Final[Mapping[str, Any]] = {
    "no values": {"limit": None, "all": True},
    "a short call": {"customer": "4711"},
    "a mail": {"to": "bob@example.com", "subject": "Your ticket", "body": "We look into it."},
    "a long mail": {"to": "bob@example.com", "subject": "Your ticket", "body": PROSE * 10},
}
RESULTS: Final[Mapping[str, Any]] = {
    "nothing": None,
    "a number": 98.70,
    "a row": ROW,
    "a mail": MAIL,
    "20 rows": [{**ROW, "id": n} for n in range(20)],
    "2 KB of prose": PROSE * 10,
    "a page of 20 KB": (PROSE * 9 + "See https://example.com/a?b=1 or call +41 79 123 45 67. ") * 12,
}


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    asked, on = _arguments().parse_args(words), machine.measured_on()
    found = {
        "arguments": _measured(ARGUMENTS, lambda value: arguments_of(value, {}, SEAL), asked.rounds),
        "results": _measured(RESULTS, lambda value: returned(value, SEAL), asked.rounds),
    }
    print("\n".join([*machine.lines(on), _text(found)]))
    if asked.json:
        asked.json.write_text(json.dumps({"machine": on, **found}, indent=1) + "\n", encoding="utf-8")


def _measured(samples: Mapping[str, Any], work: Callable[[Any], object], rounds: int) -> dict[str, dict[str, float]]:
    return {name: _sample(value, work, rounds) for name, value in samples.items()}


def _sample(value: Any, work: Callable[[Any], object], rounds: int) -> dict[str, float]:  # noqa: ANN401  any JSON
    text = json.dumps(value)

    def bare() -> None:
        json.loads(text)
        blake2b(text.encode(), digest_size=8).hexdigest()

    both = [(_us(bare), _us(lambda: work(value))) for _ in range(rounds)]
    floor, harness = (statistics.median(column) for column in zip(*both, strict=True))
    return {"bytes": len(text), "bare_us": floor, "harness_us": harness, "ratio": harness / floor}


def _us(call: Callable[[], object]) -> float:
    """CPU time of one call, in microseconds."""
    began = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - began) / CALLS * 1e6


def _text(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    lines = [f"{'':26}{'bytes':>8}{'bare us':>10}{'harness us':>12}{'ratio':>8}"]
    for kind, samples in found.items():
        for name, row in samples.items():
            figures = f"{row['bytes']:8,.0f}{row['bare_us']:10.1f}{row['harness_us']:12.1f}{row['ratio']:8.1f}"
            lines.append(f"{kind + ': ' + name:26.26}{figures}")
    return "\n".join(lines)


def _arguments() -> argparse.ArgumentParser:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=command.count, default=ROUNDS, help="alternating rounds of both")
    parser.add_argument("--json", type=command.output, help="also write the numbers to this file")
    return parser


if __name__ == "__main__":
    sys.exit(command.ended(main))
