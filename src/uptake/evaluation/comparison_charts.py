"""Pictures of two or more methods on the same patients: paired dots, differences, and ranks with what they decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uptake.core.figures import new_figure, png_bytes
from uptake.evaluation.catalogue import Metric
from uptake.evaluation.charts import ACCENT, DOT, FAINT, INK, SOFT, shortened, swarm, tidy
from uptake.evaluation.intervals import Interval
from uptake.evaluation.ranking import Ranking
from uptake.evaluation.tables import interval_text, number, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Matrix = npt.NDArray[np.float64]


def paired_dots(
    scores: Matrix,
    methods: Sequence[str],
    metric: Metric,
    *,
    medians: Sequence[Interval],
    differences: Sequence[Interval],
    margin: float | None = None,
    height_in: float = 4.4,
) -> bytes:
    """Return patients as dots joined across methods, medians, and to the right the differences to the first method.

    Parameters
    ----------
    scores : array (patients, methods)
        Patients with all scores only.
    methods : sequence of str
    metric : Metric
    medians : sequence of Interval
        Of the median of each method.
    differences : sequence of Interval
        Of the mean difference of each further method minus the first.
    margin : float or None
        Equivalence margin, drawn as a band around no difference.
    height_in : float
        Height of the picture, inches.
    """
    count = len(methods)
    left, gap, bottom, top = 0.75, 0.95, 0.62, 0.42
    right = 1.55 if count == 2 else 0.25  # beside a single column there is room for its numbers
    widths = (0.95 * count + 0.4, 0.95 * (count - 1) + 0.4)
    size = (left + sum(widths) + gap + right, height_in)
    figure = new_figure(size)
    tall = height_in - bottom - top
    dots = figure.add_axes((left / size[0], bottom / size[1], widths[0] / size[0], tall / size[1]))
    apart = figure.add_axes(((left + widths[0] + gap) / size[0], bottom / size[1], widths[1] / size[0], tall / size[1]))
    _columns(dots, methods)
    dots.set_ylabel(metric.title, fontsize=9, color=INK)
    places = np.stack([n + swarm(scores[:, n], reach=0.10) for n in range(count)], axis=1)
    dots.plot(places.T, scores.T, color=SOFT, alpha=max(0.12, min(0.45, 12.0 / max(len(scores), 1))), linewidth=0.7,
              zorder=1)  # fmt: skip
    dots.scatter(places, scores, s=14, color=DOT, alpha=0.65, linewidths=0, zorder=2)
    for n, median in enumerate(medians):
        value = float(np.median(scores[:, n]))
        _vertical(dots, n + 0.27, value, median.low, median.high)
    if metric.bounds == (0.0, 1.0) and float(scores.min()) > -0.02:
        dots.set_ylim(min(-0.02, float(scores.min()) - 0.02) if float(scores.min()) < 0.3 else None, 1.02)
    _columns(apart, [f"{method}\n− {methods[0]}" for method in map(shortened, methods[1:])])
    apart.set_ylabel("difference per patient", fontsize=9, color=INK)
    apart.axhline(0.0, color=INK, linewidth=0.8, zorder=1)
    if margin is not None:
        apart.axhspan(-margin, margin, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
    for n, interval in enumerate(differences):
        each = scores[:, n + 1] - scores[:, 0]
        apart.scatter(n + swarm(each, reach=0.16), each, s=14, color=DOT, alpha=0.65, linewidths=0, zorder=2)
        mean = float(each.mean())
        _vertical(apart, n + 0.30, mean, interval.low, interval.high)
        text = f"{signed(mean, metric.decimals)}\n({interval_text(interval.low, interval.high, metric.decimals)})"
        if count == 2:
            apart.text(1.04, mean, text, transform=apart.get_yaxis_transform(), fontsize=8, color=INK, va="center")
    words = "Left: medians with 95 % interval. Right: mean differences with theirs"
    words += "; grey band: equivalence margin." if margin is not None else "."
    figure.text(0.1 / size[0], 1 - 0.1 / size[1], f"{len(scores)} patients. {words}", fontsize=8.5, color=INK, va="top")
    return png_bytes(figure)


def rank_diagram(ranking: Ranking, *, title: str = "", width_in: float = 7.2) -> bytes:
    """Return the critical-difference diagram: mean ranks on a line, joined where they do not differ (Nemenyi).

    References
    ----------
    Demšar J, J Mach Learn Res 7:1 (2006), figure 1.
    """
    count = len(ranking.methods)
    order = np.argsort(ranking.mean_ranks, kind="stable")
    rows = math.ceil(count / 2)
    bars = len(ranking.groups)
    line, bar = 0.30, 0.13
    above, below = 0.95, 0.30 + bar * bars + line * rows + 0.15
    size = (width_in, above + below)
    figure = new_figure(size)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, width_in)
    axes.set_ylim(-below, above)
    start, end = 2.1, width_in - 2.1

    def at(rank: float) -> float:
        return start + (rank - 1.0) / max(count - 1.0, 1.0) * (end - start)

    axes.plot([start, end], [0, 0], color=INK, linewidth=1.2)
    for rank in range(1, count + 1):
        axes.plot([at(rank)] * 2, [0, 0.08], color=INK, linewidth=1.0)
        axes.text(at(rank), 0.12, str(rank), fontsize=9, color=INK, ha="center", va="bottom")
    reach = min(at(1.0 + ranking.critical_difference) - start, width_in - start - 0.2)
    axes.plot([start, start + reach], [0.42, 0.42], color=ACCENT, linewidth=2.0, solid_capstyle="butt")
    axes.text(start + reach + 0.08, 0.42, f"critical difference {number(ranking.critical_difference, 2)}", fontsize=8.5,
              color=ACCENT, va="center")  # fmt: skip
    p = "p < 0.001" if ranking.p < 0.001 else f"p = {ranking.p:.3f}"
    words = f"Mean ranks of {ranking.patients} patients, 1 is best; all alike (Friedman): {p}"
    axes.text(0.12, above - 0.10, f"{title}. {words}" if title else words, fontsize=9.5, color=INK, va="top")
    for n, group in enumerate(ranking.groups):
        ranks = [ranking.mean_ranks[index] for index in group]
        height = -0.20 - bar * n
        axes.plot([at(min(ranks)) - 0.05, at(max(ranks)) + 0.05], [height] * 2, color=INK, linewidth=3.4,
                  solid_capstyle="butt")  # fmt: skip
    for place, index in enumerate(order):
        # The better half to the left, from the top down; the other half to the right, from the bottom up.
        to_left = place < rows
        row = place if to_left else count - 1 - place
        height = -0.30 - bar * bars - line * (row + 0.5)
        rank = ranking.mean_ranks[index]
        edge = start - 0.15 if to_left else end + 0.15
        axes.plot([at(rank), at(rank), edge], [0, height, height], color=SOFT, linewidth=0.9)
        axes.plot([at(rank)], [0], marker="o", markersize=4.5, color=DOT, zorder=4)
        name = f"{shortened(ranking.methods[index], 24)}  {number(rank, 2)}"
        axes.text(edge + (-0.07 if to_left else 0.07), height, name, fontsize=9, color=INK, va="center",
                  ha="right" if to_left else "left")  # fmt: skip
    return png_bytes(figure)


def _columns(axes: Axes, names: Sequence[str]) -> None:
    tidy(axes)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(range(len(names)), [shortened(name, 40) for name in names], fontsize=8.5, color=INK)
    axes.tick_params(axis="x", length=0)


def _vertical(axes: Axes, x: float, value: float, low: float, high: float) -> None:
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([x, x], [low, high], color=ACCENT, linewidth=1.8, solid_capstyle="butt", zorder=4)
        axes.plot([x, x], [low, high], marker="_", markersize=7, color=ACCENT, linestyle="none", zorder=4)
    axes.plot([x], [value], marker="D", markersize=4.2, color=ACCENT, linestyle="none", zorder=5)
