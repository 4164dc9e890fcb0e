"""Breathing: the trace, the field, mass of the lungs, and the two frames."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.geometry import Volume
from uptake.simulation.misalignment import (
    PHASES,
    BreathingField,
    Motion,
    ct_frame,
    draw_motion,
    jacobian,
    pull,
    trace,
)


def test_the_trace_has_the_mean_and_spread_of_a_fourth_power():
    phase = (np.arange(10_000) + 0.5) / 10_000
    x = trace(12.0, phase)
    assert x.mean() == pytest.approx(0.375 * 12.0, rel=1e-6)
    assert x.std() == pytest.approx(0.3644 * 12.0, rel=1e-3)
    few = trace(12.0, (np.arange(PHASES) + 0.5) / (2 * PHASES))
    assert few.mean() == pytest.approx(x.mean()) and few.std() == pytest.approx(x.std(), rel=1e-6)


@pytest.fixture(scope="module")
def field(trunk):
    return BreathingField(trunk)


def test_the_field_is_full_at_the_dome_and_still_at_the_spine_the_apex_and_the_couch(trunk, field):
    assert field.dome_mm == pytest.approx(20.0, abs=8.0) and field.apex_mm == pytest.approx(158.0, abs=8.0)
    z = trunk.organs.affine[2, 2] * np.arange(64) + trunk.organs.affine[2, 3]
    dome, apex = int(np.argmin(np.abs(z - 5))), int(np.argmin(np.abs(z - 155)))
    right_dome = int(np.argmin(np.abs(np.arange(76) * 6.0 - 225 + 85)))
    assert field.along[right_dome, 27, dome] > 0.85
    assert field.along[:, :, apex].max() < 0.05
    spine = trunk.mask("vertebrae_*")
    assert field.along[spine].max() < 0.5 < field.along[trunk.mask("liver")].mean()
    assert (field.along >= 0).all() and field.along.max() <= 1
    # The front moves to the front, the back does not.
    assert field.forward[38, 8, dome] > 5 * field.forward[38, 46, dome]


@pytest.mark.parametrize("shift", [-10.0, 8.0, 20.0])
def test_inspiration_lowers_the_dome_keeps_the_lungs_mass_and_tears_nothing(trunk, field, shift):
    frame = ct_frame(trunk, Motion(15.0, shift), field)
    assert jacobian(frame.field_mm, trunk.hu).min() > 0.3

    def dome(labels: np.ndarray) -> float:
        liver = labels == next(n for n, name in trunk.organ_names.items() if name == "liver")
        tops = [np.flatnonzero(column).max() for column in liver[20:28, 24:30].reshape(-1, 64) if column.any()]
        return float(np.mean(tops)) * 6.0

    assert dome(trunk.organs.array) - dome(frame.organs.array) == pytest.approx(shift, abs=4.0)
    lungs = [number for number, name in trunk.organ_names.items() if name.startswith("lung_")]
    masses, volumes = [], []
    for hu, organs in ((trunk.hu, trunk.organs), (frame.hu, frame.organs)):
        inside = np.isin(organs.array, lungs)
        masses.append(float((hu.array[inside] + 1000).sum(dtype=float)))
        volumes.append(int(inside.sum()))
    assert masses[1] == pytest.approx(masses[0], rel=1e-3)
    assert np.sign(volumes[1] - volumes[0]) == np.sign(shift)


def test_the_lesion_moves_with_the_lung_and_the_field_leads_back(trunk, field):
    frame = ct_frame(trunk, Motion(15.0, 12.0), field)
    moved = np.array(np.nonzero(frame.lesions.array)).mean(axis=1)
    still = np.array(np.nonzero(trunk.lesions.array)).mean(axis=1)
    assert moved[2] < still[2] - 0.3
    v = frame.field_mm[tuple(np.rint(moved).astype(int))]
    back = trunk.organs.world_of(moved) + v
    assert back == pytest.approx(trunk.organs.world_of(still), abs=2.0)


def test_no_motion_is_no_change(trunk, field):
    frame = ct_frame(trunk, Motion(15.0, 0.0), field)
    assert frame.hu is trunk.hu and frame.organs is trunk.organs and not frame.field_mm.any()
    assert field.mean_over_cycle(trunk.activity, 0.0) is trunk.activity


def test_rigid_motion_moves_everything_by_whole_voxels(trunk, field):
    frame = ct_frame(trunk, Motion(rigid_mm=(6.0, 0.0, -12.0)), field)
    # x to the right by 6 mm is one voxel back in LPS: tissue at x comes from x + v.
    np.testing.assert_array_equal(frame.organs.array[1:, :, 2:], trunk.organs.array[:-1, :, :-2])


def test_a_head_turns_about_its_middle():
    labels = np.zeros((40, 40, 30), np.uint8)
    labels[12:28, 12:28, 20:] = 90  # brain
    labels[10:30, 10:30, 2:8] = 10  # a lung upper lobe
    affine = np.diag([-6.0, -6.0, 6.0, 1.0])
    zeros = Volume(np.zeros(labels.shape, np.float32), affine)
    from uptake.simulation.truth import Truth

    truth = Truth(zeros, zeros, Volume(labels, affine), zeros, 70.0)
    assert truth.mask("brain").any() and truth.mask("lung_*").any()
    field = ct_frame(truth, Motion(head_turn_deg=3.0)).field_mm
    assert np.abs(field[20, 20, 29]).max() < 0.3
    edge = field[27, 20, 29]
    assert np.hypot(edge[0], edge[1]) == pytest.approx(7.5 * 6.0 * np.deg2rad(3.0), rel=0.05)
    assert np.abs(field[..., :8, :]).max() < 1e-6


def test_the_cycle_blurs_the_dome_and_keeps_the_activity(trunk, field):
    mean = field.mean_over_cycle(trunk.activity, 20.0)
    assert mean.array.sum(dtype=float) == pytest.approx(trunk.activity.array.sum(dtype=float), rel=5e-3)
    column = (24, 27)
    sharp, blurred = trunk.activity.array[column], mean.array[column]
    assert np.abs(np.diff(blurred)).max() < 0.8 * np.abs(np.diff(sharp)).max()
    np.testing.assert_array_equal(mean.array[:, :, -2:], trunk.activity.array[:, :, -2:])


def test_a_body_without_lungs_does_not_breathe(trunk):
    from dataclasses import replace

    legs = replace(trunk, organ_names={1: "femur_left"})
    field = BreathingField(legs)
    assert not field.along.any() and field.apex_mm is None
    assert field.mean_over_cycle(trunk.activity, 15.0) is trunk.activity


def test_pull_in_slabs_is_pull_at_once(trunk, monkeypatch):
    v = np.random.default_rng(0).normal(0, 4, (*trunk.hu.shape, 3)).astype(np.float32)
    whole = pull(trunk.hu, v)
    monkeypatch.setattr("uptake.simulation.misalignment.SLAB", 7)
    np.testing.assert_array_equal(pull(trunk.hu, v), whole)


def test_motion_is_drawn_as_the_site_takes_its_ct():
    drawn = {hold: [draw_motion(np.random.default_rng(n), hold) for n in range(200)]
             for hold in ("free", "expiration", "inspiration")}  # fmt: skip
    free = np.array([m.ct_shift_mm for m in drawn["free"]])
    assert abs(free.mean()) < 1.5 and free.std() == pytest.approx(5.0, abs=0.8)
    assert all(m.ct_shift_mm == pytest.approx(-0.375 * m.amplitude_mm) for m in drawn["expiration"])
    assert all(10 <= m.ct_shift_mm <= 25 for m in drawn["inspiration"])
    assert drawn["free"][3].amplitude_mm == drawn["inspiration"][3].amplitude_mm
    with pytest.raises(UsageError, match="panting"):
        draw_motion(np.random.default_rng(0), "panting")


@pytest.mark.parametrize("wrong", [{"amplitude_mm": -1.0}, {"ct_shift_mm": 90.0}, {"ap_share": 2.0}])
def test_impossible_motion_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Motion(**wrong)
