"""Each event alone, on arrays whose answer is known."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from uptake.sampling import augment
from uptake.sampling.augment import (
    NO_AUGMENTATION,
    AugmentRules,
    apply_intensity,
    blurred,
    coarsened,
    draw_sample,
    gamma_keeping_statistics,
    rotation,
    two_sided,
)

CHANNELS = ("ct", "pet")
ONE = np.ones(2)
CT = 0


@pytest.fixture
def neutral():
    return draw_sample(np.random.default_rng(0), NO_AUGMENTATION, CHANNELS, (3.0, 2.0, 2.0))


def apply_geometry(channels, labels, draw, window, *, ct):
    """With a single label map."""
    image, maps = augment.apply_geometry(channels, labels[None], draw, window, ct=ct)
    return image, maps[0]


def cut(draw, window, *, seed=0, lesion=0.2):
    """Return random channels and labels of the extent that the draw asks for, and their middle `window`."""
    extent = draw.extent(window)
    rng = np.random.default_rng(seed)
    channels = torch.from_numpy(rng.normal(size=(2, *extent)).astype(np.float32))
    labels = torch.from_numpy((rng.random(extent) < lesion).astype(np.uint8))
    middle = tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(extent, window, strict=True))
    return channels, labels, channels[(slice(None), *middle)], labels[middle]


def draws(rules, n=400, channels=CHANNELS, spacing=(3.0, 2.0, 2.0), seed=0):
    rng = np.random.default_rng(seed)
    return [draw_sample(rng, rules, channels, spacing) for _ in range(n)]


# What is drawn


def test_the_defaults_are_the_published_ones():
    rules = AugmentRules()
    assert (rules.misalign_rotation_p, rules.misalign_rotation_deg) == (0.1, 5.0)
    assert (rules.misalign_shift_p, rules.misalign_shift) == (0.1, (0, 2, 2))
    assert (rules.rotation_p, rules.rotation_deg, rules.scale_p, rules.scale) == (0.2, 30.0, 0.2, (0.7, 1.4))
    assert (rules.noise_p, rules.noise_sd) == (0.1, (0.0, 0.1))
    assert (rules.blur_p, rules.blur_channel_p, rules.blur_sigma) == (0.2, 0.5, (0.5, 1.0))
    assert (rules.brightness_p, rules.brightness) == (rules.contrast_p, rules.contrast) == (0.15, (0.75, 1.25))
    assert rules.low_resolution_p == 0.0
    assert (rules.inverted_gamma_p, rules.gamma_p, rules.gamma) == (0.1, 0.3, (0.7, 1.5))
    assert (rules.mirror_p, rules.ct_dropout_p, rules.in_mm) == (0.5, 0.0, False)


def test_no_augmentation_switches_every_probability_off():
    off = [f.name for f in fields(AugmentRules) if f.name.endswith("_p") and getattr(NO_AUGMENTATION, f.name)]
    assert {name.removesuffix("_channel_p") for name in off} <= {"blur", "low_resolution"}  # inner probabilities


def test_events_come_as_often_as_the_rules_say():
    found = draws(AugmentRules(ct_dropout_p=0.3, low_resolution_p=0.25), n=4000)
    moved = np.mean([d.matrix is not None for d in found])
    assert moved == pytest.approx(1 - 0.8**2 * 0.9**2, abs=0.02)
    assert np.mean([d.ct_shift.any() for d in found]) == pytest.approx(0.1 * 24 / 25, abs=0.015)
    assert np.mean([not np.array_equal(d.ct_matrix, np.eye(3)) for d in found]) == pytest.approx(0.1, abs=0.015)
    assert np.mean([d.noise_sd > 0 for d in found]) == pytest.approx(0.1, abs=0.015)
    assert np.mean([d.blur.any(1) for d in found], axis=0) == pytest.approx([0.1, 0.1], abs=0.015)
    assert np.mean([d.zoom < 1 for d in found], axis=0) == pytest.approx([0.125, 0.125], abs=0.015)
    for name, p in (("brightness", 0.15), ("contrast", 0.15), ("inverted_gamma", 0.1), ("gamma", 0.3)):
        assert np.mean([getattr(d, name) != 1 for d in found], axis=0) == pytest.approx([p, p], abs=0.02)
    assert np.mean([d.mirror for d in found], axis=0) == pytest.approx([0.5] * 3, abs=0.02)
    assert np.mean([d.drop_ct for d in found]) == pytest.approx(0.3, abs=0.02)


def test_published_shifts_are_25_vectors_that_never_leave_the_slice():
    found = np.array([d.ct_shift for d in draws(replace(NO_AUGMENTATION, misalign_shift_p=1.0), n=1500)])
    vectors, counts = np.unique(found, axis=0, return_counts=True)
    assert len(vectors) == 25 and not vectors[:, 0].any()
    assert vectors[:, 1:].min() == -2 and vectors[:, 1:].max() == 2
    assert counts.min() > 30


def test_factors_lie_on_either_side_of_one_with_equal_probability():
    factors = two_sided(np.random.default_rng(0), (0.7, 1.5), 20_000)
    assert factors.min() >= 0.7 and factors.max() <= 1.5
    assert (factors < 1).mean() == pytest.approx(0.5, abs=0.015)
    assert factors[factors < 1].mean() == pytest.approx(0.85, abs=0.01)
    assert factors[factors > 1].mean() == pytest.approx(1.25, abs=0.01)


@pytest.mark.parametrize("in_mm", [False, True])
def test_geometry_is_a_rotation_within_limits_times_a_scale(in_mm):
    rules = replace(NO_AUGMENTATION, rotation_p=1.0, scale_p=1.0, in_mm=in_mm)
    to_mm = np.diag([3.0, 2.0, 2.0]) if in_mm else np.eye(3)
    for draw in draws(rules, n=100):
        matrix = to_mm @ draw.matrix @ np.linalg.inv(to_mm)
        factor = np.cbrt(np.linalg.det(matrix))
        assert 0.7 <= factor <= 1.4
        assert matrix @ matrix.T == pytest.approx(factor**2 * np.eye(3))


@pytest.mark.parametrize("in_mm", [False, True])
def test_misalignment_turns_the_ct_rigidly_by_no_more_than_five_degrees(in_mm):
    rules = replace(NO_AUGMENTATION, misalign_rotation_p=1.0, in_mm=in_mm)
    to_mm = np.diag([3.0, 2.0, 2.0]) if in_mm else np.eye(3)
    for draw in draws(rules, n=100):
        assert np.array_equal(draw.matrix, np.eye(3))
        turn = to_mm @ draw.ct_matrix @ np.linalg.inv(to_mm)
        assert turn @ turn.T == pytest.approx(np.eye(3)) and np.linalg.det(turn) > 0
        assert 0 < np.rad2deg(np.arccos((np.trace(turn) - 1) / 2)) < 5 * np.sqrt(3) + 0.1


def test_a_model_without_ct_is_never_misaligned():
    rules = replace(NO_AUGMENTATION, misalign_shift_p=1.0, misalign_rotation_p=1.0)
    assert all(d.matrix is None for d in draws(rules, n=20, channels=("pet",)))


def test_rotation_by_hand():
    assert rotation(np.zeros(3)) == pytest.approx(np.eye(3))
    # About the first axis, a quarter turn takes the second axis to the third.
    assert rotation(np.array([90.0, 0, 0])) @ (0, 1, 0) == pytest.approx([0, 0, 1])
    # First axis first, third axis last.
    both = rotation(np.array([90.0, 0, 90.0]))
    assert both == pytest.approx(rotation(np.array([0, 0, 90.0])) @ rotation(np.array([90.0, 0, 0])))
    assert np.linalg.det(rotation(np.array([10.0, 20, 30]))) == pytest.approx(1.0)


# Geometry applied


def test_a_neutral_draw_is_an_exact_copy(neutral):
    assert neutral.matrix is None and neutral.extent((5, 6, 7)) == (5, 6, 7)
    channels, labels, *_ = cut(neutral, (5, 6, 7))
    image, mask = apply_geometry(channels, labels, neutral, (5, 6, 7), ct=CT)
    assert torch.equal(image, channels) and torch.equal(mask, labels)
    batch = torch.stack([channels, channels * 2])
    assert torch.equal(apply_intensity(batch, [neutral, neutral], ct=CT), batch)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_quarter_turns_equal_rot90(neutral, axis, quarter_turns):
    angles = np.zeros(3)
    angles[axis] = 90 * quarter_turns  # takes an output position to a source position: the image turns backwards
    draw = replace(neutral, matrix=rotation(angles))
    channels, labels, middle, middle_labels = cut(draw, (6, 6, 6))
    image, mask = apply_geometry(channels, labels, draw, (6, 6, 6), ct=CT)
    a, b = [other for other in range(3) if other != axis]
    expected = np.rot90(middle.numpy(), -quarter_turns, axes=(a + 1, b + 1))
    assert np.abs(image.numpy() - expected).max() < 1e-4
    assert np.array_equal(mask.numpy(), np.rot90(middle_labels.numpy(), -quarter_turns, axes=(a, b)))


@pytest.mark.parametrize("shift", [(0, 2, -1), (0, -2, 0), (1, 0, 0)])
def test_a_shift_moves_the_ct_by_whole_voxels_and_nothing_else(neutral, shift):
    draw = replace(neutral, matrix=np.eye(3), ct_shift=np.array(shift, float))
    window = (6, 7, 8)
    channels, labels, middle, middle_labels = cut(draw, window)
    image, mask = apply_geometry(channels, labels, draw, window, ct=CT)
    lower = [(n - w) // 2 - s for n, w, s in zip(channels.shape[1:], window, shift, strict=True)]
    moved = channels[CT][tuple(slice(low, low + w) for low, w in zip(lower, window, strict=True))]
    assert torch.allclose(image[CT], moved, atol=1e-4)
    assert not torch.allclose(image[CT], middle[CT], atol=0.1)
    assert torch.allclose(image[1], middle[1], atol=1e-4)
    assert torch.equal(mask, middle_labels)


def test_a_shifted_ct_is_zero_where_the_case_ends(neutral):
    draw = replace(neutral, matrix=np.eye(3), ct_shift=np.array([0.0, 2.0, 0.0]))
    extent = draw.extent((4, 6, 4))
    channels = torch.zeros((2, *extent))
    lower = (extent[1] - 6) // 2
    channels[:, :, lower : lower + 6] = 1.0  # the case fills the window and nothing beyond
    image, _ = apply_geometry(channels, torch.zeros(extent, dtype=torch.uint8), draw, (4, 6, 4), ct=CT)
    assert image[CT, 2, :, 2].tolist() == pytest.approx([0, 0, 1, 1, 1, 1], abs=1e-5)
    assert image[1, 2, :, 2].tolist() == pytest.approx([1] * 6, abs=1e-5)


def test_a_ct_is_shifted_after_it_was_turned(neutral):
    draw = replace(
        neutral,
        matrix=np.eye(3),
        ct_matrix=rotation(np.array([90.0, 0, 0])),
        ct_shift=np.array([0.0, 2.0, 0.0]),
    )
    extent = (9, 16, 16)
    channels = torch.randn(2, *extent, generator=torch.Generator().manual_seed(3))
    image, _ = apply_geometry(channels, torch.zeros(extent, dtype=torch.uint8), draw, (5, 6, 6), ct=CT)
    shifted = np.roll(np.rot90(channels[CT].numpy(), -1, axes=(1, 2)), 2, axis=1)
    assert np.abs(image[CT].numpy() - shifted[2:7, 5:11, 5:11]).max() < 1e-4


def test_a_rotated_ct_turns_about_the_centre_and_nothing_else_does(neutral):
    draw = replace(neutral, matrix=np.eye(3), ct_matrix=rotation(np.array([90.0, 0, 0])))
    channels, labels, middle, middle_labels = cut(draw, (5, 6, 6))
    image, mask = apply_geometry(channels, labels, draw, (5, 6, 6), ct=CT)
    assert np.abs(image[CT].numpy() - np.rot90(middle[CT].numpy(), -1, axes=(1, 2))).max() < 1e-4
    assert torch.allclose(image[1], middle[1], atol=1e-4) and torch.equal(mask, middle_labels)


@pytest.mark.parametrize("mirror", [(True, False, False), (False, True, True), (True, True, True)])
def test_mirroring_flips_channels_and_labels_alike_and_exactly(neutral, mirror):
    draw = replace(neutral, mirror=mirror)
    channels, labels, *_ = cut(draw, (4, 5, 6))
    image, mask = apply_geometry(channels, labels, draw, (4, 5, 6), ct=CT)
    axes = [axis for axis, flip in enumerate(mirror) if flip]
    assert np.array_equal(image.numpy(), np.flip(channels.numpy(), [a + 1 for a in axes]))
    assert np.array_equal(mask.numpy(), np.flip(labels.numpy(), axes))


@pytest.mark.parametrize(("factor", "voxels"), [(1.4, 9), (0.7, 19), (1.0, 13)])
def test_a_scale_above_one_shrinks_objects(neutral, factor, voxels):
    draw = replace(neutral, matrix=factor * np.eye(3))
    extent = draw.extent((31, 31, 31))
    labels = torch.zeros(extent, dtype=torch.uint8)
    c = extent[0] // 2
    labels[c - 6 : c + 7, c - 6 : c + 7, c - 6 : c + 7] = 1
    image, mask = apply_geometry(labels[None].repeat(2, 1, 1, 1).float(), labels, draw, (31, 31, 31), ct=CT)
    assert int(mask.amax((1, 2)).sum()) == voxels
    assert image.min() >= 0 and image.max() <= 1 + 1e-5


def test_labels_with_several_numbers_stay_whole_numbers(neutral):
    draw = replace(neutral, matrix=rotation(np.array([13.0, -20.0, 7.0])))
    labels = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 4], draw.extent((6, 6, 6))).astype(np.uint8))
    _, mask = apply_geometry(torch.zeros((2, *labels.shape)), labels, draw, (6, 6, 6), ct=CT)
    assert mask.dtype == torch.uint8 and set(mask.unique().tolist()) <= {0, 1, 4}


def test_a_window_without_labels_stays_without(neutral):
    draw = replace(neutral, matrix=rotation(np.array([13.0, -20.0, 7.0])))
    channels, labels, *_ = cut(draw, (5, 5, 5), lesion=0.0)
    _, mask = apply_geometry(channels, labels, draw, (5, 5, 5), ct=CT)
    assert mask.shape == (5, 5, 5) and mask.dtype == torch.uint8 and not mask.any()


def test_the_extent_is_enough_that_nothing_beyond_it_is_asked_for():
    """A case of ones fills the extent; had the draw reached beyond it, zeros would have come in."""
    rules = AugmentRules(rotation_p=0.7, scale_p=0.7, misalign_rotation_p=0.7, misalign_shift_p=0.7)
    window = (6, 9, 12)
    for draw in draws(rules, n=60):
        extent = draw.extent(window)
        assert all((n - w) % 2 == 0 for n, w in zip(extent, window, strict=True))
        image, _ = apply_geometry(torch.ones((2, *extent)), torch.zeros(extent, dtype=torch.uint8), draw, window, ct=CT)
        assert image.min() > 0.999


# Intensities applied


def batch_of(n=1, shape=(6, 7, 8), seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(1.0, 2.0, (n, 2, *shape)).astype(np.float32))


def test_the_input_batch_is_left_alone(neutral):
    batch = batch_of()
    before = batch.clone()
    draw = replace(
        neutral, noise_sd=0.1, blur=np.ones((2, 3)), brightness=2 * ONE, contrast=1.2 * ONE, gamma=1.3 * ONE,
        inverted_gamma=0.8 * ONE, zoom=0.6 * ONE, drop_ct=True,
    )  # fmt: skip
    assert not torch.equal(apply_intensity(batch, [draw], ct=CT), before)
    assert torch.equal(batch, before)


def test_noise_is_one_field_for_both_channels_with_the_drawn_deviation(neutral):
    batch = batch_of(shape=(20, 20, 20))
    draw = replace(neutral, noise_sd=0.08, noise_seed=3)
    difference = apply_intensity(batch, [draw], ct=CT) - batch
    assert torch.allclose(difference[0, 0], difference[0, 1], atol=1e-5)
    assert float(difference.std()) == pytest.approx(0.08, rel=0.05)
    assert torch.equal(apply_intensity(batch, [draw], ct=CT) - batch, difference)
    other = apply_intensity(batch, [replace(draw, noise_seed=4)], ct=CT) - batch
    assert not torch.allclose(other, difference, atol=0.01)


def test_brightness_multiplies_each_channel_of_each_sample_by_its_own_factor(neutral):
    batch = batch_of(2)
    changed = replace(neutral, brightness=np.array([0.75, 1.25]))
    result = apply_intensity(batch, [neutral, changed], ct=CT)
    assert torch.equal(result[0], batch[0])
    assert torch.allclose(result[1, 0], batch[1, 0] * 0.75) and torch.allclose(result[1, 1], batch[1, 1] * 1.25)


def test_contrast_by_hand_clamps_to_the_range_of_the_image(neutral):
    batch = torch.tensor([0.0, 1.0, 2.0, 5.0]).repeat(2, 1).reshape(1, 2, 1, 1, 4)
    result = apply_intensity(batch, [replace(neutral, contrast=np.array([1.25, 0.75]))], ct=CT)[0]
    assert result[0].ravel().tolist() == pytest.approx([0.0, 0.75, 2.0, 5.0])  # mean 2: -0.5 and 5.75 are clamped
    assert result[1].ravel().tolist() == pytest.approx([0.5, 1.25, 2.0, 4.25])


@pytest.mark.parametrize("exponent", [0.7, 1.5])
@pytest.mark.parametrize("name", ["gamma", "inverted_gamma"])
def test_gamma_keeps_mean_and_deviation_and_bends_the_rest(neutral, name, exponent):
    batch = batch_of(shape=(9, 9, 9))
    result = apply_intensity(batch, [replace(neutral, **{name: np.array([exponent, 1.0])})], ct=CT)
    assert torch.equal(result[:, 1], batch[:, 1])
    assert float(result[0, 0].mean()) == pytest.approx(float(batch[0, 0].mean()), abs=1e-4)
    assert float(result[0, 0].std()) == pytest.approx(float(batch[0, 0].std()), rel=1e-4)
    order = batch[0, 0].ravel().argsort()
    assert (result[0, 0].ravel()[order].diff() >= -1e-5).all()
    # Convex bending (gamma above 1) pulls the median below where it was; of the negative, the other way round.
    lower = float(result[0, 0].median()) < float(batch[0, 0].median())
    assert lower == ((exponent > 1) == (name == "gamma"))


def test_gamma_by_hand():
    bent = gamma_keeping_statistics(torch.tensor([0.0, 1.0, 2.0]), 2.0)
    raw = np.array([0.0, 0.5, 2.0])  # ((x - 0) / 2)² · 2
    expected = (raw - raw.mean()) / raw.std(ddof=1) * 1.0 + 1.0
    assert bent.tolist() == pytest.approx(expected)


def test_gamma_of_a_constant_image_stays_finite():
    assert torch.equal(gamma_keeping_statistics(torch.full((2, 2, 2), 3.0), 1.5), torch.full((2, 2, 2), 3.0))


def test_blur_of_an_impulse_is_the_product_of_normalised_gaussians():
    image = torch.zeros((9, 9, 9))
    image[4, 4, 4] = 1.0
    result = blurred(image, np.array([1.0, 0.5, 0.8]))
    # Odd kernel nearest 6σ + 0.5: 7, 5 and 5 voxels.
    kernels = []
    for sigma, radius in ((1.0, 3), (0.5, 2), (0.8, 2)):
        kernel = np.zeros(9)
        kernel[4 - radius : 5 + radius] = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        kernels.append(kernel / kernel.sum())
    assert np.abs(result.numpy() - np.einsum("i,j,k->ijk", *kernels)).max() < 1e-6


def test_blur_keeps_constants_and_nearly_the_mean():
    assert torch.allclose(blurred(torch.full((5, 6, 3), 2.5), np.array([1.0, 0.7, 0.5])), torch.tensor(2.5))
    image = batch_of(shape=(24, 24, 24))[0, 0]
    smooth = blurred(image, np.array([0.9, 0.9, 0.9]))
    assert float(smooth.mean()) == pytest.approx(float(image.mean()), abs=0.02)
    assert float(smooth.std()) < 0.5 * float(image.std())


def test_only_channels_with_a_width_are_blurred(neutral):
    batch = batch_of()
    result = apply_intensity(batch, [replace(neutral, blur=np.array([[0.0] * 3, [0.8] * 3]))], ct=CT)
    assert torch.equal(result[:, 0], batch[:, 0])
    assert torch.equal(result[0, 1], blurred(batch[0, 1], np.array([0.8] * 3)))


def test_low_resolution_loses_detail_and_keeps_the_shape():
    checks = torch.from_numpy((np.indices((8, 8, 8)).sum(0) % 2).astype(np.float32))
    coarse = coarsened(checks, 0.5)
    assert coarse.shape == (8, 8, 8) and float(coarse.std()) < 1e-6
    assert torch.equal(coarsened(checks, 1.0), checks)


def test_ct_dropout_zeroes_the_ct_of_its_sample_alone(neutral):
    batch = batch_of(2)
    result = apply_intensity(batch, [replace(neutral, drop_ct=True, brightness=np.array([1.0, 2.0])), neutral], ct=CT)
    assert not result[0, 0].any()
    assert torch.equal(result[0, 1], batch[0, 1] * 2) and torch.equal(result[1], batch[1])
    assert torch.equal(apply_intensity(batch, [replace(neutral, drop_ct=True), neutral], ct=None), batch)


def test_label_maps_move_alike_and_each_keeps_its_own_numbers(neutral):
    turn = rotation(np.array([10.0, 0.0, 20.0]))
    draw = replace(neutral, matrix=turn, mirror=(False, True, False))
    extent = draw.extent((6, 6, 6))
    first = torch.from_numpy(np.random.default_rng(0).choice([0, 1], extent).astype(np.uint8))
    maps = torch.stack([first, first * 200])
    _, moved = augment.apply_geometry(torch.zeros((2, *extent)), maps, draw, (6, 6, 6), ct=CT)
    assert set(moved[1].unique().tolist()) == {0, 200}
    assert torch.equal(moved[1], moved[0] * 200)
