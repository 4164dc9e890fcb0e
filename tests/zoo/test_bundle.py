from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch

from uptake.core.errors import CheckpointError
from uptake.zoo.bundle import read_states, save_bundle
from uptake.zoo.cards import read_card


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    return {
        fold: {"b.weight": torch.randn((3, 2), generator=generator), "a.bias": torch.randn(4, generator=generator)}
        for fold in ("1", "0", "all")
    }


@pytest.mark.parametrize("stored_as", ["float32", "float16", "bfloat16"])
def test_weights_come_back_as_the_number_format_holds_them(tmp_path, make_card, states, stored_as):
    folder = tmp_path / "new" / "bundle"
    card = save_bundle(make_card(stored_as=stored_as), states, folder)
    assert read_card(folder) == card
    found = read_states(folder, card)
    assert list(found) == ["0", "1", "all"]
    dtype = getattr(torch, stored_as)
    for fold, state in states.items():
        assert found[fold].keys() == state.keys()
        for name, tensor in state.items():
            assert found[fold][name].dtype == torch.float32
            assert torch.equal(found[fold][name], tensor.to(dtype).float())


def test_the_card_holds_the_checksum_of_every_file(tmp_path, make_card, states):
    card = save_bundle(make_card(), states, tmp_path / "bundle")
    assert sorted(card.files) == ["fold_0.safetensors", "fold_1.safetensors", "fold_all.safetensors"]
    for file, checksum in card.files.items():
        assert hashlib.sha256((tmp_path / "bundle" / file).read_bytes()).hexdigest() == checksum
    assert sorted(p.name for p in (tmp_path / "bundle").iterdir()) == ["card.json", *sorted(card.files)]


def test_the_same_weights_give_the_same_bytes(tmp_path, make_card, states):
    one = save_bundle(make_card(), states, tmp_path / "one")
    turned = {fold: dict(reversed(state.items())) for fold, state in reversed(states.items())}
    assert save_bundle(make_card(), turned, tmp_path / "other") == one


def test_an_existing_bundle_is_replaced_whole(tmp_path, make_card, states):
    save_bundle(make_card(), states, tmp_path / "bundle")
    card = save_bundle(make_card(version="2"), {"0": states["0"]}, tmp_path / "bundle")
    assert read_card(tmp_path / "bundle") == card
    assert sorted(p.name for p in (tmp_path / "bundle").iterdir()) == ["card.json", "fold_0.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_weight_too_large_for_half_precision_is_refused_and_nothing_changes(tmp_path, make_card, states):
    old = save_bundle(make_card(), states, tmp_path / "bundle")
    broken = {"0": {"a.bias": torch.tensor([1e6]), "b.weight": torch.zeros(1)}}
    with pytest.raises(CheckpointError, match=r"fold 0: a\.bias is not finite as float16; store float32"):
        save_bundle(make_card(stored_as="float16"), broken, tmp_path / "bundle")
    assert read_card(tmp_path / "bundle") == old and read_states(tmp_path / "bundle", old).keys() == states.keys()
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_missing_weight_file_is_named(tmp_path, make_card, states):
    card = save_bundle(make_card(), states, tmp_path / "bundle")
    (tmp_path / "bundle" / "fold_1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"fold_1\.safetensors: this weight file of the bundle is missing"):
        read_states(tmp_path / "bundle", card)


@pytest.mark.parametrize("where", [0, 60, -1])
def test_one_altered_byte_is_noticed(tmp_path, make_card, states, where):
    card = save_bundle(make_card(), states, tmp_path / "bundle")
    path = tmp_path / "bundle" / "fold_0.safetensors"
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"fold_0\.safetensors: the weights were altered or the copy is incompl"):
        read_states(tmp_path / "bundle", card)


def test_a_file_that_is_no_safetensors_is_refused_even_if_the_card_vouches_for_it(tmp_path, make_card, states):
    card = save_bundle(make_card(), {"0": states["0"]}, tmp_path / "bundle")
    path = tmp_path / "bundle" / "fold_0.safetensors"
    torch.save(states["0"], path)
    vouched = replace(card, files={path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(CheckpointError, match=r"fold_0\.safetensors: not a safetensors file"):
        read_states(tmp_path / "bundle", vouched)


def test_a_card_without_files_is_refused(tmp_path, make_card):
    with pytest.raises(CheckpointError, match="the card names no weight files"):
        read_states(tmp_path, make_card())
