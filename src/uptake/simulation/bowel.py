"""Colon and small bowel: tubes with walls, content, gas, and uptake that changes along their length."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from uptake.simulation.abdomen import near
from uptake.simulation.body import SIDEWAYS, Torso
from uptake.simulation.canvas import Canvas
from uptake.simulation.fields import Array, Line
from uptake.simulation.frame import settled
from uptake.simulation.shapes import Point, Region, spline

COLON: list[Point] = [
    (86, 12, 812), (96, 14, 780), (102, 0, 730), (98, 6, 694), (76, 46, 690), (30, 68, 706), (-24, 70, 700),
    (-74, 40, 664), (-104, -8, 640), (-108, -16, 690), (-108, -10, 750), (-96, 10, 800), (-66, 18, 826), (-22, 6, 812),
    (4, -16, 822), (-6, -40, 838), (0, -52, 866), (0, -46, 890), (0, -52, 915),
]  # fmt: skip
"""Caecum to anus."""
COLON_RADII = [26, 25, 23, 22, 21, 20, 20, 19, 18, 16, 15, 15, 15, 15, 15, 17, 18, 15, 9]
BULGE = (0, 0, 0, 0, 1, 1, 1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
"""How far each point follows the abdominal wall when the belly is full."""


def draw_bowel(
    canvas: Canvas, torso: Torso, rng: np.random.Generator, volumes: Mapping[str, float], *, segment_sigma: float
) -> None:
    """Paint colon, then small bowel in the room that is left; `segment_sigma` is the SD of log SUV along them."""
    _colon(canvas, torso, rng, volumes["colon"], segment_sigma)
    _small_bowel(canvas, torso, rng, volumes["small_bowel"], segment_sigma)


def segments(rng: np.random.Generator, count: int, sigma: float) -> Line:
    """Return log-normal uptake factors along a bowel, mean 1, smooth over a few of `count` points."""
    steps = np.convolve(rng.standard_normal(count + 8), np.hanning(7), mode="same")[4:-4]
    steps = steps / np.sqrt((np.hanning(7) ** 2).sum())
    return np.asarray(np.exp(sigma * np.clip(steps, -2, 2) - sigma**2 / 2))


def _inside(torso: Torso, region: Region, gap: float) -> Array:
    return np.asarray(torso.cavity[region.box] + np.float32(gap), dtype=np.float32)


def _colon(canvas: Canvas, torso: Torso, rng: np.random.Generator, volume_ml: float, sigma: float) -> None:
    deep = 0.6 * torso.belly_mm
    wide = 1 + 0.5 * SIDEWAYS * max(torso.belly_mm, 0.0) / 110.0
    path = [(wide * u, v + deep * b, settled(d, torso.dome_mm)) for (u, v, d), b in zip(COLON, BULGE, strict=True)]
    line = [near(rng, p, 5) if n < 15 else p for n, p in enumerate(path)]
    radii = [w * float(rng.uniform(0.8, 1.12)) for w in COLON_RADII]
    factors, gassy = segments(rng, 26, sigma), rng.uniform(size=14)
    tube = canvas.tube(line, radii, smooth=70)
    haustra = (2.2 * np.sin(tube.along * 2 * np.pi * 34)).astype(np.float32)
    wavy = Region(tube.box, tube.distance + haustra, tube.along)

    def along(region: Region) -> Array:
        return region.along if region.along.size else _height(canvas, region.box)

    def factor(region: Region) -> Array:
        return np.interp(along(region), np.linspace(0, 1, 26), factors).astype(np.float32)

    region, cover = canvas.organ(
        "colon", "colon", lambda: wavy, volume_ml, bounds=lambda r: _inside(torso, r, 4.0), limit_mm=24.0,
        look=lambda r: {"suv_factor": factor(r)},
    )  # fmt: skip
    lumen = canvas.paint(
        region.inset(4.5), "bowel_content", "colon", within=cover, suv_factor=0.5 + 0.6 * factor(region)
    )
    # Gas rises: it fills the front of the loops that hold some.
    points, _ = spline(np.asarray(line), np.ones(len(line)), 70)
    axis = np.interp(along(region), np.linspace(0, 1, 70), points[:, 1])
    front = Region(region.box, np.maximum(region.distance + 6.0, axis - canvas.v[region.box]).astype(np.float32))
    some = (np.interp(along(region), np.linspace(0, 1, 14), gassy) > 0.55).astype(np.float32)
    canvas.paint(front, "gas", "colon", within=lumen, weight=some)


def _height(canvas: Canvas, box: tuple[slice, slice, slice]) -> Array:
    """Return a coordinate from 0 to 1 that runs along a colon whose centre line is not known: round the frame."""
    u, _, d = canvas.at(box)
    return np.asarray(0.5 - np.arctan2(-u, 760.0 - d) / (2 * np.pi), dtype=np.float32)


def _small_bowel(canvas: Canvas, torso: Torso, rng: np.random.Generator, volume_ml: float, sigma: float) -> None:
    deep = 0.6 * torso.belly_mm
    # A random walk inside the abdomen, smoothed to a tube of some three metres.
    steps = np.cumsum(rng.standard_normal((64, 3)) * (34, 16, 26), axis=0)
    low, high = np.array([-88.0, 2, settled(682.0, torso.dome_mm)]), np.array([88.0, 64 + deep, 842])
    low[0], high[0] = (x * (1 + SIDEWAYS * max(torso.belly_mm, 0.0) / 110.0) for x in (low[0], high[0]))
    span = high - low
    folded = np.abs((steps - steps.mean(0) + span / 2) % (2 * span) - span) / span
    walk, radii = spline(low + span * folded, 10.0 + 2.0 * rng.uniform(size=64), 150)
    walk = np.clip(walk, low - 6, high + 6)
    factors = segments(rng, 40, sigma)
    # The jejunum, the first two fifths, takes up more than the ileum.
    factors = factors * np.interp(np.linspace(0, 1, 40), (0.0, 0.4, 0.6, 1.0), (1.25, 1.2, 0.85, 0.8))
    tube = canvas.tube([(float(a), float(b), float(c)) for a, b, c in walk], list(radii))

    def factor(region: Region) -> Array:
        if region.along.size:
            return np.interp(region.along, np.linspace(0, 1, 40), factors).astype(np.float32)
        return np.exp(np.float32(sigma) * canvas.coarse[region.box]).astype(np.float32)

    region, cover = canvas.organ(
        "small_bowel", "small_bowel", lambda: tube, volume_ml, bounds=lambda r: _inside(torso, r, 5.0), limit_mm=30.0,
        look=lambda r: {"suv_factor": factor(r)},
    )  # fmt: skip
    # Loops stay thin whatever room they are given: the lumen follows the centre line.
    lumen = Region(region.box, (tube.on(region.box) + 4.0).astype(np.float32))
    content = canvas.paint(lumen, "bowel_content", "small_bowel", within=cover, weight=0.7)
    bubbles = ((factor(region) > 1.1) & (canvas.fine[region.box] > 0.9)).astype(np.float32)
    canvas.paint(lumen.inset(1.0), "gas", "small_bowel", within=content, weight=bubbles)
