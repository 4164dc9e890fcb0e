"""Body and attenuation from a PET alone."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import InputError, UsageError
from uptake.geometry import Volume
from uptake.simulation.attenuation import MU_WATER_PER_MM
from uptake.simulation.body_map import attenuation_from_pet, body_box, body_of

SPACING = (6.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def pet(trunk):
    rng = np.random.default_rng(0)
    return trunk.activity.with_array(
        (trunk.activity.array * rng.gamma(4, 0.25, trunk.activity.shape)).astype(np.float32)
    )


def test_the_body_is_found_with_its_lungs_and_without_specks_in_the_air(trunk, pet):
    array = pet.array.copy()
    array[2:4, 2:4, 30:33] = 3.0
    found, true = body_of(pet.with_array(array)), trunk.organs.array > 0
    assert (found & true).sum() > 0.98 * true.sum()
    assert (found & ~true).sum() < 0.2 * true.sum()
    assert not found[2:4, 2:4].any()


def test_attenuation_is_water_and_lung_where_lungs_are_given(trunk, pet):
    lungs = trunk.mask("lung_*")
    assert attenuation_from_pet(pet)[lungs] == pytest.approx(MU_WATER_PER_MM)
    with_lungs = attenuation_from_pet(pet, lungs)
    assert with_lungs[lungs] == pytest.approx(0.27 * MU_WATER_PER_MM)
    assert with_lungs[trunk.mask("liver")] == pytest.approx(MU_WATER_PER_MM)
    with pytest.raises(UsageError, match="lung mask"):
        attenuation_from_pet(pet, lungs[:-1])


def test_the_box_leaves_a_margin_and_keeps_all_slices():
    body = np.zeros((50, 40, 10), bool)
    body[20:25, 2:30, 4:6] = True
    assert body_box(body, SPACING) == (slice(14, 31), slice(0, 36), slice(0, 10))
    assert body_box(np.zeros((5, 6, 7), bool), SPACING) == (slice(0, 5), slice(0, 6), slice(0, 7))


def test_an_image_of_air_is_refused():
    with pytest.raises(InputError, match="no body"):
        body_of(Volume(np.full((8, 8, 8), 0.01, np.float32), np.diag([4.0, 4.0, 4.0, 1.0])))
