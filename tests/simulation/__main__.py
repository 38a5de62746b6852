"""A seed again, whole or some of its steps: `python -m tests.simulation 4711 '3:0,5:2'`."""

import argparse
import sys

from benchmarks.command import ended
from tests.simulation.script import MIXES
from tests.simulation.shrink import chosen, failure


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.simulation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seed", type=int, help="as a failing run printed it")
    parser.add_argument("steps", nargs="?", help="only these, as a failing run printed them; else all")
    parser.add_argument("--mix", choices=MIXES, default="all", help="which kinds of faults meet (default: %(default)s)")
    asked = parser.parse_args()
    steps_of = MIXES[asked.mix]
    try:
        seed, steps = asked.seed, chosen(asked.seed, asked.steps, steps_of) if asked.steps else steps_of(asked.seed)
    except ValueError as error:
        parser.error(str(error))
    found = failure(seed, steps)
    if found is None:
        print(f"seed {seed}, {len(steps)} steps: nothing is wrong")
        return 0
    print(*found.trace, found.told, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(ended(main))
