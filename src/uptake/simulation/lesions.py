"""Lesions and what looks like one: where they grow, how large they are, how much FDG they take up.

References
----------
1,223 lymphoma lesions: median volume 1.8 mL, median contrast 4.0. Solid tumours, SUVmax 3 to 24: Nahmias and Wahl,
J Nucl Med 49, 2008. About half of the patients of a public FDG cohort have none: Gatidis et al., Sci Data 9, 2022,
doi:10.1038/s41597-022-01718-3. Shares of sites and of shapes are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion

from uptake.core.types import Vector3
from uptake.core.units import MM3_PER_ML
from uptake.simulation.canvas import Canvas, Point
from uptake.simulation.labels import LUNGS, organ_id
from uptake.simulation.person import PatientConfig
from uptake.simulation.skeleton import spine_front

MAX_LESIONS = 60

SITES = {"node": 0.40, "lung": 0.16, "liver": 0.12, "bone": 0.20, "soft_tissue": 0.09, "spleen": 0.03}
"""Where lesions grow, shares of all lesions."""

_BONE_HOSTS = (
    *(f"vertebrae_{n}" for n in ("T4", "T6", "T7", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")),
    "hip_left", "hip_right", "sacrum", "femur_left", "femur_right", "sternum", "rib_left_5", "rib_right_6",
    "rib_left_7", "rib_right_8", "scapula_left", "scapula_right", "humerus_right",
)  # fmt: skip
_HOSTS: dict[str, tuple[str, ...]] = {
    "lung": LUNGS,
    "liver": ("liver",),
    "spleen": ("spleen",),
    "bone": _BONE_HOSTS,
    "soft_tissue": ("skeletal_muscle", "subcutaneous_fat", "gluteus_maximus_left", "gluteus_maximus_right"),
}  # fmt: skip
_STATIONS: dict[str, tuple[Point, ...]] = {
    # (u, v, d) of the right-hand station; those off the midline are mirrored by chance.
    "neck": ((48, 6, 235), (52, -8, 262), (46, 8, 290)),
    "axilla": ((136, -18, 392), (128, -6, 420)),
    "mediastinum": ((14, 14, 382), (10, -12, 408), (38, -14, 432), (8, 40, 372), (4, -24, 450)),
    "retroperitoneum": ((20, -6, 690), (22, -4, 715), (10, -2, 735), (24, 0, 668)),
    "mesentery": ((22, 40, 726), (-16, 44, 740)),
    "pelvis": ((58, 8, 822), (72, 24, 856), (50, -18, 810)),
    "groin": ((78, 74, 900), (74, 80, 918)),
}
_STATION_SHARES = {
    "neck": 0.2, "axilla": 0.12, "mediastinum": 0.3, "retroperitoneum": 0.18, "mesentery": 0.05, "pelvis": 0.08,
    "groin": 0.07,
}  # fmt: skip


@dataclass(frozen=True)
class Lesion:
    """One lesion as it is: number in the label volume, site, size and uptake.

    Attributes
    ----------
    number : int
        Its value in the label volume.
    site : str
        "node", "lung", "liver", "bone", "soft_tissue" or "spleen".
    place : str
        Organ label or nodal station it grew in.
    volume_ml : float
        Voxels at least half inside, mL.
    suv_mean : float
        Mean of the true activity (before blur and noise) over these voxels.
    suv_drawn : float
        SUV its tissue was given, before texture and cold core.
    centre_mm : tuple of float
        Centroid of these voxels, world mm.
    cold_core, infiltrative : bool
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


@dataclass(frozen=True)
class _Growth:
    site: str
    place: str
    centre: Vector3
    volume_ml: float
    contrast: float
    cold_core: bool
    infiltrative: bool


def draw_count(rng: np.random.Generator, lesion_free_fraction: float) -> int:
    """Return a number of lesions: none in a share of the patients, else 1 + negative binomial (mean 8, shape 0.6)."""
    none, more = rng.uniform() < lesion_free_fraction, int(rng.negative_binomial(0.6, 0.6 / 8.6))
    return 0 if none else min(1 + more, MAX_LESIONS)


def grow_lesions(canvas: Canvas, rng: np.random.Generator, count: int) -> tuple[np.ndarray, list[dict[str, object]]]:
    """Paint `count` lesions; return their label volume (uint8) and what is known of each before measuring."""
    numbers = np.zeros(canvas.shape, np.uint8)
    known: list[dict[str, object]] = []
    host_before = canvas.organs.copy()
    previous: Vector3 | None = None
    texture = canvas.field(rng, 11.0)
    for attempt in range(12 * count):
        if len(known) == count:
            break
        growth = _draw_growth(canvas, rng, host_before, previous, small=attempt > 4 * count)
        if growth is not None and _paint(canvas, rng, growth, numbers, texture, len(known) + 1, known):
            previous = growth.centre if growth.site == "node" else None
    return numbers, known


def _draw_growth(
    canvas: Canvas, rng: np.random.Generator, organs: np.ndarray, previous: Vector3 | None, *, small: bool
) -> _Growth | None:
    site = str(rng.choice(list(SITES), p=list(SITES.values())))
    volume = float(np.clip(2.0 * np.exp(1.4 * rng.standard_normal()), 0.2, 8.0 if small else 300.0))
    contrast = float(np.clip(4.0 * np.exp(0.7 * rng.standard_normal()), 1.8, 14.0))
    chance = rng.uniform(size=4)
    if site == "node":
        station = str(rng.choice(list(_STATION_SHARES), p=list(_STATION_SHARES.values())))
        points = _STATIONS[station]
        u, v, d = points[int(rng.integers(len(points)))]
        u = -u if chance[0] < 0.5 else u
        if station in ("retroperitoneum",):
            v = spine_front(d) + 32.0
        step = np.clip(rng.standard_normal(3), -2, 2) * (5.0, 4.0, 6.0)
        centre = np.asarray(canvas.world((u, v, d))) + step
        if previous is not None and chance[1] < 0.35:  # nodes come in clusters
            centre, station = np.asarray(previous) + rng.standard_normal(3) * (14, 9, 16), "cluster"
        place, volume = station, min(volume, 60.0)
    else:
        hosts = _HOSTS[site]
        place = hosts[int(rng.integers(len(hosts)))]
        where = organs == organ_id(place)
        inner = binary_erosion(where)
        voxels = np.flatnonzero(inner if inner.any() else where)
        if voxels.size == 0:
            return None
        index = np.unravel_index(int(voxels[int(rng.integers(voxels.size))]), organs.shape)
        centre = np.array([canvas.axes_mm[a][index[a]] for a in range(3)])
        limit = {"bone": 40.0, "spleen": 40.0, "lung": 90.0, "liver": 120.0}.get(site, 300.0)
        if place == "subcutaneous_fat":
            limit = 5.0
        volume = min(volume, limit)
    return _Growth(site, place, (float(centre[0]), float(centre[1]), float(centre[2])), volume, contrast,
                   bool(volume > 20 and chance[2] < 0.3), bool(chance[3] < 0.15))  # fmt: skip


def _paint(
    canvas: Canvas, rng: np.random.Generator, growth: _Growth, numbers: np.ndarray, texture: np.ndarray, number: int,
    known: list[dict[str, object]],
) -> bool:  # fmt: skip
    voxel_ml = float(np.prod(canvas.spacing_mm)) / MM3_PER_ML
    volume = max(growth.volume_ml, 1.3 * voxel_ml)
    radius = float(np.cbrt(volume * MM3_PER_ML * 3 / (4 * np.pi)))
    stretch = np.exp(0.14 * np.clip(rng.standard_normal(3), -2, 2))
    radii = radius * stretch / float(np.cbrt(stretch.prod()))
    centre = np.asarray(growth.centre)
    if volume < 4 * voxel_ml:  # a lesion of a voxel or two sits on a voxel, or no voxel would be half inside
        centre = np.array([a[int(np.argmin(np.abs(a - c)))] for a, c in zip(canvas.axes_mm, centre, strict=True)])
    pad = 1.6 * radii + 2 * np.asarray(canvas.spacing_mm)
    box = tuple(
        slice(int(hit[0]), int(hit[-1]) + 1) if (hit := np.flatnonzero(np.abs(a - c) <= p)).size else slice(0, 0)
        for a, c, p in zip(canvas.axes_mm, centre, pad, strict=True)
    )
    x, y, z = np.meshgrid(*(a[s] - c for a, s, c in zip(canvas.axes_mm, box, centre, strict=True)), indexing="ij")
    level = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)
    rough = (0.32 if growth.infiltrative else 0.10) * min(1.0, radius / 8.0)
    distance = (level - 1 - rough * texture[box]) * radius
    edge = float(np.cbrt(np.prod(canvas.spacing_mm)))
    cover = np.clip(0.5 - distance / edge, 0, 1)
    if canvas.body is not None:
        cover = cover * (canvas.body[box] > 0.95)
    mask = cover >= 0.5
    if not mask.any() or (numbers[box][mask] > 0).any() or mask.sum() * voxel_ml < 0.45 * volume:
        return False
    ring = (distance > 0) & (distance < 10) & (numbers[box] == 0)
    total = canvas.suv[box] + canvas.background_suv[box]
    background = float(np.median(total[ring])) if ring.any() else 0.8
    # Contrast is against what surrounds it, but a nodule in lung or fat is as hot as one in a node: three quarters of
    # the blood pool is the least it is measured against.
    reference = float(np.clip(background, 0.75 * canvas.tissues["blood"].suv, 2.8))
    suv = float(np.clip(reference * growth.contrast, 1.35 * background + 0.5, 25.0))
    grain = 0.16 * texture[box]
    activity = suv * np.exp(grain - 0.0128)
    if growth.cold_core:
        core = np.clip((0.55 - level) / 0.15 + 0.5, 0, 1)
        activity = activity * (1 - core * float(rng.uniform(0.5, 0.8)))
    canvas.suv[box] = canvas.suv[box] * (1 - cover) + cover * activity
    canvas.background_suv[box] *= 1 - cover
    canvas.hu[box] += cover * _ct_contrast(growth, rng, canvas.hu[box], distance)
    numbers[box][mask] = number
    known.append({"number": number, "site": growth.site, "place": growth.place, "suv_drawn": suv,
                  "cold_core": growth.cold_core, "infiltrative": growth.infiltrative})  # fmt: skip
    return True


def _ct_contrast(growth: _Growth, rng: np.random.Generator, hu: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the change in HU: solid in lung and fat, slightly dark in liver and spleen, lytic or sclerotic in bone."""
    sclerotic = rng.uniform() < 0.4
    if growth.site == "bone":
        return np.where(hu > 40, 220.0 if sclerotic else -0.55 * (hu - 45), 40.0 - hu)
    if growth.site in ("liver", "spleen"):
        return np.full_like(hu, -14.0) + 0 * distance
    return np.where(hu > 150, 0.0, 40.0 - hu)


def measure_lesions(
    numbers: np.ndarray, activity: np.ndarray, axes_mm: tuple[np.ndarray, ...], known: list[dict[str, object]]
) -> tuple[Lesion, ...]:
    """Return the table of lesions, measured on the true activity."""
    voxel_ml = float(np.prod([abs(a[1] - a[0]) for a in axes_mm])) / MM3_PER_ML
    table = []
    for entry in known:
        index = np.nonzero(numbers == entry["number"])
        centre = tuple(float(a[i].mean()) for a, i in zip(axes_mm, index, strict=True))
        mean = float(activity[index].mean(dtype=np.float64))
        table.append(Lesion(volume_ml=len(index[0]) * voxel_ml, suv_mean=mean, centre_mm=centre, **entry))  # type: ignore[arg-type]
    return tuple(table)


def draw_mimics(canvas: Canvas, rng: np.random.Generator, config: PatientConfig) -> list[str]:
    """Paint physiological foci that a reader must not call lesions; return what was painted."""
    urine = canvas.tissues["renal_pelvis"].suv / canvas.tissues["urine"].suv
    painted: list[str] = []
    chance, strength = rng.uniform(size=6), rng.uniform(size=6)
    if not config.mimics:
        return painted
    for n, side in enumerate((1, -1)):
        if chance[n] < 0.6:  # peristalsis leaves a few dots of urine along the ureter
            painted.append(f"ureter_{'right' if side > 0 else 'left'}")
            for depth in rng.uniform(710, 850, size=int(rng.integers(1, 4))):
                v = spine_front(min(float(depth), 780.0)) + 26 + 0.15 * max(float(depth) - 780, 0)
                u = side * float(np.interp(depth, [700, 790, 850], [38, 44, 60]))
                drop = canvas.tube([(u, v, float(depth)), (u, v, float(depth) + float(rng.uniform(6, 26)))], [3.2, 3.0])
                canvas.paint(drop, "urine", suv_factor=urine)
    if chance[2] < (0.16 if canvas.person.female else 0.05) and canvas.person.age_years < 60:
        painted.append("brown_fat")
        for side in (1, -1):
            depot = [(side * 44, -10, 292), (side * 78, -2, 316), (side * 112, -14, 336)]
            hot = 6.0 + 20.0 * float(strength[2])
            canvas.paint(canvas.tube(depot, [6, 8, 6], smooth=8), "brown_fat", suv_factor=hot, weight=0.7)
    if chance[3] < 0.25:
        painted.append("focal_bowel")
        place = [(96, 12, 786), (100, 2, 716), (-108, -12, 730), (-62, 18, 826), (-6, -38, 838)][int(rng.integers(5))]
        canvas.paint(canvas.tube([place, (place[0], place[1], place[2] + 18)], [9, 8]), "colon", None,
                     suv_factor=2.0 + 2.5 * float(strength[3]))  # fmt: skip
    if chance[4] < canvas.person.age_years / 130:
        painted.append("degenerative_bone")
        depth = float(rng.choice([640.0, 672.0, 706.0, 740.0]))
        spur = canvas.tube([(12, spine_front(depth) + 16, depth), (24, spine_front(depth) + 6, depth)], [5, 5])
        canvas.paint(spur, "dense_bone", suv_factor=4.0 + 4.0 * float(strength[4]), hu_shift=-500.0)
    return painted
