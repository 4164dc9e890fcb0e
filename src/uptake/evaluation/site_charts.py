"""Pictures of a site audit: the sites' values before and after each step, and what a classifier reads off them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from uptake.core.figures import new_figure, png_bytes
from uptake.evaluation.charts import ACCENT, FAINT, INK, SOFT, shortened, tidy
from uptake.evaluation.site_classifier import Classification
from uptake.evaluation.tables import number

Vector = npt.NDArray[np.float64]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#22303c")
"""Of sites, in order (Okabe and Ito); beyond seven they come again with another line."""

DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
PANELS = 3
"""Steps side by side."""

TAIL = 0.01
"""Share of the values that the picture cuts off at either end."""


def site_curves(
    curves: Mapping[str, Mapping[str, Vector]], edges: Mapping[str, Vector], *, units: Mapping[str, str], title: str
) -> bytes:
    """Return one panel per step with the distribution function of every site.

    Parameters
    ----------
    curves : mapping
        Step -> site -> array (bins,), see `site_distance.cdf_profile`.
    edges : mapping of str to array (bins + 1,)
        Step -> bins.
    units : mapping of str to str
        Step -> unit of the values, "" for none.
    title : str
    """
    steps = list(curves)
    wide, tall, left, gap, right, bottom, top = 3.0, 2.4, 0.65, 0.45, 1.6, 0.6, 0.62
    across, rows = min(len(steps), PANELS), math.ceil(len(steps) / PANELS)
    high = tall + bottom + 0.25  # a row with its title and axis
    size = (left + across * wide + (across - 1) * gap + right, rows * high + top - 0.25)
    figure = new_figure(size)
    sites = list(dict.fromkeys(site for one in curves.values() for site in one))
    for n, step in enumerate(steps):
        column, row = n % PANELS, n // PANELS
        corner = left + column * (wide + gap), size[1] - top - row * high - tall
        axes = figure.add_axes((corner[0] / size[0], corner[1] / size[1], wide / size[0], tall / size[1]))
        tidy(axes)
        middles = (edges[step][:-1] + edges[step][1:]) / 2.0
        shown = np.zeros(len(middles), dtype=bool)
        for index, site in enumerate(sites):
            if site not in curves[step]:
                continue
            curve = curves[step][site]
            shown |= (curve > TAIL) & (curve < 1.0 - TAIL)
            axes.plot(middles, curve, color=COLOURS[index % len(COLOURS)], linewidth=1.4, label=shortened(site, 20),
                      linestyle=DASHES[(index // len(COLOURS)) % len(DASHES)])  # fmt: skip
        if shown.any():
            axes.set_xlim(float(middles[shown][0]), float(middles[shown][-1]))
        axes.set_ylim(0.0, 1.0)
        axes.set_xlabel(f"value ({units[step]})" if units[step] else "value (no unit)", fontsize=8.5, color=INK)
        axes.set_title(shortened(step, 40), fontsize=9, color=INK, loc="left")
        if column == 0:
            axes.set_ylabel("share of voxels below", fontsize=8.5, color=INK)
        if n == across - 1:
            axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1.0), labelcolor=INK)
    figure.text(0.12 / size[0], 1 - 0.12 / size[1], title, fontsize=10, color=INK, va="top")
    return png_bytes(figure)


def readings_chart(readings: Sequence[tuple[str, str, Classification]], *, width_in: float = 7.6) -> bytes:
    """Return balanced accuracies with intervals, chance as a bar, a row for each column and step.

    Parameters
    ----------
    readings : sequence of (column, step, Classification)
    width_in : float
    """
    row_in, left, right, bottom, top = 0.34, 2.7, 1.9, 0.55, 0.4
    size = (width_in, bottom + top + row_in * max(len(readings), 1))
    figure = new_figure(size)
    axes = figure.add_axes(
        (left / size[0], bottom / size[1], (size[0] - left - right) / size[0], 1 - (bottom + top) / size[1])
    )
    tidy(axes)
    axes.set_xlim(0, 1.0)
    axes.set_ylim(max(len(readings), 1) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(readings)), [shortened(f"{column}, {step}", 44) for column, step, _ in readings],
                    fontsize=8.5, color=INK)  # fmt: skip
    axes.set_xlabel("balanced accuracy", fontsize=8.5, color=INK)
    for row, (column, _, one) in enumerate(readings):
        colour = ACCENT if column == "site" else SOFT
        axes.plot([one.chance] * 2, [row - 0.38, row + 0.38], color=INK, linewidth=1.2, zorder=2)
        axes.axhspan(row - 0.5, row + 0.5, color=FAINT, alpha=0.25 if row % 2 else 0.0, linewidth=0, zorder=0)
        axes.plot([one.low, one.high], [row, row], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=3)
        axes.plot([one.balanced_accuracy], [row], marker="D", markersize=4.6, color=colour, zorder=4)
        p = "" if math.isnan(one.p) else f"  p = {one.p:.3f}"
        axes.text(1.02, row, f"{number(one.balanced_accuracy, 2)}{p}", transform=axes.get_yaxis_transform(), fontsize=8,
                  color=INK, va="center")  # fmt: skip
    figure.text(0.12 / size[0], 1 - 0.12 / size[1], "What a linear classifier reads off held-out patients; upright "
                "bars: chance", fontsize=9.5, color=INK, va="top")  # fmt: skip
    return png_bytes(figure)
