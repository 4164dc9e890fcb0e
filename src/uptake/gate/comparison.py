"""PET and CT made comparable on one coarse grid, and which of their voxels may be compared.

Two precautions keep a crop from reporting a shift that it cannot know. Only PET voxels that stay inside the CT for
every shift up to `REACH_MM` are compared, so that moving out of the field never pays; faces of the CT that show nothing
but air are continued as air. And a direction counts only where the CT's edges tell a shift along it from a general
swelling of the outline: a thigh is a cone, and a blurred cone looks like a shifted one.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

from uptake.core.types import FloatArray, Mask
from uptake.gate.overview import BODY_SUV, block_means
from uptake.geometry.volume import Volume
from uptake.harmonise.resample import resized

FEWEST_VOXELS = 10
"""Along each axis; where a small crop has fewer, the grid is finer."""

PET_CAP_SUV = 4.0
"""Uptake above this counts like this: a hot bladder carries no more weight than a hot skin."""

CT_RANGE_HU = (-1000.0, 200.0)

CT_FWHM_MM = 6.0
"""Blur that brings the CT to the resolution of a PET."""

RING_MM = 20.0
"""Air around the patient that is compared, so that the outline counts."""

REACH_MM = 20.0
"""Shifts up to this are compared on the same voxels."""

AIR_FACE = 0.97
"""A face of the CT whose voxels are air to this share is continued as air."""

WEAK_EDGE_SHARE = (0.4, 0.2)
"""An axis along which the CT has less edge than this, relative to its best axis, is not measured: in fields shorter
than `LONG_FIELD_MM`, and in longer ones. Thighs have 0.15 to 0.35 along their length, obese whole bodies 0.38.
"""

LONG_FIELD_MM = 400.0

WEAK_EDGE_HU_PER_MM = (7.0, 4.0)
"""Or less than this: root mean square over the compared voxels, in short and in long fields."""


class Comparison:
    """PET and CT on one grid size.

    Attributes
    ----------
    pet, ct : Volume
        The square root of SUV, and HU blurred to the PET's resolution.
    body, compared : array (i, j, k) bool
        On the PET's grid: the patient, and what may be compared.
    open_axes : array (3,) bool
        Whether the CT ends in air on both sides along x, y and z.
    """

    def __init__(self, pet: Volume, ct: Volume, spacing_mm: float) -> None:
        finest = min(n * mm for n, mm in zip(pet.shape, pet.spacing_mm, strict=True)) / FEWEST_VOXELS
        target = min(spacing_mm, finest)
        reduced = _at_spacing(pet, target)
        self.spacing_mm = spacing_mm
        self.pet = reduced.with_array(np.sqrt(np.clip(reduced.array, 0.0, PET_CAP_SUV)))
        dense = _at_spacing(ct, target)
        sigma = [CT_FWHM_MM / 2.355 / mm for mm in dense.spacing_mm]
        clipped = np.clip(dense.array, *CT_RANGE_HU)
        self.ct = dense.with_array(ndimage.gaussian_filter(clipped, sigma, mode="nearest"))
        body = ndimage.binary_opening(reduced.array > BODY_SUV)
        self.body = np.asarray(body)
        rounds = max(1, round(RING_MM / float(np.mean(self.pet.spacing_mm))))
        self.open_axes = np.ones(3, dtype=bool)
        self.compared: Mask = self._staying_inside() & ndimage.binary_dilation(body, iterations=rounds)

    def _staying_inside(self) -> Mask:
        """Return the PET voxels, but for the outermost, whose place stays in the CT for every shift in reach."""
        between = np.linalg.inv(self.ct.affine) @ self.pet.affine
        axes = np.meshgrid(*[np.arange(n) for n in self.pet.shape], indexing="ij", sparse=True)
        inside = np.zeros(self.pet.shape, dtype=bool)
        inside[1:-1, 1:-1, 1:-1] = True
        for axis, size in enumerate(self.ct.shape):
            place = sum(between[axis, n] * axes[n] for n in range(3)) + between[axis, 3]
            margin = REACH_MM / self.ct.spacing_mm[axis]
            first, last = (np.take(self.ct.array, end, axis=axis) < -500.0 for end in (0, -1))
            if first.mean() < AIR_FACE:
                inside &= place >= margin
            if last.mean() < AIR_FACE:
                inside &= place <= size - 1 - margin
            if max(first.mean(), last.mean()) < AIR_FACE:
                self.open_axes &= np.abs(self.ct.direction[:, axis]) < 0.5
        return inside

    def measurable_axes(self) -> Mask:
        """Return for x, y and z whether the CT's edges can tell a shift along it.

        With g the gradient of the CT and the swelling of its outline |g| as a nuisance, the information about a shift
        along one axis is the part of g that neither the other axes nor |g| explain.
        """
        linear = (self.pet.affine[:3, :3] / np.asarray(self.pet.spacing_mm)).T
        between = np.linalg.inv(self.ct.affine) @ self.pet.affine
        dense = ndimage.affine_transform(
            self.ct.array, between[:3, :3], between[:3, 3], output_shape=self.pet.shape, order=1, mode="nearest"
        )
        smooth = ndimage.gaussian_filter(dense, [4.0 / mm for mm in self.pet.spacing_mm])
        along = np.stack(np.gradient(smooth, *self.pet.spacing_mm), axis=-1)[self.compared] @ linear
        columns = np.column_stack([along, np.linalg.norm(along, axis=1)]).astype(np.float64)
        information = columns.T @ columns / len(columns)
        share, least = WEAK_EDGE_SHARE[int(self.is_long)], WEAK_EDGE_HU_PER_MM[int(self.is_long)]
        try:
            edge = 1.0 / np.sqrt(np.diag(np.linalg.inv(information))[:3])
        except np.linalg.LinAlgError:
            return np.zeros(3, dtype=bool)
        return np.asarray((edge > least) & (edge > share * edge.max()))

    @property
    def is_long(self) -> bool:
        """Whether at least 40 cm of the patient are compared: a field in which rotations can be told from shifts."""
        low, high = self.body_box_mm()
        return bool(high[2] - low[2] >= LONG_FIELD_MM)

    def body_box_mm(self) -> tuple[FloatArray, FloatArray]:
        """Return the lower and upper corner of the patient, RAS+ mm."""
        index = np.argwhere(self.body & self.compared)
        corners = np.array(list(product(*zip(index.min(axis=0), index.max(axis=0), strict=True))))
        world = self.pet.world_of(corners.astype(np.float64))
        return np.asarray(world.min(axis=0)), np.asarray(world.max(axis=0))

    def between(self, bottom_mm: float, top_mm: float) -> Mask:
        """Return the voxels whose height z lies between two values, mm."""
        row = self.pet.affine[2]
        axes = np.meshgrid(*[np.arange(n) for n in self.pet.shape], indexing="ij", sparse=True)
        height = sum(row[n] * axes[n] for n in range(3)) + row[3]
        return np.asarray((height >= bottom_mm) & (height <= top_mm))


def _at_spacing(volume: Volume, target_mm: float) -> Volume:
    """Return the volume on voxels of about `target_mm` or larger, its axes and outer edges kept."""
    blocks = block_means(volume, target_mm)
    fine = [max(1, round(n * mm / max(mm, target_mm))) for n, mm in zip(blocks.shape, blocks.spacing_mm, strict=True)]
    shape = (fine[0], fine[1], fine[2])
    ratio = np.array(blocks.shape) / np.array(shape)
    affine = blocks.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((ratio - 1) / 2)
    affine[:3, :3] = affine[:3, :3] * ratio
    return Volume(resized(blocks.array, shape, order=1), affine)
