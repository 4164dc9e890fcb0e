"""A whole examination of the trunk: means, noise against dose, misalignment, determinism."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from uptake.core.errors import UsageError
from uptake.simulation.attenuation import MU_WATER_PER_MM, survival
from uptake.simulation.counts import Protocol
from uptake.simulation.ct import CtSettings
from uptake.simulation.misalignment import Motion
from uptake.simulation.osem import Measurement, Recon, reconstruct
from uptake.simulation.petscan import scan_patient
from uptake.simulation.projector import Projector, ScanGeometry
from uptake.simulation.site import Site

STILL = Motion()
SITE = Site(recon=Recon(2, 8, 0.0, 6.0), ct=CtSettings(noise_hu=5.0))
DOSE = Protocol(3.5, 60.0, 60.0)
FRACTIONS = (1.0, 0.5, 0.25, 0.1, 0.05)


def scan(trunk, seed=0, site=SITE, motion=STILL, protocol=DOSE, **options):
    return scan_patient(trunk, site, seed=seed, motion=motion, protocol=protocol, **options)


@pytest.fixture(scope="module")
def scans(trunk):
    return [scan(trunk, seed, fractions=FRACTIONS, noise_free=True) for seed in range(3)]


def inside(trunk, *names, depth=3):
    return binary_erosion(trunk.mask(*names) & (trunk.lesions.array == 0), iterations=depth)


def test_liver_noise_grows_with_the_inverse_root_of_the_dose(trunk, scans):
    liver = inside(trunk, "liver", depth=2)
    slopes = []
    for one in scans:
        ideal = one.noise_free.array[liver]
        cov = [float((one.pet[f].array[liver] - ideal).std() / ideal.mean()) for f in FRACTIONS]
        slopes.append(np.polyfit(np.log(FRACTIONS), np.log(cov), 1)[0])
        assert (np.diff(cov) > 0).all()
    assert np.mean(slopes) == pytest.approx(-0.5, abs=0.05)


def test_organ_means_hold_down_to_five_per_cent(trunk, scans):
    for names, depth in ((("liver",), 2), (("lung_*",), 2), (("skeletal_muscle",), 2)):
        organ = inside(trunk, *names, depth=depth)
        ideal = np.mean([one.noise_free.array[organ].mean() for one in scans])
        for fraction in FRACTIONS:
            measured = np.mean([one.pet[fraction].array[organ].mean() for one in scans])
            assert measured == pytest.approx(ideal, rel=0.03), (names, fraction)


def test_the_reconstruction_is_quantitative_and_never_negative(trunk, scans):
    for names, depth in ((("liver",), 4), (("lung_*",), 4)):
        organ = inside(trunk, *names, depth=depth)
        assert scans[0].noise_free.array[organ].mean() == pytest.approx(trunk.activity.array[organ].mean(), rel=0.05)
    assert all(pet.array.min() >= 0 for one in scans for pet in one.pet.values())


def test_same_seed_same_bytes_and_a_further_dose_changes_nothing(trunk, scans):
    again = scan(trunk, 1, fractions=(0.1,), threads=2)
    assert again.pet[0.1].array.tobytes() == scans[1].pet[0.1].array.tobytes()
    assert again.ct.array.tobytes() == scans[1].ct.array.tobytes()
    assert scans[0].pet[0.1].array.tobytes() != scans[1].pet[0.1].array.tobytes()


def test_everything_that_was_drawn_can_be_written_down(scans):
    written = json.loads(json.dumps(scans[0].parameters))
    assert written["counts"]["nec_per_litre"] > 0 and written["site"]["scanner"] == "mCT"
    assert set(written["liver_cov"]) == {f"{f:g}" for f in FRACTIONS}
    assert scans[0].liver_cov[0.05] > scans[0].liver_cov[1.0]


def test_a_ct_in_inspiration_leaves_a_cold_band_below_the_dome(trunk):
    # The truth is still, so that only the correction differs.
    quiet = replace(SITE, ct=CtSettings(noise_hu=0.0))
    liver = trunk.mask("liver")
    dome = liver & ~binary_erosion(liver, np.ones((1, 1, 5)), border_value=1)
    dome[:, :, : dome.shape[2] // 2 - 2] = False
    values = {}
    for shift in (-8.0, 0.0, 4.0, 8.0, 12.0):
        one = scan(trunk, site=quiet, motion=Motion(0.0, shift), noise_free=True)
        values[shift] = float(one.noise_free.array[dome].mean())
    assert values[-8.0] > values[0.0] > values[4.0] > values[8.0] > values[12.0]
    assert values[0.0] == pytest.approx(float(trunk.activity.array[dome].mean()), rel=0.25)
    assert 0.3 < values[12.0] / values[0.0] < 0.95


def test_tissue_corrected_as_lung_reads_what_back_projection_of_the_wrong_lines_gives():
    # A column (radius 25 mm, SUV 2, water) in a wide lung (SUV 0.5, path 200 mm), all of it corrected as lung. Lines
    # through the column of chord L = 50 cos(phi) read f(L) = (1.5 L + 100) exp(-0.007 L), and the inverse Radon
    # transform at its middle is 0.5 + the mean over phi of f'(L).
    phi = (np.arange(200) + 0.5) / 200 * np.pi / 2
    chord = 50 * np.cos(phi)
    expected = 0.5 + float(np.mean(np.exp(-0.007 * chord) * (1.5 - 0.007 * (1.5 * chord + 100))))
    shape, spacing = (61, 61, 4), (4.0,) * 3
    r = np.hypot(*(((np.arange(61) - 30) * 4.0)[a] for a in (np.s_[:, None], np.s_[None, :])))[:, :, None]
    ones = np.ones((1, 1, 4), np.float32)
    column = (r < 25) * ones
    activity = (r < 100) * (0.5 + 1.5 * column)
    mu = np.where(r < 100, 0.0026, 0.0) * ones
    projector = Projector(ScanGeometry.of_image(shape, spacing, subsets=4), subsets=4)
    true, assumed = (survival(projector.apply((mu + extra).astype(np.float32))) for extra in (0.007 * column, 0.0))
    counts = true * projector.apply(activity.astype(np.float32))
    image = reconstruct(Measurement(counts, assumed, counts * 0), projector, Recon(4, 4, 0.0, 0.0), spacing)
    assert image[30, 30].mean() == pytest.approx(expected, rel=0.06)


def test_calibration_and_clock_scale_every_value(trunk, scans):
    site = replace(SITE, calibration=1.05, clock_error_s=600.0)
    biased = scan(trunk, 0, site=site)
    factor = 1.05 * 2 ** (600 / 6586.2)
    np.testing.assert_allclose(biased.pet[1.0].array, scans[0].pet[1.0].array * np.float32(factor), rtol=1e-4)


def test_more_counts_and_longer_scans_are_less_noisy(trunk):
    covs = [scan(trunk, 0, protocol=Protocol(3.5, 60.0, seconds)).liver_cov[1.0] for seconds in (15.0, 60.0, 240.0)]
    assert covs[0] > covs[1] > covs[2]


def test_detectability_grows_with_counts_contrast_and_size():
    # Index of the non-prewhitening observer for a Gaussian lesion in white noise of known level, on reconstructions.
    shape, spacing = (41, 41, 24), (6.0,) * 3
    projector = Projector(ScanGeometry.of_image(shape, spacing, subsets=4), subsets=4)
    r = np.hypot(*(((np.arange(41) - 20) * 6.0)[a] for a in (np.s_[:, None], np.s_[None, :])))
    body = np.repeat((r < 100).astype(np.float32)[:, :, None], 24, axis=2)
    factor = survival(projector.apply(body * np.float32(MU_WATER_PER_MM)))

    def index(counts: float, contrast: float, width: float) -> float:
        lesion = np.repeat((contrast * np.exp(-(r**2) / 2 / width**2)).astype(np.float32)[:, :, None], 24, axis=2)
        recon = Recon(2, 4, 0.0, 6.0)
        scale = np.float32(counts)
        with_it, without = (projector.apply(x) * factor * scale for x in (body + lesion, body))
        parts = (factor * scale, np.zeros_like(factor))
        template = reconstruct(Measurement(with_it, *parts), projector, recon, spacing)
        ideal = reconstruct(Measurement(without, *parts), projector, recon, spacing)
        template = template - ideal
        drawn = np.random.default_rng(0).poisson(without)
        noise = (reconstruct(Measurement(drawn, *parts), projector, recon, spacing) - ideal) * template
        return float((template**2).sum(axis=(0, 1)).mean() / noise.sum(axis=(0, 1)).std())

    base = index(0.5, 1.0, 10.0)
    assert index(2.0, 1.0, 10.0) > base
    assert index(0.5, 2.0, 10.0) > base
    assert index(0.5, 1.0, 15.0) > base


def test_a_scan_without_dose_or_seed_is_refused(trunk):
    for options in ({"fractions": ()}, {"fractions": (0.0,)}, {"fractions": (1.5,)}):
        with pytest.raises(UsageError):
            scan(trunk, **options)
    with pytest.raises(UsageError, match="seed"):
        scan(trunk, -1)
