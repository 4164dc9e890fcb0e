"""The outside of the patient: trunk, head, limbs, skin, fat, muscle and the cavity of chest and abdomen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uptake.simulation.canvas import Canvas, Point, Region, ellipsoid_distance, profile, smooth_union
from uptake.simulation.fields import Array
from uptake.simulation.person import Person

WHOLE = (slice(None), slice(None), slice(None))

# Depth below the vertex, half-width, half-depth, centre to the front, all mm: the muscle surface of the reference man.
TRUNK = [
    (140, 36, 44, -16), (180, 50, 54, -14), (210, 56, 58, -13),
    (240, 55, 58, -16), (268, 61, 61, -20), (288, 92, 66, -24), (305, 138, 74, -22),
    (325, 172, 84, -18), (350, 184, 94, -12), (385, 178, 104, -8), (430, 170, 110, -4), (480, 166, 114, -2),
    (560, 160, 113, 0), (620, 152, 106, 2), (680, 146, 99, 4), (725, 148, 97, 2), (780, 163, 100, -4),
    (835, 173, 107, -10), (880, 171, 106, -13), (910, 160, 100, -14), (935, 138, 86, -16),
    (955, 104, 62, -20), (968, 60, 34, -24),
]  # fmt: skip
WOMAN = [
    (195, 0.92, 0.94),
    (300, 0.95, 0.97),
    (350, 0.97, 0.98),
    (560, 0.98, 0.98),
    (690, 0.97, 0.98),
    (830, 1.10, 1.04),
]
# Subcutaneous fat relative to its mean thickness: neck, shoulder, chest, abdomen, hip; then to the sides for women.
FAT = [
    (120, 0.15),
    (195, 0.3),
    (290, 0.4),
    (340, 0.55),
    (430, 0.75),
    (560, 0.95),
    (680, 1.25),
    (760, 1.35),
    (850, 1.35),
    (925, 1.1),
    (966, 0.25),
]
FAT_WOMAN = [
    (120, 0.2),
    (195, 0.35),
    (340, 0.6),
    (430, 0.8),
    (560, 0.9),
    (680, 1.1),
    (770, 1.4),
    (860, 1.7),
    (925, 1.4),
    (966, 0.3),
]
LEG = [
    (800, 44, 56, -6, 70), (840, 66, 76, -8, 84), (880, 80, 88, -8, 89), (920, 85, 90, -7, 90), (980, 82, 86, -4, 90),
    (1060, 74, 78, 0, 88), (1160, 64, 66, 4, 86),
]  # fmt: skip
# Depth, half-width, half-depth, centre: the inner surface of chest and abdominal wall down to the pelvic floor.
CAVITY = [
    (298, 24, 16, -28), (312, 56, 34, -24), (335, 86, 54, -16), (375, 112, 72, -8), (430, 128, 84, -3),
    (500, 136, 90, 0), (570, 138, 92, 2), (630, 134, 86, 6), (690, 124, 74, 14), (740, 120, 68, 18),
    (790, 112, 66, 16), (830, 88, 62, 6), (875, 58, 52, -4), (905, 38, 36, -8),
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Torso:
    """What the inside needs to know of the outside: the cavity, the muscle surface and the fat on it, mm."""

    cavity: Array
    muscle: Array
    fat_mm: float
    belly_mm: float


def swept(u: Array, v: Array, width: Array, depth: Array, centre: Array, front: Array | float = 0.0) -> Array:
    """Return the distance to a swept superellipse of exponent 2.5, `front` mm deeper ahead."""
    v = v - centre
    a, b = np.abs(u) / width, np.abs(v) / np.where(v > 0, depth + front, depth)
    level = (a * a * np.sqrt(a) + b * b * np.sqrt(b)) ** np.float32(0.4)
    return np.asarray(np.sqrt(u * u + v * v) * (1 - 1 / np.maximum(level, 1e-3)), dtype=np.float32)


def _belly(depth: np.ndarray) -> np.ndarray:
    return np.exp(-(((depth - 690.0) / 120.0) ** 2))


def _trunk_table(person: Person, depth: np.ndarray) -> np.ndarray:
    width, ap, centre = profile(TRUNK, depth)
    if person.female:
        across, along = profile(WOMAN, depth)
        width, ap = width * across, ap * along
    return np.stack([width, ap, centre])


def fat_profile(person: Person, depth: np.ndarray) -> np.ndarray:
    """Return the thickness of subcutaneous fat relative to its mean, by depth."""
    return np.asarray(profile(FAT_WOMAN if person.female else FAT, depth)[0])


def solve_fat_mm(person: Person, field_end: float) -> tuple[float, float]:
    """Return subcutaneous fat thickness and bulge of the belly (reference mm) that give the patient his weight.

    Segment masses of Dempster as shares of the weight: head and neck 0.081, trunk 0.497, arm 0.050, leg 0.161 each
    (Winter, Biomechanics of Human Movement, table 4.1). What is above mid-thigh has to fill the outline: its area by
    depth is known in closed form, so that one unknown thickness is found by bisection.
    """
    depth = np.arange(205.0, field_end, 5.0)
    width, ap, _ = _trunk_table(person, depth)
    relative, legs = fat_profile(person, depth), profile(LEG, depth)
    share = 0.081 + 0.497 + 2 * (0.045 if person.arms == "up" else 0.050) + 2 * 0.161 * 0.47
    area = person.scale_xy**2 * person.scale_z * 5.0 * 1e-6  # L per mm² of section
    bulge = 26.0 * max(person.corpulence + 0.2, 0.0) * (0.75 if person.female else 1.0)

    def mass_kg(fat: float) -> float:
        t = fat * relative
        trunk = 3.38 * (width + t) * (ap + t + 0.5 * bulge * _belly(depth))
        leg = 2 * np.pi * (legs[0] + 1.1 * fat) * (legs[1] + 1.1 * fat)
        section = np.where(depth < 920, trunk, np.minimum(leg, 1.05 * trunk))
        head = 3.9 * person.scale_head**3
        arms = 2 * 2.9 * ((40 + 0.6 * fat) / 46) ** 2 * person.scale_xy**2 * person.scale_z
        lungs = 3.6 * person.scale_xy**2 * person.scale_z
        return float(1.06 * section.sum() * area + head + arms - lungs)

    low, high = 3.0, 90.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if mass_kg(middle) < share * person.weight_kg else (low, middle)
    return low, bulge


def arm_line(person: Person, side: int, fat_mm: float) -> tuple[list[Point], list[float]]:
    """Return centre line and muscle radii of one arm; `side` is 1 right, -1 left."""
    if person.arms == "up":
        line = [
            (152, -14, 338),
            (190, -4, 285),
            (212, 4, 190),
            (214, 8, 80),
            (206, 4, 5),
            (130, -6, -45),
            (40, -10, -70),
        ]
        return [(side * u, v, d) for u, v, d in line], [47, 44, 40, 36, 34, 31, 28]
    out = 16.0 + 0.9 * fat_mm
    line = [
        (164, -14, 338),
        (184, -18, 400),
        (194, -22, 520),
        (200, -24, 640),
        (203, -8, 750),
        (200, 14, 860),
        (192, 24, 960),
    ]
    shifted = [(side * (u + out * min(1.0, n / 2)), float(v), float(d)) for n, (u, v, d) in enumerate(line)]
    return shifted, [46, 42, 38, 34, 34, 25, 28]


def draw_body(canvas: Canvas, rng: np.random.Generator) -> Torso:
    """Paint skin, fat and muscle and return the torso that the organs are put into."""
    person, u, v, d = canvas.person, canvas.u, canvas.v, canvas.d
    fat, belly = solve_fat_mm(person, float(canvas.depth.max()))
    depth = canvas.depth
    muscle = np.full(canvas.shape, 1e3, np.float32)
    outline = np.full(canvas.shape, 1e3, np.float32)

    def rows(table: np.ndarray) -> list[Array]:
        return [np.asarray(row, dtype=np.float32)[None, None, :] for row in table]

    def add(region: Region, thickness: Array | float, fillet: float = 14.0) -> None:
        muscle[region.box] = smooth_union(muscle[region.box], region.distance, fillet)
        outline[region.box] = smooth_union(outline[region.box], region.distance - thickness, fillet)

    trunk = (depth > 120) & (depth < 1000)
    k = np.flatnonzero(trunk)
    if k.size:
        box = (slice(None), slice(None), slice(int(k[0]), int(k[-1]) + 1))
        width, ap, centre = rows(_trunk_table(person, depth[box[2]]))
        front = (belly * _belly(depth[box[2]])).astype(np.float32)
        distance = swept(u[box], v[box], width, ap, centre, front)
        distance = np.maximum(distance, d[box] - np.float32(966.0))
        add(Region(box, distance), (fat * fat_profile(person, depth[box[2]])).astype(np.float32))
    k = np.flatnonzero(depth > 780)
    if k.size:
        box = (slice(None), slice(None), slice(int(k[0]), int(k[-1]) + 1))
        width, ap, centre, apart = rows(profile(LEG, depth[box[2]]))
        thick = (fat * np.interp(depth[box[2]], (860, 1000), (1.5, 1.2) if person.female else (1.25, 0.9))).astype(
            np.float32
        )
        apart = apart + 0.45 * thick
        for side in (1, -1):
            leg = swept(u[box] - side * apart, v[box], width, ap, centre)
            add(Region(box, np.maximum(leg, np.float32(812.0) - d[box])), thick)
    for part in _head(canvas):
        add(part, 2.0, 22.0)
    for side in (1, -1):
        line, radii = arm_line(person, side, fat)
        add(canvas.tube(line, radii, smooth=14), 0.55 * fat, 26.0)
    if person.female:
        size = float(np.clip(46 + 9 * person.corpulence + rng.normal(0, 5), 36, 72))
        for side in (1, -1):
            centre_b = (side * 88.0, 88.0 + 0.7 * fat, 462.0 + 6 * max(person.corpulence, 0))
            region = canvas.ellipsoid(centre_b, (1.15 * size, 0.62 * size, 1.1 * size))
            outline[region.box] = smooth_union(outline[region.box], region.distance, 14.0)
    else:
        rng.normal()
    canvas.body = np.clip(0.5 - outline / np.float32(canvas.edge), 0.0, 1.0)
    canvas.paint(Region(WHOLE, outline), "skin", "skin", background=True)
    canvas.paint(Region(WHOLE, outline + np.float32(2.5)), "fat", "subcutaneous_fat", background=True)
    flesh = Region(WHOLE, np.maximum(muscle, outline + np.float32(4.0)))
    canvas.paint(flesh, "muscle", "skeletal_muscle", background=True)
    # Fat between and inside the muscles, more of it in older and heavier patients.
    share = 0.75 - 0.25 * person.corpulence - 0.004 * (person.age_years - 50)
    marbling = np.clip((canvas.coarse + 0.8 * canvas.fine - np.float32(1.6 * share)) * np.float32(0.6), 0, 0.75)
    canvas.paint(flesh.inset(6.0), "fat", weight=marbling, background=True)
    width, ap, centre = rows(profile(CAVITY, depth))
    front = (belly * _belly(depth)).astype(np.float32)
    cavity = swept(u, v, width, ap, centre, front)
    cavity = np.maximum(cavity, np.maximum(np.float32(296.0) - d, d - np.float32(905.0)))
    canvas.paint(Region(WHOLE, cavity), "visceral_fat", "torso_fat", background=True)
    return Torso(cavity=cavity, muscle=muscle, fat_mm=fat, belly_mm=belly)


def _head(canvas: Canvas) -> list[Region]:
    """Return cranium, face and jaw."""
    box = canvas.box((-100, -120, 0), (100, 130, 260))
    at = canvas.at(box)
    cranium = ellipsoid_distance(at, (0, 2, 92), (77, 98, 91), power=2.15)
    face = ellipsoid_distance(at, (0, 42, 150), (60, 54, 78), power=2.3)
    jaw = ellipsoid_distance(at, (0, 44, 200), (47, 50, 34))
    nose = ellipsoid_distance(at, (0, 98, 145), (13, 16, 24))
    head = smooth_union(smooth_union(cranium, face, 20), smooth_union(jaw, nose, 10), 16)
    return [Region(box, head)]
