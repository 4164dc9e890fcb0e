"""What lies at the two ends of the field along the patient: a head, legs, or the trunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from uptake.gate.landmarks import trunk_slices
from uptake.gate.overview import Overview

EndKind = Literal["head", "legs", "trunk"] | None

HEAD_SECTION_CM2 = (60.0, 400.0)

HEAD_WIDTH_MM = 260.0

TRUNK_SECTION_CM2 = 350.0
"""A field whose large sections are smaller is a limb or an animal; its narrow end is no head."""

HEAD_LENGTH_MM = 40.0

LEG_SECTION_CM2 = 80.0
"""Of one leg at least; a forearm has 40."""

LEG_LENGTH_MM = 20.0

END_MM = 200.0

SHORTEST_TRUNK_MM = 100.0


def ends(view: Overview) -> tuple[EndKind, EndKind]:
    """Return what lies at the high-z and at the low-z end of the field: "head", "legs", "trunk"; None if too short."""
    filled = np.flatnonzero(view.section_cm2 > 25.0)
    if len(filled) * view.spacing_mm < 2.5 * END_MM:
        return None, None
    trunk = trunk_slices(view)
    if len(trunk) * view.spacing_mm < SHORTEST_TRUNK_MM:
        return None, None
    centre = float(np.nanmedian(view.midline_index[trunk]))
    count = view.voxels(END_MM)
    large = float(np.percentile(view.section_cm2[filled], 80))
    upper = [_layout(view, int(k), centre) for k in filled[-count:]]
    lower = [_layout(view, int(k), centre) for k in filled[:count]]
    return _kind(upper, large, view.spacing_mm), _kind(lower, large, view.spacing_mm)


@dataclass(frozen=True)
class _Layout:
    """One slice: the piece on the midline (area cm², width mm), the smaller half's area (cm²), and how deep the midline
    is as a share of the sides."""

    middle_cm2: float
    middle_mm: float
    half_cm2: float
    depth: float


def _layout(view: Overview, k: int, centre: float) -> _Layout:
    section = view.body[:, :, k]
    pieces, _ = ndimage.label(section)
    near, x = view.voxels(20.0), round(centre)
    column = slice(max(0, x - near), x + near + 1)
    area = view.spacing_mm**2 / 100.0
    middle_cm2 = middle_mm = 0.0
    for number in np.unique(pieces[column]):
        piece = pieces == number
        if number and piece.sum() * area > middle_cm2:
            across = np.flatnonzero(piece.any(axis=1))
            middle_cm2, middle_mm = float(piece.sum()) * area, float(np.ptp(across) + 1) * view.spacing_mm
    depth = section.sum(axis=1)
    beside = min(depth[: column.start].max(initial=0), depth[column.stop :].max(initial=0))
    half = float(min(section[:x].sum(), section[x + 1 :].sum())) * area
    return _Layout(middle_cm2, middle_mm, half, float(depth[column].min()) / beside if beside else np.inf)


def _kind(layouts: list[_Layout], large_cm2: float, spacing_mm: float) -> EndKind:
    """Return what a stack of slices at one end of the field shows.

    A head is one narrow piece on the midline, whatever arms lie beside or beyond it. Legs are two pieces and nothing
    between them.
    """
    low, high = HEAD_SECTION_CM2[0], min(HEAD_SECTION_CM2[1], 0.62 * large_cm2)
    head = [low < s.middle_cm2 < high and s.middle_mm < HEAD_WIDTH_MM and s.depth > 0.75 for s in layouts]
    legs = [s.depth < 0.5 and s.half_cm2 > LEG_SECTION_CM2 for s in layouts]
    if sum(head) * spacing_mm >= HEAD_LENGTH_MM and large_cm2 > TRUNK_SECTION_CM2:
        return "head"
    if sum(legs) * spacing_mm >= LEG_LENGTH_MM:
        return "legs"
    return "trunk"
