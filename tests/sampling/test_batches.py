from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.sampling.augment import NO_AUGMENTATION, AugmentRules
from uptake.sampling.batches import BatchRules, WindowBatches

CPU = torch.device("cpu")
EVERYTHING = AugmentRules(
    misalign_rotation_p=0.5, misalign_shift_p=0.5, rotation_p=0.5, scale_p=0.5, noise_p=0.5, blur_p=0.5,
    brightness_p=0.5, contrast_p=0.5, low_resolution_p=0.5, inverted_gamma_p=0.5, gamma_p=0.5, ct_dropout_p=0.2,
)  # fmt: skip


@pytest.fixture
def rules():
    return BatchRules((6, 6, 4), 3, 0.33, ("ct", "pet"), (3.0, 2.0, 2.0), EVERYTHING, seed=11)


@pytest.fixture
def cases(make_training):
    return [make_training((9, 8, 7), seed=1), make_training((5, 12, 9), [(2, 3, 3), (4, 11, 8)], seed=2)]


def batch(cases, rules, step, rank=0):
    source = WindowBatches(cases, rules)
    found = source.finished(source.cut(step, rank), CPU)
    return found.channels, found.labels


def test_a_batch_has_the_shapes_and_types_that_the_network_wants(cases, rules):
    channels, labels = batch(cases, rules, 0)
    assert channels.shape == (3, 2, 6, 6, 4) and channels.dtype == torch.float32
    assert labels.shape == (3, 1, 6, 6, 4) and labels.dtype == torch.uint8


def test_a_step_gives_the_same_batch_whenever_it_is_asked_for(cases, rules):
    batch(cases, rules, 3)
    for step in range(6):
        for first, second in zip(batch(cases, rules, step), batch(cases, rules, step), strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("change", ["step", "seed", "rank"])
def test_another_step_seed_or_rank_gives_another_batch(cases, rules, change):
    first = batch(cases, rules, 4)[0]
    other = replace(rules, seed=12) if change == "seed" else rules
    assert not torch.equal(first, batch(cases, other, 5 if change == "step" else 4, rank=int(change == "rank"))[0])


def test_the_global_generators_are_neither_read_nor_moved(cases, rules):
    torch.manual_seed(1)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = batch(cases, rules, 2)[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    torch.manual_seed(2)
    assert torch.equal(batch(cases, rules, 2)[0], first)


def test_without_augmentation_a_batch_is_a_plain_cut(cases, rules):
    plain = replace(rules, augment=NO_AUGMENTATION, foreground_share=1.0, window=(4, 4, 4))
    channels, labels = batch(cases[:1], plain, 0)
    for image, mask in zip(channels, labels, strict=True):
        # The only lesion voxel is (4, 4, 3): window from (2, 2, 1).
        assert np.array_equal(image.numpy(), cases[0].channels[:, 2:6, 2:6, 1:5])
        assert mask.sum() == 1 and mask[0, 2, 2, 2] == 1


def test_geometry_is_applied_about_the_centre_of_the_drawn_window(make_training, rules):
    """Spatial events never push the voxel that a forced window is centred on far from the middle."""
    shape = (21, 21, 21)
    case = make_training(shape, lesions=[(z, y, x) for z in (9, 10, 11) for y in (9, 10, 11) for x in (9, 10, 11)])
    spatial = replace(NO_AUGMENTATION, rotation_p=1.0, scale_p=1.0, mirror_p=0.5, scale=(0.9, 1.1))
    turned = replace(rules, augment=spatial, foreground_share=1.0, window=(11, 11, 11))
    for step in range(10):
        for mask in batch([case], turned, step)[1]:
            assert mask.any()
            centre = np.argwhere(mask[0].numpy()).mean(0)
            assert np.abs(centre - 5).max() < 2.5


def test_a_model_of_one_channel_needs_no_ct(make_training, rules):
    case = make_training()
    alone = replace(case, channels=case.channels[1:])
    channels, _ = batch([alone], replace(rules, channels=("pet",)), 0)
    assert channels.shape == (3, 1, 6, 6, 4)
