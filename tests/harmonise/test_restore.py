"""An image of the model's grid back on the scan's own."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.cases import Case, Prediction
from uptake.core.errors import GeometryError
from uptake.geometry import Volume
from uptake.harmonise.normalise import ChannelRule, unscaled
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan
from uptake.harmonise.restore import LabelsFromSlabs, highest, restore, restore_image


def pet_on(affine, shape=(14, 12, 10)):
    """A smooth ball of SUV 5 inside a border of zeros that the crop takes away."""
    i, j, k = np.indices(shape)
    ball = 5.0 * np.exp(-((i - 6) ** 2 + (j - 6) ** 2 + (k - 5) ** 2) / 12.0)
    ball[:2] = ball[-2:] = 0.0
    return Volume(ball.astype(np.float32), affine, frame_of_reference="1.2.3")


def test_the_way_there_and_back_is_no_way_on_the_models_own_spacing(turned):
    pet = pet_on(turned)
    plan = Plan((ChannelRule("pet", "zscore", 0.0, 20.0, 0.0, 1.0),), (8.0, 8.0, 8.0))
    found, trace = harmonise(Case("a", pet), plan)
    suv = unscaled(found.channels[0], found.scales[0])
    back = restore_image(suv, trace, outside=pet)
    np.testing.assert_allclose(back.array, pet.array, atol=1e-4)
    np.testing.assert_array_equal(back.affine, pet.affine)
    assert back.frame_of_reference == "1.2.3"
    assert back.array.dtype == np.float32


def test_another_spacing_keeps_values_and_their_place(turned):
    pet = pet_on(turned)
    plan = Plan((ChannelRule("pet", "unchanged", 0.0, 20.0, 0.0, 1.0),), (6.0, 6.0, 6.0))
    found, trace = harmonise(Case("a", pet), plan)
    back = restore_image(found.channels[0], trace, outside=pet)
    assert np.abs(back.array - pet.array).max() < 0.25
    assert np.unravel_index(back.array.argmax(), back.shape) == np.unravel_index(pet.array.argmax(), pet.shape)
    assert back.array.max() <= found.channels[0].max()


def test_what_was_cropped_away_is_what_it_was(turned):
    pet = pet_on(turned)
    plan = Plan((ChannelRule("pet", "unchanged", 0.0, 20.0, 0.0, 1.0),), (8.0, 8.0, 8.0))
    found, trace = harmonise(Case("a", pet), plan)
    around = pet.with_array(np.full(pet.shape, 7.0, np.float32))
    back = restore_image(np.zeros_like(found.channels[0]), trace, outside=around)
    assert set(np.unique(back.array)) == {0.0, 7.0}
    assert (back.array[2:-2] == 0).all() and (back.array[:2] == 7).all()


def test_images_of_another_grid_are_refused(turned):
    pet = pet_on(turned)
    plan = Plan((ChannelRule("pet", "unchanged", 0.0, 20.0, 0.0, 1.0),), (8.0, 8.0, 8.0))
    found, trace = harmonise(Case("a", pet), plan)
    with pytest.raises(GeometryError, match="not on the model grid"):
        restore_image(found.channels[0][1:], trace, outside=pet)
    with pytest.raises(GeometryError, match="the source grid"):
        restore_image(found.channels[0], trace, outside=pet_on(turned, (15, 12, 10)))


@pytest.mark.parametrize("spacing", [(8.0, 8.0, 8.0), (6.0, 5.0, 9.0)])
@pytest.mark.parametrize("height", [1, 3, 100])
def test_logits_that_come_in_stretches_give_the_labels_of_the_whole(turned, spacing, height):
    plan = Plan((ChannelRule("pet", "unchanged", 0.0, 20.0, 0.0, 1.0),), spacing)
    found, trace = harmonise(Case("a", pet_on(turned)), plan)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, *found.channels.shape[1:])).astype(np.float32)
    organs = rng.normal(size=(5, *found.channels.shape[1:])).astype(np.float32)
    whole = restore(Prediction(logits, 1, 0, organs), trace)
    parts = LabelsFromSlabs(trace, labels=3, organs=5)
    for first in range(0, logits.shape[1], height):
        parts.add(logits[:, first : first + height], organs[:, first : first + height])
    again = parts.restored()
    np.testing.assert_array_equal(again.labels.array, whole.labels.array)
    np.testing.assert_array_equal(again.organs.array, whole.organs.array)
    np.testing.assert_array_equal(again.labels.affine, turned)
    assert whole.labels.array.max() == 2 and whole.organs.array.max() == 4


def test_missing_slices_are_refused(turned):
    plan = Plan((ChannelRule("pet", "unchanged", 0.0, 20.0, 0.0, 1.0),), (8.0, 8.0, 8.0))
    found, trace = harmonise(Case("a", pet_on(turned)), plan)
    parts = LabelsFromSlabs(trace, labels=1)
    parts.add(found.channels[:, :3])
    with pytest.raises(GeometryError, match="logits of 3 slices came"):
        parts.restored()


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_the_highest_logit_is_argmax_and_the_first_of_equals(count):
    logits = np.random.default_rng(count).integers(0, 4, (count, 5, 4, 3)).astype(np.float32)
    found = highest(logits)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, logits.argmax(axis=0))
