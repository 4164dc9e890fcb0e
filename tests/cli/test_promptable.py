"""Promptable models on the command line: a checkpoint file in, a bundle out."""

from __future__ import annotations

import pytest
import torch

from uptake.networks.sam3d import Sam3d


@pytest.fixture
def checkpoint(tmp_path):
    sizes = {"patch": 4, "dim": 24, "depth": 2, "heads": 2, "attention_window": 5, "global_blocks": (1,)}
    network = Sam3d(1, (12, 12, 12), **sizes, prompt_dim=48, prompt_hidden=40)
    torch.save({"model_state_dict": network.state_dict()}, tmp_path / "seganypet.pth")
    return tmp_path / "seganypet.pth"


def test_a_checkpoint_file_becomes_a_promptable_bundle(cli, checkpoint, tmp_path):
    found = cli("import-weights", checkpoint, "-o", tmp_path / "model", "--spacing", "3", "--half")
    assert found.code == 0, found.err
    assert "all rights are reserved" in " ".join(found.out.split())
    assert (tmp_path / "model" / "card.json").is_file()
    shown = cli("info", tmp_path / "model")
    assert shown.code == 0 and "seganypet" in shown.out


def test_options_of_folders_are_refused_for_files(cli, checkpoint, tmp_path):
    found = cli("import-weights", checkpoint, "-o", tmp_path / "model", "--folds", "0")
    assert found.code == 2 and "no promptable file" in " ".join(found.err.split())
    found = cli("import-weights", tmp_path, "-o", tmp_path / "model", "--spacing", "3")
    assert found.code == 2 and "states its own" in " ".join(found.err.split())
