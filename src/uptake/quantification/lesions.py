"""From a lesion mask on a PET to a table: one row per connected component, and whole-body totals."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.core.types import FloatArray, Vector3
from uptake.geometry.components import connected_components, foreground
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.quantification.spread import farthest_pair_mm, largest_extent_mm
from uptake.quantification.suv_metrics import PeakKernel, mtv_threshold, parse_mtv_method, peak_kernel, suv_peak

NUMBERING = "by decreasing volume; equal volumes from head to foot, right to left, front to back"


@dataclass(frozen=True)
class Lesion:
    """One connected component of the lesion mask. World positions are mm, RAS+.

    Attributes
    ----------
    lesion : int
        Its number, from 1.
    voxels : int
        In the mask.
    volume_ml : float
        Of the mask.
    mtv_ml : float
        Metabolic tumour volume by the table's `mtv_method`; equal to `volume_ml` for "mask".
    suv_max : float
        Hottest voxel, g/mL.
    suv_mean : float
        Mean over the metabolic tumour volume, g/mL; NaN if the rule leaves no voxel.
    suv_peak : float
        Hottest mean in a 1 mL sphere centred on a voxel of the lesion, g/mL; see `suv_metrics.suv_peak`.
    suv_peak_inside : float
        Share of that sphere inside the image, 1 unless the lesion lies at its edge.
    tlg_g : float
        Total lesion glycolysis, MTV x SUVmean, g (mL x g/mL).
    centroid_mm, hottest_mm, peak_mm : tuple of float
        Centre of gravity of the mask (not weighted by uptake), hottest voxel, centre of the SUVpeak sphere.
    """

    lesion: int
    voxels: int
    volume_ml: float
    mtv_ml: float
    suv_max: float
    suv_mean: float
    suv_peak: float
    suv_peak_inside: float
    tlg_g: float
    centroid_mm: Vector3
    hottest_mm: Vector3
    peak_mm: Vector3


@dataclass(frozen=True)
class LesionTotals:
    """Whole-body totals; all zero where there is no lesion.

    Attributes
    ----------
    lesions : int
    volume_ml, mtv_ml, tlg_g : float
        Sums.
    suv_max, suv_peak : float
        The highest of any lesion, g/mL.
    suv_mean : float
        Over the whole metabolic tumour volume, TLG / MTV, g/mL.
    spread_mm : float
        Largest distance between two lesion centroids (Dmax), mm; 0 for one lesion.
    spread_voxels_mm : float
        Largest distance between two voxel centres of any lesions, mm; of one lesion its length.
    """

    lesions: int = 0
    volume_ml: float = 0.0
    mtv_ml: float = 0.0
    tlg_g: float = 0.0
    suv_max: float = 0.0
    suv_mean: float = 0.0
    suv_peak: float = 0.0
    spread_mm: float = 0.0
    spread_voxels_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class LesionTable:
    """All lesions of one case and how they were counted.

    Attributes
    ----------
    lesions : tuple of Lesion
        In the order of their numbers, see `NUMBERING`.
    totals : LesionTotals
    numbered : Volume
        uint32, on the PET grid: the number of the lesion at each voxel, 0 elsewhere.
    connectivity : int
        6, 18 or 26.
    mtv_method : str
        See `suv_metrics.mtv_threshold`.
    min_volume_ml : float
        Components smaller than this were left out.
    left_out : int
        How many those were.
    left_out_ml : float
        Their volume together, mL.
    warnings : tuple of str
        What the reader of the numbers has to know, in plain words.
    """

    lesions: tuple[Lesion, ...]
    totals: LesionTotals
    numbered: Volume
    connectivity: int
    mtv_method: str
    min_volume_ml: float
    left_out: int
    left_out_ml: float
    warnings: tuple[str, ...] = ()


def measure_lesions(
    pet: Volume,
    mask: Volume,
    *,
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    mtv_method: str = "mask",
) -> LesionTable:
    """Return the lesion table of a PET and a mask on its grid.

    Parameters
    ----------
    pet : Volume
        SUV, g/mL.
    mask : Volume
        Whole numbers; every voxel that is not 0 belongs to a lesion. Lesions are its connected components.
    connectivity : int
        6, 18 (default, as autoPET counts) or 26.
    min_volume_ml : float
        Components below this volume are left out; how many and how much is stored.
    mtv_method : str
        "mask", "41%", "suv2.5", "suv4", ...; see `suv_metrics.mtv_threshold`.

    Raises
    ------
    GeometryError
        If the mask is not on the grid of the PET.
    InputError
        If the mask holds no labels, or the PET NaN or infinite voxels.
    UsageError
        For an unknown connectivity or rule, or a negative smallest volume.
    """
    require_same_grid(pet, mask, names=("the PET", "the lesion mask"))
    parse_mtv_method(mtv_method)
    if not (math.isfinite(min_volume_ml) and min_volume_ml >= 0):
        raise UsageError(f"min_volume_ml is a volume in mL, 0 or more; came {min_volume_ml!r}.")
    if not np.isfinite(pet.array).all():
        raise InputError("the PET holds NaN or infinite voxels; its SUV cannot be measured. Convert it again.")
    parts = connected_components(foreground(mask, name="the lesion mask"), connectivity=connectivity)
    voxel_ml = pet.voxel_volume_ml
    kernel = peak_kernel(pet.affine)
    measured: list[tuple[int, Lesion]] = []
    left_out = 0
    for label, (box, voxels) in enumerate(zip(parts.boxes, parts.voxels, strict=True), start=1):
        # A volume typed as 0.5 must keep a component of exactly 0.5 mL whatever the last bit of the product says.
        if voxels * voxel_ml < min_volume_ml * (1 - 1e-9):
            left_out += int(voxels)
            continue
        index = np.argwhere(parts.labels[box] == label) + [s.start for s in box]
        measured.append((label, _measure(pet, index, kernel, mtv_method)))
    measured.sort(key=lambda pair: _order(pair[1]))
    numbers = np.zeros(parts.count + 1, np.uint16 if parts.count < 2**16 else np.uint32)
    numbers[[label for label, _ in measured]] = np.arange(1, len(measured) + 1)
    lesions = tuple(replace(lesion, lesion=n) for n, (_, lesion) in enumerate(measured, start=1))
    numbered = pet.with_array(numbers[parts.labels])
    return LesionTable(
        lesions=lesions,
        totals=_totals(lesions, numbered),
        numbered=numbered,
        connectivity=connectivity,
        mtv_method=mtv_method,
        min_volume_ml=float(min_volume_ml),
        left_out=parts.count - len(lesions),
        left_out_ml=left_out * voxel_ml,
        warnings=_warnings(lesions, mtv_method),
    )


def _measure(pet: Volume, index: npt.NDArray[np.int64], kernel: PeakKernel, method: str) -> Lesion:
    """Return the numbers of one lesion from the indices (n, 3) of its voxels; its number is given later."""
    suv = pet.array[tuple(index.T)].astype(np.float64)
    hottest = int(suv.argmax())
    threshold = mtv_threshold(method, float(suv[hottest]))
    avid = suv if threshold is None else suv[suv >= threshold]
    peak = suv_peak(pet.array, index, kernel)
    voxel_ml = pet.voxel_volume_ml
    return Lesion(
        lesion=0,
        voxels=len(suv),
        volume_ml=len(suv) * voxel_ml,
        mtv_ml=len(avid) * voxel_ml,
        suv_max=float(suv[hottest]),
        suv_mean=float(avid.mean()) if len(avid) else math.nan,
        suv_peak=peak.suv,
        suv_peak_inside=peak.inside,
        tlg_g=float(avid.sum()) * voxel_ml,
        centroid_mm=_vector(pet.world_of(index.mean(axis=0))),
        hottest_mm=_vector(pet.world_of(index[hottest])),
        peak_mm=_vector(pet.world_of(np.array(peak.index))),
    )


def _order(lesion: Lesion) -> tuple[float, ...]:
    """Return the sort key of `NUMBERING`, in world space, so that turning the array does not renumber the lesions."""
    x, y, z = (round(value, 3) for value in lesion.centroid_mm)
    return -lesion.voxels, -z, -x, -y


def _totals(lesions: tuple[Lesion, ...], numbered: Volume) -> LesionTotals:
    if not lesions:
        return LesionTotals()
    mtv = math.fsum(lesion.mtv_ml for lesion in lesions)
    tlg = math.fsum(lesion.tlg_g for lesion in lesions)
    return LesionTotals(
        lesions=len(lesions),
        volume_ml=math.fsum(lesion.volume_ml for lesion in lesions),
        mtv_ml=mtv,
        tlg_g=tlg,
        suv_max=max(lesion.suv_max for lesion in lesions),
        suv_mean=tlg / mtv if mtv > 0 else 0.0,
        suv_peak=max(lesion.suv_peak for lesion in lesions),
        spread_mm=farthest_pair_mm(np.array([lesion.centroid_mm for lesion in lesions])),
        spread_voxels_mm=largest_extent_mm(numbered),
    )


def _warnings(lesions: tuple[Lesion, ...], method: str) -> tuple[str, ...]:
    notes = []
    cut = [lesion for lesion in lesions if lesion.suv_peak_inside < 1 - 1e-6]
    if cut:
        names = ", ".join(f"{lesion.lesion} ({lesion.suv_peak_inside:.0%} inside)" for lesion in cut[:10])
        more = f" and {len(cut) - 10} more" if len(cut) > 10 else ""
        notes.append(f"SUVpeak is over a sphere cut by the edge of the image for lesion {names}{more}.")
    beside = [lesion for lesion in lesions if lesion.suv_peak > lesion.suv_max]
    if beside:
        names = ", ".join(str(lesion.lesion) for lesion in beside[:10]) + (" ..." if len(beside) > 10 else "")
        notes.append(f"SUVpeak is above SUVmax in lesion {names}: its sphere takes in hotter tissue beside the lesion.")
    cold = [lesion for lesion in lesions if lesion.mtv_ml == 0]
    if cold:
        names = ", ".join(str(lesion.lesion) for lesion in cold[:10]) + (" ..." if len(cold) > 10 else "")
        notes.append(f"no voxel reaches the MTV threshold ({method}) in lesion {names}; MTV and TLG are 0 there.")
    return tuple(notes)


def _vector(point: FloatArray) -> Vector3:
    x, y, z = (float(value) for value in point)
    return x, y, z
