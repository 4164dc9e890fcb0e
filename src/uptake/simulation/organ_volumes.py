"""How large the organs of one person are: reference masses scaled with lean body mass, and what illness changes.

References
----------
Reference masses: ICRP Publication 89, Ann ICRP 32(3-4), 2002, table 2.8. Visceral share of the body's fat, a fifth in
men and a tenth in women: Kuk et al., Obes Res 13, 2005. Where a mass is not in the publication (salivary glands
singly, gallbladder, content of the bowel) the value is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from uptake.simulation.person import PatientConfig, Person

Side = Literal["left", "right"]

LEAN_REFERENCE_KG = {"male": 57.5, "female": 38.9}
"""Janmahasatian lean mass of ICRP's reference man (1.76 m, 73 kg) and woman (1.63 m, 60 kg)."""

LEAN_EXPONENT = 0.8
"""Organ mass grows with lean mass to this power."""

SPREAD = 0.15
"""Coefficient of variation of an organ's volume between people of one size."""

LUNG_DENSITY, LUNG_DENSITY_SD = 0.36, 0.035
"""Density of the lungs in g/mL of a patient who breathes shallowly on his back, vessels included. ICRP's 0.26 is a
deeper breath: with it the lungs are a third larger and the diaphragm 45 mm lower than in label maps of 48 real PET/CT
scans, whose median is 3.2 L."""

VISCERAL_LIMIT_L = 14.0
"""Visceral fat saturates here however heavy the patient."""

# class: (mass of a man, of a woman, g; density, g/mL; coefficient of variation)
_REFERENCE: dict[str, tuple[float, float, float, float]] = {
    "liver": (1800, 1400, 1.05, SPREAD),
    "spleen": (150, 130, 1.06, 0.25),
    "kidneys": (310, 275, 1.05, SPREAD),
    "pancreas": (140, 120, 1.045, SPREAD),
    "heart": (840, 620, 1.06, 0.12),
    "lungs": (1200, 950, LUNG_DENSITY, SPREAD),
    "stomach": (400, 370, 1.04, 0.25),
    "parotid_gland": (50, 41, 1.045, SPREAD),
    "submandibular_gland": (25, 21, 1.045, SPREAD),
    "sublingual_gland": (10, 8, 1.045, SPREAD),
    "adrenal_gland": (14, 13, 1.025, SPREAD),
    "thyroid_gland": (20, 17, 1.05, 0.2),
    "small_bowel": (930, 820, 1.04, 0.2),
    "duodenum": (75, 66, 1.04, SPREAD),
    "colon": (820, 750, 1.0, 0.25),
    "gallbladder": (40, 36, 1.02, 0.4),
}
# Brain, lacrimal and pituitary glands do not follow the lean mass of their bearer.
_FIXED: dict[str, tuple[float, float, float, float]] = {
    "brain": (1450, 1300, 1.04, 0.07),
    "lacrimal_gland": (1.35, 1.35, 1.045, 0.2),
    "pituitary_gland": (0.6, 0.6, 1.0, 0.15),
    "uterus": (80, 80, 1.03, 0.35),
}
_PAIRED = (
    "kidneys", "parotid_gland", "submandibular_gland", "sublingual_gland", "adrenal_gland", "lacrimal_gland",
)  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """What operations and illness have changed in one patient; all false or None in most.

    Attributes
    ----------
    hepatomegaly, splenomegaly : bool
        Organ 1.4 or 2.2 times as large.
    nephrectomy : {"left", "right"} or None
        The kidney that is missing; the other is 1.35 times as large.
    splenectomy, cholecystectomy, prostatectomy, hysterectomy : bool
        The organ is missing.
    effusion : {"left", "right"} or None
        Pleural effusion: fluid behind a smaller lung.
    hip_prosthesis : {"left", "right"} or None
        Metal instead of femoral head and neck.
    """

    hepatomegaly: bool = False
    splenomegaly: bool = False
    nephrectomy: Side | None = None
    splenectomy: bool = False
    cholecystectomy: bool = False
    prostatectomy: bool = False
    hysterectomy: bool = False
    effusion: Side | None = None
    hip_prosthesis: Side | None = None


def draw_condition(rng: np.random.Generator, person: Person, config: PatientConfig) -> Condition:
    """Return which organs are enlarged or missing; `config.conditions` false gives none."""
    chance, sides = rng.uniform(size=9), rng.uniform(size=3)
    if not config.conditions:
        return Condition()
    old = float(np.clip((person.age_years - 45) / 40, 0, 1))
    side: list[Side] = ["left" if s < 0.5 else "right" for s in sides]
    # Half of the men who are sent to PSMA PET have a rising PSA after their prostate was taken out.
    prostatectomy = 0.45 if config.tracer.startswith("PSMA") else 0.06 * old
    return Condition(
        hepatomegaly=bool(chance[0] < 0.04),
        splenomegaly=bool(chance[1] < 0.04),
        nephrectomy=side[0] if chance[2] < 0.02 else None,
        splenectomy=bool(chance[3] < 0.015),
        cholecystectomy=bool(chance[4] < 0.05 + 0.12 * old),
        prostatectomy=not person.female and bool(chance[5] < prostatectomy),
        hysterectomy=person.female and bool(chance[6] < 0.15 * old),
        effusion=side[1] if chance[7] < 0.03 else None,
        hip_prosthesis=side[2] if chance[8] < 0.06 * old else None,
    )


def draw_volumes(rng: np.random.Generator, person: Person, condition: Condition) -> dict[str, float]:
    """Return the volume in mL that each organ of this person is drawn with; a missing organ has 0.

    Volume = mass / density · (lean mass / reference)^0.8 · log-normal factor, and for the lungs the breath. Brain,
    lacrimal and pituitary glands and uterus keep their mass whatever the lean mass; the prostate grows from 50 on.

    Parameters
    ----------
    rng : numpy.random.Generator
    person : Person
    condition : Condition

    Returns
    -------
    dict
        Class name -> mL; paired organs as name_left and name_right, the five lobes together as "lungs".
    """
    column = 1 if person.female else 0
    lean = (person.lean_mass_kg / LEAN_REFERENCE_KG[person.sex]) ** LEAN_EXPONENT
    volumes: dict[str, float] = {}
    for table, size in ((_REFERENCE, lean), (_FIXED, 1.0)):
        for name, row in table.items():
            spread = float(np.exp(row[3] * np.clip(rng.standard_normal(), -2.2, 2.2) - row[3] ** 2 / 2))
            split = 0.5 + 0.02 * float(np.clip(rng.standard_normal(), -2, 2))
            volume = row[column] / row[2] * size * spread
            if name == "lungs":
                breath = float(np.clip(rng.standard_normal(), -2.0, 2.0))
                volume *= LUNG_DENSITY / (LUNG_DENSITY + LUNG_DENSITY_SD * breath)
            if name in _PAIRED:
                stem = "kidney" if name == "kidneys" else name
                volumes[f"{stem}_left"], volumes[f"{stem}_right"] = volume * split, volume * (1 - split)
            else:
                volumes[name] = volume
    growth, filling, muscle = rng.standard_normal(3)
    volumes["prostate"] = float(np.clip((18 + 0.7 * max(person.age_years - 50, 0)) * np.exp(0.3 * growth), 12, 90))
    volumes["urinary_bladder"] = float(np.clip(115 * np.exp(0.55 * filling), 45, 400))
    # Bowel that looks empty on one day is full on the next: the visceral fat holds the rest of the belly's volume.
    fat_kg = person.weight_kg - person.lean_mass_kg
    share = (0.10 if person.female else 0.20) * (1 + 0.006 * (person.age_years - 50))
    litres = fat_kg * share * float(np.exp(0.25 * np.clip(muscle, -2, 2))) / 0.92
    # What the belly cannot hold goes under the skin.
    volumes["visceral_fat"] = 1000 * VISCERAL_LIMIT_L * float(1 - np.exp(-litres / VISCERAL_LIMIT_L))
    return _with_condition(volumes, person, condition)


def _with_condition(volumes: dict[str, float], person: Person, condition: Condition) -> dict[str, float]:
    if condition.hepatomegaly:
        volumes["liver"] *= 1.4
    if condition.splenomegaly:
        volumes["spleen"] *= 2.2
    if condition.nephrectomy is not None:
        other = "right" if condition.nephrectomy == "left" else "left"
        volumes[f"kidney_{other}"] *= 1.35
        volumes[f"kidney_{condition.nephrectomy}"] = 0.0
    for gone, name in (
        (condition.splenectomy, "spleen"), (condition.cholecystectomy, "gallbladder"),
        (condition.prostatectomy or person.female, "prostate"),
        (condition.hysterectomy or not person.female, "uterus"),
    ):  # fmt: skip
        if gone:
            volumes[name] = 0.0
    if condition.effusion is not None:
        volumes["lungs"] *= 0.85
        volumes["pleural_effusion"] = 0.12 * volumes["lungs"]
    return volumes
