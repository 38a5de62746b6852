"""A seed again, whole or some of its steps: `python -m tests.simulation 4711 '3:0,5:2'`."""

import sys

from tests.simulation.script import script
from tests.simulation.shrink import chosen, failure


def main() -> int:
    seed = int(sys.argv[1])
    steps = chosen(seed, sys.argv[2]) if sys.argv[2:] else script(seed)
    found = failure(seed, steps)
    if found is None:
        print(f"seed {seed}, {len(steps)} steps: nothing is wrong")
        return 0
    print(*found.trace, found.told, sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
