"""CT numbers of the tissues of one patient, plain or with contrast medium, and the texture of PET and CT within them.

References
----------
Liver: doi:10.1007/s00414-019-02016-1. Spleen below liver by 1 to 18 HU: Park et al., Radiology (living donors).
Trabecular bone loses about 2 HU a year. The other values are defaults of ours.
"""

from __future__ import annotations

import numpy as np

from uptake.simulation.canvas import Tissue
from uptake.simulation.person import Person
from uptake.simulation.tracers import Uptake

_HU: dict[str, tuple[float, float]] = {
    # tissue: (mean HU, SD between patients), no contrast medium
    "gas": (-950, 15), "lung": (-800, 45), "effusion": (12, 6), "liver": (58, 8), "spleen": (48, 5),
    "kidney_cortex": (33, 4), "kidney_medulla": (31, 4), "renal_pelvis": (8, 3), "pancreas": (40, 8), "blood": (42, 5),
    "blood_wall": (42, 4), "myocardium": (44, 4), "grey_matter": (37, 2), "white_matter": (29, 2),
    "cerebellum": (37, 2), "csf": (8, 2), "spinal_cord": (32, 3), "pituitary": (40, 4), "vitreous": (8, 2),
    "eye_muscle": (45, 6), "lacrimal": (35, 6), "parotid": (15, 18), "submandibular": (40, 10), "sublingual": (40, 8),
    "tonsil": (50, 6), "nasal": (35, 10), "tongue": (50, 8), "larynx": (45, 8), "thyroid": (95, 12),
    "muscle": (52, 6), "fat": (-105, 6), "visceral_fat": (-98, 7), "mediastinal_fat": (-80, 10), "brown_fat": (-85, 5),
    "skin": (20, 10), "breast": (15, 20), "cortical_bone": (850, 90), "dense_bone": (1250, 100),
    "yellow_marrow": (-20, 20), "cartilage": (95, 20), "metal": (2900, 50), "esophagus": (38, 5),
    "stomach_wall": (42, 5), "stomach_content": (15, 20), "duodenum": (38, 6), "small_bowel": (38, 6),
    "bowel_content": (20, 10), "colon": (30, 8), "gallbladder": (10, 4), "adrenal": (18, 8), "urine": (5, 4),
    "bladder_wall": (38, 5), "prostate": (42, 5), "uterus": (48, 6), "endometrium": (38, 6), "testis": (35, 5),
}  # fmt: skip

_PORTAL_VENOUS: dict[str, tuple[float, float]] = {
    # tissue: (mean HU, SD between patients) 70 to 90 s after intravenous contrast medium
    "liver": (110, 13), "spleen": (118, 12), "kidney_cortex": (185, 28), "kidney_medulla": (165, 28),
    "pancreas": (95, 12), "blood": (155, 14), "blood_wall": (135, 12), "myocardium": (110, 10), "muscle": (62, 6),
    "thyroid": (165, 20), "parotid": (55, 18), "submandibular": (85, 12), "sublingual": (80, 10), "tonsil": (85, 10),
    "nasal": (70, 12), "stomach_wall": (85, 10), "small_bowel": (90, 10), "duodenum": (90, 10), "colon": (75, 10),
    "adrenal": (70, 10), "prostate": (75, 10), "uterus": (95, 15), "grey_matter": (41, 2), "cerebellum": (41, 2),
    "esophagus": (70, 8), "lacrimal": (75, 10), "pituitary": (95, 12), "testis": (55, 6),
}  # fmt: skip

_TEXTURE: dict[str, tuple[float, float]] = {
    # tissue: (SD of log SUV, SD of HU) inside one organ
    "liver": (0.05, 5.0), "spleen": (0.05, 4.0), "muscle": (0.13, 6.0), "fat": (0.12, 5.0), "lung": (0.14, 22.0),
    "visceral_fat": (0.15, 8.0), "mediastinal_fat": (0.15, 18.0), "marrow": (0.10, 28.0), "small_bowel": (0.25, 10.0),
    "duodenum": (0.2, 8.0), "colon": (0.28, 14.0), "bowel_content": (0.25, 25.0), "grey_matter": (0.10, 3.0),
    "white_matter": (0.08, 2.0), "kidney_cortex": (0.12, 4.0), "pancreas": (0.12, 9.0), "cortical_bone": (0.15, 80.0),
    "stomach_wall": (0.20, 6.0), "myocardium": (0.08, 4.0), "breast": (0.20, 25.0), "gas": (0.0, 5.0),
    "urine": (0.03, 2.0), "blood": (0.04, 3.0), "stomach_content": (0.2, 15.0), "uterus": (0.2, 5.0),
    "prostate": (0.12, 4.0), "parotid": (0.12, 8.0), "metal": (0.0, 20.0), "effusion": (0.05, 3.0),
}  # fmt: skip


def draw_tissues(
    rng: np.random.Generator, person: Person, uptake: Uptake, contrast: str | None
) -> tuple[dict[str, Tissue], str]:
    """Return SUV, HU and texture of every tissue of one patient, and the contrast phase of the CT.

    Parameters
    ----------
    rng : numpy.random.Generator
    person : Person
    uptake : Uptake
    contrast : {"none", "portal-venous"} or None
        None draws it: half of the patients get contrast medium, 60 % of these drink some as well.
    """
    chance, oral = rng.uniform(size=2)
    phase = contrast or ("portal-venous" if chance < 0.5 else "none")
    normals = {name: float(rng.standard_normal()) for name in _HU}
    table = {**_HU, **(_PORTAL_VENOUS if phase == "portal-venous" else {})}
    draw = {name: mean + sd * normals[name] for name, (mean, sd) in table.items()}
    draw["liver"] -= 12.0 * max(person.corpulence, 0.0)  # steatosis
    if phase == "none":
        draw["spleen"] = max(draw["spleen"], draw["liver"] - 18.0)
    elif oral < 0.6:
        draw["bowel_content"] = draw["stomach_content"] = 220.0 + 250.0 * float(oral)
    marrow = 230.0 - 2.0 * (person.age_years - 20.0) + 40.0 * float(rng.standard_normal())
    draw["marrow"] = float(np.clip(marrow, 40.0, 320.0))
    return {name: Tissue(uptake.suv[name], hu, *_TEXTURE.get(name, (0.06, 4.0))) for name, hu in draw.items()}, phase
