"""The frame of the reference man laid into a label map: landmarks give each slice a depth, a size and a centre."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from uptake.core.errors import InputError
from uptake.core.types import Affine, Vector3
from uptake.simulation.body import CAVITY, Girth
from uptake.simulation.fields import Line
from uptake.simulation.frame import (
    ABOVE_VERTEX_MM,
    DOME_RANGE_MM,
    EDGE_MM,
    FIELD_END_MM,
    FIELD_FRONT_MM,
    FIELD_MM,
    HEAD_END_MM,
    WIDE_FIELD_MM,
    Build,
    Frame,
    trunk_scales,
)  # fmt: skip
from uptake.simulation.label_map import KIDNEYS, LabelMap, Structure, lungs_of
from uptake.simulation.person import REFERENCE_HEIGHT_M, Person
from uptake.simulation.shapes import profile
from uptake.simulation.skeleton import VERTEBRAE, spine_front, vertebra_depths

LANDMARKS: tuple[tuple[str, str, float], ...] = (
    ("lungs", "top", 281.0), ("hip_left", "bottom", 936.0), ("hip_right", "bottom", 936.0),
    ("femur_left", "top", 825.0), ("femur_right", "top", 825.0), ("urinary_bladder", "bottom", 886.0),
    ("prostate", "centre", 896.0), ("brain", "top", 15.0), ("brain", "bottom", 158.0), ("kidneys", "centre", 630.0),
)  # fmt: skip
"""Class, which end of it, and its depth in the reference man: means over simulated patients. Earlier ones count more;
kidneys move with the breath and come last."""

VERTEBRA_SHIFT_MM = 0.8
"""How much deeper the centroid of a vertebra, processes included, lies than that of its body."""

LIVER_TOP_MM = 536.0
LUNG_WIDTH, LUNG_DEPTH = 0.976, 0.96
"""Extent of both lungs at the heart's level relative to the cavity of the chest."""

HIP_HALF_WIDTH_MM = 152.0
BRAIN_HALF_MM = (60.6, 79.4)
KIDNEY_V, BLADDER_V, BRAIN_V, VERTEBRA_BEHIND = -45.0, 23.0, -2.7, 5.0
"""Where centroids lie from front to back; vertebrae behind the line of their bodies."""

TOO_CLOSE_MM = 4.0
"""Two landmarks this close are one."""

SLOPES = (0.55, 1.6)
"""World mm per mm of the reference man between two landmarks; what is outside is a wrong or cut label."""

HEIGHT_RANGE_M = (1.2, 2.3)
LONG_ENOUGH_MM = 150.0
"""Two landmarks closer together tell nothing about the patient's height."""

SIZE_RANGE = (0.65, 1.6)

CAN_BE_GONE = ("spleen", "gallbladder", "kidney_left", "kidney_right", "prostate", "uterus")


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What a label map tells about the person in it.

    Attributes
    ----------
    depth, z_mm : array (n,)
        Pairs of depth in the reference man and world z, depth increasing.
    height_m : float or None
        From the length of the trunk; None where the map is too short.
    male : bool
        A prostate is there; without one nothing is known.
    """

    depth: Line
    z_mm: Line
    height_m: float | None
    male: bool


def landmarks_of(labels: LabelMap) -> Landmarks:
    """Return the landmarks of a label map.

    Raises
    ------
    InputError
        If there is none, or they belong to a person of impossible height.
    """
    seen: list[tuple[float, float]] = []
    for name, depth in zip(VERTEBRAE, vertebra_depths(), strict=True):
        bone = labels.structure(f"vertebrae_{name}")
        if bone is not None and not bone.cut:
            seen.append((depth + VERTEBRA_SHIFT_MM, bone.centre_mm[2]))
    for name, end, depth in LANDMARKS:
        part = _part(labels, name)
        if part is not None and (z := _end(part, end)) is not None and not (name == "kidneys" and len(seen) > 1):
            seen.append((depth, z))
    kept = _consistent(seen)
    if not kept:
        raise InputError(
            "the label map holds nothing that tells where it lies in the body: lungs, vertebrae, hips, bladder, "
            "kidneys or brain, whole."
        )
    if len(seen) > 2 and len(kept) < len(seen) / 2:
        raise InputError(
            f"{len(seen) - len(kept)} of {len(seen)} landmarks of the label map lie where they cannot be in a person. "
            "Are its voxel sizes in mm, and its names right (--anatomy-labels)?"
        )
    depths, heights = np.array(kept).T
    trunk = depths > HEAD_END_MM
    height = None
    if trunk.sum() > 1 and float(np.ptp(depths[trunk])) > LONG_ENOUGH_MM:
        height = REFERENCE_HEIGHT_M * float(np.ptp(heights[trunk]) / np.ptp(depths[trunk]))
        low, high = HEIGHT_RANGE_M
        if not low <= height <= high:
            raise InputError(
                f"the organs of the label map lie as far apart as in a person of {height:.2f} m; adults of {low:g} to "
                f"{high:g} m can be simulated. Are its voxel sizes in mm, and its names right (--anatomy-labels)?"
            )
    prostate = labels.structure("prostate")
    return Landmarks(depths, heights, height, prostate is not None and prostate.volume_ml > 3.0)


def _part(labels: LabelMap, name: str) -> Structure | None:
    if name == "lungs":
        return lungs_of(labels)
    if name == "kidneys" and KIDNEYS not in labels.classes:
        left, right = labels.structure("kidney_left"), labels.structure("kidney_right")
        if left is None or right is None:
            return None
        middle = (left.centre_mm[2] + right.centre_mm[2]) / 2
        return replace(left, centre_mm=(0.0, 0.0, middle), cut_below=left.cut or right.cut)
    return labels.structure(name)


def _end(part: Structure, end: str) -> float | None:
    if end == "top":
        return None if part.cut_above else part.top_mm
    if end == "bottom":
        return None if part.cut_below else part.bottom_mm
    return None if part.cut else part.centre_mm[2]


def _consistent(seen: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the landmarks in order of depth, without those that contradict an earlier one of the list."""
    kept: list[tuple[float, float]] = []
    for depth, z in seen:
        slopes = [(place - z) / (depth - other) for other, place in kept if abs(depth - other) >= TOO_CLOSE_MM]
        if len(slopes) == len(kept) and all(SLOPES[0] <= slope <= SLOPES[1] for slope in slopes):
            kept.append((depth, z))
    return sorted(kept)


def depths_at(marks: Landmarks, person: Person, build: Build, z_mm: Line) -> Line:
    """Return the depth in the reference man of world heights: through the landmarks, on at the person's own size."""
    depth, z = marks.depth, marks.z_mm
    above, below = depth[0], depth[-1]
    # Beyond the landmarks: the head at the size of the head, all else at that of the trunk.
    ends = []
    for start, at, goal in ((above, z[0], -400.0), (below, z[-1], 1800.0)):
        way = np.linspace(start, goal, 200)
        step = np.where((way[:-1] + way[1:]) / 2 < HEAD_END_MM, build.head, person.scale_z)
        ends.append((way[1:], at - np.cumsum(np.diff(way) * step)))
    order = np.concatenate([ends[0][0][::-1], depth, ends[1][0]])
    height = np.concatenate([ends[0][1][::-1], z, ends[1][1]])
    return np.asarray(np.interp(-np.asarray(z_mm, dtype=np.float64), -height, order))


def dome_of(labels: LabelMap, marks: Landmarks, person: Person, build: Build) -> float:
    """Return how much deeper the diaphragm stands than in the reference man, from the top of the liver."""
    liver = labels.structure("liver")
    if liver is None or liver.cut_above:
        return build.dome_mm
    depth = float(depths_at(marks, person, build, np.array([liver.top_mm]))[0])
    return float(np.clip(depth - LIVER_TOP_MM, *DOME_RANGE_MM))


def map_frame(labels: LabelMap, marks: Landmarks, person: Person, build: Build, z_mm: Line) -> Frame:
    """Return the frame of the person in a label map.

    Parameters
    ----------
    labels : LabelMap
    marks : Landmarks
    person : Person
        Size of whatever the map does not show.
    build : Build
    z_mm : array (nk,)
        World heights of the slices.
    """
    depth = depths_at(marks, person, build, z_mm)
    width, ap = trunk_scales(person, replace(build, chest=1.0), depth)
    head = 1.0 - np.clip((depth - 215.0) / 60.0, 0.0, 1.0)
    chest = np.clip((depth - 310.0) / 80.0, 0.0, 1.0) * np.clip((620.0 - depth) / 90.0, 0.0, 1.0)
    pelvis = np.clip((depth - 690.0) / 70.0, 0.0, 1.0)
    anchors: list[tuple[float, float, float]] = []  # world z, x, and y with the organ's own place taken off
    seen = _chest(labels, marks, person, build)
    if seen is not None:
        across, along, z, x, y = seen
        # The rest of the trunk goes half of the way: a wide chest does not make a wide pelvis.
        width = width + (1 - head) * (0.5 + 0.5 * chest) * (across - person.scale_xy)
        ap = ap + (1 - head) * (0.5 + 0.5 * chest) * (along - person.scale_xy)
        anchors.append((z, x, y))
    hips = [labels.structure(f"hip_{side}") for side in ("left", "right")]
    if hips[0] is not None and hips[1] is not None:
        half = (_edge(labels, hips[1], 0, high=True) - _edge(labels, hips[0], 0, high=False)) / 2
        wide = float(np.clip(half / HIP_HALF_WIDTH_MM, *SIZE_RANGE))
        width = width * (1 - pelvis) + wide * pelvis
    brain = labels.structure("brain")
    if brain is not None and not brain.cut:
        sizes = [(_edge(labels, brain, a, high=True) - _edge(labels, brain, a, high=False)) / 2 for a in (0, 1)]
        across, along = (float(np.clip(s / h, *SIZE_RANGE)) for s, h in zip(sizes, BRAIN_HALF_MM, strict=True))
        width, ap = width * (1 - head) + across * head, ap * (1 - head) + along * head
    order = np.argsort(z_mm)

    def along_at(z: float) -> float:
        return float(np.interp(z, np.asarray(z_mm)[order], ap[order]))

    spine = [labels.structure(f"vertebrae_{name}") for name in VERTEBRAE]
    for bone, level in zip(spine, vertebra_depths(), strict=True):
        if bone is not None and not bone.cut:
            x, y, z = bone.centre_mm
            anchors.append((z, x, y - along_at(z) * (spine_front(level) - VERTEBRA_BEHIND)))
    whole_spine = any(bone is not None for bone in spine)
    for names, v in (((KIDNEYS,), KIDNEY_V), (("kidney_left", "kidney_right"), KIDNEY_V),
                     (("urinary_bladder",), BLADDER_V), (("brain",), BRAIN_V)):  # fmt: skip
        parts = [labels.structure(name) for name in names]
        if all(part is not None and not part.cut for part in parts) and not (whole_spine and v != BRAIN_V):
            x, y, z = np.mean([part.centre_mm for part in parts if part is not None], axis=0)
            anchors.append((float(z), float(x), float(y) - along_at(float(z)) * v))
    return Frame(depth, width, ap, *_centres(labels, anchors, np.asarray(z_mm)))


def _centres(labels: LabelMap, anchors: list[tuple[float, float, float]], z_mm: Line) -> tuple[Line, Line]:
    if not anchors:
        corner = labels.labels.world_of((np.asarray(labels.labels.shape, dtype=np.float64) - 1) / 2)
        anchors = [(float(corner[2]), float(corner[0]), float(corner[1]))]
    z, x, y = (np.array(column) for column in zip(*sorted(anchors), strict=True))
    # Bodies bend, they have no corners.
    step = max(abs(float(z_mm[1] - z_mm[0])), 1e-3)
    lines = [gaussian_filter1d(np.interp(z_mm, z, line), 25.0 / step, mode="nearest") for line in (x, y)]
    return np.asarray(lines[0]), np.asarray(lines[1])


def _edge(labels: LabelMap, part: Structure, axis: int, *, high: bool) -> float:
    """Return the world x or y (mm) of the right or front face of a structure, or of the opposite one.

    The map is LPS: indices grow to the left and to the back, world coordinates to the right and to the front.
    """
    box = part.box[axis]
    index = np.array([(b.start + b.stop - 1) / 2 for b in part.box])
    index[axis] = box.start - 0.5 if high else box.stop - 0.5
    return float(labels.labels.world_of(index)[axis])


def _chest(
    labels: LabelMap, marks: Landmarks, person: Person, build: Build
) -> tuple[float, float, float, float, float] | None:
    """Return size across and from front to back, and z, x and y of the frame's centre, from lungs at heart level."""
    lungs = lungs_of(labels)
    if lungs is None:
        return None
    index = np.array([[0.0, 0.0, k] for k in range(lungs.box[2].start, lungs.box[2].stop)])
    heights = np.asarray(labels.labels.world_of(index))[:, 2]
    depth = depths_at(marks, person, build, heights)
    dome = dome_of(labels, marks, person, build)
    rows = []
    for n in np.flatnonzero((depth > 360.0) & (depth < 490.0 + 0.7 * dome)):
        slab = lungs.mask[:, :, n]
        if not slab.any():
            continue
        ends = [np.flatnonzero(slab.any(axis=1 - axis))[[0, -1]] + lungs.box[axis].start for axis in (0, 1)]
        k = lungs.box[2].start + float(n)
        low = labels.labels.world_of(np.array([ends[0][0] - 0.5, ends[1][0] - 0.5, k]))
        high = labels.labels.world_of(np.array([ends[0][1] + 0.5, ends[1][1] + 0.5, k]))
        half_width, half_depth, centre = profile(CAVITY, [depth[n]])[:, 0]
        across = abs(low[0] - high[0]) / 2 / (LUNG_WIDTH * half_width)
        along = abs(low[1] - high[1]) / 2 / (LUNG_DEPTH * half_depth)
        rows.append((across, along, heights[n], (low[0] + high[0]) / 2, (low[1] + high[1]) / 2 - along * centre))
    if len(rows) * labels.labels.spacing_mm[2] < 20.0:
        return None
    across, along, z, x, y = np.median(np.array(rows), axis=0)
    return float(np.clip(across, *SIZE_RANGE)), float(np.clip(along, *SIZE_RANGE)), float(z), float(x), float(y)


def volumes_in(labels: LabelMap, volumes: Mapping[str, float]) -> dict[str, float]:
    """Return organ volumes in mL with those of the map in place of drawn ones, and 0 for organs that are gone.

    Gone is what the numbering names, a person can live without, and is not there although the liver is.
    """
    found = dict(volumes)
    lungs = lungs_of(labels)
    if lungs is not None and not lungs.cut:
        found["lungs"] = lungs.volume_ml
    kidneys = labels.structure(KIDNEYS)
    for name in volumes:
        part = labels.structure(name)
        if part is not None:
            found[name] = part.volume_ml if not part.cut else max(part.volume_ml, volumes[name])
        elif name in CAN_BE_GONE and name in labels.covers and labels.structure("liver") is not None:
            found[name] = 0.0
    if kidneys is not None:
        found["kidney_left"] = found["kidney_right"] = kidneys.volume_ml / 2
    return found


def map_grid(
    labels: LabelMap, marks: Landmarks, person: Person, build: Build, girth: Girth, spacing: Vector3
) -> tuple[tuple[Line, Line, Line], Affine, Frame]:
    """Return voxel centres in world mm along each array axis, the affine, and the frame of the person in a label map.

    The grid runs as far along the body as the map does, vertex and mid-thigh at most, and around the body across.
    """
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in labels.labels.shape]))
    heights = np.asarray(labels.labels.world_of(corners.reshape(3, -1).T))[:, 2]
    count = max(round((heights.max() - heights.min()) / spacing[2]), 1)
    z = heights.min() + (np.arange(count) + 0.5) * spacing[2]
    depth = depths_at(marks, person, build, z)
    z = z[(depth > -ABOVE_VERTEX_MM) & (depth < FIELD_END_MM)]
    if z.size < 8:
        raise InputError("less than eight slices of the label map lie between vertex and mid-thigh.")
    frame = map_frame(labels, marks, person, build, z)
    wide = frame.width.max() / max(person.scale_xy, 1e-3)
    half, deep = FIELD_MM[0] / 2 - EDGE_MM, FIELD_MM[1] / 2 - EDGE_MM
    fits = wide * girth.half_width_mm < half
    fits &= max(girth.front_mm - FIELD_FRONT_MM, girth.back_mm + FIELD_FRONT_MM) < deep
    field = FIELD_MM if fits else WIDE_FIELD_MM
    nx, ny = (2 * round(extent / s / 2) for extent, s in zip(field, spacing[:2], strict=True))
    x = float(np.median(frame.centre_x)) + ((nx - 1) / 2 - np.arange(nx)) * spacing[0]
    y = float(np.median(frame.centre_y)) + FIELD_FRONT_MM + ((ny - 1) / 2 - np.arange(ny)) * spacing[1]
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = (x[0], y[0], z[0])
    return (x, y, z), affine, frame
