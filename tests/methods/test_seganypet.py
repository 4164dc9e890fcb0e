from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.cases import HarmonisedCase
from uptake.core.errors import ModelError, UsageError
from uptake.methods import seganypet
from uptake.methods.seganypet import Config
from uptake.networks.unet import mismatches, unique_state
from uptake.sampling.prompt_cases import PromptBatch
from uptake.training.confident import ConfidentRules
from uptake.training.prompting import PromptRules

TINY = {
    "window": (16, 16, 16),
    "patch": 4,
    "dim": 24,
    "depth": 2,
    "heads": 2,
    "attention_window": 6,
    "global_blocks": (1,),
    "prompt_dim": 48,
    "prompt_hidden": 48,
}


def tiny(kind: str) -> Config:
    if kind == "unet":
        return replace(Config.small(), window=(16, 16, 16), features=(4, 8), blocks=(1, 1))
    config = Config.published() if kind == "published" else Config.best()
    return replace(config, **TINY, refine=min(config.refine, 4))


@pytest.fixture
def batch() -> PromptBatch:
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(2, 1, 16, 16, 16)
    target[:, :, 5:10, 5:10, 5:10] = 1
    channels = target + 0.2 * torch.rand(target.shape, generator=generator)
    return PromptBatch(torch.cat([channels, channels], dim=1), target, torch.tensor([True, False]), 5)


@pytest.mark.parametrize("preset", [Config.published, Config.best, Config.small])
def test_configuration_survives_json(preset) -> None:
    config = preset()
    assert Config.from_json(json.loads(json.dumps(config.as_json()))) == config


def test_published_settings_are_the_recipe() -> None:
    config = Config.published()
    assert (config.batch_size, config.accumulate, config.learning_rate, config.weight_decay) == (12, 20, 8e-4, 0.1)
    assert config.prompts == PromptRules(11, True, "newest", 0.5)
    assert config.learning == ConfidentRules("cpcl", "entropy", 0.6, "xor", "rectified", 5.0, 0.1)
    assert (config.window, config.spacing_mm, config.min_voxels, config.centre) == ((128,) * 3, (1.5,) * 3, 500, "box")
    rates = [seganypet.learning_rate(step, config) for step in (0, 5999, 6000, 9000)]
    assert rates == pytest.approx([8e-4, 8e-4, 8e-5, 8e-6])


def test_published_axes_are_x_y_z_of_ras() -> None:
    change = Config.published().plan().axis_change(np.diag([-2.0, 2.0, 2.0, 1.0]))
    assert change.permutation == (0, 1, 2) and change.flips == (True, False, False)


def test_prompt_encoder_and_decoder_learn_slower() -> None:
    config = tiny("published")
    network = seganypet.build_network(config)
    groups = seganypet.build_optimizer(network, config).param_groups
    assert [group["scale"] for group in groups] == [1.0, 0.1]
    counted = sum(p.numel() for group in groups for p in group["params"])
    assert counted == sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_frozen_parts_still_belong_to_the_weights() -> None:
    network = seganypet.build_network(tiny("published"))
    state = unique_state(network)
    assert len(state) == len(network.state_dict())
    assert not mismatches(network, state)


@pytest.mark.parametrize("kind", ["published", "best", "unet"])
def test_a_step_trains_every_part_that_is_not_frozen(kind: str, batch: PromptBatch) -> None:
    config = tiny(kind)
    network = seganypet.build_network(config).train()
    batch = replace(batch, channels=batch.channels[:, : len(config.channels)])
    terms = seganypet.training_step(network, batch, 10, config)
    terms["loss"].backward()
    without = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(np.isfinite(value.detach().item()) for value in terms.values())


@pytest.mark.parametrize("kind", ["best", "unet"])
def test_it_learns_a_hot_box_from_one_click(kind: str, batch: PromptBatch) -> None:
    config = replace(tiny(kind), learning_rate=3e-3, schedule="cosine", prompt_rate=1.0, steps=60)
    config = replace(config, learning=ConfidentRules("fine_tune"), prompts=replace(config.prompts, rounds=2))
    network = seganypet.build_network(config).train()
    optimizer = seganypet.build_optimizer(network, config)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        loss = seganypet.training_step(network, replace(batch, seed=step), step, config)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:3])


def test_window_zscore_is_over_positive_voxels_and_applied_everywhere() -> None:
    window = torch.tensor([0.0, 0.0, 1.0, 3.0]).reshape(1, 1, 1, 1, 4)
    found = seganypet.prepared(window, Config.published()).flatten()
    spread = 2**0.5  # of 1 and 3, unbiased
    assert found.tolist() == pytest.approx([-2 / spread, -2 / spread, -1 / spread, 1 / spread])
    assert seganypet.prepared(torch.zeros(1, 1, 2, 2, 2), Config.published()).abs().max() == 0
    assert seganypet.prepared(window, Config.best()) is window


def test_without_prompts_it_refuses() -> None:
    case = HarmonisedCase("scan", np.zeros((1, 2, 2, 2), np.float32), None, np.zeros((2, 2, 2), bool))
    with pytest.raises(ModelError, match="answers prompts"):
        seganypet.predict([], case, Config.small())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "resnet"}, "network"),
        ({"channels": ("ct",), "normalisation": ("clip_zscore",)}, "channels are pet"),
        ({"channels": ("pet", "ct")}, "as many normalisations"),
        ({"schedule": "flat"}, "schedule"),
        ({"threshold": 1.0}, "threshold"),
        ({"batch_size": 0}, "1 or more"),
        ({"prompts": PromptRules(box_share=0.5)}, "box_share"),
        ({"window": (100, 128, 128)}, "patches of 16"),
    ],
)
def test_configuration_refuses(change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        replace(Config.published(), **change)
