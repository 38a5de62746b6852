"""A seed again, whole or some of its steps, and what it did.

    python -m tests.simulation 4711
    python -m tests.simulation 4711 '3:0,5:2' --mix signed

The second runs two steps of that seed's: number 3, after which the workers' loops take no turn, and number 5, after
which they take two. The trace names each step by its number; a failing run prints the steps that are enough.
"""

import sys

from benchmarks.command import ended, parser
from tests.simulation.script import MIXES
from tests.simulation.shrink import chosen, ran


def main() -> int:
    command = parser(__doc__, "python -m tests.simulation")
    command.add_argument("seed", type=int, help="as a failing run printed it")
    command.add_argument("steps", nargs="?", help="only these, as step:turns,step:turns; else all")
    command.add_argument("--mix", choices=MIXES, default="all", help="which kinds of faults meet, and in what world")
    asked = command.parse_args()
    seed, mix = asked.seed, MIXES[asked.mix]
    try:
        steps = mix.steps_of(seed) if asked.steps is None else chosen(seed, asked.steps, mix)
    except ValueError as error:
        command.error(str(error))
    run = ran(seed, steps, mix)
    print(*run.world.trace, f"seed {seed}, {len(steps)} steps: {run.told}", sep="\n")
    return 0 if run.error is None else 1


if __name__ == "__main__":
    sys.exit(ended(main))
