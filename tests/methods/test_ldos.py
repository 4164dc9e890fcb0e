from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.cases import Case, HarmonisedCase, Scale
from uptake.core.anatomy import classes_of
from uptake.core.errors import ModelError, UsageError
from uptake.geometry import Volume
from uptake.harmonise.normalise import ChannelRule, unscaled
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan
from uptake.methods.ldos import (
    COMPARATORS,
    Config,
    build_network,
    build_optimizer,
    denoise,
    learning_rate,
    predict,
    training_step,
)
from uptake.networks.denoise_segment_net import without_denoiser
from uptake.networks.unet import load_unique_state, unique_state
from uptake.sampling.augment import NO_AUGMENTATION
from uptake.sampling.dose_pairs import PairBatch, PairBatches
from uptake.sampling.store import training_case
from uptake.training.joint_losses import denoising_loss, organ_loss

PLAN = Plan((ChannelRule("pet", "zscore", 0.0, 0.0, 0.0, 1.0),), (4.0, 4.0, 4.0))


@pytest.fixture
def tiny():
    return replace(
        Config.small(), spacing_mm=(4.0, 4.0, 4.0), window=(16, 8, 8), labels=("background", "liver", "brain"),
        features=(4, 8), blocks=(1, 1), steps=40, epoch_steps=4,
    )  # fmt: skip


@pytest.fixture
def case():
    """Two ellipsoids of uptake 3 and 6 in a body of 1, the low dose with noise that grows with the root of uptake."""
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:32, :20, :20]
    labels = np.zeros((32, 20, 20), np.uint8)
    labels[((z - 12) / 6) ** 2 + ((y - 9) / 5) ** 2 + ((x - 8) / 4) ** 2 < 1] = 1
    labels[((z - 25) / 4) ** 2 + ((y - 10) / 4) ** 2 + ((x - 10) / 4) ** 2 < 1] = 2
    full = np.array([1.0, 3.0, 6.0], np.float32)[labels]
    full[:, :2] = 0.0
    low = (full + rng.normal(size=full.shape) * 0.4 * np.sqrt(full)).astype(np.float32)
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    volumes = [Volume(np.ascontiguousarray(a.transpose(2, 1, 0)), affine) for a in (low, full, labels)]
    found, _ = harmonise(
        Case("a", volumes[0], organs=volumes[2], full_dose=volumes[1]), PLAN, organ_table=np.arange(3, dtype=np.uint8)
    )
    return replace(found, labels=found.organs, organs=None)


def a_batch(case, tiny, step=0):
    source = PairBatches([training_case(case)], tiny.pair_rules((4.0, 4.0, 4.0)))
    return source.finished(source.cut(step), torch.device("cpu"))


def test_published_settings_are_the_papers_and_nnunets():
    config = Config.published()
    assert config.labels == classes_of("ldos") and len(config.labels) == 19
    assert (config.features, config.blocks) == ((32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6))
    assert (config.window, config.batch_size, config.steps, config.epochs) == ((192,) * 3, 2, 125_000, 500)
    assert (config.optimiser, config.learning_rate, config.weight_decay) == ("sgd", 1e-2, 3e-5)
    assert (config.phi, config.organ_weight, config.dice_smooth) == ("absolute", 1.0, 1e-5)
    assert (config.clip_norm, config.foreground_share, config.schedule) == (12.0, 0.33, "poly")
    assert config.misalign == "label" and config.augment.misalign_shift == (0, 2, 2)
    assert (config.augment.contrast_p, config.augment.gamma_p, config.augment.inverted_gamma_p) == (0.0, 0.0, 0.0)
    assert (config.augment.low_resolution_p, config.augment.brightness_p) == (0.25, 0.15)
    assert (config.tile_step, config.mirror_axes) == (0.5, (0, 1, 2))


@pytest.mark.parametrize("name", COMPARATORS)
def test_comparators_are_configurations_that_survive_json(name):
    config = Config.small().comparator(name)
    assert Config.from_json(json.loads(json.dumps(config.as_json()))) == config
    assert config.denoises == (name in ("ldos", "ldos-ow", "fake-fdpet")) and config.finds_organs
    assert config.augment == Config.small().augment
    assert (config.dose == "full") == (name == "fdpet") and (config.phi == "off") == (name == "ldos-ow")


def test_the_sizes_of_the_comparators():
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in build_network(Config.published().comparator(name)).parameters())
            for name in COMPARATORS
        }
    assert sizes["ldos"] == sizes["ldos-ow"] == 114_415_844
    assert sizes["ldpet"] == sizes["fdpet"] == 102_363_455
    assert sizes["fake-fdpet"] == 102_363_455 + 90_296_576 + 12_052_389
    assert sizes["nnunet"] == pytest.approx(31.2e6, rel=5e-3)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"design": "both"}, "design 'both' is unknown; choose one of joint"),
        ({"dose": "full"}, "a full-dose input has nothing to be denoised to"),
        ({"normalisation": ("rescale_0_1",)}, "one of zscore, fixed, asinh"),
        ({"output": "log"}, "output 'log' is unknown"),
        ({"phi": "linear"}, "phi 'linear' is unknown"),
        ({"misalign": "ct"}, "misalign 'ct' is unknown"),
        ({"cross_entropy": "focal"}, "cross_entropy 'focal'"),
        ({"window": (20, 16, 16)}, "must divide by"),
        ({"window": (32, 32, 32)}, "shrinks to one voxel"),
        ({"labels": ("background",)}, "one organ at least"),
        ({"blocks": (1,)}, "name the same stages"),
        ({"steps": 0}, "must be 1 or more"),
        ({"tile_step": 0.0}, "tile_step"),
    ],
)
def test_contradictions_are_refused_by_name(changes, complaint):
    with pytest.raises(UsageError, match=complaint):
        replace(Config(), **changes)
    with pytest.raises(UsageError, match="comparator 'em-net' is unknown"):
        Config().comparator("em-net")


def test_the_loss_is_equation_9(case, tiny):
    network, batch = build_network(tiny), a_batch(case, tiny)
    with torch.no_grad():
        logits, images = network(batch.channels, denoise=True)
        clean, organs = denoising_loss(images, batch.target), organ_loss(logits, batch.labels[:, 0])
    for step, phi in ((0, 1.0), (3, 1.0), (4, math.exp(-1 / 10)), (39, math.exp(-9 / 10))):
        found = training_step(network, batch, step, tiny)
        assert found["loss"].item() == pytest.approx(float(phi * clean + organs), rel=1e-5)
        assert float(found["denoising"]) == pytest.approx(float(clean), rel=1e-5)
        unfaded = training_step(network, batch, step, tiny.comparator("ldos-ow"))
        assert unfaded["loss"].item() == pytest.approx(float(clean + organs), rel=1e-5)
    weighted = training_step(network, batch, 0, replace(tiny, organ_weight=0.5))
    assert weighted["loss"].item() == pytest.approx(float(clean + 0.5 * organs), rel=1e-5)
    inside = training_step(network, batch, 0, replace(tiny, body_only=True))
    assert float(inside["denoising"]) == pytest.approx(float(denoising_loss(images, batch.target, body=batch.body)))


def test_scaling_both_doses_by_a_thousand_changes_no_loss(case, tiny):
    network = build_network(tiny)
    suv = [unscaled(a, case.scales[0]).transpose(2, 1, 0) for a in (case.channels[0], case.target)]
    losses = []
    for factor in (1.0, 1000.0):
        low, full = (Volume(np.ascontiguousarray(factor * a), np.diag([-4.0, -4.0, 4.0, 1.0])) for a in suv)
        again, _ = harmonise(Case("a", low, full_dose=full), PLAN)
        batch = a_batch(replace(again, labels=case.labels), replace(tiny, augment=NO_AUGMENTATION))
        losses.append(training_step(network, batch, 0, tiny)["loss"].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_sequence_trains_its_denoiser_and_then_its_segmenter(case, tiny):
    config = tiny.comparator("fake-fdpet")
    network, batch = build_network(config), a_batch(case, config)
    assert config.fit_settings().steps == 2 * config.steps
    assert learning_rate(config.steps, config) == learning_rate(0, config)
    for step, part, other in ((config.steps - 1, "first.", "second."), (config.steps, "second.", "first.")):
        network.zero_grad(set_to_none=True)
        training_step(network, batch, step, config)["loss"].backward()
        touched = {name for name, p in network.named_parameters() if p.grad is not None}
        assert any(name.startswith(part) for name in touched) and not any(n.startswith(other) for n in touched)


@pytest.mark.parametrize("name", ["ldos", "fake-fdpet"])
def test_both_losses_fall_on_a_phantom(case, tiny, name):
    """The recipe's smoke run: a tiny network, 2 scales, ellipsoids, 50 steps."""
    config = replace(tiny.comparator(name), window=(16, 8, 8), steps=25, output="window")
    source = PairBatches([training_case(case)], config.pair_rules((4.0, 4.0, 4.0)))
    plain = replace(config, augment=NO_AUGMENTATION, batch_size=6, seed=99)
    judged = PairBatches([training_case(case)], plain.pair_rules((4.0, 4.0, 4.0)))
    fixed = judged.finished(judged.cut(0), torch.device("cpu"))
    network = build_network(config).train()
    optimizer = build_optimizer(network, config)

    def losses():
        with torch.no_grad():
            logits, images = network(fixed.channels, denoise=True)
            return float(denoising_loss(images, fixed.target)), float(organ_loss(logits, fixed.labels[:, 0]))

    before = losses()
    for step in range(50):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2
        optimizer.zero_grad(set_to_none=True)
        batch = source.finished(source.cut(step), torch.device("cpu"))
        training_step(network, batch, step, config)["loss"].backward()
        optimizer.step()
    after = losses()
    assert after[0] < 0.8 * before[0] and after[1] < 0.8 * before[1]


def test_organs_are_the_same_with_the_denoiser_dropped(case, tiny):
    joint, alone = build_network(tiny), build_network(tiny.comparator("ldpet"))
    load_unique_state(alone, without_denoiser(unique_state(joint)))
    together = predict([joint], case, tiny)
    assert together.logits.shape == (3, *case.body.shape)
    assert np.array_equal(together.logits, predict([alone], case, tiny.comparator("ldpet")).logits)
    both = denoise([joint], case, tiny, organs=True)
    assert np.allclose(both.prediction.logits, together.logits, atol=1e-5)
    assert np.allclose(both.suv, denoise([joint], case, tiny).suv, atol=1e-5)


class Echo(torch.nn.Module):
    """Stands for a network whose denoised image is its input, shifted."""

    def __init__(self, by=0.0):
        super().__init__()
        self.by = by

    def finest(self, image, *, labels, denoised):
        logits = torch.cat([image, -image, image], 1) if labels else None
        return logits, image + self.by if denoised else None


def test_a_denoised_image_is_in_suv_again(case, tiny):
    suv = unscaled(case.channels[0], case.scales[0])
    found = denoise([Echo()], case, tiny)
    assert np.abs(found.suv - np.maximum(suv, 0)).max() < 1e-4
    raised = denoise([Echo(0.5)], case, tiny)
    inside = case.body & (suv > 0)
    assert np.allclose((raised.suv - suv)[inside], 0.5 * case.scales[0].std, atol=1e-4)
    assert found.suv.min() >= 0.0 and found.suv.dtype == np.float32


def test_air_that_no_window_reaches_keeps_its_values(tiny):
    channels = np.full((1, 64, 8, 8), 2.0, np.float32)
    body = np.zeros(channels.shape[1:], bool)
    body[:8] = True
    case = HarmonisedCase("a", channels, None, body, scales=(Scale(0.0, 1.0),))
    found = denoise([Echo(1.0)], case, tiny)
    assert np.allclose(found.suv[:8], 3.0) and np.allclose(found.suv[40:], 2.0)
    labelled = denoise([Echo(1.0)], case, tiny, organs=True)
    assert np.allclose(labelled.suv, found.suv) and labelled.prediction.logits.shape[0] == 3


def test_what_a_model_cannot_do_is_refused(case, tiny):
    with pytest.raises(ModelError, match="no denoising decoder"):
        denoise([build_network(tiny.comparator("ldpet"))], case, tiny.comparator("ldpet"))
    alone = replace(tiny, design="denoise")
    with pytest.raises(ModelError, match="finds no organs"):
        predict([build_network(alone)], case, alone)
    batch = a_batch(case, tiny)
    without = PairBatch(batch.channels, batch.labels)
    with pytest.raises(UsageError, match="no full-dose PET"):
        training_step(build_network(tiny), without, 0, tiny)
    assert training_step(build_network(tiny.comparator("ldpet")), without, 0, tiny.comparator("ldpet"))["loss"] > 0


def test_the_window_follows_small_patients(tiny):
    assert replace(tiny, window=(32, 16, 16)).fitted_to((9, 40, 3)).window == (10, 16, 4)


@pytest.mark.parametrize("output", ["linear", "residual"])
def test_openvino_gives_the_image_and_the_organs_of_torch(tiny, output):
    pytest.importorskip("openvino")
    config = replace(tiny, window=(16, 16, 16), output=output)
    channels = np.random.default_rng(0).normal(1.0, 2.0, (1, 24, 16, 16)).astype(np.float32)
    case = HarmonisedCase("a", channels, None, np.ones(channels.shape[1:], bool), scales=(Scale(1.0, 2.0),))
    network = build_network(config)
    first = denoise([network], case, config, organs=True)
    for organs in (True, False):
        second = denoise([network], case, config, organs=organs, engine="openvino")
        assert np.abs(first.suv - second.suv).max() < 1e-3
    assert np.abs(first.prediction.logits - predict([network], case, config, engine="openvino").logits).max() < 1e-3
