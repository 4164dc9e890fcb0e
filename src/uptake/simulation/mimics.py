"""Foci that are no lesions: what a reader must not call one, as each tracer shows it.

References
----------
Rates are ours, after common reading pitfalls: ureter, brown fat, unspecific bone uptake of PSMA-1007 in ribs and
pelvis (SUVmax 2 to 6), ganglia in PSMA PET (SUVmax 1.5 to 4), uncinate process and accessory spleen in DOTATATE PET,
joints, scars and degenerative bone in FAPI PET.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uptake.core.types import Vector3
from uptake.simulation.canvas import Canvas
from uptake.simulation.frame import settled
from uptake.simulation.labels import organ_id
from uptake.simulation.person import PatientConfig
from uptake.simulation.shapes import Point, Region
from uptake.simulation.skeleton import spine_front

RATES: dict[str, dict[str, float]] = {
    "FDG": {"ureter": 0.6, "brown_fat": 0.10, "focal_bowel": 0.25, "degenerative_bone": 0.45, "injection_site": 0.1,
            "vocal_cords": 0.25, "reactive_node": 0.2, "rib_fracture": 0.05},
    "PSMA-11": {"ureter": 0.7, "ganglion": 0.7, "degenerative_bone": 0.25, "unspecific_bone": 0.12,
                "injection_site": 0.08, "rib_fracture": 0.06},
    "PSMA-1007": {"ureter": 0.2, "ganglion": 0.75, "degenerative_bone": 0.3, "unspecific_bone": 0.65,
                  "injection_site": 0.08, "rib_fracture": 0.06},
    "FAPI-04": {"ureter": 0.6, "degenerative_bone": 0.6, "joint": 0.4, "scar": 0.25, "rib_fracture": 0.08,
                "injection_site": 0.08},
    "DOTATATE": {"ureter": 0.6, "uncinate": 0.4, "accessory_spleen": 0.12, "degenerative_bone": 0.25,
                 "unspecific_bone": 0.12, "injection_site": 0.08},
}  # fmt: skip
"""Share of the patients who show each kind; for the ureter of each side."""

STRENGTH: dict[str, dict[str, tuple[float, float]]] = {
    "FDG": {"brown_fat": (2.5, 9.0), "focal_bowel": (3.0, 8.0), "degenerative_bone": (2.2, 4.0),
            "vocal_cords": (3.0, 6.0), "reactive_node": (2.0, 4.0), "rib_fracture": (2.5, 5.0)},
    "PSMA-11": {"ganglion": (1.6, 3.5), "degenerative_bone": (1.2, 2.5), "unspecific_bone": (1.8, 4.0),
                "rib_fracture": (1.5, 3.5)},
    "PSMA-1007": {"ganglion": (2.0, 4.5), "degenerative_bone": (1.8, 3.5), "unspecific_bone": (2.0, 6.0),
                  "rib_fracture": (2.0, 4.5)},
    "FAPI-04": {"degenerative_bone": (2.5, 6.0), "joint": (2.5, 6.0), "scar": (2.0, 5.0), "rib_fracture": (3.0, 7.0)},
    "DOTATATE": {"uncinate": (5.0, 9.0), "degenerative_bone": (1.6, 3.0), "unspecific_bone": (1.8, 3.5)},
}  # fmt: skip
"""SUV of the focus, range."""


@dataclass(frozen=True)
class Mimic:
    """One focus that is no lesion.

    Attributes
    ----------
    kind : str
        Key of `RATES`.
    place : str
        Organ label or description of the place.
    suv : float
        SUV its tissue was given.
    centre_mm : tuple of float
        Centre, world mm.
    """

    kind: str
    place: str
    suv: float
    centre_mm: Vector3


def draw_mimics(canvas: Canvas, rng: np.random.Generator, config: PatientConfig) -> tuple[Mimic, ...]:
    """Paint the foci of one patient and return them; none when `config.mimics` is false."""
    tracer = config.tracer
    rates, strengths = RATES[tracer], STRENGTH[tracer]
    found: list[Mimic] = []
    for kind, painter in _PAINTERS.items():
        # One stream per kind: whether a kind occurs changes nothing about the others.
        own = rng.spawn(1)[0]
        chance, at = own.uniform(size=2)
        rate = rates.get(kind, 0.0)
        if kind == "brown_fat":
            rate *= 2.0 if canvas.person.female else 0.6
            rate *= float(canvas.person.age_years < 60)
        if kind == "degenerative_bone":
            rate *= float(np.clip(canvas.person.age_years / 60.0, 0.2, 1.5))
        if config.mimics and kind in rates and (kind == "ureter" or chance < rate):
            low, high = strengths.get(kind, (0.0, 0.0))
            found.extend(painter(canvas, own, low + (high - low) * float(at), rate))
    return tuple(found)


def _spot(canvas: Canvas, region: Region, suv: float, hu: float | None = None, weight: float = 1.0) -> bool:
    """Paint a focus over whatever is there, organs included; return whether any of it lies in the body."""
    box, cover = region.box, canvas.fraction(region) * np.float32(weight)
    if cover.size == 0 or float(cover.max()) < 0.3:
        return False
    canvas.suv[box] = canvas.suv[box] * (1 - cover) + cover * np.float32(suv)
    canvas.background_suv[box] *= 1 - cover
    if hu is not None:
        canvas.hu[box] += cover * (np.float32(hu) - canvas.hu[box])
    return True


def _tube(
    canvas: Canvas, kind: str, place: str, points: list[Point], radii: list[float], suv: float,
    hu: float | None = None, weight: float = 1.0,
) -> list[Mimic]:  # fmt: skip
    region = canvas.tube(points, radii, smooth=8 if len(points) > 2 else 0)
    middle = tuple(float(np.mean([p[axis] for p in points])) for axis in range(3))
    if not _spot(canvas, region, suv, hu, weight):
        return []
    return [Mimic(kind, place, round(suv, 3), canvas.world((middle[0], middle[1], middle[2])))]


def _ureter(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    """Peristalsis leaves a few dots and stretches of urine along the ureter."""
    found = []
    urine = canvas.tissues["renal_pelvis"].suv
    for side, name in ((1, "right"), (-1, "left")):
        chance = rng.uniform()
        for depth in rng.uniform(680, 868, size=int(rng.integers(1, 4))):
            length, full = rng.uniform(6, 34), float(rng.uniform(0.4, 1.0))
            if chance >= rate:
                continue
            way = []
            for d in np.linspace(depth, min(depth + length, 872), 3):
                v = spine_front(min(float(d), 780.0)) + 26 + 0.15 * max(float(d) - 780, 0)
                way.append((side * float(np.interp(d, [690, 790, 850, 876], [38, 44, 60, 26])), float(v), float(d)))
            found += _tube(canvas, "ureter", f"ureter_{name}", way, [3.0, 3.0, 3.0], full * urine, 10.0)
    return found


def _brown_fat(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    found = []
    for side in (1, -1):
        # Patchy, as fat pads between muscles and vessels are.
        depot: list[Point] = [(side * 44, -10, 288), (side * 66, -8, 306), (side * 92, -4, 320), (side * 116, -16, 342)]
        lumps = canvas.tube(depot, [5, 8, 9, 6], smooth=10)
        region = Region(lumps.box, lumps.distance - 3.0 + 5.0 * canvas.fine[lumps.box])
        if _spot(canvas, region, suv, weight=0.7):
            found.append(Mimic("brown_fat", "supraclavicular", round(suv, 3), canvas.world((side * 82.0, -8.0, 314.0))))
        for d in (380.0, 425.0, 470.0):
            if rng.uniform() < 0.5:
                spot: list[Point] = [(side * 26, spine_front(d) - 4, d), (side * 30, spine_front(d) - 8, d + 8)]
                found += _tube(canvas, "brown_fat", "paravertebral", spot, [5, 4], 0.7 * suv, weight=0.7)
    return found


def _host_spot(
    canvas: Canvas, rng: np.random.Generator, kind: str, host: str, suv: float, radius: float
) -> list[Mimic]:
    """Paint a ball somewhere inside an organ."""
    voxels = np.flatnonzero(canvas.organs == organ_id(host))
    draw = rng.uniform()
    if voxels.size == 0:
        return []
    i, j, k = np.unravel_index(int(voxels[int(draw * voxels.size)]), canvas.shape)
    point = (float(canvas.u[i, j, k]), float(canvas.v[i, j, k]), float(canvas.d[i, j, k]))
    _spot(canvas, canvas.ellipsoid(point, (radius, radius, radius)), suv)
    x, y, z = (float(axis[n]) for axis, n in zip(canvas.axes_mm, (i, j, k), strict=True))
    return [Mimic(kind, host, round(suv, 3), (x, y, z))]


def _focal_bowel(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    return _host_spot(canvas, rng, "focal_bowel", "colon", suv, 9.0)


def _degenerative(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    found = []
    for _ in range(int(rng.integers(1, 4))):
        depth, side = float(rng.choice([262.0, 560.0, 606.0, 640.0, 672.0, 706.0, 740.0])), 1 - 2 * rng.integers(2)
        spur: list[Point] = [(side * 12, spine_front(depth) + 16, depth), (side * 24, spine_front(depth) + 6, depth)]
        found += _tube(canvas, "degenerative_bone", "spine", spur, [4.5, 4.5], suv * float(rng.uniform(0.7, 1)), 700.0)
    return found


def _injection(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    """A little of the dose beside the vein of the elbow, very bright."""
    side = 1 if rng.uniform() < 0.5 else -1
    amount = float(np.exp(rng.uniform(np.log(4.0), np.log(40.0))))
    u, v, d = (side * 214, 26, 60) if canvas.person.arms == "up" else (side * 214, 12, 660)
    where: list[Point] = [(u, v, d), (u, v, d + 22)]
    return _tube(canvas, "injection_site", "elbow", where, [4.0, 3.0], amount)


def _vocal_cords(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    both = rng.uniform() < 0.6
    found = []
    for side in (1, -1) if both else (1,):
        cord: list[Point] = [(side * 5, 40, 250), (side * 9, 28, 252)]
        found += _tube(canvas, "vocal_cords", "larynx", cord, [3.0, 3.5], suv)
    return found


def _reactive_nodes(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    """Both hila alike, or one armpit after a vaccination."""
    if rng.uniform() < 0.5:
        side = 1 if rng.uniform() < 0.5 else -1
        places = [(side * 132, -14 + 6.0 * n, 392 + 12.0 * n) for n in range(3)]
        name = "axilla"
    else:
        level = settled(430.0, canvas.dome_mm)
        places, name = [(s * 40.0, -14.0, level) for s in (1, -1)] + [(4.0, -18.0, level - 8)], "hilum"
    found = []
    for u, v, d in places:
        found += _tube(canvas, "reactive_node", name, [(u, v, d), (u, v, d + 7)], [4.0, 4.0],
                       suv * float(rng.uniform(0.7, 1.0)), 35.0)  # fmt: skip
    return found


def _ganglia(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    """Coeliac ganglia, thin and comma-shaped beside the aorta; sometimes stellate and sacral ones."""
    found = []
    level = settled(650.0, canvas.dome_mm)
    front = spine_front(level)
    for side in (1, -1):
        coeliac: list[Point] = [
            (side * 14, front + 34, level - 14), (side * 22, front + 26, level - 6), (side * 20, front + 20, level + 4),
        ]  # fmt: skip
        if rng.uniform() < 0.9:
            found += _tube(canvas, "ganglion", "coeliac", coeliac, [2.4, 3.0, 2.0], suv, 30.0)
        if rng.uniform() < 0.35:
            stellate: list[Point] = [(side * 22, -36, 322), (side * 24, -38, 334)]
            found += _tube(canvas, "ganglion", "stellate", stellate, [2.6, 2.6], 0.8 * suv, 30.0)
        if rng.uniform() < 0.3:
            sacral: list[Point] = [(side * 24, -64, 826), (side * 22, -66, 834)]
            found += _tube(canvas, "ganglion", "sacral", sacral, [2.4, 2.4], 0.7 * suv, 30.0)
    return found


def _unspecific_bone(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    hosts = [f"rib_{s}_{n}" for s in ("left", "right") for n in range(2, 11)] + ["hip_left", "hip_right"] * 4
    found = []
    for _ in range(int(rng.integers(1, 5))):
        host = hosts[int(rng.integers(len(hosts)))]
        found += _host_spot(canvas, rng, "unspecific_bone", host, suv * float(rng.uniform(0.5, 1.0)),
                            float(rng.uniform(4.0, 6.0)))  # fmt: skip
    return found


def _fracture(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    """Neighbouring ribs, one above the other."""
    side = "left" if rng.uniform() < 0.5 else "right"
    first = int(rng.integers(4, 8))
    level = rng.uniform()
    found = []
    for n in range(first, first + int(rng.integers(2, 4))):
        voxels = np.flatnonzero(canvas.organs == organ_id(f"rib_{side}_{n}"))
        if voxels.size:
            i, j, k = np.unravel_index(voxels, canvas.shape)
            at = int(np.argsort(canvas.v[i, j, k])[int((0.25 + 0.5 * level) * (voxels.size - 1))])
            point = tuple(float(axis[i[at], j[at], k[at]]) for axis in (canvas.u, canvas.v, canvas.d))
            _spot(canvas, canvas.ellipsoid((point[0], point[1], point[2]), (6, 6, 6)), suv, 500.0)
            x, y, z = (float(a[m[at]]) for a, m in zip(canvas.axes_mm, (i, j, k), strict=True))
            found.append(Mimic("rib_fracture", f"rib_{side}_{n}", round(suv, 3), (x, y, z)))
    return found


def _joint(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    found = []
    for side, name in ((1, "right"), (-1, "left")):
        if rng.uniform() < 0.6:
            shoulder: list[Point] = [(side * 138, -24, 326), (side * 150, -2, 322), (side * 154, 8, 338)]
            found += _tube(canvas, "joint", f"shoulder_{name}", shoulder, [4, 5, 4], suv)
        if rng.uniform() < 0.4:
            hip: list[Point] = [(side * 92, 26, 830), (side * 116, 14, 846)]
            found += _tube(canvas, "joint", f"hip_{name}", hip, [4, 4], 0.8 * suv)
    return found


def _scar(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    """A healing midline incision."""
    k = int(np.argmin(np.abs(canvas.depth - 730.0)))
    i = int(np.argmin(np.abs(canvas.u[:, canvas.shape[1] // 2, k])))
    if canvas.body is None or not (canvas.body[i, :, k] > 0.5).any():
        return []
    front = float(canvas.v[i, canvas.body[i, :, k] > 0.5, k].max()) - 6.0
    cut: list[Point] = [(0.0, front - 2, 690.0), (0.0, front, 730.0), (0.0, front - 4, 775.0)]
    return _tube(canvas, "scar", "abdominal_wall", cut, [4.0, 5.0, 4.0], suv, 30.0)


def _uncinate(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    voxels = np.flatnonzero(canvas.organs == organ_id("pancreas"))
    if voxels.size == 0:
        return []
    i, j, k = np.unravel_index(voxels, canvas.shape)
    at = int(np.argmax(canvas.d[i, j, k]))
    point = tuple(float(axis[i[at], j[at], k[at]]) for axis in (canvas.u, canvas.v, canvas.d))
    spot: list[Point] = [(point[0], point[1], point[2] - 10), (point[0] - 6, point[1] - 2, point[2] - 6)]
    return _tube(canvas, "uncinate", "pancreas", spot, [8.0, 6.0], suv)


def _accessory_spleen(canvas: Canvas, rng: np.random.Generator, suv: float, rate: float) -> list[Mimic]:
    point: Point = (-78.0, -20.0, settled(622.0 + float(rng.uniform(-14, 14)), canvas.dome_mm))
    return _tube(canvas, "accessory_spleen", "splenic_hilum", [point, (point[0], point[1], point[2] + 4)], [6.0, 6.0],
                 canvas.tissues["spleen"].suv, 46.0)  # fmt: skip


_PAINTERS = {
    "ureter": _ureter, "brown_fat": _brown_fat, "focal_bowel": _focal_bowel, "degenerative_bone": _degenerative,
    "injection_site": _injection, "vocal_cords": _vocal_cords, "reactive_node": _reactive_nodes, "ganglion": _ganglia,
    "unspecific_bone": _unspecific_bone, "rib_fracture": _fracture, "joint": _joint, "scar": _scar,
    "uncinate": _uncinate, "accessory_spleen": _accessory_spleen,
}  # fmt: skip
