"""Weights as arrays: what torch reads, without torch."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save

from uptake.core.errors import CheckpointError
from uptake.zoo.arrays import fold_files, read_arrays
from uptake.zoo.bundle import save_bundle


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    return {fold: {"b.weight": torch.randn((3, 2), generator=generator), "scalar": torch.tensor(2.5)} for fold in "10"}


@pytest.mark.parametrize("stored_as", ["float32", "float16", "bfloat16"])
def test_every_number_format_is_read_as_torch_reads_it(tmp_path, make_card, states, stored_as):
    card = save_bundle(make_card(stored_as=stored_as), states, tmp_path / "bundle")
    for fold, state in states.items():
        found = read_arrays(tmp_path / "bundle", card, fold)
        assert found.keys() == state.keys()
        for name, tensor in state.items():
            assert found[name].dtype == np.float32 and found[name].flags.writeable
            expected = tensor.to(getattr(torch, stored_as)).float().numpy()
            np.testing.assert_array_equal(found[name], expected)


def test_folds_are_named_by_their_files(tmp_path, make_card, states):
    card = save_bundle(make_card(), states, tmp_path / "bundle")
    assert fold_files(card) == {fold: f"fold_{fold}.safetensors" for fold in sorted(states)}


def test_a_number_format_that_no_bundle_has_is_refused(tmp_path, make_card, states):
    card = save_bundle(make_card(), {"0": states["0"]}, tmp_path / "bundle")
    path = tmp_path / "bundle" / "fold_0.safetensors"
    path.write_bytes(save({"a": torch.zeros(3, dtype=torch.int64)}))
    card = replace(card, files={path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(CheckpointError, match="a is stored as I64"):
        read_arrays(tmp_path / "bundle", card, "0")
