"""Bones: left and right are mirror images with each other's names, and cortex lies round marrow."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.simulation.body import Torso
from uptake.simulation.canvas import Canvas
from uptake.simulation.ct_numbers import draw_tissues
from uptake.simulation.frame import Frame
from uptake.simulation.labels import ORGAN_IDS, ORGAN_NAMES
from uptake.simulation.person import PatientConfig, draw_person
from uptake.simulation.skeleton import draw_skeleton
from uptake.simulation.tracers import draw_uptake


@pytest.fixture(scope="module")
def canvas():
    rng = np.random.default_rng(0)
    person = draw_person(rng, PatientConfig(sex="male", height_m=1.83, bmi=26.0, arms="up"))
    tissues, _ = draw_tissues(rng, person, draw_uptake(rng, person, "FDG"), "none")
    x, y, z = ((n - 1) / 2 * 5.0 - 5.0 * np.arange(n) for n in (96, 60, 224))
    z = z[::-1] - 520.0
    ones, zeros = np.ones(len(z)), np.zeros(len(z))
    made = Canvas(person, tissues, (x, y, z), Frame(-z, ones, ones, zeros, zeros), rng)
    for name, values in (("u", x[:, None, None]), ("v", y[None, :, None]), ("d", -z)):
        setattr(made, name, np.broadcast_to(values, made.shape).astype(np.float32))
    for name in ("fine", "coarse"):
        setattr(made, name, np.zeros(made.shape, np.float32))
    nothing = np.zeros((0, 0, 0), np.float32)
    draw_skeleton(made, Torso(nothing, nothing, 20.0, 0.0))
    return made


def test_the_mirror_swaps_left_and_right(canvas):
    swap = np.arange(256, dtype=np.uint8)
    for name, number in ORGAN_IDS.items():
        other = name.replace("left", "right") if "left" in name else name.replace("right", "left")
        swap[number] = ORGAN_IDS.get(other, number)
    mirrored = swap[canvas.organs[::-1]]
    assert (mirrored == canvas.organs).mean() > 0.9999
    # Where both sides meet, in the symphysis, the right one is painted first.
    assert (np.abs(canvas.hu[::-1] - canvas.hu) > 1.0).sum() < 30
    for name in ("femur", "hip", "humerus", "scapula", "clavicula", "rib"):
        sides = [canvas.u[np.isin(canvas.organs, [n for n, c in ORGAN_NAMES.items() if c.startswith(f"{name}_{s}")])]
                 for s in ("left", "right")]  # fmt: skip
        assert sides[0].size and sides[1].size and sides[0].max() < 0 < sides[1].min(), name


def test_vertebrae_follow_one_another(canvas):
    order = [f"vertebrae_{n}" for n in ("C1", "C4", "C7", "T1", "T6", "T12", "L1", "L5", "S1")]
    depths = [canvas.d[canvas.organs == ORGAN_IDS[name]].mean() for name in order]
    assert depths == sorted(depths)


def test_marrow_lies_inside_cortex(canvas):
    femur = canvas.organs == ORGAN_IDS["femur_left"]
    shaft = femur & (canvas.d > 960)
    level = int(np.flatnonzero(shaft.any(axis=(0, 1)))[3])
    section = np.where(shaft[:, :, level], canvas.hu[:, :, level], np.nan)
    i, j = np.argwhere(np.isfinite(section)).mean(axis=0).round().astype(int)
    assert np.nanmax(section) > 400 > 250 > section[i, j]
