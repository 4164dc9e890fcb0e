from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.cases import Case
from uptake.core.anatomy import classes_of
from uptake.core.errors import UsageError
from uptake.geometry import Volume
from uptake.geometry.affine import compose
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan
from uptake.harmonise.restore import restore
from uptake.methods.lesiontracer import (
    DEPARTURES,
    LABELS,
    Config,
    build_network,
    build_optimizer,
    learning_rate,
    predict,
    training_step,
)
from uptake.networks.unet import unique_state
from uptake.sampling.augment import AugmentRules
from uptake.sampling.batches import Batch
from uptake.training.losses import IGNORED, deep_supervision_weights, dice_cross_entropy

PLAN = Plan(
    (ChannelRule("ct", "clip_zscore", -800.0, 1100.0, 100.0, 280.0), ChannelRule("pet", "asinh", 0, 0, 1.5, 0.8)),
    (4.0, 4.0, 4.0),
)


@pytest.fixture
def tiny():
    return replace(Config.small(), window=(8, 8, 8), features=(4, 8), blocks=(1, 1), mirror_axes=(2,))


@pytest.fixture
def case():
    """An oblique LPS case, smaller than the window along one axis, hot in the middle."""
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1.0]]) @ np.diag([-1.0, -1.0, 1.0])
    affine = compose(np.array([4.0, 4.0, 5.0]), turn, np.array([30.0, 25.0, -100.0]))
    rng = np.random.default_rng(0)
    pet = rng.uniform(0.3, 1.0, (11, 9, 5)).astype(np.float32)
    pet[4:7, 3:6, 2] = 12.0
    return Case("tiny", Volume(pet, affine), Volume(rng.normal(0, 50, pet.shape).astype(np.float32), affine))


class Threshold(torch.nn.Module):
    """Stands for a network: lesion where the PET channel is above a value."""

    def __init__(self):
        super().__init__()
        self.decoder = torch.nn.Module()
        self.seen = []

    def forward(self, channels):
        self.seen.append((self.training, self.decoder.deep_supervision, channels.shape[0]))
        pet = channels[:, 1] - 1.0
        return torch.stack([-pet, pet], 1)


def test_published_settings_are_the_papers():
    config = Config.published()
    assert replace(config, organs=()) == Config()
    assert config.organs == classes_of("lesiontracer-published")
    assert (config.window, config.batch_size, config.steps, config.epoch_steps) == ((192,) * 3, 3, 1500 * 250, 250)
    assert (config.features, config.blocks) == ((32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6))
    assert (config.learning_rate, config.weight_decay, config.clip_norm) == (1e-3, 3e-5, 12.0)
    assert (config.channels, config.normalisation) == (("ct", "pet"), ("clip_zscore",) * 2)
    assert (config.dice_smooth, config.foreground_share, config.schedule) == (0.0, 0.33, "poly")
    assert (config.tile_step, config.mirror_axes) == (0.5, (0, 1, 2))
    assert config.spacing_mm == (3.0, 2.0364201068878174, 2.0364201068878174) and config.orientation == "LAS"
    assert config.augment.low_resolution_p == 0.0 and not config.augment.in_mm


def test_the_best_preset_is_the_published_one_with_departures_that_can_be_left_out():
    published, best = Config.published(), Config.best()
    assert replace(
        best, preset="published", organs=published.organs, normalisation=published.normalisation,
        augment=published.augment, focus=False,
    ) == published  # fmt: skip
    assert best.organs == classes_of("lesiontracer") and best.normalisation == ("clip_zscore", "asinh")
    assert best.augment == AugmentRules(low_resolution_p=0.25, ct_dropout_p=0.15, in_mm=True) and best.focus
    for name in DEPARTURES:
        one_less = Config.best(without=[name])
        assert one_less.preset == f"best, without {name}"
        assert replace(one_less, preset="best") != best, f"{name} changes something"
    none = Config.best(without=tuple(DEPARTURES))
    assert replace(none, preset="published") == published
    assert Config.best().from_scratch().learning_rate == 1e-2


def test_the_small_preset_holds_every_departure_of_the_best_one_but_the_organs():
    small, best, published = Config.small(), Config.best(), Config.published()
    assert small.organs == ()
    assert small.normalisation == best.normalisation != published.normalisation
    assert small.augment.low_resolution_p == 0.1 and best.augment.low_resolution_p == 0.25
    assert replace(small.augment, low_resolution_p=0.25) == best.augment
    assert small.focus and best.focus and not published.focus


def test_an_unknown_departure_is_refused():
    with pytest.raises(
        UsageError, match="'sobriety' is no departure of the preset best; they are organ-ids, pet-scale"
    ):
        Config.best(without=["sobriety"])


@pytest.mark.parametrize(
    "config",
    [Config.published(), Config.best(), Config.small(), Config.pretraining_published(), Config.pretraining_small()],
    ids=lambda config: config.preset,
)
def test_a_configuration_survives_json(config):
    assert Config.from_json(json.loads(json.dumps(config.as_json()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalisation": ("asinh",)}, "2 channels need as many normalisations"),
        ({"blocks": (1, 1)}, "features and blocks name the same stages"),
        ({"features": (4,), "blocks": (1,)}, "two or more"),
        ({"window": (64, 40, 44)}, r"window \(64, 40, 44\) must divide by \(8, 8, 8\): the network halves it 3 times"),
        ({"window": (8, 8, 8)}, "shrinks to one voxel"),
        ({"optimiser": "adam"}, "optimiser 'adam' is unknown; choose one of sgd, adamw"),
        ({"schedule": "step"}, "schedule 'step' is unknown; choose one of poly, cosine"),
        ({"batch_size": 0}, "must be 1 or more"),
        ({"steps": 0}, "must be 1 or more"),
        ({"epoch_steps": 0}, "must be 1 or more"),
        ({"accumulate": 0}, "must be 1 or more"),
        ({"tile_step": 0.0}, r"tile_step is a share of the window in \(0, 1\], came 0.0"),
        ({"tile_step": 1.01}, "tile_step"),
        ({"foreground_share": -0.1}, "foreground_share is between 0 and 1"),
        ({"foreground_share": 1.1}, "foreground_share is between 0 and 1"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        replace(Config.small(), **change)


@pytest.mark.parametrize(
    ("median", "window"),
    [
        ((300, 400, 400), (64, 40, 40)),
        ((41, 33, 17), (48, 40, 24)),
        ((64, 40, 16), (64, 40, 16)),
        ((3, 3, 3), (16, 16, 16)),
    ],
)
def test_the_window_is_no_larger_than_the_padded_median_case(median, window):
    fitted = Config.small().fitted_to(median)
    assert fitted == replace(Config.small(), window=window)


def test_the_rooms_below_are_told_what_the_configuration_says():
    config = replace(Config.small(), seed=9)
    settings, rules = config.fit_settings(), config.batch_rules((3.0, 2.0, 2.0))
    assert (settings.steps, settings.epoch_steps, settings.validation_batches, settings.clip_norm) == (1000, 100, 8, 12)
    assert (rules.window, rules.batch_size, rules.foreground_share) == ((64, 40, 40), 2, 0.33)
    assert (rules.channels, rules.spacing_mm, rules.augment, rules.seed) == (
        ("ct", "pet"), (3.0, 2.0, 2.0), config.augment, 9,
    )  # fmt: skip


def test_the_small_network_has_the_size_that_is_claimed():
    count = sum(p.numel() for p in build_network(Config.small()).parameters())
    assert count == pytest.approx(2.4e6, rel=0.03)


def test_a_network_depends_on_its_seed_and_on_nothing_else(tiny):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = unique_state(build_network(tiny))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    same, other = unique_state(build_network(tiny)), unique_state(build_network(replace(tiny, seed=1)))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.stem.convs.0.conv.weight"], other["encoder.stem.convs.0.conv.weight"])


def test_optimisers_are_the_named_ones(tiny):
    network = build_network(tiny)
    (sgd,) = build_optimizer(network, replace(tiny, optimiser="sgd", learning_rate=0.5)).param_groups
    assert (sgd["momentum"], sgd["nesterov"], sgd["lr"], sgd["weight_decay"]) == (0.99, True, 0.5, 1e-2)
    adamw = build_optimizer(network, tiny)
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.param_groups[0]["betas"], adamw.param_groups[0]["lr"]) == ((0.9, 0.99), 2e-3)
    assert len(sgd["params"]) == len(list(network.parameters()))


def test_learning_rates_follow_the_named_schedule():
    assert learning_rate(250 * 750, Config.published()) == pytest.approx(5.359e-4, rel=1e-3)
    assert learning_rate(0, Config.small()) == pytest.approx(2e-3 / 50)
    assert learning_rate(50, Config.small()) == pytest.approx(2e-3)


def test_a_training_step_is_dice_and_cross_entropy_on_every_level(tiny):
    network = build_network(replace(tiny, features=(4, 8, 8), blocks=(1, 1, 1)))
    channels, labels = torch.randn(2, 2, 8, 8, 8), torch.zeros(2, 8, 8, 8, dtype=torch.uint8)
    labels[:, 2:5, 3:7, 1:4] = 1
    with torch.no_grad():
        fine, coarse = network(channels)
        expected = dice_cross_entropy(fine, labels)
        assert deep_supervision_weights(2) == (1.0, 0.0) and coarse.shape[2:] == (4, 4, 4)
        assert float(training_step(network, Batch(channels, labels[:, None]), tiny)) == pytest.approx(
            float(expected), rel=1e-6
        )
    smooth = replace(tiny, dice_smooth=1.0)
    assert training_step(network, Batch(channels, labels[:, None]), smooth).item() != pytest.approx(
        expected.item(), abs=1e-4
    )


def test_organs_add_the_same_loss_on_heads_of_their_own(tiny):
    config = replace(tiny, features=(4, 8, 8), blocks=(1, 1, 1), organs=("background", "liver", "spleen"))
    network = build_network(config)
    channels = torch.randn(2, 2, 8, 8, 8)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (2, 2, 8, 8, 8)).astype(np.uint8))
    labels[:, 1] *= 2
    with torch.no_grad():
        lesions, organs = network(channels, organs=True)
        expected = dice_cross_entropy(lesions[0], labels[:, 0]) + dice_cross_entropy(organs[0], labels[:, 1])
        assert float(training_step(network, Batch(channels, labels), config)) == pytest.approx(
            float(expected), rel=1e-6
        )
        labels[:, 1] = IGNORED
        alone = float(dice_cross_entropy(lesions[0], labels[:, 0]))
        assert float(training_step(network, Batch(channels, labels), config)) == pytest.approx(alone, rel=1e-6)


def test_a_prediction_returns_to_the_grid_of_the_pet(tiny, case):
    harmonised, trace = harmonise(case, PLAN)
    prediction = predict([build_network(tiny)], harmonised, tiny)
    assert prediction.logits.shape == (len(LABELS), *harmonised.body.shape)
    assert np.isfinite(prediction.logits).all()
    labels = restore(prediction, trace).labels
    assert labels.array.shape == case.pet.shape and labels.array.dtype == np.uint8
    assert np.array_equal(labels.affine, case.pet.affine)


def test_a_lesion_is_found_where_it_is(tiny, case):
    harmonised, trace = harmonise(case, PLAN)
    mask = restore(predict([Threshold()], harmonised, tiny), trace).labels.array > 0
    hot = case.pet.array > 10
    assert mask[hot].all() and not mask[:, :, [0, 4]].any()
    assert mask.sum() <= 3 * hot.sum()


def test_networks_are_put_into_evaluation_without_deep_supervision(tiny, case):
    network = Threshold().train()
    predict([network], harmonise(case, PLAN)[0], tiny, batch_size=2)
    assert {seen[:2] for seen in network.seen} == {(False, False)}
    assert max(seen[2] for seen in network.seen) == 2


def test_folds_are_averaged(tiny, case):
    harmonised, _ = harmonise(case, PLAN)
    networks = [build_network(replace(tiny, seed=seed)) for seed in (0, 1)]
    both = predict(networks, harmonised, tiny).logits
    alone = [predict([network], harmonised, tiny).logits for network in networks]
    assert np.abs(both - np.mean(alone, axis=0)).max() < 1e-5
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_the_axes_of_the_configuration_are_mirrored(tiny, case):
    """Windows that do not overlap, so that a flip of the case is a flip of its windows."""
    rng = np.random.default_rng(0)
    channels = rng.normal(size=(2, 16, 8, 8)).astype(np.float32)
    plain = replace(harmonise(case, PLAN)[0], channels=channels, body=np.ones((16, 8, 8), bool), labels=None)
    flipped = replace(plain, channels=np.ascontiguousarray(channels[..., ::-1]))
    network = build_network(tiny)

    def logits(given, axes):
        return predict([network], given, replace(tiny, mirror_axes=axes, tile_step=1.0)).logits

    mean = (logits(plain, ()) + logits(flipped, ())[..., ::-1]) / 2
    assert np.abs(logits(plain, (2,)) - mean).max() < 1e-5
    assert np.abs(logits(plain, ()) - mean).max() > 1e-3


def test_air_is_skipped_only_where_asked(tiny, case):
    harmonised, _ = harmonise(case, PLAN)
    body = np.zeros_like(harmonised.body)
    body[:, :2, :2] = True
    airy = replace(harmonised, body=body)
    network = build_network(tiny)
    everywhere = replace(tiny, focus=False)
    spared, whole = predict([network], airy, everywhere), predict([network], airy, everywhere, skip_air=False)
    assert spared.windows_skipped > 0 and whole.windows_skipped == 0
    assert np.array_equal(spared.logits[:, body], whole.logits[:, body])


def test_bfloat16_changes_logits_a_little_and_keeps_their_type(tiny, case):
    harmonised, _ = harmonise(case, PLAN)
    network = build_network(tiny)
    exact = predict([network], harmonised, tiny).logits
    rough = predict([network], harmonised, tiny, dtype=torch.bfloat16).logits
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()
