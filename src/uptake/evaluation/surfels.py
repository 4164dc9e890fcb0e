"""Surface elements between voxels: where the boundary of a mask runs, and how much area it has there.

Voxel centres are the corners of cells. A cell whose eight corners are neither all inside nor all outside the mask holds
a piece of the surface, laid through the midpoints of its edges as marching cubes does (Lorensen WE, Cline HE, SIGGRAPH
1987). The piece depends on which corners are inside only, so its area is looked up by a code of eight bits.

This is the definition of surface Dice by Nikolov S et al., J Med Internet Res 23:e26151 (2021), and of its code
"surface-distance"; the areas here are derived from the geometry of the pieces.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from uptake.core.types import FloatArray, Mask, Vector3

FULL = 255
"""Code of a cell whose corners are all inside."""

Corner = tuple[int, int, int]


def cell_codes(mask: Mask) -> npt.NDArray[np.uint8]:
    """Return the code of every cell of a mask (i, j, k), shape (i + 1, j + 1, k + 1): a bit per corner that is inside.

    Cell (0, 0, 0) has the first voxel as its last corner: outside the array nothing is inside the mask, so a mask that
    touches the border is closed there.
    """
    code: npt.NDArray[np.uint8] = np.pad(mask.view(np.uint8) if mask.dtype == bool else mask, 1)
    # Two corners along an axis are merged at a time: 1, 2, then 4 corners become one number.
    for axis, bits in ((2, 1), (1, 2), (0, 4)):
        lower = code[tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))]
        upper = code[tuple(slice(1, None) if a == axis else slice(None) for a in range(3))]
        code = np.left_shift(lower, np.uint8(bits))
        code |= upper
    return code


@lru_cache(maxsize=16)
def cell_areas(spacing_mm: Vector3) -> npt.NDArray[np.float64]:
    """Return the area of the surface piece for each of the 256 codes, mm², for perpendicular axes."""
    a, b, c = spacing_mm
    # A unit vector along an axis of the index space is a face of one voxel in space.
    face = np.array([b * c, a * c, a * b])
    areas = np.array([sum(float(np.linalg.norm(v * face)) for v in _pieces(code)) for code in range(FULL + 1)])
    areas.setflags(write=False)
    return areas


def _pieces(code: int) -> list[FloatArray]:
    """Return the area vectors, without sign, of the flat pieces of surface in one cell, in units of voxel faces."""
    corners = [(i, j, k) for i in (1, 0) for j in (1, 0) for k in (1, 0)]  # in the order of the bits
    inside: set[Corner] = {corner for bit, corner in enumerate(corners) if code >> bit & 1}
    if len(inside) > 4:  # the same surface seen from the other side
        inside = set(corners) - inside
    pieces: list[FloatArray] = []
    while inside:
        # Corners that edges join share one sheet; corners across a face or the cell are cut off one by one.
        group = _joined(inside, inside.pop())
        inside -= group
        pieces += _sheet(group)
    return pieces


def _sheet(group: set[Corner]) -> list[FloatArray]:
    """Return the area vectors of the sheet that cuts a group of one to four joined corners off a cell."""
    ones, axes = np.ones(3), np.eye(3)
    flat = [axis for axis in range(3) if len({corner[axis] for corner in group}) == 1]
    degrees = [sum(n in group for n in _neighbours(corner)) for corner in group]
    if len(group) == 1:  # a triangle at the corner
        return [ones / 8]
    if len(group) == 2:  # a rectangle along the edge
        return [axes[flat].sum(axis=0) / 2]
    if len(group) == 3:  # an L: half a face, and a trapezium that slopes down to the missing corner
        return [axes[flat[0]] / 2, ones * 3 / 8]
    if flat:  # a face
        return [axes[flat[0]]]
    if max(degrees) == 3:  # a corner with its three neighbours: a regular hexagon
        return [ones * 3 / 4]
    # A chain of three edges, one along each axis: a bent hexagon. A strip across it, and a triangle at each end of the
    # chain that is parallel to the chain's outer edge there.
    ends = [corner for corner, degree in zip(group, degrees) if degree == 1]
    outer = [axis for corner in ends for axis, n in enumerate(_neighbours(corner)) if n in group]
    return [ones / 2, *((ones - axes[axis]) / 4 for axis in outer)]


def _neighbours(corner: Corner) -> list[Corner]:
    """Return the three corners that edges of the cell join to this one, by axis."""
    i, j, k = corner
    return [(1 - i, j, k), (i, 1 - j, k), (i, j, 1 - k)]


def _joined(inside: set[Corner], start: Corner) -> set[Corner]:
    group, waiting = {start}, [start]
    while waiting:
        for corner in _neighbours(waiting.pop()):
            if corner in inside and corner not in group:
                group.add(corner)
                waiting.append(corner)
    return group
