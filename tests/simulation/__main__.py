"""A seed again, whole or some of its steps: `python -m tests.simulation 4711 '3:0,5:2'`."""

import argparse
import sys

from tests.simulation.script import script
from tests.simulation.shrink import chosen, failure


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.simulation", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seed", type=int, help="as a failing run printed it")
    parser.add_argument("steps", nargs="?", help="only these, as a failing run printed them; else all")
    asked = parser.parse_args()
    try:
        seed, steps = asked.seed, chosen(asked.seed, asked.steps) if asked.steps else script(asked.seed)
    except ValueError as error:
        parser.error(str(error))
    found = failure(seed, steps)
    if found is None:
        print(f"seed {seed}, {len(steps)} steps: nothing is wrong")
        return 0
    print(*found.trace, found.told, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
