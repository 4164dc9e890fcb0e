"""Checkpoints as the authors write them, made here: every tensor but the head goes on into fine-tuning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.core.errors import CheckpointError
from uptake.methods import petct_mae
from uptake.methods.petct_mae import Config
from uptake.networks import backbones
from uptake.networks.backbones import Architecture, part
from uptake.networks.unet import unique_state
from uptake.training.transfer import transfer
from uptake.workflows import import_mae as module
from uptake.workflows.bundles import load_bundle
from uptake.workflows.import_mae import import_mae
from uptake.workflows.pretrain_mae import reconstructing_network

PLAIN = Architecture("plain", (4, 8), (1, 1))
SWIN = Architecture("swin_v2", (12,), (1, 1, 1, 1), (1, 2, 2, 2))


@pytest.fixture(autouse=True)
def _small_backbones(monkeypatch):
    """The published ones are too large for a test; names and prefixes are theirs."""
    small = {"nnunet_3d": PLAIN, "swin_small": SWIN, "swin_base": backbones.BACKBONES["swin_base"]}
    monkeypatch.setattr(backbones, "BACKBONES", small)
    monkeypatch.setattr(module, "BACKBONES", small)


def checkpoint(path, backbone, prefix, *, change=lambda state: state):
    network = petct_mae.build_network(replace(Config.published(backbone), seed=3))
    # The whole state dict, with buffers and with every alias that data-parallel training writes.
    state = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    content = {
        "epoch": 199,
        "model_state_dict": change(state),
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "scaler_state_dict": {"scale": 65536.0},
        "scheduler_state_dict": {},
        "best_loss": np.float64(0.25),
    }
    torch.save(content, path)
    return network


@pytest.mark.parametrize(
    ("backbone", "prefix"),
    [("nnunet_3d", "nnunet."), ("nnunet_3d", "module.nnunet."), ("swin_small", "module.encoder_decoder.")],
)
def test_every_tensor_is_imported_and_all_but_the_head_start_a_segmentation(tmp_path, backbone, prefix):
    network = checkpoint(tmp_path / "best.pth", backbone, prefix)
    found = import_mae(tmp_path / "best.pth", tmp_path / "bundle")
    assert found.card.role == "initialisation" and found.card.training["epochs"] == 199
    expected = unique_state(network)
    bundle = load_bundle(found.bundle)
    again = unique_state(reconstructing_network(found.bundle))
    assert all(torch.equal(expected[name], again[name]) for name in expected)
    kind = bundle.config.design.kind
    fresh = petct_mae.build_network(bundle.config.for_segmentation())
    report = transfer(fresh, bundle.states["0"], kind)
    assert set(report.loaded) == {name for name in expected if part(kind, name) != "head"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: {}, "is no checkpoint of masked PET/CT pretraining"),
        (lambda state: {"model." + name: tensor for name, tensor in state.items()}, "is no checkpoint of masked"),
        (lambda state: {**state, "extra.weight": torch.zeros(1)}, "extra.weight does not begin with nnunet."),
        (
            lambda state: {k: v for k, v in state.items() if "seg_layers" not in k},
            "decoder.seg_layers.0.bias is missing",
        ),
        (
            lambda state: {k: v + 1 if k.startswith("nnunet.decoder.encoder.") else v for k, v in state.items()},
            "are one tensor and should be equal",
        ),
    ],
)
def test_a_file_that_is_not_theirs_is_refused_by_what_differs(tmp_path, change, says):
    checkpoint(tmp_path / "best.pth", "nnunet_3d", "nnunet.", change=change)
    with pytest.raises(CheckpointError, match=says):
        import_mae(tmp_path / "best.pth", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_transformer_of_another_width_is_refused(tmp_path, monkeypatch):
    checkpoint(tmp_path / "best.pth", "swin_small", "encoder_decoder.")
    monkeypatch.setattr(module, "BACKBONES", {"nnunet_3d": PLAIN})
    with pytest.raises(CheckpointError, match="12 wide is none of the published ones"):
        import_mae(tmp_path / "best.pth", tmp_path / "bundle")


def test_the_command_knows_the_file_and_refuses_options_of_others(cli, tmp_path):
    checkpoint(tmp_path / "best.pth", "nnunet_3d", "module.nnunet.")
    ran = cli("import-weights", tmp_path / "best.pth", "-o", tmp_path / "bundle", "--licence", "asked")
    assert ran.code == 0, ran.err
    assert "uptake finetune DATASET" in ran.out and load_bundle(tmp_path / "bundle").card.licence == "asked"
    refused = cli("import-weights", tmp_path / "best.pth", "-o", tmp_path / "b", "--spacing", 2)
    assert refused.code == 2 and "do not go with a checkpoint of masked" in " ".join(refused.err.split())
