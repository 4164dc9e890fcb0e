"""The scan at a glance: PET and CT as coarse pictures along the patient's axes, and the patient's outline in each.

Every rule about anatomy looks at these instead of the scan: 8 mm voxels show a lung, a liver and a leg as well as 1 mm
ones do, and a CT of 70 million voxels becomes half a million. Array axes are x (to the patient's right), y (front) and
z (head), whatever the orientation of the scan, *as its header states them*: a header that is wrong shows as anatomy in
the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from scipy import ndimage

from uptake.core.types import FloatArray, Image, Mask, Vector3
from uptake.core.units import AIR_HU, MM3_PER_ML
from uptake.geometry.volume import Volume

COARSE_MM = 8.0
"""Voxel size of the overview, a little more than the resolution of a PET."""

BODY_SUV = 0.2
"""Smoothed PET above this is patient: fat shows 0.25 to 0.4 in every tracer of the recipe, air less than 0.1."""

BODY_HU = -300.0
"""Coarse CT above this is patient or couch: half-way between fat (-100) and air, lowered for the blur at the skin."""

SMALLEST_PART = 0.02
"""Pieces below this share of the largest are noise, a couch or a blanket, no limb."""


@dataclass(frozen=True, eq=False)
class Overview:
    """One image on a coarse grid along the patient's axes.

    Attributes
    ----------
    image : array (x, y, z) float32
        SUV or HU, mean over about `COARSE_MM`.
    body : array (x, y, z) bool
        The patient, without holes: lungs and bowel gas are inside.
    inside : array (x, y, z) bool
        Where the scan has voxels; oblique scans leave corners without.
    origin_mm : tuple of float
        World position of the centre of voxel (0, 0, 0), RAS+ mm.
    spacing_mm : float
        Of all three axes.
    """

    image: Image
    body: Mask
    inside: Mask
    origin_mm: Vector3
    spacing_mm: float

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, mL."""
        return self.spacing_mm**3 / MM3_PER_ML

    @cached_property
    def section_cm2(self) -> FloatArray:
        """Area of the patient in every slice across z, cm²."""
        return np.asarray(self.body.sum(axis=(0, 1)) * self.spacing_mm**2 / 100.0)

    @cached_property
    def side_contact_mm(self) -> FloatArray:
        """Length over which the patient meets the field's lateral edge in every slice across z, mm."""
        edge = self.inside & ~ndimage.binary_erosion(self.inside, structure=np.ones((3, 3, 1), dtype=bool))
        return np.asarray((self.body & edge).sum(axis=(0, 1)) * self.spacing_mm)

    @cached_property
    def midline_index(self) -> FloatArray:
        """The middle of the patient along x in every slice across z, as an index; NaN in empty slices.

        The middle of the largest piece of the slice, so that one arm in the field does not move it.
        """
        result = np.full(self.body.shape[2], np.nan)
        for k in np.flatnonzero(self.section_cm2 > 0):
            pieces, count = ndimage.label(self.body[:, :, k])
            largest = 1 if count == 1 else int(np.bincount(pieces.ravel())[1:].argmax()) + 1
            x = np.flatnonzero((pieces == largest).any(axis=1))
            result[k] = (x[0] + x[-1]) / 2
        return result

    def world(self, index: FloatArray) -> FloatArray:
        """Return the world position, RAS+ mm, of a fractional index (..., 3)."""
        return np.asarray(np.asarray(self.origin_mm) + self.spacing_mm * np.asarray(index, dtype=np.float64))

    def voxels(self, mm: float) -> int:
        """Return a length in whole voxels, at least 1."""
        return max(1, round(mm / self.spacing_mm))


def pet_overview(pet: Volume) -> Overview:
    """Return the overview of a PET in SUV."""
    image, inside, origin = _coarse(pet, fill=0.0)
    smooth = ndimage.gaussian_filter(image, 0.6)
    return Overview(smooth, _filled(_parts(smooth > BODY_SUV)), inside, origin, COARSE_MM)


def ct_overview(ct: Volume) -> Overview:
    """Return the overview of a CT in HU; padding below air counts as air."""
    image, inside, origin = _coarse(ct, fill=AIR_HU)
    np.maximum(image, AIR_HU, out=image)
    # The couch hangs on the patient by a voxel or two; the opening cuts it off.
    return Overview(image, _filled(_parts(image > BODY_HU)), inside, origin, COARSE_MM)


def block_means(volume: Volume, target_mm: float) -> Volume:
    """Return the volume averaged over blocks of about `target_mm` along each of its own axes, float32.

    Whole voxels only: a block is ``round(target / spacing)`` voxels, at least one, and what is left over at the far end
    of an axis is dropped. The affine moves with it, so that every structure keeps its place.
    """
    counts = [
        max(1, min(size, round(target_mm / mm))) for size, mm in zip(volume.shape, volume.spacing_mm, strict=True)
    ]
    shape = [size // count for size, count in zip(volume.shape, counts, strict=True)]
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((np.array(counts) - 1) / 2)
    affine[:3, :3] = affine[:3, :3] * counts
    array = volume.array[tuple(slice(0, size * count) for size, count in zip(shape, counts, strict=True))]
    order = (2, 1, 0) if abs(array.strides[0]) < abs(array.strides[2]) else (0, 1, 2)
    # The axis that is longest in memory goes first and last in one pass; the other way round takes five times as long.
    split = [number for axis in order for number in (shape[axis], counts[axis])]
    sums = np.einsum("aibjck->abc", array.transpose(order).reshape(split), dtype=np.float32,
                     casting="same_kind")  # fmt: skip
    array = (sums / np.float32(np.prod(counts))).transpose(order)
    return Volume(np.asarray(array, dtype=np.float32), affine, frame_of_reference=volume.frame_of_reference)


def _coarse(volume: Volume, *, fill: float) -> tuple[Image, Mask, Vector3]:
    """Return the volume on the coarse grid, where it reaches, and the position of the first voxel."""
    ends = [(-0.5, n - 0.5) for n in volume.shape]
    corners = volume.world_of(np.array(list(product(*ends))))
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = np.maximum(1, np.round((high - low) / COARSE_MM)).astype(int)
    origin = low + COARSE_MM / 2
    reduced = block_means(volume, COARSE_MM)
    affine = np.diag([COARSE_MM, COARSE_MM, COARSE_MM, 1.0])
    affine[:3, 3] = origin
    between = np.linalg.inv(reduced.affine) @ affine
    options = {"output_shape": tuple(shape), "order": 1}
    image = ndimage.affine_transform(
        reduced.array, between[:3, :3], between[:3, 3], mode="nearest", output=np.float32, **options
    )
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    there = index @ between[:3, :3].T + between[:3, 3]
    inside = ((there > -0.75) & (there < np.array(reduced.shape) - 0.25)).all(axis=-1)
    image[~inside] = fill
    return image, inside, (float(origin[0]), float(origin[1]), float(origin[2]))


def _parts(mask: Mask) -> Mask:
    """Return the mask without thin structures and small pieces."""
    opened = ndimage.binary_opening(mask)
    pieces, count = ndimage.label(opened)
    if count < 2:
        return np.asarray(opened)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= SMALLEST_PART * sizes.max())[pieces])


def _filled(mask: Mask) -> Mask:
    """Return the mask with the holes of every axial slice filled: lungs are open to the outside in 3-D, not in 2-D."""
    result = mask.copy()
    for k in range(mask.shape[2]):
        if mask[:, :, k].any():
            result[:, :, k] = ndimage.binary_fill_holes(mask[:, :, k])
    return result
