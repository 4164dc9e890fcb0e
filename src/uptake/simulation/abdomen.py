"""Abdomen and pelvis: liver, spleen, kidneys, stomach, bowel, pancreas, bladder, and the muscles along the spine."""

from __future__ import annotations

import numpy as np

from uptake.simulation.body import Torso
from uptake.simulation.canvas import Canvas, Point, Region, ellipsoid_distance, smooth_cut, smooth_union, spline
from uptake.simulation.chest import dome_depth
from uptake.simulation.skeleton import spine_front


def _size(rng: np.random.Generator, cv: float = 0.15) -> float:
    """Return a linear scale whose cube is log-normal with coefficient of variation `cv`: organs vary by volume."""
    return float(np.exp(cv / 3 * np.clip(rng.standard_normal(), -2.2, 2.2)))


def _near(rng: np.random.Generator, point: Point, sd: float = 4.0) -> Point:
    """Return a point moved by a normal step of `sd` mm along each axis, 2 SD at most."""
    u, v, d = np.asarray(point) + sd * np.clip(rng.standard_normal(3), -2, 2)
    return float(u), float(v), float(d)


def draw_muscles(canvas: Canvas) -> None:
    """Paint erector spinae, psoas and the three gluteal muscles, which have labels of their own."""
    for side, name in ((1, "right"), (-1, "left")):
        line = [(side * 30.0, spine_front(d) - 50.0, float(d)) for d in range(320, 800, 60)]
        radii = [15, 17, 19, 21, 24, 25, 24, 19]
        canvas.paint(canvas.tube(line, radii, flat=0.8), "muscle", f"autochthon_{name}", background=True)
        psoas = [
            (side * 32, -40, 640),
            (side * 44, -30, 710),
            (side * 62, -6, 780),
            (side * 84, 26, 838),
            (side * 104, 4, 905),
        ]
        canvas.paint(
            canvas.tube(psoas, [12, 19, 23, 20, 12], smooth=12), "muscle", f"iliopsoas_{name}", background=True
        )
        ilium = canvas.ellipsoid((side * 122, -40, 772), (34, 46, 56), turn=(0, side * 8, side * -20))
        canvas.paint(ilium, "muscle", f"gluteus_medius_{name}", background=True)
        seat = canvas.ellipsoid((side * 78, -82, 850), (62, 34, 74), turn=(0, side * -12, side * 18))
        canvas.paint(seat, "muscle", f"gluteus_maximus_{name}", background=True)


def draw_abdomen(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    """Paint the organs below the diaphragm in the order in which they displace one another."""
    breath = float(rng.normal(0.0, 6.0))
    _bowel(canvas, torso, rng)
    _stomach(canvas, torso, rng)
    _pancreas(canvas, rng)
    _spleen(canvas, torso, rng)
    _liver(canvas, torso, rng)
    for side, name in ((1, "right"), (-1, "left")):
        _kidney(canvas, side, name, rng, breath)
    _pelvis(canvas, rng)


def _liver(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    s, tip = _size(rng), 700 + 14 * float(np.clip(rng.standard_normal(), -1.5, 2))
    box = canvas.box((-120, -100, 520), (150, 120, 740))
    at = canvas.at(box)
    u, v, d = at
    right = ellipsoid_distance(at, (68, 2, 610), (88 * s, 90 * s, (tip - 530) / 2 + 12), turn=(0, 6, 0), power=2.4)
    left = ellipsoid_distance(at, (-8, 38, 586), (90 * s, 48 * s, 42 * s), turn=(0, 16, -8))
    liver = smooth_union(right, left, 26)
    # The visceral face: a plane from the low right tip to the high left tip, hollowed for kidney and gallbladder.
    face = d - (tip - 26 - 0.62 * (92 - u) + 0.20 * (v - 10))
    hollow = -ellipsoid_distance(at, (56, -62, 672), (36, 40, 62))
    liver = smooth_cut(liver, np.maximum(face * np.float32(0.82), hollow), 16)
    liver = smooth_cut(liver, torso.cavity[box] + 3, 9)
    liver = smooth_cut(liver, dome_depth(u, v) + 4 - d, 6)
    vein = np.exp(-(canvas.fine[box] ** 2 + (1.3 * canvas.coarse[box]) ** 2) / 0.05)
    canvas.paint(Region(box, liver), "liver", "liver", hu_shift=(-7 * vein).astype(np.float32),
                 suv_factor=(1 - 0.12 * vein).astype(np.float32))  # fmt: skip
    portal = canvas.tube([(18, 12, 648), (36, 16, 628), (52, 14, 612)], [7, 7.5, 6])
    canvas.paint(portal, "blood", "portal_vein_and_splenic_vein")
    bile = canvas.ellipsoid(_near(rng, (52, 46, tip - 42)), (15, 15, 26), turn=(20, 0, 0))
    canvas.paint(bile, "gallbladder", "gallbladder")


def _spleen(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    s = _size(rng, 0.3)
    centre = _near(rng, (-102, -38, 606), 5)
    region = canvas.ellipsoid(centre, (33 * s, 50 * s, 58 * s), turn=(-18, 12, 24))
    at = canvas.at(region.box)
    hilum = -ellipsoid_distance(at, (centre[0] + 40, centre[1] + 18, centre[2] + 4), (24, 28, 44))
    shape = np.maximum(np.maximum(region.distance, hilum), torso.cavity[region.box] + 3)
    shape = np.maximum(shape, dome_depth(at[0], at[1]) + 3 - at[2])
    canvas.paint(Region(region.box, shape.astype(np.float32)), "spleen", "spleen")


def _kidney(canvas: Canvas, side: int, name: str, rng: np.random.Generator, breath: float) -> None:
    s = _size(rng)
    depth = (664 if side > 0 else 648) + breath
    centre = _near(rng, (side * 66.0, -40.0, depth), 4)
    turn = (-10.0, side * 12.0, side * -28.0)
    radii = (29 * s, 26 * s, 57 * s)
    fat = canvas.ellipsoid(centre, (radii[0] + 10, radii[1] + 10, radii[2] + 12), turn=turn)
    canvas.paint(fat.cut(_before_the_back(canvas, fat)), "visceral_fat", "torso_fat", background=True)
    body = canvas.ellipsoid(centre, radii, turn=turn, power=2.2)
    at = canvas.at(body.box)
    sinus = ellipsoid_distance(at, (centre[0] - side * 22, centre[1] + 8, centre[2]), (20, 14, 24))
    canvas.paint(Region(body.box, np.maximum(body.distance, -sinus)), "kidney_cortex", f"kidney_{name}")
    pyramids = 0.35 + 0.65 * (canvas.fine[body.box] > -0.2)
    canvas.paint(body.inset(9), "kidney_medulla", f"kidney_{name}", weight=pyramids)
    canvas.paint(Region(body.box, np.maximum(sinus, body.distance + 6)), "visceral_fat", background=True)
    # Calices and pelvis hold urine; how much is seen depends on the minute.
    pelvis = (centre[0] - side * 10, centre[1] + 4, centre[2])
    fill = float(rng.uniform(0.4, 1.0))
    for up, out in ((-26.0, 0.0), (0.0, 9.0), (26.0, 0.0)):
        tip = (pelvis[0] + side * out, pelvis[1], pelvis[2] + up * s)
        seen = fill * float(rng.uniform(0.1, 1.0))
        canvas.paint(canvas.tube([pelvis, tip], [5.0, 4.5]), "renal_pelvis", f"kidney_{name}", weight=seen)
    exit_point = (side * 34.0, spine_front(690) + 18, 690.0 + breath)
    canvas.paint(canvas.tube([pelvis, exit_point], [6.5, 3.5]), "renal_pelvis", weight=fill)
    gland = [(side * 40.0, -34.0, depth - 58), (side * 44.0, -42.0, depth - 44)]
    canvas.paint(canvas.tube(gland, [4.5, 6.0]), "adrenal", f"adrenal_gland_{name}")


def _before_the_back(canvas: Canvas, region: Region) -> np.ndarray:
    """Return a distance that is negative in front of the muscles of the back, on the box of `region`."""
    _, v, _ = canvas.at(region.box)
    return np.asarray(spine_front(660.0) - 42 - v, dtype=np.float32)


def _stomach(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    s, fill = _size(rng, 0.4), float(rng.uniform(0.6, 1.0))
    line = [(-58, -6, 574), (-74, 10, 600), (-66, 40, 634), (-36, 56, 664), (-2, 54, 668), (22, 44, 656)]
    region = canvas.tube([_near(rng, p, 3) for p in line], [30 * s, 36 * s, 31 * s, 24 * s, 17, 11], smooth=14)
    at = canvas.at(region.box)
    roof = dome_depth(at[0], at[1]) + 4 - at[2]
    shape = Region(region.box, np.maximum(np.maximum(region.distance, roof), torso.cavity[region.box] + 4))
    canvas.paint(shape, "stomach_wall", "stomach")
    # Stomachs are seen half collapsed: the lumen is small where the folds are thick.
    lumen = shape.inset(6.0 + 12.0 * (1 - fill))
    canvas.paint(lumen, "stomach_content", "stomach")
    level = 26.0 + 10.0 * float(rng.standard_normal())
    canvas.paint(lumen.cut(np.float32(level) - at[1]), "gas", "stomach")


def _pancreas(canvas: Canvas, rng: np.random.Generator) -> None:
    ahead = spine_front(650)
    line = [
        (34, ahead + 46, 690),
        (30, ahead + 50, 668),
        (4, ahead + 56, 652),
        (-30, ahead + 46, 640),
        (-80, ahead + 22, 618),
    ]
    canvas.paint(canvas.tube([_near(rng, p, 2) for p in line], [16, 19, 13, 15, 12], smooth=14), "pancreas", "pancreas")
    loop = [(24, 44, 656), (50, 24, 664), (52, 8, 700), (40, 0, 724), (0, 4, 728), (-28, 14, 706)]
    canvas.paint(canvas.tube(loop, [12, 12, 12, 12, 11, 11], smooth=16), "small_bowel", "duodenum")


def _segments(rng: np.random.Generator, count: int, sigma: float) -> np.ndarray:
    """Return log-normal uptake factors along a bowel, mean 1, smooth over a few of `count` points."""
    steps = np.convolve(rng.standard_normal(count + 8), np.hanning(7), mode="same")[4:-4]
    steps = steps / np.sqrt((np.hanning(7) ** 2).sum())
    return np.asarray(np.exp(sigma * np.clip(steps, -2, 2) - sigma**2 / 2))


def _bowel(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    deep = 0.6 * torso.belly_mm
    # Small bowel: a random walk inside the abdomen, smoothed to a tube of some three metres.
    steps = np.cumsum(rng.standard_normal((64, 3)) * (34, 16, 26), axis=0)
    low, high = np.array([-84, 4, 690]), np.array([84, 62 + deep, 836])
    span = high - low
    folded = np.abs((steps - steps.mean(0) + span / 2) % (2 * span) - span) / span
    walk, radii = spline(low + span * folded, 10.0 + 2.0 * rng.uniform(size=64), 150)
    walk = np.clip(walk, low - 6, high + 6)
    tube = canvas.tube([(float(a), float(b), float(c)) for a, b, c in walk], list(radii))
    factor = np.interp(tube.along, np.linspace(0, 1, 40), _segments(rng, 40, 0.45)).astype(np.float32)
    inside = tube.cut(torso.cavity[tube.box] + 5)
    canvas.paint(inside, "small_bowel", "small_bowel", suv_factor=factor)
    canvas.paint(inside.inset(6.0), "bowel_content", "small_bowel", weight=0.7)
    bubbles = (factor > 1.15) & (canvas.fine[tube.box] > 0.9)
    canvas.paint(inside.inset(7.0), "gas", "small_bowel", weight=0.8 * bubbles)
    frame: list[Point] = [
        (86, 12, 812), (96, 14, 780), (102, 0, 730), (98, 6, 694), (76, 46 + deep, 690), (30, 68 + deep, 706),
        (-24, 70 + deep, 700), (-74, 40 + 0.5 * deep, 664), (-104, -8, 640), (-108, -16, 690), (-108, -10, 750),
        (-96, 10, 800),
        (-66, 18, 826), (-22, 6, 812), (4, -16, 822), (-6, -40, 838), (0, -52, 866), (0, -46, 890), (0, -52, 915),
    ]  # fmt: skip
    line = [_near(rng, p, 5) if n < 15 else p for n, p in enumerate(frame)]
    width = [26, 25, 23, 22, 21, 20, 20, 19, 18, 16, 15, 15, 15, 15, 15, 17, 18, 15, 9]
    colon = canvas.tube(line, [w * float(rng.uniform(0.8, 1.12)) for w in width], smooth=70)
    inside = colon.cut(torso.cavity[colon.box] + 4)
    haustra = (2.2 * np.sin(colon.along * 2 * np.pi * 34)).astype(np.float32)
    wall = Region(inside.box, inside.distance + haustra)
    factor = np.interp(colon.along, np.linspace(0, 1, 26), _segments(rng, 26, 0.5)).astype(np.float32)
    canvas.paint(wall, "colon", "colon", suv_factor=factor)
    canvas.paint(wall.inset(5.0), "bowel_content", "colon", suv_factor=0.5 + 0.6 * factor)
    gassy = np.interp(colon.along, np.linspace(0, 1, 14), rng.uniform(size=14)) > 0.5
    front = np.maximum(wall.inset(6.0).distance, _behind_axis(canvas, colon, line))
    canvas.paint(Region(colon.box, front), "gas", "colon", weight=gassy.astype(np.float32))


def _behind_axis(canvas: Canvas, colon: Region, line: list[Point]) -> np.ndarray:
    """Return a distance that is negative in front of the colon's centre line: gas rises in a patient on his back."""
    points, _ = spline(np.asarray(line), np.ones(len(line)), 70)
    height = np.interp(colon.along, np.linspace(0, 1, 70), points[:, 1])
    return np.asarray(height - canvas.v[colon.box], dtype=np.float32)


def _pelvis(canvas: Canvas, rng: np.random.Generator) -> None:
    volume = float(np.clip(110 * np.exp(0.6 * rng.standard_normal()), 35, 380))
    r = float(np.cbrt(volume * 1000 * 3 / (4 * np.pi)))
    centre = _near(rng, (0.0, 22.0, 884.0 - 0.85 * r), 3)
    if canvas.person.female:
        womb = canvas.ellipsoid((centre[0] + 4, -8, 838), (25, 22, 34), turn=(35, 0, 0))
        canvas.paint(womb, "uterus", "uterus")
        rng.standard_normal()
    else:
        s = 1.0 + 0.006 * max(canvas.person.age_years - 45, 0) * float(abs(rng.standard_normal()))
        gland = canvas.ellipsoid((0, 14, 896), (22 * s, 16 * s, 17 * s))
        canvas.paint(gland, "prostate", "prostate")
        for side in (1, -1):
            testis = canvas.ellipsoid((side * 16, 68, 962), (12, 13, 18))
            canvas.paint(testis, "prostate", None, suv_factor=1.15)
    bladder = canvas.ellipsoid(centre, (1.14 * r, 0.95 * r, 0.90 * r), power=2.3)
    canvas.paint(bladder.inset(-3), "muscle", "bladder_wall")
    canvas.paint(bladder, "urine", "urinary_bladder")
