"""Centres differ from one another, patients of one centre hardly; everything is drawn from its seed."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.simulation.scanner import SCANNERS
from uptake.simulation.site import Site, draw_site, patient_protocol


@pytest.fixture(scope="module")
def sites():
    return [draw_site(np.random.default_rng(n), name=f"s{n}") for n in range(300)]


def test_sites_cover_scanners_and_settings_within_their_ranges(sites):
    assert set(Counter(site.scanner.name for site in sites)) == set(SCANNERS)
    calibration = np.array([site.calibration for site in sites])
    assert calibration.std() == pytest.approx(0.04, abs=0.006) and np.abs(calibration - 1).max() < 0.1001
    for site in sites:
        assert 2.0 <= site.protocol.mbq_per_kg <= 5.5
        assert 60 <= site.protocol.seconds_per_bed <= (900 if site.scanner.afov_mm > 700 else 240)
        assert 2.0 <= site.recon.filter_fwhm_mm <= 7.0
        assert (site.recon.psf_fwhm_mm == 0) or site.recon.psf_fwhm_mm >= site.scanner.fwhm_mm
        assert 8 <= site.ct.noise_hu <= 35 and abs(site.ct.offset_hu) <= 4
    assert {site.ct.phase for site in sites} == {"none", "portal", "arterial"}
    assert {site.breath_hold for site in sites} == {"free", "expiration", "inspiration"}


def test_a_site_is_its_seed_and_fixing_the_scanner_leaves_the_rest(sites):
    assert draw_site(np.random.default_rng(7), name="s7") == sites[7]
    fixed = draw_site(np.random.default_rng(7), scanner="vision 600")
    assert fixed.scanner.name == "Vision 600"
    assert (fixed.ct, fixed.calibration, fixed.breath_hold) == (sites[7].ct, sites[7].calibration, sites[7].breath_hold)


def test_a_site_can_be_written_down(sites):
    for site in sites[:20]:
        assert json.loads(json.dumps(site.as_json()))["scanner"] == site.scanner.name


def test_patients_differ_a_little_and_by_weight_where_the_rule_says_so():
    site = Site(square_rule=True)
    drawn = [patient_protocol(site, 75.0, np.random.default_rng(n)) for n in range(200)]
    activity = np.array([p.mbq_per_kg for p in drawn])
    assert np.log(activity / 3.5).std() == pytest.approx(0.05, abs=0.01)
    assert np.mean([p.uptake_min for p in drawn]) == pytest.approx(61, abs=1.0)
    heavy = patient_protocol(site, 150.0, np.random.default_rng(0))
    assert heavy.mbq_per_kg == pytest.approx(2 * drawn[0].mbq_per_kg)
    plain = patient_protocol(Site(), 150.0, np.random.default_rng(0))
    assert plain.mbq_per_kg == pytest.approx(drawn[0].mbq_per_kg)
    with pytest.raises(UsageError, match="weight"):
        patient_protocol(site, 0.0, np.random.default_rng(0))
