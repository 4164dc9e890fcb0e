from dataclasses import replace

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.harmonise.normalise import ChannelRule, normalise


def rule(scheme, lower=2.0, upper=6.0, mean=3.0, std=0.5, name="pet"):
    return ChannelRule(name, scheme, lower, upper, mean, std)


def test_clip_zscore_by_hand():
    array = np.array([[[0.0, 2.0, 3.0]], [[4.0, 6.0, 90.0]]])
    expected = [[[-2.0, -2.0, 0.0]], [[2.0, 6.0, 6.0]]]
    assert normalise(array, rule("clip_zscore")).tolist() == expected


def test_published_pet_constants_merge_everything_below_suv_1_04_and_above_51():
    published = rule("clip_zscore", 1.0433332920074463, 51.211158752441406, 7.063827929027176, 7.960414805306728)
    low, below, above, high = normalise(np.array([[[0.0, 1.04, 51.3, 392.0]]]), published)[0, 0]
    assert low == below == pytest.approx(-0.756, abs=5e-4)
    assert above == high == pytest.approx(5.546, abs=5e-4)


def test_zscore_uses_this_image_and_ignores_the_constants():
    array = np.array([[[1.0, 3.0]], [[5.0, 7.0]]])
    result = normalise(array, rule("zscore", mean=99.0, std=99.0))
    assert result.ravel() == pytest.approx(np.array([-3, -1, 1, 3]) / np.sqrt(5))


def test_asinh_by_hand_and_without_clipping():
    array = np.array([[[0.0, np.sinh(1.0), np.sinh(5.0)]]])
    assert normalise(array, rule("asinh"))[0, 0] == pytest.approx([-6.0, -4.0, 4.0], abs=1e-6)


@pytest.mark.parametrize("scheme", ["clip_zscore", "zscore", "asinh"])
def test_input_is_left_alone_and_output_is_float32(scheme):
    array = np.linspace(0, 9, 24, dtype=np.float32).reshape(2, 3, 4)
    before = array.copy()
    result = normalise(array, rule(scheme))
    assert result.dtype == np.float32 and result.shape == array.shape
    assert np.array_equal(array, before) and not np.shares_memory(array, result)


@pytest.mark.parametrize("scheme", ["clip_zscore", "zscore", "asinh"])
def test_a_constant_image_stays_finite(scheme):
    assert np.isfinite(normalise(np.full((2, 2, 2), 4.0), rule(scheme, std=0.0))).all()


def test_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(
        UsageError, match=r"'minmax' is no normalisation; known are asinh, clip_zscore, rescale_0_1, unchanged, zscore"
    ):
        rule("minmax")


def test_unchanged_and_rescaled():
    array = np.array([[[1.0, 3.0, 5.0]]], dtype=np.float32)
    assert np.array_equal(normalise(array, rule("unchanged")), array)
    assert normalise(array, rule("rescale_0_1")).tolist() == [[[0.0, 0.5, 1.0]]]
    assert normalise(np.ones((1, 1, 2)), rule("rescale_0_1")).tolist() == [[[0.0, 0.0]]]


def test_statistics_of_the_inside_alone_leave_zero_outside():
    array = np.array([[[0.0, 2.0, 4.0, 0.0]]], dtype=np.float32)
    inside = np.array([[[False, True, True, False]]])
    masked = replace(rule("zscore"), inside_only=True)
    assert normalise(array, masked, inside).tolist() == [[[0.0, -1.0, 1.0, 0.0]]]
    assert np.array_equal(normalise(array, masked), normalise(array, rule("zscore")))
