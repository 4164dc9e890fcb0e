"""The organ map over the projections: the nearest organ shows, in the colours of its codes; other grids are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from uptake.core.errors import GeometryError
from uptake.geometry import Volume
from uptake.geometry.orientation import reorient
from uptake.io.terminology import meaning_of
from uptake.quantification.organ_picture import OPACITY, _nearest, _painted, organ_picture
from uptake.quantification.views import display

NAMES = {1: "liver", 2: "spleen"}


def rows(plane, array):
    # LPS: the first axis runs to the left, the second to the back, the third to the head.
    return _nearest(display(Volume(np.array(array, np.uint8), np.diag([-4.0, -4.0, 4.0, 1.0]))), plane).tolist()


def test_the_organ_nearest_to_the_viewer_shows():
    column = np.zeros((1, 4, 1))
    column[0, :, 0] = (0, 2, 1, 0)
    assert rows("coronal", column) == [[2]]  # seen from the front
    line = np.zeros((3, 1, 2))
    line[:, 0, 1] = (0, 1, 2)
    assert rows("sagittal", line) == [
        [0],
        [2],
    ]  # from the left, as the front is on the picture's left; heads up, so that row 1 is the higher one


def test_colours_are_those_of_the_codes_and_the_rest_is_clear():
    colours = {1: np.array(meaning_of("liver").colour) / 255}
    painted = _painted(np.array([[0, 1]]), colours)
    assert painted[0, 0].tolist() == [0.0] * 4
    assert painted[0, 1].tolist() == pytest.approx([*colours[1], OPACITY])


def test_the_picture_is_the_same_for_any_storage_of_the_axes():
    image = pytest.importorskip("matplotlib.image")
    array = np.zeros((20, 12, 30), np.uint8)
    array[2:9, 3:9, 4:12], array[12:18, 3:9, 14:20] = 1, 2
    affine = np.diag([-6.0, -6.0, 6.0, 1.0])
    labels = Volume(array, affine)
    pet = Volume((array > 0) * np.float32(3.0) + np.float32(0.3), affine)
    drawn = organ_picture(pet, labels, NAMES)
    assert drawn.startswith(b"\x89PNG")
    turned = organ_picture(reorient(pet, "SAR"), reorient(labels, "SAR"), NAMES)
    np.testing.assert_allclose(*(image.imread(io.BytesIO(png)) for png in (drawn, turned)), atol=0.01)
    # An empty map is drawn as well: it says that nothing was found.
    assert organ_picture(pet, labels.with_array(array * 0), NAMES) != drawn


def test_another_grid_is_refused():
    pet = Volume(np.ones((4, 4, 4), np.float32), np.eye(4))
    with pytest.raises(GeometryError, match="the organ map"):
        organ_picture(pet, Volume(np.ones((4, 4, 5), np.uint8), np.eye(4)), NAMES)
