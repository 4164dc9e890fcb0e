"""The SUV numbers of one mask as a whole, without its single lesions: what two masks of a scan are compared by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from uptake.core.errors import InputError
from uptake.core.types import Mask
from uptake.geometry.volume import Volume
from uptake.quantification.suv_metrics import PeakKernel, peak_kernel, suv_peak


@dataclass(frozen=True)
class SuvTotals:
    """SUV numbers of a mask.

    Attributes
    ----------
    mtv_ml : float
        Volume of the mask, mL; 0 for an empty one.
    tlg_g : float
        Sum of SUV times voxel volume, g; 0 for an empty mask.
    suv_max, suv_mean, suv_peak : float
        g/mL; NaN for an empty mask, which has none. SUVpeak as in `suv_metrics.suv_peak`, centred in the mask.
    """

    mtv_ml: float
    tlg_g: float
    suv_max: float
    suv_mean: float
    suv_peak: float


def suv_totals(pet: Volume, mask: Mask, *, kernel: PeakKernel | None = None) -> SuvTotals:
    """Return the SUV numbers of a mask (i, j, k) bool on the grid of the PET.

    Parameters
    ----------
    pet : Volume
        SUV, g/mL.
    mask : array (i, j, k) bool
    kernel : PeakKernel or None
        Of the PET's grid, where several masks are measured; None: made here.

    Raises
    ------
    InputError
        If the shapes differ or the mask is not boolean.
    """
    if mask.shape != pet.shape or mask.dtype != bool:
        raise InputError(f"a boolean mask of shape {pet.shape} is needed, came {mask.dtype} {mask.shape}.")
    index = np.argwhere(mask)
    if not len(index):
        return SuvTotals(0.0, 0.0, math.nan, math.nan, math.nan)
    suv = pet.array[mask].astype(np.float64)
    peak = suv_peak(pet.array, index, kernel or peak_kernel(pet.affine))
    return SuvTotals(
        mtv_ml=len(suv) * pet.voxel_volume_ml,
        tlg_g=float(suv.sum()) * pet.voxel_volume_ml,
        suv_max=float(suv.max()),
        suv_mean=float(suv.mean()),
        suv_peak=peak.suv,
    )
