"""The quiet sphere: where it must be found, and when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.geometry import Volume
from uptake.simulation.reference import even_region, fine_part, liver_like, quiet_sphere, relative_spread

AFFINE = np.diag([-4.0, -4.0, 3.0, 1.0])


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    array = rng.normal(0.8, 0.15, (40, 40, 40)).astype(np.float32)
    array[5:20, 5:20, 5:25] = rng.normal(2.0, 0.3, (15, 15, 20))
    array[24:36, 24:36, 15:32] = rng.normal(2.0, 0.1, (12, 12, 17))
    return Volume(array, AFFINE)


def test_the_sphere_lies_in_the_quieter_part_and_is_3_cm_wide(image):
    sphere = quiet_sphere(image, image.array > 0)
    i, j, k = np.nonzero(sphere)
    assert i.min() >= 24 and j.min() >= 24 and k.min() >= 15
    assert sphere.sum() * image.voxel_volume_ml == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.1)
    assert relative_spread(image.array, sphere) == pytest.approx(0.05, abs=0.01)


def test_a_liver_mask_decides_and_the_whole_sphere_stays_inside(image):
    liver = np.zeros(image.shape, bool)
    liver[5:20, 5:20, 5:25] = True
    sphere = quiet_sphere(image, liver)
    assert sphere.any() and not (sphere & ~liver).any()
    assert relative_spread(image.array, sphere) == pytest.approx(0.15, abs=0.02)


def test_the_region_around_it_is_larger_and_even(trunk):
    noisy = trunk.activity.with_array(trunk.activity.array * (1 + noise(trunk.activity.shape)))
    liver = trunk.mask("liver")
    for mask in (None, liver):
        sphere = quiet_sphere(noisy, mask)
        region = even_region(noisy, sphere, mask)
        assert region.sum() > 2 * sphere.sum() and not (region & ~liver).any()
        # The quietest sphere underrates the noise of 10 %, the region does not.
        assert relative_spread(noisy.array, sphere) < relative_spread(noisy.array, region)
        assert relative_spread(noisy.array, region) == pytest.approx(0.10, rel=0.06)


def test_the_liver_is_found_by_its_size_and_evenness(trunk):
    noisy = trunk.activity.with_array(trunk.activity.array * (1 + noise(trunk.activity.shape)))
    found = liver_like(noisy)
    assert (found & trunk.mask("liver")).sum() > 0.9 * found.sum()
    bright = trunk.activity.with_array(noisy.array * np.where(trunk.mask("liver"), np.float32(4), np.float32(1)))
    assert (liver_like(bright) & trunk.mask("liver")).sum() > 0.8 * liver_like(bright).sum()
    assert not liver_like(trunk.activity.with_array(noisy.array * np.float32(0.2))).any()


def test_the_fine_part_keeps_noise_and_drops_gradients():
    ramp = np.broadcast_to(np.linspace(0, 4, 60, dtype=np.float32), (60, 60, 60))
    fine = fine_part(ramp + noise(ramp.shape), (4.0,) * 3)[12:-12, 12:-12, 12:-12]
    assert fine.std() == pytest.approx(0.1, rel=0.03)


def noise(shape) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)


def test_no_place_no_sphere(image):
    small = np.zeros(image.shape, bool)
    small[10:13, 10:13, 10:13] = True
    assert quiet_sphere(image, small) is None
    assert quiet_sphere(image, np.zeros(image.shape, bool)) is None
    assert quiet_sphere(Volume(image.array[:5], AFFINE)) is None
    assert quiet_sphere(Volume(np.full((30, 30, 30), 0.5, np.float32), AFFINE)) is None
    thin = np.zeros((30, 30, 30), bool)
    thin[2:28, 2:28, 14] = True
    assert quiet_sphere(Volume(np.ones((30, 30, 30), np.float32), AFFINE), thin) is None
    with pytest.raises(UsageError, match="one grid"):
        quiet_sphere(image, small[:-1])
    assert np.isnan(relative_spread(np.zeros((2, 2, 2)), np.ones((2, 2, 2), bool)))
