"""The report: `python -m tests.mutants` says which test kills which mutant, and ends with 1 unless all are killed."""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.mutants import runs
from tests.mutants.table import MUTANTS

ROOT = Path(__file__).parents[2]
NOT_RUN = "not run"


def real_servers(running):
    """A broker and a Redis that answer, or None and why there are none."""
    sys.path[:0] = [str(ROOT / "tests")]  # as pytest's `pythonpath` has it
    from real_servers import open_real_stack

    try:
        return running.enter_context(open_real_stack()), ""
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        return None, str(reason)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], epilog="It takes some minutes.")
    parser.parse_args()
    with ExitStack() as running:
        print("starting a broker and a Redis", file=sys.stderr)
        servers, why = real_servers(running)
        print("running every named test on the product as it is", file=sys.stderr)
        runnable = [mutant for mutant in MUTANTS if servers is not None or not mutant.real]
        clean = runs.outcomes([mutant.killed_by for mutant in runnable], servers=servers)
        verdicts, killed = runs.verdicts(runnable, clean, servers), 0
        for mutant in MUTANTS:
            verdict = next(verdicts) if mutant in runnable else f"{NOT_RUN}: {why}"
            killed += verdict == runs.KILLED
            print(f"{mutant.name} → {mutant.breaks} → {mutant.killed_by} → {verdict}", flush=True)
    print(f"{killed} of {len(MUTANTS)} mutants killed")
    return 0 if killed == len(MUTANTS) else 1


if __name__ == "__main__":
    sys.exit(main())
