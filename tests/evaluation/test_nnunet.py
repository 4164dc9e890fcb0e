import math

import pytest

from uptake.evaluation.nnunet import CaseCounts, label_key, nnunet_summary


def test_means_by_hand():
    cases = [
        CaseCounts("p/a", "r/a", {"1": (2, 2, 2, 10), "2": (0, 0, 0, 16)}),
        CaseCounts("p/b", "r/b", {"1": (0, 4, 0, 12), "2": (3, 1, 0, 12)}),
    ]
    found = nnunet_summary(cases)
    first, second = (case["metrics"] for case in found["metric_per_case"])
    assert first["1"] == {"Dice": 0.5, "IoU": 2 / 6, "TP": 2, "FP": 2, "FN": 2, "TN": 10, "n_pred": 4, "n_ref": 4}
    # Both empty: undefined. One empty: 0.
    assert math.isnan(first["2"]["Dice"]) and second["1"]["Dice"] == 0
    assert found["mean"]["1"]["Dice"] == 0.25 and found["mean"]["2"]["Dice"] == pytest.approx(6 / 7)
    assert found["mean"]["1"]["FP"] == 3
    assert found["foreground_mean"]["Dice"] == pytest.approx((0.25 + 6 / 7) / 2)
    assert found["metric_per_case"][0]["prediction_file"] == "p/a"


def test_a_label_defined_nowhere_leaves_the_foreground_undefined():
    found = nnunet_summary([CaseCounts("p", "r", {"1": (1, 0, 0, 0), "2": (0, 0, 0, 1)})])
    assert math.isnan(found["mean"]["2"]["Dice"]) and math.isnan(found["foreground_mean"]["Dice"])
    assert found["foreground_mean"]["TP"] == 0.5


def test_labels_and_regions_as_nnunet_writes_them():
    assert label_key(3) == "3" and label_key((1, 2)) == "(1, 2)"
