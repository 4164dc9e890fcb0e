"""Several datasets with their own channels and labels teach one body, and a model is fine-tuned from it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import uptake
from uptake.core.errors import InputError, ModelError, UsageError
from uptake.geometry import Volume
from uptake.io.write import write_volume
from uptake.methods.lesiontracer import Config
from uptake.training import checkpoint as checkpoints
from uptake.workflows.pretrain import pretrain_lesiontracer
from uptake.workflows.pretrain_data import raw_dataset, raw_datasets
from uptake.zoo import nnunet

SETTINGS = {"spacing_mm": (8.0, 8.0, 8.0), "window": (16, 16, 16), "features": (4, 8), "blocks": (1, 1)}


def tiny_config(**changes):
    return replace(Config.pretraining_small(), **{**SETTINGS, "steps": 4, "epoch_steps": 2, **changes})


@pytest.fixture(scope="module")
def make_raw(tiny_arrays, turned):
    """Return a writer of nnU-Net raw datasets: ``make_raw(folder, ("CT", "PET"), {"lesion": 1}, cases=2)``."""

    def write(folder, channels, labels, *, cases=2, skip=None):
        rng = np.random.default_rng(len(folder.name))
        for n in range(cases):
            for number, name in enumerate(channels):
                if (n, number) == skip:
                    continue
                image = tiny_arrays["ct" if name == "CT" else "pet"] + rng.normal(0, 0.05, (24, 20, 28))
                path = folder / "imagesTr" / f"c{n}_{number:04d}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_volume(Volume(image.astype(np.float32), turned), path)
            foreground = max(labels.values(), default=1)
            lesion = tiny_arrays["lesion"] > 0
            parts = np.where(lesion, 1 + np.indices(lesion.shape).sum(0) % foreground, 0)
            (folder / "labelsTr").mkdir(exist_ok=True)
            write_volume(Volume(parts.astype(np.uint8), turned), folder / "labelsTr" / f"c{n}.nii.gz")
        content = {"channel_names": dict(enumerate(channels)), "labels": {"background": 0, **labels}}
        (folder / "dataset.json").write_text(json.dumps({**content, "numTraining": cases, "file_ending": ".nii.gz"}))
        return folder

    return write


@pytest.fixture(scope="module")
def datasets(make_raw, tmp_path_factory):
    """CT with 23 organs, one MR-like image with two classes, PET/CT with lesions."""
    place = tmp_path_factory.mktemp("raw")
    organs = {f"organ_{n}": n for n in range(1, 24)}
    return [
        make_raw(place / "Dataset007_Organs", ("CT",), organs, cases=4),
        make_raw(place / "Dataset012_MR", ("T1",), {"core": 1, "rim": 2}),
        make_raw(place / "Dataset221_PETCT", ("CT", "PET"), {"tumor": 1}),
    ]


@pytest.fixture(scope="module")
def pretrained(datasets, tmp_path_factory):
    out = tmp_path_factory.mktemp("pretraining")
    reports = []
    result = pretrain_lesiontracer(
        datasets, out, config=tiny_config(), device="cpu", precision="32-true", on_epoch=reports.append
    )
    return out, result, reports


def test_every_dataset_has_its_stem_and_its_heads_on_one_body(pretrained):
    out, _, reports = pretrained
    state = checkpoints.load(out / "last.ckpt").network
    assert nnunet.stems(state) == {"7": 1, "12": 1, "221": 2}
    heads = {name.split(".")[2]: tensor.shape[0] for name, tensor in state.items() if name.endswith(".0.bias") and
             name.startswith("decoder.seg_layers.")}  # fmt: skip
    assert heads == {"7_0": 21, "7_1": 4, "12": 3, "221": 2}, "23 organs are learnt in two parts of 20 and 3"
    assert [report.step for report in reports] == [2, 4]
    assert all(np.isfinite(report.row["train_loss_per_sample"]) for report in reports)


def test_what_was_learnt_from_is_written_down(pretrained):
    out, result, _ = pretrained
    content = json.loads((out / "datasets.json").read_text())
    assert [(one["id"], one["channels"], one["cases"]) for one in content] == [
        ("7", ["ct"], 4), ("12", ["t1"], 2), ("221", ["ct", "pet"], 2),
    ]  # fmt: skip
    root = 2 / (2 + 2 * 2**0.5)
    assert result.shares == pytest.approx({"7": root, "12": (1 - root) / 2, "221": (1 - root) / 2}, abs=1e-6)


def test_the_bundle_starts_training_and_is_no_model(pretrained, make_study, tmp_path):
    out, result, _ = pretrained
    bundle = uptake.load_bundle(result.bundle)
    assert result.stem == bundle.card.training["stem"] == "221"
    assert bundle.card.role == "initialisation"
    assert bundle.config.channels == ("ct", "pet")
    with pytest.raises(ModelError, match="an initialisation without heads, not a model"):
        bundle.network()
    for name in ("p1", "p2"):
        make_study(tmp_path / "data" / name)
    still = replace(Config.small(), **SETTINGS, steps=1, epoch_steps=1, learning_rate=0.0, weight_decay=0.0)
    trained = uptake.train("lesiontracer", tmp_path / "data", tmp_path / "out", config=still, folds=("all",),
                           init=result.bundle, device="cpu", precision="32-true")  # fmt: skip
    state, full = uptake.load_bundle(trained.bundle).states["all"], checkpoints.load(out / "last.ckpt").network
    assert torch.equal(state["encoder.stem.convs.0.conv.weight"], full["encoder.stem.221.convs.0.conv.weight"])
    shared = [name for name in state if ".stem." not in name and ".seg_layers." not in name]
    assert len(shared) > 20 and all(torch.equal(state[name], full[name]) for name in shared)


def test_a_stopped_run_ends_with_the_same_weights(pretrained, datasets, tmp_path):
    def stop(report):
        raise KeyboardInterrupt

    options = {"config": tiny_config(), "device": "cpu", "precision": "32-true"}
    with pytest.raises(KeyboardInterrupt):
        pretrain_lesiontracer(datasets, tmp_path, on_epoch=stop, **options)
    assert checkpoints.load(tmp_path / "last.ckpt").step == 2
    result = pretrain_lesiontracer(datasets, tmp_path, **options)
    one, other = (uptake.load_bundle(path).states["all"] for path in (result.bundle, pretrained[1].bundle))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_the_command_line_pretrains_with_the_stem_that_is_named(datasets, tmp_path, cli):
    options = ("--steps", 1, "--window", 16, 16, 16, "--spacing-mm", 8, 8, 8, "--features", "4,8", "--blocks", "1,1")
    ran = cli("pretrain", "lesiontracer", *datasets, "-o", tmp_path, *options, "--preset", "small", "--device", "cpu",
              "--stem", "12", "--sampling", "dataset", "--precision", "32-true")  # fmt: skip
    assert ran.code == 0, ran.err
    assert "share of samples: 7 0.26, 12 0.37, 221 0.37" in ran.out
    assert uptake.load_bundle(tmp_path / "bundle").config.channels == ("t1",)


class TestRefusals:
    def test_clashing_ids(self, datasets, make_raw, tmp_path):
        twin = make_raw(tmp_path / "Dataset0007_Other", ("CT",), {"liver": 1})
        with pytest.raises(UsageError, match=r"Dataset0007_Other and .*Dataset007_Organs both have the id 7"):
            raw_datasets([*datasets, twin])

    def test_no_label_but_the_background(self, make_raw, tmp_path):
        with pytest.raises(InputError, match="no label but the background"):
            raw_dataset(make_raw(tmp_path / "Dataset001_A", ("CT",), {}))

    def test_a_missing_channel(self, make_raw, tmp_path):
        folder = make_raw(tmp_path / "Dataset001_A", ("CT", "PET"), {"a": 1}, skip=(1, 1))
        with pytest.raises(InputError, match=r"case c1 has no c1_0001 \(channel pet\)"):
            raw_dataset(folder)

    def test_a_label_that_dataset_json_does_not_name(self, make_raw, datasets, tmp_path):
        folder = make_raw(tmp_path / "Dataset001_A", ("CT",), {"a": 1, "b": 2})
        content = json.loads((folder / "dataset.json").read_text())
        content["labels"].pop("b")
        (folder / "dataset.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match=r"c0\.nii\.gz: holds label 2, which dataset\.json does not name"):
            pretrain_lesiontracer([folder], tmp_path / "out", config=tiny_config(), device="cpu")

    @pytest.mark.parametrize(
        ("labels", "words"),
        [
            ({"whole": [1, 2]}, "overlap"),
            ({"a": 1, "ignore": 2}, "ignore label"),
            ({"a": 300}, "go from 300 to 300"),
            ({"a": "one"}, "whole numbers"),
        ],
    )
    def test_label_sets_that_cannot_be_learnt(self, make_raw, tmp_path, labels, words):
        folder = make_raw(tmp_path / "Dataset001_A", ("CT",), {"a": 1})
        content = json.loads((folder / "dataset.json").read_text())
        (folder / "dataset.json").write_text(json.dumps({**content, "labels": {"background": 0, **labels}}))
        with pytest.raises(InputError, match=words):
            raw_dataset(folder)

    def test_a_folder_that_is_no_dataset(self, tmp_path):
        with pytest.raises(InputError, match=r"dataset\.json: is missing"):
            raw_dataset(tmp_path)

    def test_a_stem_that_is_not_there(self, datasets, tmp_path, cli):
        ran = cli("pretrain", "lesiontracer", *datasets, "-o", tmp_path, "--stem", "99", "--device", "cpu")
        assert ran.code == 2
        assert "--stem 99: there is no such dataset" in ran.err and "221 (ct, pet)" in ran.err

    def test_a_network_without_a_stem(self, datasets, tmp_path):
        with pytest.raises(UsageError, match="residual encoder"):
            pretrain_lesiontracer(datasets, tmp_path, config=tiny_config(encoder="plain"), device="cpu")
