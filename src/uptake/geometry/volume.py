"""`Volume`: one image array that never loses its place in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from uptake.core.errors import GeometryError
from uptake.core.types import Affine, FloatArray, Image, Shape3, Vector3
from uptake.core.units import MM3_PER_ML
from uptake.geometry import affine as affines


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional array with its affine.

    Attributes
    ----------
    array : array (i, j, k)
        Voxels. What they mean (SUV, HU, label) is said by the field of the `Case` that holds the volume.
    affine : array (4, 4)
        Voxel index -> world mm, RAS+. Column j belongs to array axis j.
    frame_of_reference : str or None
        DICOM Frame of Reference UID (0020,0052) where one is known. Two volumes with different ones cannot be
        overlaid, however close their numbers.

    Raises
    ------
    GeometryError
        If the array is not three-dimensional or the affine is not usable.
    """

    array: Image
    affine: Affine
    frame_of_reference: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.ndim != 3 or 0 in array.shape:
            raise GeometryError(f"a volume has three axes with at least one voxel each, came shape {array.shape}.")
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", affines.checked(self.affine))

    @property
    def shape(self) -> Shape3:
        """Number of voxels along each array axis."""
        i, j, k = self.array.shape
        return i, j, k

    @property
    def spacing_mm(self) -> Vector3:
        """Voxel size along each array axis, mm."""
        a, b, c = affines.spacing_mm(self.affine)
        return float(a), float(b), float(c)

    @property
    def origin_mm(self) -> Vector3:
        """World position of the centre of voxel (0, 0, 0), mm RAS+."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> FloatArray:
        """Direction cosines (3, 3); column j is the world direction of array axis j."""
        return affines.direction(self.affine)

    @property
    def orientation(self) -> str:
        """Three letters such as "LPS": where each array axis points to."""
        return affines.orientation_code(self.affine)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, mL: the determinant of the affine, right for sheared grids too."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / MM3_PER_ML

    def world_of(self, index: FloatArray) -> FloatArray:
        """Return world positions (..., 3) in mm of voxel indices (..., 3); fractional indices are allowed."""
        return np.asarray(np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def index_of(self, world: FloatArray) -> FloatArray:
        """Return fractional voxel indices (..., 3) of world positions (..., 3) in mm."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(np.asarray(world, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3])

    def with_array(self, array: Image) -> Volume:
        """Return another image on this very grid.

        Raises
        ------
        GeometryError
            If the shape differs.
        """
        if np.shape(array) != self.shape:
            raise GeometryError(f"an array of shape {np.shape(array)} does not fit a grid of shape {self.shape}.")
        return replace(self, array=array)
