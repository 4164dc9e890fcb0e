import math

import numpy as np
import pytest

from uptake.core.errors import InputError
from uptake.geometry import Volume
from uptake.quantification.lesions import measure_lesions
from uptake.quantification.totals import SuvTotals, suv_totals

GRID = np.diag([2.0, 3.0, 5.0, 1.0])  # 0.03 mL


def test_by_hand():
    array = np.zeros((3, 3, 3))
    array[1, 1, 1], array[1, 1, 2] = 4.0, 2.0
    found = suv_totals(Volume(array, GRID), array > 0)
    assert (found.mtv_ml, found.tlg_g) == (pytest.approx(0.06), pytest.approx(0.18))
    assert (found.suv_max, found.suv_mean) == (4.0, 3.0)


def test_the_totals_of_the_lesion_table_are_the_same():
    rng = np.random.default_rng(0)
    pet = Volume(rng.gamma(2, 1, (14, 12, 10)), GRID)
    mask = np.zeros(pet.shape, bool)
    mask[2:6, 2:6, 2:6] = mask[8:12, 7:11, 6:9] = True
    totals = measure_lesions(pet, pet.with_array(mask)).totals
    found = suv_totals(pet, mask)
    for name in SuvTotals.__dataclass_fields__:
        assert getattr(found, name) == pytest.approx(getattr(totals, name)), name


def test_an_empty_mask_has_volume_zero_and_no_suv():
    pet = Volume(np.ones((3, 3, 3)), GRID)
    found = suv_totals(pet, np.zeros(pet.shape, bool))
    assert (found.mtv_ml, found.tlg_g) == (0, 0)
    assert all(math.isnan(value) for value in (found.suv_max, found.suv_mean, found.suv_peak))


def test_guards():
    pet = Volume(np.ones((3, 3, 3)), GRID)
    with pytest.raises(InputError, match="boolean mask of shape"):
        suv_totals(pet, np.ones((3, 3, 2), bool))
    with pytest.raises(InputError, match="boolean mask"):
        suv_totals(pet, np.ones((3, 3, 3)))
