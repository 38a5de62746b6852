"""The plot of a run: latency quantiles by rate, ours beside the echo's. Needs matplotlib, the extra `benchmarks`.

Rule of this file: nothing is measured or computed here, and the library is loaded only if a plot was asked for.
"""

from __future__ import annotations

import statistics
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

SIDES: Final = {"echo": "tab:gray", "harness": "tab:blue"}
STYLES: Final = {"p50": ":", "p90": "-.", "p99": "-", "p99.9": "--"}
MISSING: Final = (
    "a plot needs matplotlib: `pip install -e '.[benchmarks]'`; or leave `--plot` out, `--json` keeps the figures, too"
)


def require(path: Path | None) -> None:
    """Say before anything is measured that a plot could not be drawn (SystemExit)."""
    if path is not None and find_spec("matplotlib") is None:
        raise SystemExit(MISSING)


def draw(latency: dict[str, Any], path: Path) -> None:
    """Write the plot; the file's ending says in which format (.svg, .png, .pdf).

    Args:
        latency: what `latency.measure` returned.
        path: where to.
    """
    import matplotlib as mpl  # noqa: PLC0415  an extra, and slow to load

    mpl.use("Agg")  # draws into files; asks for no display
    from matplotlib import pyplot as plt  # noqa: PLC0415  same

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for side, colour in SIDES.items():
        for name, style in STYLES.items():
            rates, values = points(latency, side, name)
            axes.plot(rates, values, style, marker="o", markersize=3, color=colour, label=f"{side} {name}")
    axes.set(xscale="log", yscale="log", xlabel="intents a second, open loop", ylabel="ms from the scheduled time")
    axes.set_title("intent → verified verdict beside a bare two-hop echo: median of the rounds", fontsize="medium")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(ncols=len(SIDES), fontsize="small")
    figure.savefig(path)
    plt.close(figure)


def points(latency: dict[str, Any], side: str, name: str) -> tuple[list[float], list[float]]:
    """Rates and medians of one line, by rate; a rate without an answer to so many requests has no point."""
    found = []
    for measured in sorted(latency["rates"], key=lambda one: float(one["rate"])):
        rounds = [one[name] for one in measured[side]]
        if rounds and None not in rounds:
            found.append((measured["rate"], statistics.median(rounds)))
    return [rate for rate, _ in found], [value for _, value in found]
