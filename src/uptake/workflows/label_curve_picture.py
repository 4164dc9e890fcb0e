"""The label-efficiency curve as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uptake.io.write import atomic_path

COLOURS = ("#7f7f7f", "#1f4e79", "#c0504d", "#4f8f3a", "#8064a2")


def draw_curve(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG of mean Dice against the number of labelled scans, an arm a line, with intervals.

    Parameters
    ----------
    points : sequence of mapping
        As `label_curve.Point`; the arm "scratch" is drawn first, in grey.
    path : Path
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    arms = sorted({point["arm"] for point in points}, key=lambda arm: (arm != "scratch", arm))
    for number, arm in enumerate(arms):
        own = sorted((point for point in points if point["arm"] == arm), key=lambda point: point["scans"])
        means = [point["mean"] for point in own]
        below = [point["mean"] - point["low"] for point in own]
        above = [point["high"] - point["mean"] for point in own]
        # A few per cent apart, so that intervals of two arms do not cover one another.
        scans = [point["scans"] * (1.0 + 0.03 * number) for point in own]
        colour = COLOURS[number % len(COLOURS)]
        axes.errorbar(scans, means, yerr=[below, above], marker="o", capsize=3, color=colour, label=arm)
    axes.set_xscale("log")
    ticks = sorted({(point["scans"], point["fraction"]) for point in points})
    axes.set_xticks([scans for scans, _ in ticks], [f"{scans}\n({100 * share:g} %)" for scans, share in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("labelled scans (share of the training part)")
    axes.set_ylabel("mean Dice of test scans (95 % interval)")
    axes.legend(frameon=False, loc="lower right")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
