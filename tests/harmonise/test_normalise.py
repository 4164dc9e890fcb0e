from dataclasses import replace

import numpy as np
import pytest

from uptake.cases import Scale
from uptake.core.errors import UsageError
from uptake.harmonise.normalise import ChannelRule, normalise, scale_of, scaled, unscaled


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
        UsageError,
        match=r"'minmax' is no normalisation; known are asinh, clip_zscore, fixed, rescale_0_1, unchanged, zscore",
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


def test_fixed_clips_and_divides_by_its_upper_limit():
    array = np.array([[[-1.0, 5.0, 20.0, 90.0]]])
    assert normalise(array, rule("fixed", 0.0, 20.0))[0, 0].tolist() == [0.0, 0.25, 1.0, 1.0]


@pytest.mark.parametrize("scheme", ["zscore", "asinh", "unchanged"])
def test_another_image_is_brought_into_the_same_units_and_back(scheme):
    rng = np.random.default_rng(0)
    low, full = rng.gamma(2.0, 1.5, (2, 4, 3, 5)).astype(np.float32)
    scale = scale_of(low, rule(scheme))
    assert np.allclose(scaled(low, scale), normalise(low, rule(scheme)), atol=1e-5)
    assert np.abs(unscaled(scaled(full, scale), scale) - full).max() < 1e-4
    assert np.abs(scaled(full, scale) - normalise(full, rule(scheme))).max() > 0.01 or scheme != "zscore"


def test_a_thousandfold_scan_has_the_same_z_scores():
    rng = np.random.default_rng(1)
    low, full = rng.gamma(2.0, 1.5, (2, 4, 3, 5)).astype(np.float32)
    once, thousand = scale_of(low, rule("zscore")), scale_of(1000 * low, rule("zscore"))
    assert np.allclose(scaled(full, once), scaled(1000 * full, thousand), atol=1e-4)


def test_scales_by_hand():
    array = np.array([[[1.0, 3.0]], [[5.0, 7.0]]])
    assert scale_of(array, rule("zscore")) == Scale(4.0, pytest.approx(5**0.5))
    inside = np.array([[[True, True]], [[False, False]]])
    assert scale_of(array, ChannelRule("pet", "zscore", 0, 0, 0, 0, inside_only=True), inside) == Scale(2.0, 1.0)
    assert scale_of(array, rule("fixed")) == Scale(0.0, 6.0)
    assert scale_of(array, rule("asinh")) == Scale(3.0, 0.5, "asinh")
    with pytest.raises(UsageError, match="no scale that could be undone"):
        scale_of(array, rule("rescale_0_1"))
