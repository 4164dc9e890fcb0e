"""The outside of the patient: trunk, head, limbs, skin, fat, muscle and the cavity of chest and abdomen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from uptake.simulation.canvas import WHOLE, Canvas
from uptake.simulation.fields import Array, Line
from uptake.simulation.frame import Build, trunk_scales
from uptake.simulation.person import Person
from uptake.simulation.shapes import Point, Region, ellipsoid_distance, profile, smooth_cut, smooth_union, swept

# Depth below the vertex, half-width, half-depth, centre to the front, all mm: the muscle surface of the reference man.
TRUNK = [
    (140, 36, 44, -16), (180, 50, 54, -14), (210, 56, 58, -13),
    (240, 55, 58, -16), (268, 61, 61, -20), (288, 92, 66, -24), (305, 138, 75, -22),
    (325, 172, 87, -17), (350, 184, 98, -10), (385, 178, 110, -5), (430, 170, 117, -1), (480, 166, 122, 1),
    (560, 160, 121, 2), (620, 149, 108, 0), (680, 139, 97, -2), (725, 142, 94, -4), (780, 161, 97, -8),
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
    (800, 44, 56, -6, 70), (840, 64, 76, -8, 82), (880, 77, 88, -8, 86), (920, 82, 90, -7, 87), (980, 79, 86, -4, 86),
    (1060, 71, 78, 0, 84), (1160, 60, 66, 4, 80),
]  # fmt: skip
# Depth, half-width, half-depth, centre: the inner surface of chest and abdominal wall down to the pelvic floor.
CAVITY = [
    (272, 20, 12, -28), (288, 46, 28, -27), (310, 70, 46, -21), (342, 90, 62, -14), (375, 105, 75, -8),
    (430, 122, 90, -1),
    (500, 135, 102, 3), (570, 138, 103, 3), (630, 130, 89, 1), (690, 115, 71, 5), (740, 113, 64, 10),
    (790, 109, 61, 11), (830, 88, 60, 4), (875, 58, 52, -4), (905, 38, 36, -8),
]  # fmt: skip


ABDOMINAL = (
    "liver", "spleen", "kidney_left", "kidney_right", "pancreas", "stomach", "small_bowel", "duodenum", "colon",
    "gallbladder", "urinary_bladder", "prostate", "uterus", "visceral_fat",
)  # fmt: skip
SIDEWAYS = 0.45
"""Share of its bulge to the front by which a full belly spreads to each side in a patient on his back."""

RETROPERITONEUM_ML = 2100.0
"""Lumbar spine, sacrum, psoas and great vessels of the reference man: they lie inside the outline called cavity."""


PAINTED = (1.12, 0.003)
"""What is painted relative to the closed form of `solve_fat_mm`, measured: more by fillets, breasts and hands, less by
0.3 % for each mm of fat, which does not reach into the corners of a section."""

BELLY_RANGE_MM = (-14.0, 110.0)

GIVEN_UNDER_SKIN_MM = 13.0
"""Between an organ of a label map and the skin there is at least so much."""


@dataclass(frozen=True, eq=False)
class Torso:
    """What the inside needs to know of the outside.

    Attributes
    ----------
    cavity, muscle : array (i, j, k)
        Distance to the inner surface of chest and abdominal wall, and to the surface of the muscles.
    fat_mm, belly_mm : float
        Mean thickness of the subcutaneous fat, and how far the abdominal wall is pushed out by what lies behind it.
    dome_mm : float
        How much deeper the diaphragm stands than in the reference man; negative is higher.
    """

    cavity: Array
    muscle: Array
    fat_mm: float
    belly_mm: float
    dome_mm: float = 0.0


def bulge(belly_mm: float, depth: Line) -> tuple[Line, Line]:
    """Return how far the wall of the abdomen lies further to each side and to the front at depths, mm."""
    front = belly_mm * np.exp(-(((depth - 690.0) / 120.0) ** 2))
    return np.asarray(SIDEWAYS * np.maximum(front, 0.0)), np.asarray(front)


def _trunk_table(person: Person, depth: Line) -> Line:
    width, ap, centre = profile(TRUNK, depth)
    if person.female:
        across, along = profile(WOMAN, depth)
        width, ap = width * across, ap * along
    return np.stack([width, ap, centre])


def fat_profile(person: Person, depth: Line) -> Line:
    """Return the thickness of subcutaneous fat relative to its mean, by depth."""
    return np.asarray(profile(FAT_WOMAN if person.female else FAT, depth)[0])


def leg_fat(person: Person, depth: Line) -> Line:
    """Return the thickness of subcutaneous fat on the thighs relative to its mean on the trunk, by depth."""
    return np.asarray(np.interp(depth, (860, 1060), (1.4, 0.85) if person.female else (1.2, 0.7)))


def solve_belly_mm(person: Person, build: Build, volumes: Mapping[str, float]) -> float:
    """Return how far the abdominal wall bulges (reference mm) so that the cavity holds the organs and their fat."""
    depth = np.arange(450.0, 905.0, 5.0)
    width, ap, _ = profile(CAVITY, depth)
    across, along = trunk_scales(person, build, depth)
    under_the_dome = np.clip((depth - 528.0 - build.dome_mm) / 70.0, 0.0, 1.0)
    step = across * along * person.scale_z * 5.0 * 1e-3 * under_the_dome
    wanted = sum(volumes[name] for name in ABDOMINAL) + RETROPERITONEUM_ML * person.scale_xy**2 * person.scale_z
    low, high = BELLY_RANGE_MM
    for _ in range(24):
        middle = 0.5 * (low + high)
        side, front = bulge(middle, depth)
        holds = float((3.38 * (width + side) * (ap + 0.5 * front) * step).sum())
        low, high = (middle, high) if holds < wanted else (low, middle)
    return low


def solve_fat_mm(person: Person, field_end: float, belly_mm: float) -> float:
    """Return the thickness of subcutaneous fat (reference mm) that gives the patient his weight.

    Segment masses of Dempster as shares of the weight: head and neck 0.081, trunk 0.497, arm 0.050, leg 0.161 each
    (Winter, Biomechanics of Human Movement, table 4.1). What is above mid-thigh has to fill the outline: its area by
    depth is known in closed form, so that one unknown thickness is found by bisection.
    """
    depth = np.arange(205.0, field_end, 5.0)
    width, ap, _ = _trunk_table(person, depth)
    relative, legs = fat_profile(person, depth), profile(LEG, depth)
    share = 0.081 + 0.497 + 2 * (0.045 if person.arms == "up" else 0.050) + 2 * 0.161 * 0.47
    side, front = bulge(belly_mm, depth)
    area = person.scale_xy**2 * person.scale_z * 5.0 * 1e-6  # L per mm² of section

    def mass_kg(fat: float) -> float:
        t = fat * relative
        trunk = 3.38 * (width + side + t) * (ap + t + 0.5 * front)
        thick = fat * leg_fat(person, depth)
        leg = 2 * 3.38 * (legs[0] + thick) * (legs[1] + thick)
        section = np.where(depth < 920, trunk, np.minimum(leg, 1.05 * trunk))
        head = 3.9 * person.scale_xy
        arms = 2 * 2.9 * ((40 + 0.6 * fat) / 46) ** 2 * person.scale_xy**2 * person.scale_z
        lungs = 3.6 * person.scale_xy**2 * person.scale_z
        return float(1.06 * section.sum() * area + head + arms - lungs) * (PAINTED[0] - PAINTED[1] * fat)

    low, high = 3.0, 90.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if mass_kg(middle) < share * person.weight_kg else (low, middle)
    return low


@dataclass(frozen=True)
class Girth:
    """How far a person reaches.

    Attributes
    ----------
    belly_mm, fat_mm : float
        Bulge of the abdominal wall and mean thickness of the subcutaneous fat, reference mm.
    half_width_mm, front_mm, back_mm : float
        Reach to the sides, to the front and to the back of the frame's origin, mm.
    dome_mm : float
        Where the diaphragm will stand, about; see `Build`.
    """

    belly_mm: float
    fat_mm: float
    half_width_mm: float
    front_mm: float
    back_mm: float
    dome_mm: float = 0.0


def girth_of(person: Person, build: Build, volumes: Mapping[str, float], field_end: float) -> Girth:
    """Return the girth that holds the organs and gives the patient his weight."""
    belly = solve_belly_mm(person, build, volumes)
    fat = solve_fat_mm(person, field_end, belly)
    depth = np.arange(320.0, 930.0, 5.0)
    width, ap, centre = _trunk_table(person, depth)
    across, along = trunk_scales(person, build, depth)
    side, front = bulge(belly, depth)
    thick = fat * fat_profile(person, depth)
    arms = 0.0
    if person.arms == "down":
        line, radii = arm_line(person, 1, fat)
        arms = max(p[0] + r for p, r in zip(line, radii, strict=True)) + 0.55 * fat
    return Girth(
        belly, fat,
        half_width_mm=float(max(((width + side + thick) * across).max(), arms * across.max())),
        front_mm=float(((centre + ap + front + thick) * along).max()),
        back_mm=float(((ap + thick - centre) * along).max()),
        dome_mm=build.dome_mm,
    )  # fmt: skip


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


def _rows(table: Line) -> list[Array]:
    return [np.asarray(row, dtype=np.float32)[None, None, :] for row in table]


def draw_body(
    canvas: Canvas, rng: np.random.Generator, girth: Girth, *, around: Array | None = None, outline_given: bool = False
) -> Torso:
    """Paint skin, fat and muscle and return the torso that the organs are put into.

    Parameters
    ----------
    canvas : Canvas
    rng : numpy.random.Generator
    girth : Girth
    around : array (i, j, k) or None
        Distance to organs that are there already, reference mm: the walls give way to them.
    outline_given : bool
        Whether `around` is the skin itself.
    """
    person, u, v, d, depth = canvas.person, canvas.u, canvas.v, canvas.d, canvas.depth
    belly, fat = girth.belly_mm, girth.fat_mm
    muscle, outline = (np.full(canvas.shape, 1e3, np.float32) for _ in range(2))

    def add(region: Region, thickness: Array | float, fillet: float = 14.0) -> None:
        muscle[region.box] = smooth_union(muscle[region.box], region.distance, fillet)
        outline[region.box] = smooth_union(outline[region.box], region.distance - thickness, fillet)

    k = np.flatnonzero((depth > 120) & (depth < 1000))
    if k.size:
        box = (slice(None), slice(None), slice(int(k.min()), int(k.max()) + 1))
        side, front = _rows(np.stack(bulge(belly, depth[box[2]])))
        width, ap, centre = _rows(_trunk_table(person, depth[box[2]]))
        distance = swept(u[box], v[box], width + side, ap, centre, front)
        # The perineum is round.
        distance = smooth_cut(distance, d[box] - np.float32(966.0) + np.abs(u[box]) * np.float32(0.25), 36.0)
        add(Region(box, distance), (fat * fat_profile(person, depth[box[2]])).astype(np.float32))
    _legs(canvas, fat, add)
    for part in _head(canvas):
        add(part, 2.0, 22.0)
    for side in (1, -1):
        line, radii = arm_line(person, side, fat)
        add(canvas.tube(line, radii, smooth=14), 0.55 * fat, 26.0)
    breasts = _breasts(canvas, rng, fat, outline)
    if around is not None:
        outline = around if outline_given else smooth_union(outline, around - np.float32(GIVEN_UNDER_SKIN_MM), 20.0)
        muscle = np.maximum(smooth_union(muscle, around - np.float32(6.0), 8.0), outline + np.float32(4.0))
    canvas.body = np.clip(0.5 - outline / np.float32(canvas.edge), 0.0, 1.0)
    canvas.paint(Region(WHOLE, outline), "skin", "skin", background=True)
    canvas.paint(Region(WHOLE, outline + np.float32(2.2)), "fat", "subcutaneous_fat", background=True)
    for gland in breasts:
        canvas.paint(gland, "breast", "breast", weight=0.8, background=True)
    flesh = Region(WHOLE, np.maximum(muscle, outline + np.float32(4.0)))
    canvas.paint(flesh, "muscle", "skeletal_muscle", background=True)
    # Fat lies in sheets between the muscles, thicker ones in older and heavier patients.
    sheet = 0.14 + 0.05 * person.corpulence + 0.0016 * (person.age_years - 50)
    planes = np.clip(1.4 - np.abs(canvas.coarse + np.float32(0.35) * canvas.fine) / np.float32(max(sheet, 0.06)), 0, 1)
    canvas.paint(flesh.inset(5.0), "fat", weight=np.float32(0.8) * planes, background=True)
    sides, front = _rows(np.stack(bulge(belly, depth)))
    width, ap, centre = _rows(profile(CAVITY, depth))
    cavity = swept(u, v, width + sides, ap, centre, front)
    if around is not None and not outline_given:
        cavity = np.minimum(cavity, around - np.float32(3.0))
    cavity = np.maximum(cavity, np.maximum(np.float32(270.0) - d, d - np.float32(905.0)))
    canvas.paint(Region(WHOLE, cavity), "visceral_fat", "torso_fat", background=True)
    return Torso(cavity=cavity, muscle=muscle, fat_mm=fat, belly_mm=belly, dome_mm=girth.dome_mm)


def _legs(canvas: Canvas, fat: float, add: Callable[[Region, Array], None]) -> None:
    k = np.flatnonzero(canvas.depth > 780)
    if not k.size:
        return
    box = (slice(None), slice(None), slice(int(k.min()), int(k.max()) + 1))
    depth = canvas.depth[box[2]]
    width, ap, centre, apart = profile(LEG, depth)
    thick = fat * leg_fat(canvas.person, depth)
    # In the groin the thighs touch; from there on a gap opens that heavier people do not have.
    touching = width + 0.68 * thick + np.interp(depth, (950, 1160), (-5.0, 6.0))
    down = np.clip((depth - 900.0) / 80.0, 0.0, 1.0)
    apart = np.maximum(apart + 0.45 * thick, touching) * down + (apart + 0.45 * thick) * (1 - down)
    across, along, middle, off, fatty = _rows(np.stack([width, ap, centre, apart, thick]))
    for side in (1, -1):
        leg = swept(canvas.u[box] - side * off, canvas.v[box], across, along, middle)
        add(Region(box, np.maximum(leg, np.float32(812.0) - canvas.d[box])), fatty)


def _breasts(canvas: Canvas, rng: np.random.Generator, fat: float, outline: Array) -> list[Region]:
    """Add a woman's breasts to the outline, flattened to the sides as she lies on her back; return the glands."""
    size = float(np.clip(50 + 10 * canvas.person.corpulence + 6 * rng.standard_normal(), 38, 78))
    if not canvas.person.female:
        return []
    glands = []
    for side in (1, -1):
        centre = (side * (90.0 + 0.28 * size), 98.0 + 0.7 * fat, 456.0 + 0.3 * size)
        region = canvas.ellipsoid(centre, (1.25 * size, 0.56 * size, 1.2 * size), turn=(0, 0, side * -26))
        outline[region.box] = smooth_union(outline[region.box], region.distance, 26.0)
        inner = canvas.ellipsoid(centre, (0.72 * size, 0.4 * size, 0.7 * size), turn=(0, 0, side * -24))
        # Lobes of glandular tissue in fat, fewer after menopause.
        lobes = canvas.fine[inner.box] * np.float32(10) + np.float32(4 + 0.3 * (canvas.person.age_years - 50))
        glands.append(Region(inner.box, np.maximum(inner.distance, lobes)))
    return glands


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
