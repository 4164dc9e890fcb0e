"""One simulated patient: anatomy, tracer, lesions and the scan, from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from scipy.ndimage import binary_erosion

from uptake.cases import Case
from uptake.core.errors import UnitError, UsageError
from uptake.core.types import Affine, Vector3
from uptake.geometry.volume import Volume
from uptake.simulation import abdomen, acquisition, body, bowel, chest, head, muscles, skeleton, vessels
from uptake.simulation.balance import balance, mass_g
from uptake.simulation.canvas import Canvas
from uptake.simulation.ct_numbers import draw_tissues
from uptake.simulation.fields import Line
from uptake.simulation.frame import (
    ABOVE_VERTEX_MM,
    EDGE_MM,
    FIELD_END_MM,
    FIELD_FRONT_MM,
    FIELD_MM,
    WIDE_FIELD_MM,
    Build,
    below_vertex_mm,
    build_of,
    person_frame,
)  # fmt: skip
from uptake.simulation.given_organs import GivenOrgans, given_organs, reserve_given
from uptake.simulation.label_map import LabelMap
from uptake.simulation.labels import ORGAN_IDS, ORGAN_NAMES, organ_id
from uptake.simulation.lesions import MAX_LESIONS, Lesion, draw_count, grow_lesions, measure_lesions
from uptake.simulation.map_frame import dome_of, landmarks_of, map_grid, volumes_in
from uptake.simulation.mimics import Mimic, draw_mimics
from uptake.simulation.organ_volumes import Condition, draw_condition, draw_volumes
from uptake.simulation.person import PatientConfig, Person, draw_person
from uptake.simulation.tracers import RADIONUCLIDES, Uptake, draw_uptake
from uptake.simulation.truth import Truth

SPACING_RANGE_MM = (1.5, 12.0)


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
        Everything that was drawn: name -> plain number, text or truth value, as a row of a table.
    mimics : tuple of Mimic
        Foci that are no lesions.
    """

    case: Case
    truth: Volume
    activity: Volume
    lesion_instances: Volume
    lesion_table: tuple[Lesion, ...]
    organ_names: Mapping[int, str] = field(default_factory=lambda: ORGAN_NAMES)
    parameters: Mapping[str, object] = field(default_factory=dict)
    mimics: tuple[Mimic, ...] = ()


def simulate_truth(
    seed: int,
    *,
    spacing_mm: Vector3 = (4.0, 4.0, 4.0),
    n_lesions: int | None = None,
    config: PatientConfig | None = None,
    anatomy: LabelMap | None = None,
) -> Truth:
    """Return activity, CT numbers and labels of a patient who does not exist, from the vertex to mid-thigh.

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
        What is to be fixed: tracer, sex, size, arms, contrast medium.
    anatomy : LabelMap or None
        Where the organs of a real person lie; what the map does not hold is drawn around them, in its world
        coordinates, as far as it reaches between vertex and mid-thigh.

    Returns
    -------
    Truth

    Raises
    ------
    UsageError
        If the seed or the number of lesions is not usable.
    UnitError
        If the voxel size is not.
    InputError
        If the label map does not tell where in the body it lies.

    Examples
    --------
    >>> truth = simulate_truth(7, spacing_mm=(12.0, 12.0, 12.0), n_lesions=2, config=PatientConfig(tracer="DOTATATE"))
    >>> truth.radionuclide, len(truth.lesion_table)
    ('Ga-68', 2)
    """
    config = config or PatientConfig()
    spacing = _checked(seed, spacing_mm, n_lesions)
    # A stream for each step: another number of lesions leaves the anatomy as it was.
    person_rng, organ_rng, uptake_rng, anatomy_rng, lesion_rng = np.random.default_rng(seed).spawn(5)
    marks = None if anatomy is None else landmarks_of(anatomy)
    if marks is not None and marks.male:
        config = replace(config, sex=config.sex or "male")
    person = draw_person(person_rng, config, height_m=None if marks is None else marks.height_m)
    condition = draw_condition(organ_rng, person, config if anatomy is None else replace(config, conditions=False))
    volumes = draw_volumes(organ_rng, person, condition)
    if anatomy is not None:
        volumes = volumes_in(anatomy, volumes)
    uptake = draw_uptake(uptake_rng, person, config.tracer)
    tissues, contrast = draw_tissues(uptake_rng, person, uptake, config.contrast)
    build = build_of(person, volumes)
    if anatomy is None or marks is None:
        girth = body.girth_of(person, build, volumes, FIELD_END_MM)
        axes, affine = _grid(person, build, girth, spacing)
        canvas = Canvas(person, tissues, axes, person_frame(person, build, axes[2], anatomy_rng), anatomy_rng)
        paint_person(canvas, anatomy_rng, girth, volumes, condition, uptake)
    else:
        build = replace(build, dome_mm=dome_of(anatomy, marks, person, build))
        girth = body.girth_of(person, build, volumes, FIELD_END_MM)
        axes, affine, frame = map_grid(anatomy, marks, person, build, girth, spacing)
        canvas = Canvas(person, tissues, axes, frame, anatomy_rng)
        canvas.dome_mm = build.dome_mm
        given = given_organs(anatomy, canvas)
        paint_person(canvas, anatomy_rng, girth, volumes, condition, uptake, given=given)
    drawn = _Drawn(seed, person, condition, volumes, uptake, contrast, anatomy is not None)
    return _finish(canvas, affine, lesion_rng, n_lesions, config, drawn)


def paint_person(
    canvas: Canvas,
    rng: np.random.Generator,
    girth: body.Girth,
    volumes: Mapping[str, float],
    condition: Condition,
    uptake: Uptake,
    *,
    given: GivenOrgans | None = None,
) -> body.Torso:
    """Paint a whole person without lesions: soft tissue, bones, muscles, vessels, then organs from firm to pliable."""
    streams = rng.spawn(7)
    if given is None:
        torso = body.draw_body(canvas, streams[0], girth)
    else:
        torso = body.draw_body(canvas, streams[0], girth, around=given.inside, outline_given=given.outline)
        reserve_given(canvas, given)
    skeleton.draw_skeleton(canvas, torso, hip_prosthesis=condition.hip_prosthesis)
    vessels.draw_vessels(canvas, torso.dome_mm)
    muscles.draw_muscles(canvas, torso, streams[1])
    head.draw_head(canvas, streams[2], volumes)
    torso = chest.draw_chest(
        canvas, torso, streams[3], volumes, heart_pattern=uptake.heart_pattern, effusion=condition.effusion
    )
    canvas.dome_mm = torso.dome_mm
    abdomen.draw_abdomen(canvas, torso, streams[4], volumes)
    abdomen.draw_pelvis(canvas, streams[5], volumes)
    bowel.draw_bowel(canvas, torso, streams[6], volumes, segment_sigma=uptake.bowel_sigma)
    return torso


@dataclass(frozen=True)
class _Drawn:
    """What was drawn before anything was painted."""

    seed: int
    person: Person
    condition: Condition
    volumes: Mapping[str, float]
    uptake: Uptake
    contrast: str
    from_map: bool


def _finish(
    canvas: Canvas, affine: Affine, rng: np.random.Generator, n_lesions: int | None, config: PatientConfig,
    drawn: _Drawn,
) -> Truth:  # fmt: skip
    """Add mimics and lesions, balance the activity and write down what is known."""
    person, uptake = drawn.person, drawn.uptake
    mimic_rng, growth_rng = rng.spawn(2)
    mimics = draw_mimics(canvas, mimic_rng, config)
    count = draw_count(growth_rng, config.lesion_free_fraction)
    numbers, known = grow_lesions(canvas, growth_rng, count if n_lesions is None else n_lesions, config.tracer)
    activity, weighed = balance(canvas, uptake, numbers)
    table = measure_lesions(numbers, activity, canvas.axes_mm, known)
    parameters: dict[str, object] = {
        "seed": drawn.seed,
        "simulated": True,
        "anatomy": "label map" if drawn.from_map else "drawn",
        "tracer": config.tracer,
        "radionuclide": RADIONUCLIDES[config.tracer],
        **{name: _plain(value) for name, value in asdict(person).items()},
        **asdict(drawn.condition),
        "contrast": drawn.contrast,
        "heart_pattern": uptake.heart_pattern,
        **uptake.drawn,
        **weighed,
        "n_lesions": len(table),
        "lesion_volume_ml": round(sum(lesion.volume_ml for lesion in table), 3),
        "mimics": "; ".join(f"{m.kind} {m.place}" for m in mimics),
        **{f"ml_{name}": round(value, 3) for name, value in drawn.volumes.items()},
        **{f"suv_{name}": round(value, 4) for name, value in uptake.suv.items()},
        **{f"hu_{name}": round(tissue.hu, 1) for name, tissue in canvas.tissues.items()},
    }
    return Truth(
        activity=Volume(activity, affine),
        hu=Volume(canvas.hu, affine),
        organs=Volume(canvas.organs, affine),
        lesions=Volume(numbers, affine),
        weight_kg=person.weight_kg,
        tracer=config.tracer,
        radionuclide=RADIONUCLIDES[config.tracer],
        lesion_table=table,
        parameters=parameters,
        mimics=mimics,
    )


def _plain(value: object) -> object:
    return round(value, 6) if isinstance(value, float) else value


def simulate_patient(
    seed: int,
    *,
    spacing_mm: Vector3 = (4.0, 4.0, 4.0),
    n_lesions: int | None = None,
    config: PatientConfig | None = None,
) -> SimulatedPatient:
    """Return a PET/CT from the vertex to mid-thigh of a patient who does not exist.

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
        What is to be fixed: tracer, sex, size, arms, resolution, noise.

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
    known = simulate_truth(seed, spacing_mm=spacing_mm, n_lesions=n_lesions, config=config)
    spacing, affine = known.activity.spacing_mm, known.activity.affine
    pet_rng, ct_rng = np.random.default_rng([seed, 1]).spawn(2)
    seen = acquisition.scanner_blur(known.activity.array, config.psf_fwhm_mm, spacing)
    liver = binary_erosion(known.organs.array == organ_id("liver"), iterations=1)
    hu = known.hu.array
    pet = acquisition.count_noise(pet_rng, seen, hu, liver, spacing,
                                  liver_cov=config.liver_cov, noise_fwhm_mm=config.noise_fwhm_mm)  # fmt: skip
    if config.table:
        hu = _with_table(hu, known.organs)
    ct = acquisition.ct_noise(ct_rng, hu, spacing, sd_hu=config.ct_noise_hu)
    parameters = {**known.parameters, "psf_fwhm_mm": config.psf_fwhm_mm, "liver_cov": config.liver_cov}
    case = Case(
        id=f"simulated-{seed:04d}",
        pet=Volume(pet, affine),
        ct=Volume(ct, affine),
        lesions=Volume((known.lesions.array > 0).astype(np.uint8), affine),
        organs=known.organs,
        acquisition={
            "tracer": known.tracer,
            "units": "SUVbw g/mL",
            "simulated": True,
            "seed": seed,
            "weight_kg": known.parameters["weight_kg"],
            "height_m": known.parameters["height_m"],
            "sex": known.parameters["sex"],
        },
    )
    return SimulatedPatient(case, Volume(seen, affine), known.activity, known.lesions, known.lesion_table,
                            parameters=parameters, mimics=known.mimics)  # fmt: skip


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


def _grid(person: Person, build: Build, girth: body.Girth, spacing: Vector3) -> tuple[tuple[Line, Line, Line], Affine]:
    """Return voxel centres in world mm along each array axis, and the affine: L, P and S, vertex at z = 0."""
    half, deep = FIELD_MM[0] / 2 - EDGE_MM, FIELD_MM[1] / 2 - EDGE_MM
    fits = girth.half_width_mm < half and max(girth.front_mm - FIELD_FRONT_MM, girth.back_mm + FIELD_FRONT_MM) < deep
    field = FIELD_MM if fits else WIDE_FIELD_MM
    nx, ny = (2 * round(extent / s / 2) for extent, s in zip(field, spacing[:2], strict=True))
    low = -below_vertex_mm(person, build, FIELD_END_MM)
    nz = int(np.ceil((ABOVE_VERTEX_MM - low) / spacing[2]))
    x = np.asarray(((nx - 1) / 2 - np.arange(nx)) * spacing[0], dtype=np.float64)
    y = np.asarray(FIELD_FRONT_MM + ((ny - 1) / 2 - np.arange(ny)) * spacing[1], dtype=np.float64)
    z = np.asarray(low + (np.arange(nz) + 0.5) * spacing[2], dtype=np.float64)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (x[0], y[0], z[0])
    return (x, y, z), affine


def _with_table(hu: np.ndarray, organs: Volume) -> np.ndarray:
    """Return the CT numbers with the couch drawn in: a shallow carbon-fibre trough under the back."""
    inside = organs.array > 0
    shape, spacing = organs.shape, organs.spacing_mm
    x, y = (organs.affine[axis, 3] + organs.affine[axis, axis] * np.arange(shape[axis]) for axis in (0, 1))
    rows = np.flatnonzero(inside.any(axis=(0, 2)))
    lowest = float(y[rows[-1]]) if rows.size else -120.0
    arc = lowest - 6.0 + (x[:, None] / 200.0) ** 2 * 14.0 - y[None, :]
    cover = np.clip(0.5 - (np.abs(arc) - 3.0) / spacing[1], 0, 1) * (np.abs(x[:, None]) < 205)
    cover = (cover[:, :, None] * ~inside).astype(np.float32)
    return np.asarray(hu + cover * (np.float32(-250.0) - hu), dtype=np.float32)


__all__ = [
    "ORGAN_IDS", "ORGAN_NAMES", "PatientConfig", "SimulatedPatient", "mass_g", "paint_person", "simulate_patient",
    "simulate_truth",
]  # fmt: skip
