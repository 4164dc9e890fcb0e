"""Errors in labels: each does what its name says, at its rate, from its seed, and is written down."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import UsageError
from uptake.geometry import Volume
from uptake.simulation.label_noise import KINDS, LabelNoise, draw_changes, noisy_labels

SHAPE, SPACING = (40, 36, 30), (2.0, 2.0, 3.0)
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


def ball(centre, radius):
    """(40, 36, 30) bool, centre and radius in mm."""
    axes = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SPACING, strict=True)), indexing="ij")
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) < radius**2


@pytest.fixture
def one():
    """A ball of 14 mm as label 3."""
    return Volume(np.where(ball((40, 36, 45), 14), 3, 0).astype(np.uint8), AFFINE)


def only(kind, **settings):
    return replace(LabelNoise(), **{kind: 1.0}, **settings)


def test_no_noise_leaves_the_map_as_it_is(one):
    noisy, changes = noisy_labels(one, LabelNoise(), seed=0)
    np.testing.assert_array_equal(noisy.array, one.array)
    assert changes == ()


@pytest.mark.parametrize(("kind", "sign"), [("erosion", -1), ("dilation", 1)])
def test_erosion_and_dilation_move_the_surface_by_their_depth(kind, sign, one):
    cuboid = np.zeros(SHAPE, np.uint8)
    cuboid[10:30, 10:26, 10:20] = 3  # 40 x 32 x 30 mm
    noisy, (change,) = noisy_labels(Volume(cuboid, AFFINE), only(kind, depth_mm=(5.5, 5.5)), seed=1)
    lengths = [np.ptp(np.flatnonzero((noisy.array == 3).any(axis=other))) + 1 for other in ((1, 2), (0, 2), (0, 1))]
    # Voxels whose centre lies within 5.5 mm of the faces: three of 2 mm, two of 3 mm (the third at 7.5).
    assert lengths == [20 + sign * 6, 16 + sign * 6, 10 + sign * 4]
    assert (change.label, change.kind, change.amount_mm) == (3, kind, 5.5)
    noisy, (change,) = noisy_labels(one, only(kind, depth_mm=(5.0, 5.0)), seed=1)
    radius = np.cbrt(change.voxels_after * 12 * 3 / 4 / np.pi)
    assert radius == pytest.approx(14 + sign * 5, abs=1.0)
    assert change.voxels_before == (one.array == 3).sum()
    both = ((noisy.array == 3) & (one.array == 3)).sum()
    assert change.dice == pytest.approx(2 * both / (change.voxels_before + change.voxels_after), abs=1e-6)


def test_a_shift_moves_the_centre_along_its_direction(one):
    noisy, (change,) = noisy_labels(one, only("shift", shift_mm=(10.0, 10.0)), seed=2)
    centres = [v.world_of(np.argwhere(v.array == 3).mean(axis=0)) for v in (one, noisy)]
    np.testing.assert_allclose(centres[1] - centres[0], 10 * np.array(change.direction), atol=1.51)
    assert change.voxels_after == change.voxels_before


def test_a_missing_structure_is_gone_and_its_neighbour_is_not():
    array = np.zeros(SHAPE, np.uint8)
    array[5:10], array[10:15] = 1, 2
    changes = [noisy_labels(Volume(array, AFFINE), replace(LabelNoise(), missing=0.5), seed=s) for s in range(40)]
    lonely = next(noisy for noisy, record in changes if [c.label for c in record] == [2])
    np.testing.assert_array_equal(lonely.array, np.where(array == 1, 1, 0))


def test_a_wandering_surface_keeps_the_volume_on_average(one):
    volumes, dice = [], []
    for seed in range(80):
        noisy, (change,) = noisy_labels(one, only("wander", wander_mm=(3.0, 3.0)), seed=seed)
        volumes.append(change.voxels_after / change.voxels_before)
        dice.append(change.dice)
        assert (noisy.array > 0).sum() == change.voxels_after
    # Of a ball with surface displacement of SD 3 mm the mean volume is 1 + 3 (3/14)² = 1.14.
    assert np.mean(volumes) == pytest.approx(1.14, abs=0.12)
    assert 0.6 < np.mean(dice) < 0.95


def test_left_and_right_and_neighbouring_vertebrae_are_swapped():
    names = {1: "kidney_right", 2: "kidney_left", 5: "vertebrae_L2", 6: "vertebrae_L1", 7: "vertebrae_T12", 9: "liver"}
    array = np.zeros(SHAPE, np.uint8)
    for number, label in enumerate(names):
        array[6 * number : 6 * number + 5] = label
    noisy, changes = noisy_labels(Volume(array, AFFINE), only("swapped"), seed=3, names=names)
    other = {1: 2, 2: 1, 5: 6, 6: 5, 7: 7, 9: 9}
    for label, now in other.items():
        assert (noisy.array[array == label] == now).all()
    assert {(c.label, c.partner) for c in changes} == {(1, 2), (2, 1), (5, 6), (6, 5)}
    assert {c.dice for c in changes} == {0.0}


def test_errors_strike_at_their_rates():
    noise = LabelNoise(erosion=0.2, dilation=0.1, shift=0.15, missing=0.05, wander=0.2, swapped=0.1)
    n = 4000
    names = {k: f"organ{k // 2}_{'left' if k % 2 else 'right'}" for k in range(2, n + 2)}
    paired = Counter(change.kind for change in draw_changes(names, noise, seed=4))
    single = Counter(change.kind for change in draw_changes({k: f"organ{k}" for k in names}, noise, seed=5))
    for kind in KINDS:
        rate = getattr(noise, kind)
        # Four standard deviations; a pair is drawn at once.
        assert paired[kind] / n == pytest.approx(rate, abs=4 * np.sqrt(2 * rate * (1 - rate) / n)), kind
        wanted = 0.0 if kind == "swapped" else rate
        assert single[kind] / n == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / n) + 1e-9), kind


@given(st.integers(0, 2**31), st.sets(st.integers(1, 60), min_size=1, max_size=12))
def test_an_error_depends_on_the_seed_and_on_nothing_else_in_the_map(seed, labels):
    noise = LabelNoise(erosion=0.3, shift=0.3, wander=0.3)
    together = {c.label: c for c in draw_changes({n: f"organ {n}" for n in labels}, noise, seed=seed)}
    alone = {}
    for n in labels:
        alone.update({c.label: c for c in draw_changes({n: f"organ {n}"}, noise, seed=seed)})
    assert together == alone


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(one):
    noise = LabelNoise(erosion=0.25, dilation=0.25, shift=0.25, wander=0.25)
    first, again, other = (noisy_labels(one, noise, seed=seed)[0].array for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.dtype == np.uint8


def test_a_structure_at_the_edge_of_the_image_stays_inside():
    array = np.zeros(SHAPE, np.uint8)
    array[:4, :4, :4] = 1
    for kind in ("dilation", "shift", "wander"):
        noisy, (change,) = noisy_labels(Volume(array, AFFINE), only(kind), seed=1)
        assert noisy.shape == SHAPE
        assert change.voxels_after == (noisy.array == 1).sum()


def test_what_fills_the_body_gets_no_errors(one):
    noisy, changes = noisy_labels(one, only("missing"), seed=0, names={3: "skeletal_muscle"})
    np.testing.assert_array_equal(noisy.array, one.array)
    assert changes == ()


def test_rates_are_parsed():
    assert LabelNoise.parse("erosion=0.2, missing=0.05") == LabelNoise(erosion=0.2, missing=0.05)
    assert not LabelNoise.parse("").active
    assert LabelNoise.parse("wander=1").active


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LabelNoise.parse("rot=0.2"), "is no label error"),
        (lambda: LabelNoise.parse("erosion=0.2,erosion=0.1"), "once"),
        (lambda: LabelNoise.parse("erosion"), "must be a number"),
        (lambda: LabelNoise(erosion=0.6, missing=0.6), "1 at most"),
        (lambda: LabelNoise(shift=-0.1), "between 0 and 1"),
        (lambda: LabelNoise(depth_mm=(5.0, 2.0)), "depth_mm"),
        (lambda: LabelNoise(wander_length_mm=0.0), "wander_length_mm"),
    ],
)
def test_settings_that_mean_nothing_are_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_a_map_of_fractions_and_a_negative_seed_are_refused(one):
    with pytest.raises(UsageError, match="whole numbers"):
        noisy_labels(one.with_array(one.array * 0.5), LabelNoise(), seed=0)
    with pytest.raises(UsageError, match="seed"):
        noisy_labels(one, LabelNoise(), seed=-1)
