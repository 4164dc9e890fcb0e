"""Names and numbers of the organ labels.

1 to 117 are the classes of TotalSegmentator's task "total" with their numbers; what that task leaves unlabelled
follows with names of its other tasks ("tissue_types", "body", "head_glands_cavities", "heartchambers_highres").

References
----------
Wasserthal et al., Radiology: Artificial Intelligence 5(5), 2023. doi:10.1148/ryai.230024
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

_VERTEBRAE = (
    [f"L{n}" for n in range(5, 0, -1)] + [f"T{n}" for n in range(12, 0, -1)] + [f"C{n}" for n in range(7, 0, -1)]
)

_TOTAL = [
    *[
        "spleen",
        "kidney_right",
        "kidney_left",
        "gallbladder",
        "liver",
        "stomach",
        "pancreas",
        "adrenal_gland_right",
        "adrenal_gland_left",
    ],
    *["lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_middle_lobe_right"],
    *[
        "lung_lower_lobe_right",
        "esophagus",
        "trachea",
        "thyroid_gland",
        "small_bowel",
        "duodenum",
        "colon",
        "urinary_bladder",
    ],
    *["prostate", "kidney_cyst_left", "kidney_cyst_right", "sacrum", "vertebrae_S1"],
    *(f"vertebrae_{name}" for name in _VERTEBRAE),
    *["heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk", "subclavian_artery_right", "subclavian_artery_left"],
    *["common_carotid_artery_right", "common_carotid_artery_left", "brachiocephalic_vein_left"],
    *["brachiocephalic_vein_right", "atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava"],
    *["portal_vein_and_splenic_vein", "iliac_artery_left", "iliac_artery_right", "iliac_vena_left", "iliac_vena_right"],
    *["humerus_left", "humerus_right", "scapula_left", "scapula_right", "clavicula_left", "clavicula_right"],
    *[
        "femur_left",
        "femur_right",
        "hip_left",
        "hip_right",
        "spinal_cord",
        "gluteus_maximus_left",
        "gluteus_maximus_right",
    ],
    *["gluteus_medius_left", "gluteus_medius_right", "gluteus_minimus_left", "gluteus_minimus_right"],
    *["autochthon_left", "autochthon_right", "iliopsoas_left", "iliopsoas_right", "brain", "skull"],
    *(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)),
    *["sternum", "costal_cartilages"],
]

_MORE = [
    *["subcutaneous_fat", "torso_fat", "skeletal_muscle", "skin", "parotid_gland_left", "parotid_gland_right"],
    *[
        "submandibular_gland_left",
        "submandibular_gland_right",
        "eye_left",
        "eye_right",
        "heart_myocardium",
        "uterus",
        "breast",
    ],
    *["ulna_left", "ulna_right", "bladder_wall", "mediastinum", "pharynx"],
    *["sublingual_gland_left", "sublingual_gland_right", "lacrimal_gland_left", "lacrimal_gland_right"],
    *["intervertebral_discs", "radius_left", "radius_right", "hand_left", "hand_right", "pituitary_gland"],
    *["tonsils", "testes", "pleural_effusion", "implant"],
]

ORGAN_IDS: dict[str, int] = {name: number for number, name in enumerate([*_TOTAL, *_MORE], start=1)}
"""Class name -> label in the organ volume; 0 is air."""

ORGAN_NAMES: dict[int, str] = {number: name for name, number in ORGAN_IDS.items()}
"""Label in the organ volume -> class name."""

LUNGS = tuple(name for name in _TOTAL if name.startswith("lung_"))
"""The five lobes."""


_TORSO_SPINE = tuple(f"vertebrae_{name}" for name in _VERTEBRAE)


def _both(name: str) -> tuple[str, str]:
    return f"{name}_left", f"{name}_right"


LDOS_ORGANS: dict[str, tuple[str, ...]] = {
    "spleen": ("spleen",), "colon": ("colon",), "urinary_bladder": ("urinary_bladder",),
    "sacrum": ("sacrum", "vertebrae_S1"), "vertebrae": _TORSO_SPINE, "heart": ("heart", "heart_myocardium"),
    "aorta": ("aorta",), "clavicula": _both("clavicula"), "femur": _both("femur"), "hip": _both("hip"),
    "autochthon": _both("autochthon"), "kidney": _both("kidney"), "brain": ("brain",), "liver": ("liver",),
    "stomach": ("stomach",), "pancreas": ("pancreas",), "lung": LUNGS, "esophagus": ("esophagus",),
}  # fmt: skip
"""The 18 organs of LDOS in the order of its paper's table 1, label 1 to 18, and the classes each is made of.

References
----------
Ye et al., Self is the Best Learner, MICCAI 2025, arXiv 2503.03786, table 1.
"""

LESIONTRACER_ORGANS: dict[str, tuple[str, ...]] = {
    "spleen": ("spleen",), "kidneys": _both("kidney"), "liver": ("liver",), "urinary_bladder": ("urinary_bladder",),
    "lungs": LUNGS, "brain": ("brain",), "heart": ("heart", "heart_myocardium"), "stomach": ("stomach",),
    "prostate": ("prostate",), "head_glands": (*_both("parotid_gland"), *_both("submandibular_gland")),
}  # fmt: skip
"""The ten organs of LesionTracer, label 1 to 10: head glands are both parotid and both submandibular glands, as its
paper says, not the classes its published labels hold by an index slip.

References
----------
Rokuss et al., From FDG to PSMA, arXiv 2409.09478, section 2.
"""


def grouped(organs: npt.NDArray[np.uint8], groups: Mapping[str, tuple[str, ...]]) -> npt.NDArray[np.uint8]:
    """Return the organ labels as the numbers 1.. of `groups`, in their order; whatever is in no group becomes 0.

    Parameters
    ----------
    organs : array uint8
        Labels of `ORGAN_IDS`.
    groups : mapping
        New class name -> names of the classes it is made of, e.g. `LDOS_ORGANS`.
    """
    table = np.zeros(256, np.uint8)
    for number, names in enumerate(groups.values(), start=1):
        table[[ORGAN_IDS[name] for name in names]] = number
    return table[organs]


def organ_id(name: str) -> int:
    """Return the label of a class name."""
    return ORGAN_IDS[name]
