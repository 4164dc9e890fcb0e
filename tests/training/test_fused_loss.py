from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from uptake.training.fused_loss import fused_dice_cross_entropy
from uptake.training.losses import dice_cross_entropy, soft_dice_loss


def composed(logits, labels, smooth):
    return F.cross_entropy(logits.float(), labels.long()) + soft_dice_loss(logits, labels, smooth=smooth)


def drawn(classes, shape=(2, 6, 5, 4), seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn((shape[0], classes, *shape[1:]), generator=generator, dtype=dtype)
    labels = (torch.rand(shape, generator=generator) * classes).to(torch.uint8)
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("smooth", [0.0, 1e-5, 1.0])
@pytest.mark.parametrize("classes", [2, 11])
def test_value_and_gradient_are_those_of_the_parts(classes, smooth):
    logits, labels = drawn(classes)
    labels[0][labels[0] == 1] = 0  # a class that one sample lacks
    expected = composed(logits, labels, smooth)
    (wanted,) = torch.autograd.grad(expected, logits)
    found = fused_dice_cross_entropy(logits, labels, smooth)
    (gradient,) = torch.autograd.grad(found, logits)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-8)


def test_the_gradient_agrees_with_finite_differences():
    logits, labels = drawn(3, (2, 2, 3, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: fused_dice_cross_entropy(x, labels, 0.1), (logits,), atol=1e-6)


def test_a_window_of_background_alone_has_no_dice_gradient():
    logits, labels = drawn(2)
    labels.zero_()
    (gradient,) = torch.autograd.grad(fused_dice_cross_entropy(logits, labels), logits)
    (entropy,) = torch.autograd.grad(F.cross_entropy(logits, labels.long()), logits)
    torch.testing.assert_close(gradient, entropy, rtol=1e-5, atol=1e-9)


def test_probabilities_of_zero_give_numbers():
    logits = torch.zeros((1, 2, 2, 2, 2))
    logits[:, 0] = 200.0
    logits.requires_grad_()
    loss = fused_dice_cross_entropy(logits, torch.zeros((1, 2, 2, 2), dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0.0 and torch.isfinite(logits.grad).all()


def test_half_precision_logits_get_a_gradient_of_their_own_type():
    logits, labels = drawn(4)
    half = logits.detach().bfloat16().requires_grad_()
    fused_dice_cross_entropy(half, labels).backward()
    assert half.grad.dtype == torch.bfloat16
    (wanted,) = torch.autograd.grad(composed(half.float(), labels, 0.0), half)
    torch.testing.assert_close(half.grad, wanted, rtol=1e-2, atol=1e-4)


def test_the_loss_takes_it_where_every_voxel_is_known():
    logits, labels = drawn(3)
    assert dice_cross_entropy(logits, labels).grad_fn.name().startswith("_DiceCrossEntropy")
    labels[0, 0] = 255
    assert not dice_cross_entropy(logits, labels).grad_fn.name().startswith("_DiceCrossEntropy")
