"""Promptable models on the command line: a checkpoint file in, a bundle out."""

from __future__ import annotations

import json

import numpy as np
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
    exported = cli("export-weights", tmp_path / "model", "-o", tmp_path / "nnunet")
    assert exported.code == 4 and "a model of seganypet" in " ".join(exported.err.split())
    shown = cli("info", tmp_path / "model")
    assert shown.code == 0 and "seganypet" in shown.out


def test_options_of_folders_are_refused_for_files(cli, checkpoint, tmp_path):
    found = cli("import-weights", checkpoint, "-o", tmp_path / "model", "--folds", "0")
    assert found.code == 2 and "no promptable file" in " ".join(found.err.split())
    found = cli("import-weights", tmp_path, "-o", tmp_path / "model", "--spacing", "3")
    assert found.code == 2 and "states its own" in " ".join(found.err.split())


@pytest.fixture
def unet_bundle(tmp_path):
    from dataclasses import replace

    from uptake.methods import seganypet
    from uptake.networks.unet import unique_state
    from uptake.zoo.bundle import save_bundle
    from uptake.zoo.cards import Card

    small = replace(seganypet.Config.small(), window=(8, 8, 8), spacing_mm=(8.0,) * 3, features=(4, 8), blocks=(1, 1))
    facts = dict.fromkeys(("summary", "suv", "licence", "package_version"), "random weights")
    card = Card(
        "clicks", "1", method="seganypet", config=small.as_json(), plan=small.plan().as_json(),
        labels=["background", "object"], needs=["pet"], accepts=["pet", "ct"], training={}, scores=[],
        limits=["It has learnt nothing."], files={}, stored_as="float32", **facts,
    )  # fmt: skip
    save_bundle(card, {"0": unique_state(seganypet.build_network(small))}, tmp_path / "clicks")
    return tmp_path / "clicks"


def test_prompts_from_a_file_mark_the_lesion(cli, unet_bundle, make_study, tmp_path, plain_pictures):
    study = make_study(tmp_path / "study", roles=("pet", "ct"))
    points = tmp_path / "points.json"
    points.write_text(json.dumps({"tumor": [[8, 9, 10]], "background": [[8, 9, 3]]}))
    found = cli("segment", study, "-o", tmp_path / "out", "-m", unet_bundle, "--prompts", points)
    assert found.code == 0, found.err
    import nibabel as nib

    mask = np.asarray(nib.load(tmp_path / "out" / "study" / "lesions.nii.gz").dataobj)
    assert mask[8, 9, 10] == 1 and mask[8, 9, 3] == 0
    run = json.loads((tmp_path / "out" / "study" / "run.json").read_text())
    assert run["request"]["settings"]["prompts"] == json.loads(points.read_text())
    again = cli("segment", study, "-o", tmp_path / "out", "-m", unet_bundle, "--prompts", points)
    assert again.code == 0 and "kept" in again.out


def test_prompts_and_models_have_to_go_together(cli, unet_bundle, tiny_bundle, make_study, tmp_path):
    study = make_study(tmp_path / "study", roles=("pet",))
    points = tmp_path / "points.json"
    points.write_text(json.dumps({"tumor": [[8, 9, 10]]}))
    without = cli("segment", study, "-o", tmp_path / "out", "-m", unet_bundle)
    assert without.code == 4 and "--prompts FILE" in " ".join(without.err.split())
    wrong = cli("segment", study, "-o", tmp_path / "out", "-m", tiny_bundle, "--prompts", points)
    assert wrong.code == 4 and "takes no prompts" in " ".join(wrong.err.split())
    points.write_text(json.dumps({"tumor": [[80, 9, 10]]}))
    outside = cli("segment", study, "-o", tmp_path / "out", "-m", unet_bundle, "--prompts", points)
    assert outside.code == 4 and "outside the image" in " ".join(outside.err.split())
    points.write_text("{}")
    empty = cli("segment", study, "-o", tmp_path / "out", "-m", unet_bundle, "--prompts", points)
    assert empty.code == 4 and "no prompts in it" in " ".join(empty.err.split())
