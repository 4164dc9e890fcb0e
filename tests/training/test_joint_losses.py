from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from uptake.training.joint_losses import attenuation, denoising_loss, organ_loss
from uptake.training.losses import deep_supervision_weights


def pyramid(target, levels=3):
    return [F.avg_pool3d(target, 2**level) if level else target for level in range(levels)]


@pytest.mark.parametrize(
    ("epoch", "phi"), [(0, 1.0), (100, 0.819), (200, 0.670), (250, 0.607), (347, 0.5), (400, 0.449), (499, 0.369)]
)
def test_phi_is_the_papers(epoch, phi):
    assert attenuation(epoch, 500) == pytest.approx(phi, abs=6e-4)
    assert attenuation(epoch, 500, "relative") == pytest.approx(attenuation(epoch, 500))


def test_phi_ends_at_one_over_e_at_any_length_if_relative_and_never_falls_if_off():
    assert attenuation(500, 500) == attenuation(10, 10, "relative") == pytest.approx(math.exp(-1))
    assert {attenuation(epoch, 500, "off") for epoch in range(500)} == {1.0}
    with pytest.raises(ValueError, match="attenuation 'slow' is unknown"):
        attenuation(1, 2, "slow")


def test_a_perfect_denoiser_of_an_equal_pair_loses_nothing_at_any_scale():
    target = torch.randn(2, 1, 8, 4, 4)
    assert float(denoising_loss(pyramid(target), target)) == pytest.approx(0.0, abs=1e-7)
    for level, weight in enumerate(deep_supervision_weights(3)):
        wrong = pyramid(target)
        wrong[level] = wrong[level] + 1.0
        assert float(denoising_loss(wrong, target)) == pytest.approx(weight, abs=1e-6)


def test_a_constant_offset_is_the_loss():
    target = torch.randn(2, 1, 8, 4, 4)
    offset = [image + 0.3 for image in pyramid(target)]
    assert float(denoising_loss(offset, target)) == pytest.approx(0.3, rel=1e-5)


def test_inside_the_body_air_does_not_count():
    target, body = torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    body[..., :2] = True
    image = target.clone()
    image[..., 2:] = 5.0
    assert float(denoising_loss([image], target, body=body)) == 0.0
    image[..., :2] = 1.0
    assert float(denoising_loss([image], target, body=body)) == pytest.approx(1.0)
    assert float(denoising_loss([image], target)) == pytest.approx(3.0)
    assert float(denoising_loss([image], target, body=torch.zeros_like(body))) == 0.0


def test_sure_and_right_logits_lose_next_to_nothing():
    labels = torch.tensor([0, 1, 2, 2]).view(1, 1, 1, 4).expand(1, 2, 2, 4)
    logits = 40.0 * F.one_hot(labels, 3).movedim(-1, 1).float()
    for entropy in ("categorical", "bce_sum"):
        for dice in ("per_class", "pooled"):
            loss = organ_loss([logits], labels, cross_entropy=entropy, dice=dice)
            assert float(loss) == pytest.approx(0.0, abs=1e-5)


def test_the_printed_forms_by_hand():
    """Two voxels, three classes, probabilities 1/2, 1/4, 1/4 everywhere; labels 1 and 2."""
    probabilities = torch.tensor([0.5, 0.25, 0.25]).view(1, 3, 1, 1, 1).expand(1, 3, 1, 1, 2)
    labels = torch.tensor([1, 2]).view(1, 1, 1, 2)
    entropy = -math.log(0.25)
    binary = -(math.log(0.25) + math.log(0.75) + math.log(0.5))
    per_class, pooled = 2 * 0.25 / (0.5 + 1), 2 * 0.5 / (1 + 2)
    for ce, ce_value in (("categorical", entropy), ("bce_sum", binary)):
        for dice, value in (("per_class", per_class), ("pooled", pooled)):
            loss = organ_loss([probabilities.log()], labels, smooth=0.0, cross_entropy=ce, dice=dice)
            assert float(loss) == pytest.approx(ce_value + 1 - value, rel=1e-5), (ce, dice)


def test_the_default_equals_its_own_general_form():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (2, 8, 4, 4), generator=generator)
    outputs = [torch.randn(2, 4, 8 // s, 4 // s, 4 // s, generator=generator) for s in (1, 2, 4)]
    pooled = organ_loss(outputs, labels, dice="pooled")
    plain = organ_loss(outputs, labels)
    assert plain > 0 and pooled > 0
    one = [torch.cat([o[:, :1], o[:, 1:2]], 1) for o in outputs]  # with one class pooled and per class are the same
    two = (labels == 1).long()
    assert float(organ_loss(one, two)) == pytest.approx(float(organ_loss(one, two, dice="pooled")), rel=1e-5)
