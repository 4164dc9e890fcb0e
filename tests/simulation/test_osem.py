"""Reconstruction of a cylinder: value, counts, likelihood, and the resolution modelled in the loop."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import GeometryError, UsageError
from uptake.simulation.attenuation import MU_WATER_PER_MM, survival
from uptake.simulation.osem import Measurement, Recon, Sensitivity, log_likelihood, reconstruct
from uptake.simulation.projector import Projector, ScanGeometry
from uptake.simulation.resolution import detector_blur

SHAPE, SPACING = (49, 49, 5), (5.0, 5.0, 5.0)


def cylinder(radius_mm: float = 90.0) -> np.ndarray:
    fine = ((np.arange(49 * 4) + 0.5) / 4 - 49 / 2) * 5.0
    inside = (fine[:, None] ** 2 + fine[None, :] ** 2 <= radius_mm**2).reshape(49, 4, 49, 4).mean(axis=(1, 3))
    return np.repeat(inside[:, :, None], SHAPE[2], axis=2).astype(np.float32)


def measure(projector: Projector, activity: np.ndarray, *, counts: float = 5.0, background: float = 0.0) -> Measurement:
    factor = survival(projector.apply(cylinder() * np.float32(MU_WATER_PER_MM)))
    trues = factor * projector.apply(activity)
    scale = np.float32(counts / trues.mean())
    noise = np.full(trues.shape, background * counts, np.float32)
    return Measurement(trues * scale + noise, factor * scale, noise)


@pytest.fixture(scope="module")
def projector():
    return Projector(ScanGeometry.of_image(SHAPE, SPACING, subsets=8), subsets=8)


@pytest.mark.parametrize("psf", [0.0, 6.0])
def test_a_noiseless_cylinder_comes_back_with_its_value(projector, psf):
    truth = 2.0 * cylinder()
    seen = detector_blur(truth, SPACING, fwhm_mm=6.0) if psf else truth
    data = measure(projector, seen, background=0.5)
    image = reconstruct(data, projector, Recon(4, 8, psf, 0.0), SPACING)
    x = (np.arange(49) - 24) * 5.0
    inner = np.hypot(x[:, None], x[None, :]) < 60
    assert image[inner].mean() == pytest.approx(2.0, rel=0.01)
    assert image.min() >= 0


def test_every_pass_conserves_the_counts(projector):
    data = measure(projector, 2.0 * cylinder())
    totals = []

    def total(_: int, image: np.ndarray) -> None:
        totals.append((data.factor * projector.apply(image)).sum(dtype=float))

    reconstruct(data, projector, Recon(3, 8, 0.0, 0.0), SPACING, each=total)
    assert totals == pytest.approx([data.counts.sum(dtype=float)] * 3, rel=0.005)


def test_the_likelihood_grows_with_every_iteration_of_mlem():
    projector = Projector(ScanGeometry.of_image(SHAPE, SPACING))
    data = measure(projector, 2.0 * cylinder(), background=0.5)
    noisy = Measurement(np.random.default_rng(0).poisson(data.counts), data.factor, data.background)
    values = []
    reconstruct(noisy, projector, Recon(8, 1, 0.0, 0.0), SPACING,
                each=lambda _, image: values.append(log_likelihood(noisy, projector.apply(image))))  # fmt: skip
    assert len(values) == 8 and (np.diff(values) > 0).all()


def test_same_counts_same_bytes_and_the_dose_does_not_change_the_unit(projector):
    data = measure(projector, 2.0 * cylinder(), background=0.3)
    first, second = (reconstruct(data, projector, Recon(2, 8, 5.0, 5.0), SPACING) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    tenth = Measurement(data.counts * 0.1, data.factor * np.float32(0.1), data.background * np.float32(0.1))
    np.testing.assert_allclose(
        reconstruct(tenth, projector, Recon(2, 8, 5.0, 5.0), SPACING), first, rtol=1e-3, atol=1e-5
    )


def test_sensitivities_made_anew_give_the_same_image(projector, monkeypatch):
    data = measure(projector, 2.0 * cylinder())
    kept = reconstruct(data, projector, Recon(2, 8), SPACING)
    monkeypatch.setattr("uptake.simulation.osem.SENSITIVITY_BYTES", 0)
    half = reconstruct(data, projector, Recon(2, 8), SPACING)
    # 16 updates, each rounded by 0.05 % at most and not all to one side.
    np.testing.assert_allclose(half, kept, rtol=16 * 2**-11, atol=1e-5)
    inside = cylinder() == 1
    assert half[inside].mean() == pytest.approx(kept[inside].mean(), rel=2e-4)
    monkeypatch.setattr("uptake.simulation.osem.HALF_SENSITIVITY_BYTES", 0)
    np.testing.assert_array_equal(reconstruct(data, projector, Recon(2, 8), SPACING), kept)


def test_one_sensitivity_serves_all_doses(projector):
    data = measure(projector, 2.0 * cylinder(), background=0.3)
    tenth = Measurement(data.counts * 0.1, data.factor * np.float32(0.1), data.background * np.float32(0.1))
    recon = Recon(2, 8, 5.0, 5.0)
    shared = Sensitivity(data.factor, projector, recon, SPACING)
    first = reconstruct(data, projector, recon, SPACING, sensitivity=shared)
    np.testing.assert_array_equal(first, reconstruct(data, projector, recon, SPACING))
    np.testing.assert_allclose(reconstruct(tenth, projector, recon, SPACING, sensitivity=shared), first, rtol=1e-3)


def test_modelled_resolution_recovers_a_small_source_better(projector):
    truth = cylinder()
    truth[20:22, 24:26] += 8.0
    data = measure(projector, detector_blur(truth, SPACING, fwhm_mm=8.0))
    with_model = reconstruct(data, projector, Recon(6, 8, 8.0, 0.0), SPACING)
    without = reconstruct(data, projector, Recon(6, 8, 0.0, 0.0), SPACING)
    assert without[20:22, 24:26].mean() < with_model[20:22, 24:26].mean() <= 9.5


def test_what_no_line_sees_is_zero():
    geometry = ScanGeometry((49, 49), (5.0, 5.0), 2, 21, 5.0)
    projector = Projector(geometry, subsets=2)
    lines = projector.apply(cylinder())
    image = reconstruct(Measurement(lines, np.ones_like(lines), np.zeros_like(lines)), projector, Recon(1, 2, 0.0, 0.0),
                        SPACING)  # fmt: skip
    assert (image[0, 0] == 0).all() and image[24, 24].min() > 0


def test_measurements_and_settings_that_do_not_fit_are_refused(projector):
    data = measure(projector, cylinder())
    with pytest.raises(GeometryError, match="one shape"):
        Measurement(data.counts, data.factor[:-1], data.background)
    with pytest.raises(UsageError, match="8 subsets"):
        reconstruct(data, projector, Recon(2, 16), SPACING)
    for wrong in ({"iterations": 0}, {"subsets": 65}, {"psf_fwhm_mm": -1.0}, {"filter_fwhm_mm": 30.0}):
        with pytest.raises(UsageError):
            Recon(**wrong)
