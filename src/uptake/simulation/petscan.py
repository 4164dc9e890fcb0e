"""A PET/CT examination of a simulated patient: one truth in, images at any number of doses out.

Images of different doses share everything but the counts: patient, motion, CT, attenuation, scatter and reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

from uptake.core.errors import UsageError
from uptake.core.types import Vector3
from uptake.geometry.volume import Volume
from uptake.physics.decay import decay_factor
from uptake.physics.radionuclides import RADIONUCLIDES
from uptake.simulation.attenuation import MU_MAP_FWHM_MM, attenuation_per_mm
from uptake.simulation.body_map import body_box
from uptake.simulation.counts import CountRecord, Protocol, checked_fraction, draw_counts, expected_counts, thinned
from uptake.simulation.ct import add_contrast, add_couch, ct_image
from uptake.simulation.fields import Array, gaussian_blur
from uptake.simulation.misalignment import BreathingField, CtFrame, Motion, ct_frame, draw_motion
from uptake.simulation.osem import Measurement, Sensitivity, reconstruct
from uptake.simulation.projector import Projector, ScanGeometry
from uptake.simulation.reference import quiet_sphere, relative_spread
from uptake.simulation.resolution import detector_blur
from uptake.simulation.site import Site, patient_protocol
from uptake.simulation.truth import Truth

Backend = Literal["sparse", "parallelproj"]

SITE_STREAM, MOTION_STREAM, CT_STREAM, COUNT_STREAM, THIN_STREAM = range(5)


@dataclass(frozen=True, eq=False)
class PetCtScan:
    """What the scanner gives, and what is known about it.

    Attributes
    ----------
    pet : mapping
        Dose fraction -> image, SUV, float32.
    noise_free : Volume or None
        Reconstruction of the expected counts: what an endless scan would show.
    activity : Volume
        True SUV averaged over the breathing cycle, without blur.
    ct : Volume
        CT, whole HU, in its own frame on the same grid.
    frame : CtFrame
        True CT numbers and labels in the frame of the CT, and the field between the frames.
    counts : CountRecord
        Of the full dose; `counts.at(fraction)` of the others.
    liver_cov : mapping
        Dose fraction -> SD / mean in a 3-cm sphere in the evenest part of the liver; empty without a liver.
    parameters : mapping
        Site, protocol, motion and counts, plain JSON values.
    """

    pet: Mapping[float, Volume]
    noise_free: Volume | None
    activity: Volume
    ct: Volume
    frame: CtFrame
    counts: CountRecord
    liver_cov: Mapping[float, float] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)


def scan_patient(
    truth: Truth,
    site: Site | None = None,
    *,
    seed: int,
    fractions: Sequence[float] = (1.0,),
    protocol: Protocol | None = None,
    motion: Motion | None = None,
    noise_free: bool = False,
    threads: int = 1,
    backend: Backend = "sparse",
) -> PetCtScan:
    """Return the PET/CT that a site takes of a patient.

    Parameters
    ----------
    truth : Truth
        Contrast medium is given here (`ct.add_contrast`) if the site uses it and `parameters["contrast"]` does not say
        that the patient already has some.
    site : Site or None
        None is a Siemens mCT with usual settings and no errors.
    seed : int
        >= 0. Counts, CT noise, motion and the patient's protocol; each has its own stream, so that a further dose
        fraction leaves the other images as they are.
    fractions : sequence of float
        Dose fractions in (0, 1]; each is thinned from the full-dose counts.
    protocol, motion : Protocol, Motion or None
        None draws them for this patient; `Motion()` is no motion at all.
    noise_free : bool
        Also reconstruct the expected counts.
    threads : int
        Slabs of slices projected at a time; the result does not depend on it.
    backend : {"sparse", "parallelproj"}
        What projects; see `parallelproj_backend`.

    Raises
    ------
    UsageError
        For a fraction outside (0, 1], or none at all.
    """
    wanted = [checked_fraction(fraction) for fraction in fractions]
    if not wanted or isinstance(seed, bool) or seed < 0:
        raise UsageError(f"a scan needs a dose fraction and a seed >= 0, came {list(fractions)!r} and {seed!r}.")
    site = site or Site()
    stream = [np.random.default_rng([seed, n]) for n in range(4)]
    protocol = protocol or patient_protocol(site, truth.weight_kg, stream[SITE_STREAM])
    motion = draw_motion(stream[MOTION_STREAM], site.breath_hold) if motion is None else motion
    if truth.parameters.get("contrast", "none") == "none":
        truth = add_contrast(truth, site.ct.phase)
    grid, spacing = truth.activity, truth.activity.spacing_mm
    breathing = BreathingField(truth, ap_share=motion.ap_share)
    frame = ct_frame(truth, motion, breathing)
    activity = breathing.mean_over_cycle(truth.activity, motion.amplitude_mm)
    back_is_last = grid.affine[1, 1] < 0
    body = truth.organs.array > 0
    hu = breathing.mean_over_cycle(truth.hu, motion.amplitude_mm).array
    hu = add_couch(hu, body, spacing, site.ct.couch, back_is_last=back_is_last)
    hu_ct = add_couch(frame.hu.array, body, spacing, site.ct.couch, back_is_last=back_is_last)
    box = body_box(body | (hu > -900.0), spacing)
    geometry = ScanGeometry.of_image(hu[box].shape, spacing, subsets=site.recon.subsets)
    projector = _projector(backend)(geometry, subsets=site.recon.subsets, threads=threads)
    ct = np.full(grid.shape, -1000.0, np.float32)
    ct[box] = ct_image(np.ascontiguousarray(hu_ct[box]), projector, spacing, site.ct, stream[CT_STREAM])
    arriving = detector_blur(
        np.ascontiguousarray(activity.array[box]),
        spacing,
        fwhm_mm=site.scanner.fwhm_mm,
        fwhm_edge_mm=site.scanner.fwhm_edge_mm,
        nuclide=truth.radionuclide,
    )
    mu = attenuation_per_mm(np.ascontiguousarray(hu[box]))
    expected, counts = expected_counts(
        arriving, mu, projector, spacing, scanner=site.scanner, protocol=protocol, nuclide=truth.radionuclide
    )
    corrected = _believed(expected, mu, ct[box], site.ct.kvp, projector, spacing)
    error = site.calibration * _clock_factor(site.clock_error_s, truth.radionuclide)

    sensitivity = Sensitivity(corrected.factor, projector, site.recon, spacing)

    def image(measurement: Measurement) -> Volume:
        full = np.zeros(grid.shape, np.float32)
        full[box] = reconstruct(measurement, projector, site.recon, spacing, sensitivity=sensitivity)
        full[box] *= np.float32(error)
        return grid.with_array(full)

    ideal = image(corrected) if noise_free else None
    measured = Measurement(draw_counts(expected.counts, stream[COUNT_STREAM]), corrected.factor, corrected.background)
    pets: dict[float, Volume] = {}
    for fraction in wanted:
        part = measured
        if fraction < 1.0:
            # The stream depends on the fraction alone, not on which others are asked for.
            part = thinned(measured, fraction, np.random.default_rng([seed, THIN_STREAM, round(fraction * 1e9)]))
        pets[fraction] = image(part)
    liver = truth.mask("liver") & (truth.lesions.array == 0)
    # Placed on the truth: a sphere chosen in the image for being quiet would underrate the noise.
    sphere = quiet_sphere(activity, liver) if liver.any() else None
    cov = {f: relative_spread(pet.array, sphere) for f, pet in pets.items()} if sphere is not None else {}
    parameters: dict[str, object] = {
        "site": site.as_json(),
        "protocol": asdict(protocol),
        "motion": asdict(motion),
        "counts": {name: float(value) for name, value in asdict(counts).items()},
        "liver_cov": {f"{f:g}": round(value, 4) for f, value in cov.items()},
        "seed": int(seed),
    }
    return PetCtScan(pets, ideal, activity, grid.with_array(ct), frame, counts, cov, parameters)


def _projector(backend: Backend) -> type[Projector]:
    if backend == "sparse":
        return Projector
    if backend == "parallelproj":
        from uptake.simulation.parallelproj_backend import ParallelprojProjector

        return ParallelprojProjector
    raise UsageError(f"the backend is 'sparse' or 'parallelproj', came {backend!r}.")


def _believed(
    expected: Measurement, mu: Array, ct: Array, kvp: int, projector: Projector, spacing: Vector3
) -> Measurement:
    """Return the measurement as the scanner understands it: attenuation from its own CT, which may not fit."""
    assumed = attenuation_per_mm(ct, kvp=kvp)
    assumed = gaussian_blur(assumed, (MU_MAP_FWHM_MM,) * 3, spacing, mode="nearest")
    # One projection of the difference turns the true factor into the assumed one.
    ratio = projector.apply(assumed - mu)
    factor = expected.factor * np.exp(-np.clip(ratio, -6.0, 6.0, out=ratio))
    return Measurement(expected.counts, factor, expected.background)


def _clock_factor(error_s: float, nuclide: str) -> float:
    half_life = next(n.half_life_s for n in RADIONUCLIDES if n.name == nuclide)
    return 1.0 / decay_factor(error_s, half_life)
