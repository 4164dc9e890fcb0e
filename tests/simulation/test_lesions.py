"""Lesions and mimics over many patients: sites, sizes, contrast and what the records say. No anatomy is repainted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from uptake.simulation import TRACERS, PatientConfig, simulate_truth
from uptake.simulation.labels import ORGAN_IDS
from uptake.simulation.lesions import INFILTRATIVE_SHARE, SUV_CEILING, _cover
from uptake.simulation.mimics import _PAINTERS, RATES, STRENGTH
from uptake.simulation.sites import HOSTS, SITES, STATION_SHARES, STATIONS, UPTAKE

COARSE = (8.0, 8.0, 8.0)


@pytest.fixture(scope="module", params=TRACERS)
def crowded(request):
    config = PatientConfig(tracer=request.param, sex="male", conditions=False, bmi=25.0)
    return simulate_truth(41, spacing_mm=COARSE, n_lesions=45, config=config)


@pytest.mark.parametrize(("volume", "spacing"), [(0.2, 4.0), (1.0, 4.0), (2.0, 6.0), (20.0, 4.0)])
def test_coverage_keeps_a_lesions_volume(volume, spacing):
    line = (np.arange(24) - 11.5) * spacing
    canvas = SimpleNamespace(axes_mm=(line, line, line), spacing_mm=(spacing,) * 3)
    radius = np.cbrt(volume * 1000 * 3 / (4 * np.pi))
    radii = radius * np.array([1.1, 1.0, 1 / 1.1])
    box = (slice(0, 24),) * 3
    level, cover = _cover(canvas, box, np.array([0.7, -0.4, 1.9]), radii, np.zeros((24,) * 3, np.float32), 4)
    assert cover.sum() * spacing**3 / 1000 == pytest.approx(volume, rel=0.03)
    assert (cover[level < 1 - spacing / radius] > 0.99).all() and cover[level > 1 + spacing / radius].max() < 0.01


def test_tables_name_what_exists():
    for tracer in TRACERS:
        assert sum(SITES[tracer].values()) == pytest.approx(1.0)
        assert sum(STATION_SHARES[tracer].values()) == pytest.approx(1.0)
        assert set(STATION_SHARES[tracer]) <= set(STATIONS)
        assert set(SITES[tracer]) - {"node", "mesentery"} <= set(HOSTS)
        assert set(UPTAKE.get(tracer, {})) - {""} <= set(SITES[tracer])
        assert set(STRENGTH[tracer]) <= set(RATES[tracer]) <= set(_PAINTERS)
    assert all(host in ORGAN_IDS for hosts in HOSTS.values() for host in hosts)


def test_every_lesion_is_written_down(crowded):
    table, numbers = crowded.lesion_table, crowded.lesions.array
    assert len(table) >= 40
    assert sorted(np.unique(numbers[numbers > 0])) == [lesion.number for lesion in table]
    for lesion in table:
        mask = numbers == lesion.number
        assert lesion.volume_ml == pytest.approx(mask.sum() * crowded.lesions.voxel_volume_ml)
        assert lesion.suv_max == pytest.approx(crowded.activity.array[mask].max())
        assert lesion.suv_mean <= lesion.suv_max
        assert lesion.site in SITES[crowded.tracer] and lesion.tracer == crowded.tracer
        assert lesion.suv_drawn <= SUV_CEILING[crowded.tracer] * 1.01 or lesion.tbr < 2
    # Above what surrounds it: a focus beside the bladder or a hot organ may be the exception.
    assert np.mean([lesion.tbr > 1.3 for lesion in table]) > 0.85


def test_lesions_follow_the_tracer(crowded):
    seen = {lesion.site for lesion in crowded.lesion_table}
    likely = {site for site, share in SITES[crowded.tracer].items() if share >= 0.14}
    assert likely <= seen
    mean = np.mean([lesion.suv_drawn for lesion in crowded.lesion_table])
    low, high = {"FDG": (3, 12), "FAPI-04": (5, 14)}.get(crowded.tracer, (8, 28))
    assert low < mean < high


def test_shapes_have_their_shares():
    tables = [simulate_truth(50 + n, spacing_mm=(12.0,) * 3, n_lesions=50).lesion_table for n in range(3)]
    lesions = [lesion for table in tables for lesion in table]
    assert np.mean([lesion.infiltrative for lesion in lesions]) == pytest.approx(INFILTRATIVE_SHARE, abs=0.08)
    assert all(lesion.volume_ml > 10 for lesion in lesions if lesion.cold_core)
    assert any(lesion.clustered for lesion in lesions)


def test_mimics_carry_their_place_and_no_lesion_label():
    config = PatientConfig(tracer="PSMA-1007", lesion_free_fraction=1.0)
    kinds = set()
    for seed in range(60, 63):
        truth = simulate_truth(seed, spacing_mm=COARSE, config=config)
        assert not truth.lesions.array.any()
        for mimic in truth.mimics:
            kinds.add(mimic.kind)
            index = np.rint(truth.activity.index_of(np.asarray(mimic.centre_mm))).astype(int)
            near = tuple(slice(max(i - 2, 0), i + 3) for i in index)
            assert truth.activity.array[near].max() > 0.3 * min(mimic.suv, 3.0), mimic
    assert {"ganglion", "unspecific_bone"} <= kinds
