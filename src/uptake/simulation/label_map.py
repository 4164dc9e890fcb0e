"""Organ label maps of real scans as the anatomy of digital patients: which class is what, and what cannot be right.

A map in the numbering of TotalSegmentator, in that of the ten organs published with LesionTracer, or in any other whose
names are known, tells where organs lie. What it does not hold is drawn around them (`given_organs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, label

from uptake.core.anatomy import HEART, LUNG_LOBES, TOTAL
from uptake.core.errors import GeometryError, InputError
from uptake.core.types import Mask, Vector3
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume
from uptake.simulation.labels import ORGAN_IDS

LUNGS, KIDNEYS = "lungs", "kidneys"
"""Merged classes; lungs are parted into lobes and kidneys into left and right by where they lie."""

OUTLINE = ("skin", "subcutaneous_fat", "torso_fat", "skeletal_muscle", "body", "body_trunc", "body_extremities")
"""Classes that reach the skin: with one of them, all labels together are the outline of the patient."""

NOT_TAKEN = ("head_glands_published", "head_glands", "bladder_wall", "mediastinum", "pharynx", "tonsils", "testes",
             "eye_left", "eye_right", "breast", "pleural_effusion", "implant", "heart_myocardium", "hand_left",
             "hand_right", "intervertebral_discs", "background")  # fmt: skip
"""Known, but drawn by the simulator: the classes are merged, cut otherwise, or no more than a part of one that is."""

SAME = {
    "lung": LUNGS, "kidney": KIDNEYS, "heart_and_pericardium": "heart", **dict.fromkeys(HEART, "heart"),
}  # fmt: skip
"""Other names of a class, and parts that make up one."""

TAKEN = (*(name for name in ORGAN_IDS if name not in {*NOT_TAKEN, *OUTLINE}), LUNGS, KIDNEYS)

SMALLEST_ML = 0.05
"""Specks of a class below it are left out."""

SMALLEST_PIECE = 0.05
IN_PIECES = ("colon", "small_bowel", "duodenum", "costal_cartilages")
"""Islands of a class smaller than this share of its largest piece are errors of the network that made the map; but
these classes come in pieces."""

_RIGHT_OF = (
    ("kidney_right", "kidney_left"), ("liver", "spleen"), ("lung_lower_lobe_right", "lung_lower_lobe_left"),
    ("femur_right", "femur_left"), ("hip_right", "hip_left"),
)  # fmt: skip
"""Pairs whose first must lie further to the patient's right."""


@dataclass(frozen=True, eq=False)
class Structure:
    """One class of a label map.

    Attributes
    ----------
    box : tuple of slices
        Its bounding box in the map.
    mask : array bool
        Its voxels in that box.
    centre_mm : tuple of float
        Centroid, world mm RAS+.
    top_mm, bottom_mm : float
        World z of its upper and lower surface.
    cut_above, cut_below : bool
        Whether it reaches the end of the map.
    volume_ml : float
    """

    box: tuple[slice, slice, slice]
    mask: Mask
    centre_mm: Vector3
    top_mm: float
    bottom_mm: float
    cut_above: bool
    cut_below: bool
    volume_ml: float

    @property
    def cut(self) -> bool:
        """Whether part of it lies outside the map."""
        return self.cut_above or self.cut_below


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map whose classes are known; make it with `label_map`.

    Attributes
    ----------
    labels : Volume
        In LPS order.
    classes : mapping
        Class name of `TAKEN` -> label values that make it up, all of them present.
    outline : bool
        Whether all labels together reach the skin.
    covers : tuple of str
        Classes that the numbering names, present or not.
    boxes : mapping
        Label value -> its bounding box.
    """

    labels: Volume
    classes: Mapping[str, tuple[int, ...]]
    outline: bool
    covers: tuple[str, ...]
    boxes: Mapping[int, tuple[slice, slice, slice] | None]
    _known: dict[tuple[int, ...], Structure | None] = field(default_factory=dict, repr=False)

    def structure(self, *names: str) -> Structure | None:
        """Return a class, or several as one; None if the map holds none of it."""
        values = tuple(value for name in names for value in self.classes.get(name, ()))
        if values not in self._known:
            self._known[values] = self._measured(values)
        return self._known[values]

    def _measured(self, values: tuple[int, ...]) -> Structure | None:
        boxes = [box for value in values if (box := self.boxes[value]) is not None]
        if not boxes:
            return None
        i, j, k = (slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes)) for axis in range(3))
        table = np.zeros(int(max(self.boxes)) + 1, dtype=bool)
        table[list(values)] = True
        mask = table[self.labels.array[i, j, k]]
        if not any(name in IN_PIECES for name, own in self.classes.items() if set(own) <= set(values)):
            mask = _main_pieces(mask)
            i, j, k, mask = _tight((i, j, k), mask)
        return _structure(self.labels, (i, j, k), mask)


def _main_pieces(mask: Mask) -> Mask:
    """Return the mask without the islands that networks leave far from the organ."""
    pieces, count = label(mask, structure=np.ones((3, 3, 3)))
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= SMALLEST_PIECE * sizes.max())[pieces])


def _tight(box: tuple[slice, slice, slice], mask: Mask) -> tuple[slice, slice, slice, Mask]:
    """Return a box and a mask cut down to what is in it."""
    inner = find_objects(mask.astype(np.uint8))[0]
    i, j, k = (slice(b.start + n.start, b.start + n.stop) for b, n in zip(box, inner, strict=True))
    return i, j, k, mask[inner]


def _structure(labels: Volume, box: tuple[slice, slice, slice], mask: Mask) -> Structure | None:
    count = int(mask.sum())
    volume = count * labels.voxel_volume_ml
    if volume < SMALLEST_ML:
        return None
    start = np.array([b.start for b in box], dtype=np.float64)
    middle = [float((mask.sum(axis=tuple(a for a in range(3) if a != axis)) @ np.arange(mask.shape[axis])) / count)
              for axis in range(3)]  # fmt: skip
    centre = labels.world_of(start + np.asarray(middle))
    half = labels.spacing_mm[2] / 2
    across = start[:2] + np.asarray(middle[:2])
    ends = [float(labels.world_of(np.array([*across, k]))[2]) for k in (box[2].start, box[2].stop - 1)]
    return Structure(
        box, mask, (float(centre[0]), float(centre[1]), float(centre[2])), max(ends) + half, min(ends) - half,
        cut_above=box[2].stop == labels.shape[2], cut_below=box[2].start == 0, volume_ml=volume,
    )  # fmt: skip


def label_map(labels: Volume, names: Mapping[int, str], *, source: str = "the label map") -> LabelMap:
    """Return a label map as an anatomy, checked.

    Parameters
    ----------
    labels : Volume
        Whole numbers >= 0; any orientation.
    names : mapping
        Label value -> class name: of TotalSegmentator, of `labels.ORGAN_IDS`, "kidneys" and "lungs".
    source : str
        What error messages call the map.

    Raises
    ------
    InputError
        If a value has no name, a name is not known, or there is nothing in it that a patient can be built around.
    GeometryError
        If what lies on the right is on the left: a mirrored map, or the names of another numbering.
    """
    turned = reorient(labels, "LPS")
    turned = turned.with_array(np.ascontiguousarray(turned.array))
    # Label n is the n-th of the list.
    boxes = dict(enumerate(find_objects(turned.array), start=1))
    present = [value for value, box in boxes.items() if box is not None]
    without = [value for value in present if value not in names]
    if without:
        raise InputError(
            f"{source}: the label{'s' if len(without) > 1 else ''} {_some(without)} "
            f"{'have' if len(without) > 1 else 'has'} no name in this numbering. Say which it is: total, autopet, or a "
            "JSON file {number: name} (--anatomy-labels)."
        )
    known = {*ORGAN_IDS, *TOTAL, *TAKEN, *NOT_TAKEN, *OUTLINE, *SAME}
    strange = [names[value] for value in present if names[value] not in known]
    if strange:
        raise InputError(
            f"{source}: {_some(strange)} is no class that the simulator knows; names are those of TotalSegmentator. "
            "Rename them in the JSON file, or set their voxels to 0."
        )
    classes: dict[str, list[int]] = {}
    for value in present:
        name = SAME.get(names[value], names[value])
        if name in TAKEN:
            classes.setdefault(name, []).append(value)
    if not classes:
        raise InputError(f"{source}: holds no organ, only {_some([names[v] for v in present]) or 'zeros'}.")
    made = LabelMap(
        turned,
        {name: tuple(values) for name, values in classes.items()},
        outline=any(names[value] in OUTLINE for value in present),
        covers=tuple(sorted({SAME.get(name, name) for name in names.values()})),
        boxes=boxes,
    )
    _require_sides(made, source)
    return made


def _require_sides(labels: LabelMap, source: str) -> None:
    for right, left in _RIGHT_OF:
        one, other = labels.structure(right), labels.structure(left)
        if one is not None and other is not None and one.centre_mm[0] <= other.centre_mm[0]:
            raise GeometryError(
                f"{source}: {right} does not lie to the right of {left}. Either the map is mirrored (correct its "
                "affine), or its numbers mean something else (--anatomy-labels total, autopet, or a JSON file)."
            )


def lungs_of(labels: LabelMap) -> Structure | None:
    """Return both lungs, whether they come whole or as lobes."""
    return labels.structure(LUNGS, *LUNG_LOBES)


def everything(labels: LabelMap) -> npt.NDArray[np.bool_]:
    """Return where any label is (i, j, k) bool."""
    return np.asarray(labels.labels.array > 0)


def _some(items: list[int] | list[str]) -> str:
    return ", ".join(str(item) for item in items[:6]) + (", …" if len(items) > 6 else "")
