"""Onto the model's grid and back: nothing is lost that resampling does not have to lose."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from uptake.cases import Case, Prediction
from uptake.core.errors import GeometryError, ModelError, UsageError
from uptake.geometry import Volume
from uptake.geometry.affine import compose
from uptake.geometry.orientation import reorient
from uptake.harmonise.normalise import ChannelRule, normalise
from uptake.harmonise.onto import grid_shape, harmonise
from uptake.harmonise.restore import restore, restore_labels

CODES = [
    "".join(letters)
    for order in permutations(("LR", "PA", "IS"))
    for letters in product(*order)
]  # fmt: skip


def one_hot(labels):
    logits = np.stack([labels == 0, labels == 1]).astype(np.float32)
    return Prediction(logits, 1, 0)


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((263, 256, 256), (3.27, 2.734375, 2.734375), (287, 344, 344)),
        ((409, 200, 200), (2.0, 4.07283, 4.07283), (273, 400, 400)),
        ((165, 168, 168), (5.0, 4.07283, 4.07283), (275, 336, 336)),
    ],
)
def test_grid_shapes_of_the_published_cases(shape, spacing, expected):
    assert grid_shape(shape, np.array(spacing), (3.0, 2.0364201068878174, 2.0364201068878174)) == expected


def test_grid_shape_rounds_half_to_even_and_keeps_one_voxel():
    assert grid_shape((5, 7, 1), np.array([1.0, 1.0, 1.0]), (2.0, 2.0, 9.0)) == (2, 4, 1)


def test_all_48_orientations_are_there():
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("code", CODES)
def test_at_the_models_spacing_a_mask_comes_back_bit_for_bit(code, make_case, make_plan):
    """Source grids flipped, permuted and oblique; model grid LAS as (z, y, x)."""
    upright = make_case()
    case = Case(
        "case", reorient(upright.pet, code), reorient(upright.ct, code), lesions=reorient(upright.lesions, code)
    )
    harmonised, trace = harmonise(case, make_plan((5.0, 3.0, 2.0)))
    assert harmonised.channels.shape == (2, 5, 6, 7)
    back = restore_labels(harmonised.labels, trace).labels
    assert np.array_equal(back.array, case.lesions.array)
    assert np.array_equal(back.affine, case.pet.affine)
    assert np.array_equal(restore(one_hot(harmonised.labels), trace).labels.array, case.lesions.array)


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "SPL", "IAR"])
def test_copies_in_other_orientations_give_identical_channels(code, make_case, make_plan):
    upright = make_case()
    plan = make_plan((2.2, 2.9, 3.4))
    expected, _ = harmonise(upright, plan)
    copy = Case(
        "case", reorient(upright.pet, code), reorient(upright.ct, code), lesions=reorient(upright.lesions, code)
    )
    found, _ = harmonise(copy, plan)
    assert np.array_equal(found.channels, expected.channels)
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.body, expected.body)


def test_axes_of_the_model_grid_run_up_forward_and_to_the_left(make_plan):
    """One hot voxel at the patient's upper right back of an RAS grid: last in z, first in y and first in x."""
    pet = np.full((4, 5, 6), 0.5, np.float32)
    pet[3, 0, 5] = 9.0
    rule = ChannelRule("pet", "zscore", 0, 1, 0, 1)
    case = Case("case", Volume(pet, np.diag([2.0, 2.0, 2.0, 1.0])))
    harmonised, trace = harmonise(case, make_plan((2.0, 2.0, 2.0), channels=(rule,)))
    assert np.unravel_index(harmonised.channels[0].argmax(), (6, 5, 4)) == (5, 0, 0)
    assert trace.spacing_mm == (2.0, 2.0, 2.0)


def test_channels_follow_the_plan_not_the_case(make_case, make_plan):
    case = make_case(affine=np.diag([-2.0, 3.0, 5.0, 1.0]))  # LAS already
    plan = make_plan((5.0, 3.0, 2.0))
    harmonised, _ = harmonise(case, plan)
    for channel, rule, image in zip(harmonised.channels, plan.channels, (case.ct, case.pet), strict=True):
        assert np.array_equal(channel, normalise(image.array.T, rule))


def test_a_ball_keeps_its_shape_through_another_spacing(make_plan):
    shape = (28, 30, 20)
    affine = compose(np.array([3.0, 3.0, 4.0]), np.diag([-1.0, -1.0, 1.0]), np.array([40.0, 45.0, -40.0]))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    world = Volume(np.zeros(shape), affine).world_of(index)
    ball = (np.linalg.norm(world - world.reshape(-1, 3).mean(0), axis=-1) < 24).astype(np.uint8)
    pet = np.where(ball, 8.0, 0.7).astype(np.float32)
    case = Case("ball", Volume(pet, affine), Volume(np.full(shape, 40.0, np.float32), affine), Volume(ball, affine))
    harmonised, trace = harmonise(case, make_plan((3.0, 2.1, 2.1)))
    assert harmonised.labels.shape == (27, 43, 40)
    for back in (restore_labels(harmonised.labels, trace), restore(one_hot(harmonised.labels), trace)):
        found = back.labels.array
        assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.95


def test_an_empty_rim_is_cropped_and_comes_back_as_background(make_plan):
    pet, mask = np.zeros((8, 7, 6), np.float32), np.zeros((8, 7, 6), np.uint8)
    pet[2:6, 1:5, 3:5] = 4.0
    mask[3, 2, 4] = 1
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    case = Case("rim", Volume(pet, affine), lesions=Volume(mask, affine))
    harmonised, trace = harmonise(case, make_plan((2.0, 2.0, 2.0)))
    assert harmonised.channels.shape[1:] == (2, 4, 4)
    everything = Prediction(np.stack([np.zeros((2, 4, 4)), np.ones((2, 4, 4))]).astype(np.float32), 1, 0)
    assert np.array_equal(restore(everything, trace).labels.array, (pet > 0).astype(np.uint8))
    assert np.array_equal(restore_labels(harmonised.labels, trace).labels.array, mask)


def test_an_absent_ct_is_the_normalised_zero_and_is_named(make_case, make_plan):
    harmonised, _ = harmonise(make_case(ct=False), make_plan((5.0, 3.0, 2.0)))
    assert harmonised.absent == ("ct",)
    assert not harmonised.channels[0].any() and harmonised.channels[1].any()


def test_without_a_mask_there_are_no_labels(make_case, make_plan):
    assert harmonise(make_case(lesions=False), make_plan((5.0, 3.0, 2.0)))[0].labels is None


def test_several_lesion_numbers_are_one_label(make_case, make_plan):
    case = make_case(affine=np.diag([-2.0, 3.0, 5.0, 1.0]))
    numbered = Case("case", case.pet, case.ct, case.lesions.with_array(case.lesions.array * 3))
    assert np.array_equal(harmonise(numbered, make_plan((5.0, 3.0, 2.0)))[0].labels, case.lesions.array.T)


def test_body_is_whatever_ct_or_pet_shows_to_be_no_air(make_plan):
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    pet, hu = np.full((6, 1, 1), 0.01, np.float32), np.full((6, 1, 1), -1000.0, np.float32)
    pet[1], hu[4] = 0.3, -100.0
    harmonised, _ = harmonise(Case("body", Volume(pet, affine), Volume(hu, affine)), make_plan((2.0, 2.0, 2.0)))
    # PET is averaged over three voxels: 0.3 between two of 0.01 makes 0.107, just above the limit.
    assert harmonised.body.ravel().tolist() == [True, True, True, False, True, False]


def test_noise_scattered_in_the_air_is_not_body(make_plan):
    pet = np.full((40, 40, 40), 0.01, np.float32)
    pet[2:30, 2:30, 2:30] = 1.0
    pet[36, 36, 36] = 5.0
    harmonised, _ = harmonise(Case("noise", Volume(pet, np.diag([-2.0, 2.0, 2.0, 1.0]))), make_plan((2.0, 2.0, 2.0)))
    body = harmonised.body.T
    assert body[2:30, 2:30, 2:30].all() and not body[32:, 32:, 32:].any()


def test_ct_on_its_own_finer_grid_is_brought_to_the_pet(make_plan):
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    fine = np.diag([-2.0, 2.0, 4.0, 1.0])
    hu = np.arange(8 * 8 * 4, dtype=np.float32).reshape(8, 8, 4)
    case = Case("own grid", Volume(np.ones((4, 4, 4), np.float32), affine), Volume(hu, fine))
    rule = ChannelRule("ct", "clip_zscore", -2000, 2000, 0.0, 1.0)
    harmonised, _ = harmonise(case, make_plan((4.0, 4.0, 4.0), channels=(rule,)))
    assert np.array_equal(harmonised.channels[0], hu[::2, ::2].T)


def test_the_frame_of_reference_returns_with_the_labels(make_plan):
    pet = Volume(np.ones((3, 3, 3), np.float32), np.eye(4), frame_of_reference="1.2.3")
    _, trace = harmonise(Case("frame", pet), make_plan((1.0, 1.0, 1.0)))
    assert restore_labels(np.ones((3, 3, 3), np.uint8), trace).labels.frame_of_reference == "1.2.3"


def test_ties_of_logits_are_background(make_case, make_plan):
    harmonised, trace = harmonise(make_case(), make_plan((5.0, 3.0, 2.0)))
    level = Prediction(np.zeros((2, *harmonised.body.shape), np.float32), 1, 0)
    assert not restore(level, trace).labels.array.any()


def test_predictions_of_another_grid_are_refused(make_case, make_plan):
    _, trace = harmonise(make_case(), make_plan((5.0, 3.0, 2.0)))
    with pytest.raises(GeometryError, match=r"logits of shape \(5, 6, 8\) are not on the model grid \(5, 6, 7\)"):
        restore(Prediction(np.zeros((2, 5, 6, 8), np.float32), 1, 0), trace)
    with pytest.raises(GeometryError, match=r"labels of shape \(7, 6, 5\) are not on the model grid"):
        restore_labels(np.zeros((7, 6, 5), np.uint8), trace)


def test_a_channel_that_no_case_has_is_refused(make_case, make_plan):
    mri = ChannelRule("mr", "zscore", 0, 1, 0, 1)
    with pytest.raises(ModelError, match="the model wants a channel 'mr'"):
        harmonise(make_case(), make_plan((5.0, 3.0, 2.0), channels=(mri,)))


def test_the_full_dose_follows_the_low_dose_into_its_units_and_onto_its_grid(make_case, make_plan):
    case = make_case(ct=False)
    rule = ChannelRule("pet", "zscore", 0.0, 0.0, 0.0, 1.0)
    plan = make_plan((5.0, 3.0, 2.0), channels=(rule,))
    same, _ = harmonise(replace(case, full_dose=case.pet), plan)
    assert np.array_equal(same.target, same.channels[0])
    assert same.scales[0].mean == pytest.approx(float(case.pet.array.mean()), rel=1e-6)
    full = case.pet.with_array(case.pet.array + 2.0)
    shifted, _ = harmonise(replace(case, full_dose=full), plan)
    assert np.allclose(shifted.target - shifted.channels[0], 2.0 / same.scales[0].std, atol=1e-5)
    assert harmonise(case, plan)[0].target is None


def body_case(shape=(24, 20, 22), ct=True):
    """A body of 12 x 8 x 10 voxels (i, j, k) with a table beside it, air around."""
    hu = np.full(shape, -1000.0, np.float32)
    hu[6:18, 4:12, 5:15] = np.random.default_rng(0).normal(40.0, 30.0, (12, 8, 10))
    hu[6:18, 15:16, 5:15] = 200.0  # the table, a smaller piece
    pet = np.random.default_rng(1).uniform(0.0, 0.02, shape).astype(np.float32)
    pet[6:18, 4:12, 5:15] += 2.0
    affine = compose(np.array([2.0, 2.0, 3.0]), np.eye(3), np.zeros(3))
    return Case("case", Volume(pet, affine), Volume(hu, affine) if ct else None)


@pytest.mark.parametrize("ct", [True, False])
def test_the_crop_to_the_body_keeps_its_largest_piece_and_the_margin(make_plan, ct):
    plan = make_plan((3.0, 2.0, 2.0), [ChannelRule("pet", "zscore", 0, 0, 0, 1)], crop="body", crop_margin=3)
    _, trace = harmonise(body_case(ct=ct), plan)
    extents = [high - low for low, high in zip(trace.crop.lower, trace.crop.upper, strict=True)]
    # (z, y, x) of the body plus three voxels each side; without a CT the mean over 3³ voxels widens it by one.
    assert extents == ([16, 14, 18] if ct else [18, 16, 20])
    finer = make_plan((1.5, 2.0, 2.0), [ChannelRule("pet", "zscore", 0, 0, 0, 1)], crop="body", crop_margin=3)
    _, trace = harmonise(body_case(), finer)
    assert trace.crop.upper[0] - trace.crop.lower[0] == 10 + 2 * 2  # 3 voxels of 1.5 mm are 1.5 of 3 mm
    assert trace.resample.after[0] == 28


def test_normalised_last_a_crop_has_mean_0_and_deviation_1_whatever_the_unit(make_plan):
    rules = [ChannelRule(name, "zscore", 0, 0, 0, 1) for name in ("pet", "ct")]
    plan = make_plan((2.5, 2.2, 1.7), rules, crop="body", crop_margin=3, normalise_last=True, image_order=1)
    case = body_case()
    found, _ = harmonise(case, plan)
    for channel in found.channels:
        assert abs(channel.mean(dtype=np.float64)) < 1e-5 and abs(channel.std(dtype=np.float64) - 1) < 1e-5
    kbq = replace(case, pet=Volume(np.asarray(case.pet.array) * 1000, case.pet.affine))
    # The body is found on the CT, so nothing but the PET's scale has changed.
    np.testing.assert_allclose(harmonise(kbq, plan)[0].channels, found.channels, atol=1e-4)


def test_a_mask_cropped_to_the_body_comes_back_in_place(make_plan):
    rules = [ChannelRule("pet", "zscore", 0, 0, 0, 1)]
    plan = make_plan((3.0, 2.0, 2.0), rules, crop="body", crop_margin=1, normalise_last=True)
    mask = np.zeros((24, 20, 22), np.uint8)
    mask[8:11, 5:9, 7:12] = 1
    case = body_case()
    case = replace(case, lesions=Volume(mask, case.pet.affine))
    harmonised, trace = harmonise(case, plan)
    np.testing.assert_array_equal(restore_labels(harmonised.labels, trace).labels.array, mask)


def test_plans_that_contradict_themselves_are_refused(make_plan):
    with pytest.raises(UsageError, match="a crop is nonzero or body"):
        make_plan((2.0, 2.0, 2.0), crop="head")
    with pytest.raises(UsageError, match="normalise_last"):
        make_plan((2.0,) * 3, [ChannelRule("pet", "zscore", 0, 0, 0, 1, inside_only=True)], normalise_last=True)
