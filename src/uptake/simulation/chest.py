"""Head, neck and chest: brain, glands, airways, lungs, heart and great vessels."""

from __future__ import annotations

import numpy as np

from uptake.simulation.body import Torso
from uptake.simulation.canvas import Canvas, Region, ellipsoid_distance, smooth_union
from uptake.simulation.fields import Array
from uptake.simulation.labels import organ_id
from uptake.simulation.skeleton import skull_base, spine_front


def dome_depth(u: Array, v: Array) -> Array:
    """Return the depth (mm) of the diaphragm over each point: two domes that fall steeply towards the chest wall."""
    right = 526 + 0.0058 * ((u - 70) ** 2) + 0.0088 * ((v - 12) ** 2)
    left = 541 + 0.0065 * ((u + 72) ** 2) + 0.0095 * ((v - 10) ** 2)
    low = np.minimum(right, left)
    # The ribs' inner side: lung goes down in a narrow recess, deepest behind.
    return np.asarray(np.minimum(low, 632 - 0.25 * v), dtype=np.float32)


def draw_head(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint brain, eyes, salivary glands, pharynx, airway of the neck and thyroid."""
    box = canvas.box((-80, -100, 0), (80, 100, 165))
    at = canvas.at(box)
    u, v, d = at
    lobes = ellipsoid_distance(at, (0, 2, 85), (60.5, 79, 69), power=2.15)
    # Underside: high over the orbits, low at the temporal poles, lowest where the tentorium carries the occipital lobe.
    brain = np.maximum(lobes, d - (121 + 7 * np.cos((v - 8) / 16) - 0.10 * v))
    canvas.paint(
        Region(box, np.maximum(ellipsoid_distance(at, (0, 2, 91), (64, 83.5, 78), power=2.15), d - skull_base(v) + 4)),
        "csf",
    )
    canvas.paint(Region(box, brain), "white_matter", "brain")
    folds = canvas.field(rng, 17.0)[box]
    ribbon = brain + 9.0 + 9.0 * np.clip(np.abs(folds), 0, 1.6)
    gap = np.maximum(np.abs(u) - 1.5, d - 84)
    grey = np.maximum(brain, -ribbon)
    deep = [
        ellipsoid_distance(at, (s * x, y, z), r)
        for s in (1, -1)
        for x, y, z, r in ((25, 8, 88, (7, 18, 13)), (12, -10, 88, (9, 14, 9)), (13, 22, 84, (6, 10, 9)))
    ]
    for nucleus in deep:
        grey = np.minimum(grey, nucleus)
    # Grey matter ribbons are 3 mm thick with sulci between; at PET resolution they show about 0.9 of their uptake.
    lateral = 1.0 + 0.04 * np.sign(u) * float(rng.normal()) + 0.05 * np.exp(-(((v + 66) / 22) ** 2))
    canvas.paint(
        Region(box, grey.astype(np.float32)), "grey_matter", "brain", weight=0.92, suv_factor=lateral.astype(np.float32)
    )
    canvas.paint(Region(box, np.maximum(gap, brain).astype(np.float32)), "csf", "brain", weight=0.5)
    for side in (1, -1):
        horn = [(side * 12, 32, 76), (side * 11, 5, 68), (side * 18, -30, 78), (side * 28, -8, 98)]
        age = 2.6 + 0.045 * (canvas.person.age_years - 20)
        canvas.paint(canvas.tube(horn, [age, age, age + 1, age - 1], smooth=10), "csf", "brain")
        lobe = canvas.ellipsoid((side * 24, -46, 135), (26, 26, 18))
        inside = ellipsoid_distance(canvas.at(lobe.box), (0, 2, 91), (60, 78, 75), power=2.15)
        canvas.paint(lobe.cut(inside), "cerebellum", "brain")
        eye = canvas.ellipsoid((side * 32, 76, 124), (12, 12, 12))
        name = "right" if side > 0 else "left"
        canvas.paint(canvas.ellipsoid((side * 30, 60, 125), (11, 18, 11)), "fat")
        canvas.paint(canvas.tube([(side * 22, 40, 124), (side * 32, 64, 124)], [4, 8]), "eye_muscle", weight=0.6)
        canvas.paint(eye, "vitreous", f"eye_{name}")
        parotid = canvas.ellipsoid((side * 58, 6, 172), (12, 17, 29), turn=(8, 0, side * 10))
        canvas.paint(parotid, "parotid", f"parotid_gland_{name}")
        sub = canvas.ellipsoid((side * 33, 44, 219), (10, 15, 12))
        canvas.paint(sub, "submandibular", f"submandibular_gland_{name}")
        canvas.paint(canvas.ellipsoid((side * 17, 26, 198), (7, 9, 12)), "tonsil", "pharynx")
        canvas.paint(canvas.ellipsoid((side * 17, 30, 268), (8, 9, 22)), "thyroid", "thyroid_gland")
        sinus = canvas.ellipsoid((side * 27, 56, 150), (13, 15, 15))
        canvas.paint(sinus, "gas")
        mastoid = canvas.ellipsoid((side * 55, -14, 150), (9, 11, 13))
        canvas.paint(mastoid, "cortical_bone", "skull", hu_shift=-700.0)
    canvas.paint(
        canvas.tube([(0, -20, 112), (0, -18, 140), (0, -8, 158)], [14, 13, 8], smooth=6), "cerebellum", "brain"
    )
    canvas.paint(canvas.ellipsoid((0, 72, 160), (12, 22, 24)), "gas")
    canvas.paint(canvas.ellipsoid((0, 50, 200), (26, 28, 16)), "muscle", "pharynx", suv_factor=1.5)
    canvas.paint(canvas.tube([(0, 62, 207), (0, 40, 214)], [9, 8]), "submandibular", weight=0.8)
    canvas.paint(canvas.tube([(0, 34, 162), (0, 22, 185), (0, 22, 225)], [9, 8, 8], smooth=8), "gas", "pharynx")
    canvas.paint(canvas.tube([(0, 32, 236), (0, 34, 258)], [16, 13]), "larynx")


def draw_chest(canvas: Canvas, torso: Torso, rng: np.random.Generator, *, heart_pattern: str) -> None:
    """Paint mediastinum, lungs, heart, great vessels, oesophagus and airways."""
    whole = canvas.box((-150, -110, 290), (150, 120, 680))
    at = canvas.at(whole)
    u, v, d = at
    cavity = torso.cavity[whole]
    diaphragm = d - dome_depth(u, v)
    chest = np.maximum(cavity, diaphragm)
    spine = np.interp(d, np.arange(280, 700, 20), [spine_front(x) for x in range(280, 700, 20)]).astype(np.float32)
    heart = _heart_outline(canvas, at)
    # A column between the lungs: narrow in front of and behind the heart, wide at the vessels.
    half = np.interp(d, [290, 330, 385, 420, 470, 560], [30, 34, 36, 32, 26, 24]).astype(np.float32)
    waist = half * np.clip(1.15 - 0.006 * np.abs(v - 5), 0.45, 1.1) + 6 * np.clip((v - 70) / 20, 0, 1)
    column = np.asarray(np.abs(u + 3) - waist, dtype=np.float32)
    bodies = np.sqrt(u**2 + (v - spine) ** 2) - 27
    middle = smooth_union(smooth_union(column, bodies, 12), heart - 2, 10)
    canvas.paint(Region(whole, np.maximum(chest, -chest - 400)), "mediastinal_fat", "mediastinum")
    _lungs(canvas, whole, np.maximum(chest + 1.5, -middle), torso)
    esophagus = [(-3.0, spine_front(x) + 26 + (14 if x > 520 else 0), float(x)) for x in range(275, 580, 25)]
    canvas.paint(canvas.tube(esophagus, [8.0] * len(esophagus)), "esophagus", "esophagus")
    _vessels(canvas)
    _heart(canvas, whole, heart, heart_pattern, rng)
    trachea = [(0, 26, 262), (0, 12, 310), (3, -8, 375), (4, -14, 398)]
    canvas.paint(canvas.tube(trachea, [8.5] * 4, smooth=8), "gas", "trachea")
    for side, end in ((1, (46, -22, 438)), (-1, (-50, -26, 442))):
        canvas.paint(canvas.tube([(4, -14, 396), (side * 18, -18, 412), end], [7, 6.5, 4.5]), "gas", "trachea")


def _lungs(canvas: Canvas, box: tuple[slice, slice, slice], lung: Array, torso: Torso) -> None:
    u, v, d = canvas.at(box)
    # Denser and better perfused behind: the patient lies on his back. Vessels are where two random fields vanish.
    behind = np.clip(-(v - 10) / 90, -1, 1)
    hilum = np.exp(-((np.abs(u) - 45) ** 2 + (v + 15) ** 2 + (d - 430) ** 2) / (2 * 55.0**2))
    fine, coarse = canvas.fine[box], canvas.coarse[box]
    vessel = np.exp(-(fine**2 + (1.2 * coarse) ** 2) / (0.06 + 0.25 * hilum))
    hu = 55 * behind + 170 * vessel + 60 * hilum
    suv = np.exp(0.22 * behind + 0.25 * hilum) * (1 + 0.7 * vessel)
    oblique = d - (452 - 0.95 * v)
    level = d - 446
    lobes = (
        ("lung_upper_lobe_right", np.maximum(-u, np.maximum(oblique, level))),
        ("lung_middle_lobe_right", np.maximum(-u, np.maximum(oblique, -level))),
        ("lung_lower_lobe_right", np.maximum(-u, -oblique)),
        ("lung_upper_lobe_left", np.maximum(u, oblique)),
        ("lung_lower_lobe_left", np.maximum(u, -oblique)),
    )
    # One coat for both lungs, then the lobes as labels: a fissure must not leave a seam of half-painted voxels.
    canvas.paint(Region(box, lung), "lung", None, suv_factor=suv.astype(np.float32), hu_shift=hu.astype(np.float32))
    inside = canvas.fraction(Region(box, lung)) >= 0.5
    for name, lobe in lobes:
        canvas.organs[box][inside & (lobe <= 0)] = organ_id(name)


HEART_CENTRE = (-26.0, 26.0, 500.0)
LV_BASE = np.array([-14.0, 6.0, 486.0])
LV_APEX = np.array([-78.0, 52.0, 538.0])


def _heart_outline(canvas: Canvas, at: tuple[Array, Array, Array]) -> Array:
    body = ellipsoid_distance(at, HEART_CENTRE, (62, 44, 50), turn=(0, -34, 24))
    atria = ellipsoid_distance(at, (16, 14, 478), (36, 34, 46))
    return smooth_union(body, atria, 18)


def _heart(
    canvas: Canvas, box: tuple[slice, slice, slice], outline: Array, pattern: str, rng: np.random.Generator
) -> None:
    u, v, d = canvas.at(box)
    canvas.paint(Region(box, outline), "blood_wall", "heart")
    canvas.paint(Region(box, outline + 4), "blood", "heart")
    axis = LV_APEX - LV_BASE
    length = float(np.linalg.norm(axis))
    axis = axis / length
    x, y, z = u - LV_BASE[0], v - LV_BASE[1], d - LV_BASE[2]
    along = x * axis[0] + y * axis[1] + z * axis[2]
    across = np.sqrt(np.maximum(x**2 + y**2 + z**2 - along**2, 0))
    # Half an ellipsoid of revolution, open at the base: wall 10 mm, 8 mm at the apex.
    t = np.clip(along / length, -0.4, 1.0)
    outer = across - 35.0 * np.sqrt(np.clip(1 - np.clip(t, 0, 1) ** 2.4, 0, 1))
    outer = np.maximum(outer, np.maximum(-along, along - length)).astype(np.float32)
    inner = across - 24.5 * np.sqrt(np.clip(1 - np.clip(along / (length - 9), 0, 1) ** 2.4, 0, 1))
    inner = np.maximum(inner, along - (length - 9)).astype(np.float32)
    # Lateral wall over septum, apex over base; patches where the myocardium burns fatty acids instead.
    side = np.clip((-x * 0.6 - y * 0.1) / 30, -1, 1)
    wall = (1 + 0.11 * side) * np.clip(0.72 + 0.5 * t, 0.5, 1.05)
    strength = float(rng.uniform(0.6, 1.1))
    if pattern == "patchy":
        wall = wall * np.clip(0.75 + strength * 0.55 * canvas.coarse[box] + 0.35 * side, 0.25, 1.6)
    region = Region(box, np.maximum(outer, -inner))
    canvas.paint(region, "myocardium", "heart_myocardium", suv_factor=wall.astype(np.float32))
    right = canvas.ellipsoid((2, 50, 510), (40, 22, 36), turn=(0, -30, 20))
    wall_of_right = np.maximum(np.abs(right.distance + 2) - 2.0, -_part(right, box, outer))
    canvas.paint(Region(right.box, wall_of_right), "myocardium", "heart", weight=0.30)


def _part(region: Region, box: tuple[slice, slice, slice], field: Array) -> Array:
    """Return the part of `field`, given on `box`, that lies on the smaller box of `region`."""
    return field[tuple(slice(r.start - b.start, r.stop - b.start) for r, b in zip(region.box, box, strict=True))]


def _vessels(canvas: Canvas) -> None:
    def front(depth: float, ahead: float) -> float:
        return spine_front(depth) + ahead

    arch = [
        (8, 24, 470),
        (14, 28, 425),
        (6, 16, 388),
        (-12, -12, 376),
        (-22, -34, 396),
        (-24, -42, 440),
        (-20, -38, 520),
    ]
    descending = [(-14.0, front(x, 30), float(x)) for x in range(560, 745, 30)]
    radii = [15, 15, 14, 13, 12.5, 12, 11.5] + [10.5] * len(descending)
    canvas.paint(canvas.tube([*arch, *descending], radii, smooth=36), "blood", "aorta")
    trunk = canvas.tube([(-16, 40, 462), (-18, 22, 430), (-12, 2, 418)], [13, 13, 12], smooth=8)
    canvas.paint(trunk, "blood", "heart")
    for side in (1, -1):
        name = "right" if side > 0 else "left"
        pulmonary = [(-8, 2, 420), (side * 28, -8, 422), (side * 58, -16, 445)]
        canvas.paint(canvas.tube(pulmonary, [10, 9, 6], smooth=8), "blood", "pulmonary_vein")
        neck = [(side * 12, 12, 372), (side * 22, 8, 310), (side * 30, 10, 250), (side * 32, 6, 190)]
        canvas.paint(canvas.tube(neck, [6, 5, 4.5, 4]), "blood", f"common_carotid_artery_{name}")
        jugular = [(side * 16, 22, 370), (side * 34, 18, 320), (side * 40, 14, 240), (side * 40, 4, 180)]
        canvas.paint(canvas.tube(jugular, [8, 7, 7, 5]), "blood", f"brachiocephalic_vein_{name}")
        arm = [(side * 24, 6, 330), (side * 70, 12, 320), (side * 120, -4, 338), (side * 150, -10, 360)]
        canvas.paint(canvas.tube(arm, [6, 6, 5.5, 5], smooth=8), "blood", f"subclavian_artery_{name}")
        groin = [(side * 4, front(735, 28), 735), (side * 42, front(780, 34), 790), (side * 72, 20, 830),
                 (side * 78, 44, 880), (side * 80, 40, 960), (side * 84, 20, 1150)]  # fmt: skip
        canvas.paint(canvas.tube(groin, [8, 7, 6.5, 6, 5.5, 4.5], smooth=14), "blood", f"iliac_artery_{name}")
        vein = [(x + side * 9, y - 9, z + 6) for x, y, z in groin]
        canvas.paint(canvas.tube(vein, [9, 8, 7.5, 7, 6, 5], smooth=14), "blood", f"iliac_vena_{name}")
    cava = [(22, 8, 360), (26, 10, 420), (24, 8, 470)]
    canvas.paint(canvas.tube(cava, [9, 10, 11]), "blood", "superior_vena_cava")
    inferior = [(28.0, 0.0, 520.0), (27.0, -6.0, 560.0), *((20.0, front(x, 28), float(x)) for x in range(600, 750, 30))]
    canvas.paint(
        canvas.tube(inferior, [13, 12, *([11.0] * (len(inferior) - 2))], smooth=16), "blood", "inferior_vena_cava"
    )
