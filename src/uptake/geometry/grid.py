"""Are two grids the same, and if not, how far apart are they? Compared in mm at their corners.

A difference of 1e-5 in a direction cosine is nothing on a short axis and a millimetre on a long one; a tolerance in
millimetres at the corners of the grid says directly what the difference does to the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from uptake.core.errors import GeometryError
from uptake.core.types import Affine, FloatArray, Shape3
from uptake.geometry.volume import Volume

SAME_GRID_TOLERANCE_MM = 0.1
"""Two grids whose corners lie this close are the same grid: a fiftieth of a PET voxel."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and affine without voxels."""

    shape: Shape3
    affine: Affine

    @classmethod
    def of(cls, volume: Volume) -> Grid:
        """Return the grid of a volume."""
        return cls(volume.shape, volume.affine)

    def corners_mm(self) -> FloatArray:
        """Return the world positions (8, 3) of the outer corners of the corner voxels, mm."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        index = np.array(list(product(*ends)))
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])


def corner_distance_mm(a: Volume | Grid, b: Volume | Grid) -> float:
    """Return the largest distance between corresponding corners of two grids, mm; infinite if the shapes differ."""
    first, second = _grid(a), _grid(b)
    if first.shape != second.shape:
        return float("inf")
    return float(np.linalg.norm(first.corners_mm() - second.corners_mm(), axis=1).max())


def same_grid(a: Volume | Grid, b: Volume | Grid, *, tolerance_mm: float = SAME_GRID_TOLERANCE_MM) -> bool:
    """Return whether two grids have the same shape and corners within `tolerance_mm`."""
    return corner_distance_mm(a, b) <= tolerance_mm


def require_same_grid(
    a: Volume,
    b: Volume,
    *,
    names: tuple[str, str] = ("first", "second"),
    tolerance_mm: float = SAME_GRID_TOLERANCE_MM,
    remedy: str = "Resample one of them to the other's grid first.",
) -> None:
    """Check that two volumes are on one grid and in one frame of reference.

    Raises
    ------
    GeometryError
        Naming both, how far the corners are apart, and the remedy.
    """
    require_same_frame(a, b, names=names)
    if a.shape != b.shape:
        raise GeometryError(f"{names[0]} has shape {a.shape}, {names[1]} has shape {b.shape}. {remedy}")
    distance = corner_distance_mm(a, b)
    if distance > tolerance_mm:
        raise GeometryError(
            f"{names[0]} and {names[1]} have the same shape but lie up to {distance:.2f} mm apart "
            f"(allowed {tolerance_mm:g} mm; orientation {a.orientation} and {b.orientation}). {remedy}"
        )


def require_same_frame(a: Volume, b: Volume, *, names: tuple[str, str] = ("first", "second")) -> None:
    """Check that two volumes do not name different frames of reference (an unknown one is not a conflict).

    Raises
    ------
    GeometryError
        If both are known and differ.
    """
    if a.frame_of_reference and b.frame_of_reference and a.frame_of_reference != b.frame_of_reference:
        raise GeometryError(
            f"{names[0]} and {names[1]} are in different frames of reference "
            f"(…{a.frame_of_reference[-12:]} and …{b.frame_of_reference[-12:]}): their positions cannot be compared. "
            "Take a PET and CT of one acquisition, or register them first."
        )


def overlap_fraction(volume: Volume | Grid, other: Volume | Grid) -> float:
    """Return the share of `volume`'s extent that lies inside `other`, 0 to 1, sampled on 21 points per axis."""
    first, second = _grid(volume), _grid(other)
    axes = [np.linspace(-0.5, n - 0.5, 22)[:-1] + n / 42 for n in first.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    world = index @ first.affine[:3, :3].T + first.affine[:3, 3]
    inverse = np.linalg.inv(second.affine)
    inside = world @ inverse[:3, :3].T + inverse[:3, 3]
    low, high = -0.5 - 1e-6, np.array(second.shape) - 0.5 + 1e-6
    return float(((inside >= low) & (inside <= high)).all(axis=1).mean())


def _grid(value: Volume | Grid) -> Grid:
    return value if isinstance(value, Grid) else Grid.of(value)
