"""An organ map over the projections of its PET, as PNG bytes: whether the organs lie where they should, at a glance."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from uptake.core.figures import new_figure, png_bytes
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.io.terminology import meaning_of
from uptake.quantification.drawing import panel, scale_bar, show_part, side_letters
from uptake.quantification.pictures import AIR_FRACTION, PROJECTIONS, SUV_WINDOW, body_frames
from uptake.quantification.views import PLANES, Display, PlaneName, display

OPACITY = 0.62
LEGEND_WIDTH_IN = 1.75
LEGEND_LINE_IN = 0.19


def organ_picture(
    pet: Volume,
    organs: Volume,
    names: Mapping[int, str],
    *,
    suv_window: tuple[float, float] = SUV_WINDOW,
    height_in: float = 6.4,
) -> bytes:
    """Return coronal and sagittal projections of the PET with the organs seen from the front and from the left, PNG.

    Parameters
    ----------
    pet : Volume
        SUV, g/mL.
    organs : Volume
        Label map on the grid of the PET. Of organs one behind the other the one nearest to the viewer shows.
    names : mapping of int to str
        Of the labels; the legend names those that are there, in the colours of the DICOM Segmentation.
    suv_window : tuple of float
        SUV shown as white and as black.
    height_in : float
        Of the picture, inches.

    Raises
    ------
    GeometryError
        If the map is on another grid.
    """
    require_same_grid(pet, organs, names=("the PET", "the organ map"))
    low, high = suv_window
    main, labels = display(pet), display(organs)
    views = {plane: main.projection(plane) for plane in PROJECTIONS}
    frames = body_frames(views["coronal"], views["sagittal"], low + AIR_FRACTION * (high - low))
    present = [label for label in np.unique(organs.array).tolist() if label]
    colours = {label: np.array(meaning_of(names.get(label, "")).colour) / 255 for label in present}
    widths = [frames[p][1] - frames[p][0] for p in views]
    tall = frames["coronal"][3] - frames["coronal"][2]
    left, bottom, top, gap = 0.12, 0.12, 0.36, 0.16
    scale = min((height_in - bottom - top) / tall, 9.0 / sum(widths), 1 / 40.0)
    lines = max(1, int(scale * tall / LEGEND_LINE_IN))
    columns = max(1, math.ceil(len(present) / lines))
    size = (left + 2 * gap + scale * sum(widths) + columns * LEGEND_WIDTH_IN, bottom + top + scale * tall)
    figure = new_figure(size)
    start = left
    for plane, width in zip(views, widths, strict=True):
        axes = panel(figure, size, (start, bottom, scale * width, scale * tall))
        view = views[plane]
        axes.imshow(
            view.pixels, cmap="gray_r", vmin=low, vmax=high, extent=view.extent, origin="lower",
            interpolation="bilinear", aspect="equal",
        )  # fmt: skip
        axes.imshow(
            _painted(_nearest(labels, plane), colours), extent=view.extent, origin="lower", interpolation="nearest",
            aspect="equal",
        )  # fmt: skip
        show_part(axes, frames[plane], upside_down=False)
        side_letters(axes, plane, "black")
        axes.set_title(f"{plane}, organs over MIP", fontsize=9, color="#333333", pad=5)
        start += scale * width + gap
    scale_bar(figure.axes[0], "black")
    for number, label in enumerate(present):
        x = start + (number // lines) * LEGEND_WIDTH_IN
        y = size[1] - top - (number % lines + 1) * LEGEND_LINE_IN
        swatch = panel(figure, size, (x, y, 0.13, 0.13))
        swatch.set_facecolor(tuple(colours[label]))
        swatch.set_xticks([])
        swatch.set_yticks([])
        text = names.get(label, f"label {label}").replace("_", " ")
        figure.text((x + 0.2) / size[0], (y + 0.065) / size[1], text, fontsize=8, va="center", color="#333333")
    return png_bytes(figure)


def _nearest(labels: Display, plane: PlaneName) -> npt.NDArray[np.int64]:
    """Return the label first met along the axis looked along, (rows, columns), 0 where there is none."""
    axis = PLANES[plane][0]
    array = np.asarray(labels.volume.array)
    # A sagittal picture has the front on its left: so the patient is seen by somebody who stands at the left side.
    # The first axis of LPS runs to the left, so what is nearest comes last.
    array = np.flip(array, axis) if plane == "sagittal" else array
    first = np.expand_dims((array != 0).argmax(axis=axis), axis)
    # (columns, rows) in array order -> (rows, columns) as a picture is stored.
    return np.take_along_axis(array, first, axis=axis).squeeze(axis).T.astype(np.int64)


def _painted(picture: npt.NDArray[np.int64], colours: Mapping[int, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Return a label picture as colours with transparency, (rows, columns, 4)."""
    painted = np.zeros((*picture.shape, 4))
    for label, colour in colours.items():
        painted[picture == label] = (*colour, OPACITY)
    return painted
