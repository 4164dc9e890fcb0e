import math

import numpy as np
import pytest
from scipy import ndimage

from uptake.core.errors import InputError
from uptake.evaluation.site_charts import readings_chart, site_curves
from uptake.evaluation.site_classifier import classify
from uptake.evaluation.site_distance import cdf_profile, value_edges
from uptake.evaluation.site_features import body_mask, image_features

SPACING = (2.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def phantom():
    """A cylinder of SUV 1 and HU 40 in air, with a table of HU 100 that does not touch it."""
    i, j, _ = np.indices((60, 60, 20))
    body = ((i - 29.5) / 22) ** 2 + ((j - 29.5) / 18) ** 2 < 1
    ct = np.where(body, 40.0, -1000.0)
    ct[15:45, 54:56] = 100
    return body, body.astype(np.float32), ct


def test_the_body_is_the_largest_piece(phantom):
    body, pet, ct = phantom
    found = body_mask(np.zeros_like(pet), ct, SPACING)
    np.testing.assert_array_equal(found, body)
    # By the PET alone it is a little larger, for the smoothing.
    alone = body_mask(pet, None, SPACING)
    assert alone[body].all() and alone.sum() < 1.8 * body.sum()
    with pytest.raises(InputError, match="no body"):
        body_mask(np.zeros((20, 20, 20)), None, SPACING)


def test_values_and_noise(phantom):
    body, pet, _ = phantom
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, pet.shape)
    found = image_features(pet + noise, body, SPACING, prefix="pet_")
    assert found["pet_mean"] == pytest.approx(1, abs=0.01) and found["pet_sd"] == pytest.approx(0.1, abs=0.01)
    assert found["pet_q50"] == pytest.approx(1, abs=0.01) and found["pet_q95"] == pytest.approx(1.164, abs=0.02)
    assert found["pet_noise"] == pytest.approx(0.1, rel=0.05) and abs(found["pet_skewness"]) < 0.1
    twice = image_features(pet + 2 * noise, body, SPACING)
    assert twice["noise"] == pytest.approx(2 * found["pet_noise"], rel=0.05)


@pytest.mark.parametrize("fwhm", [5.0, 7.0])
def test_texture_is_the_resolution_of_smoothed_noise_whatever_the_voxel(fwhm):
    rng = np.random.default_rng(1)
    for spacing in ((2.0, 2.0, 3.0), (1.5, 1.5, 1.5)):
        shape = tuple(round(110 / mm) for mm in spacing)
        sigma = [fwhm / 2.3548 / mm for mm in spacing]
        noise = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
        found = image_features(noise, np.ones(shape, bool), spacing)
        # The Gaussian of 6 mm takes away what is smoother than itself, and with it some of the width.
        assert found["texture_in_plane_mm"] == pytest.approx(fwhm, rel=0.15)
        assert found["texture_axial_mm"] == pytest.approx(fwhm, rel=0.15)


def test_smoothing_lowers_noise_and_sharpness(phantom):
    body, pet, _ = phantom
    image = pet + np.random.default_rng(2).normal(0, 0.2, pet.shape)
    before, after = (image_features(x, body, SPACING) for x in (image, ndimage.gaussian_filter(image, 1.0)))
    assert after["noise"] < 0.5 * before["noise"] and after["sharpness_per_mm"] < before["sharpness_per_mm"]
    assert after["texture_in_plane_mm"] > before["texture_in_plane_mm"]


def test_a_constant_image_has_no_texture(phantom):
    body, *_ = phantom
    found = image_features(np.full(body.shape, 2.0), body, SPACING)
    assert found["mean"] == 2 and found["noise"] == found["noise_share"] == found["sharpness_per_mm"] == 0
    assert all(math.isfinite(value) for value in found.values())


def test_guards(phantom):
    body, pet, _ = phantom
    with pytest.raises(InputError, match="body mask"):
        image_features(pet, body[:-1], SPACING)
    with pytest.raises(InputError, match="body mask"):
        image_features(pet, np.zeros_like(body), SPACING)
    with pytest.raises(InputError, match="NaN"):
        image_features(np.where(body, np.nan, 0), body, SPACING)


def test_pictures_of_sites_are_the_same_for_the_same_sites():
    edges = value_edges(0.5, 100.0)
    rng = np.random.default_rng(3)
    curves = {s: {site: cdf_profile(rng.gamma(2, 1, 500), edges) for site in "ab"} for s in ("w", "x", "y", "z")}
    bins, units = dict.fromkeys(curves, edges), dict.fromkeys(curves, "g/mL")
    one = site_curves(curves, bins, units=units, title="PET")
    assert one.startswith(b"\x89PNG") and one == site_curves(curves, bins, units=units, title="PET")
    result = classify(rng.normal(size=(20, 2)), ["a", "b"] * 10, range(20), permutations=0)
    assert readings_chart([("site", "w", result)]) != readings_chart([("tracer", "w", result)])
