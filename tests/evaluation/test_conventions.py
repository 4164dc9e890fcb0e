import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import UsageError
from uptake.evaluation.conventions import RULES, depends_on_rule, under_rule
from uptake.evaluation.labels import Rules, evaluate_labels


def masks(kind):
    mask = np.zeros((6, 5, 4), np.uint8)
    if kind == "some":
        mask[1:3, 1:3, 1:3] = 1
    if kind == "other":
        mask[2:5, 2:4, 1:3] = 1
        mask[0, 4, 3] = 1
    return mask


def same(a, b):
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("prediction", ["empty", "some", "other"])
@pytest.mark.parametrize("reference", ["empty", "some"])
@pytest.mark.parametrize("before", RULES)
def test_the_converted_row_is_the_measured_one(prediction, reference, before):
    pair = masks(prediction), masks(reference)
    (measured,) = evaluate_labels(*pair, (2.0, 3.0, 4.0), rules=Rules(empty=before))
    for rule in RULES:
        (expected,) = evaluate_labels(*pair, (2.0, 3.0, 4.0), rules=Rules(empty=rule))
        found = under_rule(measured.row(), rule)
        wrong = {name: (found[name], value) for name, value in expected.row().items() if not same(found[name], value)}
        assert not wrong
        changed = {name for name, value in measured.row().items() if not same(found[name], value)} - {"empty"}
        assert all(depends_on_rule(name) for name in changed)


@given(st.sampled_from(RULES), st.sampled_from(RULES))
def test_there_and_back(first, second):
    (measured,) = evaluate_labels(masks("some"), masks("empty"), (1.0, 1.0, 1.0), rules=Rules(empty=first))
    back = under_rule(under_rule(measured.row(), second), first)
    assert all(same(back[name], value) for name, value in measured.row().items())


def test_what_does_not_depend_on_the_rule():
    assert not any(
        depends_on_rule(name) for name in ("hd95_mm", "fp_volume_ml", "reference_ml", "lesion_tp_any_one_to_one")
    )
    with pytest.raises(UsageError, match="rule"):
        under_rule({"reference_ml": 0.0, "prediction_ml": 0.0}, "two")
