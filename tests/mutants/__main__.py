"""The report: `python -m tests.mutants` says which test kills which mutant, and ends with 1 unless all are killed.

Several NAMEs may be given together, each in quotes; `--help` lists them. One that is marked "real" there needs a broker
and a Redis, as tests/real_servers.py finds or starts them; where there are none it is not run, and so not killed.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.command import ended
from tests.mutants import runs
from tests.mutants.table import MUTANTS

ROOT = Path(__file__).parents[2]
NOT_RUN = "not run"


def real_servers(running):
    """A broker and a Redis that answer, or None and why there are none."""
    print("starting a broker and a Redis", file=sys.stderr)
    sys.path[:0] = [str(ROOT / "tests")]  # as pytest's `pythonpath` has it
    from real_servers import open_real_stack

    try:
        return running.enter_context(open_real_stack()), ""
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        return None, str(reason)


def main() -> int:
    asked = chosen()
    with ExitStack() as running:
        servers, why = real_servers(running) if any(mutant.real for mutant in asked) else (None, "")
        print("running every named test on the product as it is", file=sys.stderr)
        runnable = [mutant for mutant in asked if servers is not None or not mutant.real]
        verdicts, killed = runs.verdicts(runnable, servers), 0
        for mutant in asked:
            verdict = next(verdicts) if mutant in runnable else f"{NOT_RUN}: {why}"
            killed += verdict == runs.KILLED
            print(f"{mutant.name} → {mutant.breaks} → {mutant.killed_by} → {verdict}", flush=True)
    print(f"{killed} of {len(asked)} mutants killed")
    return 0 if killed == len(asked) else 1


def chosen(words=None):
    """The mutants that the command line names, all if it names none."""
    parser = argparse.ArgumentParser(
        "python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="All of them take some minutes. Mutants:\n" + "\n".join(map(_listed, MUTANTS)),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these, in quotes; else all")
    asked = parser.parse_args(words).names
    unknown = set(asked) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no mutant is named `{min(unknown)}`; --help lists them")
    return [mutant for mutant in MUTANTS if not asked or mutant.name in asked]


def _listed(mutant):
    return f"  {mutant.name}{'  (real)' if mutant.real else ''}"


if __name__ == "__main__":
    sys.exit(ended(main))
