from __future__ import annotations

import numpy as np
import pytest
import torch

from uptake.core.errors import InputError, UsageError
from uptake.sampling.prompt_cases import (
    PromptBatches,
    PromptBatchRules,
    PromptCase,
    cut_channels,
    cut_target,
    targets_of,
)


@pytest.fixture
def maps():
    lesions, organs = np.zeros((12, 10, 8), np.uint8), np.zeros((12, 10, 8), np.uint8)
    lesions[1:3, 1:3, 1:3] = 1
    lesions[3, 3, 3] = 1  # joined across a corner: another lesion with 18-connectivity
    organs[6:10, 2:8, 2:6] = 5
    organs[0, 0, 0] = 9
    return lesions, organs


def case_of(maps, *, trusted=True, name="a"):
    lesions, organs = maps
    channels = np.stack([np.arange(lesions.size, dtype=np.float32).reshape(lesions.shape), lesions * 1.0])
    return PromptCase(name, channels.astype(np.float32), targets_of(lesions, organs, {5: "liver"}), trusted)


def test_targets_are_lesions_one_by_one_and_named_organs(maps):
    found = targets_of(*maps, {5: "liver"})
    assert [target.name for target in found] == ["lesion", "lesion", "liver"]
    assert [int(target.mask.sum()) for target in found] == [8, 1, 96]
    assert found[2].centre.tolist() == [8, 5, 4]
    assert len(targets_of(*maps, {5: "liver"}, min_voxels=2)) == 2
    for target in found:
        assert target.mask[tuple((target.places - [side.start for side in target.box]).T)].all()


def test_windows_reach_beyond_the_image_with_zeros(maps):
    case = case_of(maps)
    window = cut_channels(case.channels, (-1, 0, 6), (3, 2, 4))
    assert window.shape == (2, 3, 2, 4)
    assert (window[:, 0] == 0).all() and (window[:, :, :, 2:] == 0).all()
    assert window[0, 1, 0, 0] == case.channels[0, 0, 0, 6]
    assert cut_channels(case.channels, (50, 0, 0), (2, 2, 2)).max() == 0
    target = case.targets[0]
    inside = cut_target(target, (2, 0, 0), (4, 4, 4))
    assert inside.sum() == 4 and inside[0, 1:3, 1:3].sum() == 4 - 2 * 0 and not inside[1:].any()


def test_batches_depend_on_seed_step_and_rank_alone(maps):
    rules = PromptBatchRules((6, 6, 6), 4, centre="either", jitter=2)
    first, second = PromptBatches([case_of(maps)], rules), PromptBatches([case_of(maps)], rules)
    one, two = first.cut(3), second.cut(3)
    assert torch.equal(one.channels, two.channels) and torch.equal(one.target, two.target) and one.seed == two.seed
    assert not torch.equal(one.channels, first.cut(4).channels)
    assert first.cut(3, rank=1).seed != one.seed
    assert one.channels.shape == (4, 2, 6, 6, 6) and one.target.shape == (4, 1, 6, 6, 6)
    assert one.target.sum(dim=(1, 2, 3, 4)).min() >= 1


def test_image_and_target_are_flipped_together(maps):
    lesions, _ = maps
    case = PromptCase("a", lesions[None].astype(np.float32), targets_of(lesions, min_voxels=2))
    batches = PromptBatches([case], PromptBatchRules((5, 5, 5), 8, centre="click", jitter=1))
    batch = batches.cut(0)
    assert (batch.channels[batch.target > 0] == 1).all()
    assert len({tuple(t.nonzero()[0].tolist()) for t in batch.target}) > 1


def test_lesions_and_trusted_cases_have_their_shares(maps):
    cases = [case_of(maps), case_of(maps, trusted=False, name="b")]
    rules = PromptBatchRules((6, 6, 6), 4, lesion_share=1.0, trusted_share=0.25)
    batches = PromptBatches(cases, rules)
    for step in range(3):
        batch = batches.cut(step)
        assert batch.trusted.tolist() == [True, False, False, False]
        assert batch.target.sum(dim=(1, 2, 3, 4)).max() <= 9


def test_gain_leaves_the_ct_alone_and_dropout_takes_it(maps):
    rules = PromptBatchRules((6, 6, 6), 8, gain=0.5, ct=1, flip=False)
    plain = PromptBatches([case_of(maps)], PromptBatchRules((6, 6, 6), 8, flip=False)).cut(0)
    gained = PromptBatches([case_of(maps)], rules).cut(0)
    assert torch.equal(gained.channels[0, 1], plain.channels[0, 1])
    assert not torch.equal(gained.channels[0, 0], plain.channels[0, 0])
    gone = PromptBatches([case_of(maps)], PromptBatchRules((6, 6, 6), 4, ct=1, ct_dropout=1.0)).cut(0)
    assert gone.channels[:, 1].abs().max() == 0 and gone.channels[:, 0].max() > 0


def test_refusals(maps):
    with pytest.raises(InputError, match="has an object"):
        PromptBatches([PromptCase("a", np.zeros((1, 2, 2, 2)), ())], PromptBatchRules((2, 2, 2), 1))
    with pytest.raises(InputError, match="no other ones"):
        PromptBatches([case_of(maps)], PromptBatchRules((2, 2, 2), 1, trusted_share=0.5))
    with pytest.raises(UsageError, match="centre"):
        PromptBatchRules((2, 2, 2), 1, centre="truth")
