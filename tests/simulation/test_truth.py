"""The record that anatomy hands to the scanner: one grid, SUV, a weight, and organs by name."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import GeometryError, UnitError
from uptake.geometry import Volume
from uptake.simulation.truth import Truth

LPS = np.diag([-4.0, -4.0, 4.0, 1.0])


def make(shape=(4, 4, 4), affine=LPS, **changes):
    zeros = Volume(np.zeros(shape, np.float32), affine)
    labels = Volume(np.zeros(shape, np.uint8), affine)
    labels.array[0], labels.array[1] = 1, 2
    parts = {"activity": zeros, "hu": zeros, "organs": labels, "lesions": labels, "weight_kg": 70.0, **changes}
    return Truth(**parts, organ_names={1: "lung_upper_lobe_left", 2: "liver"})


def test_organs_are_found_by_name_and_by_beginning():
    truth = make()
    assert truth.mask("liver")[1].all() and not truth.mask("liver")[[0, 2, 3]].any()
    assert truth.mask("lung_*", "liver")[:2].all()
    assert not truth.mask("spleen").any()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"hu": Volume(np.zeros((4, 4, 5), np.float32), LPS)}, GeometryError),
        ({"activity": Volume(np.full((4, 4, 4), -0.1, np.float32), LPS)}, UnitError),
        ({"activity": Volume(np.full((4, 4, 4), np.nan, np.float32), LPS)}, UnitError),
        ({"hu": Volume(np.full((4, 4, 4), np.inf, np.float32), LPS)}, UnitError),
        ({"weight_kg": 70_000.0}, UnitError),
        ({"affine": LPS[[2, 1, 0, 3]]}, GeometryError),
    ],
)
def test_what_cannot_be_a_patient_is_refused(change, error):
    with pytest.raises(error):
        make(**change)
