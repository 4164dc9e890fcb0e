"""The loop on a problem that a network of one thousand weights solves: bright voxels are lesion."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from uptake.cases import HarmonisedCase
from uptake.core.errors import CheckpointError
from uptake.networks.unet import unet, unique_state
from uptake.sampling.augment import NO_AUGMENTATION, AugmentRules
from uptake.sampling.batches import BatchRules, WindowBatches, cut_batch
from uptake.sampling.store import training_case
from uptake.training import checkpoint as checkpoints
from uptake.training.loop import fit
from uptake.training.losses import deeply_supervised
from uptake.training.protocol import FitSettings
from uptake.training.validation import VALIDATION_SEED, window_validation

RULES = BatchRules((8, 8, 8), 2, 0.5, ("ct", "pet"), (1.0, 1.0, 1.0), AugmentRules(), seed=5)


def plain_loss(model, batch, step):
    return deeply_supervised(model(batch.channels), batch.labels[:, 0])


class Stopped(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def cases():
    found = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        labels = np.zeros((12, 10, 11), np.uint8)
        labels[3 + seed : 7 + seed, 2:6, 4:8] = 1
        channels = rng.normal(0, 0.3, (2, *labels.shape)).astype(np.float32) + 2.0 * labels
        found.append(training_case(HarmonisedCase(f"case {seed}", channels, labels, labels >= 0)))
    return found


@pytest.fixture
def run(cases, tmp_path):
    """Return a caller of `fit` on a fresh tiny network; it returns the result and the trained network."""

    def start(folder="run", *, steps=12, stamp="stamp", validate=True, loss=None, rate=1e-2, optimiser="adamw", **rest):
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = unet(2, 2, features=(4, 8), blocks=(1, 1))
        if optimiser == "sgd":
            optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.99, nesterov=True)
        else:
            optimizer = torch.optim.AdamW(network.parameters(), rate)
        settings = FitSettings(steps, epoch_steps=4, validation_batches=2)
        settings = replace(settings, **{k: rest.pop(k) for k in ("save_every", "accumulate", "headline") if k in rest})

        step = loss or plain_loss
        result = fit(
            network,
            optimizer,
            batches=rest.pop("batches", None) or WindowBatches(cases[:2], RULES),
            training_step=step,
            learning_rate=lambda step: rate / (1 + step / 50),
            validate=rest.pop("validate_with", None)
            or window_validation(step, cases[2:] if validate else [], RULES, batches=2),
            settings=settings,
            folder=place,
            stamp=stamp,
            fabric=Fabric(accelerator="cpu", devices=1),
            **rest,
        )
        return result, network

    return start


def test_the_loss_falls_and_the_lesion_is_found(run):
    result, _ = run(steps=48)
    assert result.step == 48 and len(result.history) == 12
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"] - 0.5
    assert result.history[-1]["pseudo_dice"] > 0.8


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_run_that_was_interrupted_ends_with_the_same_weights_to_the_bit(run, optimiser):
    def interrupt(report):
        if report.row["epoch"] == 2:
            raise Stopped

    unbroken, network = run("unbroken", steps=16, optimiser=optimiser)
    with pytest.raises(Stopped):
        run("broken", steps=16, optimiser=optimiser, on_epoch=interrupt)
    resumed, again = run("broken", steps=16, optimiser=optimiser)
    expected, found = unique_state(network), unique_state(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for one, other in zip(unbroken.history, resumed.history, strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert [row["step"] for row in resumed.history] == [4, 8, 12, 16]


def test_a_run_killed_between_saves_repeats_what_was_not_saved(run):
    def interrupt(report):
        if report.row["epoch"] == 3:
            raise Stopped

    _, network = run("unbroken", steps=16, save_every=2)
    with pytest.raises(Stopped):
        run("broken", steps=16, save_every=2, on_epoch=interrupt)
    resumed, again = run("broken", steps=16, save_every=2)
    expected, found = unique_state(network), unique_state(again)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4]


def test_a_finished_run_started_again_does_nothing(run):
    first, network = run(steps=8)
    before = first.last.read_bytes()
    again, same = run(steps=8)
    assert again.step == 8 and again.history == first.history and first.last.read_bytes() == before
    assert all(torch.equal(t, unique_state(same)[n]) for n, t in unique_state(network).items())


def test_the_folder_of_another_run_is_refused(run):
    run(steps=4, stamp="one")
    with pytest.raises(CheckpointError, match="a run with other settings, another plan or other cases was begun here"):
        run(steps=4, stamp="other")


def test_a_foreign_checkpoint_in_the_folder_is_refused(run, tmp_path):
    (tmp_path / "run").mkdir()
    torch.save({"anything": torch.zeros(1)}, tmp_path / "run" / "last.ckpt")
    with pytest.raises(CheckpointError, match="this is no checkpoint that uptake wrote"):
        run(steps=4)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_state(run, tmp_path):
    calls = []

    def loss(model, batch, step):
        calls.append(model.training)
        value = plain_loss(model, batch, step)
        return value * math.nan if sum(calls) > 4 else value

    with pytest.raises(CheckpointError, match="the training loss is nan after step 8"):
        run(steps=16, loss=loss)
    state = checkpoints.load(tmp_path / "run" / "last.ckpt")
    assert state.step == 4 and all(torch.isfinite(t).all() for t in state.network.values())


def test_the_log_has_a_row_an_epoch_and_a_picture(run, tmp_path):
    result, _ = run(steps=10)
    with (tmp_path / "run" / "log.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["4", "8", "10"]
    assert list(rows[0]) == [
        "epoch", "step", "learning_rate", "train_loss", "validation_loss", "pseudo_dice", "ema_pseudo_dice", "seconds",
    ]  # fmt: skip
    assert float(rows[1]["train_loss"]) == pytest.approx(result.history[1]["train_loss"], rel=1e-5)
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-2 / (1 + 3 / 50), rel=1e-5)
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_moving_average_starts_at_the_first_value_and_keeps_nine_tenths(run):
    rows = run(steps=16)[0].history
    assert rows[0]["ema_pseudo_dice"] == rows[0]["pseudo_dice"]
    for before, row in pairwise(rows):
        assert row["ema_pseudo_dice"] == pytest.approx(0.9 * before["ema_pseudo_dice"] + 0.1 * row["pseudo_dice"])


def test_the_best_checkpoint_is_that_of_the_highest_average(run):
    result, _ = run(steps=24)
    averages = [row["ema_pseudo_dice"] for row in result.history]
    best = checkpoints.load(result.best)
    assert best.best_ema == max(averages)
    assert best.step == result.history[int(np.argmax(averages))]["step"] and best.optimizer == {}


def test_without_validation_the_last_weights_are_the_best(run):
    result, network = run(steps=8, validate=False)
    assert math.isnan(result.history[-1]["pseudo_dice"])
    best = checkpoints.load(result.best)
    assert best.step == 8
    assert all(torch.equal(t, best.network[n]) for n, t in unique_state(network).items())


def test_validation_windows_are_the_same_in_every_epoch(run):
    """A network that learns nothing scores the same each time."""
    rows = run(steps=12, rate=0.0)[0].history
    assert len({row["validation_loss"] for row in rows}) == 1
    assert len({row["train_loss"] for row in rows}) == 3


def test_validation_windows_are_plain_cuts(run, cases):
    seen = []

    def loss(model, batch, step):
        if not model.training:
            seen.append(batch.channels)
        return plain_loss(model, batch, step)

    run(steps=4, loss=loss)
    plain = replace(RULES, augment=NO_AUGMENTATION, seed=VALIDATION_SEED)
    expected = [cut_batch(cases[2:], plain, step=step).channels for step in (0, 1)]
    assert len(seen) == 2 and all(torch.equal(x, y) for x, y in zip(seen, expected, strict=True))


def test_gradients_are_clipped_to_the_norm_that_is_set(run):
    """One plain step of rate 1 on a loss a million times too steep moves the weights by the norm, no further."""
    _, still = run("still", steps=1, rate=0.0, optimiser="sgd")
    steep = lambda *step: 1e6 * plain_loss(*step)  # noqa: E731
    _, moved = run("moved", steps=1, rate=1.0, optimiser="sgd", loss=steep)
    before, after = unique_state(still), unique_state(moved)
    distance = math.sqrt(sum(float((after[n] - before[n]).double().square().sum()) for n in before))
    assert distance == pytest.approx(12.0 * 1.99, rel=1e-3)  # the first Nesterov step is (1 + momentum) gradients


def test_progress_is_told_after_every_epoch(run):
    told = []
    run(steps=10, on_epoch=lambda report: told.append((report.step, report.steps, report.row["epoch"])))
    assert told == [(4, 10, 1.0), (8, 10, 2.0), (10, 10, 3.0)]


def test_an_error_while_cutting_reaches_the_caller(run, cases):
    cases[0] = cases[1] = training_case(
        HarmonisedCase("broken", np.zeros((2, 9, 9, 9), np.float32), np.zeros((9, 9, 9), np.uint8), np.ones((9, 9, 9)))
    )
    object.__setattr__(cases[0], "channels", None)
    with pytest.raises(AttributeError):
        run(steps=4)


def test_terms_of_the_loss_are_logged_by_name_and_the_step_is_told(run):
    steps = []

    def loss(model, batch, step):
        if model.training:
            steps.append(step)
        value = plain_loss(model, batch, step)
        return {"loss": value, "twice": 2 * value}

    rows = run(steps=8, loss=loss)[0].history
    assert steps == list(range(8))
    assert all(row["train_twice"] == pytest.approx(2 * row["train_loss"]) for row in rows)


def test_accumulated_batches_make_the_step_of_their_mean_gradient(run, cases):
    """Two batches of two, one after the other, against the same four windows at once."""

    class Together:
        def __init__(self):
            self.halves = WindowBatches(cases[:2], RULES)

        def cut(self, step, rank):
            return [self.halves.cut(2 * step, rank), self.halves.cut(2 * step + 1, rank)]

        def finished(self, cut, device):
            return [self.halves.finished(half, device) for half in cut]

    def mean_loss(model, batch, step):
        return (plain_loss(model, batch[0], step) + plain_loss(model, batch[1], step)) / 2

    _, apart = run("apart", steps=3, accumulate=2, validate=False, rate=1e-3)
    _, together = run("together", steps=3, batches=Together(), loss=mean_loss, validate=False, rate=1e-3)
    expected, found = unique_state(together), unique_state(apart)
    assert all(torch.allclose(expected[n], found[n], rtol=1e-4, atol=1e-6) for n in expected)


def test_an_accumulating_run_goes_on_with_the_batches_it_has_not_seen(run):
    def interrupt(report):
        raise Stopped

    _, network = run("unbroken", steps=8, accumulate=2)
    with pytest.raises(Stopped):
        run("broken", steps=8, accumulate=2, on_epoch=interrupt)
    _, again = run("broken", steps=8, accumulate=2)
    expected, found = unique_state(network), unique_state(again)
    assert all(torch.equal(expected[n], found[n]) for n in expected)


def test_a_validation_of_ones_own_chooses_the_best_checkpoint(run):
    psnr = iter([10.0, 30.0, 5.0])
    result, _ = run(
        steps=12, headline="psnr", validate_with=lambda model, device: {"validation_loss": 1.0, "psnr": next(psnr)}
    )
    assert [row["ema_psnr"] for row in result.history] == pytest.approx([10.0, 12.0, 11.3])
    assert checkpoints.load(result.best).step == 8
