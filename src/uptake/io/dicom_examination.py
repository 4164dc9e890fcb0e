"""What the headers of a simulated study say beside the pixels: who, what tracer, when; and the modules that hold it.

Nobody is examined: name and number begin with SIMULATED, and every image says that it is for research only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from uptake import __version__
from uptake.core.errors import UnitError, UsageError
from uptake.core.types import FloatArray
from uptake.core.units import BQ_PER_MBQ, MILLISECONDS_PER_SECOND
from uptake.io.dicom_dialects import MODELS, Dialect
from uptake.io.dicom_reference import safe_text, uid_of
from uptake.io.dicom_result import NOTICE
from uptake.physics.radionuclides import ELEMENTS, RADIONUCLIDES, Radionuclide

PATIENT = "SIMULATED"
"""Family name (0010,0010) of everybody who does not exist."""

COMMENT = "Simulated. No such person exists. Research use only."

DEIDENTIFICATION = "simulated: there never was an identity"

CT_BEFORE_PET = timedelta(seconds=150)
"""From the start of the CT to that of the PET."""

BETWEEN_BEDS_S = 4.0
"""Time the couch takes from one bed position to the next."""

TRACER_CODES: dict[str, tuple[str, str, str]] = {
    "FDG": ("35321007", "SCT", "Fluorodeoxyglucose F^18^"),
    "PSMA-11": ("C118961", "NCIt", "PSMA-11 Ga^68^"),
    "PSMA-1007": ("126758", "DCM", "PSMA-1007 F^18^"),
    "DOTATATE": ("724025002", "SCT", "Dotatate Ga^68^"),
}
"""Radiopharmaceutical Code Sequence (0054,0304), PS3.16 CID 4021; FAPI has no code there."""

SNOMED_RT, SNOMED_CT = "SRT", "SCT"

_TIMES = ("injection", "start")


@dataclass(frozen=True)
class Examination:
    """Facts of one simulated PET/CT study.

    Attributes
    ----------
    key : str
        All UIDs are made from it: the same key, the same UIDs. Put everything that decides the images into it.
    case_id : str
        Patient ID (0010,0020).
    sex : {"male", "female"}
    age_years, weight_kg, height_m : float
        Weight is written to 0.1 kg, and enters the stored values as written.
    tracer, nuclide : str
        "FDG", "F-18"; nuclides as in `physics.radionuclides`.
    injected_mbq : float
    injection, start : datetime
        Start of the first bed position; both to the second, on the scanner's clock.
    seconds_per_bed : float
    bed_step_mm : float or None
        Distance between bed positions; None for one bed that covers all.
    positron_fraction : float or None
        (0018,1076).
    scanner : str
        A name in `dicom_dialects.MODELS`, or "" for the dialect's own.
    reconstruction : str
        What is added to the dialect's Reconstruction Method, e.g. "2i21s".
    filter_fwhm_mm : float
        Gaussian filter, for Convolution Kernel (0018,1210) of the PET.
    kvp : int
        Of the CT.
    ct_slice_mm : float or None
        Nominal thickness of the CT's sections; None takes the distance of its slices.
    """

    key: str
    case_id: str
    sex: str
    age_years: float
    weight_kg: float
    height_m: float
    tracer: str
    nuclide: str
    injected_mbq: float
    injection: datetime
    start: datetime
    seconds_per_bed: float = 120.0
    bed_step_mm: float | None = 150.0
    positron_fraction: float | None = None
    scanner: str = ""
    reconstruction: str = ""
    filter_fwhm_mm: float = 0.0
    kvp: int = 120
    ct_slice_mm: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in {
            "weight_kg": (2.0, 400.0), "height_m": (0.3, 2.6), "injected_mbq": (0.1, 1e5), "age_years": (0.0, 130.0),
            "seconds_per_bed": (1.0, 7200.0),
        }.items():  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise UnitError(f"{name} must lie between {low:g} and {high:g}, came {getattr(self, name)!r}.")
        if self.sex not in ("male", "female"):
            raise UsageError(f"sex must be 'male' or 'female', came {self.sex!r}.")
        if self.bed_step_mm is not None and not self.bed_step_mm > 0:
            raise UnitError(f"bed_step_mm must be positive, came {self.bed_step_mm!r}.")
        if self.start < self.injection:
            raise UsageError("the scan starts before the injection.")
        if any(getattr(self, name).microsecond or getattr(self, name).tzinfo for name in _TIMES):
            raise UsageError("times are given to the second, on the scanner's clock without a time zone.")
        _ = self.radionuclide

    @property
    def radionuclide(self) -> Radionuclide:
        """The tracer's nuclide."""
        found = next((n for n in RADIONUCLIDES if n.name == self.nuclide), None)
        if found is None:
            raise UsageError(f"unknown radionuclide {self.nuclide!r}; known are F-18, Ga-68 and the others of DICOM.")
        return found

    @property
    def written_weight_kg(self) -> float:
        """Patient's Weight (0010,1030) as it stands in the header."""
        return round(self.weight_kg, 1)

    @property
    def written_dose_bq(self) -> float:
        """Radionuclide Total Dose (0018,1074) as it stands in the header: whole Bq."""
        return float(round(self.injected_mbq * BQ_PER_MBQ))

    @property
    def frame_s(self) -> float:
        """Actual Frame Duration (0018,1242), which is whole milliseconds, in s."""
        return round(self.seconds_per_bed * MILLISECONDS_PER_SECOND) / MILLISECONDS_PER_SECOND

    def bed_starts(self, along_mm: FloatArray) -> list[datetime]:
        """Return when the bed position of each slice was started: from the feet to the head, one after the other.

        Parameters
        ----------
        along_mm : array (k,)
            Positions of the slices from feet to head, mm.
        """
        if self.bed_step_mm is None:
            return [self.start] * len(along_mm)
        number = np.floor((along_mm - along_mm.min()) / self.bed_step_mm).astype(int)
        step = timedelta(seconds=self.frame_s + BETWEEN_BEDS_S)
        return [self.start + int(n) * step for n in number]

    def uid(self, *parts: object) -> str:
        """Return the UID of a part of this study."""
        return uid_of("uptake simulation", self.key, *parts)


def decimal_string(value: float) -> str:
    """Return the closest number that a decimal string (DS) can hold: 16 characters.

    References
    ----------
    DICOM PS3.5 section 6.2, value representation DS.
    """
    text = repr(float(value))
    digits = 16
    while len(text) > 16:
        text = f"{float(value):.{digits}g}"
        digits -= 1
    return text


def time_string(moment: datetime) -> str:
    """Return a TM value."""
    return moment.strftime("%H%M%S.%f")


def study_modules(dataset: Any, facts: Examination, dialect: Dialect) -> None:
    """Fill in what all images of a study share: patient, study, frame of reference, equipment."""
    begin = facts.start - CT_BEFORE_PET
    ds = dataset
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = f"{PATIENT}^{safe_text(facts.case_id, 48)}"
    ds.PatientID = safe_text(facts.case_id)
    ds.PatientBirthDate = f"{begin.year - int(facts.age_years):04d}0101"
    ds.PatientSex = "M" if facts.sex == "male" else "F"
    ds.PatientAge = f"{int(facts.age_years):03d}Y"
    ds.PatientWeight = decimal_string(facts.written_weight_kg)
    ds.PatientSize = decimal_string(round(facts.height_m, 2))
    ds.PatientComments = COMMENT
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = DEIDENTIFICATION
    ds.StudyInstanceUID = facts.uid("study")
    ds.StudyDate, ds.StudyTime = begin.strftime("%Y%m%d"), time_string(begin)
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.StudyDescription = f"simulated {safe_text(facts.tracer, 24)} PET/CT - {NOTICE}"
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = facts.uid("frame of reference"), ""
    ds.Manufacturer = dialect.manufacturer
    ds.ManufacturerModelName = MODELS.get(facts.scanner, facts.scanner) or dialect.model
    ds.SoftwareVersions = dialect.software
    ds.InstitutionName, ds.StationName = "uptake simulation", "SIMULATED"
    ds.BodyPartExamined = "WHOLEBODY"
    ds.ImageComments = f"{COMMENT} uptake {__version__}"
    ds.InstanceCreationDate, ds.InstanceCreationTime = begin.strftime("%Y%m%d"), time_string(begin)


def tracer_sequence(facts: Examination, dialect: Dialect) -> list[Any]:
    """Return the Radiopharmaceutical Information Sequence (0054,0016), PS3.3 C.8.9.2."""
    from pydicom.dataset import Dataset

    nuclide = facts.radionuclide
    symbol, _, mass = nuclide.name.partition("-")
    item = Dataset()
    item.Radiopharmaceutical = safe_text(facts.tracer)
    item.RadiopharmaceuticalVolume = "0.0"
    item.RadiopharmaceuticalStartTime = time_string(facts.injection)
    if dialect.injection_date:
        item.RadiopharmaceuticalStartDateTime = facts.injection.strftime("%Y%m%d%H%M%S.%f")
    item.RadionuclideTotalDose = decimal_string(facts.written_dose_bq)
    item.RadionuclideHalfLife = decimal_string(nuclide.half_life_s)
    if facts.positron_fraction is not None:
        item.RadionuclidePositronFraction = decimal_string(facts.positron_fraction)
    old = dialect.snomed_rt and len(nuclide.codes) > 1
    name = f"^{mass}^{ELEMENTS[symbol.lower()][0].capitalize()}"
    item.RadionuclideCodeSequence = [code(nuclide.codes[0 if old else -1], SNOMED_RT if old else SNOMED_CT, name)]
    if facts.tracer in TRACER_CODES:
        item.RadiopharmaceuticalCodeSequence = [code(*TRACER_CODES[facts.tracer])]
    return [item]


def orientation_sequences(dataset: Any) -> None:
    """Say that the patient lies on his back, head first; a PET that does must not have Patient Position (0018,5100).

    References
    ----------
    DICOM PS3.3 C.8.4.6 and C.7.3.1; PS3.16 CID 19, 20, 21.
    """
    lying = code("102538003", SNOMED_CT, "recumbent")
    lying.PatientOrientationModifierCodeSequence = [code("40199007", SNOMED_CT, "supine")]
    dataset.PatientOrientationCodeSequence = [lying]
    dataset.PatientGantryRelationshipCodeSequence = [code("102540008", SNOMED_CT, "headfirst")]


def code(value: str, scheme: str, meaning: str) -> Any:
    """Return one item of a code sequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
