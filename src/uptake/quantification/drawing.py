"""The parts that every picture is drawn from: panels of a stated size, side letters, scale bars and the SUV scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uptake.quantification.views import SIDES, PlaneName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SCALE_BARS_MM = (100.0, 50.0, 20.0, 10.0)
GREY = "#333333"


def panel(figure: Figure, size: tuple[float, float], box_in: tuple[float, float, float, float]) -> Axes:
    """Return axes at left, bottom, width, height in inches."""
    x, y, width, height = box_in
    return figure.add_axes((x / size[0], y / size[1], width / size[0], height / size[1]))


def show_part(axes: Axes, frame: tuple[float, float, float, float], *, upside_down: bool) -> None:
    """Show the given part; an axial picture has the front of the patient (low values) on top."""
    axes.set_xlim(frame[0], frame[1])
    axes.set_ylim(*((frame[3], frame[2]) if upside_down else (frame[2], frame[3])))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="#b8bfc6", linewidth=0.6)


def side_letters(axes: Axes, plane: PlaneName, ink: str) -> None:
    """Name the patient's sides at the upper corners."""
    for letter, x, align in zip(SIDES[plane], (0.015, 0.985), ("left", "right"), strict=True):
        halo(axes.text(x, 0.985, letter, transform=axes.transAxes, fontsize=9, fontweight="bold", color=ink, ha=align,
                       va="top"), "white" if ink == "black" else "black")  # fmt: skip


def scale_bar(axes: Axes, ink: str) -> None:
    """Draw 10 cm, or the longest shorter bar that fits half of a small picture, at the bottom left."""
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    length = next((bar for bar in SCALE_BARS_MM if bar <= 0.6 * (right - left)), SCALE_BARS_MM[-1])
    x, y = left + 0.03 * (right - left), low + 0.025 * (high - low)
    axes.plot([x, x + length], [y, y], color=ink, linewidth=2, solid_capstyle="butt")
    axes.annotate(f"{length / 10:g} cm", (x + length / 2, y), xytext=(0, 3), textcoords="offset points", fontsize=8,
                  color=ink, ha="center", va="bottom")  # fmt: skip


def cross(axes: Axes, x: float, y: float, ink: str) -> None:
    """Point at a position with four strokes that leave it visible."""
    inner, outer = 8.0, 20.0
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        axes.plot([x + inner * dx, x + outer * dx], [y + inner * dy, y + outer * dy], color=ink, linewidth=0.9)


def halo(text: Text, colour: str) -> None:
    """Surround a text with a thin line so that it can be read on any background."""
    from matplotlib.patheffects import withStroke

    text.set_path_effects([withStroke(linewidth=2, foreground=colour)])


def colour_bar(figure: Figure, image: Any, axes: Axes, *, over: bool) -> None:
    """Draw the SUV scale; a pointed end says that the image has voxels above it."""
    from matplotlib.cm import ScalarMappable

    # From a fresh mappable: the image's own carries an opacity per voxel, which a colour bar cannot show.
    bar = figure.colorbar(ScalarMappable(image.norm, image.cmap), cax=axes, extend="max" if over else "neither")
    bar.set_label("SUV (g/mL)", fontsize=8, color=GREY)
    bar.ax.tick_params(labelsize=8, colors=GREY, width=0.6, length=3)
    bar.outline.set_linewidth(0.6)
