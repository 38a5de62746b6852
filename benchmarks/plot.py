"""The plot of a run: latency quantiles by rate, ours beside the echo's. Needs matplotlib, the extra `benchmarks`.

Rule of this file: nothing is measured or computed here, and the library is loaded only if a plot was asked for.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import command
from figures import Spread
from latency import carried

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SIDES: Final = {"echo": "tab:gray", "harness": "tab:blue"}
STYLES: Final = {"p50": ":", "p90": "-.", "p99": "-", "p99.9": "--"}
CAPTION: Final = 150  # characters a line
MISSING: Final = (
    "a plot needs matplotlib: `pip install -e '.[benchmarks]'`; or leave `--plot` out, `--json` keeps the figures, too"
)


ENDINGS: Final = (".svg", ".png", ".pdf")


def output(text: str) -> Path:
    """A file that a plot can be drawn into, told before anything is measured."""
    path = command.output(text)
    if path.suffix not in ENDINGS:
        raise argparse.ArgumentTypeError(f"`{text}` ends in none of {', '.join(ENDINGS)}")
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError(MISSING)
    return path


def draw(latency: dict[str, Any], path: Path, on: Mapping[str, str]) -> None:
    """Write the plot; the file's ending says in which format.

    Args:
        latency: what `latency.measure` returned.
        path: where to.
        on: what it was measured on.
    """
    import matplotlib as mpl  # noqa: PLC0415  an extra, and slow to load

    mpl.use("Agg")  # draws into files; asks for no display
    from matplotlib import pyplot as plt  # noqa: PLC0415  same

    figure, axes = plt.subplots(figsize=(8, 5.5), layout="constrained")
    for side, colour in SIDES.items():
        for name, style in STYLES.items():
            line = points(latency, side, name)
            rates, medians = [point.rate for point in line], [point.median for point in line]
            axes.plot(rates, medians, style, marker="o", markersize=3, color=colour, label=f"{side} {name}")
            axes.fill_between(rates, [p.least for p in line], [p.most for p in line], color=colour, alpha=0.08, lw=0)
            lost = [(point.rate, point.median) for point in line if not point.carried]
            axes.plot(*zip(*lost, strict=True) if lost else ([], []), "x", color="tab:red", markersize=9)
    axes.plot([], [], "x", color="tab:red", label="not carried: no latency of that rate")
    for rate in (one["rate"] for one in latency["rates"] if one["half_of_saturation"]):
        axes.axvline(rate, color="tab:green", linewidth=0.8, label="half of saturation")
    axes.set(xscale="log", yscale="log", xlabel="intents a second, open loop", ylabel="ms from the scheduled time")
    title = "intent → verified verdict beside a bare two-hop echo: median of the rounds, shaded from least to most"
    axes.set_title(title, fontsize="small")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(ncols=len(SIDES), fontsize="x-small")
    figure.supxlabel(fill(", ".join(f"{name} {value}" for name, value in on.items()), CAPTION), fontsize="xx-small")
    figure.savefig(path)
    plt.close(figure)


class Point(NamedTuple):
    """One quantile at one rate.

    Attributes:
        rate: a second.
        median: of the rounds.
        least: of them.
        most: of them.
        carried: it is a latency of that rate.
    """

    rate: float
    median: float
    least: float
    most: float
    carried: bool


def points(latency: dict[str, Any], side: str, name: str) -> list[Point]:
    """One line, by rate; a rate without an answer to so many requests has no point."""
    found = []
    for measured in sorted(latency["rates"], key=lambda one: float(one["rate"])):
        spread = Spread.of([one[name] for one in measured[side]])
        if spread is not None:
            found.append(Point(measured["rate"], *spread, carried(measured, side)))
    return found
