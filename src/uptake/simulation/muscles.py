"""Muscles that have labels of their own: those along the spine, iliopsoas and the three gluteal muscles."""

from __future__ import annotations

import numpy as np

from uptake.simulation.body import Torso
from uptake.simulation.canvas import Canvas
from uptake.simulation.shapes import Region
from uptake.simulation.skeleton import spine_front

GROUP_SPREAD = 0.12
"""SD of log SUV between muscle groups of one patient: who walked to the scanner has warmer legs."""


def draw_muscles(canvas: Canvas, torso: Torso, rng: np.random.Generator) -> None:
    """Paint autochthonous back muscles, iliopsoas and gluteal muscles; bones are there already and keep their place."""
    shared = rng.standard_normal(3)
    for side, name in ((1, "right"), (-1, "left")):
        back, psoas, seat = np.exp(GROUP_SPREAD * (0.85 * shared + 0.5 * rng.standard_normal(3)))
        line = [(side * 31.0, spine_front(d) - 44.0, float(d)) for d in range(300, 810, 60)]
        erector = canvas.tube(line, [13, 15, 18, 20, 23, 25, 26, 24, 16], flat=0.85)
        _muscle(canvas, _under_fascia(canvas, erector, torso), f"autochthon_{name}", back)
        way = [(32, -40, 640), (44, -32, 710), (62, -8, 780), (84, 26, 838), (104, 4, 905)]
        iliopsoas = canvas.tube([(side * u, v, d) for u, v, d in way], [10, 17, 21, 19, 12], smooth=12)
        _muscle(canvas, iliopsoas, f"iliopsoas_{name}", psoas)
        hollow = canvas.ellipsoid((side * 92, 2, 770), (26, 34, 46), turn=(0, side * 8, side * -20))
        _muscle(canvas, hollow, f"iliopsoas_{name}", psoas)
        small = canvas.ellipsoid((side * 124, -18, 800), (16, 28, 36), turn=(0, side * 6, side * -20))
        _muscle(canvas, _under_fascia(canvas, small, torso), f"gluteus_minimus_{name}", seat)
        middle = canvas.ellipsoid((side * 128, -34, 776), (30, 46, 52), turn=(0, side * 8, side * -20))
        _muscle(canvas, _under_fascia(canvas, middle, torso), f"gluteus_medius_{name}", seat)
        large = canvas.ellipsoid((side * 78, -84, 850), (66, 36, 78), turn=(0, side * -12, side * 18))
        _muscle(canvas, _under_fascia(canvas, large, torso), f"gluteus_maximus_{name}", seat)


def _under_fascia(canvas: Canvas, region: Region, torso: Torso) -> Region:
    return region.cut(torso.muscle[region.box] + np.float32(2.0))


def _muscle(canvas: Canvas, region: Region, label: str, warmth: float) -> None:
    canvas.organ(label, "muscle", lambda: region, look=lambda _: {"suv_factor": warmth, "background": True})
