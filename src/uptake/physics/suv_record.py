"""What a PET header says about SUV, as plain values; the reader of the header fills it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from uptake.physics.radionuclides import Radionuclide
from uptake.physics.timing import AcquisitionTimes


@dataclass(frozen=True)
class SuvRecord:
    """What a header says about SUV. Values as in the header, no DICOM types, None or empty where absent.

    Attributes
    ----------
    units : str
        Units (0054,1001), e.g. "BQML".
    decay_correction : str
        Decay Correction (0054,1102): "START", "ADMIN" or "NONE".
    patient_weight_kg, patient_height_m : float or None
        Patient's Weight (0010,1030) and Size (0010,1020).
    patient_sex : str
        Patient's Sex (0010,0040).
    injected_dose_bq : float or None
        Radionuclide Total Dose (0018,1074).
    half_life_s : float or None
        Radionuclide Half Life (0018,1075).
    nuclides : tuple of Radionuclide
        What Radionuclide Code Sequence (0054,0300) names: none, one, or two where value and meaning contradict.
    times : AcquisitionTimes
        When the image was acquired; one entry per slice.
    injection_date_and_time : datetime or None
        Radiopharmaceutical Start DateTime (0018,1078).
    injection_time_only : timedelta or None
        Radiopharmaceutical Start Time (0018,1072), since midnight.
    injection_zone_unknown : bool
        Whether the DateTime has a UTC offset and the other times do not.
    suv_type : str
        SUV Type (0054,1006).
    corrected_image, series_type, image_type : tuple of str
        Corrected Image (0028,0051), Series Type (0054,1000), Image Type (0008,0008).
    philips_activity_factors, philips_suv_factors : tuple of float
        (7053,1009) and (7053,1000), one per slice.
    """

    units: str
    decay_correction: str
    patient_weight_kg: float | None = None
    patient_height_m: float | None = None
    patient_sex: str = ""
    injected_dose_bq: float | None = None
    half_life_s: float | None = None
    nuclides: tuple[Radionuclide, ...] = ()
    times: AcquisitionTimes = field(default_factory=lambda: AcquisitionTimes(()))
    injection_date_and_time: datetime | None = None
    injection_time_only: timedelta | None = None
    injection_zone_unknown: bool = False
    suv_type: str = ""
    corrected_image: tuple[str, ...] = ()
    series_type: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    philips_activity_factors: tuple[float, ...] = ()
    philips_suv_factors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Check:
    """Two accounts of one thing, compared.

    Attributes
    ----------
    name : str
        What was compared.
    agrees : bool
    detail : str
        The numbers.
    """

    name: str
    agrees: bool
    detail: str
