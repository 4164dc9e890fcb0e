"""Shapes as signed distances in the reference man's millimetres: negative inside, exact to first order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial.transform import Rotation

from uptake.simulation.fields import Array, Line

Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the canvas with the signed distance (reference mm) to a shape; for a tube `along` runs from 0 to 1."""

    box: Box
    distance: Array
    along: Array = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))

    def inset(self, depth: float) -> Region:
        """Return the region shrunk by `depth` mm (grown where negative)."""
        return Region(self.box, self.distance + np.float32(depth), self.along)

    def cut(self, distance: Array) -> Region:
        """Return the part that is also inside another shape given on the same box."""
        return Region(self.box, np.maximum(self.distance, distance), self.along)

    def on(self, box: Box) -> Array:
        """Return the distance on another box: far away (1 m) where this region's own box does not reach."""
        return on_box(self.distance, self.box, box, 1e3)


def on_box(values: Array, box: Box, other: Box, fill: float) -> Array:
    """Return values given on one box on another one; `fill` where the first does not reach."""
    whole = np.full(tuple(b.stop - b.start for b in other), fill, np.float32)
    here, there = [], []
    for mine, target in zip(box, other, strict=True):
        low = max(mine.start, target.start)
        high = max(min(mine.stop, target.stop), low)
        here.append(slice(low - mine.start, high - mine.start))
        there.append(slice(low - target.start, high - target.start))
    whole[tuple(there)] = values[tuple(here)]
    return whole


def ellipsoid_distance(
    at: tuple[Array, Array, Array],
    centre: Point,
    radii: Point,
    *,
    turn: Point = (0.0, 0.0, 0.0),
    power: float = 2.0,
) -> Array:
    """Return the signed distance (first order, exact to the surface) to a superellipsoid at given coordinates."""
    offset = [axis - np.float32(c) for axis, c in zip(at, centre, strict=True)]
    if any(turn):
        m = Rotation.from_euler("xyz", turn, degrees=True).as_matrix().astype(np.float32)
        offset = [m[0, n] * offset[0] + m[1, n] * offset[1] + m[2, n] * offset[2] for n in range(3)]
    scaled = [np.abs(o) / np.float32(r) for o, r in zip(offset, radii, strict=True)]
    if power == 2.0:
        level = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
        slope = np.sqrt(sum((s / np.float32(r)) ** 2 for s, r in zip(scaled, radii, strict=True)))
        # In the very centre both vanish, and their ratio is a radius.
        ratio = np.maximum(level, 1e-3) / np.maximum(slope, np.float32(1e-3 / min(radii)))
        return np.asarray((level - 1) * ratio, dtype=np.float32)
    level = (scaled[0] ** power + scaled[1] ** power + scaled[2] ** power) ** np.float32(1 / power)
    reach = np.sqrt(offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2)
    return np.asarray(reach * (1 - 1 / np.maximum(level, 1e-3)), dtype=np.float32)


def spline(points: Line, radii: Line, count: int) -> tuple[Line, Line]:
    """Return `count` points and radii of a natural spline through the given ones, evenly spaced by chord length."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    where = np.linspace(0.0, length[-1], count)
    return np.asarray(CubicSpline(length, points, bc_type="natural")(where)), np.interp(where, length, radii)


def smooth_union(a: Array, b: Array, width: float) -> Array:
    """Return the union of two signed distances with a fillet of about `width` mm."""
    h = np.clip(0.5 + 0.5 * (b - a) / width, 0.0, 1.0)
    return np.asarray(b * (1 - h) + a * h - np.float32(width) * h * (1 - h), dtype=np.float32)


def smooth_cut(a: Array, b: Array, width: float) -> Array:
    """Return the intersection of two signed distances with an edge rounded over about `width` mm."""
    return -smooth_union(-a, -b, width)


def profile(table: npt.ArrayLike, depth: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the columns 1.. of a table interpolated smoothly at depths (column 0, increasing), shape (columns, n)."""
    rows = np.asarray(table, dtype=np.float64)
    inside = np.clip(np.asarray(depth, dtype=np.float64), rows[0, 0], rows[-1, 0])
    return np.asarray(PchipInterpolator(rows[:, 0], rows[:, 1:], axis=0)(inside)).T


def swept(u: Array, v: Array, width: Array, depth: Array, centre: Array, front: Array | float = 0.0) -> Array:
    """Return the distance to a swept superellipse of exponent 2.5, `front` mm deeper ahead."""
    v = v - centre
    a, b = np.abs(u) / width, np.abs(v) / np.where(v > 0, depth + front, depth)
    level = (a * a * np.sqrt(a) + b * b * np.sqrt(b)) ** np.float32(0.4)
    return np.asarray(np.sqrt(u * u + v * v) * (1 - 1 / np.maximum(level, 1e-3)), dtype=np.float32)
