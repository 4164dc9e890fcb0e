from __future__ import annotations

import numpy as np
import pytest
import torch

from uptake.inference.sliding_window import (
    AIR_LOGIT,
    averaged,
    importance,
    mirrored,
    sliding_window,
    window_count,
    window_starts,
)

WINDOW = (8, 6, 4)


def identity(batch):
    return batch


def position_dependent(batch):
    """Return logits that depend on everything in the window and on where in it a voxel lies."""
    ramp = torch.linspace(0.5, 1.5, batch[0, 0].numel()).reshape(batch.shape[2:])
    return torch.stack([batch[:, 0] * ramp + batch.mean((1, 2, 3, 4), keepdim=True)[:, 0], batch[:, 1] ** 2], 1)


def random_image(shape, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "half", "six_tenths"),
    [
        ((300, 400, 400), 48, 18),
        ((326, 400, 400), 48, 27),
        ((273, 400, 400), 32, 18),
        ((287, 344, 344), 18, 18),
        ((577, 400, 400), 96, 45),
    ],
)
def test_published_window_counts(shape, half, six_tenths):
    assert window_count(shape, (192, 192, 192), 0.5) == half
    assert window_count(shape, (192, 192, 192), 0.6) == six_tenths


def test_window_starts_by_hand():
    assert window_starts(110, 64, 0.5) == (0, 23, 46)
    assert window_starts(64, 64, 0.5) == window_starts(10, 64, 0.5) == (0,)
    assert window_starts(65, 64, 1.0) == (0, 1)
    assert window_starts(12, 4, 1.0) == (0, 4, 8)
    # 433 / 22 · 11 is 216.5 and a rounding error; dividing last would give 216.
    assert window_starts(473, 40, 0.5)[11] == 217


@pytest.mark.parametrize("step", [0.25, 0.5, 0.6, 1.0])
def test_windows_cover_every_voxel_and_end_flush(step):
    for size in range(5, 60):
        starts = window_starts(size, 5, step)
        assert {n for start in starts for n in range(start, start + 5)} == set(range(size))
        assert np.diff(starts).max(initial=0) <= np.ceil(5 * step)


def test_a_case_smaller_than_the_window_is_one_window():
    assert window_count((5, 5, 5), (8, 8, 8), 0.5) == 1


def test_importance_by_hand():
    """Sigma is 2 voxels and the peak at voxel 8, so voxel 0 lies 4 sigma away."""
    weight = importance((16, 16, 16))
    assert weight.shape == (16, 16, 16) and weight.dtype == torch.float32
    assert float(weight[8, 8, 8]) == float(weight.max()) == 10.0
    assert float(weight[6, 8, 8]) == pytest.approx(10 * np.exp(-0.5), rel=1e-5)
    assert float(weight[0, 8, 8]) == pytest.approx(10 * np.exp(-8), rel=1e-4)
    assert float(weight[4, 6, 8]) == pytest.approx(10 * np.exp(-2.5), rel=1e-5)
    assert torch.equal(weight, weight.transpose(0, 2))


def test_every_voxel_of_every_window_counts():
    for window in [(4, 4, 4), (5, 3, 9), (40, 40, 40)]:
        assert float(importance(window).min()) > 0


def test_the_published_importance_map():
    weight = importance((192, 192, 192))
    assert float(weight.max()) == 10.0
    assert float(weight[48, 96, 96]) == pytest.approx(1.3535, abs=2e-4)
    # In half precision, as published, 30,427 corner voxels vanish and are lifted to the smallest number.
    assert int((weight.half() == 0).sum()) == 30_427


@pytest.mark.parametrize("shape", [(8, 6, 4), (13, 11, 9), (5, 6, 7), (3, 2, 1), (17, 4, 4)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_identity_gives_the_image_back(shape, batch_size):
    image = random_image(shape)
    prediction = sliding_window(image, identity, labels=2, window=WINDOW, batch_size=batch_size)
    assert prediction.logits.shape == image.shape and prediction.logits.dtype == np.float32
    assert np.abs(prediction.logits - image).max() < 1e-5
    assert prediction.windows_run == window_count(shape, WINDOW, 0.5) and prediction.windows_skipped == 0


def test_overlapping_windows_are_weighted_by_importance():
    """Two windows of 4 over 6 voxels; each answers with the number of its own call."""
    calls = iter([1.0, 5.0])

    def counting(batch):
        return torch.full_like(batch, next(calls))

    found = sliding_window(np.zeros((1, 6, 4, 4), np.float32), counting, labels=1, window=(4, 4, 4)).logits[0]
    weight = importance((4, 4, 4)).numpy()
    for z in range(6):
        first, second = (weight[z] if z < 4 else 0 * weight[0]), (weight[z - 2] if z >= 2 else 0 * weight[0])
        assert found[z] == pytest.approx((first + 5 * second) / (first + second))


def test_a_small_image_is_padded_with_zeros_about_its_centre():
    seen = []

    def watching(batch):
        seen.append(batch.clone())
        return batch

    image = random_image((5, 6, 1))
    sliding_window(image, watching, labels=2, window=WINDOW)
    (batch,) = seen
    expected = np.pad(image, [(0, 0), (1, 2), (0, 0), (1, 2)])
    assert np.array_equal(batch[0].numpy(), expected)


@pytest.mark.parametrize("shape", [(21, 17, 11), (21, 5, 3)])
def test_skipping_air_changes_no_body_voxel(shape):
    image = random_image(shape)
    body = np.zeros(shape, bool)
    body[1, 2, 2] = body[2:4, 3:5, 1:3] = True
    everything = sliding_window(image, position_dependent, labels=2, window=WINDOW)
    spared = sliding_window(image, position_dependent, labels=2, window=WINDOW, body=body)
    assert spared.windows_skipped > 0
    assert spared.windows_run + spared.windows_skipped == everything.windows_run
    assert np.array_equal(spared.logits[:, body], everything.logits[:, body])


def test_pure_air_is_background():
    shape = (21, 6, 4)
    body = np.zeros(shape, bool)
    body[0] = True
    logits = sliding_window(random_image(shape), identity, labels=2, window=WINDOW, body=body).logits
    assert (logits[0, 12:] == AIR_LOGIT).all() and not logits[1, 12:].any()
    nothing = sliding_window(random_image(shape), identity, labels=2, window=WINDOW, body=body & False)
    assert nothing.windows_run == 0 and (nothing.logits.argmax(0) == 0).all()


@pytest.mark.parametrize("axes", [(0,), (2, 1), (0, 1, 2)])
def test_mirroring_averages_all_flips_of_the_named_axes(axes):
    batch = torch.from_numpy(random_image(WINDOW))[None]
    expected, count = 0.0, 0
    for bits in range(2 ** len(axes)):
        flips = [axes[n] + 2 for n in range(len(axes)) if bits >> n & 1]
        expected = expected + torch.flip(position_dependent(torch.flip(batch, flips)), flips)
        count += 1
    assert count == 2 ** len(axes)
    result = mirrored(position_dependent, axes)(batch)
    assert torch.allclose(result, expected / count, atol=1e-6)
    assert not torch.allclose(result, position_dependent(batch), atol=1e-2)


def test_a_mirrored_symmetric_predictor_commutes_with_flips():
    batch = torch.from_numpy(random_image(WINDOW))[None]
    predictor = mirrored(position_dependent, (0, 2))
    assert torch.allclose(torch.flip(predictor(torch.flip(batch, [2, 4])), [2, 4]), predictor(batch), atol=1e-6)


def test_no_mirror_axes_is_the_predictor_itself():
    batch = torch.from_numpy(random_image(WINDOW))[None]
    assert torch.equal(mirrored(position_dependent, ())(batch), position_dependent(batch))


def test_folds_are_averaged_with_equal_weights():
    batch = torch.from_numpy(random_image(WINDOW))[None]
    three = averaged([lambda x: x, lambda x: 2 * x, lambda x: 6 * x])
    assert torch.allclose(three(batch), 3 * batch)
    assert averaged([identity]) is identity


def test_predictors_do_not_write_into_one_anothers_output():
    """A predictor that hands out the same tensor every time must not have it summed into."""
    fixed = torch.ones((1, 2, *WINDOW))
    averaged([lambda _: fixed, lambda _: fixed])(fixed)
    mirrored(lambda _: fixed, (0, 1))(fixed)
    assert torch.equal(fixed, torch.ones_like(fixed))


def test_progress_counts_to_the_number_of_windows():
    told = []
    sliding_window(
        random_image((17, 6, 4)), identity, labels=2, window=WINDOW, batch_size=2, on_window=lambda *a: told.append(a)
    )
    assert told == [(2, 4), (4, 4)]


def test_the_input_is_left_alone():
    image = random_image((9, 9, 9))
    before = image.copy()
    sliding_window(image, lambda batch: batch.mul_(2), labels=2, window=WINDOW)
    assert np.array_equal(image, before)
