"""`python -m tests.faults`: real processes on real Kafka and Redis, and faults one after another, in a seeded order.

Afterwards the logs are read by the product's auditor, and the report says how often each fault was made, how long it
took until every partition served again, and what was lost, doubled or wrong: nothing. Exit code 1 otherwise, and if a
goal for a takeover was missed.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.command import ended
from tests.faults.plan import KINDS
from tests.faults.report import as_json, as_text, missed
from tests.faults.run import Options, run


def main() -> int:
    given = arguments()
    unknown = [word for word in given.only or () if not any(word in kind for kind in KINDS)]
    if unknown:
        raise SystemExit(f"no kind of fault has `{unknown[0]}` in its name; there are: {', '.join(KINDS)}")
    kinds = tuple(kind for kind in KINDS if any(word in kind for word in given.only)) if given.only else tuple(KINDS)
    options = Options(
        given.faults, given.minutes, given.seed, kinds, given.workers, given.partitions, given.rate, given.transaction_s
    )
    folder = Path(given.dir) if given.dir else Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs of all processes: {folder}", flush=True)
    result = run(options, folder, lambda line: print(line, flush=True))
    text = as_text(result)
    print(text)
    if given.report:
        path = Path(given.report)
        path.write_text(text)
        path.with_suffix(".json").write_text(as_json(result))
    bad = result.wrong or bool(missed(result))
    if not given.dir and not bad:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bad)


def arguments():
    standard = Options()
    parser = argparse.ArgumentParser(
        "python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="kinds:\n" + "\n".join(f"  {kind}" for kind in KINDS),
    )
    parser.add_argument("--faults", type=int, default=standard.faults, help="how many (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="begin none later than this")
    parser.add_argument("--seed", type=int, default=standard.seed, help="same seed, same order (default: %(default)s)")
    parser.add_argument("--only", action="append", metavar="WORDS", help="kinds whose name has these words; repeat it")
    parser.add_argument("--workers", type=int, default=standard.workers, help="(default: %(default)s)")
    parser.add_argument("--partitions", type=int, default=standard.partitions, help="(default: %(default)s)")
    parser.add_argument("--rate", type=int, default=standard.rate, help="intents/s and client (default: %(default)s)")
    parser.add_argument(
        "--transaction-s", type=float, default=standard.transaction_s, help="how long one stays open (%(default)s)"
    )
    parser.add_argument("--dir", help="keep data and logs here; default: a temporary folder, which stays if anything is wrong")
    parser.add_argument("--report", help="write the text here, and JSON beside it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(ended(main))
