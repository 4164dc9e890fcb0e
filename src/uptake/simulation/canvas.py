"""The canvas a patient is painted on: coordinates in the reference man's millimetres, shapes, and soft-edged paint.

Anatomy is written in the frame of a man of 1.76 m: u to his right, v to the front, d downwards from the vertex, mm.
The canvas maps voxels into that frame (size of this patient, curved a little by a smooth random displacement), so one
description serves everybody and nobody is a perfect ellipsoid. A shape is a signed distance, negative inside. Paint
covers a voxel by the fraction of it that lies inside, so that partial volume comes from the geometry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial.transform import Rotation

from uptake.core.types import Shape3, Vector3
from uptake.simulation.fields import Array, Line, random_field
from uptake.simulation.labels import organ_id
from uptake.simulation.person import Person

Box = tuple[slice, slice, slice]
Point = tuple[float, float, float]

HEAD_END_MM = 235.0
"""Depth below the vertex, reference mm, above which lengths scale with the head and below which with the trunk."""
MARGIN_MM = 16.0
"""Added to every box: more than the displacement field moves anything."""


@dataclass(frozen=True)
class Tissue:
    """What a paint is made of: mean SUV and HU, with the spread of its texture (log SUV, HU)."""

    suv: float
    hu: float
    suv_sigma: float = 0.05
    hu_sigma: float = 4.0


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


class Canvas:
    """Arrays of one patient while it is painted; see the module's description for the frame."""

    def __init__(
        self, person: Person, tissues: Mapping[str, Tissue], axes_mm: tuple[Line, Line, Line], rng: np.random.Generator
    ) -> None:
        self.person, self.tissues, self.axes_mm = person, tissues, axes_mm
        self.shape: Shape3 = (len(axes_mm[0]), len(axes_mm[1]), len(axes_mm[2]))
        self.spacing_mm: Vector3 = tuple(float(abs(a[1] - a[0])) for a in axes_mm)  # type: ignore[assignment]
        self.extent_mm = ((-340.0, 340.0), (-260.0, 260.0), (-1400.0, 100.0))
        self._scale = float(np.cbrt(person.scale_z * person.scale_xy**2))
        self.edge = float(np.cbrt(np.prod(self.spacing_mm))) / self._scale
        self.depth, self.width_scale, self.ap_scale = self._scales(-axes_mm[2])
        # Amplitude 3.5 mm over 20 mm: slopes of 0.18 keep the map one to one.
        shift = [np.float32(3.5) * np.clip(self.field(rng, 36.0), -3, 3) for _ in range(3)]
        bend = self._scoliosis(rng)
        self.u: Array = shift[0] + ((axes_mm[0][:, None, None] - bend) / self.width_scale).astype(np.float32)
        self.v: Array = shift[1] + (axes_mm[1][None, :, None] / self.ap_scale).astype(np.float32)
        self.d: Array = shift[2] + self.depth.astype(np.float32)
        self.fine, self.coarse = self.field(rng, 15.0), self.field(rng, 42.0)
        self.suv = np.zeros(self.shape, np.float32)
        self.background_suv = np.zeros(self.shape, np.float32)
        self.hu = np.full(self.shape, -1000.0, np.float32)
        self.organs = np.zeros(self.shape, np.uint8)
        self.body: Array | None = None

    def _scales(self, world_depth: Line) -> tuple[Line, Line, Line]:
        p = self.person
        knee = HEAD_END_MM * p.scale_head
        depth = np.where(world_depth < knee, world_depth / p.scale_head, HEAD_END_MM + (world_depth - knee) / p.scale_z)
        trunk = np.clip((depth - 215.0) / 60.0, 0.0, 1.0)
        trunk = trunk**2 * (3 - 2 * trunk)
        # A fuller abdomen widens its content too, to the front more than to the sides.
        belly = np.exp(-(((depth - 690.0) / 150.0) ** 2)) * p.corpulence
        width = p.scale_head * (1 - trunk) + trunk * p.scale_xy * (1 + 0.05 * np.clip(belly, -0.8, 2.0))
        ap = p.scale_head * (1 - trunk) + trunk * p.scale_xy * (1 + 0.10 * np.clip(belly, -0.8, 2.0))
        return depth, width, ap

    def _scoliosis(self, rng: np.random.Generator) -> Line:
        amplitude, phase = rng.normal(0.0, 5.0), rng.uniform(0.0, 2 * np.pi)
        ramp = np.clip((self.depth - 250.0) / 250.0, 0.0, 1.0) * np.clip((900.0 - self.depth) / 250.0, 0.0, 1.0)
        return np.asarray(amplitude * ramp * np.sin(self.depth / 110.0 + phase))

    def field(self, rng: np.random.Generator, scale_mm: float) -> Array:
        """Return a smooth random field over the whole canvas; see `random_field`."""
        return random_field(rng, self.axes_mm, self.extent_mm, scale_mm)

    def world(self, point: Point) -> Vector3:
        """Return the world position (x, y, z) in mm of a point (u, v, d), displacement left out."""
        u, v, d = point
        order = np.argsort(self.depth)
        z = float(np.interp(d, self.depth[order], self.axes_mm[2][order]))
        sx = float(np.interp(d, self.depth[order], self.width_scale[order]))
        sy = float(np.interp(d, self.depth[order], self.ap_scale[order]))
        return u * sx, v * sy, z

    def box(self, low: Point, high: Point) -> Box:
        """Return the voxels that may lie between two corners (u, v, d) of the frame."""
        slices = []
        depth = (self.depth >= low[2] - MARGIN_MM) & (self.depth <= high[2] + MARGIN_MM)
        scales = (self.width_scale[depth], self.ap_scale[depth])
        for axis in range(2):
            if not depth.any():
                return (slice(0, 0), slice(0, 0), slice(0, 0))
            margin = MARGIN_MM + (10.0 if axis == 0 else 0.0)
            ends = np.array([low[axis] - margin, high[axis] + margin])
            bounds = np.outer(ends, [scales[axis].min(), scales[axis].max()])
            inside = np.flatnonzero((self.axes_mm[axis] >= bounds.min()) & (self.axes_mm[axis] <= bounds.max()))
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
        k = np.flatnonzero(depth)
        return slices[0], slices[1], slice(int(k[0]), int(k[-1]) + 1)

    def at(self, box: Box) -> tuple[Array, Array, Array]:
        """Return u, v, d of the voxels of a box."""
        return self.u[box], self.v[box], self.d[box]

    def ellipsoid(self, centre: Point, radii: Point, *, turn: Point = (0.0, 0.0, 0.0), power: float = 2.0) -> Region:
        """Return a (super)ellipsoid; `turn` rotates it about u, v and d in degrees, `power` above 2 makes it boxier."""
        reach = max(radii) if any(turn) else 0.0
        r = [max(reach, radius) for radius in radii]
        low, high = ([c + s * x for c, x in zip(centre, r, strict=True)] for s in (-1, 1))
        box = self.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        return Region(box, ellipsoid_distance(self.at(box), centre, radii, turn=turn, power=power))

    def tube(self, points: Sequence[Point], radii: Sequence[float], *, flat: float = 1.0, smooth: int = 0) -> Region:
        """Return a tube along a polyline with a radius (mm) at each point.

        Parameters
        ----------
        points, radii
            At least two.
        flat : float
            Cross-section along v relative to that along u and d: below 1 is flattened from front to back.
        smooth : int
            Number of points of a spline laid through `points` first; 0 keeps the straight pieces.
        """
        line, radius = np.asarray(points, dtype=np.float64), np.asarray(radii, dtype=np.float64)
        if smooth:
            line, radius = spline(line, radius, smooth)
        reach = float(radius.max())
        low, high = line.min(axis=0) - reach, line.max(axis=0) + reach
        box = self.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        shape = self.u[box].shape
        distance, along = np.full(shape, 1e3, np.float32), np.zeros(shape, np.float32)
        pieces = len(line) - 1
        for n in range(pieces):
            self._capsule(box, distance, along, line[n : n + 2], radius[n : n + 2], flat, (n / pieces, 1.0 / pieces))
        return Region(box, distance, along)

    def _capsule(
        self, box: Box, distance: Array, along: Array, ends: Line, radius: Line, flat: float, span: tuple[float, float]
    ) -> None:
        """Lower `distance` to that of one piece of a tube (a cone with rounded ends), in its own small box."""
        reach = float(radius.max())
        low, high = ends.min(axis=0) - reach, ends.max(axis=0) + reach
        part = self.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        inner = tuple(
            slice(max(p.start, b.start) - b.start, max(min(p.stop, b.stop), b.start) - b.start)
            for p, b in zip(part, box, strict=True)
        )
        whole = tuple(slice(i.start + b.start, i.stop + b.start) for i, b in zip(inner, box, strict=True))
        u, v, d = self.u[whole] - ends[0, 0], (self.v[whole] - ends[0, 1]) / flat, self.d[whole] - ends[0, 2]
        axis = (ends[1] - ends[0]) / (1.0, flat, 1.0)
        t = np.clip((u * axis[0] + v * axis[1] + d * axis[2]) / max(float(axis @ axis), 1e-9), 0.0, 1.0)
        gap = np.sqrt((u - t * axis[0]) ** 2 + (v - t * axis[1]) ** 2 + (d - t * axis[2]) ** 2)
        gap = (gap - radius[0] - t * (radius[1] - radius[0])).astype(np.float32)
        nearer = gap < distance[inner]
        distance[inner] = np.where(nearer, gap, distance[inner])
        along[inner] = np.where(nearer, np.float32(span[0]) + np.float32(span[1]) * t, along[inner])

    def fraction(self, region: Region) -> Array:
        """Return the fraction of each voxel inside a region, 0 to 1, and inside the body."""
        inside = np.clip(0.5 - region.distance / np.float32(self.edge), 0.0, 1.0)
        return inside if self.body is None else inside * self.body[region.box]

    def paint(
        self,
        region: Region,
        tissue: str,
        label: str | None = None,
        *,
        weight: Array | float | None = None,
        suv_factor: Array | float = 1.0,
        hu_shift: Array | float = 0.0,
        background: bool = False,
    ) -> None:
        """Cover what is there with a tissue.

        Parameters
        ----------
        region : Region
        tissue : str
            Name in the patient's table of tissues.
        label : str or None
            Organ label for voxels at least half inside; None leaves the label.
        weight : array or float or None
            Multiplies the coverage, 0 to 1.
        suv_factor, hu_shift
            On top of the tissue's own mean and texture.
        background : bool
            Muscle and fat: their SUV is kept apart, because the mass balance scales them at the end.
        """
        box, cover = region.box, self.fraction(region)
        if cover.size == 0:
            return
        if weight is not None:
            cover = cover * weight
        t = self.tissues[tissue]
        fine, coarse = self.fine[box], self.coarse[box]
        # Two length scales of equal share; the exponential's mean is taken out so that `suv` is the mean.
        grain = np.float32(t.suv_sigma / np.sqrt(2.0)) * (fine + coarse) - np.float32(t.suv_sigma**2 / 2)
        suv = np.float32(t.suv) * np.exp(grain) * suv_factor
        hu = np.float32(t.hu) + np.float32(t.hu_sigma) * fine + hu_shift
        keep = 1.0 - cover
        self.suv[box] = self.suv[box] * keep + (0.0 if background else cover * suv)
        self.background_suv[box] = self.background_suv[box] * keep + (cover * suv if background else 0.0)
        self.hu[box] = self.hu[box] * keep + cover * hu
        if label is not None:
            self.organs[box][cover >= 0.5] = organ_id(label)


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
        return np.asarray((level - 1) * level / np.maximum(slope, 1e-6), dtype=np.float32)
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
