"""Pictures of a PET and its lesions as PNG bytes: projections of the whole scan and fused cuts through one point.

Matplotlib's object interface with the Agg canvas only: no window, no global state; same input, same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.core.figures import new_figure, png_bytes
from uptake.core.types import FloatArray, Vector3
from uptake.geometry.components import foreground
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.quantification.drawing import (
    colour_bar,
    cross,
    halo,
    panel,
    scale_bar,
    show_part,
    side_letters,
)
from uptake.quantification.views import PLANES, Display, PlaneName, View, display, display_on, outline, position_mm

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTLINE = "#d6176b"
"""Lesion outlines: a colour that neither grey nor the PET's heat scale contains, told apart by all colour visions."""

OUTLINE_ON_DARK = "#39e5ff"

CT_WINDOW_HU = (-160.0, 240.0)
SUV_WINDOW = (0.0, 7.0)
MARGIN_MM = 15.0
LABEL_LINE_IN = 0.13
"""Height of a line of lesion numbers, inches."""

MM_PER_INCH_AT_LEAST = 40.0
"""Small crops are not blown up beyond this scale: a voxel of 5 mm stays an eighth of an inch."""

PROJECTIONS: tuple[PlaneName, PlaneName] = ("coronal", "sagittal")
AIR_FRACTION = 0.02
"""Rows and columns whose projection stays below this share of the SUV window are air and cut off the MIP picture."""


def mip_picture(
    pet: Volume,
    lesions: Volume | None = None,
    *,
    suv_window: tuple[float, float] = SUV_WINDOW,
    numbered: int = 6,
    height_in: float = 7.2,
) -> bytes:
    """Return coronal and sagittal maximum-intensity projections side by side, as PNG.

    Parameters
    ----------
    pet : Volume
        SUV, g/mL; any orientation. Oblique grids are projected along their own axes.
    lesions : Volume or None
        Lesion numbers on the grid of the PET (`LesionTable.numbered`), 0 is background. Their projected outlines are
        drawn. A binary mask is one lesion with the number 1.
    suv_window : tuple of float
        SUV shown as white and as black; inverse grey, as PET is read.
    numbered : int
        The first so many lesions (the largest, as the table numbers them) carry their number.
    height_in : float
        Height of the picture, inches at `core.figures.PIXELS_PER_INCH`; the width follows from the patient.

    Raises
    ------
    GeometryError
        If `lesions` is on another grid.
    UsageError
        If the window is empty or reversed.
    """
    low, high = _checked_window(suv_window)
    _require_finite(pet)
    main = display(pet)
    marked = _marked(pet, lesions)
    views = {plane: main.projection(plane) for plane in PROJECTIONS}
    frames = body_frames(views["coronal"], views["sagittal"], low + AIR_FRACTION * (high - low))
    widths = [frames[p][1] - frames[p][0] for p in views]
    tall = frames["coronal"][3] - frames["coronal"][2]
    # Inches: margins left, right (the colour bar), bottom and top; both pictures at one scale.
    left, right, bottom, top, gap = 0.12, 0.95, 0.12, 0.36, 0.16
    scale = min((height_in - bottom - top) / tall, 11.0 / sum(widths), 1 / MM_PER_INCH_AT_LEAST)
    size = (left + right + gap + scale * sum(widths), bottom + top + scale * tall)
    figure = new_figure(size)
    start = left
    image = None
    for plane, width in zip(views, widths, strict=True):
        axes = panel(figure, size, (start, bottom, scale * width, scale * tall))
        image = axes.imshow(
            views[plane].pixels, cmap="gray_r", vmin=low, vmax=high, extent=views[plane].extent, origin="lower",
            interpolation="bilinear", aspect="equal",
        )  # fmt: skip
        show_part(axes, frames[plane], upside_down=False)
        side_letters(axes, plane, "black")
        axes.set_title(f"{plane} MIP", fontsize=9, color="#333333", pad=5)
        if marked is not None:
            _projected_outlines(axes, marked, plane, numbered, LABEL_LINE_IN / scale)
        start += scale * width + gap
    scale_bar(figure.axes[0], "black")
    assert image is not None
    bar_height = min(2.4, 0.6 * scale * tall)
    bar = panel(figure, size, (size[0] - right + 0.12, bottom + (scale * tall - bar_height) / 2, 0.13, bar_height))
    colour_bar(figure, image, bar, over=float(pet.array.max()) > high)
    return png_bytes(figure)


def fusion_picture(
    pet: Volume,
    ct: Volume | None,
    mask: Volume | None,
    at_mm: Vector3,
    *,
    suv_window: tuple[float, float] = SUV_WINDOW,
    ct_window_hu: tuple[float, float] = CT_WINDOW_HU,
    field_mm: float = 320.0,
    side_in: float = 3.1,
) -> bytes:
    """Return axial, coronal and sagittal cuts through one point: PET in heat colours over CT in grey, as PNG.

    Parameters
    ----------
    pet : Volume
        SUV, g/mL.
    ct : Volume or None
        HU, on the grid of the PET or on its own with the same axes. Without it the PET is shown alone, inverse grey.
    mask : Volume or None
        Lesions on the grid of the PET; the outline is drawn where the cuts meet them.
    at_mm : tuple of float
        World position, RAS+ mm, e.g. `Lesion.hottest_mm`. Marked by a cross with an open centre.
    suv_window, ct_window_hu : tuple of float
        SUV and HU at the two ends of the scales.
    field_mm : float
        Side of each picture, mm, around the point; smaller where the image is.
    side_in : float
        Height of each picture, inches.

    Raises
    ------
    GeometryError
        If the grids do not fit, or the point lies outside the PET.
    UsageError
        If a window is empty or reversed.
    """
    low, high = _checked_window(suv_window)
    hu_low, hu_high = _checked_window(ct_window_hu)
    _require_finite(pet)
    main = display(pet)
    marked = _marked(pet, mask)
    below = None if ct is None else display_on(ct, main)
    point = position_mm(main, at_mm)
    if any(main.nearest_index(axis, float(point[axis])) is None for axis in range(3)):
        raise GeometryError(f"the point {tuple(round(v, 1) for v in at_mm)} mm (RAS) lies outside the PET.")
    frames = {plane: _field(main, plane, point, field_mm) for plane in PLANES}
    # All three at one scale (mm per inch), so that sizes can be compared by eye.
    scale = side_in / max(frame[3] - frame[2] for frame in frames.values())
    left, right, bottom, top, gap = 0.1, 0.95, 0.12, 0.36, 0.12
    widths = [scale * (frame[1] - frame[0]) for frame in frames.values()]
    size = (left + right + gap * 2 + sum(widths), bottom + top + side_in)
    dark = below is not None
    figure = new_figure(size)
    start, image = left, None
    for plane, width in zip(PLANES, widths, strict=True):
        frame = frames[plane]
        tall = scale * (frame[3] - frame[2])
        axes = panel(figure, size, (start, bottom + (side_in - tall) / 2, width, tall))
        axes.set_facecolor("black" if dark else "white")
        at = float(point[PLANES[plane][0]])
        image = _draw_cut(axes, main.cut(plane, at), None if below is None else below.cut(plane, at), below is not None,
                          (low, high), (hu_low, hu_high))  # fmt: skip
        cut = None if marked is None else marked.cut(plane, at)
        if cut is not None and cut.pixels.any():
            axes.contour(*outline(_as_mask(cut)), levels=[0.5], colors=OUTLINE_ON_DARK if dark else OUTLINE,
                         linewidths=1.0)  # fmt: skip
        show_part(axes, frame, upside_down=plane == "axial")
        ink = "white" if dark else "black"
        cross(axes, point[PLANES[plane][1]], point[PLANES[plane][2]], ink)
        side_letters(axes, plane, ink)
        axes.set_title(plane, fontsize=9, color="#333333", pad=4)
        start += width + gap
    scale_bar(figure.axes[0], "white" if dark else "black")
    assert image is not None
    bar = panel(figure, size, (size[0] - right + 0.1, bottom + 0.2 * side_in, 0.13, 0.6 * side_in))
    colour_bar(figure, image, bar, over=float(pet.array.max()) > high)
    return png_bytes(figure)


def _draw_cut(
    axes: Axes,
    pet: View | None,
    ct: View | None,
    fused: bool,
    suv: tuple[float, float],
    hu: tuple[float, float],
) -> Any:
    """Draw one cut and return the PET's image, which the colour bar describes."""
    from matplotlib.colors import Normalize

    assert pet is not None
    if not fused:
        return axes.imshow(pet.pixels, cmap="gray_r", vmin=suv[0], vmax=suv[1], extent=pet.extent, origin="lower",
                           interpolation="bilinear")  # fmt: skip
    if ct is not None:
        axes.imshow(ct.pixels, cmap="gray", vmin=hu[0], vmax=hu[1], extent=ct.extent, origin="lower",
                    interpolation="bilinear")  # fmt: skip
    share = np.clip((pet.pixels - suv[0]) / (suv[1] - suv[0]), 0, 1)
    # Background uptake lets the CT through; from half of the window on the PET is all but opaque.
    opacity = 0.85 * np.clip((share - 0.1) * 2.5, 0, 1)
    return axes.imshow(pet.pixels, cmap="hot", norm=Normalize(*suv), alpha=opacity, extent=pet.extent, origin="lower",
                       interpolation="bilinear")  # fmt: skip


def _projected_outlines(axes: Axes, marked: Display, plane: PlaneName, numbered: int, line_mm: float) -> None:
    """Draw the silhouettes of all lesions and the numbers of the first ones; a line of text is `line_mm` high."""
    projection = marked.projection(plane)
    if not projection.pixels.any():
        return
    axes.contour(*outline(_as_mask(projection)), levels=[0.5], colors=OUTLINE, linewidths=1.0)
    _, columns, rows = PLANES[plane]
    middle, head = sum(axes.get_xlim()) / 2, axes.get_ylim()[1]
    taken: list[tuple[float, float]] = []
    for number, box in _boxes(marked.volume.array, numbered):
        # Beside the upper end of the lesion's own silhouette, on the outer side; lower where a number stands already.
        x0, x1 = (marked.first_mm[columns] + marked.volume.spacing_mm[columns] * v for v in box[columns])
        y = min(marked.first_mm[rows] + marked.volume.spacing_mm[rows] * box[rows][1], head - line_mm)
        outward = (x0 + x1) / 2 > middle
        x = x1 if outward else x0
        while any(abs(x - u) < 1.5 * line_mm and abs(y - v) < line_mm for u, v in taken):
            y -= line_mm
        taken.append((x, y))
        text = axes.annotate(
            str(number), (x, y), xytext=(3 if outward else -3, 0), textcoords="offset points", fontsize=8,
            fontweight="bold", color=OUTLINE, ha="left" if outward else "right", va="center", annotation_clip=True,
        )  # fmt: skip
        halo(text, "white")


def _boxes(labels: npt.NDArray[Any], numbered: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """Return number and first and last index along each axis of the first `numbered` lesions."""
    from scipy import ndimage

    found = ndimage.find_objects(labels, max_label=numbered) if numbered > 0 else []
    return [(n, [(s.start, s.stop - 1) for s in box]) for n, box in enumerate(found, start=1) if box is not None]


def body_frames(coronal: View, sagittal: View, air: float) -> dict[PlaneName, tuple[float, float, float, float]]:
    """Return the part of each projection that shows the patient, mm; both keep the same height."""
    z = _occupied(np.maximum(coronal.pixels.max(axis=1), sagittal.pixels.max(axis=1)), coronal.low, coronal.high, air)
    frames: dict[PlaneName, tuple[float, float, float, float]] = {}
    for plane, view in zip(PROJECTIONS, (coronal, sagittal), strict=True):
        frames[plane] = (*_occupied(view.pixels.max(axis=0), view.left, view.right, air), *z)
    return frames


def _occupied(profile: FloatArray, low: float, high: float, air: float) -> tuple[float, float]:
    above = np.flatnonzero(profile > air)
    if above.size == 0:
        return low, high
    step = (high - low) / len(profile)
    return max(low, low + step * above[0] - MARGIN_MM), min(high, low + step * (above[-1] + 1) + MARGIN_MM)


def _field(main: Display, plane: PlaneName, point: FloatArray, side: float) -> tuple[float, float, float, float]:
    """Return left, right, low and high, mm, of a square around the point, moved into the image where it sticks out."""
    ends: list[float] = []
    for axis in PLANES[plane][1:]:
        low, high = main.edges_mm(axis)
        width = min(side, high - low)
        start = min(max(float(point[axis]) - width / 2, low), high - width)
        ends += [start, start + width]
    return ends[0], ends[1], ends[2], ends[3]


def _marked(pet: Volume, lesions: Volume | None) -> Display | None:
    if lesions is None:
        return None
    require_same_grid(pet, lesions, names=("the PET", "the lesion mask"))
    if not foreground(lesions).any():
        return None
    # Numbers of a small type stay so: a copy of a whole body is the peak of memory.
    unsigned = lesions.array.dtype.kind == "u"
    return display(lesions if unsigned else lesions.with_array(lesions.array.astype(np.uint32)))


def _as_mask(view: View) -> View:
    return View(view.pixels > 0, view.left, view.right, view.low, view.high)


def _checked_window(window: tuple[float, float]) -> tuple[float, float]:
    low, high = (float(value) for value in window)
    if not (np.isfinite([low, high]).all() and low < high):
        raise UsageError(f"a display window runs from a lower to a higher value, came {window}.")
    return low, high


def _require_finite(pet: Volume) -> None:
    if not np.isfinite(pet.array).all():
        raise InputError("the PET holds NaN or infinite voxels and cannot be drawn.")
