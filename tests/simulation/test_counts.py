"""Counts: how many there are, what share is scatter and randoms, and what thinning does to them."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import UnitError, UsageError
from uptake.simulation.attenuation import MU_WATER_PER_MM
from uptake.simulation.counts import (
    Protocol,
    body_size,
    draw_counts,
    expected_counts,
    noise_equivalent,
    thin,
    thinned,
)
from uptake.simulation.osem import Measurement
from uptake.simulation.projector import Projector, ScanGeometry
from uptake.simulation.scanner import SCANNERS, scanner_named

SHAPE, SPACING = (76, 56, 32), (6.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def trunk():
    """An elliptic trunk of 36 cm x 25 cm, SUV 1, in water."""
    x, y = ((np.arange(n) - (n - 1) / 2) * 6.0 for n in SHAPE[:2])
    body = ((x[:, None] / 180) ** 2 + (y[None, :] / 125) ** 2 < 1)[:, :, None] * np.ones(SHAPE[2], np.float32)
    return body.astype(np.float32), Projector(ScanGeometry.of_image(SHAPE, SPACING))


def expect(trunk, scanner="D690", protocol=None, nuclide="F-18"):
    body, projector = trunk
    mu = body * np.float32(MU_WATER_PER_MM)
    kwargs = {"scanner": scanner_named(scanner), "protocol": protocol or Protocol(), "nuclide": nuclide}
    return expected_counts(body, mu, projector, SPACING, **kwargs)


def test_trues_without_attenuation_are_activity_times_sensitivity(trunk):
    body, projector = trunk
    scanner = scanner_named("D690")
    _, record = expected_counts(body, body * 0, projector, SPACING, scanner=scanner,
                                protocol=Protocol(4.0, 0.0, 100.0))  # fmt: skip
    kbq = body.sum(axis=(0, 1)) * 0.216 * 4.0
    assert record.trues == pytest.approx(float((scanner.counts_per_kbq_s(32, 6.0) * kbq).sum() * 100.0), rel=0.01)
    assert record.tof_gain == 1.0


def test_the_d690_counts_in_a_chest_as_reported():
    # 114.6 +- 14.2 kcps of noise-equivalent counts in patients with 4.0 kBq/mL (Queiroz et al., PLoS One 10(7), 2015,
    # doi:10.1371/journal.pone.0128842); a chest of 33 cm x 22 cm in one bed position must come within two of these SD.
    x, y = ((np.arange(n) - (n - 1) / 2) * 6.0 for n in SHAPE[:2])
    body = (x[:, None] / 165) ** 2 + (y[None, :] / 110) ** 2 < 1
    lung = ((np.abs(x[:, None]) - 75) / 50) ** 2 + (y[None, :] / 75) ** 2 < 1
    activity, density = np.where(lung, 0.5, body), np.where(lung, 0.27, body)
    activity, density = (np.repeat(a[:, :, None], 26, axis=2).astype(np.float32) for a in (activity, density))
    projector = Projector(ScanGeometry.of_image(activity.shape, SPACING))
    _, record = expected_counts(activity, density * np.float32(MU_WATER_PER_MM), projector, SPACING,
                                scanner=scanner_named("D690"), protocol=Protocol(4.0, 0.0, 1.0))  # fmt: skip
    assert record.nec / 1000 == pytest.approx(114.6, abs=2 * 14.2)


def test_scatter_is_smooth_reaches_beyond_the_body_and_has_its_share(trunk):
    data, record = expect(trunk)
    scanner = scanner_named("D690")
    expected = scanner.scatter_fraction / (1 - scanner.scatter_fraction) * np.sqrt(record.diameter_mm / 200)
    assert record.scatter / record.trues == pytest.approx(expected)
    profile = data.background[0, :, 16] - data.background.min()
    s = np.abs(trunk[1].geometry.radial_mm())
    assert profile[s < 60].mean() > 1.2 * profile[(s > 150) & (s < 180)].mean() > 0
    assert profile[(s > 190) & (s < 215)].min() > 0
    assert np.abs(np.diff(profile)).max() < 0.1 * profile.max()
    through = trunk[1].apply(trunk[0] * np.float32(MU_WATER_PER_MM)) > 0.1
    total = data.background[through].sum(dtype=float) / record.tof_gain
    assert total == pytest.approx(record.scatter + record.randoms, rel=1e-3)


def test_randoms_grow_with_the_square_of_the_activity_and_trues_with_the_activity(trunk):
    _, one = expect(trunk, protocol=Protocol(2.0))
    _, two = expect(trunk, protocol=Protocol(4.0))
    assert two.trues == pytest.approx(2 * one.trues) and two.randoms == pytest.approx(4 * one.randoms)
    _, longer = expect(trunk, protocol=Protocol(2.0, seconds_per_bed=240.0))
    assert longer.nec == pytest.approx(2 * one.nec) and two.nec < longer.nec


def test_counts_order_the_scanners_and_nuclides_as_known(trunk):
    rates = {name: expect(trunk, name)[1].nec_per_litre for name in ("Gemini TF", "D690", "DMI", "Vision 600")}
    assert sorted(rates, key=rates.get) == ["Gemini TF", "D690", "DMI", "Vision 600"]
    # In the same total time: the long scanner looks at every slice all the time.
    beds = 4
    assert expect(trunk, "Quadra", Protocol(seconds_per_bed=beds * 120.0))[1].nec_per_litre > 4 * rates["Vision 600"]
    assert expect(trunk, nuclide="Ga-68")[1].trues < expect(trunk)[1].trues


def test_noise_equivalent_counts_by_hand_and_scaled(trunk):
    assert noise_equivalent(100.0, 50.0, 50.0) == 50.0
    assert noise_equivalent(0.0, 0.0, 0.0) == 0.0
    _, record = expect(trunk)
    tenth = record.at(0.1)
    assert tenth.nec == pytest.approx(record.nec / 10) and tenth.body_litres == record.body_litres
    assert tenth.nec == pytest.approx(noise_equivalent(tenth.trues, tenth.scatter, tenth.randoms))


def test_body_size_by_hand(trunk):
    litres, diameter = body_size(trunk[0] * np.float32(MU_WATER_PER_MM), SPACING)
    assert litres == pytest.approx(np.pi * 1.8 * 1.25 * 1.92, rel=0.01)
    assert diameter == pytest.approx(2 * np.sqrt(180 * 125), rel=0.01)
    assert body_size(np.zeros(SHAPE, np.float32), SPACING) == (0.0, 0.0)


def test_the_detected_rate_has_the_bed_positions_in_it():
    scanner = scanner_named("D690")
    rate = scanner.counts_per_kbq_s(270, 4.0)
    inner = rate[20:-20]
    assert rate[0] < 0.6 * inner.mean() and (rate > 0).all()
    assert inner.mean() == pytest.approx(7.4 * 700 / 157 / (1 - 0.24), rel=0.03)
    for preset in SCANNERS.values():
        values = preset.counts_per_kbq_s(270, 4.0)
        assert (values > 0).all() and values[0] == pytest.approx(values[-1], rel=1e-3)


def test_timing_gains():
    assert scanner_named("Vision 600").tof_width_mm == pytest.approx(32.1, abs=0.1)
    assert scanner_named("dmi").tof_gain(300.0) == pytest.approx(0.33 * 300 / 56.2, rel=1e-3)
    assert scanner_named("gemini-tf").tof_gain(50.0) == 1.0
    with pytest.raises(UsageError, match="Quadra"):
        scanner_named("ECAT 951")


def test_poisson_counts_thin_to_poisson_counts():
    rng = np.random.default_rng(3)
    mean = np.full((20, 250, 200), 8.0, np.float32)
    counts = draw_counts(mean, rng)
    kept = thin(counts, 0.05, rng)
    assert kept.mean() == pytest.approx(0.05 * 8.0, rel=5e-3)
    assert kept.var() / kept.mean() == pytest.approx(1.0, abs=5e-3)
    rest = counts - kept
    assert np.corrcoef(kept.ravel(), rest.ravel())[0, 1] == pytest.approx(0.0, abs=4e-3)
    assert np.corrcoef(kept.ravel(), counts.ravel())[0, 1] == pytest.approx(np.sqrt(0.05), abs=4e-3)
    assert kept.min() >= 0 and (kept <= counts).all()


def test_a_thinned_measurement_keeps_its_unit():
    counts = np.full((4, 5, 6), 100, np.int32)
    ones = np.ones((4, 5, 6), np.float32)
    low = thinned(Measurement(counts, ones, ones), 0.25, np.random.default_rng(0))
    assert low.factor[0, 0, 0] == low.background[0, 0, 0] == 0.25
    assert low.counts.mean() == pytest.approx(25.0, abs=2.0)
    np.testing.assert_array_equal(thin(counts, 1.0, np.random.default_rng(0)), counts)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, 5, float("nan"), True, "0.1"])
def test_fractions_that_are_none_are_refused_by_value(fraction):
    with pytest.raises(UsageError, match="dose fraction"):
        thin(np.ones((2, 2, 2), np.int32), fraction, np.random.default_rng(0))


def test_only_whole_counts_can_be_thinned_and_protocols_are_checked():
    with pytest.raises(UsageError, match="whole counts"):
        thin(np.ones((2, 2, 2)), 0.5, np.random.default_rng(0))
    for wrong in ({"mbq_per_kg": 300.0}, {"seconds_per_bed": 0.0}, {"uptake_min": -1.0}):
        with pytest.raises(UnitError, match=next(iter(wrong))):
            Protocol(**wrong)
    with pytest.raises(UnitError, match="Tc-99m"):
        Protocol().kbq_per_ml("Tc-99m")
