"""What a 4x4 affine says, and the repair of one that is almost a rotation."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from uptake.core.errors import GeometryError
from uptake.core.types import Affine, FloatArray

AXIS_POSITIVE = "RAS"
AXIS_NEGATIVE = "LPI"

SHEAR_TOLERANCE = 1.0e-2
"""Largest deviation of the direction cosines from an orthonormal matrix that `orthonormalised` repairs.

0.01 is a tilt of 0.6 degrees: rounding in headers stays far below it, a gantry tilt far above.
"""


def spacing_mm(affine: Affine) -> FloatArray:
    """Return the voxel size along each array axis, mm, shape (3,): the lengths of the affine's columns."""
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def direction(affine: Affine) -> FloatArray:
    """Return the direction cosines, shape (3, 3): column j is the world direction of array axis j, length 1."""
    return np.asarray(affine[:3, :3] / spacing_mm(affine))


def compose(spacing: FloatArray, cosines: FloatArray, origin: FloatArray) -> Affine:
    """Return the affine with voxel size `spacing` (mm), direction `cosines` (3, 3) and first voxel at `origin` (mm)."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(cosines, dtype=np.float64) * np.asarray(spacing, dtype=np.float64)
    affine[:3, 3] = origin
    return affine


def checked(affine: Affine, *, name: str = "image") -> Affine:
    """Return the affine as float64 (4, 4) after the checks that every volume has to pass.

    Raises
    ------
    GeometryError
        If it is not 4x4, not finite, has a zero or negative determinant scale (a collapsed axis), or another last row.
    """
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise GeometryError(f"{name}: the affine must be a finite 4x4 matrix, came {matrix.tolist()}.")
    if not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise GeometryError(f"{name}: the last row of the affine must be 0 0 0 1, came {matrix[3].tolist()}.")
    lengths = spacing_mm(matrix)
    if (lengths < 1e-6).any() or abs(np.linalg.det(matrix[:3, :3])) < 1e-6 * float(lengths.prod()):
        raise GeometryError(
            f"{name}: the affine collapses an axis (voxel size {np.round(lengths, 6).tolist()} mm). "
            "The header has lost its geometry; convert the scan from DICOM again."
        )
    return matrix


def shear(affine: Affine) -> float:
    """Return how far the direction cosines are from orthonormal: the largest entry of |R - nearest rotation|."""
    cosines = direction(affine)
    u, _, vt = np.linalg.svd(cosines)
    return float(np.abs(cosines - u @ vt).max())


def orthonormalised(affine: Affine, *, tolerance: float = SHEAR_TOLERANCE, name: str = "image") -> tuple[Affine, float]:
    """Return the affine with its direction cosines replaced by the nearest orthonormal ones, and how far they moved.

    Voxel sizes and the position of the first voxel stay. The nearest orthonormal matrix in the least-squares sense is
    the polar factor U Vᵀ of the singular value decomposition.

    Parameters
    ----------
    affine : array (4, 4)
    tolerance : float
        Largest repair allowed, as a difference of direction cosines (dimensionless).
    name : str
        How the error names the image.

    Returns
    -------
    repaired : array (4, 4)
        The input itself where it is orthonormal to 1e-6 already.
    moved : float
        Largest change of a direction cosine; 0.0 if nothing was repaired.

    Raises
    ------
    GeometryError
        If the repair would be larger than `tolerance`: a sheared grid (gantry tilt) has to be resampled first.
    """
    affine = checked(affine, name=name)
    moved = shear(affine)
    if moved <= 1e-6:
        return affine, 0.0
    if moved > tolerance:
        raise GeometryError(
            f"{name}: its axes are not perpendicular (direction cosines are off by {moved:.3g}, allowed {tolerance:g})."
            " A tilted gantry or a sheared header; resample the image to a perpendicular grid first."
        )
    u, _, vt = np.linalg.svd(direction(affine))
    return compose(spacing_mm(affine), u @ vt, affine[:3, 3]), moved


def orientation_code(affine: Affine) -> str:
    """Return three letters naming the world direction that each array axis comes closest to, e.g. "LPS".

    The letter names where the axis points *to* (nibabel's convention). For an oblique grid the assignment that
    maximises the product of the direction cosines is taken, so that each of the three world axes is used once.
    """
    cosines = direction(affine)
    best = max(
        permutations(range(3)), key=lambda order: float(np.prod([abs(cosines[w, a]) for a, w in enumerate(order)]))
    )
    return "".join(
        (AXIS_POSITIVE if cosines[world, axis] > 0 else AXIS_NEGATIVE)[world] for axis, world in enumerate(best)
    )
