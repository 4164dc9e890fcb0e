"""From an organ map on a PET to a table: volume and SUV statistics of every organ, lesions taken out where wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.core.errors import InputError, UsageError
from uptake.core.types import FloatArray, Image, Mask, Shape3, Vector3
from uptake.geometry.components import Box, foreground, require_labels
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.quantification.suv_metrics import PEAK_RADIUS_MM, PeakKernel, peak_kernel, suv_peak

PERCENTILES = (5, 25, 75, 95)
"""Beside the median: quartiles, and the range that noise and the neighbours' spill leave alone."""

TISSUES = frozenset({
    "subcutaneous_fat", "torso_fat", "intermuscular_fat", "skeletal_muscle", "skin", "mediastinum", "body",
    "body_trunc", "body_extremities",
})  # fmt: skip
"""Labels of what lies between organs. They name a lesion only where no organ does, and are cut by every edge of
the image."""


@dataclass(frozen=True)
class Organ:
    """One label of an organ map.

    Attributes
    ----------
    organ : str
        Its name.
    label : int
        Its number in the map.
    voxels : int
        In the map, lesions included.
    volume_ml : float
        Of the label, lesions included.
    measured_ml : float
        Volume of the voxels behind the SUV statistics: the label less the lesions that were taken out of it.
    suv_mean, suv_sd, suv_cov : float
        Mean, standard deviation (n - 1) and their ratio SD / mean; g/mL, g/mL, 1. NaN where undefined.
    suv_median, suv_min, suv_max : float
        g/mL.
    suv_percentiles : tuple of float
        The `PERCENTILES`, linearly interpolated, g/mL.
    suv_peak : float
        Hottest mean in a 1 mL sphere that lies in the measured part of the organ: it reaches the centre of no voxel
        outside. NaN where no such sphere fits.
    total_g : float
        Sum of SUV times voxel volume over the measured part, g: TLG for a lesion. Times injected activity over body
        weight it is the activity in the organ.
    centroid_mm : tuple of float
        Centre of gravity of the label, mm, RAS+.
    at_edge : bool
        Whether the label reaches an outermost voxel of the image: the field may cut it, and its volume be too small.
    """

    organ: str
    label: int
    voxels: int
    volume_ml: float
    measured_ml: float
    suv_mean: float
    suv_sd: float
    suv_cov: float
    suv_median: float
    suv_min: float
    suv_max: float
    suv_percentiles: tuple[float, ...]
    suv_peak: float
    total_g: float
    centroid_mm: Vector3
    at_edge: bool


@dataclass(frozen=True)
class OrganTable:
    """All organs of one map.

    Attributes
    ----------
    organs : tuple of Organ
        By label number; only those with at least one voxel.
    absent : tuple of str
        Names without a voxel in the map: outside the field, taken out, or not found. Nothing is said of their uptake.
    without_lesions : bool
        Whether lesions were taken out of the SUV statistics.
    warnings : tuple of str
        What the reader of the numbers has to know, in plain words.
    """

    organs: tuple[Organ, ...]
    absent: tuple[str, ...] = ()
    without_lesions: bool = False
    warnings: tuple[str, ...] = ()

    def find(self, name: str) -> Organ | None:
        """Return the organ of that name; None if it is absent."""
        return next((organ for organ in self.organs if organ.organ == name), None)


def measure_organs(
    pet: Volume, organs: Volume, names: Mapping[int, str], *, lesions: Volume | None = None
) -> OrganTable:
    """Return volume and SUV statistics of every organ of a map.

    Parameters
    ----------
    pet : Volume
        SUV, g/mL.
    organs : Volume
        Whole numbers on the grid of the PET; 0 is no organ.
    names : mapping of int to str
        Label number -> organ. A label without a name is measured under ``label_N`` and reported.
    lesions : Volume, optional
        On the same grid; voxels that are not 0 are left out of the SUV statistics, not of the volumes.

    Raises
    ------
    GeometryError
        If a map is not on the grid of the PET.
    InputError
        If a map holds no labels, or the PET NaN or infinite voxels.
    UsageError
        If `names` is empty, names the background, or gives one name to two labels.

    Notes
    -----
    SUV is never rounded or cut to whole numbers on the way, and an organ at the edge of the image is measured as far as
    it is there and marked `Organ.at_edge`.
    """
    require_same_grid(pet, organs, names=("the PET", "the organ map"))
    require_labels(organs, name="the organ map")
    checked = _checked_names(names)
    if not np.isfinite(pet.array).all():
        raise InputError("the PET holds NaN or infinite voxels; its SUV cannot be measured. Convert it again.")
    diseased: Mask | None = None
    if lesions is not None:
        require_same_grid(pet, lesions, names=("the PET", "the lesion mask"))
        diseased = foreground(lesions, name="the lesion mask")
    array = whole_numbers(organs.array)
    kernel = peak_kernel(pet.affine)
    found = []
    nameless = []
    for label, box in enumerate(ndimage.find_objects(array), start=1):
        if box is None:
            continue
        if label not in checked:
            nameless.append(label)
        name = checked.get(label, f"label_{label}")
        found.append(_measure(pet, array[box] == label, box, diseased, kernel, name=name, label=label))
    present = {organ.label for organ in found}
    return OrganTable(
        organs=tuple(found),
        absent=tuple(name for label, name in sorted(checked.items()) if label not in present),
        without_lesions=diseased is not None,
        warnings=_warnings(found, nameless),
    )


def whole_numbers(array: Image) -> npt.NDArray[np.int32]:
    """Return labels of any number type as int32, as `scipy.ndimage` wants them."""
    return np.asarray(array).astype(np.int32, copy=False)


def in_depth(mask: Mask, spacing_mm: Vector3) -> FloatArray:
    """Return the distance (i, j, k) of every voxel of a mask to the nearest voxel centre outside it, mm; 0 outside.

    Beyond the edge of the array everything counts as outside. Axes are taken as perpendicular.
    """
    padded = np.pad(mask, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=spacing_mm)
    return np.asarray(depth[1:-1, 1:-1, 1:-1])


def _measure(
    pet: Volume,
    mask: Mask,
    box: Box,
    diseased: Mask | None,
    kernel: PeakKernel,
    *,
    name: str,
    label: int,
) -> Organ:
    """Return the numbers of one organ from its mask within its bounding box."""
    measured = mask if diseased is None else mask & ~diseased[box]
    suv = pet.array[box][measured].astype(np.float64)
    index = np.argwhere(mask)
    start = np.array([s.start for s in box])
    voxels, voxel_ml = len(index), pet.voxel_volume_ml
    x, y, z = (float(value) for value in pet.world_of(index.mean(axis=0) + start))
    none = math.nan
    mean = float(suv.mean()) if len(suv) else none
    deviation = float(suv.std(ddof=1)) if len(suv) > 1 else none
    at = np.percentile(suv, (50, *PERCENTILES)) if len(suv) else np.full(1 + len(PERCENTILES), none)
    return Organ(
        organ=name,
        label=label,
        voxels=voxels,
        volume_ml=voxels * voxel_ml,
        measured_ml=len(suv) * voxel_ml,
        suv_mean=mean,
        suv_sd=deviation,
        suv_cov=deviation / mean if mean > 0 else none,
        suv_median=float(at[0]),
        suv_min=float(suv.min()) if len(suv) else none,
        suv_max=float(suv.max()) if len(suv) else none,
        suv_percentiles=tuple(float(value) for value in at[1:]),
        suv_peak=_peak_inside(pet, measured, start, kernel),
        total_g=float(suv.sum()) * voxel_ml,
        centroid_mm=(x, y, z),
        at_edge=_at_edge(box, pet.shape),
    )


def _peak_inside(pet: Volume, mask: Mask, start: npt.NDArray[np.int64], kernel: PeakKernel) -> float:
    """Return the hottest 1 mL sphere that lies in a mask, g/mL; NaN where none fits."""
    centres = np.argwhere(in_depth(mask, pet.spacing_mm) > PEAK_RADIUS_MM)
    return suv_peak(pet.array, centres + start, kernel).suv if len(centres) else math.nan


def _at_edge(box: Box, shape: Shape3) -> bool:
    return any(part.start == 0 or part.stop == size for part, size in zip(box, shape, strict=True))


def _checked_names(names: Mapping[int, str]) -> dict[int, str]:
    checked = {int(label): str(name) for label, name in names.items() if int(label) != 0 or name != "background"}
    if not checked:
        raise UsageError("an organ map needs the names of its labels: a mapping from number to organ.")
    if min(checked) < 1:
        raise UsageError(f"labels of organs start at 1, 0 is the background; came {min(checked)}.")
    if len(set(checked.values())) < len(checked):
        twice = sorted({name for name in checked.values() if list(checked.values()).count(name) > 1})
        raise UsageError(f"{', '.join(twice)}: one name for several labels; names have to tell organs apart.")
    return checked


def _warnings(organs: list[Organ], nameless: list[int]) -> tuple[str, ...]:
    notes = []
    if nameless:
        labels = ", ".join(map(str, nameless[:10])) + (" ..." if len(nameless) > 10 else "")
        notes.append(f"Organ map: label {labels} has no name in the table given; measured as label_{nameless[0]} etc.")
    cut = [organ.organ for organ in organs if organ.at_edge and organ.organ not in TISSUES]
    if cut:
        more = f" and {len(cut) - 10} more" if len(cut) > 10 else ""
        listed = ", ".join(name.replace("_", " ") for name in cut[:10])
        notes.append(f"The edge of the image may cut {listed}{more}; volumes there are of what is seen.")
    return tuple(notes)
