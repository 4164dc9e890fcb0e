"""One simulated patient: anatomy, FDG, lesions and the scan, from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.ndimage import binary_erosion

from uptake.cases import Case
from uptake.core.errors import UnitError, UsageError
from uptake.core.types import Affine, Vector3
from uptake.core.units import GRAMS_PER_KG, MM3_PER_ML
from uptake.geometry.volume import Volume
from uptake.simulation import abdomen, acquisition, body, chest, skeleton
from uptake.simulation.canvas import Canvas
from uptake.simulation.fdg import draw_tissues, draw_uptake
from uptake.simulation.fields import Line
from uptake.simulation.labels import ORGAN_IDS, ORGAN_NAMES, organ_id
from uptake.simulation.lesions import (
    MAX_LESIONS,
    Lesion,
    draw_count,
    draw_mimics,
    grow_lesions,
    measure_lesions,
)
from uptake.simulation.person import PatientConfig, Person, draw_person

FIELD_X_MM, FIELD_Y_MM = 560.0, 400.0
ABOVE_VERTEX_MM = 20.0
FIELD_END_MM = 1050.0
"""Lower end of the field, mid-thigh, as a depth below the vertex in the reference man's millimetres."""

SPACING_RANGE_MM = (1.5, 12.0)
MASS_BALANCE_RANGE = (0.75, 1.0)


@dataclass(frozen=True, eq=False)
class SimulatedPatient:
    """A simulated examination and everything that is known about it.

    Attributes
    ----------
    case : Case
        What a scanner would give: PET (SUV, float32), CT on the PET grid (HU, float32), binary lesion mask and organ
        labels (uint8), stored LPS as scanners store them.
    truth : Volume
        PET without noise, SUV: the activity through the scanner's blur.
    activity : Volume
        True activity before blur and noise, SUV.
    lesion_instances : Volume
        One number per lesion, uint8; 0 is none. Numbers are those of `lesion_table`.
    lesion_table : tuple of Lesion
    organ_names : mapping
        Organ label -> class name (TotalSegmentator's).
    parameters : mapping
        Everything that was drawn, plain JSON values.
    """

    case: Case
    truth: Volume
    activity: Volume
    lesion_instances: Volume
    lesion_table: tuple[Lesion, ...]
    organ_names: Mapping[int, str] = field(default_factory=lambda: ORGAN_NAMES)
    parameters: Mapping[str, object] = field(default_factory=dict)


def simulate_patient(
    seed: int,
    *,
    spacing_mm: Vector3 = (4.0, 4.0, 4.0),
    n_lesions: int | None = None,
    config: PatientConfig | None = None,
) -> SimulatedPatient:
    """Return an FDG PET/CT from the vertex to mid-thigh of a patient who does not exist.

    Parameters
    ----------
    seed : int
        >= 0. One seed is one patient: the same bytes on the same grid, the same person on another grid.
    spacing_mm : tuple of float
        Voxel size along left-right, front-back and head-foot, 1.5 to 12 mm.
    n_lesions : int or None
        Number of lesions, 0 to 60; None draws it, and 40 % of the patients then have none. A place that cannot hold
        another lesion can leave a patient with fewer.
    config : PatientConfig or None
        What is to be fixed: sex, size, arms, resolution, noise.

    Returns
    -------
    SimulatedPatient

    Raises
    ------
    UsageError
        If the seed or the number of lesions is not usable.
    UnitError
        If the voxel size is not.

    Examples
    --------
    >>> patient = simulate_patient(7, spacing_mm=(12.0, 12.0, 12.0), n_lesions=2)
    >>> patient.case.pet.orientation, len(patient.lesion_table)
    ('LPS', 2)
    """
    config = config or PatientConfig()
    spacing = _checked(seed, spacing_mm, n_lesions)
    # A stream for each step: another number of lesions leaves the anatomy and the noise as they were.
    person_rng, uptake_rng, anatomy_rng, lesion_rng, noise_rng = np.random.default_rng(seed).spawn(5)
    person = draw_person(person_rng, config)
    uptake = draw_uptake(uptake_rng, person)
    tissues = draw_tissues(uptake_rng, person, uptake)
    axes, affine = _grid(person, spacing)
    canvas = Canvas(person, tissues, axes, anatomy_rng)
    torso = body.draw_body(canvas, anatomy_rng)
    abdomen.draw_muscles(canvas)
    abdomen.draw_abdomen(canvas, torso, anatomy_rng)
    chest.draw_chest(canvas, torso, anatomy_rng, heart_pattern=uptake.heart_pattern)
    skeleton.draw_skeleton(canvas, torso)
    chest.draw_head(canvas, anatomy_rng)
    mimics = draw_mimics(canvas, lesion_rng, config)
    drawn = draw_count(lesion_rng, config.lesion_free_fraction)
    numbers, known = grow_lesions(canvas, lesion_rng, drawn if n_lesions is None else n_lesions)
    scale, balance = _balance(canvas, uptake.body_mean)
    activity = canvas.suv + np.float32(scale) * canvas.background_suv
    table = measure_lesions(numbers, activity, axes, known)
    truth = acquisition.scanner_blur(activity, config.psf_fwhm_mm, spacing)
    pet_rng, ct_rng = noise_rng.spawn(2)
    liver = binary_erosion(canvas.organs == organ_id("liver"), iterations=1)
    pet = acquisition.count_noise(pet_rng, truth, canvas.hu, liver, spacing,
                                  liver_cov=config.liver_cov, noise_fwhm_mm=config.noise_fwhm_mm)  # fmt: skip
    if config.table:
        _add_table(canvas)
    ct = acquisition.ct_noise(ct_rng, canvas.hu, spacing, sd_hu=config.ct_noise_hu)
    parameters: dict[str, object] = {
        "seed": seed,
        "tracer": "FDG",
        **asdict(person),
        "heart_pattern": uptake.heart_pattern,
        "suv": {name: round(value, 4) for name, value in uptake.suv.items()},
        "mass_balance": balance,
        "background_scale": scale,
        "mimics": mimics,
        "n_lesions": len(table),
        "psf_fwhm_mm": config.psf_fwhm_mm,
        "liver_cov": config.liver_cov,
        "simulated": True,
    }
    case = Case(
        id=f"simulated-{seed:04d}",
        pet=Volume(pet, affine),
        ct=Volume(ct, affine),
        lesions=Volume((numbers > 0).astype(np.uint8), affine),
        organs=Volume(canvas.organs, affine),
        acquisition={
            "tracer": "FDG",
            "units": "SUVbw g/mL",
            "simulated": True,
            "seed": seed,
            "weight_kg": person.weight_kg,
            "height_m": person.height_m,
            "sex": person.sex,
        },
    )
    return SimulatedPatient(case, Volume(truth, affine), Volume(activity, affine), Volume(numbers, affine), table,
                            parameters=parameters)  # fmt: skip


def _checked(seed: int, spacing_mm: Vector3, n_lesions: int | None) -> Vector3:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"the seed must be a whole number >= 0, came {seed!r}.")
    values = np.asarray(spacing_mm, dtype=np.float64)
    low, high = SPACING_RANGE_MM
    if values.shape != (3,) or not np.isfinite(values).all() or (values < low).any() or (values > high).any():
        raise UnitError(f"spacing_mm must be three voxel sizes from {low:g} to {high:g} mm, came {spacing_mm!r}.")
    if n_lesions is not None and (isinstance(n_lesions, bool) or not 0 <= n_lesions <= MAX_LESIONS):
        raise UsageError(f"n_lesions must lie between 0 and {MAX_LESIONS}, came {n_lesions!r}.")
    return float(values[0]), float(values[1]), float(values[2])


def _grid(person: Person, spacing: Vector3) -> tuple[tuple[Line, Line, Line], Affine]:
    """Return voxel centres in world mm along each array axis, and the affine: L, P and S, vertex at z = 0."""
    nx, ny = (2 * round(extent / s / 2) for extent, s in zip((FIELD_X_MM, FIELD_Y_MM), spacing[:2], strict=True))
    low = -FIELD_END_MM * person.scale_z
    nz = int(np.ceil((ABOVE_VERTEX_MM - low) / spacing[2]))
    x = np.asarray(((nx - 1) / 2 - np.arange(nx)) * spacing[0], dtype=np.float64)
    y = np.asarray(((ny - 1) / 2 - np.arange(ny)) * spacing[1], dtype=np.float64)
    z = np.asarray(low + (np.arange(nz) + 0.5) * spacing[2], dtype=np.float64)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (x[0], y[0], z[0])
    return (x, y, z), affine


def _balance(canvas: Canvas, target: float) -> tuple[float, float]:
    """Return the factor for muscle and fat that conserves the injected activity, and the balance it reaches.

    The activity of the whole body is the weight times (1 - voided share): its mean SUV is `target`. What lies outside
    the field, arms and lower legs, has the mean SUV of this patient's muscle and fat.
    """
    voxel_ml = float(np.prod(canvas.spacing_mm)) / MM3_PER_ML
    weight = canvas.person.weight_kg * GRAMS_PER_KG
    inside = mass_g(canvas.hu) * voxel_ml
    outside = max(weight - inside, 0.0)
    fixed = float(canvas.suv.sum(dtype=np.float64)) * voxel_ml
    background = float(canvas.background_suv.sum(dtype=np.float64)) * voxel_ml
    limb = 0.6 * canvas.tissues["muscle"].suv + 0.4 * canvas.tissues["fat"].suv
    wanted = (target * weight - fixed) / max(background + outside * limb, 1e-9)
    # Muscle stays between fat and blood: what cannot be balanced within these limits remains out of balance.
    blood, muscle = canvas.tissues["blood"].suv, canvas.tissues["muscle"].suv
    scale = float(np.clip(wanted, 0.55, min(1.6, 0.8 * blood / muscle)))
    return scale, (fixed + scale * (background + outside * limb)) / weight


def mass_g(hu: np.ndarray) -> float:
    """Return the sum over voxels of the density in g/mL that goes with the CT numbers (air 0, water 1, bone to 1.7)."""
    density = np.where(hu < 50, 1.0 + hu / 1000.0, 1.05 + 0.00055 * (hu - 50.0))
    return float(np.clip(density, 0.0, 2.0)[hu > -990].sum(dtype=np.float64))


def _add_table(canvas: Canvas) -> None:
    """Draw the couch: a shallow carbon-fibre trough under the back."""
    if canvas.body is None:
        return
    x, y, _ = canvas.axes_mm
    rows = np.flatnonzero((canvas.body > 0.5).any(axis=(0, 2)))
    lowest = float(y[rows[-1]]) if rows.size else -120.0
    arc = lowest - 6.0 + (x[:, None] / 200.0) ** 2 * 14.0 - y[None, :]
    cover = np.clip(0.5 - (np.abs(arc) - 3.0) / canvas.spacing_mm[1], 0, 1) * (np.abs(x[:, None]) < 205)
    cover = (cover[:, :, None] * (canvas.body < 0.05)).astype(np.float32)
    canvas.hu += cover * (np.float32(-250.0) - canvas.hu)


__all__ = ["ORGAN_IDS", "ORGAN_NAMES", "PatientConfig", "SimulatedPatient", "simulate_patient"]
