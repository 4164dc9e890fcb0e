from __future__ import annotations

import pytest
import torch

from uptake.core.errors import UsageError
from uptake.networks.promptable import BOX_LOWER, BOX_UPPER, NEGATIVE, POSITIVE
from uptake.training.prompting import PromptRules, TrainingUser


@pytest.fixture
def target() -> torch.Tensor:
    wanted = torch.zeros(2, 1, 8, 8, 8)
    wanted[0, 0, 2:5, 2:5, 2:5] = 1
    wanted[1, 0, 6, 6, 6] = 1
    return wanted


def logits_of(mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask > 0.5, 5.0, -5.0)


def test_first_click_is_inside_and_later_ones_in_the_mistake(target) -> None:
    user = TrainingUser(target, PromptRules(rounds=3, mask_only=False), seed=1)
    first = user(0, None)
    assert first.kinds.tolist() == [[POSITIVE], [POSITIVE]]
    for sample in range(2):
        assert target[sample, 0][tuple(first.points[sample, 0].long().tolist())] == 1
    too_much = target.clone()
    too_much[0, 0, 0, 0, 0] = 1  # one voxel too much here,
    too_much[1] = 0  # and all that is wanted missing there
    second = user(1, logits_of(too_much))
    assert second.kinds.tolist() == [[NEGATIVE], [POSITIVE]]
    assert second.points[0, 0].tolist() == [0, 0, 0]
    assert second.points[1, 0].tolist() == [6, 6, 6]


def test_same_seed_same_prompts(target) -> None:
    drawn = [TrainingUser(target, PromptRules(), seed=s)(0, None).points.tolist() for s in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert drawn[2] != drawn[0] or drawn[3] != drawn[0]


def test_published_rounds_without_points(target) -> None:
    for seed in range(20):
        user = TrainingUser(target, PromptRules(rounds=11), seed=seed)
        (middle,) = user.silent - {10}
        assert 2 <= middle <= 8
        assert user(10, logits_of(target)) is None
        assert user(1, logits_of(target)) is not None


def test_newest_or_all_points(target) -> None:
    for shown, count in (("newest", 1), ("all", 3)):
        user = TrainingUser(target, PromptRules(rounds=3, mask_only=False, shown=shown), seed=1)
        for number in range(3):
            clicks = user(number, None if number == 0 else logits_of(torch.zeros_like(target)))
        assert clicks.points.shape[1] == count


def test_nothing_wrong_and_nothing_wanted_are_no_crash() -> None:
    nothing = torch.zeros(1, 1, 4, 4, 4)
    user = TrainingUser(nothing, PromptRules(rounds=3, mask_only=False), seed=0)
    assert user(0, None).kinds.tolist() == [[NEGATIVE]]
    everything = torch.ones(1, 1, 4, 4, 4)
    user = TrainingUser(everything, PromptRules(rounds=3, mask_only=False), seed=0)
    assert user(1, logits_of(everything)).kinds.tolist() == [[POSITIVE]]


def test_published_binarisation_is_at_logit_one_half() -> None:
    wanted = torch.zeros(1, 1, 4, 4, 4)
    wanted[0, 0, 1, 1, 1] = 1
    weak = torch.full_like(wanted, -5.0)
    weak[0, 0, 1, 1, 1] = 0.4
    found = TrainingUser(wanted, PromptRules(mask_only=False), seed=0)(1, weak)
    assert found.points[0, 0].tolist() == [1, 1, 1] and found.kinds.tolist() == [[POSITIVE]]


def test_central_clicks_land_in_the_middle_of_the_mistake() -> None:
    wanted = torch.zeros(1, 1, 11, 11, 11)
    wanted[0, 0, 2:9, 2:9, 2:9] = 1
    for seed in range(5):
        user = TrainingUser(wanted, PromptRules(central_share=1.0, mask_only=False), seed=seed)
        place = user(0, None).points[0, 0]
        assert (place - 5).abs().max() <= 1


def test_boxes_hold_the_object_within_their_slack(target) -> None:
    rules = PromptRules(box_share=1.0, box_slack=1, mask_only=False)
    found = TrainingUser(target, rules, seed=4)(0, None)
    assert found.kinds.tolist() == [[BOX_LOWER, BOX_UPPER]] * 2
    assert (found.points[0] - torch.tensor([[2.0] * 3, [4.0] * 3])).abs().max() <= 1
    assert (found.points[:, 0] <= found.points[:, 1]).all()


def test_strokes_run_through_the_object_in_one_slice(target) -> None:
    found = TrainingUser(target, PromptRules(scribble_share=1.0, mask_only=False), seed=2)(0, None)
    shown = found.kinds[0] == POSITIVE
    places = found.points[0][shown].long()
    assert len(places) >= 2 and len(set(places[:, 0].tolist())) == 1
    assert target[0, 0][tuple(places.T)].all()


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"shown": "none"}, {"box_share": 0.7, "scribble_share": 0.7}])
def test_rules_refuse(wrong) -> None:
    with pytest.raises(UsageError):
        PromptRules(**wrong)
