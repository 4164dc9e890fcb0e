"""From activity concentration to standardised uptake value: a plain record of what a header says, and the factor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.core.types import Image
from uptake.core.units import BQ_PER_MBQ, GRAMS_PER_KG
from uptake.physics.decay import decay_factor
from uptake.physics.radionuclides import require_half_life

SMALLEST_DOSE_BQ = 1.0e4
"""A dose below this is a value in MBq: 10 kBq cannot be imaged, and 10 GBq are given to nobody."""

LARGEST_WEIGHT_KG = 1000.0
"""A weight above this is a value in grams."""


@dataclass(frozen=True)
class SuvRecord:
    """What has to be known to turn stored PET values into SUV. Values as in the header, no DICOM types.

    Attributes
    ----------
    units : str
        Units (0054,1001), e.g. "BQML".
    decay_correction : str
        Decay Correction (0054,1102): "START", "ADMIN" or "NONE".
    patient_weight_kg : float or None
        Patient's Weight (0010,1030).
    injected_dose_bq : float or None
        Radionuclide Total Dose (0018,1074) as stored; MBq is recognised.
    half_life_s : float or None
        Radionuclide Half Life (0018,1075).
    injection, reference : datetime or None
        Injection, and the moment the image is decay corrected to; see `physics.timing`.
    reference_source : str
        Which attribute `reference` came from.
    suv_type : str
        SUV Type (0054,1006), "" where absent.
    corrected_image : tuple of str
        Corrected Image (0028,0051).
    """

    units: str
    decay_correction: str
    patient_weight_kg: float | None
    injected_dose_bq: float | None
    half_life_s: float | None
    injection: datetime | None
    reference: datetime | None
    reference_source: str = ""
    suv_type: str = ""
    corrected_image: tuple[str, ...] = ()


@dataclass(frozen=True)
class SuppliedValues:
    """What the caller knows and the header may lack. None: not supplied.

    Attributes
    ----------
    weight_kg, height_m : float or None
    sex : str or None
        "M", "F" or "O".
    dose_mbq : float or None
        Injected activity at the injection.
    half_life_s : float or None
    injection, reference : datetime or None
        Naive, in the local time of the scanner. `reference` is the moment the image is decay corrected to.
    replace_header : bool
        Whether a supplied value wins over one in the header that says something else. By default the header wins, and
        the difference is a warning.
    """

    weight_kg: float | None = None
    height_m: float | None = None
    sex: str | None = None
    dose_mbq: float | None = None
    half_life_s: float | None = None
    injection: datetime | None = None
    reference: datetime | None = None
    replace_header: bool = False


@dataclass(frozen=True)
class SuvConversion:
    """How rescaled stored values become SUV normalised to body weight.

    Attributes
    ----------
    factor : float
        SUV = factor * (slope * stored + intercept). In g/Bq where the rescaled values are Bq/mL. Where slices differ,
        that of the middle slice.
    slice_factors : tuple of float or None
        One factor per slice, in the order of the headers (the third array axis), where they differ: images without
        decay correction, scale factors that change from slice to slice. None: `factor` holds for all.
    rule : str
        Name of the rule, "BQML/START".
    uptake_time_s : float
        Injection to reference moment, s.
    injected_dose_bq, dose_at_reference_bq : float
        At injection and at the reference moment, Bq.
    warnings : tuple of str
    """

    factor: float
    rule: str
    uptake_time_s: float
    injected_dose_bq: float
    dose_at_reference_bq: float
    warnings: tuple[str, ...] = ()
    slice_factors: tuple[float, ...] | None = None

    def applied_to(self, rescaled: Image) -> Image:
        """Return SUV, float32.

        Parameters
        ----------
        rescaled : array (i, j, k)
            slope * stored + intercept; k counts the slices in the order of the headers.

        Raises
        ------
        UnitError
            If there are factors for another number of slices.
        """
        if self.slice_factors is None:
            return (rescaled * np.float64(self.factor)).astype(np.float32)
        factors = np.asarray(self.slice_factors, dtype=np.float64)
        if rescaled.shape[2] != factors.size:
            raise UnitError(f"{factors.size} SUV factors were found for {rescaled.shape[2]} slices.")
        return (rescaled * factors).astype(np.float32)


def require_supported_rule(units: str, decay_correction: str, *, suv_type: str = "") -> None:
    """Check that there is a rule for these Units and this Decay Correction.

    Raises
    ------
    MissingAttributeError
        If one of them is absent.
    UnitError
        If there is none: the rule is named.

    References
    ----------
    DICOM PS3.3 C.8.9.1.1.3 Units and C.8.9.1.1.4 Decay Correction.
    """
    if not units:
        raise MissingAttributeError(
            "Units (0054,1001) is absent; whether the values are Bq/mL, counts or SUV is unknown. "
            "Export the series again from the scanner, or convert it elsewhere and give the SUV image as NIfTI."
        )
    if units != "BQML":
        kind = f", SUV Type (0054,1006) {suv_type}" if suv_type else ""
        raise UnitError(
            f"Units (0054,1001) is {units}{kind}: not supported yet. This version converts BQML with Decay "
            "Correction START. "
            "Convert the series elsewhere and give the SUV image as NIfTI."
        )
    if not decay_correction:
        raise MissingAttributeError(
            "Decay Correction (0054,1102) is absent; to which moment the image is corrected is unknown. "
            "Export the series again from the scanner."
        )
    if decay_correction != "START":
        raise UnitError(
            f"Decay Correction (0054,1102) is {decay_correction}: not supported yet. This version converts BQML "
            "with START. "
            "Convert the series elsewhere and give the SUV image as NIfTI."
        )


def suv_conversion(record: SuvRecord) -> SuvConversion:
    """Return the factor from Bq/mL to SUV normalised to body weight.

    Parameters
    ----------
    record : SuvRecord

    Returns
    -------
    SuvConversion
        With ``factor = W[g] / (D * 2**(-(t_ref - t_inj) / T_half))``, g/Bq. 1 mL of tissue is taken as 1 g, so SUV is
        written without unit.

    Raises
    ------
    MissingAttributeError
        If weight, dose, half-life or a time is absent; attribute and tag are named.
    UnitError
        If a rule is not supported yet, an image is not corrected for attenuation and decay, or a value lies outside its
        physical range.

    References
    ----------
    DICOM PS3.3 C.8.9.1 (PET Series), C.8.9.2 (PET Isotope), C.7.2.2 (Patient Study: Patient's Weight).
    """
    require_supported_rule(record.units, record.decay_correction, suv_type=record.suv_type)
    missing = {"ATTN", "DECY"} - set(record.corrected_image)
    if record.corrected_image and missing:
        raise UnitError(
            f"Corrected Image (0028,0051) lacks {', '.join(sorted(missing))}: the series is not corrected for "
            "attenuation and decay and holds no SUV. Give the attenuation-corrected series."
        )
    warnings: list[str] = []
    if not record.corrected_image:
        warnings.append("Corrected Image (0028,0051) is absent: attenuation correction could not be checked.")
    weight_kg = _positive(record.patient_weight_kg, "Patient's Weight (0010,1030)")
    if weight_kg > LARGEST_WEIGHT_KG:
        raise UnitError(f"Patient's Weight (0010,1030) is {weight_kg:g}; expected kg. It looks like grams; correct it.")
    dose_bq = _positive(record.injected_dose_bq, "Radionuclide Total Dose (0018,1074)")
    if dose_bq < SMALLEST_DOSE_BQ:
        warnings.append(f"Radionuclide Total Dose (0018,1074) is {dose_bq:g}: taken as MBq, the standard asks for Bq.")
        dose_bq *= BQ_PER_MBQ
    half_life_s = _positive(record.half_life_s, "Radionuclide Half Life (0018,1075)")
    require_half_life(half_life_s, None)
    if record.injection is None:
        raise MissingAttributeError(
            "Radiopharmaceutical Start Time (0018,1072) is absent; SUV cannot be computed without the injection time."
        )
    if record.reference is None:
        raise MissingAttributeError("Acquisition Time (0008,0032) is absent; SUV cannot be decay corrected.")
    uptake_time_s = (record.reference - record.injection).total_seconds()
    left_bq = dose_bq * decay_factor(uptake_time_s, half_life_s)
    return SuvConversion(
        factor=weight_kg * GRAMS_PER_KG / left_bq,
        rule=f"{record.units}/{record.decay_correction}",
        uptake_time_s=uptake_time_s,
        injected_dose_bq=dose_bq,
        dose_at_reference_bq=left_bq,
        warnings=tuple(warnings),
    )


def _positive(value: float | None, attribute: str) -> float:
    if value is None:
        raise MissingAttributeError(
            f"{attribute} is absent; SUV cannot be computed. Complete the header, or give the SUV image as NIfTI."
        )
    if not (math.isfinite(value) and value > 0):
        raise MissingAttributeError(
            f"{attribute} is {value:g}; expected a positive number. Complete the header, or give the SUV image as "
            "NIfTI."
        )
    return value
