"""Who is simulated: the numbers that a nurse would write down, and the options of the simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from uptake.core.errors import UsageError
from uptake.core.types import Vector3

Sex = Literal["male", "female"]
Arms = Literal["up", "down"]

REFERENCE_HEIGHT_M = 1.76
REFERENCE_LBM_KG = 60.7
"""Lean body mass of the reference man (1.76 m, BMI 26): the anatomy is written down in his millimetres."""


@dataclass(frozen=True)
class PatientConfig:
    """What is fixed for a simulated patient; `None` is drawn from the population.

    Attributes
    ----------
    sex : {"male", "female"} or None
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
        Physiological foci that are no lesions: ureter, brown fat, focal bowel, degenerative bone.
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

    sex: Sex | None = None
    height_m: float | None = None
    bmi: float | None = None
    age_years: float | None = None
    arms: Arms | None = None
    lesion_free_fraction: float = 0.4
    mimics: bool = True
    psf_fwhm_mm: float = 6.0
    liver_cov: float = 0.10
    noise_fwhm_mm: Vector3 = (5.0, 6.0, 4.5)
    ct_noise_hu: float = 9.0
    table: bool = True

    def __post_init__(self) -> None:
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
    scale_head, scale_z, scale_xy : float
        Size of the head, and of the trunk along and across, relative to the reference man.
    """

    sex: Sex
    age_years: float
    height_m: float
    bmi: float
    weight_kg: float
    arms: Arms
    lean_mass_kg: float
    scale_head: float
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


def draw_person(rng: np.random.Generator, config: PatientConfig) -> Person:
    """Return a person from the population of an FDG clinic, with what `config` fixes.

    Every number is drawn whether it is used or not, so that fixing one leaves the others as they were.
    """
    sex_draw, arms_draw = rng.uniform(size=2)
    height_draw, bmi_draw, head_draw = rng.standard_normal(3)
    age_draw = rng.uniform(20.0, 85.0)
    sex: Sex = config.sex or ("male" if sex_draw < 0.55 else "female")
    arms: Arms = config.arms or ("up" if arms_draw < 0.7 else "down")
    mean, sd = (1.76, 0.07) if sex == "male" else (1.63, 0.065)
    height = config.height_m or float(np.clip(mean + sd * height_draw, 1.45, 2.05))
    bmi = config.bmi or float(np.clip(26.0 * np.exp(0.17 * bmi_draw), 17.0, 45.0))
    weight = bmi * height**2
    lean = lean_body_mass_kg(sex, weight, bmi)
    scale_z = height / REFERENCE_HEIGHT_M
    return Person(
        sex=sex,
        age_years=config.age_years or float(age_draw),
        height_m=height,
        bmi=bmi,
        weight_kg=weight,
        arms=arms,
        lean_mass_kg=lean,
        # A head hardly follows the height of its bearer; women's brains weigh 0.9 of men's (ICRP 89).
        scale_head=(1.0 if sex == "male" else 0.965) * float(np.clip(1.0 + 0.02 * head_draw, 0.94, 1.06)),
        scale_z=scale_z,
        # Cross-section x length follows the lean mass.
        scale_xy=float(np.sqrt(lean / REFERENCE_LBM_KG / scale_z)),
    )
