"""Budgeted ensembling over a method that takes as long as a clock of ours says."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.errors import BudgetError, UsageError
from uptake.harmonise.resample import SLAB_VOXELS
from uptake.inference.budget import Budget
from uptake.inference.sliding_window import window_boxes
from uptake.workflows.ensemble import predict_within

SHAPE, WINDOW = (35, 16, 16), (16, 16, 16)
FOLDS = tuple("01234")
GB = 10**9


@dataclass(frozen=True)
class Config:
    window: tuple[int, int, int] = WINDOW
    tile_step: float = 0.5
    mirror_axes: tuple[int, ...] = (0, 1, 2)


class Machine:
    """A method whose passes cost seconds and bytes: fold f gives logits of 2^f, plus the flips it was run with."""

    def __init__(self, *, window_s=1.0, compile_s=0.0, network_bytes=0, organs=0):
        self.now = 0.0
        self.held = {"": 2 * GB}
        self.calls = []
        self.window_s, self.compile_s, self.network_bytes, self.organs = window_s, compile_s, network_bytes, organs

    def predict(self, networks, case, config, *, on_window=None, **options):
        count = len(window_boxes(case.body, config.window, config.tile_step))
        for network in networks:
            if network.fold not in self.held:
                self.held[network.fold] = self.network_bytes
                self.now += self.compile_s
        self.now += count * len(networks) * 2 ** len(config.mirror_axes) * self.window_s
        self.calls.append(([n.fold for n in networks], config.mirror_axes, config.tile_step, case.body.shape))
        mean = np.mean([2.0 ** int(n.fold) + len(config.mirror_axes) for n in networks])
        logits = np.full((2, *case.body.shape), mean, np.float32)
        organs = np.full((self.organs, *case.body.shape), -mean, np.float32) if self.organs else None
        return Prediction(logits, count, 0, organs)

    def clock(self):
        return self.now

    def resident(self):
        return sum(self.held.values())

    @contextmanager
    def highest(self):
        seen = SimpleNamespace(bytes=0)
        yield seen
        seen.bytes = self.resident() + GB // 2

    def bundle(self, folds=FOLDS, transpose=(0, 1, 2)):
        made = {fold: SimpleNamespace(fold=fold) for fold in folds}
        return SimpleNamespace(
            folds=folds,
            runners=lambda names=None, engine="torch": [made[name] for name in names or folds],
            method=self,
            plan=SimpleNamespace(transpose=transpose),
            card=SimpleNamespace(name="m", method="toy"),
        )


@pytest.fixture
def case():
    return HarmonisedCase("p", np.zeros((2, *SHAPE), np.float32), None, np.ones(SHAPE, bool))


@pytest.fixture(autouse=True)
def forgetting(monkeypatch):
    """Let the networks of the machine go as compiled ones do."""
    from uptake.workflows import ensemble

    gone = []
    monkeypatch.setattr(ensemble, "forget", lambda network: gone.append(network.fold))
    monkeypatch.setattr(ensemble, "release", lambda network: None)
    return gone


def predict(machine, case, budget, *, config=None, bundle=None, **more):
    return predict_within(
        bundle or machine.bundle(), case, config or Config(), budget, options={}, channels_out=2, clock=machine.clock,
        resident=machine.resident, highest=machine.highest, **more,
    )  # fmt: skip


def test_without_a_budget_all_folds_run_at_once_and_nothing_is_measured(case):
    machine = Machine()
    prediction, made = predict(machine, case, Budget())
    assert machine.calls == [(list(FOLDS), (0, 1, 2), 0.5, SHAPE)]
    assert (made.dropped, made.measured) == ((), {})
    assert made.flips["4"] == ("head-foot", "front-back", "left-right")
    assert prediction.logits[0, 0, 0, 0] == pytest.approx((1 + 2 + 4 + 8 + 16) / 5 + 3)


def test_time_for_everything_leaves_nothing_out(case):
    # 4 windows at step 0.5, 5 folds, 8 flips: 160 s; the probe takes 2 windows; 40 s are kept.
    machine = Machine()
    prediction, made = predict(machine, case, Budget(202.0))
    assert made.dropped == ()
    assert made.tile_step == 0.5
    assert machine.calls[-1] == (list(FOLDS), (0, 1, 2), 0.5, SHAPE)
    assert machine.now == 162.0
    assert prediction.logits[0, 0, 0, 0] == pytest.approx(31 / 5 + 3)


def test_the_challenge_rule_runs_one_plain_fold_and_flips_of_the_others(case):
    # At step 0.6 three windows: t = 3 s; 4 folds x 4 x 3 = 48 s with two axes.
    machine = Machine()
    prediction, made = predict(machine, case, Budget(61.2))
    # 61.2 s less 8.16 kept, 2 of the probe, 3 of the first pass: 48.04 s left.
    assert machine.calls[2:] == [(["0"], (), 0.6, SHAPE), (list("1234"), (2, 1), 0.6, SHAPE)]
    assert machine.now <= 61.2
    assert made.folds == FOLDS
    assert made.flips == {"0": (), **dict.fromkeys("1234", ("left-right", "front-back"))}
    assert made.measured == {"window_s": 1.0, "setup_s": 0.0, "reserve_s": pytest.approx(8.16), "first_pass_s": 3.0}
    assert made.dropped[0] == "tile step 0.5: 0.6 was taken"
    assert made.dropped[1] == "flips left-right, front-back, head-foot of fold 0"
    assert made.dropped[2] == "flips head-foot of fold 1"
    # Equal weights of the folds: 1, and 2, 4, 8, 16 each with two flips.
    assert prediction.logits[0, 0, 0, 0] == pytest.approx((1 + 4 + 6 + 10 + 18) / 5)


def test_less_time_drops_flips_and_then_the_last_folds(case):
    machine = Machine()
    _, made = predict(machine, case, Budget(34.0))  # 34 - 4.53 - 5 = 24.5: one axis takes 24
    assert set(made.flips.values()) == {(), ("left-right",)}
    machine = Machine()
    prediction, made = predict(machine, case, Budget(14.0))  # 14 - 1.87 - 5 = 7.1: two more folds
    assert made.folds == ("0", "1", "2")
    assert "folds 3, 4" in made.dropped
    assert prediction.logits[0, 0, 0, 0] == pytest.approx((1 + 2 + 4) / 3)
    machine = Machine()
    prediction, made = predict(machine, case, Budget(9.0))
    assert made.folds == ("0",)
    assert prediction.logits[0, 0, 0, 0] == 1.0
    assert len(machine.calls) == 3


def test_the_same_times_give_the_same_choice(case):
    one, other = (predict(Machine(), case, Budget(34.0))[1] for _ in range(2))
    assert one == other


def test_a_budget_too_small_for_one_pass_is_refused_after_the_probe_with_the_minimum(case):
    machine = Machine()
    with pytest.raises(BudgetError, match="The least for this case is 6 s"):
        predict(machine, case, Budget(4.0))
    assert machine.now == 2.0
    # And that minimum does.
    assert predict(Machine(), case, Budget(6.0))[1].folds == ("0",)


def test_time_spent_before_counts(case):
    with pytest.raises(BudgetError, match=r"22\.0 s are spent"):
        predict(Machine(), case, Budget(25.0), spent_s=20.0)


def test_the_tile_step_that_the_caller_named_stays(case):
    machine = Machine()
    _, made = predict(machine, case, Budget(20.0), step_fixed=True)
    assert made.tile_step == 0.5
    assert not any("tile step" in note for note in made.dropped)


def test_flips_are_named_by_the_direction_they_have_on_the_model_grid(case):
    machine = Machine()
    bundle = machine.bundle(transpose=(1, 0, 2))
    _, made = predict(machine, case, Budget(34.0), bundle=bundle, config=Config(mirror_axes=(0, 1)))
    assert machine.calls[-1][1] == (0,)
    assert made.flips["1"] == ("front-back",)


def test_compiling_is_measured_and_counted(case):
    machine = Machine(compile_s=5.0)
    _, made = predict(machine, case, Budget(61.2))
    assert made.measured["setup_s"] == 5.0
    # 61.2 - 8.16 - 7 - 3 = 43; two axes take 4 x (12 + 5) = 68, one axis 44, none 32.
    assert machine.calls[-1][:2] == (list("1234"), ())
    assert machine.now <= 61.2


def test_a_single_fold_runs_again_with_the_flips_that_fit(case):
    machine = Machine()
    _, made = predict(machine, case, Budget(14.0), bundle=machine.bundle(("3",)))
    assert machine.calls[-1] == (["3"], (2,), 0.6, SHAPE)
    assert made.flips == {"3": ("left-right",)}


def test_little_memory_runs_networks_one_after_the_other_with_the_same_logits(case, forgetting):
    facts = {"network_bytes": GB}
    plenty = Machine(**facts)
    expected, made = predict(plenty, case, Budget(max_ram_gb=20.0))
    assert made.networks_at_a_time == 5
    short = Machine(**facts, organs=0)
    found, made = predict(short, case, Budget(max_ram_gb=4.0))
    assert made.networks_at_a_time == 1
    assert made.dropped == ()
    assert [call[0] for call in short.calls[2:]] == [[fold] for fold in FOLDS]
    assert forgetting == list(FOLDS)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-6)


def test_both_families_of_logits_are_averaged(case):
    machine = Machine(network_bytes=GB, organs=3)
    found, _ = predict(machine, case, Budget(max_ram_gb=4.0))
    np.testing.assert_allclose(found.organ_logits, -found.logits[0, 0, 0, 0], rtol=1e-6)
    assert found.organ_logits.shape == (3, *SHAPE)


def test_memory_for_one_array_of_logits_alone_runs_one_fold(case):
    machine = Machine(network_bytes=GB)
    # 2 channels of 35 slices, and of one window: sums, weights, the stretch; and resampling it.
    logits, sums = 35 * 16 * 16 * 4 * 2, 16 * 16 * 16 * 4 * 5 + 3 * SLAB_VOXELS * 4
    limit = (3.5 * GB + logits + sums + 10) / GB
    _, made = predict(machine, case, Budget(max_ram_gb=limit))
    assert made.folds == ("0",)
    assert "folds 1, 2, 3, 4: the memory granted" in made.dropped[0]


def test_too_little_memory_for_one_network_is_refused(case):
    with pytest.raises(BudgetError, match=r"The least is 2\.5\d GB"):
        predict(Machine(), case, Budget(max_ram_gb=2.0))


def test_a_method_without_windows_takes_no_budget(case):
    machine = Machine()
    with pytest.raises(UsageError, match="m: method toy has no windows that a budget could choose"):
        predict(machine, case, Budget(5.0), config=SimpleNamespace())


def test_an_image_of_air_alone_costs_nothing(case):
    empty = replace(case, body=np.zeros(SHAPE, bool))
    _, made = predict(Machine(), empty, Budget(3.0))
    assert made.dropped == ()


class HandingOut(Machine):
    """A method that gives its logits a slice at a time, and says how often it held them all."""

    def predict(self, networks, case, config, *, finished=None, on_window=None, **options):
        found = super().predict(networks, case, config)
        if finished is None:
            return found
        for z in range(found.logits.shape[1]):
            finished(found.logits[:, z : z + 1], None)
        return replace(found, logits=found.logits[:, :0])


def handed(machine, case, budget, **more):
    parts = []
    prediction, made = predict(machine, case, budget, finished=lambda logits, organs: parts.append(logits), **more)
    return np.concatenate(parts, axis=1), len(parts), prediction, made


@pytest.mark.parametrize("budget", [Budget(), Budget(202.0), Budget(61.2), Budget(14.0), Budget(max_ram_gb=4.0)])
def test_logits_are_handed_out_whatever_the_budget(case, budget):
    expected, _ = predict(Machine(network_bytes=GB), case, budget)
    found, stretches, prediction, made = handed(HandingOut(network_bytes=GB), case, budget)
    np.testing.assert_array_equal(found, expected.logits)
    summed = made.networks_at_a_time == 1 or "tile step 0.5: 0.6 was taken" in made.dropped
    assert stretches == (1 if summed else SHAPE[0])
    assert (prediction.logits.shape[1] == 0) is not summed


def test_a_method_that_hands_nothing_out_is_handed_out_for(case):
    found, stretches, _, _ = handed(Machine(), case, Budget())
    assert (found.shape, stretches) == ((2, *SHAPE), 1)


def test_a_single_fold_with_flips_is_handed_out_by_its_second_pass(case):
    machine = HandingOut()
    _, stretches, _, made = handed(machine, case, Budget(14.0), bundle=machine.bundle(("3",)))
    assert made.flips == {"3": ("left-right",)}
    assert stretches == SHAPE[0]


def test_memory_for_no_whole_logits_runs_one_plain_pass_that_hands_them_out(case):
    large = replace(case, body=np.ones((4000, 16, 16), bool), channels=np.zeros((2, 4000, 16, 16), np.float32))
    stretch = 16 * 16 * 16 * 4 * 5 + 3 * SLAB_VOXELS * 4
    machine = HandingOut(window_s=0.1)
    limit = (2.5 * GB + stretch + 100) / GB
    found, stretches, _, made = handed(machine, large, Budget(max_seconds=120.0, max_ram_gb=limit))
    assert made.folds == ("0",) and made.flips == {"0": ()}
    assert any("holds no second array of logits" in note for note in made.dropped)
    assert stretches == 4000 and found.shape == (2, 4000, 16, 16)
