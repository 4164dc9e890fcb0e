"""FDG uptake 60 minutes after injection and CT numbers, drawn for one patient.

References
----------
Organ means: Wang et al., Mol Imaging Biol 9, 2007, doi:10.1007/s11307-006-0075-y; Boktor et al., J Nucl Med 54, 2013,
doi:10.2967/jnumed.112.108530; Liu, Iran J Radiol 2015, doi:10.5812/iranjradiol.84881. Heart patterns after a fast of
4 to 6 hours: Kumar et al., Indian J Nucl Med 29, 2014 (PMC4157186). Plausible liver means, 1.3 to 3.0: EANM guideline
work in doi:10.1007/s00259-022-05977-5. CT numbers of the liver: doi:10.1007/s00414-019-02016-1. Where no measured mean
was found the value is ours and is meant as a default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uptake.simulation.canvas import Tissue
from uptake.simulation.person import Person

LIVER_RANGE = (1.35, 2.95)
"""Liver SUV mean is drawn again outside: 1.3 to 3.0 is what a correctly calibrated FDG scan shows."""

LIVER_BLOOD_CORRELATION = 0.82
"""Between log SUV of liver and blood pool over patients."""

HEART_PATTERNS = ("none", "patchy", "homogeneous")
HEART_SHARES = (0.10, 0.39, 0.51)

ORGANS: dict[str, tuple[float, float]] = {
    # name: (mean SUV, coefficient of variation between patients)
    "grey_matter": (9.0, 0.22),
    "lung": (0.5, 0.22),
    "spleen": (1.9, 0.18),
    "kidney_cortex": (2.6, 0.25),
    "kidney_medulla": (2.1, 0.25),
    "stomach_wall": (2.0, 0.35),
    "small_bowel": (1.5, 0.35),
    "colon": (1.5, 0.45),
    "pancreas": (1.3, 0.25),
    "muscle": (0.75, 0.15),
    "fat": (0.28, 0.20),
    "marrow": (1.6, 0.22),
    "yellow_marrow": (0.45, 0.25),
    "cortical_bone": (0.4, 0.25),
    "skin": (0.5, 0.2),
    "parotid": (1.8, 0.30),
    "submandibular": (2.0, 0.30),
    "tonsil": (3.45, 0.40),
    "prostate": (1.6, 0.30),
    "uterus": (1.8, 0.40),
    "breast": (0.65, 0.25),
    "adrenal": (1.4, 0.30),
    "thyroid": (1.3, 0.30),
    "gallbladder": (0.8, 0.40),
    "esophagus": (1.6, 0.25),
    "cartilage": (0.6, 0.2),
    "spinal_cord": (1.7, 0.2),
    "eye_muscle": (2.6, 0.3),
    "larynx": (1.8, 0.35),
}
"""SUV means of a 60-minute FDG scan; liver, blood, heart, urine and white matter are drawn together below."""


@dataclass(frozen=True)
class FdgUptake:
    """SUV means of one patient and how the heart takes up.

    Attributes
    ----------
    suv : dict
        Tissue -> mean SUV, g/mL.
    heart_pattern : {"none", "patchy", "homogeneous"}
    body_mean : float
        Target of the mass balance: mean SUV over the whole body, i.e. one minus the voided share of the dose.
    """

    suv: dict[str, float]
    heart_pattern: str
    body_mean: float


def _lognormal(normal: float, mean: float, cv: float) -> float:
    """Return a log-normal value of given mean and coefficient of variation for a standard normal draw (2.2 SD cap)."""
    sigma = float(np.sqrt(np.log1p(cv**2)))
    return float(mean * np.exp(sigma * np.clip(normal, -2.2, 2.2) - sigma**2 / 2))


def draw_uptake(rng: np.random.Generator, person: Person) -> FdgUptake:
    """Return the FDG uptake of one patient."""
    suv = {name: _lognormal(rng.standard_normal(), mean, cv) for name, (mean, cv) in ORGANS.items()}
    # SUV by body weight runs high in obese patients, because fat takes up little of the dose.
    obesity = 1.0 + 0.10 * float(np.clip(person.corpulence, -0.6, 2.0))
    while True:
        first, second = rng.standard_normal(2)
        mixed = LIVER_BLOOD_CORRELATION * first + np.sqrt(1 - LIVER_BLOOD_CORRELATION**2) * second
        liver = _lognormal(first, 2.17, 0.20) * obesity
        blood = _lognormal(mixed, 1.50, 0.20) * obesity
        if LIVER_RANGE[0] <= liver <= LIVER_RANGE[1] and blood < 0.85 * liver:
            break
    suv["liver"], suv["blood"] = liver, blood
    suv["muscle"] = min(suv["muscle"], 0.65 * blood)
    suv["fat"] = min(suv["fat"], 0.55 * suv["muscle"])
    suv["white_matter"] = suv["grey_matter"] / 3.0
    suv["cerebellum"] = 0.85 * suv["grey_matter"]
    suv["urine"] = float(np.clip(14.0 * np.exp(0.7 * rng.standard_normal()), 3.5, 70.0))
    suv["renal_pelvis"] = float(np.clip(suv["urine"] * rng.uniform(0.25, 0.9), 3.0, 25.0))
    pattern = HEART_PATTERNS[int(np.searchsorted(np.cumsum(HEART_SHARES), rng.uniform()))]
    strength = rng.uniform()
    suv["myocardium"] = {
        "none": 1.05 * blood,
        "patchy": 2.0 + 3.0 * strength,
        "homogeneous": 4.0 * (13.0 / 4.0) ** strength,
    }[pattern]
    suv["blood_wall"] = 1.15 * blood
    suv["blood_pool_fat"] = 0.5 * (suv["fat"] + 0.5 * blood)
    suv.update(air=0.0, csf=0.35, stomach_content=0.4, bowel_content=0.6, gas=0.0, table=0.0)
    return FdgUptake(suv=suv, heart_pattern=pattern, body_mean=float(rng.uniform(0.77, 0.90)))


def draw_tissues(rng: np.random.Generator, person: Person, uptake: FdgUptake) -> dict[str, Tissue]:
    """Return SUV, HU and texture of every tissue of one patient: an unenhanced CT of an attenuation-correction kind."""
    age = person.age_years
    draw = {name: float(rng.normal(mean, sd)) for name, (mean, sd) in _HU.items()}
    draw["liver"] -= 12.0 * max(person.corpulence, 0.0)  # steatosis
    draw["spleen"] = max(draw["spleen"], draw["liver"] - 18.0)
    draw["marrow"] = float(np.clip(rng.normal(230.0 - 2.0 * (age - 20.0), 40.0), 40.0, 320.0))
    tissues = {}
    for name, hu in draw.items():
        suv_sigma, hu_sigma = _TEXTURE.get(name, (0.06, 4.0))
        tissues[name] = Tissue(uptake.suv[_SUV_OF.get(name, name)], hu, suv_sigma, hu_sigma)
    return tissues


_HU: dict[str, tuple[float, float]] = {
    # tissue: (mean HU, SD between patients)
    "gas": (-950, 15), "lung": (-790, 45), "liver": (58, 8), "spleen": (48, 5), "kidney_cortex": (33, 4),
    "kidney_medulla": (31, 4), "renal_pelvis": (8, 3), "pancreas": (40, 8), "blood": (42, 5), "blood_wall": (42, 4),
    "myocardium": (44, 4), "grey_matter": (37, 2), "white_matter": (29, 2), "cerebellum": (37, 2), "csf": (8, 2),
    "spinal_cord": (32, 3), "parotid": (15, 18), "submandibular": (40, 10), "tonsil": (50, 6), "thyroid": (95, 12),
    "muscle": (52, 6), "fat": (-105, 6), "visceral_fat": (-98, 7), "mediastinal_fat": (-80, 10), "skin": (20, 10),
    "cortical_bone": (850, 90), "dense_bone": (1250, 100), "yellow_marrow": (-20, 20), "cartilage": (95, 20),
    "stomach_wall": (42, 5), "stomach_content": (15, 20), "small_bowel": (38, 6), "bowel_content": (20, 10),
    "colon": (30, 8), "gallbladder": (10, 4), "adrenal": (18, 8), "esophagus": (38, 5), "urine": (5, 4),
    "prostate": (42, 5), "uterus": (48, 6), "breast": (-25, 25), "eye_muscle": (45, 6), "larynx": (45, 8),
    "vitreous": (8, 2), "brown_fat": (-85, 5),
}  # fmt: skip

_SUV_OF = {
    "visceral_fat": "fat", "mediastinal_fat": "blood_pool_fat", "dense_bone": "cortical_bone", "vitreous": "csf",
    "brown_fat": "fat",
}  # fmt: skip

_TEXTURE: dict[str, tuple[float, float]] = {
    # tissue: (SD of log SUV, SD of HU) inside one organ
    "liver": (0.06, 5.0), "spleen": (0.06, 4.0), "muscle": (0.13, 6.0), "fat": (0.12, 5.0), "lung": (0.14, 22.0),
    "visceral_fat": (0.15, 8.0), "mediastinal_fat": (0.15, 18.0), "marrow": (0.13, 28.0), "small_bowel": (0.30, 10.0),
    "colon": (0.32, 18.0), "bowel_content": (0.25, 30.0), "grey_matter": (0.10, 3.0), "white_matter": (0.08, 2.0),
    "kidney_cortex": (0.12, 4.0), "pancreas": (0.12, 9.0), "cortical_bone": (0.15, 80.0), "stomach_wall": (0.20, 6.0),
    "myocardium": (0.08, 4.0), "breast": (0.20, 30.0), "gas": (0.0, 5.0), "urine": (0.03, 2.0), "blood": (0.04, 3.0),
    "stomach_content": (0.2, 15.0), "uterus": (0.2, 5.0), "prostate": (0.12, 4.0), "parotid": (0.12, 8.0),
}  # fmt: skip
