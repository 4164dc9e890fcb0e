"""CT numbers to 511 keV: fixed points of the scale, and what a water cylinder does to photons."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import UnitError
from uptake.simulation.attenuation import (
    BILINEAR_BY_KVP,
    MU_WATER_PER_MM,
    attenuation_per_cm,
    attenuation_per_mm,
    correction_factor,
    survival,
)


@pytest.mark.parametrize("kvp", BILINEAR_BY_KVP)
def test_air_water_and_the_break_point(kvp):
    scale = BILINEAR_BY_KVP[kvp]
    assert attenuation_per_cm(np.array([-1000.0, -1024.0, -3000.0]), kvp=kvp) == pytest.approx(0.0, abs=1e-7)
    assert attenuation_per_cm(np.zeros(1), kvp=kvp) == pytest.approx(0.096, rel=1e-5)
    below, above = attenuation_per_cm(np.array([scale.break_hu - 1e-3, scale.break_hu]), kvp=kvp)
    assert above == pytest.approx(below, abs=2e-4)


def test_bone_attenuates_less_per_hounsfield_unit_at_a_lower_voltage():
    values = [float(attenuation_per_cm(np.array([1000.0]), kvp=kvp)[0]) for kvp in sorted(BILINEAR_BY_KVP)]
    assert values == sorted(values)
    assert attenuation_per_mm(np.array([1000.0]))[0] == pytest.approx((5.10e-5 * 2000 + 0.0471) / 10)


def test_the_factor_of_a_water_cylinder_is_the_exponential():
    # 200 mm of water: e^1.92 = 6.82.
    assert correction_factor(np.array([200.0 * MU_WATER_PER_MM])) == pytest.approx(6.821, abs=2e-3)
    assert survival(np.array([-0.1, 1e6]))[0] == 1.0
    assert survival(np.array([1e6]))[0] > 0


def test_an_unknown_voltage_is_refused():
    with pytest.raises(UnitError, match="90"):
        attenuation_per_cm(np.zeros(1), kvp=90)
