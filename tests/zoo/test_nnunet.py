from __future__ import annotations

import os
import pickle

import nnunet_folders as folders
import pytest
import torch

from uptake.core.errors import CheckpointError, UsageError
from uptake.networks.unet import unet, unique_state
from uptake.zoo import nnunet


def test_every_tensor_comes_under_one_name(tmp_path):
    network = folders.network()
    folder = folders.write(tmp_path, networks={"0": network, "3": folders.network(1)})
    found = nnunet.read_model_folder(folder)
    assert (found.trainer, found.configuration) == ("nnUNetTrainer", "3d_fullres")
    assert found.mirror_axes == (0, 1, 2)
    assert found.epochs == 20
    assert list(found.states) == ["0", "3"]
    expected = unique_state(network)
    assert found.states["0"].keys() == expected.keys()
    assert all(torch.equal(found.states["0"][name], tensor) for name, tensor in expected.items())


def test_lesiontracers_966_entries_are_274_tensors():
    with torch.device("meta"):
        network = unet(
            2, 2, features=(32, 64, 128, 256, 320, 320), blocks=(1, 3, 4, 6, 6, 6), organ_channels=11
        )  # fmt: skip
    entries = network.state_dict()
    assert len(entries) == 966
    assert sum(tensor.numel() for tensor in unique_state_names(network).values()) == 102_359_489
    names = nnunet.canonical_state({key: torch.zeros(1) for key in entries}, name="x")
    assert len(names) == 274
    assert names.keys() == unique_state_names(network).keys()


def unique_state_names(network):
    return {
        name: tensor
        for name, tensor in network.named_parameters(remove_duplicate=False)
        if ".all_modules." not in name and not name.startswith("decoder.encoder.")
    }


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_come_off(prefix):
    network = folders.network()
    wrapped = {prefix + key: value for key, value in network.state_dict().items()}
    assert nnunet.canonical_state(wrapped, name="x").keys() == unique_state(network).keys()


@pytest.mark.parametrize(
    "alias", ["encoder.stem.convs.0.all_modules.0.weight", "decoder.encoder.stem.convs.0.norm.bias"]
)
def test_an_alias_that_differs_is_damage(alias):
    weights = {key: value.clone() for key, value in folders.network().state_dict().items()}
    weights[alias] += 1.0
    with pytest.raises(CheckpointError, match=r"differs from encoder\.stem\.convs\.0\.(conv|norm)"):
        nnunet.canonical_state(weights, name="fold 0")


def test_an_alias_of_nothing_is_damage():
    weights = {
        key: value for key, value in folders.network().state_dict().items() if key != "encoder.stem.convs.0.conv.bias"
    }
    with pytest.raises(CheckpointError, match="alias of no tensor"):
        nnunet.canonical_state(weights, name="fold 0")


def test_a_value_that_is_no_tensor():
    with pytest.raises(CheckpointError, match="x is a str, expected a tensor"):
        nnunet.canonical_state({"x": "y"}, name="fold 0")


class Spy:
    def __reduce__(self):
        return os.system, ("touch spied",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {}, "init_args": Spy()}, path)
    with pytest.raises(CheckpointError, match=r"asks for (posix|nt)\.system.*not run"):
        nnunet.read_checkpoint(path)
    assert not (tmp_path / "spied").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a checkpoint"),
        (b"PK\x03\x04 cut off", "cannot be read as a checkpoint"),
        (pickle.dumps([1]), "cannot be read as a checkpoint|is no nnU-Net"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        nnunet.read_checkpoint(path)


def test_a_file_of_something_else(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no network_weights"):
        nnunet.read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="missing"):
        nnunet.read_checkpoint(tmp_path / "b.pth")


def test_the_folder_may_lie_deeper(tmp_path):
    folders.write(tmp_path)
    assert nnunet.read_model_folder(tmp_path).configuration == "3d_fullres"


def test_two_model_folders_below_are_ambiguous(tmp_path):
    folders.write(tmp_path)
    folders.write(tmp_path, configuration="3d_lowres", plan={**folders.plans(), "configurations": {"3d_lowres": {}}})
    with pytest.raises(CheckpointError, match="holds 2 model folders"):
        nnunet.read_model_folder(tmp_path)


def test_what_a_folder_lacks_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no plans\.json"):
        nnunet.read_model_folder(tmp_path)
    folder = folders.write(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"fold 1, 2 has no checkpoint_final\.pth; there are folds 0"):
        nnunet.read_model_folder(folder, folds=["0", "1", "2"])
    with pytest.raises(CheckpointError, match=r"fold 0 has no checkpoint_best\.pth"):
        nnunet.read_model_folder(folder, checkpoint="best")
    with pytest.raises(UsageError, match="'first' is unknown"):
        nnunet.read_model_folder(folder, checkpoint="first")
    (folder / "dataset.json").unlink()
    with pytest.raises(CheckpointError, match=r"dataset\.json: is missing"):
        nnunet.read_model_folder(folder)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        nnunet.read_model_folder(folder)
    (folder / "dataset.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds a list"):
        nnunet.read_model_folder(folder)


def test_a_folder_without_folds(tmp_path):
    folder = folders.write(tmp_path)
    (folder / "fold_0" / "checkpoint_final.pth").unlink()
    (folder / "fold_0").rmdir()
    with pytest.raises(CheckpointError, match=r"no fold_\*"):
        nnunet.read_model_folder(folder)


def test_a_configuration_that_the_plans_do_not_have(tmp_path):
    plan = folders.plans()
    plan["configurations"] = {"2d": {}}
    folder = folders.write(tmp_path, plan=plan)
    with pytest.raises(CheckpointError, match=r"'3d_fullres' is not in plans\.json \(it has 2d\)"):
        nnunet.read_model_folder(folder)


def test_inherited_settings_are_filled_in():
    plans = {
        "configurations": {"a": {"x": 1, "y": 2}, "b": {"inherits_from": "a", "y": 3}, "c": {"inherits_from": "b"}}
    }
    assert nnunet.resolved_configuration(plans, "c")["x"] == 1
    assert nnunet.resolved_configuration(plans, "c")["y"] == 3
    plans["configurations"]["a"]["inherits_from"] = "c"
    with pytest.raises(CheckpointError, match="circle: c from b from a from c"):
        nnunet.resolved_configuration(plans, "c")
    with pytest.raises(CheckpointError, match="'d' does not exist"):
        nnunet.resolved_configuration({"configurations": {"c": {"inherits_from": "d"}}}, "c")


@pytest.mark.parametrize("encoder", ["residual", "plain"])
def test_old_and_new_plans_name_one_network(encoder):
    new = nnunet.architecture(folders.plans(encoder=encoder)["configurations"]["3d_fullres"])
    old = nnunet.architecture(folders.plans(encoder=encoder, old=True)["configurations"]["3d_fullres"])
    assert old[0] == new[0]
    assert old[1].items() <= new[1].items()


def multi_stem():
    """Weights of multi-dataset pretraining: a stem a dataset, heads of its own."""
    weights = dict(folders.network().state_dict())
    for key in [key for key in weights if "encoder.stem." in key]:
        tensor = weights.pop(key)
        weights[key.replace("encoder.stem.", "encoder.stem.221.")] = tensor
        one = tensor[:, :1] if tensor.ndim == 5 else tensor
        weights[key.replace("encoder.stem.", "encoder.stem.17_0.")] = one.clone()
    return weights


def test_one_stem_of_a_pretraining_checkpoint():
    state = nnunet.canonical_state(multi_stem(), name="x")
    assert nnunet.stems(state) == {"221": 2, "17_0": 1}
    chosen = nnunet.with_stem(state, "221")
    original = unique_state(folders.network())
    assert chosen.keys() == {key for key in original if "seg_layers" not in key}
    assert all(torch.equal(chosen[key], original[key]) for key in chosen)
    with pytest.raises(CheckpointError, match="stem '5' is not in the checkpoint; it has 221, 17_0"):
        nnunet.with_stem(state, "5")
    assert nnunet.stems(original) == {}
