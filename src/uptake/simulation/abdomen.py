"""Solid organs below the diaphragm, stomach and the organs of the pelvis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from uptake.simulation.body import Torso
from uptake.simulation.canvas import Canvas
from uptake.simulation.chest import dome_depth
from uptake.simulation.fields import Array
from uptake.simulation.frame import settled
from uptake.simulation.shapes import Point, Region, ellipsoid_distance, on_box, smooth_cut, smooth_union
from uptake.simulation.skeleton import spine_front

Volumes = Mapping[str, float]


def near(rng: np.random.Generator, point: Point, sd: float = 4.0) -> Point:
    """Return a point moved by a normal step of `sd` mm along each axis, 2 SD at most."""
    u, v, d = np.asarray(point) + sd * np.clip(rng.standard_normal(3), -2, 2)
    return float(u), float(v), float(d)


def draw_abdomen(canvas: Canvas, torso: Torso, rng: np.random.Generator, volumes: Volumes) -> None:
    """Paint the organs below the diaphragm: the firm ones first, the pliable ones around them."""
    dome = torso.dome_mm
    for side, name in ((1, "right"), (-1, "left")):
        _kidney(canvas, side, name, rng, dome, volumes)
    _pancreas(canvas, rng, dome, volumes)
    _liver(canvas, torso, rng, volumes)
    _spleen(canvas, torso, rng, volumes)
    _stomach(canvas, torso, rng, volumes)
    loop = [(24, 44, 656), (50, 24, 664), (52, 8, 700), (40, 0, 724), (0, 4, 728), (-28, 14, 706)]
    duodenum = canvas.tube([(u, v, settled(d, dome)) for u, v, d in loop], [12, 12, 12, 12, 11, 11], smooth=16)
    region, cover = canvas.organ("duodenum", "duodenum", lambda: duodenum, volumes["duodenum"])
    canvas.paint(region.inset(6.5), "bowel_content", "duodenum", within=cover, suv_factor=1.5)


def _under_the_ribs(canvas: Canvas, torso: Torso, region: Region, wall_mm: float = 3.0) -> Array:
    """Return the distance to the space below the diaphragm and inside the ribs, on the box of a region."""
    u, v, d = canvas.at(region.box)
    below = dome_depth(u, v) + np.float32(torso.dome_mm + 3.0) - d
    return np.asarray(np.maximum(torso.cavity[region.box] + np.float32(wall_mm), below), dtype=np.float32)


def _liver(canvas: Canvas, torso: Torso, rng: np.random.Generator, volumes: Volumes) -> None:
    dome, low, wide = torso.dome_mm, *np.clip(rng.standard_normal(2), -1.6, 1.8)
    tip = settled(698.0 + 16 * float(low), dome)
    gall = near(rng, (50, 46, tip - 46), 4)
    bladder = canvas.ellipsoid(gall, (13, 13, 24), turn=(20, 0, 0))
    if volumes["gallbladder"] > 0:
        canvas.organ("gallbladder", "gallbladder", lambda: bladder, volumes["gallbladder"])
    box = canvas.box((-130, -110, 500), (150, 130, 760))
    at = canvas.at(box)
    u, v, d = at

    def shape() -> Region:
        top = 608 + dome
        right = ellipsoid_distance(at, (70, 4, top), (98, 108, (tip - 530 - dome) / 2 + 12), turn=(0, 6, 0), power=2.4)
        reach = 104 + 10 * float(wide)
        left = ellipsoid_distance(at, (-16, 44, top - 22), (reach, 54, 36), turn=(0, 16, -8))
        liver = smooth_union(right, left, 26)
        # The visceral face: a plane from the low right tip to the high left tip, hollowed for kidney and gallbladder.
        face = d - (tip - 26 - 0.62 * (92 - u) + 0.20 * (v - 10))
        hollow = -ellipsoid_distance(at, (58, -62, settled(668, dome)), (34, 38, 60))
        return Region(box, smooth_cut(liver, np.maximum(face * np.float32(0.82), hollow), 16))

    def look(region: Region) -> dict[str, Array]:
        fine, coarse = canvas.fine[region.box], canvas.coarse[region.box]
        vein = np.exp(-(fine**2 + (1.3 * coarse) ** 2) / np.float32(0.05))
        return {"hu_shift": -7 * vein, "suv_factor": 1.01 - np.float32(0.12) * vein}

    canvas.organ(
        "liver", "liver", shape, volumes["liver"], bounds=lambda r: _under_the_ribs(canvas, torso, r), limit_mm=26.0,
        look=look,
    )  # fmt: skip


def _spleen(canvas: Canvas, torso: Torso, rng: np.random.Generator, volumes: Volumes) -> None:
    centre = near(rng, (-102, -42, settled(594, torso.dome_mm)), 4)

    def shape() -> Region:
        region = canvas.ellipsoid(centre, (31, 48, 56), turn=(-18, 12, 24))
        at = canvas.at(region.box)
        hilum = -ellipsoid_distance(at, (centre[0] + 40, centre[1] + 18, centre[2] + 4), (24, 28, 44))
        return Region(region.box, np.maximum(region.distance, hilum).astype(np.float32))

    if volumes["spleen"] > 0 or "spleen" in canvas.given:
        canvas.organ("spleen", "spleen", shape, volumes["spleen"], limit_mm=20.0,
                     bounds=lambda r: _under_the_ribs(canvas, torso, r))  # fmt: skip


def _kidney(canvas: Canvas, side: int, name: str, rng: np.random.Generator, dome: float, volumes: Volumes) -> None:
    label = f"kidney_{name}"
    centre = near(rng, (side * 72.0, -44.0, settled(668.0 if side > 0 else 652.0, dome)), 4)
    turn = (-10.0, side * 12.0, side * -28.0)
    fill, seen = float(rng.uniform(0.4, 1.0)), rng.uniform(0.1, 1.0, size=3)
    depth = centre[2]
    gland = canvas.tube([(side * 40.0, -34.0, depth - 62), (side * 44.0, -42.0, depth - 46)], [4.5, 6.0])
    adrenal = f"adrenal_gland_{name}"
    canvas.organ(adrenal, "adrenal", lambda: gland, volumes[adrenal])
    capsule = canvas.ellipsoid(centre, (39, 36, 69), turn=turn)
    canvas.paint(capsule.cut(_before_the_back(canvas, capsule)), "visceral_fat", "torso_fat", background=True)
    if volumes[label] <= 0 and label not in canvas.given:
        return

    def sinus_of(region: Region, at_point: Point) -> Array:
        return ellipsoid_distance(canvas.at(region.box), at_point, (18, 13, 23))

    hilum: Point = (centre[0] - side * 22, centre[1] + 8, centre[2])

    def shape() -> Region:
        body = canvas.ellipsoid(centre, (29, 26, 57), turn=turn, power=2.2)
        return Region(body.box, np.maximum(body.distance, -sinus_of(body, hilum)))

    region, cover = canvas.organ(label, "kidney_cortex", shape, volumes[label])
    if label in canvas.given:
        at = canvas.at(region.box)
        inside = region.distance < 0
        centre = tuple(float(axis[inside].mean()) for axis in at)  # type: ignore[assignment]
        hilum = (centre[0] - side * 16, centre[1] + 6, centre[2])
    pyramids = (0.35 + 0.65 * (canvas.fine[region.box] > -0.2)).astype(np.float32)
    canvas.paint(region.inset(9), "kidney_medulla", label, within=cover, weight=pyramids)
    sinus = Region(region.box, sinus_of(region, hilum).astype(np.float32))
    canvas.paint(sinus, "visceral_fat", background=True)
    # Calices and pelvis hold urine; how much is seen depends on the minute.
    pelvis = (hilum[0] + side * 12, hilum[1] - 4, hilum[2])
    for (up, out), part in zip(((-26.0, 0.0), (0.0, 9.0), (26.0, 0.0)), seen, strict=True):
        tip = (pelvis[0] + side * out, pelvis[1], pelvis[2] + up)
        calyx = canvas.tube([pelvis, tip], [5.0, 4.5])
        canvas.paint(calyx, "renal_pelvis", label, within=on_box(cover, region.box, calyx.box, 0.0),
                     weight=fill * float(part))  # fmt: skip
    # The funnel and the first centimetres of the ureter; further down it shows in stretches (`mimics`).
    leaving = (pelvis[0] - side * 15.0, pelvis[1] + 6.0, pelvis[2] + 20.0)
    canvas.paint(canvas.tube([pelvis, leaving], [6.0, 2.5]), "renal_pelvis", weight=fill)


def _before_the_back(canvas: Canvas, region: Region) -> Array:
    """Return a distance that is negative in front of the muscles of the back, on the box of `region`."""
    _, v, _ = canvas.at(region.box)
    return np.asarray(spine_front(660.0) - 42 - v, dtype=np.float32)


def _stomach(canvas: Canvas, torso: Torso, rng: np.random.Generator, volumes: Volumes) -> None:
    fill, level, dome = float(rng.uniform(0.6, 1.0)), 26.0 + 10.0 * float(rng.standard_normal()), torso.dome_mm
    line = [(-58, -8, 562), (-74, 10, 586), (-66, 42, 618), (-36, 58, 648), (-2, 56, 656), (22, 44, 648)]
    way = [near(rng, (u, v, settled(d, dome)), 3) for u, v, d in line]

    region, cover = canvas.organ(
        "stomach", "stomach_wall", lambda: canvas.tube(way, [30, 36, 31, 24, 17, 11], smooth=14), volumes["stomach"],
        bounds=lambda r: _under_the_ribs(canvas, torso, r, 4.0), limit_mm=20.0,
    )  # fmt: skip
    # Stomachs are seen half collapsed: the lumen is small where the folds are thick.
    lumen = region.inset(6.0 + 10.0 * (1 - fill))
    content = canvas.paint(lumen, "stomach_content", "stomach", within=cover)
    canvas.paint(lumen.cut(np.float32(level) - canvas.v[region.box]), "gas", "stomach", within=content)


def _pancreas(canvas: Canvas, rng: np.random.Generator, dome: float, volumes: Volumes) -> None:
    ahead = spine_front(650)
    line = [
        (34, ahead + 46, 690), (30, ahead + 50, 668), (4, ahead + 56, 652), (-30, ahead + 46, 640),
        (-80, ahead + 22, 618),
    ]  # fmt: skip
    way = [near(rng, (u, v, settled(d, dome)), 2) for u, v, d in line]
    canvas.organ("pancreas", "pancreas", lambda: canvas.tube(way, [15, 17, 11, 13, 11], smooth=14), volumes["pancreas"])


def draw_pelvis(canvas: Canvas, rng: np.random.Generator, volumes: Volumes) -> None:
    """Paint bladder, prostate or uterus, and the testes."""
    r = float(np.cbrt(volumes["urinary_bladder"] * 1000 * 3 / (4 * np.pi)))
    centre = near(rng, (0.0, 22.0, 884.0 - 0.85 * r), 3)
    tilt = near(rng, (4.0, -8.0, 0.0), 3)
    filled = canvas.ellipsoid(centre, (1.16 * r, 0.95 * r, 0.90 * r), power=2.3)
    region, _ = canvas.organ("urinary_bladder", "urine", lambda: filled, volumes["urinary_bladder"])
    canvas.paint(region.inset(-3.2), "bladder_wall", "bladder_wall")
    if volumes["uterus"] > 0:
        place = (centre[0] + tilt[0], -10.0 + 0.3 * tilt[1], centre[2] - 0.55 * r)
        womb = canvas.ellipsoid(place, (25, 22, 34), turn=(35, 0, tilt[0]))
        inner, cover = canvas.organ("uterus", "uterus", lambda: womb, volumes["uterus"], limit_mm=20.0)
        cavity = canvas.ellipsoid(place, (12, 5, 20), turn=(35, 0, tilt[0]))
        canvas.paint(cavity, "endometrium", "uterus", within=on_box(cover, inner.box, cavity.box, 0.0))
    if volumes["prostate"] > 0 or "prostate" in canvas.given:
        gland = canvas.ellipsoid((0, 14, 896), (22, 16, 17))
        canvas.organ("prostate", "prostate", lambda: gland, volumes["prostate"])
    if not canvas.person.female:
        for side in (1, -1):
            canvas.paint(canvas.ellipsoid((side * 16, 64, 972), (12, 13, 18)), "testis", "testes")
