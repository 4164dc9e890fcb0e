import math

import numpy as np
import pytest

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.detection import detection, false_volumes, lesion_overlap
from uptake.evaluation.interactive import STEPS, click_curve, click_row, click_scores, clicks_to
from uptake.evaluation.overlap import dice


def test_the_area_by_hand():
    curve = click_curve([0.0, 0.5, 0.9, 0.7])
    assert curve.auc == pytest.approx(0.25 + 0.7 + 0.8) and curve.clicks == 3
    assert curve.auc_fraction == pytest.approx(1.75 / 3)
    assert (curve.initial, curve.final, curve.best) == (0.0, 0.7, 0.9)


@pytest.mark.parametrize(("protocol", "largest"), [("autopet_iv", 10.0), ("autopet_v", 5.0)])
def test_a_perfect_curve_has_the_largest_area_of_its_protocol(protocol, largest):
    assert click_curve([1.0] * STEPS[protocol], protocol=protocol).auc == largest
    with pytest.raises(InputError, match=f"{protocol} has {STEPS[protocol]} masks"):
        click_curve([1.0] * (STEPS[protocol] - 1), protocol=protocol)


def test_clicks_to_a_score():
    scores = [0.2, 0.81, 0.79, 0.85]
    assert clicks_to(scores, 0.8) == 1 and clicks_to(scores, 0.85) == 3 and clicks_to(scores, 0.2) == 0
    assert math.isnan(clicks_to(scores, 0.9)) and clicks_to(scores, 0.9, unreached="limit") == 3
    assert math.isnan(clicks_to([math.nan] * 3, 0.8, unreached="limit"))


def steps(seed=0):
    rng = np.random.default_rng(seed)
    reference = np.zeros((8, 9, 10), bool)
    reference[1:4, 1:4, 1:4] = reference[6, 6:8, 6:9] = True
    wrong = rng.random(reference.shape) < 0.05
    return [
        reference & (rng.random(reference.shape) < share) | (wrong & (rng.random(reference.shape) > share))
        for share in (0, 0.4, 0.8, 1)
    ], reference


def test_scores_are_those_of_each_mask():
    predictions, reference = steps()
    found = click_scores(iter(predictions), reference, voxel_ml=0.5)
    for step, prediction in enumerate(predictions):
        volumes = false_volumes(prediction, reference, voxel_ml=0.5)
        assert found.dice[step] == dice(prediction, reference)
        assert found.lesion_f1[step] == detection(lesion_overlap(prediction, reference)).f1
        assert (found.fp_volume_ml[step], found.fn_volume_ml[step]) == (
            volumes["fp_volume_ml"],
            volumes["fn_volume_ml"],
        )
    assert found.dice[-1] == found.lesion_f1[-1] == 1.0
    row = click_row(found)
    assert row["dice_auc"] == click_curve(found.dice).auc and row["dice_final"] == 1.0
    assert row["clicks_to_dice_0.9"] == 3 and row["fn_volume_ml_final"] == 0.0


def test_a_lesion_free_case_keeps_its_rule():
    nothing = np.zeros((4, 4, 4), bool)
    marked = nothing.copy()
    marked[0, 0, 0] = True
    row = click_row(click_scores([marked, nothing], nothing, voxel_ml=1.0))
    assert math.isnan(row["dice_auc"]) and math.isnan(row["clicks_to_dice_0.8"]) and row["fp_volume_ml_auc"] == 0.5
    row = click_row(click_scores([marked, nothing], nothing, voxel_ml=1.0, empty="one"))
    assert row["dice_auc"] == 0.5 and row["clicks_to_dice_0.8"] == 1 and row["fn_volume_ml_auc"] == 0.0


def test_guards():
    predictions, reference = steps()
    with pytest.raises(InputError, match="autopet_v has 6 masks"):
        click_scores(predictions, reference, voxel_ml=1.0, protocol="autopet_v")
    with pytest.raises(InputError, match="cannot be compared"):
        click_scores([reference[1:]], reference, voxel_ml=1.0)
    with pytest.raises(InputError, match="at least two"):
        click_curve([0.5])
    with pytest.raises(UsageError, match="autopet_iv, autopet_v"):
        click_curve([0.5, 0.6], protocol="autopet_vi")
    with pytest.raises(UsageError, match="'limit'"):
        clicks_to([0.5], 0.8, unreached="zero")
