"""The skeleton: skull, spine, ribs, sternum, shoulder girdle, arms, pelvis and femora, with marrow inside cortex."""

from __future__ import annotations

import numpy as np

from uptake.simulation.body import CAVITY, Torso, arm_line
from uptake.simulation.canvas import Canvas
from uptake.simulation.fields import Array
from uptake.simulation.shapes import Point, Region, ellipsoid_distance, profile

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


def draw_skeleton(canvas: Canvas, torso: Torso, *, hip_prosthesis: str | None = None) -> None:
    """Paint all bones, those inside others first: what is painted is claimed, and later bones and organs give way."""
    _skull(canvas)
    _spine(canvas)
    _sternum(canvas)
    _sacrum(canvas)
    for side, name in ((1, "right"), (-1, "left")):
        _ribs(canvas, side, name)
        _shoulder(canvas, side, name, torso)
        _leg(canvas, side, name, prosthesis=hip_prosthesis == name)
        _pelvis(canvas, side, name)


def _bone(
    canvas: Canvas, region: Region, label: str, *, cortex: float = 2.5, core: str = "marrow", richness: float = 1.0
) -> None:
    cover = canvas.paint(region, "cortical_bone", label, hu_shift=0.0 if cortex >= 3 else -250.0)
    canvas.paint(region.inset(cortex), core, label, within=cover, suv_factor=richness)


def _skull(canvas: Canvas) -> None:
    box = canvas.box((-90, -110, 0), (90, 120, 240))
    at = canvas.at(box)
    for side in (1, -1):
        petrous = canvas.ellipsoid((side * 45, -8, 134), (20, 13, 11))
        canvas.paint(petrous, "dense_bone", "skull", weight=0.7)
        mastoid = canvas.ellipsoid((side * 55, -14, 150), (9, 11, 13))
        canvas.paint(mastoid, "cortical_bone", "skull", hu_shift=-700.0)
    teeth = canvas.tube(
        [(-30, 52, 194), (-20, 76, 195), (0, 84, 196), (20, 76, 195), (30, 52, 194)], [7] * 5, smooth=10
    )
    canvas.paint(teeth, "dense_bone", "skull", weight=0.6)
    vault = ellipsoid_distance(at, (0, 2, 92), (71, 91, 85), power=2.15)
    inner = ellipsoid_distance(at, (0, 2, 91), (64.5, 84, 78), power=2.15)
    # The base of the skull rises from the back of the head to the orbits.
    base = at[2] - skull_base(at[1])
    canvas.paint(Region(box, np.maximum(np.maximum(vault, -inner), base)), "cortical_bone", "skull")
    slab = np.maximum(np.maximum(np.abs(base) - 4, vault), np.abs(at[0]) - 60)
    hole = np.sqrt(at[0] ** 2 + (at[1] + 18) ** 2) - 15  # foramen magnum
    canvas.paint(Region(box, np.maximum(slab, -hole)), "cortical_bone", "skull", hu_shift=-200.0)
    for side in (1, -1):
        cheek = canvas.tube([(side * 62, 20, 140), (side * 56, 60, 142), (side * 34, 84, 145)], [5, 6, 8], smooth=6)
        canvas.paint(cheek, "cortical_bone", "skull", hu_shift=-300.0)
        ramus = [(side * 52, 14, 150), (side * 50, 20, 195), (side * 38, 60, 212), (side * 12, 82, 216), (0, 84, 216)]
        canvas.paint(canvas.tube(ramus, [5, 6.5, 7, 7.5, 7.5], smooth=12), "cortical_bone", "skull")
    palate = canvas.ellipsoid((0, 56, 176), (30, 28, 6))
    canvas.paint(palate, "cortical_bone", "skull", hu_shift=-400.0)


def _spine(canvas: Canvas) -> None:
    for index, (name, depth) in enumerate(zip(VERTEBRAE, vertebra_depths(), strict=True)):
        label, v = f"vertebrae_{name}", spine_front(depth)
        grown = index / (len(VERTEBRAE) - 1)
        width, front, height = 11.5 + 15 * grown, 8.5 + 10.5 * grown, 6.8 + 8.4 * grown
        slope = np.degrees(np.arctan((spine_front(depth + 8) - spine_front(depth - 8)) / 16))
        back = v - front - 8
        body = canvas.ellipsoid((0, v, depth), (width, front, height), turn=(-slope, 0, 0), power=4.0)
        # Each vertebra has a marrow of its own; neighbours differ a little.
        own = float(canvas.coarse[body.box].mean()) if body.distance.size else 0.0
        cover = canvas.paint(body, "cortical_bone", label, hu_shift=-350.0)
        canvas.paint(body.inset(2.0), "marrow", label, within=cover, suv_factor=float(np.exp(0.22 * own)))
        _bone(canvas, canvas.tube([(0, back - 5, depth + 3), (0, back - 20 - 6 * grown, depth + 10)], [5, 4.5]), label)
        for side in (1, -1):
            wing = [(side * 7, v - front - 3, depth), (side * (18 + 14 * grown), back - 4, depth + 2)]
            _bone(canvas, canvas.tube(wing, [6, 4.5]), label)
    for index, depth in enumerate(vertebra_depths()[1:], start=1):
        grown, v = index / (len(VERTEBRAE) - 1), spine_front(depth)
        slope = np.degrees(np.arctan((spine_front(depth + 8) - spine_front(depth - 8)) / 16))
        size = (11.5 + 15 * grown, 8.5 + 10.5 * grown, 2.6 + 1.6 * grown)
        disc = canvas.ellipsoid((0, v, depth - 8.4 - 8.6 * grown), size, turn=(-slope, 0, 0), power=3.0)
        canvas.paint(disc, "cartilage", "intervertebral_discs")
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
        _bone(canvas, canvas.tube(bony, [6.0] * len(bony)), f"rib_{name}_{n}", cortex=2.8, richness=0.75)


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
    line, _ = arm_line(canvas.person, side, torso.fat_mm)
    humerus = 5 if up else 4
    # Of an adult's humerus only the upper end holds some red marrow.
    _bone(canvas, canvas.ellipsoid(line[0], (23, 23, 23)), f"humerus_{name}", cortex=3, richness=0.6)
    shaft = canvas.tube(line[:humerus], [18, *([11.5] * (humerus - 2)), 14], smooth=12)
    _bone(canvas, shaft, f"humerus_{name}", cortex=4.5, core="yellow_marrow")
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
    fore, hand = (line[4:6], line[5:]) if up else (line[3:6], line[5:])
    for bone, shift in (("ulna", -8.0), ("radius", 8.0)):
        pair = [(p[0] + shift * side, p[1] - shift / 3, p[2]) for p in fore]
        _bone(canvas, canvas.tube(pair, [7.5, 6.5, 7][: len(pair)], smooth=8), f"{bone}_{name}", cortex=3,
              core="yellow_marrow")  # fmt: skip
    way = np.subtract(hand[1], hand[0]) / np.linalg.norm(np.subtract(hand[1], hand[0]))
    across = side * np.cross(way, (0.0, 1.0, 0.0))
    for finger in (-1.6, -0.5, 0.6, 1.7):
        root = np.asarray(hand[0]) + 8 * way + 9.0 * finger * across
        tip_at = np.asarray(hand[0]) + 88 * way + 11.0 * finger * across
        ray = canvas.tube([tuple(root), tuple(tip_at)], [4.5, 3.5])  # type: ignore[list-item]
        canvas.paint(ray, "cortical_bone", f"hand_{name}", hu_shift=-400.0)


def _wide(canvas: Canvas) -> float:
    return 1.06 if canvas.person.female else 1.0


def _leg(canvas: Canvas, side: int, name: str, *, prosthesis: bool) -> None:
    wide, femur = _wide(canvas), f"femur_{name}"
    socket: Point = (side * 90 * wide, -2, 846)
    head = canvas.ellipsoid(socket, (28, 28, 28))
    hip = (side * 128 * wide, -14.0, 868.0)
    neck = canvas.tube([socket, hip], [17, 19])
    shaft = [hip, (side * 124 * wide, -4, 930), (side * 112 * wide, 6, 1030), (side * 96 * wide, 8, 1180)]
    stem = canvas.tube(shaft, [20, 15.5, 14, 14.5], smooth=9)
    if prosthesis:
        canvas.paint(head.inset(8.0), "metal", "implant")
        canvas.paint(canvas.tube([socket, hip, shaft[1]], [7, 8, 6]), "metal", "implant")
    else:
        # Epiphyses hold yellow marrow with a little red.
        _bone(canvas, head.inset(4.5), femur, cortex=2, richness=0.6)
        _bone(canvas, neck, femur, cortex=3)
    canvas.paint(head, "cartilage", claim=True)
    _bone(canvas, stem, femur, cortex=5.5, core="yellow_marrow")


def _pelvis(canvas: Canvas, side: int, name: str) -> None:
    wide, label = _wide(canvas), f"hip_{name}"
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
    _bone(canvas, canvas.tube(pillar, [13, 15, 33], smooth=8), label)
    for line, radii in (
        ([socket, (side * 55 * wide, 46, 862), (side * 16, 62, 884)], [15, 9, 11]),
        ([socket, (side * 78 * wide, -32, 890), (side * 66 * wide, -26, 922)], [17, 14, 15]),
        ([(side * 64 * wide, -22, 924), (side * 36 * wide, 28, 912), (side * 14, 56, 896)], [12, 8, 9]),
    ):
        _bone(canvas, canvas.tube(line, radii, smooth=8), label)


def _sacrum(canvas: Canvas) -> None:
    box = canvas.box((-70, -120, 770), (70, -20, 920))
    at = canvas.at(box)
    depth = np.array([775.0, 800.0, 830.0, 860.0, 890.0, 912.0])
    half = np.interp(at[2], depth, [50, 54, 42, 30, 17, 6]).astype(np.float32)
    centre = np.interp(at[2], depth, [-60, -70, -84, -92, -90, -80]).astype(np.float32)
    thick = np.interp(at[2], depth, [20, 19, 15, 11, 8, 5]).astype(np.float32)
    wedge = np.sqrt((at[0] / half) ** 2 + ((at[1] - centre - 0.004 * at[0] ** 2 * 0.5) / thick) ** 2)
    whole = Region(box, np.maximum((wedge - 1) * thick, np.maximum(778 - at[2], at[2] - 915)).astype(np.float32))
    top, rest = whole.cut(at[2] - 802), whole.cut(802 - at[2])
    # One surface all round: S1 and the sacrum below it share a face without cortex.
    for part, label in ((top, "vertebrae_S1"), (rest, "sacrum")):
        cover = canvas.paint(part, "cortical_bone", label, hu_shift=-250.0)
        canvas.paint(whole.inset(2.5), "marrow", label, within=cover)
