"""Training by prompts on tiny cases: bundle, resumption, refusals, validation by clicks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.core.errors import CheckpointError, InputError
from uptake.methods.seganypet import Config
from uptake.sampling.prompt_cases import PromptCase, targets_of
from uptake.training.confident import ConfidentRules
from uptake.workflows.bundles import load_bundle
from uptake.workflows.train import About
from uptake.workflows.train_promptable import click_validation, train_promptable, window_dice

SHAPE = (12, 12, 12)
ABOUT = About("clicks", "a test", "three boxes", "CC0-1.0", "MIT", ("It has learnt next to nothing.",))


class Stopped(Exception):
    pass


def case_of(name, *, trusted=True, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    z, y, x = rng.integers(2, 6, 3)
    mask[z : z + 4, y : y + 4, x : x + 4] = 1
    channels = np.stack([np.arcsinh(1.0 + 5.0 * mask), np.zeros(SHAPE)]).astype(np.float32)
    return PromptCase(name, channels, targets_of(mask), trusted)


@pytest.fixture
def tiny():
    return replace(
        Config.small(), window=(8, 8, 8), features=(4, 8), blocks=(1, 1), jitter=2, steps=4, epoch_steps=2,
        validation_batches=1,
    )  # fmt: skip


@pytest.fixture
def cases():
    return [case_of(f"p{n}", seed=n) for n in range(3)]


def state_of(bundle):
    (state,) = load_bundle(bundle).states.values()
    return state


def trained(cases, held, out, config, **named):
    return train_promptable(cases, held, out, config, about=ABOUT, device="cpu", precision="32-true", **named)


def test_a_bundle_comes_out_that_says_what_it_was_made_from(cases, tiny, tmp_path):
    bundle = load_bundle(trained(cases[:2], cases[2:], tmp_path / "run", tiny))
    assert bundle.config == tiny and bundle.plan == tiny.plan()
    card = bundle.card
    assert (card.name, card.licence, card.limits) == ("clicks", "MIT", list(ABOUT.limits))
    assert card.training["cases"] == 2 and card.training["preset"] == "small" and card.needs == ["pet"]
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    columns = dict(zip(log[0].split(","), log[-1].split(","), strict=True))
    assert columns["step"] == "4" and 0.0 <= float(columns["click_dice_auc"]) <= 1.0
    assert {"click_dice_1", "click_dice_5", "train_flipped"} <= columns.keys()


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(cases, tiny, tmp_path):
    whole = state_of(trained(cases, [], tmp_path / "whole", tiny))

    def stop(report):
        raise Stopped

    with pytest.raises(Stopped):
        trained(cases, [], tmp_path / "broken", tiny, on_epoch=stop)
    steps = []
    again = state_of(trained(cases, [], tmp_path / "broken", tiny, on_epoch=lambda report: steps.append(report.step)))
    assert steps == [4]
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("change", ["settings", "trust", "targets", "cases"])
def test_a_folder_with_another_run_is_refused(cases, tiny, tmp_path, change):
    trained(cases, [], tmp_path / "run", replace(tiny, steps=2))
    config = replace(tiny, steps=2, jitter=3) if change == "settings" else replace(tiny, steps=2)
    other = {
        "settings": cases,
        "trust": [replace(cases[0], trusted=False), *cases[1:]],
        "targets": [case_of("p0", seed=9), *cases[1:]],
        "cases": cases[:2],
    }[change]
    if change == "targets":
        larger = np.zeros(SHAPE, np.uint8)
        larger[1:7, 1:7, 1:7] = 1
        other[0] = replace(cases[0], targets=targets_of(larger))
    with pytest.raises(CheckpointError, match="another output folder"):
        trained(other, [], tmp_path / "run", config)


def test_weights_of_another_model_are_where_it_starts(cases, tiny, tmp_path):
    first = load_bundle(trained(cases, [], tmp_path / "first", tiny, stored_as="float32"))
    later = replace(tiny, steps=1, learning_rate=0.0, seed=5, weight_decay=0.0)
    bundle = load_bundle(trained(cases, [], tmp_path / "second", later, start=first, stored_as="float32"))
    (before,), (after,) = first.states.values(), bundle.states.values()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items() if name.endswith("weight"))
    assert bundle.card.training["started_from"] == f"clicks, weights {first.checksum[:12]}"
    wider = replace(tiny, features=(6, 8))
    with pytest.raises(InputError, match="clicks does not fit the network to be trained"):
        trained(cases, [], tmp_path / "third", wider, start=first)


def test_trusted_and_other_cases_are_mixed_and_one_kind_alone_is_refused(cases, tiny, tmp_path):
    mixed = replace(tiny, steps=2, trusted_share=0.5, learning=ConfidentRules(rectify="agreeing"))
    with pytest.raises(InputError, match="no other ones"):
        trained(cases, [], tmp_path / "alone", mixed)
    trained([cases[0], *(replace(case, trusted=False) for case in cases[1:])], [], tmp_path / "run", mixed)
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    columns = dict(zip(log[0].split(","), log[-1].split(","), strict=True))
    assert float(columns["train_trusted"]) > 0 and float(columns["train_other"]) > 0


def test_without_targets_there_is_nothing_to_train_on(tiny, tmp_path):
    empty = PromptCase("p0", np.zeros((2, *SHAPE), np.float32), ())
    with pytest.raises(InputError, match="none of the training cases has an object"):
        trained([empty], [], tmp_path / "run", tiny)


def test_validation_asks_the_same_questions_every_time(cases, tiny):
    class Answers(torch.nn.Module):
        def forward(self, channels, user, rounds):
            self.asked = [user(0, None).points]
            return [torch.where(channels[:, :1] > 1.0, 1.0, -1.0)] * rounds

    assert click_validation([], tiny, batches=3) is None
    assert click_validation(cases, tiny, batches=0) is None
    validate, network = click_validation(cases, tiny, batches=2), Answers()
    first = validate(network, torch.device("cpu"))
    asked = network.asked
    assert validate(network, torch.device("cpu")) == first
    assert all(torch.equal(a, b) for a, b in zip(asked, network.asked, strict=True))
    # SUV 6 is object and nothing else is above sinh(1): the answer is right, whatever the window.
    assert first["click_dice_1"] == first["click_dice_5"] == first["click_dice_auc"] == 1.0
    # ln(1 + e^-1) = 0.3133 everywhere, and a Dice term on top
    assert 0.3133 < first["validation_loss"] < 1.0


def test_dice_of_windows_by_hand():
    target = torch.zeros(3, 1, 2, 2, 1)
    target[0, 0, 0] = 1
    target[1, 0] = 1
    logits = torch.full((3, 1, 2, 2, 1), -1.0)
    logits[0, 0, 0, 0] = 1.0  # one of two voxels: 2 * 1 / 3
    assert window_dice(logits, target).tolist() == pytest.approx([2 / 3, 0.0, 1.0])
