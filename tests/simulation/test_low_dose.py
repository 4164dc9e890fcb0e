"""Residual injection against exact thinning, its levels, its grids, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from uptake.core.errors import GeometryError, InputError, UnitError, UsageError
from uptake.geometry import Volume, reorient
from uptake.simulation.counts import Protocol, draw_counts, thinned
from uptake.simulation.ct import CtSettings
from uptake.simulation.low_dose import fraction_for, low_dose_of
from uptake.simulation.misalignment import Motion
from uptake.simulation.noise_match import neighbour_correlation
from uptake.simulation.osem import Recon
from uptake.simulation.petscan import scan_patient
from uptake.simulation.site import Site

RECON = Recon(2, 8, 0.0, 6.0)
DOSE = Protocol(3.5, 60.0, 60.0)


@pytest.fixture(scope="module")
def scan(trunk):
    site = Site(recon=RECON, ct=CtSettings(noise_hu=5.0))
    return scan_patient(
        trunk, site, seed=5, motion=Motion(), protocol=DOSE, fractions=(1.0, 0.25, 0.1), noise_free=True
    )


@pytest.fixture(scope="module")
def full_cov(trunk, scan):
    """Noise of the full-dose image, its texture left out: SD over the liver of image less noise-free image."""
    liver = binary_erosion(trunk.mask("liver"), iterations=2)
    ideal = scan.noise_free.array[liver]
    return float((scan.pet[1.0].array[liver] - ideal).std() / ideal.mean())


def noise_power(noise: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Shares of transverse noise power below 0.2, 0.4, ... 0.8 per cm."""
    n, m, _ = noise.shape
    power = (np.abs(np.fft.fft2(noise - noise.mean(axis=(0, 1)), axes=(0, 1))) ** 2).sum(axis=2)
    frequency = np.hypot(np.fft.fftfreq(n, spacing_mm / 10)[:, None], np.fft.fftfreq(m, spacing_mm / 10)[None, :])
    shares, _ = np.histogram(frequency, bins=(0, 0.2, 0.4, 0.6, 0.8), weights=power)
    return shares / shares.sum()


@pytest.mark.parametrize("fraction", [0.25, 0.1])
def test_injected_noise_is_that_of_exact_thinning(trunk, scan, fraction):
    liver = binary_erosion(trunk.mask("liver") & (trunk.lesions.array == 0), iterations=2)
    ideal = scan.noise_free.array
    exact, injected = [], []
    for seed in range(3):
        twin = low_dose_of(scan.pet[1.0], scan.ct, fraction, seed=seed, nec_per_litre=scan.counts.nec_per_litre,
                           recon=RECON)  # fmt: skip
        injected.append(twin.image.array - ideal)
        again = scan_patient(trunk, Site(recon=RECON, ct=CtSettings(noise_hu=5.0)), seed=50 + seed, motion=Motion(),
                             protocol=DOSE, fractions=(fraction,))  # fmt: skip
        exact.append(again.pet[fraction].array - ideal)
    sd = [np.mean([noise[liver].std() for noise in some]) for some in (exact, injected)]
    assert sd[1] / sd[0] == pytest.approx(1.0, abs=0.07)
    box = np.s_[20:30, 20:34, 18:30]
    bins = [np.mean([noise_power(noise[box], 6.0) for noise in some], axis=0) for some in (exact, injected)]
    np.testing.assert_allclose(bins[1], bins[0], atol=0.06)
    means = [np.mean([noise[liver].mean() for noise in some]) for some in (exact, injected)]
    assert means[1] == pytest.approx(means[0], abs=0.03 * 2.3)


def test_towards_full_dose_the_image_comes_back(trunk, scan):
    pet = scan.pet[1.0]
    same = low_dose_of(pet, scan.ct, 1.0, seed=0, liver=trunk.mask("liver"), recon=RECON)
    np.testing.assert_array_equal(same.image.array, pet.array)
    near = low_dose_of(pet, scan.ct, 0.99, seed=0, liver=trunk.mask("liver"), recon=RECON)
    half = low_dose_of(pet, scan.ct, 0.5, seed=0, liver=trunk.mask("liver"), recon=RECON)
    change = [np.abs(twin.image.array - pet.array).mean() for twin in (near, half)]
    assert 0 < change[0] < 0.15 * change[1]
    assert half.image.array.min() >= 0


def test_levels_are_told_in_counts_and_noise(trunk, scan):
    quiet, noisy = (low_dose_of(scan.pet[1.0], scan.ct, 0.5, seed=0, liver=trunk.mask("liver"), liver_cov=cov,
                                recon=RECON) for cov in (0.05, 0.10))  # fmt: skip
    assert quiet.nec_per_litre == pytest.approx(4 * noisy.nec_per_litre, rel=0.25)
    assert noisy.liver_cov == pytest.approx(0.10 * np.sqrt(2))
    given = low_dose_of(scan.pet[1.0], scan.ct, 0.5, seed=0, nec_per_litre=2e5, recon=RECON)
    assert given.nec_per_litre == pytest.approx(1e5)
    written = json.loads(json.dumps(dict(given.record)))
    assert written["nec_per_litre_full"] == pytest.approx(2e5) and written["attenuation"] == "ct"


def test_counts_come_back_from_the_noise_they_made(trunk, scan, full_cov):
    twin = low_dose_of(scan.pet[1.0], scan.ct, 0.5, seed=0, liver=trunk.mask("liver"), recon=RECON)
    assert twin.full_liver_cov == pytest.approx(full_cov, rel=0.12)
    assert twin.record["nec_per_litre_full"] == pytest.approx(scan.counts.nec_per_litre, rel=0.3)


def test_without_ct_or_liver_it_still_works_and_finds_the_filter(scan):
    twin = low_dose_of(scan.pet[1.0], None, 0.1, seed=0)
    assert twin.record["attenuation"] == "pet" and twin.record["filter_matched"]
    assert twin.record["recon"]["filter_fwhm_mm"] == pytest.approx(6.0, abs=2.0)
    assert twin.image.array.std() > scan.pet[1.0].array.std()


def test_orientation_and_ct_grid_do_not_matter(trunk, scan):
    pet, ct = scan.pet[1.0], scan.ct
    options = {"seed": 4, "liver_cov": 0.08, "recon": RECON}
    straight = low_dose_of(pet, ct, 0.2, liver=trunk.mask("liver"), **options)
    turned = reorient(pet, "SAR")
    liver = reorient(pet.with_array(trunk.mask("liver")), "SAR").array
    back = low_dose_of(turned, reorient(ct, "RIP"), 0.2, liver=liver, **options)
    np.testing.assert_allclose(reorient(back.image, "LPS").array, straight.image.array, atol=1e-4)
    assert back.image.affine == pytest.approx(turned.affine)


def test_same_seed_same_bytes(scan):
    options = {"liver_cov": 0.08, "recon": RECON}
    one, two, other = (low_dose_of(scan.pet[1.0], scan.ct, 0.2, seed=s, **options).image.array for s in (1, 1, 2))
    assert one.tobytes() == two.tobytes() != other.tobytes()


def test_fractions_follow_from_levels():
    assert fraction_for(1e6, 5e4) == pytest.approx(0.05)
    assert fraction_for(0.08, 0.16, by="liver_cov") == pytest.approx(0.25)
    for wrong in ((1e5, 1e6), (0.0, 1.0)):
        with pytest.raises(UsageError):
            fraction_for(*wrong)
    with pytest.raises(UsageError, match="SNR"):
        fraction_for(1.0, 0.5, by="SNR")


@pytest.mark.parametrize("fraction", [0, -0.5, 1.2, 5])
def test_fractions_outside_are_refused(scan, fraction):
    with pytest.raises(UsageError, match="dose fraction"):
        low_dose_of(scan.pet[1.0], scan.ct, fraction, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a * 5000.0, "plainly not in SUV"),
        (lambda a: a - 0.3, "negative"),
        (lambda a: np.where(a > 3, np.nan, a), "not finite"),
        (lambda a: a / a.max(), "plainly not in SUV"),
    ],
)
def test_images_that_are_no_suv_are_refused(scan, change, message):
    pet = scan.pet[1.0]
    with pytest.raises(UnitError, match=message):
        low_dose_of(pet.with_array(change(pet.array).astype(np.float32)), None, 0.1, seed=0)


def test_what_does_not_fit_is_refused(trunk, scan):
    pet = scan.pet[1.0]
    with pytest.raises(UsageError, match="liver mask"):
        low_dose_of(pet, None, 0.1, seed=0, liver=np.ones((3, 3, 3), bool))
    with pytest.raises(UsageError, match="seed"):
        low_dose_of(pet, None, 0.1, seed=-1)
    with pytest.raises(UnitError, match="liver_cov"):
        low_dose_of(pet, None, 0.1, seed=0, liver_cov=8.0)
    with pytest.raises(UnitError, match="nec_per_litre"):
        low_dose_of(pet, None, 0.1, seed=0, nec_per_litre=-1.0)
    with pytest.raises(UnitError, match="Hounsfield"):
        low_dose_of(pet, scan.ct.with_array(scan.ct.array / 1000), 0.1, seed=0)
    strange = Volume(scan.ct.array, scan.ct.affine, frame_of_reference="1.2.3")
    with pytest.raises(GeometryError, match="frames of reference"):
        low_dose_of(Volume(pet.array, pet.affine, frame_of_reference="1.2.4"), strange, 0.1, seed=0)
    with pytest.raises(InputError, match="no sphere of 3 cm"):
        low_dose_of(pet, None, 0.1, seed=0, liver=np.zeros(pet.shape, bool))


def test_neighbours_correlate_as_the_filter_makes_them():
    from uptake.simulation.fields import correlated_noise

    noise = correlated_noise(np.random.default_rng(0), (60, 60, 20), (8.0, 8.0, 0.0), (4.0,) * 3)
    region = np.zeros(noise.shape, bool)
    region[10:50, 10:50, 2:18] = True
    white = correlated_noise(np.random.default_rng(0), (60, 60, 20), (0.0, 0.0, 0.0), (4.0,) * 3)
    assert abs(neighbour_correlation(white, region, (4.0,) * 3)) < 0.06
    assert neighbour_correlation(noise, region, (4.0,) * 3) > 0.5


def test_pairs_share_everything_but_the_counts(trunk, scan):
    # Noise2noise: the two halves of a thinned scan are independent scans of one patient.
    from uptake.simulation.osem import Measurement

    ones = np.ones((20, 30, 40), np.float32)
    counts = draw_counts(ones * 5, np.random.default_rng(0))
    half = thinned(Measurement(counts, ones, ones), 0.5, np.random.default_rng(1))
    rest = counts - half.counts
    assert abs(np.corrcoef(half.counts.ravel(), rest.ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(half.factor, 0.5 * ones)
