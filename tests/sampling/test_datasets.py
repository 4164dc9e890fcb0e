from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.core.errors import UsageError
from uptake.sampling.augment import NO_AUGMENTATION, AugmentRules
from uptake.sampling.batches import BatchRules
from uptake.sampling.datasets import DatasetBatches, DatasetCases, dataset_shares, heads_of

RULES = BatchRules((4, 4, 4), 6, 0.0, ("ct", "pet"), (1.0, 1.0, 1.0), NO_AUGMENTATION, seed=3)


@pytest.fixture
def datasets(make_training):
    """One of a single channel and 2 labels, one of two channels and 1 label; sizes 1 and 4."""
    small = make_training(lesions=((4, 4, 3), (5, 4, 3)))
    small.labels[5, 4, 3] = 2
    one = replace(small, channels=small.channels[:1])
    return (
        DatasetCases("7", ("ct",), heads_of("7", {1: "a", 2: "b"}, largest=1), [one]),
        DatasetCases("221", ("ct", "pet"), heads_of("221", {1: "tumor"}), [make_training(seed=n) for n in range(4)]),
    )


def test_shares_by_hand():
    assert dataset_shares([1, 4, 9]) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert dataset_shares([1, 4], "dataset") == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.parametrize("counts", [[], [3, 0]])
def test_an_empty_dataset_has_no_share(counts):
    with pytest.raises(UsageError, match="every dataset needs a case"):
        dataset_shares(counts)


def test_an_unknown_rule_is_refused():
    with pytest.raises(UsageError, match="sampling 'images' is unknown; choose one of case, dataset"):
        dataset_shares([1, 2], "images")


def test_samples_come_in_the_stated_shares(datasets):
    found = [one.stem for step in range(150) for one in DatasetBatches(datasets, RULES).cut(step)]
    assert found.count("221") / len(found) == pytest.approx(2 / 3, abs=0.05)


def test_large_label_sets_are_learnt_in_parts():
    parts = heads_of("5", {value: f"o{value}" for value in (1, 2, 5, 6, 9)}, largest=2)
    assert [head.name for head in parts] == ["5_0", "5_1", "5_2"]
    assert [head.classes for head in parts] == [
        ("background", "o1", "o2"), ("background", "o5", "o6"), ("background", "o9"),
    ]  # fmt: skip
    np.testing.assert_array_equal(parts[1].table[[0, 1, 2, 5, 6, 9]], [0, 0, 0, 1, 2, 0])
    (whole,) = heads_of("5", {1: "a"})
    assert whole.name == "5"


def test_a_dataset_without_labels_is_refused():
    with pytest.raises(UsageError, match="dataset 5: there is no label but the background"):
        heads_of("5", {})


def test_every_sample_keeps_the_channels_and_labels_of_its_dataset(datasets):
    batches = DatasetBatches(datasets, replace(RULES, foreground_share=1.0))
    seen = set()
    for step in range(8):
        cut = batches.cut(step)
        batch = batches.finished(cut, torch.device("cpu"))
        assert batch.labels.shape == (6, 4, 4, 4) and batch.labels.dtype == torch.uint8
        for n, (stem, head) in enumerate(zip(batch.stems, batch.heads, strict=True)):
            seen.add((stem, head))
            assert batch.channels[n].shape == ((1 if stem == "7" else 2), 4, 4, 4)
            stored = cut[n].window.labels[0, 0]
            wanted = (stored == {"7_0": 1, "7_1": 2, "221": 1}[head]).to(torch.uint8)
            assert torch.equal(batch.labels[n], wanted) and stored.any()
    assert seen == {("7", "7_0"), ("7", "7_1"), ("221", "221")}


def test_a_batch_depends_on_seed_step_and_rank_alone(datasets):
    rules = replace(RULES, augment=AugmentRules())

    def drawn(step, rank, seed=3):
        cut = DatasetBatches(datasets, replace(rules, seed=seed)).cut(step, rank)
        return [(one.stem, one.head, one.window.channels.sum().item()) for one in cut]

    assert drawn(5, 0) == drawn(5, 0)
    assert len({tuple(drawn(*key)) for key in ((5, 0), (5, 1), (6, 0), (5, 0, 4))}) == 4
