"""Can these numbers be SUV, can those be HU? Judged from physics, on the values alone.

PET, body-weight SUV in g/mL. Let C be a voxel and dV its volume.

1. *Mass balance.* SUV is activity per mL over dose per gram, and the activity in the image is at most the dose, so
   ``sum(C * dV)`` in g is at most the patient's weight. Above 500 kg the values are no SUV but Bq/mL, counts or any
   other larger unit. One SUV is dose/weight: 200 to 5000 Bq/mL, so that Bq/mL exceed the bound in any field of view
   that holds a limb or more.
2. *Mean.* For small crops, where mass balance has no grip: a mean over the whole image above SUV 50. Only a crop inside
   a bladder or a kidney can be that hot.
3. *Sign.* SUV is not negative but for noise. If more than 40 % of ``sum(|C|)`` is negative, the image is z-scored,
   mean-subtracted (exactly 50 %), or a CT.
4. *Scale.* By mass balance tissue averages about 1, so an image without a single voxel above 1 was scaled to [0, 1] or
   given in a smaller unit (MBq/mL), and one of whole numbers from exactly 0 to exactly 255 is an 8-bit picture.
5. One value everywhere is no image.

What this cannot see: kBq/mL (1 SUV is 0.2 to 5 of them), lean-body-mass or body-surface SUV, a wrong weight or dose, a
decay correction that is off. Only the header tells those apart. Overridden by `assume_suv=True` (``--assume-suv``).
"""

from __future__ import annotations

import numpy as np

from uptake.core.errors import UnitError
from uptake.core.types import Image
from uptake.core.units import GRAMS_PER_KG

LARGEST_MASS_KG = 500.0
LARGEST_MEAN_SUV = 50.0
LARGEST_NEGATIVE_SHARE = 0.4
SMALLEST_MAXIMUM_SUV = 1.0
EIGHT_BIT_MAXIMUM = 255.0

COLDEST_PET = -500.0
"""Below this a "PET" is a CT that was given in its place: air is -1000 HU."""

SMALLEST_CT_RANGE_HU = 100.0
"""Fat to muscle alone is 150 HU: a CT whose values span less was normalised, or is no CT."""

HIGHEST_AIR_HU = -200.0
"""Above fat (-100) and well above lung and air: a CT without any voxel below this was clipped or is all tissue."""

TISSUE_ONLY_VOLUME_ML = 1000.0
"""A field of view larger than this always holds fat or air."""


def pet_objection(voxels: Image, voxel_volume_ml: float) -> str | None:
    """Return why these voxels cannot be SUV, in one clause, or None if they can.

    Parameters
    ----------
    voxels : array (i, j, k)
        Finite values.
    voxel_volume_ml : float
        Of one voxel, mL.

    Notes
    -----
    The rules and their reasons stand at the top of this module.
    """
    low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        return f"every voxel is {low:g}"
    if low < COLDEST_PET:
        return f"values go down to {low:.0f}; that looks like a CT in Hounsfield units"
    total = float(voxels.sum(dtype=np.float64))
    size = float(np.abs(voxels).sum(dtype=np.float64))
    negative = (size - total) / (2.0 * size)
    if negative > LARGEST_NEGATIVE_SHARE:
        return (
            f"{negative:.0%} of the summed values is negative (allowed {LARGEST_NEGATIVE_SHARE:.0%}); the image looks "
            "normalised to zero mean"
        )
    if high <= SMALLEST_MAXIMUM_SUV:
        return f"no voxel is above {high:.3g}, while tissue averages about SUV 1; the image looks scaled"
    mean = total / voxels.size
    mass_kg = total * voxel_volume_ml / GRAMS_PER_KG
    if mass_kg > LARGEST_MASS_KG or mean > LARGEST_MEAN_SUV:
        return (
            f"mean {mean:.4g}, maximum {high:.4g}; read as SUV the field of view would hold a dose for "
            f"{mass_kg:.4g} kg "
            f"(allowed {LARGEST_MASS_KG:g} kg and mean {LARGEST_MEAN_SUV:g}). The values look like Bq/mL or counts"
        )
    if low == 0.0 and high == EIGHT_BIT_MAXIMUM and bool((voxels == np.rint(voxels)).all()):
        return "whole numbers from 0 to 255; that looks like an 8-bit picture"
    return None


def require_suv(voxels: Image, voxel_volume_ml: float, *, name: str = "PET") -> None:
    """Check that a PET can be in SUV.

    Raises
    ------
    UnitError
        If it plainly is not, with the reason, the file and how to override.
    """
    objection = pet_objection(voxels, voxel_volume_ml)
    if objection is not None:
        raise UnitError(
            f"{name}: the PET is plainly not in SUV: {objection}. Convert it (SUV = Bq/mL * weight in g / "
            "decay-corrected "
            "dose in Bq), or give the DICOM folder. If it is SUV all the same, pass assume_suv=True (--assume-suv)."
        )


def require_hu(voxels: Image, voxel_volume_ml: float, *, name: str = "CT") -> tuple[str, ...]:
    """Check that a CT can be in Hounsfield units, and return warnings for what is merely unusual.

    Refused are a range below 100 HU (normalised, or a PET), and a field of more than 1 L without a negative value but
    with values above 500 (stored without Rescale Intercept (0028,1052), or an MR).

    Raises
    ------
    UnitError
        If it plainly is not HU.
    """
    low, high = float(voxels.min()), float(voxels.max())
    if high - low < SMALLEST_CT_RANGE_HU:
        raise UnitError(
            f"{name}: the CT is plainly not in Hounsfield units: values span {low:g} to {high:g} (expected air near "
            "-1000 "
            "and bone above 300). Give the CT as it came from the scanner, or leave it out."
        )
    volume_ml = voxel_volume_ml * voxels.size
    if low >= 0 and high > 500 and volume_ml > TISSUE_ONLY_VOLUME_ML:
        raise UnitError(
            f"{name}: the CT is plainly not in Hounsfield units: no value is negative in {volume_ml / 1000:.1f} L "
            "(range "
            f"{low:g} to {high:g}). The rescale intercept is missing (add it, often -1024), or this is no CT."
        )
    if low > HIGHEST_AIR_HU:
        return (f"{name}: the CT holds no air (lowest value {low:g} HU): it was clipped, or shows tissue only.",)
    return ()
