"""Great vessels: aorta, caval veins, pulmonary trunk, neck, arm and pelvic vessels."""

from __future__ import annotations

from uptake.simulation.canvas import Canvas
from uptake.simulation.frame import settled
from uptake.simulation.shapes import Point
from uptake.simulation.skeleton import spine_front


def _front(depth: float, ahead: float) -> float:
    return spine_front(depth) + ahead


def draw_vessels(canvas: Canvas, dome_mm: float) -> None:
    """Paint the vessels that PET shows as blood pool; the aorta widens with age."""
    wide = 1.0 + 0.004 * (canvas.person.age_years - 50)

    def low(points: list[Point]) -> list[Point]:
        return [(u, v, settled(d, dome_mm)) for u, v, d in points]

    arch: list[Point] = [(8, 24, 470), (14, 28, 425), (6, 16, 388), (-12, -12, 376)]
    thoracic: list[Point] = [(-22, -34, 396), (-24, -42, 440), (-20, -38, 520)]
    descending = [(-14.0, _front(x, 30), float(x)) for x in range(560, 715, 30)]
    radii = [15, 15, 14, 13, 12.5, 12, 11.5] + [10.5] * len(descending)
    aorta = [*low(arch), *thoracic, *descending]
    canvas.paint(canvas.tube(aorta, [wide * r for r in radii], smooth=36), "blood", "aorta")
    superior = low([(22, 8, 360), (26, 10, 420), (24, 8, 470)])
    canvas.paint(canvas.tube(superior, [9, 10, 11]), "blood", "superior_vena_cava")
    inferior = [*low([(28.0, 0.0, 520.0), (27.0, -6.0, 560.0)]),
                *((20.0, _front(x, 28), float(x)) for x in range(600, 730, 30))]  # fmt: skip
    cava = canvas.tube(inferior, [13, 12, *([11.0] * (len(inferior) - 2))], smooth=16)
    canvas.paint(cava, "blood", "inferior_vena_cava")
    trunk = canvas.tube(low([(-16, 40, 462), (-18, 22, 430), (-12, 2, 418)]), [13, 13, 12], smooth=8)
    canvas.paint(trunk, "blood", "pulmonary_vein")
    canvas.paint(canvas.tube([(-2, 6, 376), (14, 14, 330)], [7, 6]), "blood", "brachiocephalic_trunk")
    for side, name in ((1, "right"), (-1, "left")):
        pulmonary = low([(-8, 2, 420), (side * 28, -8, 422), (side * 58, -16, 445)])
        canvas.paint(canvas.tube(pulmonary, [10, 9, 6], smooth=8), "blood", "pulmonary_vein")
        neck: list[Point] = [(side * 12, 12, 372), (side * 22, 8, 310), (side * 30, 10, 250), (side * 32, 6, 190)]
        canvas.paint(canvas.tube(neck, [6, 5, 4.5, 4]), "blood", f"common_carotid_artery_{name}")
        jugular: list[Point] = [(side * 16, 22, 370), (side * 34, 18, 320), (side * 40, 14, 240), (side * 40, 4, 180)]
        canvas.paint(canvas.tube(jugular, [8, 7, 7, 5]), "blood", f"brachiocephalic_vein_{name}")
        arm: list[Point] = [(side * 24, 6, 330), (side * 70, 12, 320), (side * 120, -4, 338), (side * 150, -10, 360)]
        canvas.paint(canvas.tube(arm, [6, 6, 5.5, 5], smooth=8), "blood", f"subclavian_artery_{name}")
        groin: list[Point] = [
            (side * 4, _front(708, 28), 708), (side * 36, _front(765, 36), 765), (side * 70, 20, 826),
            (side * 78, 44, 880), (side * 80, 40, 960), (side * 84, 20, 1150),
        ]  # fmt: skip
        canvas.paint(canvas.tube(groin, [8, 7, 6.5, 6, 5.5, 4.5], smooth=14), "blood", f"iliac_artery_{name}")
        vein: list[Point] = [(x + side * 9, y - 9, z + 8) for x, y, z in groin]
        canvas.paint(canvas.tube(vein, [9, 8, 7.5, 7, 6, 5], smooth=14), "blood", f"iliac_vena_{name}")
        root = settled(660, dome_mm)
        renal: list[Point] = [(side * 4, _front(root, 30), root + 4), (side * 36, -24, root)]
        canvas.paint(canvas.tube(renal, [5, 4.5]), "blood", claim=True)
    portal = low([(18, 12, 652), (34, 14, 632), (50, 12, 614)])
    canvas.paint(canvas.tube(portal, [7, 7.5, 6]), "blood", "portal_vein_and_splenic_vein")
