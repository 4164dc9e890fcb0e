"""Low-dose twins of real full-dose PET images.

For a simulated patient the counts are there and are thinned (`petscan`). Of a real image only the reconstruction is
left. Its projections tell how many counts each line must have had, and from them the noise of any lower dose is made
where noise is made: in the counts, before the reconstruction. That noise alone is added to the image:

    k ~ Poisson(d' * y(x_full)),  x_low = x_full + OSEM(k) - OSEM(d' * y(x_full)),  d' = d / (1 - d)

The image already holds the noise of the full dose, of variance s²; noise of dose d' adds s² / d' = s² (1 - d) / d, so
the sum is s² / d, as if only a fraction d had been counted.

Levels are set by counts, not by a label: 5 % of a scan of a long scanner has more of them than all of a short one. The
count level of the full-dose image follows from the noise in its liver, or is given as noise-equivalent counts per
litre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from uptake.core.errors import InputError, UnitError, UsageError
from uptake.core.types import Mask
from uptake.geometry.grid import Grid, require_same_frame
from uptake.geometry.orientation import axis_change
from uptake.geometry.volume import Volume
from uptake.harmonise.resample import to_grid
from uptake.physics.plausibility import require_hu, require_suv
from uptake.simulation.attenuation import MU_MAP_FWHM_MM, MU_WATER_PER_MM, attenuation_per_mm
from uptake.simulation.body_map import attenuation_from_pet, body_box
from uptake.simulation.counts import CountRecord, Protocol, checked_fraction, expected_counts
from uptake.simulation.fields import Array, gaussian_blur
from uptake.simulation.noise_match import count_level, counting_noise, matched_filter, scaled
from uptake.simulation.osem import Recon
from uptake.simulation.projector import Projector, ScanGeometry
from uptake.simulation.reference import even_region, quiet_sphere
from uptake.simulation.scanner import scanner_named

NEGATIVE_TOLERANCE = 0.01
"""Share of the summed values that may be negative: interpolation and analytic reconstruction leave a little."""

USUAL_LIVER_COV = (0.02, 0.6)

NOISE_STREAM = 11


@dataclass(frozen=True, eq=False)
class LowDose:
    """A low-dose twin.

    Attributes
    ----------
    image : Volume
        SUV on the grid of the full-dose image, float32, not negative.
    fraction : float
    full_liver_cov : float
        SD / mean of the noise in the liver of the full-dose image; not a number where counts were given in its place.
    liver_cov : float
        Expected at this dose, noise of the full dose included.
    nec_per_litre : float
        Effective noise-equivalent counts per litre at this dose.
    counts : CountRecord
        At this dose.
    record : mapping
        Settings and what came out, plain JSON values.
    """

    image: Volume
    fraction: float
    full_liver_cov: float
    liver_cov: float
    nec_per_litre: float
    counts: CountRecord
    record: Mapping[str, object] = field(default_factory=dict)


def fraction_for(full: float, wanted: float, *, by: str = "nec_per_litre") -> float:
    """Return the dose fraction that brings a scan from one level to another.

    Parameters
    ----------
    full, wanted : float
        Level of the full-dose scan and of the scan wanted.
    by : {"nec_per_litre", "liver_cov"}
        Counts fall in proportion to the dose; noise grows with its inverse root.

    Raises
    ------
    UsageError
        If the wanted level is better than the full one, or not positive.
    """
    if by not in ("nec_per_litre", "liver_cov"):
        raise UsageError(f"a level is given by 'nec_per_litre' or 'liver_cov', came {by!r}.")
    if not (full > 0 and wanted > 0):
        raise UsageError(f"levels must be positive, came {full!r} and {wanted!r}.")
    fraction = wanted / full if by == "nec_per_litre" else (full / wanted) ** 2
    if fraction > 1:
        raise UsageError(f"the full-dose scan has {by} {full:g}; {wanted:g} would need a higher dose.")
    return float(fraction)


def low_dose_of(
    pet: Volume,
    ct: Volume | None,
    fraction: float,
    *,
    seed: int,
    liver: Mask | None = None,
    lungs: Mask | None = None,
    liver_cov: float | None = None,
    nec_per_litre: float | None = None,
    recon: Recon | None = None,
    scanner: str = "mCT",
    protocol: Protocol | None = None,
    nuclide: str = "F-18",
    threads: int = 1,
) -> LowDose:
    """Return the image that a fraction of the counts would have given, by injecting residual noise.

    Parameters
    ----------
    pet : Volume
        Full-dose PET, SUV, any orientation along the body's axes.
    ct : Volume or None
        HU in the same frame, on any grid; None makes attenuation from the PET itself (`body_map`), as water where
        there is body and no `lungs`.
    fraction : float
        In (0, 1]; 1 returns the image as it is.
    seed : int
    liver, lungs : array (i, j, k) bool or None
        On the grid of the PET. Without a liver the quietest sphere is looked for (`reference.quiet_sphere`). Lungs are
        used if there is no CT.
    liver_cov : float or None
        Noise of the full-dose image, SD / mean, where it is known; None matches the fine part of what is in the liver.
    nec_per_litre : float or None
        Count level of the full-dose image; overrides the noise in the liver.
    recon : Recon or None
        How the image was reconstructed: it shapes the noise. None is 2 x 16 OSEM with the filter, out of 0 to 8 mm,
        whose noise is correlated like that of the image.
    scanner, protocol, nuclide : str, Protocol, str
        For scatter and randoms relative to trues; the number of counts is calibrated.
    threads : int

    Raises
    ------
    UsageError
        For a fraction outside (0, 1], a seed below 0, or a mask of another shape.
    UnitError
        If the PET holds negative values or plainly is no SUV, or the CT is no HU.
    GeometryError
        If PET and CT are in different frames.
    InputError
        If no place for measuring noise is found and no level is given.

    Notes
    -----
    Voxels that the sum would make negative become 0; `record["clipped_share"]` says how many of those in the body.
    """
    fraction = checked_fraction(fraction)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"the seed must be a whole number >= 0, came {seed!r}.")
    _check_level(liver_cov, nec_per_litre)
    _check_pet(pet)
    change = axis_change(pet.affine, "LPS")
    array = np.ascontiguousarray(change.apply(pet.array), dtype=np.float32)
    image = Volume(array, pet.affine @ change.matrix(pet.shape), frame_of_reference=pet.frame_of_reference)
    spacing = image.spacing_mm
    liver, lungs = (
        None if mask is None else np.ascontiguousarray(change.apply(np.asarray(mask, dtype=bool)))
        for mask in (_on_grid(liver, pet, "liver"), _on_grid(lungs, pet, "lung"))
    )
    mu = attenuation_from_pet(image, lungs) if ct is None else _attenuation(image, ct)
    sphere = quiet_sphere(image, liver)
    region = None if sphere is None else even_region(image, sphere, liver)
    if nec_per_litre is None and region is None:
        raise InputError(
            "no sphere of 3 cm with even uptake was found to measure the noise in. Give a liver mask (liver=), or the "
            "count level of the image (nec_per_litre=)."
        )
    box = body_box(mu > 0.5 * MU_WATER_PER_MM, spacing)
    assumed = recon or Recon(2, 16, 0.0, 0.0)
    geometry = ScanGeometry.of_image(array[box].shape, spacing, subsets=assumed.subsets)
    projector = Projector(geometry, subsets=assumed.subsets, threads=threads)
    arriving = np.maximum(array[box], 0.0)
    expected, counts = expected_counts(arriving, np.ascontiguousarray(mu[box]), projector, spacing,
                                       scanner=scanner_named(scanner), protocol=protocol or Protocol(),
                                       nuclide=nuclide)  # fmt: skip
    if recon is None:
        assumed = matched_filter(array, region, box, expected, projector, assumed, spacing, seed)
    if nec_per_litre is not None:
        level = nec_per_litre / counts.nec_per_litre
        full_cov = liver_cov if liver_cov is not None else float("nan")
    else:
        assert region is not None
        level, full_cov = count_level(array[box], region[box], expected, projector, assumed, spacing, cov=liver_cov,
                                      seed=seed)  # fmt: skip
    full = counts.at(level)
    low = full.at(fraction)
    result, clipped = array, 0.0
    if fraction < 1.0:
        share = fraction / (1.0 - fraction)
        noise = counting_noise(scaled(expected, level * share), projector, assumed, spacing,
                       np.random.default_rng([seed, NOISE_STREAM, round(fraction * 1e9)]))  # fmt: skip
        result = array.copy()
        noise += result[box]
        inside = mu[box] > 0.5 * MU_WATER_PER_MM
        clipped = float((noise[inside] < 0).mean()) if inside.any() else 0.0
        result[box] = np.maximum(noise, 0.0)
    record: dict[str, object] = {
        "method": "residual injection",
        "fraction": fraction,
        "seed": int(seed),
        "recon": asdict(assumed),
        "filter_matched": recon is None,
        "scanner": scanner,
        "attenuation": "ct" if ct is not None else "pet",
        "full_liver_cov": full_cov if np.isfinite(full_cov) else None,
        "nec_per_litre_full": full.nec_per_litre,
        "nec_per_litre": low.nec_per_litre,
        "clipped_share": clipped,
    }
    back = change.inverse().apply(result)
    twin = pet.with_array(np.ascontiguousarray(back))
    return LowDose(twin, fraction, full_cov, full_cov * fraction**-0.5, low.nec_per_litre, low, record)


def _check_level(liver_cov: float | None, nec_per_litre: float | None) -> None:
    low, high = USUAL_LIVER_COV
    if liver_cov is not None and not low <= liver_cov <= high:
        raise UnitError(f"liver_cov is SD / mean and lies between {low:g} and {high:g}, came {liver_cov!r}.")
    if nec_per_litre is not None and not nec_per_litre > 0:
        raise UnitError(f"nec_per_litre must be positive, came {nec_per_litre!r}.")


def _check_pet(pet: Volume) -> None:
    values = np.asarray(pet.array, dtype=np.float32)
    if not np.isfinite(values).all():
        raise UnitError("the full-dose PET holds values that are not finite; expected SUV.")
    require_suv(values, pet.voxel_volume_ml, name="full-dose PET")
    negative = -float(values[values < 0].sum(dtype=np.float64))
    total = float(np.abs(values).sum(dtype=np.float64))
    if negative > NEGATIVE_TOLERANCE * total:
        raise UnitError(
            f"full-dose PET: {negative / total:.1%} of the summed values is negative (allowed "
            f"{NEGATIVE_TOLERANCE:.0%}); expected SUV of an iterative reconstruction."
        )


def _on_grid(mask: Mask | None, pet: Volume, name: str) -> Mask | None:
    if mask is not None and mask.shape != pet.shape:
        raise UsageError(f"the {name} mask has shape {mask.shape}, the PET {pet.shape}; give both on one grid.")
    return mask


def _attenuation(pet: Volume, ct: Volume) -> Array:
    """Return attenuation, 1/mm, on the grid of the PET at about its resolution."""
    require_same_frame(pet, ct, names=("the PET", "the CT"))
    require_hu(np.asarray(ct.array), ct.voxel_volume_ml)
    hu = to_grid(ct, Grid.of(pet), order=1, fill=-1000.0).array
    return gaussian_blur(attenuation_per_mm(hu), (MU_MAP_FWHM_MM,) * 3, pet.spacing_mm)
