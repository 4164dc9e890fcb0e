"""What five tracers show: organ means of one patient, drawn together where they go together.

References
----------
FDG organ means: Wang et al., Mol Imaging Biol 9, 2007, doi:10.1007/s11307-006-0075-y; Boktor et al., J Nucl Med 54,
2013, doi:10.2967/jnumed.112.108530; Liu, Iran J Radiol 2015, doi:10.5812/iranjradiol.84881. Liver against blood pool,
r = 0.82 over 1,018 patients; brain against glucose: Sprinz et al. 2018 (PMC5553544). Heart after a fast of 4 to 6 hours
and overnight: Kumar et al., Indian J Nucl Med 29, 2014 (PMC4157186). Plausible FDG livers, 1.3 to 3.0:
doi:10.1007/s00259-022-05977-5. PSMA-11: doi:10.1186/s13550-024-01097-3, doi:10.1038/s41598-020-60099-y; PSMA-1007:
the first of these and Trägårdh, doi:10.1111/cpf.70016 (tumour sink: kidney and parotid, weak). FAPI-04: Kratochwil et
al., doi:10.2967/jnumed.119.227967; Mu et al., doi:10.3389/fnume.2022.927843. DOTATATE: doi:10.1007/s12149-013-0718-4.
Where no measured mean was found the value is ours and is meant as a default.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uptake.simulation.person import TRACERS, Person

RADIONUCLIDES = {"FDG": "F-18", "PSMA-11": "Ga-68", "PSMA-1007": "F-18", "FAPI-04": "Ga-68", "DOTATATE": "Ga-68"}

FDG_LIVER_RANGE = (1.38, 2.9)
"""Liver SUV mean is drawn again outside: 1.3 to 3.0 is what a correctly calibrated FDG scan shows."""

LIVER_BLOOD_CORRELATION = {"FDG": 0.82, "PSMA-11": 0.3, "PSMA-1007": 0.3, "FAPI-04": 0.5, "DOTATATE": 0.3}
"""Between log SUV of liver and blood pool over patients; measured for FDG."""

BODY_MEAN = {"FDG": 0.83, "PSMA-11": 0.88, "PSMA-1007": 0.92, "FAPI-04": 0.87, "DOTATATE": 0.83}
"""Mean SUV of the whole body: one minus the share of the activity that has been voided, mean over patients."""

HEART_PATTERNS = ("none", "patchy", "homogeneous")
HEART_SHARES = {"hours": (0.10, 0.39, 0.51), "overnight": (0.55, 0.27, 0.18)}
"""FDG in the left ventricle after a fast of 4 to 6 hours and overnight."""

OBESITY = 0.22
"""Relative rise of FDG SUV in liver, blood and spleen per 10 kg/m²: fat takes up little of the dose."""

ORGANS: dict[str, tuple[float, float, float, float, float, float]] = {
    # tissue: mean SUV of FDG, PSMA-11, PSMA-1007, FAPI-04, DOTATATE; coefficient of variation between patients
    "grey_matter": (9.0, 0.1, 0.2, 0.1, 0.1, 0.22),
    "pituitary": (2.5, 1.5, 2.0, 0.8, 8.0, 0.35),
    "csf": (0.35, 0.15, 0.2, 0.2, 0.2, 0.2),
    "eye_muscle": (2.6, 0.6, 0.7, 1.2, 0.7, 0.3),
    "lacrimal": (1.5, 6.0, 8.0, 1.2, 1.0, 0.4),
    "parotid": (1.8, 14.5, 18.6, 1.6, 1.8, 0.3),
    "submandibular": (2.0, 13.0, 17.0, 2.6, 2.0, 0.3),
    "sublingual": (3.3, 5.0, 7.0, 1.8, 1.6, 0.4),
    "tonsil": (3.45, 4.5, 5.0, 1.8, 2.4, 0.4),
    "nasal": (1.5, 3.5, 4.5, 1.5, 1.2, 0.3),
    "tongue": (1.3, 0.8, 0.9, 1.5, 0.8, 0.3),
    "larynx": (1.8, 1.5, 1.8, 1.5, 1.0, 0.35),
    "thyroid": (1.3, 1.2, 1.4, 1.8, 2.2, 0.35),
    "lung": (0.5, 0.4, 0.5, 0.5, 0.5, 0.22),
    "effusion": (0.6, 0.6, 0.7, 0.8, 0.5, 0.2),
    "blood": (1.55, 1.5, 2.0, 1.6, 1.0, 0.20),
    "myocardium": (3.0, 1.3, 1.6, 1.5, 1.0, 0.25),
    "esophagus": (1.6, 0.9, 1.1, 1.5, 0.9, 0.25),
    "liver": (2.12, 5.4, 11.7, 1.1, 4.8, 0.20),
    "gallbladder": (0.8, 3.0, 40.0, 3.5, 2.5, 0.45),
    "spleen": (1.9, 8.1, 11.2, 1.2, 17.3, 0.20),
    "kidney_cortex": (2.6, 46.0, 14.2, 2.3, 12.0, 0.28),
    "kidney_medulla": (2.1, 28.0, 9.0, 1.8, 7.5, 0.28),
    "adrenal": (1.4, 3.0, 3.5, 1.2, 12.6, 0.35),
    "pancreas": (1.3, 1.8, 2.6, 2.0, 3.8, 0.3),
    "stomach_wall": (1.8, 1.5, 1.8, 1.1, 4.5, 0.35),
    "duodenum": (1.6, 9.5, 8.5, 1.2, 4.5, 0.4),
    "small_bowel": (1.5, 4.0, 3.8, 1.0, 3.0, 0.4),
    "colon": (1.4, 1.8, 2.2, 1.0, 2.2, 0.45),
    "bowel_content": (0.6, 0.8, 1.0, 0.6, 0.8, 0.3),
    "stomach_content": (0.4, 0.4, 0.4, 0.4, 0.5, 0.2),
    "urine": (15.0, 30.0, 4.0, 25.0, 15.0, 0.8),
    "prostate": (1.6, 2.4, 2.8, 1.6, 3.2, 0.35),
    "uterus": (1.8, 0.9, 1.1, 3.5, 1.4, 0.4),
    "endometrium": (2.3, 1.0, 1.2, 4.5, 1.6, 0.4),
    "testis": (2.4, 0.9, 1.0, 1.0, 0.9, 0.25),
    "bladder_wall": (0.9, 0.7, 0.8, 1.2, 0.8, 0.2),
    "muscle": (0.75, 0.5, 0.55, 1.2, 0.6, 0.15),
    "fat": (0.28, 0.25, 0.25, 0.4, 0.25, 0.2),
    "skin": (0.5, 0.4, 0.5, 0.9, 0.4, 0.2),
    "breast": (0.7, 0.5, 0.6, 1.1, 0.5, 0.25),
    "marrow": (1.6, 0.6, 1.1, 0.6, 1.0, 0.22),
    "yellow_marrow": (0.42, 0.3, 0.4, 0.3, 0.3, 0.25),
    "cortical_bone": (0.4, 0.4, 0.6, 0.5, 0.5, 0.25),
    "cartilage": (0.6, 0.4, 0.5, 0.8, 0.4, 0.2),
    "spinal_cord": (1.7, 0.6, 0.7, 0.6, 0.5, 0.2),
}
"""SUV means 60 minutes after injection (PSMA-1007: 90 to 120), and their spread. Urine: sigma of the logarithm."""

_SPREAD = {
    ("PSMA-11", "liver"): 0.30, ("PSMA-1007", "liver"): 0.32, ("DOTATATE", "liver"): 0.35, ("FAPI-04", "liver"): 0.3,
    ("PSMA-11", "spleen"): 0.40, ("PSMA-1007", "spleen"): 0.32, ("DOTATATE", "spleen"): 0.35,
    ("PSMA-1007", "gallbladder"): 0.7, ("FAPI-04", "gallbladder"): 0.2,
}  # fmt: skip
_URINE_RANGE = {"FDG": (3.5, 70.0), "PSMA-11": (5.0, 150.0), "PSMA-1007": (1.0, 10.0), "FAPI-04": (4.0, 90.0),
                "DOTATATE": (3.0, 70.0)}  # fmt: skip
_SHARED = {
    # What rises and falls together beyond liver and blood: tissue -> (of which tissue, correlation of log SUV).
    "spleen": ("liver", 0.5), "kidney_medulla": ("kidney_cortex", 0.95), "submandibular": ("parotid", 0.85),
    "sublingual": ("parotid", 0.6), "lacrimal": ("parotid", 0.5), "small_bowel": ("duodenum", 0.7),
    "endometrium": ("uterus", 0.8), "skin": ("muscle", 0.5), "nasal": ("tonsil", 0.5), "csf": ("fat", 0.5),
}  # fmt: skip


@dataclass(frozen=True)
class Uptake:
    """SUV means of one patient and what goes with them.

    Attributes
    ----------
    tracer : str
    suv : dict
        Tissue -> mean SUV, g/mL.
    heart_pattern : {"none", "patchy", "homogeneous", "even"}
        "even" for tracers whose myocardium has no pattern of its own.
    body_mean : float
        Target of the mass balance: mean SUV over the whole body.
    bowel_sigma : float
        SD of log SUV along the bowel.
    drawn : dict
        Fast, glucose, medication, as drawn; plain JSON values.
    """

    tracer: str
    suv: dict[str, float]
    heart_pattern: str
    body_mean: float
    bowel_sigma: float
    drawn: dict[str, object]


def lognormal(normal: float, mean: float, cv: float) -> float:
    """Return a log-normal value of given mean and coefficient of variation for a standard normal draw (2.2 SD cap)."""
    sigma = float(np.sqrt(np.log1p(cv**2)))
    return float(mean * np.exp(sigma * np.clip(normal, -2.2, 2.2) - sigma**2 / 2))


def draw_uptake(rng: np.random.Generator, person: Person, tracer: str) -> Uptake:
    """Return the organ means of one patient for a tracer of `TRACERS`."""
    column = TRACERS.index(tracer)
    normals = {name: float(rng.standard_normal()) for name in ORGANS}
    for name, (leader, r) in _SHARED.items():
        normals[name] = r * normals[leader] + float(np.sqrt(1 - r * r)) * normals[name]
    suv = {
        name: lognormal(normals[name], row[column], _SPREAD.get((tracer, name), row[5]))
        for name, row in ORGANS.items()
        if name != "urine"
    }
    _draw_liver_and_blood(rng, person, tracer, suv, normals)
    low, high = _URINE_RANGE[tracer]
    urine = ORGANS["urine"][column] * np.exp(0.8 * float(np.clip(normals["urine"], -2, 2)))
    suv["urine"] = float(np.clip(urine, low, high))
    suv["renal_pelvis"] = float(np.clip(suv["urine"] * rng.uniform(0.25, 0.9), 0.3 * low, 60.0))
    drawn: dict[str, object] = {}
    pattern = "even"
    sigma = 0.45
    fed = rng.uniform(size=4)
    if tracer == "FDG":
        pattern, sigma = _fdg_metabolism(person, suv, fed, rng.standard_normal(), drawn)
    suv["white_matter"] = suv["grey_matter"] / (3.0 if tracer == "FDG" else 1.0)
    suv["cerebellum"] = 0.85 * suv["grey_matter"]
    # Whatever the draws say: lean tissue shows less than blood, fat less than lean tissue.
    suv["muscle"] = min(suv["muscle"], (0.65 if tracer == "FDG" else 0.8) * suv["blood"])
    suv["fat"] = min(suv["fat"], 0.55 * suv["muscle"])
    suv["blood_wall"] = 0.5 * (suv["blood"] + max(suv["blood"], min(suv["myocardium"], 1.3 * suv["blood"])))
    suv["mediastinal_fat"] = 0.5 * (suv["fat"] + 0.5 * suv["blood"])
    suv.update(visceral_fat=suv["fat"], brown_fat=suv["fat"], dense_bone=suv["cortical_bone"], vitreous=suv["csf"],
               gas=0.0, metal=0.0)  # fmt: skip
    target = float(np.clip(BODY_MEAN[tracer] + 0.035 * rng.standard_normal(), 0.77, 0.97))
    return Uptake(tracer, suv, pattern, target, sigma, drawn)


def _draw_liver_and_blood(
    rng: np.random.Generator, person: Person, tracer: str, suv: dict[str, float], normals: dict[str, float]
) -> None:
    column, r = TRACERS.index(tracer), LIVER_BLOOD_CORRELATION[tracer]
    corpulence = float(np.clip(person.corpulence, -0.6, 2.0))
    size = 1.0 + OBESITY * corpulence * (1.0 if tracer == "FDG" else 0.5)
    first, second = normals["liver"], normals["blood"]
    for _ in range(200):
        mixed = r * first + float(np.sqrt(1 - r**2)) * second
        liver = size * lognormal(first, ORGANS["liver"][column], _SPREAD.get((tracer, "liver"), ORGANS["liver"][5]))
        blood = size * lognormal(mixed, ORGANS["blood"][column], ORGANS["blood"][5])
        low, high = FDG_LIVER_RANGE
        if tracer != "FDG" or (low <= liver <= high and blood < 0.85 * liver):
            break
        first, second = rng.standard_normal(2)
    suv["liver"], suv["blood"] = liver, blood
    suv["spleen"] *= size


def _fdg_metabolism(
    person: Person, suv: dict[str, float], chance: np.ndarray, normal: float, drawn: dict[str, object]
) -> tuple[str, float]:
    """Change means for glucose, fast and medication; return heart pattern and spread along the bowel."""
    glucose = float(np.clip(5.7 * np.exp(0.16 * normal), 4.0, 10.5))
    fast = "overnight" if chance[0] < 0.5 else "hours"
    metformin = bool(glucose > 6.0 and chance[1] < 0.35)
    stimulated = bool(chance[2] < 0.03)
    suv["grey_matter"] *= float((5.7 / glucose) ** 0.7)
    suv["muscle"] *= float((glucose / 5.7) ** 0.15)
    if metformin:
        suv["colon"] = float(np.clip(3.2 * suv["colon"], 3.0, 8.0))
        suv["small_bowel"] = float(np.clip(2.2 * suv["small_bowel"], 2.0, 6.0))
    if stimulated:
        suv["marrow"] = float(np.clip(2.6 * suv["marrow"], 3.0, 6.0))
        suv["spleen"] *= 1.35
    shares = HEART_SHARES[fast]
    step = float(chance[3])
    pattern = HEART_PATTERNS[min(int(np.searchsorted(np.cumsum(shares), step)), 2)]
    before = float(np.cumsum([0.0, *shares])[HEART_PATTERNS.index(pattern)])
    strength = float(np.clip((step - before) / shares[HEART_PATTERNS.index(pattern)], 0, 1))
    suv["myocardium"] = {
        "none": 1.05 * suv["blood"],
        "patchy": 2.0 + 3.0 * strength,
        "homogeneous": 4.0 * (13.0 / 4.0) ** strength,
    }[pattern]
    drawn.update(glucose_mmol_l=round(glucose, 2), fast=fast, metformin=metformin, marrow_stimulated=stimulated)
    return pattern, 0.6 if metformin else 0.45


def tumour_sink(tracer: str, burden_g: float) -> float:
    """Return the factor on kidneys and salivary glands that a tumour burden (sum of SUV x mL, g) leaves them.

    Weak, and only at very high burden: 1 below 1,500 g, 0.7 at 6,000 g and above for the PSMA tracers, 1 for others.
    """
    if not tracer.startswith("PSMA"):
        return 1.0
    return 1.0 - 0.3 * float(np.clip((burden_g - 1500.0) / 4500.0, 0.0, 1.0))
