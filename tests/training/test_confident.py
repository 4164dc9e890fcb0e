from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from uptake.core.errors import UsageError
from uptake.training.confident import (
    ConfidentRules,
    Rectify,
    binary_entropy,
    confident_loss,
    dice_bce,
    doubtful,
    gaussian_ramp,
    rectified,
)


def logits_of(*probabilities: float) -> torch.Tensor:
    """(1, 1, 1, 1, n) logits of the given probabilities."""
    return torch.tensor(probabilities).logit().reshape(1, 1, 1, 1, -1)


def value(tensor: torch.Tensor) -> float:
    return tensor.detach().item()


def labels(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, 1, -1)


def test_ramp_has_the_published_values() -> None:
    assert [round(gaussian_ramp(t), 5) for t in (0.0, 0.5, 1.0)] == [0.00067, 0.00821, 0.1]
    assert gaussian_ramp(0.5, squared=True) == pytest.approx(0.1 * math.exp(-1.25))
    assert gaussian_ramp(7.0) == 0.1


def test_dice_bce_by_hand() -> None:
    logits, target = logits_of(0.5, 0.5), labels(1, 0)
    # Dice 1 - 2·0.5 / (0.25 + 0.25 + 1) = 1/3; cross-entropy ln 2
    assert float(dice_bce(logits, target)) == pytest.approx(1 / 3 + math.log(2), abs=1e-4)


def test_entropy_is_natural_and_defined_at_the_ends() -> None:
    found = binary_entropy(torch.tensor([0.0, 0.5, 1.0]))
    assert found.tolist() == pytest.approx([0.0, math.log(2), 0.0])


def test_doubt_goes_by_the_mean_probability() -> None:
    outputs = [logits_of(0.9, 0.9, 0.5), logits_of(0.1, 0.9, 0.5)]
    # the first voxel's rounds are sure but contradict one another: mean 0.5, entropy ln 2
    assert doubtful(outputs, ConfidentRules()).flatten().tolist() == [True, False, True]


def test_variance_reading_takes_logits_and_its_own_mean() -> None:
    outputs = [logits_of(0.9, 0.9, 0.5), logits_of(0.1, 0.9, 0.6)]
    found = doubtful(outputs, ConfidentRules(uncertainty="variance")).flatten().tolist()
    assert found == [True, False, False]


def test_rectification_is_a_true_xor_and_its_other_readings() -> None:
    outputs = [logits_of(0.55, 0.45, 0.55, 0.95)]
    noisy = labels(1, 1, 0, 0)
    flipped = {name: rectified(outputs, noisy, ConfidentRules(rectify=name)) for name in get_args(Rectify)}
    assert flipped["xor"].flatten().tolist() == [0, 0, 1, 0]
    assert flipped["agreeing"].flatten().tolist() == [1, 0, 1, 0]
    assert flipped["sure"].flatten().tolist() == [1, 1, 0, 1]
    assert flipped["released"].flatten().tolist() == [0, 0, 0, 0]


@pytest.fixture
def batch() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(3, 1, 2, 2, 2, generator=generator, requires_grad=True) for _ in range(3)]
    target = (torch.rand(3, 1, 2, 2, 2, generator=generator) > 0.5).float()
    return outputs, target, torch.tensor([True, False, False])


def test_fine_tuning_believes_every_label(batch) -> None:
    outputs, target, trusted = batch
    found = confident_loss(outputs, target, trusted, ConfidentRules(learning="fine_tune"), progress=0.5)
    assert value(found["loss"]) == pytest.approx(value(sum(dice_bce(one, target) for one in outputs)), rel=1e-6)
    assert value(found["consistency"]) == 0


def test_consistency_adds_the_spread_of_the_other_samples(batch) -> None:
    outputs, target, trusted = batch
    plain = confident_loss(outputs, target, trusted, ConfidentRules(learning="fine_tune"), progress=1.0)
    found = confident_loss(outputs, target, trusted, ConfidentRules(learning="consistency"), progress=1.0)
    chances = torch.stack([one.sigmoid() for one in outputs])[:, 1:]
    spread = sum(((one - chances.mean(0)) ** 2).mean() for one in chances)
    assert value(found["consistency"]) == pytest.approx(value(spread), rel=1e-5)
    assert value(found["loss"] - plain["loss"]) == pytest.approx(0.1 * value(spread), rel=1e-4)


def test_cpcl_is_put_together_as_published(batch) -> None:
    outputs, target, trusted = batch
    rules = ConfidentRules()
    found = confident_loss(outputs, target, trusted, rules, progress=0.5)
    better = rectified([one[1:] for one in outputs], target[1:], rules)
    good = sum(dice_bce(one[:1], target[:1]) for one in outputs)
    other = sum(dice_bce(one[1:], better) for one in outputs)
    wanted = good + gaussian_ramp(0.5) * (found["consistency"] + 5 * other)
    assert value(found["loss"]) == pytest.approx(value(wanted), rel=1e-5)
    assert value(found["flipped"]) == pytest.approx(value((better != target[1:]).float().mean()))


def test_mixed_target_of_the_released_script(batch) -> None:
    outputs, target, trusted = batch
    plain = confident_loss(outputs, target, trusted, ConfidentRules(), progress=0.5)
    mixed = confident_loss(outputs, target, trusted, ConfidentRules(target="mixed"), progress=0.5)
    noisy = sum(dice_bce(one[1:], target[1:]) for one in outputs)
    assert value(mixed["other"]) == pytest.approx(value(2 * noisy + plain["other"]) / 3, rel=1e-5)


def test_rounds_without_points_do_not_vote(batch) -> None:
    outputs, target, trusted = batch
    some = confident_loss(outputs, target, trusted, ConfidentRules(), progress=0.5, voting=[0, 1])
    every = confident_loss(outputs, target, trusted, ConfidentRules(), progress=0.5)
    assert value(some["consistency"]) != value(every["consistency"])
    assert value(some["trusted"]) == value(every["trusted"])


@pytest.mark.parametrize("kinds", [[True] * 3, [False] * 3])
@pytest.mark.parametrize("learning", ["cpcl", "consistency", "fine_tune"])
def test_batches_of_one_kind_still_give_gradients(batch, kinds, learning) -> None:
    outputs, target, _ = batch
    found = confident_loss(outputs, target, torch.tensor(kinds), ConfidentRules(learning=learning), progress=0.5)
    found["loss"].backward()
    assert all(one.grad is not None and torch.isfinite(one.grad).all() for one in outputs)


def test_consistency_pulls_rounds_to_their_mean_without_moving_it(batch) -> None:
    outputs, target, trusted = batch
    found = confident_loss(outputs, target, trusted, ConfidentRules(learning="consistency"), progress=1.0)
    (slope,) = torch.autograd.grad(found["consistency"], outputs[0])
    p = outputs[0].sigmoid()
    mean = torch.stack([one.sigmoid() for one in outputs]).mean(0)
    wanted = 2 * (p - mean) * p * (1 - p) / outputs[0][1:].numel()
    torch.testing.assert_close(slope[1:], wanted[1:])
    assert slope[0].abs().max() == 0  # the trusted sample


@pytest.mark.parametrize(
    "wrong", [{"learning": "magic"}, {"uncertainty": "x"}, {"rectify": "x"}, {"target": "x"}, {"entropy_limit": 0.7}]
)
def test_rules_refuse(wrong) -> None:
    with pytest.raises(UsageError):
        ConfidentRules(**wrong)
