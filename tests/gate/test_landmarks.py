"""Landmarks in blocks with known answers: 8 mm voxels, x to the right, y to the front."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.gate.landmarks import liver_in_pet, spine_offset_mm
from uptake.gate.overview import Overview

SHAPE = (48, 40, 40)


def overview(image, body):
    return Overview(image.astype(np.float32), body, np.ones(image.shape, dtype=bool), (0.0, 0.0, 0.0), 8.0)


@pytest.fixture
def trunk():
    body = np.zeros(SHAPE, dtype=bool)
    body[6:42, 8:32] = True
    return body


def with_bone(body, *, front_slices=()):
    """A CT with a square of bone of 6 cm² behind the middle in every slice, or before it in those named."""
    image = np.where(body, 40.0, -1000.0)
    for k in range(SHAPE[2]):
        y = 28 if k in front_slices else 9
        image[23:26, y : y + 3, k] = 300.0
    return overview(image, body)


def test_the_spine_lies_behind_the_middle_by_what_was_drawn(trunk):
    offset, slices = spine_offset_mm(with_bone(trunk))
    assert offset == pytest.approx((10 - 19.5) * 8.0) and slices == SHAPE[2]


def test_a_piece_of_bone_that_is_no_vertebra_is_not_counted(trunk):
    view = with_bone(trunk)
    view.image[23:26, 9:12] = 40.0
    view.image[24, 28:30] = 300.0  # two voxels: 1.3 cm², a sternum
    assert spine_offset_mm(view) is None


@pytest.mark.parametrize(("front", "said"), [(13, True), (15, False)])
def test_slices_that_disagree_about_the_spine_say_nothing(trunk, front, said):
    """13 of 40 leave 67 % behind the middle, 15 leave 62 %; 65 % are asked for."""
    assert (spine_offset_mm(with_bone(trunk, front_slices=range(front))) is not None) is said


@pytest.mark.parametrize(("across", "found"), [(0.5, True), (0.9, False)])
def test_a_plateau_with_tissue_as_hot_on_the_other_side_is_no_liver(trunk, across, found):
    image = np.where(trunk, 0.6, 0.0)
    image[26:40, 10:30, 12:28] = 2.4
    image[8:22, 10:30, 12:28] = across * 2.4
    organ = liver_in_pet(overview(image, trunk))
    assert (organ is not None) is found
    if organ is not None:
        assert organ.value == pytest.approx(2.4) and organ.centre_mm[0] > 24 * 8.0
