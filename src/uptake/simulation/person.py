"""Who is simulated: the numbers that a nurse would write down, and the options of the simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from uptake.core.errors import UsageError
from uptake.core.types import Vector3

Sex = Literal["male", "female"]
Arms = Literal["up", "down"]

REFERENCE_HEIGHT_M = 1.83
REFERENCE_LBM_KG = 60.7
"""Height of the man in whose millimetres the anatomy is written down, and the lean mass (1.76 m, BMI 26) at which its
cross-sections have their written size at 1.83 m. The distance from lung apex to bladder and the width of the chest then
are those of label maps of 48 real PET/CT scans."""

TRACERS = ("FDG", "PSMA-11", "PSMA-1007", "FAPI-04", "DOTATATE")
CONTRAST_PHASES = ("none", "portal-venous")


def known_tracer(name: str) -> str:
    """Return the tracer's name as in `TRACERS`, whatever its case and hyphens.

    Raises
    ------
    UsageError
        If there is no such tracer.
    """

    def bare(text: str) -> str:
        return "".join(letter for letter in text.upper() if letter.isalnum())

    for tracer in TRACERS:
        if isinstance(name, str) and bare(name) == bare(tracer):
            return tracer
    raise UsageError(f"the tracer must be one of {', '.join(TRACERS)}, came {name!r}.")


@dataclass(frozen=True)
class PatientConfig:
    """What is fixed for a simulated patient; `None` is drawn from the population.

    Attributes
    ----------
    tracer : str
        One of `TRACERS`; case and hyphens do not matter ("psma1007").
    sex : {"male", "female"} or None
        When drawn: men for the PSMA tracers, 55 % men otherwise.
    height_m : float or None
        1.3 to 2.2 m.
    bmi : float or None
        Body mass index, kg/m², 16 to 45.
    age_years : float or None
    arms : {"up", "down"} or None
        Arm position; 70 % up when drawn.
    lesion_free_fraction : float
        Share of patients without any lesion when the number is drawn, 0 to 1.
    mimics : bool
        Foci that are no lesions: ureter, brown fat, ganglia, unspecific bone, ... as the tracer shows them.
    conditions : bool
        Enlarged and missing organs, effusions and prostheses at the rates of a clinic.
    contrast : {"none", "portal-venous"} or None
        Contrast medium on the CT; None draws it, half of the patients get some.
    psf_fwhm_mm : float
        Effective resolution of the PET image, voxel included, mm.
    liver_cov : float
        Coefficient of variation of the noise in the liver (SD / mean over voxels); 0 gives a noise-free image.
    noise_fwhm_mm : tuple of float
        Width of the Gaussian whose blur of white noise gives the noise its correlation, along x, y, z, mm.
    ct_noise_hu : float
        Noise SD of the CT after it was brought to the PET grid, in the trunk of an average patient, HU.
    table : bool
        Draw the patient couch into the CT.
    """

    tracer: str = "FDG"
    sex: Sex | None = None
    height_m: float | None = None
    bmi: float | None = None
    age_years: float | None = None
    arms: Arms | None = None
    lesion_free_fraction: float = 0.4
    mimics: bool = True
    conditions: bool = True
    contrast: str | None = "none"
    psf_fwhm_mm: float = 6.0
    liver_cov: float = 0.10
    noise_fwhm_mm: Vector3 = (5.0, 6.0, 4.5)
    ct_noise_hu: float = 9.0
    table: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "tracer", known_tracer(self.tracer))
        if self.contrast is not None and self.contrast not in CONTRAST_PHASES:
            raise UsageError(f"contrast must be one of {', '.join(CONTRAST_PHASES)} or None, came {self.contrast!r}.")
        if self.sex not in (None, "male", "female"):
            raise UsageError(f"sex must be 'male', 'female' or None, came {self.sex!r}.")
        if self.arms not in (None, "up", "down"):
            raise UsageError(f"arms must be 'up', 'down' or None, came {self.arms!r}.")
        for name, low, high in (
            ("height_m", 1.3, 2.2), ("bmi", 16.0, 45.0), ("age_years", 18.0, 100.0),
            ("lesion_free_fraction", 0.0, 1.0), ("psf_fwhm_mm", 0.0, 20.0), ("liver_cov", 0.0, 2.0),
            ("ct_noise_hu", 0.0, 200.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} must lie between {low:g} and {high:g}, came {value!r}.")
        if len(self.noise_fwhm_mm) != 3 or not all(0 <= width <= 30 for width in self.noise_fwhm_mm):
            raise UsageError(f"noise_fwhm_mm must be three widths from 0 to 30 mm, came {self.noise_fwhm_mm!r}.")


@dataclass(frozen=True)
class Person:
    """Anthropometry of one patient.

    Attributes
    ----------
    sex, age_years, height_m, bmi, weight_kg, arms
    lean_mass_kg : float
        Janmahasatian lean body mass, kg.
    scale_z, scale_xy : float
        Size of the trunk along and across, relative to the reference man.
    """

    sex: Sex
    age_years: float
    height_m: float
    bmi: float
    weight_kg: float
    arms: Arms
    lean_mass_kg: float
    scale_z: float
    scale_xy: float

    @property
    def female(self) -> bool:
        """Whether the anatomy is a woman's."""
        return self.sex == "female"

    @property
    def corpulence(self) -> float:
        """BMI above 25, in units of 10 kg/m²; negative for lean patients."""
        return (self.bmi - 25.0) / 10.0


def lean_body_mass_kg(sex: Sex, weight_kg: float, bmi: float) -> float:
    """Return the lean body mass, kg.

    References
    ----------
    Janmahasatian et al., Clin Pharmacokinet 44(10), 2005. doi:10.2165/00003088-200544100-00004
    """
    if sex == "male":
        return 9270.0 * weight_kg / (6680.0 + 216.0 * bmi)
    return 9270.0 * weight_kg / (8780.0 + 244.0 * bmi)


def draw_person(rng: np.random.Generator, config: PatientConfig, *, height_m: float | None = None) -> Person:
    """Return a person from the population of a PET clinic, with what `config` fixes.

    Every number is drawn whether it is used or not, so that fixing one leaves the others as they were.

    Parameters
    ----------
    rng : numpy.random.Generator
    config : PatientConfig
    height_m : float or None
        Height that an anatomy from elsewhere dictates where `config` fixes none.
    """
    sex_draw, arms_draw = rng.uniform(size=2)
    height_draw, bmi_draw = rng.standard_normal(2)
    age_draw = rng.uniform()
    prostate = config.tracer.startswith("PSMA")
    sex: Sex = config.sex or ("male" if prostate or sex_draw < 0.55 else "female")
    arms: Arms = config.arms or ("up" if arms_draw < 0.7 else "down")
    mean, sd = (1.76, 0.07) if sex == "male" else (1.63, 0.065)
    height = config.height_m or height_m or float(np.clip(mean + sd * height_draw, 1.45, 2.05))
    bmi = config.bmi or float(np.clip(26.0 * np.exp(0.17 * bmi_draw), 16.0, 45.0))
    youngest, oldest = (50.0, 88.0) if prostate else (20.0, 85.0)
    age = config.age_years or youngest + (oldest - youngest) * float(age_draw)
    weight = bmi * height**2
    lean = lean_body_mass_kg(sex, weight, bmi)
    scale_z = height / REFERENCE_HEIGHT_M
    # Cross-section x length follows the lean mass as the organs do, to the power 0.8.
    scale_xy = float(np.sqrt((lean / REFERENCE_LBM_KG) ** 0.8 / scale_z))
    return Person(sex, age, height, bmi, weight, arms, lean, scale_z, scale_xy)
