"""Chest: diaphragm, mediastinum, lungs with their lobes, airways, oesophagus and heart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from uptake.simulation.body import Torso
from uptake.simulation.canvas import Canvas
from uptake.simulation.fields import Array
from uptake.simulation.frame import DOME_RANGE_MM, settled
from uptake.simulation.labels import LUNGS, organ_id
from uptake.simulation.shapes import Box, Region, ellipsoid_distance, on_box, smooth_union
from uptake.simulation.skeleton import spine_front

HEART_CENTRE = (-26.0, 26.0, 500.0)
HEART_ML = 792.0
"""Centre and volume of the reference man's heart with the blood in it."""


def dome_depth(u: Array, v: Array) -> Array:
    """Return the depth (mm) of the diaphragm over each point: two domes that fall steeply towards the chest wall."""
    right = 526 + 0.0050 * ((u - 70) ** 2) + 0.0068 * ((v - 14) ** 2)
    left = 541 + 0.0056 * ((u + 72) ** 2) + 0.0074 * ((v - 12) ** 2)
    low = np.minimum(right, left)
    # The ribs' inner side: lung goes down in a narrow recess, deepest behind.
    return np.asarray(np.minimum(low, 612 - 0.25 * v), dtype=np.float32)


def draw_chest(
    canvas: Canvas,
    torso: Torso,
    rng: np.random.Generator,
    volumes: Mapping[str, float],
    *,
    heart_pattern: str,
    effusion: str | None = None,
) -> Torso:
    """Paint the content of the chest; return the torso with the diaphragm where the lungs have put it."""
    box = canvas.box((-150, -130, 266), (150, 140, 680))
    at = canvas.at(box)
    u, v, d = at
    cavity = torso.cavity[box]
    strength = float(rng.uniform(0.6, 1.1))
    roof = d - dome_depth(u, v) - np.float32(torso.dome_mm + 24)
    canvas.paint(Region(box, np.maximum(cavity, roof)), "mediastinal_fat", "mediastinum", background=True)
    fork = settled(396, torso.dome_mm)
    trachea = [(0, 26, 262), (0, 12, 310), (3, -8, fork - 21), (4, -14, fork + 2)]
    canvas.paint(canvas.tube(trachea, [8.5] * 4, smooth=8), "gas", "trachea")
    for side, end in ((1, (46, -22, fork + 42)), (-1, (-50, -26, fork + 46))):
        canvas.paint(canvas.tube([(4, -14, fork), (side * 18, -18, fork + 16), end], [7, 6.5, 4.5]), "gas", "trachea")
    gullet = [(-3.0, spine_front(x) + 26 + (14 if x > 520 else 0), float(x)) for x in range(275, 580, 25)]
    canvas.paint(canvas.tube(gullet, [8.5] * len(gullet)), "esophagus", "esophagus")
    heart = _draw_heart(canvas, box, volumes["heart"], heart_pattern, strength, torso.dome_mm)
    spine = np.interp(d, np.arange(260, 700, 20), [spine_front(x) for x in range(260, 700, 20)]).astype(np.float32)
    # A column between the lungs: narrow in front of and behind the heart, wide at the vessels.
    levels = [settled(x, torso.dome_mm) for x in (270, 330, 385, 420, 470, 560)]
    half = np.interp(d, levels, [22, 36, 39, 36, 30, 26]).astype(np.float32)
    waist = half * np.clip(1.15 - 0.006 * np.abs(v - 5), 0.45, 1.1) + 6 * np.clip((v - 70) / 20, 0, 1)
    column = np.asarray(np.abs(u + 3) - waist, dtype=np.float32)
    bodies = np.sqrt(u**2 + (v - spine) ** 2) - 27
    middle = smooth_union(smooth_union(column, bodies, 12), heart - 2, 10)
    pleura = np.maximum(cavity + 1.5, -middle)
    if any(name in canvas.given for name in LUNGS):
        _dress_given_lungs(canvas, torso.dome_mm)
        return torso
    above = d - dome_depth(u, v)
    torso = replace(torso, dome_mm=_dome_shift(canvas, box, pleura, above, volumes, torso.dome_mm))
    lung = np.maximum(pleura, above - np.float32(torso.dome_mm))
    if effusion is not None:
        lung = _draw_effusion(canvas, Region(box, lung), effusion, volumes["pleural_effusion"])
    _draw_lungs(canvas, Region(box, lung), torso.dome_mm)
    return torso


def _dome_shift(
    canvas: Canvas, box: Box, pleura: Array, above: Array, volumes: Mapping[str, float], dome_mm: float
) -> float:
    """Return how much lower the domes must stand for the space beside the mediastinum to hold the lungs."""
    free = (pleura < 0) & (canvas.owned[box] < 0.5)
    heights = above[free]
    if heights.size == 0:
        return dome_mm
    wanted = round((volumes["lungs"] + volumes.get("pleural_effusion", 0.0)) / canvas.voxel_ml)
    shift = float(np.partition(heights, min(wanted, heights.size) - 1)[min(wanted, heights.size) - 1])
    # A field that ends in the chest shows no diaphragm to place.
    return float(np.clip(shift, *DOME_RANGE_MM)) if float(canvas.depth.max()) > 640 else dome_mm


def _draw_effusion(canvas: Canvas, lung: Region, side: str, volume_ml: float) -> Array:
    """Paint fluid at the back and bottom of one pleural space; return the distance to what is left of the lungs."""
    u, v, d = canvas.at(lung.box)
    across = -u if side == "right" else u
    level = np.where((lung.distance < 0) & (across < 0), v - np.float32(0.35) * (d - 540), 1e3).astype(np.float32)
    fluid = canvas.fit(Region(lung.box, level), volume_ml, limit_mm=300.0)
    fluid = Region(lung.box, np.maximum(np.maximum(fluid.distance, lung.distance), across))
    canvas.paint(fluid, "effusion", "pleural_effusion")
    return np.maximum(lung.distance, -fluid.distance)


def lung_lobes(at: tuple[Array, Array, Array], dome_mm: float) -> tuple[tuple[str, Array], ...]:
    """Return the five lobes as signed functions of the position: negative inside, cut by the fissures."""
    u, v, d = at
    oblique = d - (452 + 0.5 * dome_mm - (0.95 + 0.005 * dome_mm) * v)
    level = d - settled(446, dome_mm)
    return (
        ("lung_upper_lobe_right", np.maximum(-u, np.maximum(oblique, level))),
        ("lung_middle_lobe_right", np.maximum(-u, np.maximum(oblique, -level))),
        ("lung_lower_lobe_right", np.maximum(-u, -oblique)),
        ("lung_upper_lobe_left", np.maximum(u, oblique)),
        ("lung_lower_lobe_left", np.maximum(u, -oblique)),
    )


def _lung_look(canvas: Canvas, box: Box, dome_mm: float) -> tuple[Array, Array]:
    """Return factor on SUV and shift of HU: denser and better perfused behind, vessels around the hilum."""
    u, v, d = canvas.at(box)
    behind = np.clip(-(v - 10) / 90, -1, 1)
    hilum = np.exp(-((np.abs(u) - 45) ** 2 + (v + 15) ** 2 + (d - settled(430, dome_mm)) ** 2) / (2 * 55.0**2))
    fine, coarse = canvas.fine[box], canvas.coarse[box]
    # Vessels run where two random fields vanish.
    vessel = np.exp(-(fine**2 + (1.2 * coarse) ** 2) / (0.06 + 0.25 * hilum))
    hu = 55 * behind + 170 * vessel + 60 * hilum
    suv = np.exp(0.22 * behind + 0.25 * hilum) * (1 + 0.7 * vessel) / 1.08
    return suv.astype(np.float32), hu.astype(np.float32)


def _draw_lungs(canvas: Canvas, lung: Region, dome_mm: float) -> None:
    suv, hu = _lung_look(canvas, lung.box, dome_mm)
    before = canvas.owned[lung.box].copy()
    # One coat for both lungs, then the lobes as labels: a fissure must not leave a seam of half-painted voxels.
    cover = canvas.paint(lung, "lung", suv_factor=suv, hu_shift=hu, claim=True)
    inside = (cover >= 0.5) & (cover > before)
    for name, lobe in lung_lobes(canvas.at(lung.box), dome_mm):
        canvas.organs[lung.box][inside & (lobe <= 0)] = organ_id(name)


def _dress_given_lungs(canvas: Canvas, dome_mm: float) -> None:
    lobes = [name for name in LUNGS if name in canvas.given]
    region = canvas.union([canvas.given[name] for name in lobes])
    # One coat, as for drawn lungs: lobes one by one would leave a seam in the fissures.
    cover = np.sum([on_box(canvas.reserved(n), canvas.given[n].box, region.box, 0.0) for n in lobes], axis=0)
    suv, hu = _lung_look(canvas, region.box, dome_mm)
    everywhere = Region(region.box, np.full(region.distance.shape, -1e3, np.float32))
    canvas.paint(everywhere, "lung", within=cover.astype(np.float32), suv_factor=suv, hu_shift=hu)


def _draw_heart(canvas: Canvas, box: Box, volume_ml: float, pattern: str, strength: float, dome_mm: float) -> Array:
    """Paint the heart and return the distance to its outline on `box`."""
    at = canvas.at(box)
    person = canvas.person
    # Factor on the reference man's heart beyond what the frame scales.
    size = float(np.cbrt(volume_ml / (HEART_ML * person.scale_xy**2 * person.scale_z)))

    x, y, z = HEART_CENTRE[0], HEART_CENTRE[1], settled(HEART_CENTRE[2], dome_mm)

    def outline() -> Region:
        body = ellipsoid_distance(at, (x, y, z), (62 * size, 44 * size, 50 * size), turn=(0, -34, 24))
        atria = ellipsoid_distance(at, (x + 42 * size, y - 12 * size, z - 22 * size), (36 * size, 34 * size, 46 * size))
        return Region(box, smooth_union(body, atria, 18))

    region, cover = canvas.organ("heart", "blood_wall", outline, volume_ml)
    centre = np.array([x, y, z])
    if "heart" in canvas.given:
        inside = region.distance < 0
        u, v, d = canvas.at(region.box)
        # The ventricle sits where the given heart does: 12 mm to the left, in front of and below its centroid.
        centre = np.array([float(axis[inside].mean()) for axis in (u, v, d)]) - (12, -6, -6)
        size = float(np.cbrt(inside.sum() * canvas.voxel_ml / (HEART_ML * person.scale_xy**2 * person.scale_z)))
    canvas.paint(region.inset(4), "blood", "heart", within=cover)
    _draw_ventricles(canvas, region.box, cover, centre, size, pattern, strength)
    return region.on(box)


def _draw_ventricles(
    canvas: Canvas, box: Box, cover: Array, centre: np.ndarray, size: float, pattern: str, strength: float
) -> None:
    """Paint the left ventricle as half an ellipsoid of revolution, open at the base, and a thin right one."""
    u, v, d = canvas.at(box)
    base = centre + size * np.array([12.0, -20.0, -14.0])
    axis = size * np.array([-64.0, 46.0, 52.0])
    length = float(np.linalg.norm(axis))
    axis = axis / length
    x, y, z = u - np.float32(base[0]), v - np.float32(base[1]), d - np.float32(base[2])
    along = x * axis[0] + y * axis[1] + z * axis[2]
    across = np.sqrt(np.maximum(x**2 + y**2 + z**2 - along**2, 0))
    # Wall 10 mm, 9 mm at the apex.
    t = np.clip(along / length, -0.4, 1.0)
    outer = across - 35.0 * size * np.sqrt(np.clip(1 - np.clip(t, 0, 1) ** 2.4, 0, 1))
    outer = np.maximum(outer, np.maximum(-along, along - length)).astype(np.float32)
    inner = across - (35.0 * size - 10.0) * np.sqrt(np.clip(1 - np.clip(along / (length - 9), 0, 1) ** 2.4, 0, 1))
    inner = np.maximum(inner, along - (length - 9)).astype(np.float32)
    # Lateral wall over septum, apex over base; patches where the myocardium burns fatty acids instead.
    side = np.clip((-x * 0.6 - y * 0.1) / 30, -1, 1)
    wall = (1 + 0.11 * side) * np.clip(0.72 + 0.5 * t, 0.5, 1.05)
    if pattern == "patchy":
        wall = wall * np.clip(0.75 + strength * 0.55 * canvas.coarse[box] + 0.35 * side, 0.25, 1.6)
    shell = Region(box, np.maximum(outer, -inner))
    canvas.paint(shell, "myocardium", "heart_myocardium", within=cover, suv_factor=wall.astype(np.float32))
    right = canvas.ellipsoid(
        (float(centre[0]) + 28 * size, float(centre[1]) + 24 * size, float(centre[2]) + 10 * size),
        (40 * size, 22 * size, 36 * size), turn=(0, -30, 20),
    )  # fmt: skip
    free_wall = np.maximum(np.abs(right.on(box) + 2) - 2.0, -outer)
    canvas.paint(Region(box, free_wall), "myocardium", "heart", within=cover, weight=0.30)
