from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from uptake.cases import HarmonisedCase
from uptake.core.errors import UsageError
from uptake.sampling.augment import NO_AUGMENTATION
from uptake.sampling.batches import BatchRules
from uptake.sampling.masking import MaskedWindows, MaskRules
from uptake.sampling.store import training_case
from uptake.training.reconstruction import ReconstructionRules, reconstruction_loss, reconstruction_validation

PUBLISHED = ReconstructionRules()


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 2, 4, 4, 4, generator=generator)
    hidden = torch.rand(target.shape, generator=generator) < 0.3
    return target, hidden


def loss(output, target, hidden, rules=PUBLISHED, body=None):
    return float(reconstruction_loss(output, target, hidden, rules, body)["loss"])


def test_a_perfect_answer_costs_nothing(tensors):
    target, hidden = tensors
    assert loss(target, target, hidden) == 0.0


def test_a_constant_error_costs_1_2_times_its_square_however_much_was_hidden(tensors):
    target, hidden = tensors
    assert loss(target + 0.5, target, hidden) == pytest.approx(1.2 * 0.25, rel=1e-5)
    fewer = hidden & (torch.rand(hidden.shape, generator=torch.Generator().manual_seed(1)) < 0.2)
    assert loss(target + 0.5, target, fewer) == pytest.approx(1.2 * 0.25, rel=1e-5)


def test_an_error_in_visible_voxels_alone_costs_a_fifth_of_their_mean_square(tensors):
    target, hidden = tensors
    error = torch.where(hidden, 0.0, torch.arange(target.numel()).reshape(target.shape) / 100)
    found = reconstruction_loss(target + error, target, hidden, PUBLISHED)
    assert float(found["loss"]) == pytest.approx(0.2 * float(error[~hidden].square().mean()), rel=1e-5)
    assert float(found["hidden"]) == 0.0


def test_options_change_what_their_names_say(tensors):
    target, hidden = tensors
    output = target.clone()
    output[:, 0] += 1.0
    output[:, 1] += 3.0
    assert loss(target - 3, target, hidden, ReconstructionRules("l1")) == pytest.approx(1.2 * 3)
    per_channel = ReconstructionRules(channels=(3.0, 1.0))
    assert loss(output, target, hidden, per_channel) == pytest.approx(1.2 * (3 * 1 + 1 * 9) / 4, rel=1e-5)
    pooled = ReconstructionRules(pooled=True)
    assert loss(output, target, hidden, pooled) == pytest.approx(5.0, rel=1e-5)  # (1 + 9) / 2, hidden or not
    body = torch.zeros(2, 4, 4, 4, dtype=torch.bool)
    body[:, :2] = True
    inside = target + torch.where(body[:, None], 2.0, 100.0)
    assert loss(inside, target, hidden, ReconstructionRules(body_only=True), body) == pytest.approx(1.2 * 4, rel=1e-5)


def test_a_window_without_hidden_voxels_is_no_division_by_zero(tensors):
    target, _ = tensors
    assert loss(target + 1, target, torch.zeros_like(target, dtype=torch.bool)) == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kind": "ssim"}, "is unknown"),
        ({"hidden": 0.0, "visible": 0.0}, "weights of hidden and visible"),
        ({"channels": (0.0, 0.0)}, "weights of the channels"),
    ],
)
def test_rules_without_sense_are_refused(values, says):
    with pytest.raises(UsageError, match=says):
        ReconstructionRules(**values)


def test_rules_that_do_not_fit_the_batch_are_refused(tensors):
    target, hidden = tensors
    with pytest.raises(UsageError, match="3 channel weights for 2"):
        loss(target, target, hidden, ReconstructionRules(channels=(1, 1, 1)))
    with pytest.raises(UsageError, match="does not say where the body is"):
        loss(target, target, hidden, ReconstructionRules(body_only=True))


def test_validation_explains_nothing_with_the_mean_and_all_with_the_truth():
    channels = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
    body = np.ones((8, 8, 8), np.uint8)
    case = training_case(HarmonisedCase("case", channels, body, body > 0))
    rules = BatchRules((8, 8, 8), 2, 0.0, ("pet",), (4.0, 4.0, 4.0), NO_AUGMENTATION, seed=0)
    source = MaskedWindows([case], rules, MaskRules(block=(4, 4, 4)))

    class Mean(nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    class Truth(nn.Module):
        def forward(self, x):
            return torch.from_numpy(channels).expand_as(x)

    validate = reconstruction_validation(source, PUBLISHED, batches=2)
    assert abs(validate(Mean(), torch.device("cpu"))["explained"]) < 0.05
    perfect = validate(Truth(), torch.device("cpu"))
    assert perfect["explained"] == 1.0 and perfect["validation_loss"] == 0.0
    assert reconstruction_validation(MaskedWindows([], rules, MaskRules()), PUBLISHED, batches=2) is None
