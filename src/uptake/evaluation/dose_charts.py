"""How low can we go? Noise, bias, lesion peaks and organs against dose, and one patient at every dose, as PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from uptake.core.figures import new_figure, png_bytes
from uptake.core.types import FloatArray
from uptake.evaluation.charts import ACCENT, DOT, FAINT, INK, SOFT, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Vector = npt.NDArray[np.float64]

KINDS = {"scan": DOT, "denoised": ACCENT}
"""What was measured, and its colour."""

PANEL_IN = (3.5, 2.7)
STRIP_IN = 3.4


@dataclass(frozen=True, eq=False)
class Curve:
    """One quantity of one kind of image against dose.

    Attributes
    ----------
    doses : array (n,)
        Fractions, highest first.
    mean, low, high : array (n,)
        Mean over patients and its interval; NaN where there is none.
    patients : array (m, n)
        Each patient's values, NaN where undefined.
    """

    doses: Vector
    mean: Vector
    low: Vector
    high: Vector
    patients: Vector


@dataclass(frozen=True, eq=False)
class Panel:
    """One quantity: its title, its curves by kind of image, and the limits drawn as lines."""

    title: str
    curves: Mapping[str, Curve]
    limits: tuple[float, ...] = ()


def dose_chart(panels: Sequence[Panel], *, columns: int = 2) -> bytes:
    """Return a panel per quantity: patients as thin lines, the mean with its interval, limits dashed.

    Parameters
    ----------
    panels : sequence of Panel
        At least one.
    columns : int
    """
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    left, bottom, gap_x, gap_y, top = 0.75, 0.6, 0.75, 0.85, 0.35
    size = (
        left + columns * PANEL_IN[0] + (columns - 1) * gap_x + 0.25,
        bottom + rows * PANEL_IN[1] + (rows - 1) * gap_y + top,
    )
    figure = new_figure(size)
    kinds = list(dict.fromkeys(kind for panel in panels for kind in panel.curves))
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        x = left + column * (PANEL_IN[0] + gap_x)
        y = size[1] - top - (row + 1) * PANEL_IN[1] - row * gap_y
        axes = figure.add_axes((x / size[0], y / size[1], PANEL_IN[0] / size[0], PANEL_IN[1] / size[1]))
        _draw(axes, panel)
        if number == 0 and len(kinds) > 1:
            axes.legend(loc="best", fontsize=8, frameon=False)
    return png_bytes(figure)


def dose_strip(projections: Sequence[tuple[str, FloatArray]], *, aspect: float, suv_max: float = 7.0) -> bytes:
    """Return projections of one patient side by side, inverse grey, each under its title.

    Parameters
    ----------
    projections : sequence of (str, array (rows, columns))
        Row 0 is the lowest: the feet.
    aspect : float
        Height of a pixel over its width.
    suv_max : float
        SUV shown as black.
    """
    rows, columns = projections[0][1].shape
    width = STRIP_IN * columns / (rows * aspect)
    gap, top = 0.06, 0.3
    size = (gap + len(projections) * (width + gap), STRIP_IN + top + gap)
    figure = new_figure(size)
    for number, (title, pixels) in enumerate(projections):
        x = gap + number * (width + gap)
        axes = figure.add_axes((x / size[0], gap / size[1], width / size[0], STRIP_IN / size[1]))
        axes.imshow(
            pixels, cmap="gray_r", vmin=0, vmax=suv_max, origin="lower", interpolation="bilinear", aspect="auto"
        )
        axes.set_axis_off()
        axes.set_title(title, fontsize=8, color=INK, pad=3)
    return png_bytes(figure)


def _draw(axes: Axes, panel: Panel) -> None:
    tidy(axes)
    axes.set_xscale("log")
    every = np.unique(np.concatenate([curve.doses for curve in panel.curves.values()]))
    for kind, curve in panel.curves.items():
        colour = KINDS.get(kind, SOFT)
        axes.plot(100 * curve.doses, curve.patients.T, color=colour, alpha=0.18, linewidth=0.7, zorder=1)
        there = np.isfinite(curve.mean)
        axes.plot(100 * curve.doses[there], curve.mean[there], color=colour, linewidth=1.9, marker="o", markersize=3.8,
                  label=kind, zorder=4)  # fmt: skip
        # An interval that knows no end is not drawn, rather than drawn as if it were narrow.
        ends = np.isfinite(curve.low) & np.isfinite(curve.high)
        if ends.any():
            axes.fill_between(100 * curve.doses[ends], curve.low[ends], curve.high[ends], color=colour, alpha=0.22,
                              linewidth=0, zorder=3)  # fmt: skip
    for limit in panel.limits:
        axes.axhline(limit, color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=2)
    axes.axhline(0.0, color=FAINT, linewidth=0.8, zorder=0)
    # By patients and means: the interval of very few patients may reach far beyond all of them.
    shown = [*panel.limits, *(v for c in panel.curves.values() for part in (c.patients, c.mean) for v in part.ravel())]
    known = [value for value in shown if math.isfinite(value)]
    room = 0.12 * (max(known) - min(known)) or 0.1 * abs(known[0]) or 1.0
    axes.set_ylim(min(known) - room, max(known) + room)
    axes.set_xticks(100 * every, [f"{100 * dose:g}" for dose in every], fontsize=8)
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.set_xlabel("dose (% of full)", fontsize=9, color=INK)
    axes.set_title(panel.title, fontsize=9.5, color=INK, loc="left")
