"""What is measured on a data set, and what is decided from it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from uptake.cases import Case
from uptake.core.errors import InputError, UsageError
from uptake.geometry import Volume
from uptake.harmonise import plan as planning
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.plan import Fingerprint, Intensities, Plan, channel_on_pet_grid, fingerprint, plan_from

VALUES = Intensities(1.0, 50.0, 7.0, 8.0, 2.5, 0.6)


def found_with(spacings, shapes):
    return Fingerprint(tuple(spacings), tuple(shapes), {"pet": VALUES, "ct": VALUES}, len(spacings), 1)


def flat_case(suv, lesion_voxels, *, hu=None, spacing=(4.0, 4.0, 3.0), shape=(6, 5, 4), case_id="flat"):
    """Return an RAS case of one SUV with a number of lesion voxels."""
    affine = np.diag([*spacing, 1.0])
    mask = np.zeros(shape, np.uint8)
    mask.ravel()[:lesion_voxels] = 1
    ct = None if hu is None else Volume(np.full(shape, hu, np.float32), affine)
    return Case(case_id, Volume(np.full(shape, suv, np.float32), affine), ct, Volume(mask, affine))


def test_every_lesion_bearing_case_weighs_the_same():
    found = fingerprint([flat_case(2.0, 1), flat_case(10.0, 100)], channels=("pet",))
    pet = found.intensities["pet"]
    assert (pet.mean, pet.std) == (6.0, 4.0)
    assert (pet.percentile_00_5, pet.percentile_99_5) == (2.0, 10.0)
    bent = np.arcsinh([2.0, 10.0])
    assert (pet.asinh_mean, pet.asinh_std) == pytest.approx((bent.mean(), bent.std()), rel=1e-6)


def test_only_lesion_voxels_count_and_lesion_free_cases_do_not():
    case = flat_case(3.0, 10)
    case.pet.array[case.lesions.array == 0] = 400.0
    bare = Case("bare", flat_case(200.0, 0).pet)
    found = fingerprint([case, flat_case(100.0, 0), bare], channels=("pet",))
    assert (found.n_cases, found.n_with_lesions) == (3, 1)
    assert (found.intensities["pet"].mean, found.intensities["pet"].std) == (3.0, 0.0)


def test_percentiles_are_those_of_the_lesion():
    pet = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    case = Case("ramp", Volume(pet, np.eye(4)), lesions=Volume(np.ones((10, 10, 10), np.uint8), np.eye(4)))
    values = fingerprint([case], channels=("pet",)).intensities["pet"]
    assert values.percentile_00_5 == pytest.approx(5, abs=1.5)
    assert values.percentile_99_5 == pytest.approx(994, abs=1.5)
    assert values.mean == pytest.approx(499.5, abs=4) and values.std == pytest.approx(288.7, abs=3)


def test_the_fingerprint_repeats_to_the_bit():
    cases = [flat_case(2.0, 7), flat_case(5.0, 9)]
    cases[0].pet.array[:] = np.random.default_rng(0).random(cases[0].pet.shape)
    assert fingerprint(cases, channels=("pet",)) == fingerprint(cases, channels=("pet",))


def test_grids_are_in_model_axis_order():
    found = fingerprint([flat_case(2.0, 1, spacing=(2.0, 3.0, 5.0), shape=(6, 5, 4))], channels=("pet",))
    assert found.spacings_mm == ((5.0, 3.0, 2.0),)
    assert found.shapes == ((4, 5, 6),)


def test_ct_statistics_come_from_the_cases_that_have_a_ct():
    found = fingerprint([flat_case(2.0, 5), flat_case(4.0, 5, hu=40.0)])
    assert found.intensities["ct"].mean == 40.0 and found.intensities["pet"].mean == 3.0


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "no cases to plan from"),
        ([flat_case(2.0, 0)], "none of the training cases has a lesion"),
        ([flat_case(2.0, 5)], "no training case with lesions has a ct image"),
    ],
)
def test_what_cannot_be_planned_from_is_refused(cases, message):
    with pytest.raises(InputError, match=message):
        fingerprint(cases)


def test_the_target_is_the_median_spacing_of_each_axis():
    found = found_with([(3, 2, 2), (5, 4, 4), (2, 4, 4)], [(300, 400, 400)] * 3)
    assert plan_from(found, schemes={"pet": "asinh"}).spacing_mm == (3.0, 4.0, 4.0)


def test_a_coarse_axis_of_few_voxels_takes_its_10th_percentile():
    spacings = [(10, 1.5, 1.5)] * 8 + [(5, 1.5, 1.5)] * 3
    few = found_with(spacings, [(10, 256, 256)] * 11)
    assert plan_from(few, schemes={"pet": "asinh"}).spacing_mm == (5.0, 1.5, 1.5)
    many = found_with(spacings, [(200, 256, 256)] * 11)
    assert plan_from(many, schemes={"pet": "asinh"}).spacing_mm == (10.0, 1.5, 1.5)
    near = found_with([(4.4, 1.5, 1.5)] * 8 + [(2, 1.5, 1.5)] * 3, [(10, 256, 256)] * 11)
    assert plan_from(near, schemes={"pet": "asinh"}).spacing_mm == (4.4, 1.5, 1.5)


def test_the_coarse_axis_does_not_become_finer_than_the_others():
    found = found_with([(10, 1.5, 1.5)] * 6 + [(1.0, 1.5, 1.5)] * 3, [(10, 256, 256)] * 9)
    assert plan_from(found, schemes={"pet": "asinh"}).spacing_mm == pytest.approx((1.5 + 1e-5, 1.5, 1.5))


def test_the_anisotropy_rule_counts_voxels_as_scanned():
    """90 slices in the median, a third of 256 or more; resampled to 10 mm it would be 80 and the rule would fire."""
    spacings = [(10, 2.0, 2.0), (10, 2.0, 2.0), (2, 2.0, 2.0), (2, 2.0, 2.0), (10, 2.0, 2.0)]
    shapes = [(90, 256, 256), (90, 256, 256), (400, 256, 256), (400, 256, 256), (70, 256, 256)]
    assert plan_from(found_with(spacings, shapes), schemes={"pet": "asinh"}).spacing_mm == (10.0, 2.0, 2.0)


def test_schemes_take_their_own_constants_in_the_order_given():
    found = found_with([(3, 2, 2)], [(30, 40, 40)])
    plan = plan_from(found, schemes={"ct": "clip_zscore", "pet": "asinh"}, target_spacing_mm=(4.0, 3.0, 3.0))
    assert plan.channels == (
        ChannelRule("ct", "clip_zscore", 1.0, 50.0, 7.0, 8.0),
        ChannelRule("pet", "asinh", 1.0, 50.0, 2.5, 0.6),
    )
    assert plan.spacing_mm == (4.0, 3.0, 3.0) and plan.channel_names == ("ct", "pet")


def test_a_target_spacing_of_zero_is_refused():
    with pytest.raises(UsageError, match="must be positive"):
        plan_from(found_with([(3, 2, 2)], [(30, 40, 40)]), schemes={}, target_spacing_mm=(3.0, 0.0, 2.0))


def test_a_plan_survives_json():
    plan = Plan((ChannelRule("pet", "asinh", 1.0, 50.0, 2.5, 0.1 + 0.2),), (3.0, 2.0364201068878174, 2.0), "RAS", 1, 3)
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


@pytest.mark.parametrize(
    ("orientation", "transpose", "permutation", "flips"),
    [
        ("LAS", (0, 1, 2), (2, 1, 0), (False, False, True)),  # RAS stored: z, y, and x turned round
        ("RAS", (0, 1, 2), (2, 1, 0), (False, False, False)),
        ("LAS", (1, 0, 2), (1, 2, 0), (False, False, True)),
        ("stored", (0, 1, 2), (2, 1, 0), (False, False, False)),
        ("stored", (2, 0, 1), (0, 2, 1), (False, False, False)),
    ],
)
def test_model_axes_start_at_z_and_may_be_transposed(orientation, transpose, permutation, flips):
    plan = Plan((), (1.0, 1.0, 1.0), orientation, transpose=transpose)
    change = plan.axis_change(np.eye(4))
    assert (change.permutation, change.flips) == (permutation, flips)


def test_as_stored_heeds_no_direction():
    plan = Plan((), (1.0, 1.0, 1.0), "stored")
    assert plan.axis_change(np.diag([-1.0, -2.0, 3.0, 1.0])) == plan.axis_change(np.eye(4))


def test_a_transpose_that_is_none():
    with pytest.raises(UsageError, match="no order of the three axes"):
        Plan((), (1.0, 1.0, 1.0), transpose=(0, 1, 1))


def test_thick_slices_are_separate_only_where_the_plan_says_so():
    assert Plan((), (1.0, 1.0, 1.0)).separate_axis((5.0, 1.0, 1.0), (1.0, 1.0, 1.0)) is None
    assert Plan((), (1.0, 1.0, 1.0), separate_z=True).separate_axis((5.0, 1.0, 1.0), (1.0, 1.0, 1.0)) == 0


def test_a_plan_comes_back_from_json():
    plan = Plan((), (1.0, 2.0, 3.0), "stored", transpose=(1, 0, 2), separate_z=True)
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


def test_an_unknown_channel_is_refused():
    with pytest.raises(UsageError, match="no channel 'mr'"):
        channel_on_pet_grid(flat_case(1.0, 1), "mr")


def test_more_voxels_may_be_drawn_than_a_lesion_has(monkeypatch):
    monkeypatch.setattr(planning, "FOREGROUND_SAMPLES_PER_CASE", 7)
    assert fingerprint([flat_case(2.0, 1)], channels=("pet",)).intensities["pet"].mean == 2.0
