import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.agreement import (
    QUANTITIES,
    agreement,
    agreement_of,
    bland_altman,
    concordance,
    intraclass_correlations,
)

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
"""Six targets, four judges: table 2 of Shrout and Fleiss, Psychol Bull 86:420 (1979)."""

LARGE_METER = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_METER = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
"""Peak expiratory flow, L/min, first readings with two meters: Bland and Altman, Lancet 1:307 (1986), table 1."""


def test_by_hand():
    found = agreement([2.0, 4.0, 9.0], [1.0, 5.0, 6.0])  # differences 1, -1, 3
    assert (found.n, found.undefined, found.bias, found.sd) == (3, 0, 1.0, 2.0)
    assert found.upper == pytest.approx(1 + 1.959964 * 2) and found.lower == pytest.approx(1 - 1.959964 * 2)
    # t(0.975, 2) = 4.302653; the interval of the bias is t * s / √n wide on each side.
    assert found.bias_high == pytest.approx(1 + 4.302653 * 2 / math.sqrt(3))
    spread = 4.302653 * 2 * math.sqrt(1 / 3 + 1.959964**2 / 4)
    assert found.upper_high - found.upper == pytest.approx(spread) == found.lower - found.lower_low
    # x̄ = 5, ȳ = 4, s_x² = 26/3, s_y² = 14/3, s_xy = 16/3, over n.
    assert found.ccc == pytest.approx((2 * 16 / 3) / (26 / 3 + 14 / 3 + 1))


def test_published_example_of_limits():
    """The paper: mean difference -2.1 (-22.0 to 17.8), standard deviation 38.8 L/min."""
    found = agreement(LARGE_METER, MINI_METER)
    assert (found.n, round(found.bias, 1), round(found.sd, 1)) == (17, -2.1, 38.8)
    assert (round(found.bias_low, 1), round(found.bias_high, 1)) == (-22.0, 17.8)
    # There with 2 for 1.96, and 3 / n for 1 / n + 1.96² / (2 (n - 1)): limits -79.7 (-114.3 to -45.1) and 75.5.
    assert found.lower == pytest.approx(-79.7 + 0.04 * 38.77, abs=0.1)
    assert found.upper == pytest.approx(75.5 - 0.04 * 38.77, abs=0.1)
    assert found.lower_high - found.lower == pytest.approx(79.7 - 45.1, abs=0.5)


def test_published_intraclass_correlations():
    """ICC(2,1) 0.29 and ICC(3,1) 0.71 in the paper; the intervals are those of R's psych::ICC and irr::icc."""
    absolute, consistent = intraclass_correlations(SHROUT_FLEISS)
    assert absolute.value == pytest.approx(0.2898, abs=5e-5) and consistent.value == pytest.approx(0.7148, abs=5e-5)
    assert (absolute.low, absolute.high) == (pytest.approx(0.019, abs=5e-4), pytest.approx(0.761, abs=5e-4))
    assert (consistent.low, consistent.high) == (pytest.approx(0.342, abs=5e-4), pytest.approx(0.946, abs=5e-4))


def test_a_shift_is_consistent_but_no_agreement():
    rng = np.random.default_rng(0)
    truth = rng.normal(10, 2, 50)
    shifted = agreement(truth + 5 + rng.normal(0, 0.1, 50), truth)
    assert shifted.icc_c1.value > 0.99 and shifted.icc_a1.value < 0.4 and shifted.ccc < 0.4
    assert shifted.bias_low < 5 < shifted.bias_high and shifted.sd == pytest.approx(0.1, rel=0.3)


@given(st.lists(st.tuples(*[st.floats(0.125, 1e4, width=32)] * 2), min_size=3, max_size=20))
def test_properties(pairs):
    first, second = np.array(pairs).T
    here, there = agreement(first, second), agreement(second, first)
    assert here.bias == pytest.approx(-there.bias) and here.sd == pytest.approx(there.sd)
    assert here.ccc == pytest.approx(there.ccc, nan_ok=True)
    assert math.isnan(here.ccc) or -1 <= here.ccc <= 1 + 1e-12
    assert here.icc_a1.value == pytest.approx(there.icc_a1.value, nan_ok=True, abs=1e-9)
    assert here.lower <= here.bias <= here.upper


def test_concordance_and_absolute_agreement_meet_for_many_cases():
    """They differ by n against n - 1."""
    rng = np.random.default_rng(3)
    truth = rng.normal(5, 2, 2000)
    found = agreement(truth + rng.normal(0.5, 1, 2000), truth)
    assert found.ccc == pytest.approx(found.icc_a1.value, abs=1e-3)


def test_scales():
    reference = np.array([1.0, 10.0, 100.0, 1000.0])
    ratio = agreement(1.2 * reference, reference, scale="ratio")
    assert ratio.bias == pytest.approx(1.2) == pytest.approx(ratio.lower) and ratio.sd == pytest.approx(0, abs=1e-12)
    percent = agreement(1.2 * reference, reference, scale="percent")
    assert percent.bias == pytest.approx(100 * 0.2 / 1.1) and percent.sd == pytest.approx(0, abs=1e-9)
    means, differences = bland_altman(1.2 * reference, reference, scale="ratio")
    np.testing.assert_allclose(means, math.sqrt(1.2) * reference)
    np.testing.assert_allclose(differences, 1.2)
    means, differences = bland_altman([3.0, math.nan], [1.0, 2.0])
    assert means.tolist() == [2.0] and differences.tolist() == [2.0]


def test_what_is_undefined_is_counted():
    found = agreement([1.0, math.nan, 3.0, 0.0], [1.0, 2.0, math.nan, 0.0])
    assert (found.n, found.undefined) == (2, 2)
    assert agreement([0.0, 1.0, 2.0], [0.0, 1.0, 2.5], scale="ratio").undefined == 1
    assert agreement([0.0, 1.0, 2.0], [0.0, 1.0, 2.5], scale="percent").undefined == 1
    nothing = agreement([math.nan], [1.0])
    assert (nothing.n, nothing.undefined) == (0, 1)
    row = nothing.row()
    assert all(math.isnan(row[k]) for k in ("bias", "sd", "upper", "icc_a1", "icc_c1_low", "ccc"))
    one = agreement([2.0], [1.0])
    assert one.bias == 1.0 and math.isnan(one.sd) and math.isnan(one.icc_a1.value)
    constant = agreement([3.0, 3.0], [3.0, 3.0])
    assert constant.bias == constant.sd == 0 and math.isnan(constant.icc_a1.value) and math.isnan(constant.ccc)


def test_perfect_agreement():
    found = agreement([1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    assert found.icc_a1.value == found.icc_c1.value == found.icc_a1.low == found.icc_c1.high == 1.0
    assert found.ccc == pytest.approx(1.0) and found.lower == found.upper == 0.0


def test_two_methods_that_swap_their_cases():
    found = agreement([1.0, 2.0], [2.0, 1.0])
    assert math.isnan(found.icc_a1.value) and found.icc_c1.value == -1.0
    found = agreement([1.0, 3837.0, 3690.0], [5020.0, 1183.0, 1330.0])  # hardly a degree of freedom left
    assert found.icc_a1.value < -1 and found.icc_a1.low <= found.icc_a1.high


def test_columns():
    columns = {name: np.arange(1.0, 6.0) * (i + 1) for i, name in enumerate(QUANTITIES)}
    found = agreement_of({k: v + 1 for k, v in columns.items()}, columns)
    assert list(found) == list(QUANTITIES) and all(one.bias == 1 for one in found.values())
    assert found["mtv_ml"].row()["icc_c1"] == 1.0
    with pytest.raises(InputError, match="suv_peak"):
        agreement_of(columns, {k: v for k, v in columns.items() if k != "suv_peak"})


def test_guards():
    with pytest.raises(UsageError, match="absolute, percent, ratio"):
        agreement([1.0], [1.0], scale="log")
    with pytest.raises(InputError, match="one length"):
        agreement([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="infinite"):
        agreement([math.inf], [1.0])
    assert math.isnan(concordance([], []))
