"""Blur and noise against what can be worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from uptake.core.errors import UnitError
from uptake.simulation import acquisition
from uptake.simulation.fields import FWHM_PER_SIGMA, correlated_noise, discrete_gaussian, gaussian_blur, random_field


def sphere(radius_mm: float, spacing_mm: float, extent_mm: float, *, parts: int = 4) -> np.ndarray:
    n = 2 * int(extent_mm / spacing_mm / 2) + 1
    fine = (np.arange(n * parts) + 0.5) / parts - n / 2
    x, y, z = np.meshgrid(fine, fine, fine, indexing="ij")
    inside = (x**2 + y**2 + z**2) * spacing_mm**2 <= radius_mm**2
    return inside.reshape(n, parts, n, parts, n, parts).mean(axis=(1, 3, 5)).astype(np.float32)


def test_the_blur_keeps_sums_and_constants():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 5, (17, 15, 19)).astype(np.float32)
    blurred = acquisition.scanner_blur(image, 6.0, (4.0, 5.0, 3.0))
    assert blurred.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-4)
    flat = np.full((9, 9, 9), 2.5, np.float32)
    np.testing.assert_allclose(acquisition.scanner_blur(flat, 6.0, (4.0, 5.0, 3.0)), 2.5, rtol=1e-5)


@pytest.mark.parametrize("variance", [0.05, 0.3, 1.0, 4.0])
def test_the_discrete_gaussian_has_its_variance(variance):
    kernel = discrete_gaussian(variance)
    n = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1.0)
    assert (kernel * n**2).sum() == pytest.approx(variance, rel=1e-4)


def test_the_recovery_at_a_sphere_centre_is_the_closed_form():
    # RC = erf(R / sqrt(2) s) - sqrt(2 / pi) (R / s) exp(-R^2 / 2 s^2); 10 mm sphere at 6 mm FWHM gives 0.722.
    fwhm, radius, spacing = 6.0, 5.0, 0.6
    sigma = fwhm / FWHM_PER_SIGMA
    expected = erf(radius / np.sqrt(2) / sigma) - np.sqrt(2 / np.pi) * radius / sigma * np.exp(
        -(radius**2) / 2 / sigma**2
    )
    assert expected == pytest.approx(0.722, abs=5e-4)
    image = sphere(radius, spacing, 24.0)
    blurred = acquisition.scanner_blur(image, fwhm, (spacing,) * 3)
    centre = blurred[tuple(n // 2 for n in blurred.shape)]
    assert centre == pytest.approx(expected, rel=0.01)


def test_recovery_grows_with_the_sphere_and_falls_with_the_width():
    def centre(diameter: float, fwhm: float) -> float:
        image = acquisition.scanner_blur(sphere(diameter / 2, 2.0, 44.0, parts=2), fwhm, (2.0,) * 3)
        return float(image[tuple(n // 2 for n in image.shape)])

    assert centre(10, 6) < centre(13, 6) < centre(17, 6)
    assert centre(13, 8) < centre(13, 6) < centre(13, 4)


def test_the_width_counts_the_voxel_itself():
    # Point at a voxel centre: variance along one axis after voxel average and blur is that of the width asked for.
    spacing, fwhm = 5.0, 8.0
    image = np.zeros((31, 3, 3), np.float32)
    image[15] = 1.0
    line = acquisition.scanner_blur(image, fwhm, (spacing,) * 3)[:, 1, 1]
    x = (np.arange(31) - 15) * spacing
    variance = (line * x**2).sum() / line.sum() + spacing**2 / 12
    assert np.sqrt(variance) * FWHM_PER_SIGMA == pytest.approx(fwhm, rel=1e-3)


def test_random_fields_have_unit_variance_and_do_not_depend_on_the_grid():
    extent = ((-100.0, 100.0),) * 3
    coarse, fine = np.arange(-90, 91, 12.0), np.arange(-90, 91, 6.0)
    a = random_field(np.random.default_rng(1), (coarse,) * 3, extent, 20.0)
    b = random_field(np.random.default_rng(1), (fine,) * 3, extent, 20.0)
    np.testing.assert_allclose(a, b[::2, ::2, ::2], atol=1e-5)
    wide = random_field(np.random.default_rng(2), (np.arange(-480, 481, 12.0),) * 3, ((-500.0, 500.0),) * 3, 20.0)
    assert wide.std() == pytest.approx(1.0, abs=0.05)


def test_correlated_noise_has_unit_variance_and_the_correlation_asked_for():
    noise = correlated_noise(np.random.default_rng(3), (64, 64, 64), (8.0, 8.0, 0.0), (4.0, 4.0, 4.0))
    assert noise.std() == pytest.approx(1.0, abs=0.03)
    # Blurring twice adds variances: the autocorrelation is a Gaussian of sqrt(2) times the width.
    expected = discrete_gaussian(2 * (8.0 / FWHM_PER_SIGMA / 4.0) ** 2)
    middle = len(expected) // 2
    lag = (noise[1:] * noise[:-1]).mean()
    assert lag == pytest.approx(expected[middle + 1] / expected[middle], abs=0.03)
    assert (noise[:, :, 1:] * noise[:, :, :-1]).mean() == pytest.approx(0.0, abs=0.03)


@pytest.fixture(scope="module")
def cylinder():
    x, y = np.meshgrid(np.arange(40) - 19.5, np.arange(40) - 19.5, indexing="ij")
    disc = ((x**2 + y**2) * 64 < 150**2)[:, :, None] & np.ones((1, 1, 24), bool)
    image = np.where(disc, 2.0, 0.0).astype(np.float32)
    hu = np.where(disc, 0.0, -1000.0).astype(np.float32)
    return image, hu, disc, np.sqrt(x**2 + y**2)[:, :, None] * 8.0


def test_noise_meets_its_level_keeps_the_mean_and_is_never_negative(cylinder):
    image, hu, disc, _ = cylinder
    kwargs = {"liver_cov": 0.12, "noise_fwhm_mm": (6.0, 6.0, 6.0)}
    noisy = acquisition.count_noise(np.random.default_rng(4), image, hu, disc, (8.0,) * 3, **kwargs)
    ratio = noisy[disc] / image[disc]
    assert ratio.std() == pytest.approx(0.12, rel=0.06)
    assert ratio.mean() == pytest.approx(1.0, abs=0.01)
    assert noisy.min() >= 0
    assert (noisy[~disc] == 0).all()


def test_noise_is_larger_deep_inside_and_grows_with_the_mean(cylinder):
    image, hu, disc, radius = cylinder
    fisher = acquisition.fisher_diagonal(image, hu, (8.0,) * 3)
    middle, rim = disc & (radius < 40), disc & (radius > 120) & (radius < 140)
    assert fisher[middle].mean() < 0.7 * fisher[rim].mean()
    hot = image.copy()
    hot[18:22, 18:22, 10:14] = 8.0
    noisy = np.stack([
        acquisition.count_noise(np.random.default_rng(s), hot, hu, disc, (8.0,) * 3, liver_cov=0.1,
                                noise_fwhm_mm=(6.0,) * 3) for s in range(30)
    ])  # fmt: skip
    sd = noisy.std(axis=0)
    assert sd[19:21, 19:21, 11:13].mean() > 1.5 * sd[middle & (hot == 2.0)].mean()


def test_negative_widths_and_levels_are_refused(cylinder):
    image, hu, disc, _ = cylinder
    with pytest.raises(UnitError, match="resolution"):
        acquisition.scanner_blur(image, -1.0, (4.0,) * 3)
    with pytest.raises(UnitError, match="coefficient of variation"):
        acquisition.count_noise(np.random.default_rng(0), image, hu, disc, (8.0,) * 3, liver_cov=-0.1,
                                noise_fwhm_mm=(6.0,) * 3)  # fmt: skip


def test_a_zero_width_changes_nothing():
    image = np.random.default_rng(0).uniform(size=(5, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(gaussian_blur(image, (0.0,) * 3, (4.0,) * 3), image)
