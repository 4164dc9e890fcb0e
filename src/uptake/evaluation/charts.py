"""Pictures of scores as PNG bytes: every case as a dot, the mean with its interval, never a bar with hidden cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uptake.core.figures import new_figure, png_bytes
from uptake.evaluation.agreement import Agreement
from uptake.evaluation.catalogue import Metric
from uptake.evaluation.statistics import Subgroup, Summary
from uptake.evaluation.tables import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Vector = npt.NDArray[np.float64]

INK = "#22303c"
SOFT = "#6b7883"
FAINT = "#d5dbe0"
DOT = "#0072b2"
ACCENT = "#d55e00"
"""Blue for cases, vermillion for what is said about them: told apart by all colour visions (Okabe and Ito)."""

MOST_ROWS = 60
"""Labels or levels in one picture; the caption says where more were left out."""

LONG_TAIL = 30.0
"""Largest over median non-zero value from which a volume axis is logarithmic."""

SWARM_BINS = 60
ROW_IN = 0.34


def score_dots(
    values: Mapping[str, Vector], summaries: Mapping[str, Summary], metric: Metric, *, width_in: float = 7.6
) -> bytes:
    """Return one row of dots per label, a dot per scan, with the mean and its interval.

    Parameters
    ----------
    values : mapping of str to array (n,)
        Label -> scores of all scans; NaN and infinite ones are counted beside the row.
    summaries : mapping of str to Summary
        Of the same labels.
    metric : Metric
    width_in : float
        Width of the picture, inches.
    """
    labels = list(values)[:MOST_ROWS]
    figure, axes, size = _rows_figure(labels, width_in)
    finite = np.concatenate([values[label][np.isfinite(values[label])] for label in labels] or [np.zeros(0)])
    _value_axis(axes, finite, metric)
    for row, label in enumerate(labels):
        scores = values[label]
        shown = scores[np.isfinite(scores)]
        axes.scatter(shown, row + swarm(shown, reach=0.30), s=13, color=DOT, alpha=0.55, linewidths=0, zorder=2)
        one = summaries[label]
        _interval(axes, row, one.mean, one.low, one.high)
        missing = f", {one.undefined} undefined" if one.undefined else ""
        axes.text(1.015, row, f"{number(one.mean, metric.decimals)}  (n = {one.n}{missing})", fontsize=8, color=INK,
                  va="center", ha="left", transform=axes.get_yaxis_transform())  # fmt: skip
    _caption(axes, f"{metric.title}: scans, mean and {_percent(summaries)} interval", size)
    return png_bytes(figure)


def subgroup_dots(subgroups: Sequence[Subgroup], metric: Metric, overall: Summary, *, width_in: float = 7.6) -> bytes:
    """Return the mean and interval of each level of each column, the whole cohort's as a line behind them."""
    shown = [one for one in subgroups if one.summary.metric == metric.name][:MOST_ROWS]
    names, previous = [], ""
    for one in shown:
        names.append(f"{one.column}: {one.level}" if one.column != previous else one.level)
        previous = one.column
    figure, axes, size = _rows_figure(names, width_in)
    ends = [v for one in shown for v in (one.summary.mean, one.summary.low, one.summary.high)]
    ends += [overall.mean, overall.low, overall.high]
    _value_axis(axes, np.array([v for v in ends if math.isfinite(v)]), metric, logarithmic=False)
    if math.isfinite(overall.mean):
        axes.axvline(overall.mean, color=FAINT, linewidth=1.2, zorder=0)
    for row, one in enumerate(shown):
        summary = one.summary
        _interval(axes, row, summary.mean, summary.low, summary.high)
        axes.text(1.015, row, f"{number(summary.mean, metric.decimals)}  (n = {summary.n})", fontsize=8, color=INK,
                  va="center", ha="left", transform=axes.get_yaxis_transform())  # fmt: skip
    _caption(axes, f"{metric.title}: mean and {percent(overall.confidence)} interval, all scans as grey line", size)
    return png_bytes(figure)


def bland_altman(
    middle: Vector, difference: Vector, agreement: Agreement, *, quantity: str, unit: str, side_in: float = 4.6
) -> bytes:
    """Return the Bland-Altman picture: difference against mean, bias and limits of agreement with their intervals.

    Parameters
    ----------
    middle, difference : arrays (n,)
        From `agreement.bland_altman`, on the scale of `agreement`; with "ratio" both axes are logarithmic.
    agreement : Agreement
    quantity, unit : str
        E.g. "MTV", "mL".
    side_in : float
        Height of the picture, inches.
    """
    figure = new_figure((1.35 * side_in, side_in))
    axes = figure.add_axes((0.13, 0.13, 0.70, 0.77))
    tidy(axes)
    ratio = agreement.scale == "ratio"
    if ratio:
        axes.set_xscale("log")
        axes.set_yscale("log")
    lines = (
        (agreement.bias, agreement.bias_low, agreement.bias_high, ACCENT, "bias"),
        (agreement.lower, agreement.lower_low, agreement.lower_high, SOFT, "lower limit"),
        (agreement.upper, agreement.upper_low, agreement.upper_high, SOFT, "upper limit"),
    )
    for value, low, high, colour, name in lines:
        if not math.isfinite(value):
            continue
        axes.axhline(value, color=colour, linewidth=1.3, linestyle="-" if name == "bias" else (0, (5, 3)), zorder=1)
        if math.isfinite(low) and math.isfinite(high):
            axes.axhspan(low, high, color=colour, alpha=0.10, linewidth=0, zorder=0)
        axes.text(1.015, value, f"{name}\n{number(value, 2)}", transform=axes.get_yaxis_transform(), fontsize=8,
                  color=colour if name == "bias" else INK, va="center")  # fmt: skip
    axes.axhline(1.0 if ratio else 0.0, color=INK, linewidth=0.7, zorder=1)
    axes.scatter(middle, difference, s=18, color=DOT, alpha=0.6, linewidths=0, zorder=3)
    of_what = {"absolute": f"prediction − reference ({unit})", "percent": "difference (% of the mean)"}
    kind = "geometric mean" if ratio else "mean"
    axes.set_xlabel(f"{kind} of prediction and reference ({unit})", fontsize=9, color=INK)
    axes.set_ylabel(of_what.get(agreement.scale, "prediction / reference"), fontsize=9, color=INK)
    left_out = f", {agreement.undefined} left out" if agreement.undefined else ""
    axes.set_title(f"{quantity}, {agreement.n} scans{left_out}", fontsize=10, color=INK, loc="left")
    return png_bytes(figure)


def swarm(values: Vector, *, reach: float) -> Vector:
    """Return offsets (n,) within ± `reach` that set equal values apart: no chance, the same values the same picture."""
    offsets = np.zeros(len(values))
    if not len(values):
        return offsets
    low, high = float(values.min()), float(values.max())
    place = np.zeros(len(values), dtype=np.int64)
    if high > low:
        place = np.minimum(((values - low) / (high - low) * SWARM_BINS).astype(np.int64), SWARM_BINS - 1)
    crowd = max(int(np.bincount(place).max()), 8)
    for bin_ in np.unique(place):
        members = np.flatnonzero(place == bin_)
        steps = np.arange(len(members)) - (len(members) - 1) / 2.0
        offsets[members[np.argsort(values[members], kind="stable")]] = steps * 2.0 * reach / crowd
    return offsets


def _rows_figure(labels: Sequence[str], width_in: float) -> tuple[Figure, Axes, tuple[float, float]]:
    """Return a figure with one row per label, names on the left, room for numbers on the right."""
    left = min(2.6, 0.35 + 0.075 * max((len(label) for label in labels), default=0))
    right, bottom, top = 1.75, 0.45, 0.35
    size = (width_in, bottom + top + ROW_IN * max(len(labels), 1))
    figure = new_figure(size)
    axes = figure.add_axes(
        (left / size[0], bottom / size[1], (size[0] - left - right) / size[0], 1 - (bottom + top) / size[1])
    )
    tidy(axes)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), [shortened(label) for label in labels], fontsize=8.5, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for row in range(len(labels) - 1):
        axes.axhline(row + 0.5, color=FAINT, linewidth=0.5, zorder=0)
    return figure, axes, size


def _value_axis(axes: Axes, values: Vector, metric: Metric, *, logarithmic: bool = True) -> None:
    low, high = metric.bounds
    if (low, high) == (0.0, 1.0):
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks(np.linspace(0, 1, 6))
        return
    if not len(values):
        axes.set_xlim(0, 1)
        return
    largest = float(values.max())
    some = values[values > 0]
    if logarithmic and low == 0.0 and len(some) and largest > LONG_TAIL * float(np.median(some)):
        # Zero has its place: linear up to the smallest decade, logarithmic beyond.
        floor = 10.0 ** math.floor(math.log10(float(np.quantile(some, 0.25))))
        axes.set_xscale("symlog", linthresh=floor, linscale=0.6)
        axes.set_xlim(-0.15 * floor, 1.6 * largest)
        return
    smallest = min(0.0, float(values.min())) if low == 0.0 or metric.better == "nearer zero" else float(values.min())
    # The same value everywhere still gets an axis that can be read.
    span = largest - smallest or max(abs(largest), 1.0)
    axes.set_xlim(smallest - 0.04 * span, max(largest, smallest + span) + 0.04 * span)
    if metric.better == "nearer zero":
        axes.axvline(0.0, color=INK, linewidth=0.7, zorder=1)


def _interval(axes: Axes, row: float, mean: float, low: float, high: float) -> None:
    if not math.isfinite(mean):
        return
    if not (math.isnan(low) or math.isnan(high)):
        first, last = axes.get_xlim()
        ends = [max(low, first), min(high, last)]
        axes.plot(ends, [row, row], color=ACCENT, linewidth=1.8, zorder=4, solid_capstyle="butt")
        # No cap where the interval goes on beyond the picture.
        caps = [end for end, true in zip(ends, (low, high), strict=True) if end == true]
        axes.plot(caps, [row] * len(caps), marker="|", markersize=7, color=ACCENT, linestyle="none", zorder=4)
    axes.plot([mean], [row], marker="D", markersize=4.2, color=ACCENT, zorder=5, linestyle="none")


def _caption(axes: Axes, text: str, size: tuple[float, float]) -> None:
    axes.figure.text(0.12 / size[0], 1 - 0.12 / size[1], text, fontsize=10, color=INK, ha="left", va="top")


def _percent(summaries: Mapping[str, Summary]) -> str:
    return percent(next(iter(summaries.values())).confidence) if summaries else ""


def shortened(text: str, most: int = 32) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def tidy(axes: Axes) -> None:
    axes.set_facecolor("white")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=SOFT, linewidth=0.7)
    axes.tick_params(labelsize=8, colors=SOFT, width=0.6, length=3)
