"""From CT numbers to attenuation at 511 keV, and from there to correction factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uptake.core.errors import UnitError
from uptake.core.types import FloatArray
from uptake.simulation.fields import Array

MU_WATER_PER_MM = 0.0096
"""Linear attenuation coefficient of water at 511 keV, 1/mm."""

LARGEST_LINE_INTEGRAL = 12.0
"""Beyond exp(-12) nothing arrives: 1.25 m of water. Keeps the factors finite where a couch or metal fills a line."""

SOFT_SLOPE_PER_CM = 9.6e-5

MU_MAP_FWHM_MM = 5.0
"""Blur of the map made from a CT before it corrects a PET: scanners bring it to about the resolution of the PET."""


@dataclass(frozen=True)
class BilinearScale:
    """Attenuation above the break point, ``slope * (HU + 1000) + intercept`` in 1/cm; below it, water's line."""

    slope: float
    intercept: float
    break_hu: float


BILINEAR_BY_KVP: dict[int, BilinearScale] = {
    80: BilinearScale(3.64e-5, 0.0626, 50.0),
    100: BilinearScale(4.43e-5, 0.0544, 52.0),
    110: BilinearScale(4.92e-5, 0.0488, 43.0),
    120: BilinearScale(5.10e-5, 0.0471, 47.0),
    130: BilinearScale(5.51e-5, 0.0424, 37.0),
    140: BilinearScale(5.64e-5, 0.0408, 30.0),
}
"""Tube voltage, kVp -> scale. Bone absorbs low energies strongly, so it needs less slope per HU the lower the voltage.

References
----------
Carney, Townsend, Rappoport, Bendriem, Med Phys 33(4), 2006, table II. doi:10.1118/1.2174132
"""


def attenuation_per_cm(hu: Array, *, kvp: int = 120) -> Array:
    """Return the linear attenuation coefficient at 511 keV, 1/cm, float32, >= 0, of CT numbers.

    Parameters
    ----------
    hu : array
        CT numbers of any shape.
    kvp : int
        Tube voltage of the CT: 80, 100, 110, 120, 130 or 140.

    Raises
    ------
    UnitError
        If the scale of this tube voltage is not known.
    """
    if kvp not in BILINEAR_BY_KVP:
        raise UnitError(f"no scale to 511 keV for {kvp!r} kVp; known are {sorted(BILINEAR_BY_KVP)}.")
    scale = BILINEAR_BY_KVP[kvp]
    hu = np.asarray(hu, dtype=np.float32)
    soft = np.float32(SOFT_SLOPE_PER_CM) * (hu + np.float32(1000.0))
    bone = np.float32(scale.slope) * (hu + np.float32(1000.0)) + np.float32(scale.intercept)
    return np.asarray(np.maximum(np.where(hu < scale.break_hu, soft, bone), 0.0), dtype=np.float32)


def attenuation_per_mm(hu: Array, *, kvp: int = 120) -> Array:
    """Return the linear attenuation coefficient at 511 keV, 1/mm; see `attenuation_per_cm`."""
    return np.asarray(attenuation_per_cm(hu, kvp=kvp) * np.float32(0.1), dtype=np.float32)


def survival(line_integrals: FloatArray) -> Array:
    """Return exp(-p), the probability that both photons leave the body, of line integrals p of attenuation."""
    return np.asarray(np.exp(-np.clip(line_integrals, 0.0, LARGEST_LINE_INTEGRAL)), dtype=np.float32)


def correction_factor(line_integrals: FloatArray) -> Array:
    """Return exp(+p), the attenuation correction factor (ACF) of line integrals p; 1 outside the body."""
    return np.asarray(1.0 / survival(line_integrals), dtype=np.float32)
