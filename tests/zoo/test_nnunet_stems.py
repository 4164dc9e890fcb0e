"""Stems of multi-dataset checkpoints: numbered as published, or called after any dataset folder."""

from __future__ import annotations

import pytest
import torch

from uptake.core.errors import CheckpointError
from uptake.zoo.nnunet import stems, with_stem

WEIGHT = torch.ones(4, 2, 3, 3, 3)


@pytest.mark.parametrize("name", ["221", "12_1", "cohort", "my-scans_7"])
def test_a_stem_is_found_by_its_dataset(name):
    state = {f"encoder.stem.{name}.convs.0.conv.weight": WEIGHT, "encoder.stages.0.weight": WEIGHT}
    assert stems(state) == {name: 2}
    assert set(with_stem(state, name)) >= {"encoder.stem.convs.0.conv.weight"}


def test_a_network_of_one_dataset_has_no_stems_by_name():
    state = {"encoder.stem.convs.0.conv.weight": WEIGHT, "encoder.stem.convs.0.all_modules.0.weight": WEIGHT}
    assert stems(state) == {}
    with pytest.raises(CheckpointError, match="it has none"):
        with_stem(state, "cohort")
