from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.cases import HarmonisedCase
from uptake.core.errors import UsageError
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.plan import Plan
from uptake.methods import lesiontracer, petct_mae
from uptake.methods.petct_mae import Config
from uptake.networks.backbones import BACKBONES, part
from uptake.networks.unet import mismatches, unique_state
from uptake.sampling.batches import Batch, WindowBatches
from uptake.sampling.masking import MaskedWindows, MaskRules
from uptake.sampling.store import training_case
from uptake.training.reconstruction import ReconstructionRules

TINY = replace(
    Config.small(), features=(4, 8), blocks=(1, 1), window=(8, 8, 8), masks=MaskRules(block=(4, 4, 4)), steps=6,
    epoch_steps=3,
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    body = np.zeros((16, 12, 12), np.uint8)
    body[2:14, 2:10, 2:10] = 1
    channels = (rng.normal(0, 0.2, (2, *body.shape)) + body - 0.3).astype(np.float32)
    return HarmonisedCase("case", channels, body, body > 0)


def test_the_published_values_are_those_of_the_paper():
    found = Config.published()
    assert (found.backbone, found.channels, found.window) == ("swin_base", ("pet", "ct"), (96, 128, 128))
    assert found.masks == MaskRules((12, 16, 16), 0.5, "bernoulli", "independent", "mean")
    assert found.loss == ReconstructionRules("mse", 1.0, 0.2)
    assert (found.steps, found.epoch_steps, found.batch_size) == (200 * 312, 4992 // 16, 16)
    assert (found.learning_rate, Config.published("nnunet_3d").learning_rate) == (1e-4, 5e-4)
    assert (found.optimiser, found.weight_decay, found.clip_norm) == ("adamw", 1e-5, 1.0)
    assert (found.augment.scale_p, found.augment.scale, found.augment.mirror_p) == (0.5, (0.9, 1.1), 0)
    plan = found.plan()
    assert (plan.spacing_mm, plan.crop, plan.crop_margin, plan.image_order) == ((3.0, 2.0, 2.0), "body", 3, 1)
    tuned = found.for_segmentation()
    assert (tuned.steps, tuned.batch_size, tuned.labels, tuned.mode) == (17_500, 4, ("background", "lesion"), "full")
    assert tuned.augment.scale_p == 0 and tuned.learning_rate == 1e-4


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_a_published_configuration(name):
    assert Config.published(name).design == BACKBONES[name]


@pytest.mark.parametrize("preset", ["small", "amaes", "s3d_dense", "must_pet"])
def test_presets_survive_json(preset):
    config = getattr(Config, preset)()
    assert Config.from_json(json.loads(json.dumps(config.as_json()))) == config
    assert config.plan().channel_names == ("pet", "ct")


def test_comparators_are_set_as_their_papers_say():
    amaes, s3d, must = Config.amaes(), Config.s3d_dense(), Config.must_pet()
    assert (amaes.masks.block, amaes.masks.ratio, amaes.skips, amaes.loss.pooled) == ((4, 4, 4), 0.6, False, True)
    assert (s3d.masks.ratio, s3d.masks.sampler, s3d.loss.visible, s3d.optimiser) == (0.75, "exact", 0.0, "sgd")
    assert must.masks.coupling == "one_channel"
    assert amaes.for_segmentation().skips


def test_the_published_rate_falls_by_epoch_along_half_a_cosine():
    config = Config.published()
    rates = [petct_mae.learning_rate(epoch * 312, config) for epoch in range(200)]
    assert rates[0] == 1e-4 and petct_mae.learning_rate(311, config) == 1e-4
    assert rates[100] == pytest.approx((1e-4 + 1e-6) / 2)
    assert rates == sorted(rates, reverse=True) and 1e-6 < rates[-1] < 1.1e-6


def test_pretraining_lowers_the_loss_and_beats_the_mean(case):
    config = replace(TINY, steps=30)
    network = petct_mae.build_network(config)
    optimizer = petct_mae.build_optimizer(network, config)
    source = MaskedWindows([training_case(case)], config.batch_rules((4.0,) * 3), config.masks)
    losses = []
    for step in range(config.steps):
        batch = source.finished(source.cut(step), CPU)
        found = petct_mae.training_step(network, batch, config, step)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(float(found["loss"].detach()))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5]), losses[::10]


def test_chance_inside_a_network_depends_on_the_step_and_disturbs_no_other_draw(case):
    network = torch.nn.Dropout3d(0.2).train()  # stands for the stochastic depth of a transformer
    source = MaskedWindows([training_case(case)], replace(TINY, batch_size=8).batch_rules((4.0,) * 3), TINY.masks)
    batch = source.finished(source.cut(0), CPU)
    state = torch.random.get_rng_state()
    found = [float(petct_mae.training_step(network, batch, TINY, step)["loss"]) for step in (3, 3, 4)]
    assert found[0] == found[1] != found[2]
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_segmentation_loss_counts_the_background_and_costs_nothing_for_a_class_that_is_not_there():
    labels = torch.zeros(1, 2, 2, 2, dtype=torch.uint8)
    labels[0, 0, 0, 0] = 1
    sure = torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 1).float() * 200 - 100
    assert float(petct_mae.segmentation_loss(sure, labels)) == pytest.approx(0.0, abs=1e-4)
    even = torch.zeros(1, 2, 2, 2, 2)
    # p = 1/2 everywhere: background 2 · 3.5 / (4 + 7), lesion 2 · 0.5 / (4 + 1).
    expected = np.log(2) + 1 - (7 / 11 + 1 / 5) / 2
    assert float(petct_mae.segmentation_loss(even, labels)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("mode", "moved"),
    [("full", {"encoder", "decoder", "head"}), ("decoder", {"decoder", "head"}), ("head", {"head"})],
)
def test_a_mode_trains_its_parts_and_no_others(case, mode, moved):
    config = TINY.for_segmentation(mode=mode, learning_rate=0.1)
    network = petct_mae.build_network(config)
    before = {name: tensor.clone() for name, tensor in unique_state(network).items()}
    optimizer = petct_mae.build_optimizer(network, config)
    source = WindowBatches([training_case(case)], config.batch_rules((4.0,) * 3))
    batch = source.finished(source.cut(0), CPU)
    petct_mae.training_step(network, batch, config)["loss"].backward()
    optimizer.step()
    after = unique_state(network)
    changed = {part("residual", name) for name in after if not torch.equal(before[name], after[name])}
    assert changed == moved


def test_a_fine_tuned_network_predicts_labels_on_the_grid_of_the_case(case):
    config = TINY.for_segmentation()
    found = petct_mae.predict([petct_mae.build_network(config)], case, config)
    assert found.logits.shape == (2, 16, 12, 12)
    with pytest.raises(UsageError, match="fine-tune it first"):
        petct_mae.predict([petct_mae.build_network(TINY)], case, TINY)


def test_pretraining_like_a_bundle_gives_weights_that_start_its_network():
    other = replace(lesiontracer.Config.small(), features=(4, 8), blocks=(1, 1), window=(16, 16, 16))
    rules = (ChannelRule("ct", "clip_zscore", -800, 800, 0, 300), ChannelRule("pet", "asinh", 0, 0, 1, 1))
    plan = Plan(rules, (5.0, 4.0, 4.0))
    config = petct_mae.like(Config.small(), other, plan)
    assert (config.channels, config.spacing_mm, config.window) == (("ct", "pet"), (5.0, 4.0, 4.0), (16, 16, 16))
    state = unique_state(petct_mae.build_network(config))
    assert mismatches(lesiontracer.build_network(other), state) == []
    with pytest.raises(UsageError, match="kernels or strides"):
        petct_mae.like(Config.small(), replace(other, strides=((1, 1, 1), (2, 2, 2))), plan)
    with pytest.raises(UsageError, match="needs constants of a labelled dataset"):
        config.plan()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"channels": ("pet", "mr"), "normalisation": ("zscore", "zscore")}, "channels are 'pet', 'ct' or both"),
        ({"normalisation": ("zscore",)}, "2 channels need as many normalisations"),
        ({"loss": ReconstructionRules(channels=(1.0,))}, "the loss weights 1 channels"),
        ({"window": (10, 8, 9)}, "must divide by 2"),
        ({"window": (2, 2, 2)}, "shrinks to one voxel"),
        ({"masks": MaskRules(block=(8, 8, 8))}, "hide all of a window"),
        ({"labels": ("lesion",)}, "background and one class"),
        ({"mode": "encoder"}, "mode 'encoder' is unknown"),
        ({"steps": 0}, "must be 1 or more"),
        ({"backbone": "unetr"}, "choose one of swin_small"),
    ],
)
def test_contradictions_are_refused(changes, says):
    with pytest.raises(UsageError, match=says):
        replace(TINY, **changes)


def test_a_network_without_skips_must_be_a_u_net():
    with pytest.raises(UsageError, match="only U-Nets"):
        replace(Config.published(), skips=False)


def test_both_steps_log_their_terms(case):
    source = MaskedWindows([training_case(case)], TINY.batch_rules((4.0,) * 3), TINY.masks)
    found = petct_mae.training_step(petct_mae.build_network(TINY), source.finished(source.cut(0), CPU), TINY)
    assert set(found) == {"loss", "hidden", "visible"}
    tuned = TINY.for_segmentation()
    batch = Batch(torch.zeros(1, 2, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8, dtype=torch.uint8))
    assert set(petct_mae.training_step(petct_mae.build_network(tuned), batch, tuned)) == {"loss"}
