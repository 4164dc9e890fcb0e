from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from uptake.training.losses import deep_supervision_weights, deeply_supervised, dice_cross_entropy, soft_dice_loss


def logits_of(foreground):
    """Return two-class logits whose softmax gives the listed foreground probabilities, (b, 2, 1, 1, n)."""
    p = torch.tensor(foreground, dtype=torch.float32)
    return torch.stack([torch.log(1 - p), torch.log(p)], 1)[:, :, None, None]


def labels_of(values):
    return torch.tensor(values)[:, None, None]


def test_soft_dice_by_hand():
    logits, labels = logits_of([[0.8, 0.6, 0.1]]), labels_of([[1, 0, 1]])
    assert float(soft_dice_loss(logits, labels)) == pytest.approx(-2 * 0.9 / (2 + 1.5))
    assert float(soft_dice_loss(logits, labels, smooth=1.0)) == pytest.approx(-(2 * 0.9 + 1) / (2 + 1.5 + 1))


def test_each_sample_has_its_own_dice():
    logits, labels = logits_of([[0.9, 0.2], [0.5, 0.5]]), labels_of([[1, 0], [1, 1]])
    expected = -(2 * 0.9 / (1 + 1.1) + 2 * 1.0 / (2 + 1.0)) / 2
    assert float(soft_dice_loss(logits, labels)) == pytest.approx(expected)


def test_the_background_does_not_count_and_every_label_does():
    labels = torch.tensor([[0, 1, 2, 2]])[:, None, None]
    logits = 30.0 * F.one_hot(torch.tensor([[0, 1, 2, 0]]), 3).movedim(-1, 1).float()[:, :, None, None]
    assert float(soft_dice_loss(logits, labels)) == pytest.approx(-(1 + 2 / 3) / 2, abs=1e-5)


def test_without_smoothing_an_absent_label_costs_nothing_and_pulls_at_nothing():
    logits = logits_of([[0.7, 0.2, 0.4]]).requires_grad_()
    loss = soft_dice_loss(logits, labels_of([[0, 0, 0]]))
    loss.backward()
    assert loss.item() == 0.0 and not logits.grad.any()


def test_with_smoothing_it_does_pull():
    logits = logits_of([[0.7, 0.2, 0.4]]).requires_grad_()
    soft_dice_loss(logits, labels_of([[0, 0, 0]]), smooth=1e-5).backward()
    assert logits.grad.any()


def test_smoothing_by_hand_where_the_label_is_absent():
    logits = logits_of([[0.06, 0.04]])
    assert float(soft_dice_loss(logits, labels_of([[0, 0]]), smooth=0.02)) == pytest.approx(-0.02 / 0.12)


def test_an_absent_label_keeps_its_place_in_the_mean():
    present = logits_of([[0.8, 0.6, 0.1]])
    both = torch.cat([present, present])
    labels = torch.cat([labels_of([[1, 0, 1]]), labels_of([[0, 0, 0]])])
    assert float(soft_dice_loss(both, labels)) == pytest.approx(-(2 * 0.9 / 3.5) / 2)


def test_only_cross_entropy_pushes_false_positives_down_in_an_empty_window():
    logits = logits_of([[0.7]]).requires_grad_()
    dice_cross_entropy(logits, labels_of([[0]])).backward()
    assert logits.grad[0, :, 0, 0, 0].tolist() == pytest.approx([-0.7, 0.7])


def test_dice_cross_entropy_by_hand():
    logits, labels = logits_of([[0.8, 0.6]]), labels_of([[1, 0]])
    expected = -(math.log(0.8) + math.log(0.4)) / 2 - 1.6 / (1 + 1.4)
    assert float(dice_cross_entropy(logits, labels)) == pytest.approx(expected)


def test_integer_types_of_labels_do_not_matter():
    logits = logits_of([[0.8, 0.6]])
    values = {float(dice_cross_entropy(logits, labels_of([[1, 0]]).to(t))) for t in (torch.uint8, torch.int64)}
    assert len(values) == 1


def test_half_precision_logits_are_summed_in_float32():
    n = 70_000  # above the largest half-precision number
    logits = torch.zeros((1, 2, 1, 1, n), dtype=torch.float16)
    assert float(soft_dice_loss(logits, torch.ones((1, 1, 1, n), dtype=torch.uint8))) == pytest.approx(-2 / 3)


def test_published_weights_of_the_levels():
    assert deep_supervision_weights(5) == pytest.approx((8 / 15, 4 / 15, 2 / 15, 1 / 15, 0))
    assert deep_supervision_weights(2) == (1.0, 0.0)
    assert deep_supervision_weights(1) == (1.0,)


def test_levels_are_weighted_and_coarse_targets_are_nearest_exact():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand((2, 8, 4, 4), generator=generator) < 0.4).to(torch.uint8)
    outputs = [torch.randn((2, 2, 8 // s, 4 // s, 4 // s), generator=generator) for s in (1, 2, 4)]
    half = labels[:, 1::2, 1::2, 1::2]  # centre of two voxels, rounded up
    expected = 2 / 3 * dice_cross_entropy(outputs[0], labels) + 1 / 3 * dice_cross_entropy(outputs[1], half)
    assert float(deeply_supervised(outputs, labels)) == pytest.approx(float(expected), rel=1e-6)


def test_the_coarsest_head_gets_a_gradient_of_zero_not_none():
    outputs = [torch.randn((1, 2, n, n, n), requires_grad=True) for n in (4, 2)]
    deeply_supervised(outputs, torch.ones((1, 4, 4, 4), dtype=torch.uint8)).backward()
    assert outputs[0].grad.any()
    assert outputs[1].grad is not None and not outputs[1].grad.any()
