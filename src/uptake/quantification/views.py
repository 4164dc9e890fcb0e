"""Cuts and projections of a volume as two-dimensional pictures in millimetres, the way a reader of scans expects them.

Head up, the patient's right on the left of coronal and axial pictures, the front on the left of sagittal ones and on
top of axial ones. An oblique grid is shown along its own axes, each named after the nearest patient axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from uptake.core.errors import GeometryError
from uptake.core.types import FloatArray, Vector3
from uptake.geometry.grid import require_same_frame
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume

DISPLAY_ORIENTATION = "LPS"
"""Columns run to the patient's left and rows to the back or head, so that a transposed array is the usual picture."""

SAME_DIRECTION_TOLERANCE = 0.02
"""Largest difference of direction cosines (1.1 degrees) between two images that are laid over one another uncut."""

PlaneName = Literal["axial", "coronal", "sagittal"]

PLANES: dict[PlaneName, tuple[int, int, int]] = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}
"""Of each plane, for an LPS array: the axis it is perpendicular to, the axis of its columns, the axis of its rows."""

SIDES: dict[PlaneName, tuple[str, str]] = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}
"""Letters for the left and the right edge of each picture."""


@dataclass(frozen=True, eq=False)
class View:
    """One picture in millimetres.

    Attributes
    ----------
    pixels : array (rows, columns)
        Row 0 belongs to the lowest vertical coordinate.
    left, right, low, high : float
        Outer edges, mm, along the columns (to L or P) and rows (to P or S). An axial picture has `low` on top.
    """

    pixels: npt.NDArray[Any]
    left: float
    right: float
    low: float
    high: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Edges in the order that Matplotlib's `extent` takes for a picture whose row 0 is at the bottom."""
        return self.left, self.right, self.low, self.high


@dataclass(frozen=True, eq=False)
class Display:
    """A volume turned into display orientation, with its place along the display axes of a chosen main volume.

    Attributes
    ----------
    volume : Volume
        LPS, or the nearest permutation of it.
    first_mm : tuple of float
        Centre of voxel (0, 0, 0) along the three display axes, mm.
    """

    volume: Volume
    first_mm: Vector3

    def edges_mm(self, axis: int) -> tuple[float, float]:
        """Return the outer edges of the volume along a display axis, mm."""
        step, start = self.volume.spacing_mm[axis], self.first_mm[axis]
        return start - step / 2, start + (self.volume.shape[axis] - 0.5) * step

    def nearest_index(self, axis: int, at_mm: float) -> int | None:
        """Return the slice that holds a position along a display axis; None if the volume does not reach there."""
        index = int(np.floor((at_mm - self.first_mm[axis]) / self.volume.spacing_mm[axis] + 0.5))
        return index if 0 <= index < self.volume.shape[axis] else None

    def cut(self, plane: PlaneName, at_mm: float) -> View | None:
        """Return the slice through a position on the axis perpendicular to `plane`, mm; None beyond the volume."""
        axis = PLANES[plane][0]
        index = self.nearest_index(axis, at_mm)
        # Not `np.take`, which copies all of an array whose axes are turned.
        return None if index is None else self._view(self.volume.array[(slice(None),) * axis + (index,)], plane)

    def projection(self, plane: PlaneName) -> View:
        """Return the maximum-intensity projection along the axis perpendicular to `plane`."""
        return self._view(self.volume.array.max(axis=PLANES[plane][0]), plane)

    def _view(self, pixels: npt.NDArray[Any], plane: PlaneName) -> View:
        _, columns, rows = PLANES[plane]
        # (columns, rows) in array order -> (rows, columns) as a picture is stored.
        return View(pixels.T, *self.edges_mm(columns), *self.edges_mm(rows))


def display(volume: Volume) -> Display:
    """Return a volume in display orientation; positions are along its own axes, from the world origin."""
    turned = reorient(volume, DISPLAY_ORIENTATION, copy=False)
    x, y, z = turned.direction.T @ np.array(turned.origin_mm)
    return Display(turned, (float(x), float(y), float(z)))


def display_on(volume: Volume, main: Display, *, name: str = "the CT") -> Display:
    """Return another volume in the display axes of `main`, whatever its voxel size; nothing is interpolated.

    Raises
    ------
    GeometryError
        If its axes do not run along those of `main`, or the frames of reference differ.
    """
    require_same_frame(main.volume, volume, names=("the PET", name))
    turned = reorient(volume, DISPLAY_ORIENTATION, copy=False)
    off = float(np.abs(turned.direction - main.volume.direction).max())
    if off > SAME_DIRECTION_TOLERANCE:
        raise GeometryError(
            f"{name} is turned against the PET (direction cosines differ by {off:.3f}) and cannot be laid over it. "
            "Resample it to the grid of the PET first."
        )
    x, y, z = main.volume.direction.T @ np.array(turned.origin_mm)
    return Display(turned, (float(x), float(y), float(z)))


def position_mm(main: Display, world_mm: Vector3 | FloatArray) -> FloatArray:
    """Return a world position (RAS+ mm) along the three display axes, mm."""
    return np.asarray(main.volume.direction.T @ np.asarray(world_mm, dtype=np.float64))


def outline(view: View) -> tuple[FloatArray, FloatArray, npt.NDArray[np.float64]]:
    """Return a mask view framed by one pixel of background: column and row centres (mm) and values for a contour.

    Without the frame the outline of a lesion at the edge of the image would stay open.
    """
    rows, columns = view.pixels.shape
    width, height = (view.right - view.left) / columns, (view.high - view.low) / rows
    x = view.left + width * (np.arange(-1, columns + 1) + 0.5)
    y = view.low + height * (np.arange(-1, rows + 1) + 0.5)
    return x, y, np.pad(view.pixels.astype(np.float64), 1)
