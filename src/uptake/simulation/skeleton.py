"""The skeleton: skull, spine, ribs, sternum, shoulder girdle, arms, pelvis and femora, with marrow inside cortex."""

from __future__ import annotations

import numpy as np

from uptake.simulation.body import CAVITY, Torso, arm_line
from uptake.simulation.canvas import Canvas, Point, Region, ellipsoid_distance, profile
from uptake.simulation.fields import Array

# Depth below the vertex and position to the front of the vertebral body centres: lordosis, kyphosis, lordosis.
SPINE = [
    (160, 4), (200, 2), (245, -14), (285, -34), (340, -54), (400, -66), (460, -71), (520, -68), (580, -58), (640, -44),
    (700, -33), (740, -33), (770, -42), (795, -56),
]  # fmt: skip
VERTEBRAE = [f"C{n}" for n in range(1, 8)] + [f"T{n}" for n in range(1, 13)] + [f"L{n}" for n in range(1, 6)]
RIB_DROP = (22, 38, 54, 68, 80, 90, 98, 104, 104, 96, 70, 40)
"""How much lower the front end of each rib lies than its head, mm."""
RIB_END = (0.84, 0.88, 0.90, 0.90, 0.89, 0.87, 0.83, 0.77, 0.71, 0.64, 0.50, 0.36)
"""Where bone turns into cartilage, as a share of the way from spine to sternum."""


def spine_front(depth: float) -> float:
    """Return the position to the front (v, mm) of the centre of the vertebral bodies at a depth."""
    return float(profile(SPINE, [depth])[0][0])


def skull_base(v: Array) -> Array:
    """Return the depth (mm) of the skull base: the orbital roofs in front, the posterior fossa behind."""
    return np.asarray(132 - 0.22 * v + 16 / (1 + np.exp((v + 24) / 7)), dtype=np.float32)


def vertebra_depths() -> list[float]:
    """Return the depth (mm) of the centres of C1 to L5."""
    heights = [16.0] * 7 + [20.0 + 0.95 * n for n in range(12)] + [32.0, 33.0, 33.5, 34.0, 34.0]
    edges = 162.0 + np.concatenate([[0.0], np.cumsum(heights)])
    return list((edges[:-1] + edges[1:]) / 2)


def draw_skeleton(canvas: Canvas, torso: Torso) -> None:
    """Paint all bones. Organs come later and may cover their rims, never the other way round."""
    _skull(canvas)
    _spine(canvas)
    for side, name in ((1, "right"), (-1, "left")):
        _ribs(canvas, side, name)
        _shoulder(canvas, side, name, torso)
        _pelvis_and_leg(canvas, side, name)
    _sternum(canvas)
    _sacrum(canvas)


def _bone(canvas: Canvas, region: Region, label: str, *, cortex: float = 2.5, core: str = "marrow") -> None:
    canvas.paint(region, "cortical_bone", label, hu_shift=0.0 if cortex >= 3 else -250.0)
    canvas.paint(region.inset(cortex), core, label)


def _skull(canvas: Canvas) -> None:
    box = canvas.box((-90, -110, 0), (90, 120, 240))
    at = canvas.at(box)
    vault = ellipsoid_distance(at, (0, 2, 92), (71, 91, 85), power=2.15)
    inner = ellipsoid_distance(at, (0, 2, 91), (64.5, 84, 78), power=2.15)
    # The base of the skull rises from the back of the head to the orbits.
    base = at[2] - skull_base(at[1])
    canvas.paint(Region(box, np.maximum(np.maximum(vault, -inner), base)), "cortical_bone", "skull")
    slab = np.maximum(np.maximum(np.abs(base) - 5, vault), np.abs(at[0]) - 60)
    canvas.paint(Region(box, slab), "cortical_bone", "skull", hu_shift=-200.0)
    for side in (1, -1):
        cheek = canvas.tube([(side * 62, 20, 140), (side * 56, 60, 142), (side * 34, 84, 145)], [5, 6, 8], smooth=6)
        canvas.paint(cheek, "cortical_bone", "skull", hu_shift=-300.0)
        petrous = canvas.ellipsoid((side * 45, -8, 134), (20, 13, 11))
        canvas.paint(petrous, "dense_bone", "skull", weight=0.7)
        ramus = [(side * 52, 14, 150), (side * 50, 20, 195), (side * 38, 60, 212), (side * 12, 82, 216), (0, 84, 216)]
        canvas.paint(canvas.tube(ramus, [5, 6.5, 7, 7.5, 7.5], smooth=12), "cortical_bone", "skull")
    teeth = canvas.tube(
        [(-30, 52, 194), (-20, 76, 195), (0, 84, 196), (20, 76, 195), (30, 52, 194)], [7] * 5, smooth=10
    )
    canvas.paint(teeth, "dense_bone", "skull", weight=0.6)
    palate = canvas.ellipsoid((0, 56, 176), (30, 28, 6))
    canvas.paint(palate, "cortical_bone", "skull", hu_shift=-400.0)


def _spine(canvas: Canvas) -> None:
    for index, (name, depth) in enumerate(zip(VERTEBRAE, vertebra_depths(), strict=True)):
        label, v = f"vertebrae_{name}", spine_front(depth)
        grown = index / (len(VERTEBRAE) - 1)
        width, front, height = 11.5 + 15 * grown, 8.5 + 10.5 * grown, 6.8 + 8.4 * grown
        slope = np.degrees(np.arctan((spine_front(depth + 8) - spine_front(depth - 8)) / 16))
        back = v - front - 8
        _bone(canvas, canvas.tube([(0, back - 5, depth + 3), (0, back - 20 - 6 * grown, depth + 10)], [5, 4.5]), label)
        for side in (1, -1):
            wing = [(side * 7, v - front - 3, depth), (side * (18 + 14 * grown), back - 4, depth + 2)]
            _bone(canvas, canvas.tube(wing, [6, 4.5]), label)
        body = canvas.ellipsoid((0, v, depth), (width, front, height), turn=(-slope, 0, 0), power=4.0)
        canvas.paint(body, "cortical_bone", label, hu_shift=-350.0)
        # Each vertebra has a marrow of its own; neighbours differ a little.
        own = float(canvas.coarse[body.box].mean()) if body.distance.size else 0.0
        canvas.paint(body.inset(2.0), "marrow", label, suv_factor=float(np.exp(0.12 * own)))
        if index:
            disc = canvas.ellipsoid((0, v, depth - height - 2), (width, front, 2.6), turn=(-slope, 0, 0), power=3.0)
            canvas.paint(disc, "cartilage")
    line = [(0.0, spine_front(d) - 17 - 0.014 * (d - 160), float(d)) for d in range(150, 660, 30)]
    canvas.paint(canvas.tube(line, [8.0] * len(line)), "csf")
    canvas.paint(canvas.tube(line, [5.5] * len(line)), "spinal_cord", "spinal_cord")


def _ribs(canvas: Canvas, side: int, name: str) -> None:
    depths = vertebra_depths()[7:19]
    for n, (start, drop, end) in enumerate(zip(depths, RIB_DROP, RIB_END, strict=True), start=1):
        way = np.linspace(0.0, 1.0, 15)
        depth = start - 6 + drop * way ** (1.2 if n < 3 else 1.0)
        width, ap, centre = profile(CAVITY, depth)
        # Angle from the spine round the side to the sternum, on an ellipse 5 mm outside the pleura.
        angle = np.pi * (0.10 + 0.84 * way)
        u = side * (width + 5) * np.abs(np.sin(angle)) ** 0.85
        v = centre - (ap + 5) * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.85
        v[:2] = np.maximum(v[:2], spine_front(start) - 26)
        line = [(float(a), float(b), float(c)) for a, b, c in zip(u, v, depth, strict=True)]
        bony = [p for p, w in zip(line, way, strict=True) if w <= end]
        if n <= 10:
            gristle = [p for p, w in zip(line, way, strict=True) if w >= end - 0.08]
            rise = 0.0 if n < 5 else 9.0 * (n - 4)
            gristle.append((side * 22.0, float(v[-1]) + 1.0, float(depth[-1]) - rise))
            canvas.paint(canvas.tube(gristle, [5.0] * len(gristle)), "cartilage", "costal_cartilages")
        region = canvas.tube(bony, [6.0] * len(bony))
        canvas.paint(region, "cortical_bone", f"rib_{name}_{n}", hu_shift=-250.0)
        canvas.paint(region.inset(2.8), "marrow", f"rib_{name}_{n}", suv_factor=0.75)


def _sternum(canvas: Canvas) -> None:
    depth = np.array([338.0, 362.0, 400.0, 450.0, 500.0, 522.0])
    _, ap, centre = profile(CAVITY, depth)
    half = (24, 21, 15, 16, 14, 6)
    line = [(0.0, float(c + a + 5), float(d)) for a, c, d in zip(ap, centre, depth, strict=True)]
    box = canvas.box((-30, min(p[1] for p in line) - 10, 330), (30, max(p[1] for p in line) + 10, 530))
    at = canvas.at(box)
    width = np.interp(at[2], depth, half).astype(np.float32)
    front = np.interp(at[2], depth, [p[1] for p in line]).astype(np.float32)
    plate = np.maximum(
        np.maximum(np.abs(at[0]) - width, np.abs(at[1] - front) - 6), np.maximum(335 - at[2], at[2] - 524)
    )
    _bone(canvas, Region(box, plate.astype(np.float32)), "sternum", cortex=2.0)


def _shoulder(canvas: Canvas, side: int, name: str, torso: Torso) -> None:
    up = canvas.person.arms == "up"
    outer: Point = (side * 140, -6, 300) if up else (side * 150, -10, 318)
    clavicle: list[Point] = [(side * 24, 62, 338), (side * 70, 52, 322), (side * 108, 20, 312), outer]
    _bone(canvas, canvas.tube(clavicle, [9, 6.5, 6, 7], smooth=9), f"clavicula_{name}")
    tip: Point = (side * 112, -76, 470) if up else (side * 84, -96, 480)
    box = canvas.box((-190, -130, 300), (190, 20, 500))
    at = canvas.at(box)
    blade = ellipsoid_distance(
        at, (side * 100, -84, 400), (44, 6.5, 74), turn=(6, side * (-12 if up else 8), side * 28)
    )
    canvas.paint(Region(box, blade), "cortical_bone", f"scapula_{name}", hu_shift=-250.0)
    spine: list[Point] = [(side * 72, -98, 372), (side * 120, -78, 338), (side * 152, -34, 312)]
    _bone(canvas, canvas.tube(spine, [5, 6, 7], smooth=7), f"scapula_{name}")
    _bone(canvas, canvas.tube([(side * 126, -50, 352), (side * 138, -30, 346)], [10, 13]), f"scapula_{name}")
    _bone(canvas, canvas.tube([(side * 118, -70, 380), tip], [5, 4]), f"scapula_{name}")
    line, _ = arm_line(canvas.person, side, torso.fat_mm)
    humerus = 5 if up else 4
    shaft = canvas.tube(line[:humerus], [18, *([11.5] * (humerus - 2)), 14], smooth=12)
    head = canvas.ellipsoid(line[0], (23, 23, 23))
    _bone(canvas, head, f"humerus_{name}", cortex=3)
    _bone(canvas, shaft, f"humerus_{name}", cortex=4.5, core="yellow_marrow")
    if not up:
        for bone, shift in (("ulna", -9.0), ("ulna", 9.0)):
            fore = [(p[0] + shift * side, p[1], p[2]) for p in line[3:6]]
            _bone(canvas, canvas.tube(fore, [8, 6.5, 7], smooth=8), f"{bone}_{name}", cortex=3, core="yellow_marrow")
        hand = [(line[5][0] + x, line[5][1] + 2, line[5][2] + 12) for x in (-12.0, 0.0, 12.0)]
        for knuckle in hand:
            ray = [knuckle, (knuckle[0] * 1.01, knuckle[1] + 8, knuckle[2] + 70)]
            canvas.paint(canvas.tube(ray, [5, 4]), "cortical_bone", f"ulna_{name}", hu_shift=-400.0)


def _pelvis_and_leg(canvas: Canvas, side: int, name: str) -> None:
    wide = 1.06 if canvas.person.female else 1.0
    label = f"hip_{name}"
    box = canvas.box((-170, -110, 690), (170, 90, 860))
    at = canvas.at(box)
    # The wing is the shell of a bowl that opens to the front, cut by the crest above and by the notch behind.
    bowl = ellipsoid_distance(at, (side * 50 * wide, 42, 770), (96 * wide, 118, 120))
    crest = ellipsoid_distance(at, (side * 106 * wide, -20, 790), (60, 82, 76), turn=(0, side * 10, side * -28))
    shell = np.maximum(np.abs(bowl + 4) - 6.5, crest)
    shell = np.maximum(shell, 40 - side * at[0])
    _bone(canvas, Region(box, shell.astype(np.float32)), label, cortex=2.5)
    socket: Point = (side * 90 * wide, -2, 846)
    pillar = [(side * 62 * wide, -62, 790), (side * 88 * wide, -22, 815), (side * 92 * wide, -4, 838)]
    _bone(canvas, canvas.tube(pillar, [13, 15, 26], smooth=8), label)
    for line, radii in (
        ([socket, (side * 55 * wide, 46, 862), (side * 16, 62, 884)], [15, 9, 11]),
        ([socket, (side * 78 * wide, -32, 890), (side * 66 * wide, -26, 922)], [17, 14, 15]),
        ([(side * 64 * wide, -22, 924), (side * 36 * wide, 28, 912), (side * 14, 56, 896)], [12, 8, 9]),
    ):
        _bone(canvas, canvas.tube(line, radii, smooth=8), label)
    femur = f"femur_{name}"
    head = canvas.ellipsoid(socket, (28, 28, 28))
    canvas.paint(head, "cartilage")
    hip = (side * 128 * wide, -14.0, 868.0)
    neck = canvas.tube([socket, hip], [17, 19])
    shaft = [hip, (side * 124 * wide, -4, 930), (side * 112 * wide, 6, 1030), (side * 96 * wide, 8, 1180)]
    stem = canvas.tube(shaft, [20, 15.5, 14, 14.5], smooth=9)
    _bone(canvas, stem, femur, cortex=5.5, core="yellow_marrow")
    _bone(canvas, neck, femur, cortex=3)
    _bone(canvas, head.inset(4.5), femur, cortex=2)


def _sacrum(canvas: Canvas) -> None:
    box = canvas.box((-70, -120, 770), (70, -20, 920))
    at = canvas.at(box)
    depth = np.array([775.0, 800.0, 830.0, 860.0, 890.0, 912.0])
    half = np.interp(at[2], depth, [50, 54, 42, 30, 17, 6]).astype(np.float32)
    centre = np.interp(at[2], depth, [-60, -70, -84, -92, -90, -80]).astype(np.float32)
    thick = np.interp(at[2], depth, [20, 19, 15, 11, 8, 5]).astype(np.float32)
    wedge = np.sqrt((at[0] / half) ** 2 + ((at[1] - centre - 0.004 * at[0] ** 2 * 0.5) / thick) ** 2)
    distance = (wedge - 1) * thick
    distance = np.maximum(distance, np.maximum(778 - at[2], at[2] - 915))
    _bone(canvas, Region(box, distance.astype(np.float32)), "sacrum", cortex=2.5)
    top = Region(box, distance.astype(np.float32)).cut(at[2] - 802)
    canvas.paint(top.inset(2.5), "marrow", "vertebrae_S1")
