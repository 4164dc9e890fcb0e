"""Organ labels that came with the case: where organs lie relative to one another tells how the image is turned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from uptake.core.errors import UsageError
from uptake.core.types import FloatArray
from uptake.geometry.grid import same_grid
from uptake.geometry.volume import Volume

GROUPS: dict[str, tuple[str, ...]] = {
    "brain": ("brain",),
    "lungs": ("lungs", "lung", "lung_"),
    "heart": ("heart",),
    "liver": ("liver",),
    "spleen": ("spleen",),
    "stomach": ("stomach",),
    "kidneys": ("kidneys", "kidney", "kidney_left", "kidney_right"),
    "bladder": ("bladder", "urinary_bladder"),
    "spine": ("vertebrae_", "vertebra_"),
}
"""Organ -> class names of TotalSegmentator, MOOSE and LesionTracer; one that ends in "_" is a beginning."""

INTERIOR_MM = 12.0
"""Twice the resolution of a PET: further in, neighbours and breathing have no part in the mean."""

SMALLEST_ML = 20.0
"""Less of an organ is its rim in a cropped field, or a stray label."""


@dataclass(frozen=True, eq=False)
class Organs:
    """A label map with the names of its labels.

    Attributes
    ----------
    labels : Volume
        Whole numbers on any grid; 0 is none.
    names : mapping of int to str
        Label -> class name, TotalSegmentator's spelling; others are passed over.
    """

    labels: Volume
    names: Mapping[int, str]

    def __post_init__(self) -> None:
        if not self.names:
            raise UsageError("organ labels need names: a mapping from label number to class name.")

    def centres_mm(self) -> dict[str, FloatArray]:
        """Return the centre of gravity, RAS+ mm, of each organ of `GROUPS` that is there with at least 20 mL."""
        array = np.asarray(self.labels.array)
        last = max(int(array.max()), 0)
        group = np.zeros(last + 1, dtype=np.uint8)
        keys = list(GROUPS)
        for number, name in self.names.items():
            for n, organ in enumerate(keys, start=1):
                if 0 < number <= last and _is(name, organ):
                    group[number] = n
        # Every third voxel along each axis: a centre of gravity does not need them all.
        step = tuple(max(1, int(3.0 / mm)) for mm in self.labels.spacing_mm)
        thin = group[array[:: step[0], :: step[1], :: step[2]]]
        where = np.nonzero(thin)
        number = thin[where]
        voxels = np.bincount(number, minlength=len(keys) + 1)
        ml = voxels * self.labels.voxel_volume_ml * float(np.prod(step))
        centres = {}
        for n, organ in enumerate(keys, start=1):
            if ml[n] >= SMALLEST_ML:
                index = [float(axis[number == n].mean()) * step[a] for a, axis in enumerate(where)]
                centres[organ] = self.labels.world_of(np.array(index))
        return centres

    def interior(self, pet: Volume, organ: str) -> float | None:
        """Return the mean of a PET on the labels' grid over the inside of an organ, its outer 12 mm left out.

        None if the organ is absent, too thin, or the PET is on another grid.
        """
        if not same_grid(pet, self.labels):
            return None
        numbers = [number for number, name in self.names.items() if _is(name, organ)]
        boxes = ndimage.find_objects(np.isin(self.labels.array, numbers).astype(np.uint8))
        if not boxes or boxes[0] is None:
            return None
        mask = np.isin(self.labels.array[boxes[0]], numbers)
        padded = np.pad(mask, 1)
        depth = ndimage.distance_transform_edt(padded, sampling=pet.spacing_mm)[1:-1, 1:-1, 1:-1]
        inner = depth > INTERIOR_MM
        if inner.sum() * pet.voxel_volume_ml < SMALLEST_ML:
            return None
        return float(pet.array[boxes[0]][inner].mean(dtype=np.float64))


def _is(name: str, organ: str) -> bool:
    return any(name == key or (key.endswith("_") and name.startswith(key)) for key in GROUPS[organ])
