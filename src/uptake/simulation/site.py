"""A centre: its scanner, its habits and its errors, drawn once; and the small differences from patient to patient."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import cast

import numpy as np

from uptake.core.errors import UsageError
from uptake.simulation.counts import Protocol
from uptake.simulation.ct import Couch, CtSettings, Phase
from uptake.simulation.misalignment import BreathHold
from uptake.simulation.osem import Recon
from uptake.simulation.scanner import SCANNERS, Scanner, scanner_named

SUBSETS_BY_VENDOR: dict[str, tuple[tuple[int, int], ...]] = {
    "siemens": ((2, 21), (3, 21), (4, 5)),
    "ge": ((2, 16), (2, 24), (3, 16)),
    "philips": ((3, 17), (2, 33)),
    "uih": ((2, 20), (3, 20), (4, 20)),
}
"""Iterations x subsets that sites of a vendor use."""

LONG_FIELD_MM = 700.0
MBQ_MIN_PER_KG, LONG_MBQ_MIN_PER_KG = 6.5, 15.0
"""Median of injected activity times minutes per bed position and kg, of usual and of long scanners."""

CALIBRATION_SD, LARGEST_CALIBRATION = 0.04, 0.10
CLOCK_SD_S = 60.0
WEIGHT_OF_RULE_KG = 75.0


@dataclass(frozen=True)
class Site:
    """One centre.

    Attributes
    ----------
    name : str
    scanner : Scanner
    protocol : Protocol
        For a patient of 75 kg where `square_rule` holds.
    recon : Recon
    ct : CtSettings
    breath_hold : {"free", "expiration", "inspiration"}
        How the CT is taken.
    square_rule : bool
        Activity grows with the square of the weight, so that images of heavy patients are no noisier.
    calibration : float
        Factor by which every SUV of the site is off.
    clock_error_s : float
        Dose calibrator's clock against the scanner's: a wrong decay correction.
    """

    name: str = "default"
    scanner: Scanner = field(default_factory=lambda: SCANNERS["mCT"])
    protocol: Protocol = field(default_factory=Protocol)
    recon: Recon = field(default_factory=Recon)
    ct: CtSettings = field(default_factory=CtSettings)
    breath_hold: BreathHold = "free"
    square_rule: bool = False
    calibration: float = 1.0
    clock_error_s: float = 0.0

    def as_json(self) -> dict[str, object]:
        """Return every setting as plain JSON values."""
        return {**asdict(self), "scanner": self.scanner.name, "vendor": self.scanner.vendor}


def draw_site(rng: np.random.Generator, *, name: str = "site", scanner: str | None = None) -> Site:
    """Return a centre of a multi-centre cohort.

    Parameters
    ----------
    rng : numpy.random.Generator
    name : str
    scanner : str or None
        One of `scanner.SCANNERS`; None draws it.

    Notes
    -----
    Everything is drawn whether it is used or not, so that fixing the scanner leaves the rest as it was.
    """
    which, recon_which, kvp_which, phase_which, hold_which, couch_which = rng.uniform(size=6)
    psf_which, rule_which, filter_draw, noise_draw, kernel, slice_draw, activity, low_dose = rng.uniform(size=8)
    product_draw, calibration, clock, uptake, offset = rng.standard_normal(5)
    model = list(SCANNERS.values())[int(which * len(SCANNERS))] if scanner is None else scanner_named(scanner)
    options = SUBSETS_BY_VENDOR[model.vendor]
    iterations, subsets = options[int(recon_which * len(options))]
    psf = psf_which < 0.6
    long = model.afov_mm >= LONG_FIELD_MM
    per_kg = 2.0 + 3.5 * activity
    minutes = (LONG_MBQ_MIN_PER_KG if long else MBQ_MIN_PER_KG) * float(np.exp(0.25 * product_draw)) / per_kg
    limits = (120.0, 900.0) if long else (60.0, 240.0)
    phases: tuple[tuple[float, Phase], ...] = ((0.6, "none"), (0.95, "portal"), (1.0, "arterial"))
    holds: tuple[tuple[float, BreathHold], ...] = ((0.65, "free"), (0.85, "expiration"), (1.0, "inspiration"))
    voltages = ((0.65, 120), (0.8, 100), (0.92, 140), (0.97, 130), (1.0, 80))
    couches: tuple[tuple[float, Couch], ...] = ((0.8, "curved"), (1.0, "flat"))
    sections = (2.0, 2.5, 3.0, 3.27, 3.75, 5.0)
    return Site(
        name=name,
        scanner=model,
        protocol=Protocol(
            mbq_per_kg=round(float(per_kg), 2),
            uptake_min=float(np.clip(62.0 + 5.0 * uptake, 45.0, 90.0)),
            seconds_per_bed=float(round(np.clip(60.0 * minutes, *limits))),
        ),
        recon=Recon(
            iterations,
            subsets,
            psf_fwhm_mm=round(1.05 * model.fwhm_mm, 2) if psf else 0.0,
            filter_fwhm_mm=round(float(3.0 * filter_draw) + (2.0 if psf else 4.0), 1),
        ),
        ct=CtSettings(
            kvp=cast(int, _pick(voltages, kvp_which)),
            noise_hu=round(float(18.0 + 17.0 * noise_draw if low_dose < 0.6 else 8.0 + 6.0 * noise_draw), 1),
            kernel_sigma_mm=round(float(0.4 + 0.8 * kernel), 2),
            slice_mm=sections[int(slice_draw * len(sections))],
            offset_hu=round(float(np.clip(2.0 * offset, -4.0, 4.0)), 1),
            phase=cast(Phase, _pick(phases, phase_which)),
            couch=cast(Couch, _pick(couches, couch_which)),
        ),
        breath_hold=cast(BreathHold, _pick(holds, hold_which)),
        square_rule=bool(rule_which < 0.15),
        calibration=1.0 + float(np.clip(CALIBRATION_SD * calibration, -LARGEST_CALIBRATION, LARGEST_CALIBRATION)),
        clock_error_s=float(np.clip(CLOCK_SD_S * clock, -180.0, 180.0)),
    )


def patient_protocol(site: Site, weight_kg: float, rng: np.random.Generator) -> Protocol:
    """Return what one patient gets: the site's protocol by weight, with the scatter of a working day.

    Parameters
    ----------
    site : Site
    weight_kg : float
    rng : numpy.random.Generator
        Activity varies by 5 %, the uptake time by 5 min (late more than early).
    """
    if not weight_kg > 0:
        raise UsageError(f"the weight must be positive, came {weight_kg!r} kg.")
    activity, late = rng.standard_normal(2)
    rule = weight_kg / WEIGHT_OF_RULE_KG if site.square_rule else 1.0
    return replace(
        site.protocol,
        mbq_per_kg=float(site.protocol.mbq_per_kg * rule * np.exp(0.05 * activity)),
        uptake_min=float(max(site.protocol.uptake_min + (5.0 if late > 0 else 3.0) * late, 30.0)),
    )


def _pick(options: tuple[tuple[float, object], ...], draw: float) -> object:
    """Return the first option whose cumulative share exceeds the draw."""
    return next((value for share, value in options if draw < share), options[-1][1])
