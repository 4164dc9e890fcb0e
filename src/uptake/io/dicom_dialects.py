"""How scanners of four vendors write their headers: which attributes carry what, in public and in private ones.

One standard, several habits. All say when the tracer was injected and when each bed position was measured, but the
moment to which the image is decay corrected stands in Series Time (0008,0031), in a private attribute, or only between
Frame Reference Time (0054,1300) and Acquisition Time (0008,0032); the stored values are Bq/mL or counts with a private
scale. A simulated study that follows such a habit tests the way back to SUV without a patient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from uptake.core.errors import UsageError

UNITS = ("BQML", "GML", "CNTS")
"""Units (0054,1001) that are written."""

DECAY_CORRECTIONS = ("START", "ADMIN", "NONE")
"""Decay Correction (0054,1102), PS3.3 C.8.9.1.1.4."""

GE_SCAN = "GEMS_PETD_01"
SIEMENS = "SIEMENS MED PT"
PHILIPS = "Philips PET Private Group"
"""Private creators of GE's Scan DateTime (0009,100D), Siemens' Decay Correction DateTime (0071,1022), and Philips' SUV
(7053,1000) and Activity Concentration (7053,1009) Scale Factor."""


@dataclass(frozen=True)
class Dialect:
    """Habits of one vendor.

    Attributes
    ----------
    name : str
        "ge", "siemens", "philips", "uih" or "generic".
    manufacturer, model, software : str
        (0008,0070), (0008,1090) where the scanner has no name of its own, (0018,1020).
    units : str
        Units (0054,1001): "BQML", "GML" (SUV by body weight) or "CNTS" (with the private factors of Philips).
    decay_correction : str
        "START": to the start of the scan; "ADMIN": to the injection; "NONE".
    private : str
        Private creator whose attributes are written; "" for none.
    suv_factor, activity_factor : bool
        Which of the two factors of Philips are there.
    slope_per_slice : bool
        Rescale Slope (0028,1053) of each slice from its own largest value, else one for the series.
    frame_reference_at_start : bool
        Frame Reference Time counts to the start of the frame, not to the moment of its average count rate.
    bed_times : bool
        Acquisition Time is that of the bed position; else that of the first one in every slice.
    series_delay_s : float
        Series Time is this much later than the start of the scan: what post-processing does to it.
    injection_date : bool
        The injection is written with its date too, Radiopharmaceutical Start DateTime (0018,1078).
    snomed_rt : bool
        Nuclides as SNOMED RT codes ("C-111A1"), which scanners still write, else SNOMED CT.
    first_at_head : bool
        Instance Number (0020,0013) 1 is the slice nearest to the head.
    corrected_image : tuple of str
        (0028,0051), without DECY, which follows from `decay_correction`.
    randoms, attenuation, scatter, reconstruction : str
        Correction methods (0054,1100), (0054,1101), (0054,1105) and Reconstruction Method (0054,1103).
    ct_kernel : str
        Convolution Kernel (0018,1210) of the CT.
    """

    name: str
    manufacturer: str
    model: str
    software: str
    units: str = "BQML"
    decay_correction: str = "START"
    private: str = ""
    suv_factor: bool = False
    activity_factor: bool = False
    slope_per_slice: bool = True
    frame_reference_at_start: bool = False
    bed_times: bool = True
    series_delay_s: float = 0.0
    injection_date: bool = True
    snomed_rt: bool = True
    first_at_head: bool = True
    corrected_image: tuple[str, ...] = ("NORM", "DTIM", "ATTN", "SCAT", "RAN")
    randoms: str = "DLYD"
    attenuation: str = "CT"
    scatter: str = "Model-based"
    reconstruction: str = "OSEM"
    ct_kernel: str = "STANDARD"

    def __post_init__(self) -> None:
        if self.units not in UNITS:
            raise UsageError(f"a PET is written in {', '.join(UNITS)}; came {self.units!r}.")
        if self.decay_correction not in DECAY_CORRECTIONS:
            raise UsageError(f"Decay Correction is {', '.join(DECAY_CORRECTIONS)}; came {self.decay_correction!r}.")
        if self.units == "CNTS" and not (self.private == PHILIPS and (self.suv_factor or self.activity_factor)):
            raise UsageError("counts (CNTS) need the private scale factors that only headers of Philips carry.")
        through_activity = self.units == "BQML" or (self.units == "CNTS" and self.activity_factor)
        if self.decay_correction == "NONE" and not through_activity:
            raise UsageError(f"there is no SUV without decay correction: {self.units} does not go with NONE.")
        if self.decay_correction == "NONE" and not self.bed_times:
            raise UsageError("without decay correction every slice needs the time of its own bed position.")

    def storing(self, units: str | None = None, decay_correction: str | None = None) -> Dialect:
        """Return the same habits with other units or decay correction; None leaves them.

        Raises
        ------
        UsageError
            If the vendor has no way to write them.
        """
        return replace(self, units=units or self.units, decay_correction=decay_correction or self.decay_correction)


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("ge", "GE MEDICAL SYSTEMS", "Discovery 690", "50.01", private=GE_SCAN, frame_reference_at_start=True,
                corrected_image=("ATTN", "SCAT", "DTIM", "RAN", "RADL", "DCAL", "SLSENS", "NORM"), randoms="SING",
                attenuation="measured,, 0.096000 cm-1,", scatter="Convolution subtraction", reconstruction="VPFX",
                ct_kernel="STANDARD"),
        Dialect("siemens", "SIEMENS", "Biograph128_mCT", "VG60A", private=SIEMENS, slope_per_slice=False,
                corrected_image=("NORM", "DTIM", "ATTN", "SCAT", "RADL"), attenuation="CT-derived",
                reconstruction="PSF+TOF", ct_kernel="B30f"),
        Dialect("philips", "Philips Medical Systems", "GEMINI TF TOF 64", "3.6.1", units="CNTS", private=PHILIPS,
                suv_factor=True, activity_factor=True, injection_date=False, first_at_head=False,
                corrected_image=("DTIM", "ATTN", "SCAT", "RADL", "RAN", "NORM"), attenuation="CTAC-SG",
                scatter="SS-SIMUL", reconstruction="BLOB-OS-TF", ct_kernel="B"),
        Dialect("uih", "UIH", "uMI 550", "R001", snomed_rt=False, reconstruction="TOF+PSF OSEM",
                attenuation="CT", ct_kernel="B_SOFT_B"),
        Dialect("generic", "uptake", "simulated scanner", "1", snomed_rt=False),
    )
}  # fmt: skip
"""Habits by vendor. Private attributes: conformance statements of GE, Siemens and Philips; of UIH none is known."""

MODELS: dict[str, str] = {
    "mCT": "Biograph128_mCT", "Vision 600": "Biograph64_Vision 600", "Quadra": "Biograph128_Vision Quadra",
    "D690": "Discovery 690", "DMI": "Discovery MI", "Gemini TF": "GEMINI TF TOF 64", "Vereos": "Vereos PET/CT",
    "uMI 550": "uMI 550", "uEXPLORER": "uEXPLORER",
}  # fmt: skip
"""Name of a scanner -> Manufacturer's Model Name (0008,1090) of its images."""


def dialect_named(name: str) -> Dialect:
    """Return the habits of a vendor.

    Raises
    ------
    UsageError
        If there is none of that name, with the names there are.
    """
    if name.lower() not in DIALECTS:
        raise UsageError(f"no vendor is called {name!r}; known are {', '.join(DIALECTS)}.")
    return DIALECTS[name.lower()]
