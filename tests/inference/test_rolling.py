"""Sums over a ring of slices: what a sum over the whole image would be, in the memory of one window's depth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.inference.rolling import AIR_LOGIT, RollingSums
from uptake.inference.sliding_window import importance_array, sliding_window, window_corners

WINDOW = (4, 3, 5)


def sums(size, weight=None, channels=2):
    weight = np.ones(WINDOW, np.float32) if weight is None else weight
    return RollingSums(
        channels, size, weight, zeros=lambda shape: np.zeros(shape, np.float32), host=lambda array: array
    )


def box(z, y=0, x=0):
    return slice(z, z + WINDOW[0]), slice(y, y + WINDOW[1]), slice(x, x + WINDOW[2])


def gathered(rolling, corners, windows, size):
    """Add windows in their order and put what is finished together."""
    whole, seen = np.full((2, *size), np.nan, np.float32), 0
    for corner, window in zip(corners, windows, strict=True):
        for start, means in rolling.finish(corner[0]):
            assert start == seen
            whole[:, start : start + means.shape[1]], seen = means, start + means.shape[1]
        rolling.add(box(*corner), window)
    for start, means in rolling.finish():
        assert start == seen
        whole[:, start : start + means.shape[1]], seen = means, start + means.shape[1]
    assert seen == size[0]
    return whole


def test_two_windows_that_share_two_slices():
    rolling = sums((6, 3, 5), channels=1)
    rolling.add(box(0), np.full((1, *WINDOW), 1.0, np.float32))
    ((start, means),) = rolling.finish(2)
    assert (start, means.shape) == (0, (1, 2, 3, 5)) and (means == 1).all()
    rolling.add(box(2), np.full((1, *WINDOW), 5.0, np.float32))
    rest = list(rolling.finish())
    assert [start for start, _ in rest] == [2, 4]  # the ring's end lies between
    assert np.concatenate([means for _, means in rest], axis=1)[0, :, 0, 0].tolist() == [3, 3, 5, 5]


def test_slices_without_a_window_are_air_however_many():
    rolling = sums((15, 3, 5))
    whole = gathered(rolling, [(11, 0, 0)], [np.full((2, *WINDOW), 7.0, np.float32)], (15, 3, 5))
    assert (whole[0, :11] == AIR_LOGIT).all() and (whole[1, :11] == 0).all()
    assert (whole[:, 11:] == 7).all()


def test_what_was_handed_out_is_no_view_of_the_ring():
    rolling = sums((8, 3, 5))
    rolling.add(box(0), np.ones((2, *WINDOW), np.float32))
    ((_, means),) = rolling.finish(4)
    rolling.add(box(4), np.full((2, *WINDOW), 9.0, np.float32))
    assert (means == 1).all()


@given(
    size=st.tuples(st.integers(4, 19), st.integers(3, 6), st.integers(5, 8)),
    step=st.sampled_from([0.25, 0.5, 0.7, 1.0]),
    seed=st.integers(0, 99),
)
def test_the_ring_gives_what_the_whole_image_gives_to_the_bit(size, step, seed):
    rng = np.random.default_rng(seed)
    corners = window_corners(size, WINDOW, step, None)
    windows = [rng.normal(size=(2, *WINDOW)).astype(np.float32) for _ in corners]
    weight = importance_array(WINDOW)
    total, weights = np.zeros((2, *size), np.float32), np.zeros(size, np.float32)
    for corner, window in zip(corners, windows, strict=True):
        total[(slice(None), *box(*corner))] += window * weight
        weights[box(*corner)] += weight
    found = gathered(sums(size, weight), corners, windows, size)
    np.testing.assert_array_equal(found, total / weights)


@pytest.mark.parametrize("shape", [(21, 7, 6), (5, 3, 2)])
def test_stretches_make_up_the_whole_prediction(shape):
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    body = np.zeros(shape, bool)
    body[2:4, 1:3, :2] = True
    given = {"labels": 2, "organs": 1, "window": (8, 4, 4), "body": body, "arrays": True}

    def predictor(batch):
        return np.concatenate([batch, batch[:, :1]], axis=1) * 2

    whole = sliding_window(image, predictor, **given)
    parts = []
    told = sliding_window(image, predictor, finished=lambda *stretch: parts.append(stretch), **given)
    assert told.logits.shape == (2, 0, *shape[1:]) and told.organ_logits.shape == (1, 0, *shape[1:])
    assert (told.windows_run, told.windows_skipped) == (whole.windows_run, whole.windows_skipped)
    assert max(logits.shape[1] for logits, _ in parts) <= 8
    np.testing.assert_array_equal(np.concatenate([logits for logits, _ in parts], axis=1), whole.logits)
    np.testing.assert_array_equal(np.concatenate([organs for _, organs in parts], axis=1), whole.organ_logits)


def test_arrays_and_tensors_give_the_same_to_the_bit():
    image = np.random.default_rng(1).normal(size=(2, 13, 9, 8)).astype(np.float32)
    given = {"labels": 2, "window": (8, 4, 4)}
    one = sliding_window(image, lambda batch: batch * 3, arrays=True, **given)
    other = sliding_window(image, lambda batch: batch * 3, **given)
    np.testing.assert_array_equal(one.logits, other.logits)


def test_windows_of_another_order_are_added_by_their_first_slice():
    """`focus` along another axis lays windows layer by layer of that axis."""
    image = np.random.default_rng(2).normal(size=(2, 16, 12, 9)).astype(np.float32)
    body = np.zeros(image.shape[1:], bool)
    body[3:12, 4:8, 2:7] = True
    given = {"labels": 2, "window": (8, 4, 4), "body": body, "focus": True, "layers": 1, "arrays": True}
    parts = []
    sliding_window(image, lambda batch: batch, finished=lambda logits, _: parts.append(logits), **given)
    found = np.concatenate(parts, axis=1)
    assert found.shape == image.shape
    np.testing.assert_allclose(found[:, body], image[:, body], atol=1e-5)
