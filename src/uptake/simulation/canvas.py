"""The canvas a patient is painted on: coordinates in the reference man's millimetres, shapes, and soft-edged paint.

The canvas maps voxels into the frame of the reference man (`frame`), curved a little by a smooth random displacement,
so one description serves everybody and nobody is a perfect ellipsoid. A shape is a signed distance, negative inside.
Paint covers a voxel by the fraction of it that lies inside, so that partial volume comes from the geometry. What an
organ covers belongs to it: later paint takes only what is left, so that organs keep the volume they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uptake.core.types import Shape3, Vector3
from uptake.core.units import MM3_PER_ML
from uptake.simulation.fields import Array, Line, random_field
from uptake.simulation.frame import Frame
from uptake.simulation.labels import organ_id
from uptake.simulation.person import Person
from uptake.simulation.shapes import Box, Point, Region, ellipsoid_distance, smooth_cut, spline

MARGIN_MM = 22.0
"""Added to every box: more than the displacement field moves anything and an organ grows to reach its volume."""
WHOLE = (slice(None), slice(None), slice(None))


@dataclass(frozen=True)
class Tissue:
    """What a paint is made of: mean SUV and HU, with the spread of its texture (log SUV, HU)."""

    suv: float
    hu: float
    suv_sigma: float = 0.05
    hu_sigma: float = 4.0


class Canvas:
    """Arrays of one patient while it is painted; see the module's description for the frame.

    Attributes
    ----------
    u, v, d : array (i, j, k)
        Position of each voxel in the reference man, mm.
    fine, coarse : array (i, j, k)
        Two smooth random fields (sigma 9 and 24 mm) that textures are made of.
    suv, background_suv, hu, organs : array (i, j, k)
        The painting. The SUV of muscle, fat and skin is kept apart, because the mass balance scales it at the end.
    owned : array (i, j, k)
        Fraction of each voxel that an organ has claimed.
    body : array (i, j, k) or None
        Fraction of each voxel inside the skin.
    dome_mm : float
        How much deeper the diaphragm stands than in the reference man; see `frame.settled`.
    size : float
        Mean of the person's lengths relative to the reference man.
    given : dict
        Class name -> region that comes from a label map and is not to be drawn.
    """

    def __init__(
        self,
        person: Person,
        tissues: Mapping[str, Tissue],
        axes_mm: tuple[Line, Line, Line],
        frame: Frame,
        rng: np.random.Generator,
    ) -> None:
        self.person, self.tissues, self.axes_mm, self.frame = person, tissues, axes_mm, frame
        self.shape: Shape3 = (len(axes_mm[0]), len(axes_mm[1]), len(axes_mm[2]))
        self.spacing_mm: Vector3 = tuple(float(abs(a[1] - a[0])) for a in axes_mm)  # type: ignore[assignment]
        self.voxel_ml = float(np.prod(self.spacing_mm)) / MM3_PER_ML
        self.extent_mm = (
            _rounded(axes_mm[0], 340.0), _rounded(axes_mm[1], 260.0),
            (min(-1400.0, float(axes_mm[2].min()) - 20), max(100.0, float(axes_mm[2].max()) + 20)),
        )  # fmt: skip
        self.size = float(np.cbrt(person.scale_z * person.scale_xy**2))
        self.edge = float(np.cbrt(np.prod(self.spacing_mm))) / self.size
        self.depth = frame.depth
        # Amplitude 3.5 mm over 20 mm: slopes of 0.18 keep the map one to one.
        shift = [np.float32(3.5) * np.clip(self.field(rng, 36.0), -3, 3) for _ in range(3)]
        self.u: Array = shift[0] + ((axes_mm[0][:, None, None] - frame.centre_x) / frame.width).astype(np.float32)
        self.v: Array = shift[1] + ((axes_mm[1][None, :, None] - frame.centre_y) / frame.ap).astype(np.float32)
        self.d: Array = shift[2] + self.depth.astype(np.float32)
        self.fine, self.coarse = self.field(rng, 15.0), self.field(rng, 42.0)
        self.suv = np.zeros(self.shape, np.float32)
        self.background_suv = np.zeros(self.shape, np.float32)
        self.hu = np.full(self.shape, -1000.0, np.float32)
        self.organs = np.zeros(self.shape, np.uint8)
        self.owned = np.zeros(self.shape, np.float32)
        self.body: Array | None = None
        self.dome_mm = 0.0
        self.given: dict[str, Region] = {}
        self._reserved: dict[str, Array] = {}

    def field(self, rng: np.random.Generator, scale_mm: float) -> Array:
        """Return a smooth random field over the whole canvas; see `random_field`."""
        return random_field(rng, self.axes_mm, self.extent_mm, scale_mm)

    def world(self, point: Point) -> Vector3:
        """Return the world position (x, y, z) in mm of a point (u, v, d), displacement left out."""
        u, v, d = point
        order, f = np.argsort(self.depth), self.frame
        z, sx, sy, cx, cy = (
            float(np.interp(d, self.depth[order], line[order]))
            for line in (self.axes_mm[2], f.width, f.ap, f.centre_x, f.centre_y)
        )
        return u * sx + cx, v * sy + cy, z

    def box(self, low: Point, high: Point) -> Box:
        """Return the voxels that may lie between two corners (u, v, d) of the frame."""
        slices = []
        depth = (self.depth >= low[2] - MARGIN_MM) & (self.depth <= high[2] + MARGIN_MM)
        if not depth.any():
            return (slice(0, 0), slice(0, 0), slice(0, 0))
        f = self.frame
        for axis, (scale, centre) in enumerate(((f.width, f.centre_x), (f.ap, f.centre_y))):
            ends = np.array([low[axis] - MARGIN_MM, high[axis] + MARGIN_MM])
            bounds = np.outer(ends, scale[depth]) + centre[depth]
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
        distance = ellipsoid_distance(self.at(box), centre, radii, turn=turn, power=power)
        return Region(box, distance + self._inflation(2.0 / 3.0 * sum(1.0 / r for r in radii)))

    def _inflation(self, curvature: float) -> np.float32:
        """Return what a linear ramp of one voxel's width adds to the size of a convex shape, reference mm.

        The ramp's mean over offsets t in ±e/2 is V(r) + V''(r) e²/24: a shell of curvature · e²/24 too much.
        """
        return np.float32(curvature * self.edge**2 / 24.0)

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
        gap = (gap - radius[0] - t * (radius[1] - radius[0])).astype(np.float32) + self._inflation(2.0 / radius.sum())
        nearer = gap < distance[inner]
        distance[inner] = np.where(nearer, gap, distance[inner])
        along[inner] = np.where(nearer, np.float32(span[0]) + np.float32(span[1]) * t, along[inner])

    def union(self, regions: Sequence[Region]) -> Region:
        """Return the union of several regions on the smallest box that holds theirs."""
        parts = [r for r in regions if r.distance.size]
        if not parts:
            return regions[0]
        box = tuple(
            slice(min(r.box[axis].start for r in parts), max(r.box[axis].stop for r in parts)) for axis in range(3)
        )
        distance = np.full(tuple(b.stop - b.start for b in box), 1e3, np.float32)
        for r in parts:
            inner = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(r.box, box, strict=True))
            distance[inner] = np.minimum(distance[inner], r.distance)
        return Region((box[0], box[1], box[2]), distance)

    def fraction(self, region: Region) -> Array:
        """Return the fraction of each voxel inside a region, 0 to 1, and inside the body."""
        inside = np.clip(0.5 - region.distance / np.float32(self.edge), 0.0, 1.0)
        return inside if self.body is None else inside * self.body[region.box]

    def fit(self, region: Region, volume_ml: float, *, bounds: Array | None = None, limit_mm: float = 14.0) -> Region:
        """Return the region grown or shrunk evenly until its free voxels have a volume.

        Parameters
        ----------
        region : Region
        volume_ml : float
            Aim, mL; 0 gives an empty region. Where the free voxels of the region's box do not suffice, or growth would
            exceed `limit_mm`, the volume stays away from its aim.
        bounds : array or None
            Distance, on the region's box, to what the region must stay inside of, such as diaphragm and chest wall:
            growth moves the free surface only.
        limit_mm : float
            Largest shift of the surface, reference mm.
        """
        if volume_ml <= 0 or region.distance.size == 0:
            return region.inset(1e3)
        free = self.owned[region.box] < 0.5
        if self.body is not None:
            free &= self.body[region.box] > 0.5
        if bounds is not None:
            free &= bounds < 0
        distance = region.distance[free]
        if distance.size:
            place = min(max(round(volume_ml / self.voxel_ml), 1), distance.size) - 1
            region = region.inset(-float(np.clip(np.partition(distance, place)[place], -limit_mm, limit_mm)))
        return region if bounds is None else Region(region.box, smooth_cut(region.distance, bounds, 4.0), region.along)

    def paint(
        self,
        region: Region,
        tissue: str,
        label: str | None = None,
        *,
        within: Array | None = None,
        weight: Array | float | None = None,
        suv_factor: Array | float = 1.0,
        hu_shift: Array | float = 0.0,
        background: bool = False,
        claim: bool | None = None,
    ) -> Array:
        """Cover what no organ owns with a tissue and return the coverage.

        Parameters
        ----------
        region : Region
        tissue : str
            Name in the patient's table of tissues.
        label : str or None
            Organ label for voxels at least half inside; None leaves the label.
        within : array or None
            Coverage of the organ this is a part of, on the region's box: the paint then goes over that organ and
            nowhere else. Where the organ fills a voxel by half, so does a part of it that reaches its surface; what
            was there shines through a little less than it should.
        weight : array or float or None
            Multiplies the coverage, 0 to 1.
        suv_factor, hu_shift
            On top of the tissue's own mean and texture.
        background : bool
            Muscle, fat and skin: their SUV is kept apart.
        claim : bool or None
            Whether the covered voxels are an organ's from now on. None: if they have a label and are no background.
        """
        box, cover = region.box, self.fraction(region)
        claim = (label is not None and not background) if claim is None else claim
        if within is not None:
            cover, claim = np.minimum(cover, within), False
        elif label is not None and label in self.given:
            return np.zeros_like(cover)
        else:
            cover = np.minimum(cover, 1.0 - self.owned[box])
        if cover.size == 0:
            return cover
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
            # A voxel that two organs share in equal parts stays with the first.
            mine = (cover >= 0.5) & ((within is not None) | (cover > self.owned[box]))
            self.organs[box][mine] = organ_id(label)
        if claim:
            self.owned[box] += cover
        return cover

    def reserve(self, region: Region, label: str) -> None:
        """Claim a region that a label map gives, and label it; whoever dresses it later finds it in `given`."""
        box = region.box
        cover = np.minimum(self.fraction(region), 1.0 - self.owned[box])
        self.organs[box][(cover >= 0.5) & (cover > self.owned[box])] = organ_id(label)
        self.owned[box] += cover
        self.given[label] = Region(box, region.distance, region.along)
        self._reserved[label] = cover

    def reserved(self, label: str) -> Array:
        """Return what of each voxel of a given region belongs to it, on the region's box."""
        return self._reserved[label]

    def organ(
        self,
        label: str,
        tissue: str,
        shape: Callable[[], Region],
        volume_ml: float | None = None,
        *,
        bounds: Callable[[Region], Array] | None = None,
        limit_mm: float = 14.0,
        look: Callable[[Region], dict[str, Any]] | None = None,
    ) -> tuple[Region, Array]:
        """Paint an organ of a given volume, or dress the one that a label map gives; return its region and coverage.

        Parameters
        ----------
        label, tissue : str
        shape : function
            Makes the region; not called when the label map has the organ.
        volume_ml : float or None
            Aim of `fit`; None draws the shape as it is.
        bounds : function or None
            Gives the `bounds` of `fit` for the region that `shape` made.
        limit_mm : float
        look : function or None
            Gives `suv_factor`, `hu_shift`, ... of `paint` for the final region.
        """
        if label in self.given:
            region, cover = self.given[label], self._reserved[label]
            self.paint(region, tissue, label, within=cover, **(look(region) if look else {}))
            return region, cover
        region = shape()
        if volume_ml is not None:
            limits = None if bounds is None else bounds(region)
            region = self.fit(region, volume_ml, bounds=limits, limit_mm=limit_mm)
        return region, self.paint(region, tissue, label, claim=True, **(look(region) if look else {}))


def _rounded(axis_mm: Line, least: float) -> tuple[float, float]:
    """Return the extent of an axis and at least that of the usual field, so that fields do not depend on the grid."""
    return min(-least, float(axis_mm.min()) - 20.0), max(least, float(axis_mm.max()) + 20.0)
