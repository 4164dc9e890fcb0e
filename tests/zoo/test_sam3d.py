from __future__ import annotations

import argparse
import collections
import pickle

import numpy as np
import pytest
import torch

from uptake.core.errors import CheckpointError, ModelError
from uptake.methods import seganypet
from uptake.networks.promptable import Clicks
from uptake.networks.sam3d import Sam3d
from uptake.workflows.bundles import load_bundle
from uptake.workflows.import_promptable import import_promptable
from uptake.zoo.sam3d import read_sam3d

SIZES = {
    "patch": 4, "dim": 24, "depth": 3, "heads": 2, "attention_window": 5, "global_blocks": (1,), "prompt_dim": 48,
    "prompt_hidden": 40,
}  # fmt: skip


def network(**changes) -> Sam3d:
    torch.manual_seed(3)
    found = Sam3d(1, (12, 12, 12), **{**SIZES, **changes}).eval()
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                parameter.normal_()
    return found


def write(path, state, **more):
    """Write a checkpoint as the authors' training script leaves it."""
    content = {
        "epoch": 7,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 8e-4}]},
        "lr_scheduler_state_dict": {"milestones": collections.Counter([120, 180])},
        "losses": [0.5],
        "dices": [np.float64(0.7)],
        "best_loss": 0.5,
        "args": argparse.Namespace(task_name="x", gpu_ids=[0, 1]),
        "used_datas": ["a"],
    }
    torch.save({**content, **more}, path)
    return path


def test_weights_and_sizes_come_from_the_file(tmp_path):
    made = network()
    found = read_sam3d(write(tmp_path / "a.pth", made.state_dict()))
    assert dict(found.sizes) == SIZES
    assert (found.window, found.channels, found.point_kinds, found.epoch) == ((12, 12, 12), 1, 2, 7)
    assert found.state.keys() == made.state_dict().keys()


def test_imported_bundle_computes_what_the_network_did(tmp_path):
    made = network()
    wrapped = {f"module.{key}": value for key, value in made.state_dict().items()}
    imported = import_promptable(write(tmp_path / "a.pth", wrapped), tmp_path / "model")
    bundle = load_bundle(imported.bundle)
    assert bundle.config.rel_pos == "legacy" and bundle.config.transpose == (2, 1, 0)
    image, clicks = torch.randn(1, 1, 12, 12, 12), Clicks(torch.tensor([[[3.0, 4, 5]]]), torch.tensor([[1]]))
    with torch.no_grad():
        wanted = made.decode(made.encode(image), clicks, None).logits
        found = bundle.network()
        assert torch.equal(found.decode(found.encode(image), clicks, None).logits, wanted)
    assert "all rights are reserved" in bundle.card.licence
    assert any("do not pass this bundle on" in note for note in imported.notes)


def test_a_stated_licence_is_kept(tmp_path):
    imported = import_promptable(
        write(tmp_path / "a.pth", network().state_dict()), tmp_path / "m", licence="Apache-2.0"
    )
    assert imported.card.licence == "Apache-2.0"


def test_box_variants_bring_their_embeddings(tmp_path):
    made = network(point_kinds=4)
    imported = import_promptable(write(tmp_path / "a.pth", made.state_dict()), tmp_path / "m")
    assert load_bundle(imported.bundle).config.accepts == ("point", "scribble", "mask", "box")
    assert any("boxes" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("mask_decoder.iou_token.weight"), "mask_decoder.iou_token.weight is missing"),
        (lambda s: s.pop("image_encoder.pos_embed"), "is missing or misshapen"),
        (lambda s: s.pop("image_encoder.blocks.1.attn.qkv.bias"), "blocks.1.attn.qkv.bias is missing"),
        (lambda s: [s.pop(k) for k in list(s) if ".blocks.1." in k], "not consecutive"),
        (lambda s: s.update({"mask_decoder.extra": torch.zeros(1)}), "mask_decoder.extra is not part"),
        (lambda s: s.update({"head.weight": torch.zeros(1)}), "no part of SAM-Med3D"),
        (lambda s: s.update({"mask_decoder.iou_token.weight": torch.zeros(2, 48)}), "has shape"),
        (lambda s: s.update({"mask_decoder.iou_token.weight": torch.full((1, 48), float("nan"))}), "NaN"),
        (lambda s: s.update({"mask_decoder.iou_token.weight": 3}), "expected a tensor"),
    ],
)
def test_incomplete_and_altered_files_are_refused(tmp_path, change, words):
    state = dict(network().state_dict())
    change(state)
    with pytest.raises(CheckpointError, match=words):
        import_promptable(write(tmp_path / "a.pth", state), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_files_of_another_kind_are_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"no model_state_dict \(it has state_dict\)"):
        read_sam3d(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_sam3d(tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="missing"):
        read_sam3d(tmp_path / "c.pth")
    with pytest.raises(ModelError, match="2 channels"):
        other = Sam3d(2, (12, 12, 12), **SIZES)
        import_promptable(write(tmp_path / "d.pth", other.state_dict()), tmp_path / "model")


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


def test_nothing_in_the_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.pth", {"image_encoder.pos_embed": torch.zeros(1)}, args=Evil())
    with pytest.raises(CheckpointError, match=r"asks for \S*system"):
        read_sam3d(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"model_state_dict": Evil()}))
    with pytest.raises(CheckpointError):
        read_sam3d(tmp_path / "b.pth")
    assert not (tmp_path / "pwned").exists()


def test_published_size_is_recognised(tmp_path):
    """The sizes of the published files, read off tensors without memory behind them."""
    from uptake.zoo.sam3d import _sizes

    with torch.device("meta"):
        state = Sam3d().state_dict()
    sizes, window, channels = _sizes(state)
    config = seganypet.Config.published()
    assert sizes == {name: getattr(config, name) for name in sizes}
    assert (window, channels) == ((128, 128, 128), 1)
