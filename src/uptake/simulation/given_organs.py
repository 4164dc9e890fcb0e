"""Organs of a label map on the canvas: reserved before anything else is drawn, and dressed where no painter does it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from uptake.core.types import Mask
from uptake.simulation.canvas import Canvas
from uptake.simulation.chest import lung_lobes
from uptake.simulation.fields import Array, Line
from uptake.simulation.label_map import KIDNEYS, LUNGS, LabelMap, everything
from uptake.simulation.shapes import Box, Region

PAD_MM = 24.0
"""Around a structure, its distance is known that far."""

BLOOD = (
    "aorta", "pulmonary_vein", "brachiocephalic_trunk", "subclavian_artery_right", "subclavian_artery_left",
    "common_carotid_artery_right", "common_carotid_artery_left", "brachiocephalic_vein_left",
    "brachiocephalic_vein_right", "atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava",
    "portal_vein_and_splenic_vein", "iliac_artery_left", "iliac_artery_right", "iliac_vena_left", "iliac_vena_right",
)  # fmt: skip
PLAIN = {
    **dict.fromkeys(BLOOD, "blood"), "trachea": "gas", "esophagus": "esophagus", "spinal_cord": "spinal_cord",
    "costal_cartilages": "cartilage", "kidney_cyst_left": "effusion", "kidney_cyst_right": "effusion",
}  # fmt: skip
"""Class -> the one tissue it is made of."""

BONES = (
    "vertebrae_", "rib_", "hip_", "femur_", "humerus_", "scapula_", "clavicula_", "sacrum", "sternum", "skull",
)  # fmt: skip

CORTEX_MM = {"femur": 4.0, "humerus": 4.0, "skull": 30.0}
USUAL_CORTEX_MM = 2.5
"""Compact bone under the surface; the skull is nothing else."""

SHAFT_BELOW_MM = 895.0
"""Depth below which the marrow of a femur is yellow; that of a humerus is all through."""


@dataclass(frozen=True, eq=False)
class GivenOrgans:
    """What a label map gives, on the grid of a canvas.

    Attributes
    ----------
    regions : mapping
        Class of `ORGAN_IDS` -> region.
    inside : array (i, j, k)
        Distance to all of it, reference mm; `PAD_MM` and more are not told apart where it is not the outline.
    outline : bool
        Whether `inside` is the outline of the patient itself.
    """

    regions: dict[str, Region]
    inside: Array
    outline: bool


def given_organs(labels: LabelMap, canvas: Canvas) -> GivenOrgans:
    """Return the organs of a label map as regions of a canvas.

    Their surface is the half-way line between voxels in and out, interpolated: smooth at any voxel size.
    """
    regions: dict[str, Region] = {}
    for name in labels.classes:
        part = labels.structure(name)
        if part is not None:
            region = _on_canvas(labels, canvas, part.box, part.mask)
            if region.distance.size:
                regions.update(_parted(canvas, name, region))
    if labels.outline:
        return GivenOrgans(regions, _whole(labels, canvas), outline=True)
    inside = np.full(canvas.shape, PAD_MM / canvas.size, np.float32)
    for region in regions.values():
        np.minimum(inside[region.box], region.distance, out=inside[region.box])
    return GivenOrgans(regions, inside, outline=False)


def reserve_given(canvas: Canvas, given: GivenOrgans) -> None:
    """Claim the given organs and dress those that no painter dresses: bones, vessels, airways."""
    for name, region in given.regions.items():
        canvas.reserve(region, name)
    for name, region in given.regions.items():
        cover = canvas.reserved(name)
        if name in PLAIN:
            canvas.paint(region, PLAIN[name], name, within=cover)
        elif name.startswith(BONES):
            _dress_bone(canvas, name, region, cover)


def _dress_bone(canvas: Canvas, name: str, region: Region, cover: Array) -> None:
    stem = name.split("_")[0]
    cortex = CORTEX_MM.get(stem, USUAL_CORTEX_MM)
    canvas.paint(region, "cortical_bone", name, within=cover, hu_shift=0.0 if cortex >= 3 else -250.0)
    core = region.inset(cortex)
    if stem == "humerus":
        canvas.paint(core, "yellow_marrow", name, within=cover)
        return
    richness = np.exp(np.float32(0.15) * canvas.coarse[region.box]) * np.float32(0.75 if stem == "rib" else 1.0)
    canvas.paint(core, "marrow", name, within=cover, suv_factor=richness)
    if stem == "femur":
        shaft = core.cut(np.float32(SHAFT_BELOW_MM) - canvas.d[region.box])
        canvas.paint(shaft, "yellow_marrow", name, within=cover)


def _parted(canvas: Canvas, name: str, region: Region) -> dict[str, Region]:
    """Return a class under the names of the canvas: kidneys by side, lungs by the fissures of the reference man."""
    u, v, d = canvas.at(region.box)
    if name == KIDNEYS:
        return {"kidney_right": region.cut(-u), "kidney_left": region.cut(u)}
    if name == LUNGS:
        lobes = lung_lobes((u, v, d), canvas.dome_mm)
        return {lobe: region.cut(level) for lobe, level in lobes}
    return {name: region}


def _on_canvas(labels: LabelMap, canvas: Canvas, box: Box, mask: Mask) -> Region:
    """Return a structure as a region: its distance on its own voxels, interpolated at those of the canvas."""
    spacing = labels.labels.spacing_mm
    pad = [int(np.ceil(PAD_MM / s)) for s in spacing]
    # What is cut by the end of the map goes on beyond it.
    whole = np.pad(np.pad(mask, [(0, 0), (0, 0), _on_beyond(labels, box, pad[2])], mode="edge"),
                   [(p, p) for p in (*pad[:2], 0)])  # fmt: skip
    below, above = _on_beyond(labels, box, pad[2])
    whole = np.pad(whole, [(0, 0), (0, 0), (pad[2] - below, pad[2] - above)])
    half = np.float32(np.mean(spacing) / 2)
    distance = np.where(
        whole,
        half - distance_transform_edt(whole, sampling=spacing),
        distance_transform_edt(~whole, sampling=spacing) - half,
    ).astype(np.float32)
    start = np.array([b.start - p for b, p in zip(box, pad, strict=True)], dtype=np.float64)
    corners = np.array(np.meshgrid(*[(s - 0.5, s + n - 0.5) for s, n in zip(start, whole.shape, strict=True)]))
    world = labels.labels.world_of(corners.reshape(3, -1).T)
    there = []
    for axis, positions in enumerate(canvas.axes_mm):
        inside = np.flatnonzero((positions >= world[:, axis].min()) & (positions <= world[:, axis].max()))
        there.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
    target = (there[0], there[1], there[2])
    if any(b.stop == b.start for b in target):
        return Region((slice(0, 0), slice(0, 0), slice(0, 0)), np.zeros((0, 0, 0), np.float32))
    index = _index_of(labels, canvas, target) - start[:, None, None, None]
    found = map_coordinates(distance, index, order=1, mode="constant", cval=PAD_MM, output=np.float32)
    return Region(target, found / np.float32(canvas.size))


def _on_beyond(labels: LabelMap, box: Box, pad: int) -> tuple[int, int]:
    return (pad if box[2].start == 0 else 0, pad if box[2].stop == labels.labels.shape[2] else 0)


def _index_of(labels: LabelMap, canvas: Canvas, box: Box) -> Line:
    """Return the fractional voxel index (3, i, j, k) in the map of the voxels of a box of the canvas."""
    x, y, z = (canvas.axes_mm[axis][box[axis]] for axis in range(3))
    inverse = np.linalg.inv(labels.labels.affine)
    return np.stack([
        row[0] * x[:, None, None] + row[1] * y[None, :, None] + row[2] * z[None, None, :] + row[3]
        for row in inverse[:3]
    ])  # fmt: skip


def _whole(labels: LabelMap, canvas: Canvas) -> Array:
    """Return the distance (reference mm) of every voxel of the canvas to whatever has a label."""
    mask = np.zeros(canvas.shape, dtype=bool)
    present = everything(labels)
    for start in range(0, canvas.shape[2], 16):
        part = (slice(0, canvas.shape[0]), slice(0, canvas.shape[1]), slice(start, min(start + 16, canvas.shape[2])))
        index = np.rint(_index_of(labels, canvas, part)).astype(np.intp)
        valid = np.ones(index.shape[1:], dtype=bool)
        for axis, size in enumerate(present.shape):
            valid &= (index[axis] >= 0) & (index[axis] < size)
            np.clip(index[axis], 0, size - 1, out=index[axis])
        mask[part] = valid & present[index[0], index[1], index[2]]
    half = np.float32(np.mean(canvas.spacing_mm) / 2)
    if not mask.any():
        return np.full(canvas.shape, 1e3, np.float32)
    distance = np.where(
        mask,
        half - distance_transform_edt(mask, sampling=canvas.spacing_mm),
        distance_transform_edt(~mask, sampling=canvas.spacing_mm) - half,
    )
    return np.asarray(distance / canvas.size, dtype=np.float32)
