"""Lesions: how many, how large, of which shape, and the truth about each.

References
----------
Median volume of 1,223 lymphoma lesions, 1.8 mL. About half of the patients of a public FDG cohort have none: Gatidis et
al., Sci Data 9, 2022, doi:10.1038/s41597-022-01718-3. Shares of shapes are ours; sites and uptake: `sites`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, binary_erosion

from uptake.core.types import Vector3
from uptake.core.units import MM3_PER_ML
from uptake.simulation.canvas import Canvas
from uptake.simulation.fields import Array, Line
from uptake.simulation.frame import settled
from uptake.simulation.labels import organ_id
from uptake.simulation.sites import FDG_CONTRAST, HOSTS, LIMITS_ML, SITES, STATION_SHARES, STATIONS, UPTAKE
from uptake.simulation.skeleton import spine_front
from uptake.simulation.tracers import lognormal

MAX_LESIONS = 60
VOLUME_RANGE_ML = (0.2, 300.0)
SUV_CEILING = {"FDG": 25.0, "PSMA-11": 80.0, "PSMA-1007": 80.0, "FAPI-04": 30.0, "DOTATATE": 70.0}

CLUSTER_SHARE, COLD_SHARE, INFILTRATIVE_SHARE = 0.10, 0.20, 0.15
"""Nodes that others gather round; lesions above 20 mL with a cold core; lesions with a ragged edge."""


@dataclass(frozen=True)
class Lesion:
    """One lesion as it is: number in the label volume, site, size and uptake.

    Attributes
    ----------
    number : int
        Its value in the label volume.
    site : str
        Key of `sites.SITES`: "node", "lung", "liver", "bone", ...
    place : str
        Organ label or nodal station it grew in.
    volume_ml : float
        Voxels at least half inside, mL.
    suv_mean, suv_max : float
        Mean and maximum of the true activity (before blur and noise) over these voxels.
    suv_drawn : float
        SUV its tissue was given, before texture and cold core.
    tbr : float
        `suv_mean` over the median true activity within 10 mm around it, other lesions left out.
    centre_mm : tuple of float
        Centroid of these voxels, world mm.
    cold_core, infiltrative, clustered : bool
    tracer : str
    """

    number: int
    site: str
    place: str
    volume_ml: float
    suv_mean: float
    suv_drawn: float
    centre_mm: Vector3
    cold_core: bool
    infiltrative: bool
    suv_max: float = float("nan")
    tbr: float = float("nan")
    clustered: bool = False
    tracer: str = "FDG"


@dataclass(frozen=True)
class _Growth:
    site: str
    place: str
    centre: Vector3
    volume_ml: float
    strength: float
    cold_core: bool
    infiltrative: bool
    clustered: bool


def draw_count(rng: np.random.Generator, lesion_free_fraction: float) -> int:
    """Return a number of lesions: none in a share of the patients, else 1 + negative binomial (mean 8, shape 0.6)."""
    none, more = rng.uniform() < lesion_free_fraction, int(rng.negative_binomial(0.6, 0.6 / 8.6))
    return 0 if none else min(1 + more, MAX_LESIONS)


def grow_lesions(
    canvas: Canvas, rng: np.random.Generator, count: int, tracer: str
) -> tuple[npt.NDArray[np.uint8], list[dict[str, object]]]:
    """Paint `count` lesions; return their label volume and what is known of each before measuring."""
    numbers = np.zeros(canvas.shape, np.uint8)
    known: list[dict[str, object]] = []
    host_before = canvas.organs.copy()
    near: list[tuple[Vector3, str]] = []  # places that the next nodes of a cluster take
    texture = canvas.field(rng, 11.0)
    for attempt in range(12 * count):
        if len(known) == count:
            break
        growth = _draw_growth(canvas, rng, host_before, near, tracer, small=attempt > 4 * count)
        if growth is None or not _paint(canvas, rng, growth, numbers, texture, tracer, known):
            continue
        if growth.site == "node" and not growth.clustered and rng.uniform() < CLUSTER_SHARE:
            near.extend([(growth.centre, growth.place)] * int(rng.integers(2, 5)))
    return numbers, known


def _draw_growth(
    canvas: Canvas,
    rng: np.random.Generator,
    organs: npt.NDArray[np.uint8],
    near: list[tuple[Vector3, str]],
    tracer: str,
    *,
    small: bool,
) -> _Growth | None:
    shares = SITES[tracer]
    site = str(rng.choice(list(shares), p=list(shares.values())))
    least, most = VOLUME_RANGE_ML
    volume = float(np.clip(2.0 * np.exp(1.4 * rng.standard_normal()), least, 8.0 if small else most))
    strength = float(np.clip(rng.standard_normal(), -2.5, 2.5))
    chance, step = rng.uniform(size=4), np.clip(rng.standard_normal(3), -2, 2)
    volume = min(volume, LIMITS_ML.get(site, most))
    clustered = bool(near)
    if near:
        origin, place = near.pop()
        site, centre = "node", np.asarray(origin) + step * (12, 8, 14)
    elif site in ("node", "mesentery"):
        place, centre = _station(canvas, rng, tracer, site, chance[0], step)
    else:
        hosts = [host for host in HOSTS[site] if (organs == organ_id(host)).any()]
        if site == "prostate" and not hosts:
            place, centre = _station(canvas, rng, tracer, "prostate_bed", chance[0], 0.4 * step)
            volume = min(volume, 5.0)
        elif not hosts:
            return None
        else:
            place = hosts[int(rng.integers(len(hosts)))]
            where = organs == organ_id(place)
            inner = binary_erosion(where)
            voxels = np.flatnonzero(inner if inner.any() else where)
            index = np.unravel_index(int(voxels[int(rng.integers(voxels.size))]), organs.shape)
            centre = np.array([canvas.axes_mm[a][index[a]] for a in range(3)])
    if place == "subcutaneous_fat":
        volume = min(volume, 5.0)
    return _Growth(site, place, (float(centre[0]), float(centre[1]), float(centre[2])), volume, strength,
                   bool(volume > 20 and chance[2] < COLD_SHARE), bool(chance[3] < INFILTRATIVE_SHARE),
                   clustered)  # fmt: skip


def _station(
    canvas: Canvas, rng: np.random.Generator, tracer: str, site: str, chance: float, step: Line
) -> tuple[str, Line]:
    """Return a nodal station and a place in it, world mm."""
    shares = STATION_SHARES[tracer]
    station = str(rng.choice(list(shares), p=list(shares.values()))) if site == "node" else site
    points = STATIONS[station]
    u, v, d = points[int(rng.integers(len(points)))]
    if station == "retroperitoneum":
        v = spine_front(d) + 32.0
    elif station in ("mediastinum", "mesentery"):
        d = settled(d, canvas.dome_mm)
    centre = np.asarray(canvas.world((-u if chance < 0.5 else u, v, d))) + step * (5.0, 4.0, 6.0)
    return station, np.asarray(centre)


def _box(canvas: Canvas, centre: Line, pad: Line) -> tuple[slice, slice, slice]:
    slices = []
    for axis, at, reach in zip(canvas.axes_mm, centre, pad, strict=True):
        hit = np.flatnonzero(np.abs(axis - at) <= reach)
        slices.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0))
    return slices[0], slices[1], slices[2]


def _paint(
    canvas: Canvas,
    rng: np.random.Generator,
    growth: _Growth,
    numbers: npt.NDArray[np.uint8],
    texture: Array,
    tracer: str,
    known: list[dict[str, object]],
) -> bool:
    voxel_ml = canvas.voxel_ml
    stretch = np.exp(0.14 * np.clip(rng.standard_normal(3), -2, 2))
    cold, sclerotic = float(rng.uniform(0.5, 0.8)), bool(rng.uniform() < 0.4)
    volume = max(growth.volume_ml, 1.3 * voxel_ml)
    radius = float(np.cbrt(volume * MM3_PER_ML * 3 / (4 * np.pi)))
    radii = radius * stretch / float(np.cbrt(stretch.prod()))
    centre = np.asarray(growth.centre)
    if volume < 4 * voxel_ml:  # a lesion of a voxel or two sits on a voxel, or no voxel would be half inside
        centre = np.array([a[int(np.argmin(np.abs(a - c)))] for a, c in zip(canvas.axes_mm, centre, strict=True)])
    box = _box(canvas, centre, 1.6 * radii + 2 * np.asarray(canvas.spacing_mm))
    rough = (0.32 if growth.infiltrative else 0.10) * min(1.0, radius / 8.0)
    edge = float(np.cbrt(np.prod(canvas.spacing_mm)))
    level, cover = _cover(canvas, box, centre, radii, rough * texture[box], 4 if radius < 2.5 * edge else 2)
    distance = (level - 1 - rough * texture[box]) * radius
    if canvas.body is not None:
        cover = cover * (canvas.body[box] > 0.95)
    mask = cover >= 0.5
    if not mask.any() or (numbers[box][mask] > 0).any() or mask.sum() * voxel_ml < 0.45 * volume:
        return False
    suv = _suv(canvas, growth, tracer, box, (distance > 0) & (distance < 10) & (numbers[box] == 0))
    activity = suv * np.exp(0.2 * texture[box] - 0.02)
    if growth.cold_core:
        activity = activity * (1 - np.clip((0.55 - level) / 0.15 + 0.5, 0, 1) * cold)
    canvas.suv[box] = canvas.suv[box] * (1 - cover) + cover * activity
    canvas.background_suv[box] *= 1 - cover
    canvas.hu[box] += cover * _ct_contrast(growth.site, sclerotic, canvas.hu[box])
    number = len(known) + 1
    numbers[box][mask] = number
    known.append({"number": number, "site": growth.site, "place": growth.place, "suv_drawn": suv, "tracer": tracer,
                  "cold_core": growth.cold_core, "infiltrative": growth.infiltrative,
                  "clustered": growth.clustered})  # fmt: skip
    return True


def _cover(
    canvas: Canvas, box: tuple[slice, slice, slice], centre: Line, radii: Line, ragged: Array, parts: int
) -> tuple[Array, Array]:
    """Return the level of an ellipsoid (1 on its surface) at voxel centres, and the fraction of each voxel inside.

    Voxels are cut into `parts` along each axis, and each part is covered as far as the surface's distance says.
    """
    offsets = (np.arange(parts) + 0.5) / parts - 0.5
    x, y, z = (
        (canvas.axes_mm[axis][box[axis], None] + offsets * canvas.spacing_mm[axis] - centre[axis]).ravel() / radii[axis]
        for axis in range(3)
    )
    fine = np.sqrt(x[:, None, None] ** 2 + y[:, None] ** 2 + z**2).astype(np.float32)
    shape = tuple(n for b in box for n in (b.stop - b.start, parts))
    radius, edge = float(np.cbrt(radii.prod())), float(np.cbrt(np.prod(canvas.spacing_mm))) / parts
    distance = (fine.reshape(shape) - 1 - ragged[:, None, :, None, :, None]) * np.float32(radius)
    cover = np.clip(0.5 - distance / np.float32(edge), 0, 1).mean(axis=(1, 3, 5))
    middle = [(canvas.axes_mm[axis][box[axis]] - centre[axis]) / radii[axis] for axis in range(3)]
    level = np.sqrt(middle[0][:, None, None] ** 2 + middle[1][:, None] ** 2 + middle[2] ** 2)
    return level.astype(np.float32), cover.astype(np.float32)


def _suv(
    canvas: Canvas, growth: _Growth, tracer: str, box: tuple[slice, slice, slice], ring: npt.NDArray[np.bool_]
) -> float:
    """Return the SUV of a lesion: of its site, and for FDG of what surrounds it; always above its surroundings."""
    total = canvas.suv[box] + canvas.background_suv[box]
    background = float(np.median(total[ring])) if ring.any() else 0.8
    ceiling = SUV_CEILING[tracer]
    if tracer == "FDG":
        # Contrast is against what surrounds it, but a nodule in lung or fat is as hot as one in a node: three quarters
        # of the blood pool is the least it is measured against.
        reference = float(np.clip(background, 0.75 * canvas.tissues["blood"].suv, 2.8))
        median, sigma = FDG_CONTRAST
        suv = reference * float(np.clip(median * np.exp(sigma * growth.strength), 1.8, 14.0))
    else:
        mean, sd = UPTAKE[tracer].get(growth.site, UPTAKE[tracer][""])
        suv = max(lognormal(growth.strength, mean, sd / mean), 1.8 * canvas.tissues["blood"].suv)
    return float(min(max(suv, 1.35 * background + 0.5), max(ceiling, 1.35 * background + 0.5)))


def _ct_contrast(site: str, sclerotic: bool, hu: Array) -> Array:
    """Return the change in HU: solid in lung and fat, slightly dark in liver and spleen, lytic or sclerotic in bone."""
    if site == "bone":
        return np.where(hu > 40, 220.0 if sclerotic else -0.55 * (hu - 45), 40.0 - hu).astype(np.float32)
    if site in ("liver", "spleen", "pancreas"):
        return np.full_like(hu, -14.0)
    return np.where(hu > 150, 0.0, 40.0 - hu).astype(np.float32)


def measure_lesions(
    numbers: npt.NDArray[np.uint8], activity: Array, axes_mm: tuple[Line, ...], known: list[dict[str, object]]
) -> tuple[Lesion, ...]:
    """Return the table of lesions, measured on the true activity."""
    spacing = [abs(float(a[1] - a[0])) for a in axes_mm]
    voxel_ml = float(np.prod(spacing)) / MM3_PER_ML
    reach = [int(np.ceil(10.0 / s)) for s in spacing]
    table = []
    for entry in known:
        index = np.nonzero(numbers == entry["number"])
        centre = tuple(float(a[i].mean()) for a, i in zip(axes_mm, index, strict=True))
        values = activity[index]
        box = tuple(
            slice(max(int(i.min()) - r - 1, 0), int(i.max()) + r + 2) for i, r in zip(index, reach, strict=True)
        )
        mask = numbers[box] == entry["number"]
        ball = np.ones([2 * r + 1 for r in reach], bool)
        ring = binary_dilation(mask, ball) & ~binary_dilation(mask) & (numbers[box] == 0)
        around = float(np.median(activity[box][ring])) if ring.any() else float("nan")
        mean = float(values.mean(dtype=np.float64))
        table.append(
            Lesion(volume_ml=len(index[0]) * voxel_ml, suv_mean=mean, suv_max=float(values.max()), centre_mm=centre,
                   tbr=mean / max(around, 1e-3), **entry)  # type: ignore[arg-type]
        )  # fmt: skip
    return tuple(table)
