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

from uptake.core.anatomy import GROUPINGS, LUNG_LOBES, TOTAL

_MORE = (
    "subcutaneous_fat", "torso_fat", "skeletal_muscle", "skin", "parotid_gland_left", "parotid_gland_right",
    "submandibular_gland_left", "submandibular_gland_right", "eye_left", "eye_right", "heart_myocardium", "uterus",
    "breast", "ulna_left", "ulna_right", "bladder_wall", "mediastinum", "pharynx", "sublingual_gland_left",
    "sublingual_gland_right", "lacrimal_gland_left", "lacrimal_gland_right", "intervertebral_discs", "radius_left",
    "radius_right", "hand_left", "hand_right", "pituitary_gland", "tonsils", "testes", "pleural_effusion", "implant",
)  # fmt: skip
"""Not in TotalSegmentator's task "total"; numbers go on where it ends."""

ORGAN_IDS: dict[str, int] = {name: number for number, name in enumerate((*TOTAL, *_MORE), start=1)}
"""Class name -> label in the organ volume; 0 is air."""

ORGAN_NAMES: dict[int, str] = {number: name for name, number in ORGAN_IDS.items()}
"""Label in the organ volume -> class name."""

LUNGS = LUNG_LOBES


def _drawn(grouping: str) -> dict[str, tuple[str, ...]]:
    """Return a grouping of `core.anatomy`, less the classes that simulated organs do not have."""
    return {name: tuple(p for p in parts if p in ORGAN_IDS) for name, parts in GROUPINGS[grouping].items()}


LDOS_ORGANS = _drawn("ldos")
"""The 18 organs of LDOS in the order of its paper's table 1, label 1 to 18, and the classes each is made of.

References
----------
Ye et al., Self is the Best Learner, MICCAI 2025, arXiv 2503.03786, table 1.
"""

LESIONTRACER_ORGANS = _drawn("lesiontracer")
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
