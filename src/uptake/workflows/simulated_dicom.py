"""A simulated examination as a DICOM study of one vendor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

from uptake.core.errors import UsageError
from uptake.core.units import SECONDS_PER_MINUTE
from uptake.io.dicom_dialects import Dialect, dialect_named
from uptake.io.dicom_examination import Examination
from uptake.io.dicom_images import write_ct_series, write_pet_series
from uptake.simulation.counts import POSITRON_BRANCHING, Protocol
from uptake.simulation.scanner import scanner_named
from uptake.simulation.site import Site
from uptake.workflows.simulated import Simulated

FIRST_DAY = datetime(2020, 1, 6, 8, 0)
"""When the first of all simulated patients gets the injection."""

USUAL_SCANNER = {"ge": "D690", "siemens": "mCT", "philips": "Gemini TF", "uih": "uMI 550"}
"""The scanner of a vendor where none is named."""

PET_SERIES, CT_SERIES = 2, 1


@dataclass(frozen=True)
class DicomStyle:
    """How DICOM is written.

    Attributes
    ----------
    vendor : str or None
        A name in `io.dicom_dialects.DIALECTS`; None is the scanner's own.
    units, decay_correction : str or None
        Other than the vendor's habit; they need a vendor.
    """

    vendor: str | None = None
    units: str | None = None
    decay_correction: str | None = None

    def __post_init__(self) -> None:
        if self.vendor is None:
            if self.units or self.decay_correction:
                raise UsageError("units and decay correction go with a vendor; not every vendor can write them.")
            return
        object.__setattr__(self, "vendor", dialect_named(self.vendor).name)
        # What the vendor cannot write is refused here, before any work.
        _ = self.dialect(Site())

    def dialect(self, site: Site) -> Dialect:
        """Return the habits in which a site's images are written."""
        return dialect_named(self.vendor or site.scanner.vendor).storing(self.units, self.decay_correction)

    def scanner(self, named: str | None) -> str | None:
        """Return a scanner that writes these headers: the one that is named, or the vendor's usual one.

        Raises
        ------
        UsageError
            If the named one is of another vendor.
        """
        if self.vendor is None or self.vendor == "generic":
            return named
        if named is None:
            return USUAL_SCANNER[self.vendor]
        scanner = scanner_named(named)
        if scanner.vendor != self.vendor:
            raise UsageError(f"the {scanner.name} is by {scanner.vendor}, not by {self.vendor}; leave one of them out.")
        return scanner.name


def write_dicom_study(patient: Simulated, folder: Path, dialect: Dialect, *, request: Mapping[str, object]) -> None:
    """Write PT/ and CT/, and a series PT_dose_<fraction>/ for each further dose, marked as derived.

    Parameters
    ----------
    patient : Simulated
    folder : Path
    dialect : Dialect
    request : mapping
        What was asked for: UIDs are made from it.
    """
    facts = examination_of(patient, dialect, request=request)
    write_ct_series(patient.scan.ct, folder / "CT", facts, dialect, number=CT_SERIES)
    for number, (dose, pet) in enumerate(sorted(patient.scan.pet.items(), reverse=True), start=PET_SERIES):
        if dose == 1.0:
            write_pet_series(pet, folder / "PT", facts, dialect, number=number)
            continue
        name = f"{dose:g}"
        write_pet_series(
            pet, folder / f"PT_dose_{name}", facts, dialect, series=f"PET dose {name}", number=number, derived=True
        )


def examination_of(patient: Simulated, dialect: Dialect, *, request: Mapping[str, object]) -> Examination:
    """Return what the headers say about a simulated patient."""
    drawn, site = patient.parameters, patient.site
    protocol = Protocol(**cast(Mapping[str, float], patient.scan.parameters["protocol"]))
    injection = FIRST_DAY + timedelta(days=patient.seed % 3000, minutes=patient.seed * 7 % 540)
    key = hashlib.sha256(json.dumps([request, repr(dialect)], sort_keys=True, default=str).encode()).hexdigest()
    step = site.scanner.afov_mm * (1.0 - site.scanner.bed_overlap)
    filter_mm = site.recon.filter_fwhm_mm
    return Examination(
        key=key,
        case_id=patient.id,
        sex=str(drawn["sex"]),
        age_years=cast(float, drawn["age_years"]),
        weight_kg=patient.truth.weight_kg,
        height_m=cast(float, drawn["height_m"]),
        tracer=patient.truth.tracer,
        nuclide=patient.truth.radionuclide,
        injected_mbq=protocol.mbq_per_kg * patient.truth.weight_kg,
        injection=injection,
        start=injection + timedelta(seconds=round(protocol.uptake_min * SECONDS_PER_MINUTE)),
        seconds_per_bed=protocol.seconds_per_bed,
        bed_step_mm=step,
        positron_fraction=POSITRON_BRANCHING[patient.truth.radionuclide],
        scanner=site.scanner.name if site.scanner.vendor == dialect.name else "",
        reconstruction=f"{site.recon.iterations}i{site.recon.subsets}s",
        filter_fwhm_mm=filter_mm,
        kvp=site.ct.kvp,
        ct_slice_mm=site.ct.slice_mm,
    )
