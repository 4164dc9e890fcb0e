"""Class names and numbers of organs, and how methods merge them.

1 to 117 are the classes of TotalSegmentator's task "total" (version 2) with their numbers. Methods merge them (both
kidneys, five lobes, ...) by a named grouping; `class_table` turns a label map of one numbering into that of a grouping.

References
----------
Wasserthal et al., Radiology: Artificial Intelligence 5(5), 2023. doi:10.1148/ryai.230024
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError

_VERTEBRAE = tuple(
    f"vertebrae_{letter}{n}" for letter, count in (("L", 5), ("T", 12), ("C", 7)) for n in range(count, 0, -1)
)


def _sides(*names: str, order: tuple[str, str] = ("left", "right")) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in names for side in order)


LUNG_LOBES = (
    "lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)  # fmt: skip

HEART = (
    "heart", "heart_myocardium", "heart_atrium_left", "heart_ventricle_left", "heart_atrium_right",
    "heart_ventricle_right",
)  # fmt: skip
"""The whole heart: one class in version 2, its chambers in version 1 and in other tasks."""

TOTAL = (
    "spleen", *_sides("kidney", order=("right", "left")), "gallbladder", "liver", "stomach", "pancreas",
    *_sides("adrenal_gland", order=("right", "left")), *LUNG_LOBES, "esophagus", "trachea", "thyroid_gland",
    "small_bowel", "duodenum", "colon", "urinary_bladder", "prostate", *_sides("kidney_cyst"), "sacrum", "vertebrae_S1",
    *_VERTEBRAE, "heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk", "subclavian_artery_right",
    "subclavian_artery_left", "common_carotid_artery_right", "common_carotid_artery_left",
    *_sides("brachiocephalic_vein"), "atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    *_sides("iliac_artery", "iliac_vena", "humerus", "scapula", "clavicula", "femur", "hip"), "spinal_cord",
    *_sides("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"), "brain", "skull",
    *(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)), "sternum", "costal_cartilages",
)  # fmt: skip
"""TotalSegmentator's task "total": class n is ``TOTAL[n - 1]``."""

TOTAL_NAMES: dict[int, str] = dict(enumerate(TOTAL, start=1))
"""Label value -> class name of that task."""

AUTOPET_NAMES: dict[int, str] = {
    1: "spleen", 2: "kidneys", 3: "liver", 4: "urinary_bladder", 5: "lungs", 6: "brain", 7: "heart", 8: "stomach",
    9: "prostate", 10: "head_glands_published",
}  # fmt: skip
"""The organ maps published with LesionTracer. Label 10 is both parotids, the right submandibular gland and the right
optic nerve, by a slip of one index; hence its name."""

_LESIONTRACER = {
    "spleen": ("spleen",),
    "kidneys": ("kidney_right", "kidney_left"),
    "liver": ("liver",),
    "urinary_bladder": ("urinary_bladder", "bladder_wall"),
    "lungs": LUNG_LOBES,
    "brain": ("brain",),
    "heart": HEART,
    "stomach": ("stomach",),
    "prostate": ("prostate",),
}

GROUPINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "lesiontracer": {
        **_LESIONTRACER,
        "head_glands": _sides("parotid_gland", "submandibular_gland"),
    },
    "lesiontracer-published": {
        **_LESIONTRACER,
        "head_glands_published": (*_sides("parotid_gland"), "submandibular_gland_right", "optic_nerve_right"),
    },
    "ldos": {
        "spleen": ("spleen",),
        "colon": ("colon",),
        "urinary_bladder": ("urinary_bladder", "bladder_wall"),
        "sacrum": ("sacrum", "vertebrae_S1"),
        "vertebrae": _VERTEBRAE,
        "heart": HEART,
        "aorta": ("aorta",),
        "clavicula": _sides("clavicula"),
        "femur": _sides("femur"),
        "hip": _sides("hip"),
        "autochthon": _sides("autochthon"),
        "kidney": ("kidney_right", "kidney_left"),
        "brain": ("brain",),
        "liver": ("liver",),
        "stomach": ("stomach",),
        "pancreas": ("pancreas",),
        "lung": LUNG_LOBES,
        "esophagus": ("esophagus",),
    },
}
"""Grouping -> class -> the TotalSegmentator classes it is made of; classes are numbered in this order."""


def classes_of(grouping: str) -> tuple[str, ...]:
    """Return the class names of a grouping, background first.

    Raises
    ------
    UsageError
        If there is no such grouping.
    """
    if grouping not in GROUPINGS:
        raise UsageError(f"{grouping!r} is no grouping of organs; known are {', '.join(GROUPINGS)}.")
    return ("background", *GROUPINGS[grouping])


def class_table(names: Mapping[int, str], classes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return the table ``new = table[old]`` from one numbering of organs to another.

    Parameters
    ----------
    names : mapping
        Label value of the given maps -> class name.
    classes : sequence of str
        Wanted classes, background first; number n is ``classes[n]``. A class takes labels of its own name, those that
        any grouping puts under it, and those of a grouping's class all of whose parts it takes ("lungs", for "lung").

    Returns
    -------
    array (n,) uint8
        0 for labels that belong to no wanted class.

    Raises
    ------
    UsageError
        If not a single label belongs to a wanted class: the maps are of another kind.
    """
    parts: dict[str, int] = {}
    for number, wanted in enumerate(classes):
        if number:
            parts[wanted] = number
            for grouping in GROUPINGS.values():
                for part in grouping.get(wanted, ()):
                    parts[part] = number
    for grouping in GROUPINGS.values():
        for name, members in grouping.items():
            whole = {parts.get(part, 0) for part in members}
            if name not in parts and len(whole) == 1:
                parts[name] = whole.pop()
    table = np.zeros(max([0, *names]) + 1, dtype=np.uint8)
    for value, name in names.items():
        table[value] = parts.get(name, 0)
    if not table.any():
        raise UsageError(
            f"none of the organ labels ({', '.join(list(names.values())[:4])}, …) belongs to a wanted class "
            f"({', '.join(classes[1:5])}, …)."
        )
    return table
