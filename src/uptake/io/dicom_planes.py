"""Labelled planes of pixels, wherever they lie, brought to the voxels of the PET: each voxel asks at its own centre."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import GeometryError
from uptake.core.types import FloatArray, Mask
from uptake.geometry.volume import Volume
from uptake.io.dicom_regions import Planes, least_gap, nearest_plane, own_slices, stack_spacing

PARALLEL = 1.0e-3
"""Largest sine of the angle between two stacks that count as parallel."""

SAME_VOXEL = 0.05
"""Voxel centres of two grids this close, in voxels, are the same: nothing was resampled."""

SAME_PITCH = 1.0e-3
"""Share by which the pixel spacings of two such grids may differ."""

TIE = 1.0e-4
"""Pixels. A voxel centre this close to the border of two pixels belongs to the lower one, whatever the rounding."""

MOST_HELD = 2**33
"""Bytes of planes that are held at once where a stack lies askew to the PET."""


@dataclass(frozen=True, eq=False)
class PixelStack:
    """What the planes share: directions of increasing column and row (RAS), pixel spacings along them (mm), size.

    `spacing` and `thickness` are Spacing Between Slices (0018,0088) and Slice Thickness (0018,0050), mm, or None.
    """

    across: FloatArray
    down: FloatArray
    steps: tuple[float, float]
    columns: int
    rows: int
    spacing: float | None
    thickness: float | None

    @property
    def normal(self) -> FloatArray:
        return np.cross(self.across, self.down)


@dataclass
class Count:
    """Labelled pixels met, and the labelled voxels they became."""

    pixels: int = 0
    voxels: int = 0


class OntoPet:
    """Brings planes to the slices of a PET.

    Parameters
    ----------
    stack : PixelStack
    positions : array (n, 3)
        Centre of the first pixel of each plane, RAS mm.
    pet : Volume
    depths : array (k,)
        Where the slices of the PET lie (`dicom_regions.slice_depths`).

    Attributes
    ----------
    resampled : bool
        Whether the planes are on another grid than the PET's; complete after `collect`.
    """

    def __init__(self, stack: PixelStack, positions: FloatArray, pet: Volume, depths: FloatArray) -> None:
        self.stack, self.positions, self.pet = stack, positions, pet
        self.parallel = float(np.abs(np.cross(stack.normal, pet.direction[:, 2])).max()) <= PARALLEL
        self.normal = pet.direction[:, 2] if self.parallel else stack.normal
        self.heights, self.plane_of = np.unique(np.round(positions @ self.normal, 2), return_inverse=True)
        step, least = pet.spacing_mm[2], least_gap(self.heights)
        # Slice Thickness is how much of the patient a plane shows, and the distance to the next one only as a rule.
        coarse = stack.thickness is not None and least is not None and 1.5 * step <= stack.thickness <= 1.01 * least
        self.spacing = stack.spacing or (stack.thickness if coarse else None)
        self.thickness = self.spacing or stack_spacing(self.heights) or min(least or step, stack.thickness or step)
        pitch = np.sort(stack.steps) / np.sort(pet.spacing_mm[:2])
        self.resampled = not self.parallel or bool(np.abs(pitch - 1).max() > SAME_PITCH)
        self._slices = self._slices_of_planes(depths) if self.parallel else {}
        self._lookups: dict[tuple[float, float], tuple[Any, Any, Mask] | None] = {}

    def collect(self, planes: Iterable[tuple[int, int, Mask]], collected: dict[int, Planes]) -> Count:
        """Add planes to what is collected under each number, and return how many pixels became how many voxels.

        Parameters
        ----------
        planes : iterable of (int, int, array)
            Index into `positions`, number of the region, and its pixels (row, column) as booleans.
        collected : dict
        """
        count = Count()
        askew: dict[int, list[tuple[int, FloatArray, Mask]]] = {}
        for n, number, labelled in planes:
            found = int(np.count_nonzero(labelled))
            if not found:
                continue
            count.pixels += found
            plane = int(self.plane_of[n])
            if not self.parallel:
                askew.setdefault(plane, []).append((number, self.positions[n], labelled))
                if count.pixels and sum(len(entries) for entries in askew.values()) * labelled.size > MOST_HELD:
                    raise GeometryError("the segmentation lies askew to the PET and is too large to be brought to it.")
                continue
            slices = self._slices.get(plane, ())
            voxels = self._in_plane(labelled, self.positions[n]) if slices else labelled
            for k in slices:
                count.voxels += int(np.count_nonzero(voxels))
                collected[number].add(k, voxels)
        if askew:
            count.voxels = self._collect_askew(askew, collected)
        return count

    def _slices_of_planes(self, depths: FloatArray) -> dict[int, list[int]]:
        own = own_slices(self.heights, depths, self.spacing)
        if own is not None:
            pairs = list(enumerate(own.tolist()))
        else:
            self.resampled = True
            pairs = [(plane, k) for k, plane in enumerate(nearest_plane(depths, self.heights, self.thickness).tolist())]
        result: dict[int, list[int]] = {}
        for plane, k in pairs:
            result.setdefault(int(plane), []).append(int(k))
        return result

    def _in_plane(self, labelled: Mask, position: FloatArray) -> Mask:
        """Return the labels at the voxel centres (i, j) of a slice that the plane is parallel to."""
        stack, affine = self.stack, self.pet.affine
        axes = np.stack([stack.across / stack.steps[0], stack.down / stack.steps[1]])
        start = axes @ (affine[:3, 3] - position)
        key = (round(float(start[0]), 3), round(float(start[1]), 3))
        if key not in self._lookups:
            i, j = np.indices(self.pet.shape[:2])
            per_i, per_j = (axes @ affine[:3, :2]).T
            index = start[:, None, None] + per_i[:, None, None] * i + per_j[:, None, None] * j
            column, row, valid = self._pixels(index[0], index[1])
            if valid.any():
                off = np.abs(index - np.stack([column, row]))[:, valid].max()
                self.resampled |= bool(off > SAME_VOXEL)
            plain = valid.all() and (column == i).all() and (row == j).all() and labelled.T.shape == valid.shape
            self._lookups[key] = None if plain else (column, row, valid)
        lookup = self._lookups[key]
        if lookup is None:
            return labelled.T
        column, row, valid = lookup
        plane = np.zeros(valid.shape, dtype=bool)
        plane[valid] = labelled[row[valid], column[valid]]
        return plane

    def _collect_askew(
        self, planes: dict[int, list[tuple[int, FloatArray, Mask]]], collected: dict[int, Planes]
    ) -> int:
        """Add the labels at the voxel centres of every slice; the stack is not parallel to them."""
        stack, pet = self.stack, self.pet
        total = 0
        i, j = np.indices(pet.shape[:2])
        for k in range(pet.shape[2]):
            world = pet.world_of(np.stack([i, j, np.full_like(i, k)], axis=-1))
            at = nearest_plane(world @ self.normal, self.heights, self.thickness)
            found: dict[int, Mask] = {}
            for plane in np.unique(at[at >= 0]).tolist():
                here = at == plane
                for number, position, labelled in planes.get(int(plane), ()):
                    offset = world[here] - position
                    column, row, valid = self._pixels(
                        offset @ stack.across / stack.steps[0], offset @ stack.down / stack.steps[1]
                    )
                    values = np.zeros(len(valid), dtype=bool)
                    values[valid] = labelled[row[valid], column[valid]]
                    found.setdefault(number, np.zeros(pet.shape[:2], dtype=bool))[here] |= values
            for number, mask in found.items():
                total += int(np.count_nonzero(mask))
                collected[number].add(k, mask)
        return total

    def _pixels(self, column: FloatArray, row: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Mask]:
        """Return the pixel that holds each fractional position, and whether it is inside the plane."""
        columns, rows = (np.ceil(index - 0.5 - TIE).astype(np.int64) for index in (column, row))
        inside = (columns >= 0) & (columns < self.stack.columns) & (rows >= 0) & (rows < self.stack.rows)
        return columns, rows, inside
