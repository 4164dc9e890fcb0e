"""From scans without labels to a segmentation: pool, pretraining, fine-tuning, probe and label curve, on tiny scans."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import uptake
from uptake.core.errors import CheckpointError, InputError, ModelError, UsageError
from uptake.methods import lesiontracer
from uptake.methods.petct_mae import Config
from uptake.networks.backbones import part
from uptake.sampling.masking import MaskRules
from uptake.workflows import pool as pools
from uptake.workflows.bundles import load_bundle
from uptake.workflows.finetune import finetune
from uptake.workflows.label_curve import label_curve
from uptake.workflows.pretrain_mae import pretrain_petct_mae, read_exclusions, reconstructing_network
from uptake.workflows.probe import probe

TINY = replace(
    Config.small(), spacing_mm=(8.0, 8.0, 8.0), window=(8, 8, 8), masks=MaskRules(block=(4, 4, 4)), min_slices=8,
    features=(4, 8), blocks=(1, 1), steps=4, epoch_steps=2, validation_batches=1,
)  # fmt: skip
CPU = {"device": "cpu", "precision": "32-true"}


@pytest.fixture(scope="module")
def dataset(make_study, tiny_arrays, tmp_path_factory):
    """Ten labelled studies of ten patients."""
    folder = tmp_path_factory.mktemp("data") / "labelled"
    rng = np.random.default_rng(1)
    for number in range(10):
        noisy = np.clip(tiny_arrays["pet"] + rng.normal(0, 0.1, tiny_arrays["pet"].shape), 0, None)
        make_study(folder / f"p{number}", pet=noisy.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def plain(make_study, tiny_arrays, tmp_path_factory):
    """Ten studies without labels, one of them with few slices."""
    folder = tmp_path_factory.mktemp("data") / "unlabelled"
    rng = np.random.default_rng(2)
    arrays = tiny_arrays
    for number in range(9):
        noisy = np.clip(arrays["pet"] + rng.normal(0, 0.1, arrays["pet"].shape), 0, None).astype(np.float32)
        make_study(folder / f"q{number}", roles=("pet", "ct"), pet=noisy)
    make_study(folder / "short", roles=("pet", "ct"), pet=arrays["pet"][:, :, :5], ct=arrays["ct"][:, :, :5])
    (folder / "dataset.json").write_text(json.dumps({"licence": "CC BY 4.0"}))
    return folder


@pytest.fixture(scope="module")
def pretrained(plain, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrained")
    found = pretrain_petct_mae([plain], out, config=TINY, tests=[dataset], licences=None, name="tiny", **CPU)
    return out, found


def test_pretraining_writes_manifest_log_pictures_and_a_start_without_heads(pretrained):
    out, found = pretrained
    assert (found.scans, found.left_out, found.validation) == (9, 1, 0)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["datasets"] == [{"name": "unlabelled", "licence": "CC BY 4.0", "scans": 9}]
    assert all(set(scan["sha256"]) == {"pet", "ct"} for scan in manifest["scans"])
    assert manifest["padded"] == found.padded == 0
    with (out / "left_out.csv").open(encoding="utf-8", newline="") as stream:
        assert [(row["case"], row["reason"]) for row in csv.DictReader(stream)] == [
            ("short", "has 5 slices, fewer than 8.")
        ]
    assert [path.name for path in sorted((out / "run" / "pictures").iterdir())] == ["0000002.png", "0000004.png"]
    bundle = load_bundle(found.bundle)
    assert bundle.card.role == "initialisation"
    assert not any(part("residual", name) == "head" for name in bundle.states["0"])
    assert bundle.card.training["overlap_checked"] and len(bundle.card.origin["pool"]) == 18
    assert bundle.card.origin["sources"][0]["licence"] == "CC BY 4.0"
    with pytest.raises(ModelError, match="without heads"):
        bundle.network()


def test_the_pretrained_network_gives_images_back(pretrained, dataset):
    network = reconstructing_network(pretrained[1].bundle)
    assert network(torch.zeros(1, 2, 8, 8, 8)).shape == (1, 2, 8, 8, 8)


def test_a_second_run_reads_no_scan_again_and_ends_with_the_same_weights(pretrained, plain, tmp_path, monkeypatch):
    out, found = pretrained
    again = tmp_path / "again"
    shutil.copytree(out, again)
    before = (again / "bundle" / "fold_0.safetensors").read_bytes()
    monkeypatch.setattr(pools, "harmonise", lambda *_: pytest.fail("a scan was harmonised again"))
    assert pretrain_petct_mae([plain], again, config=TINY, name="tiny", **CPU).scans == found.scans
    assert (again / "bundle" / "fold_0.safetensors").read_bytes() == before
    with pytest.raises(CheckpointError, match="other settings"):
        pretrain_petct_mae([plain], again, config=replace(TINY, seed=1), **CPU)


def test_a_test_scan_in_the_pool_fails_by_default_and_can_be_taken_out(dataset, tmp_path):
    with pytest.raises(InputError, match=r"10 of its test scans, .* are in the pretraining pool, first p0"):
        pretrain_petct_mae([dataset], tmp_path / "a", config=TINY, tests=[dataset], **CPU)
    names = tmp_path / "names.txt"
    names.write_text("p0\np1\n")
    found = pretrain_petct_mae([dataset], tmp_path / "a", config=TINY, exclude=read_exclusions(names), **CPU)
    assert found.scans == 8
    pool = set(load_bundle(found.bundle).card.origin["pool"])
    assert not pool & set(pools.fingerprints_of("p0", "p0", {}))
    with pytest.raises(InputError, match=r"was pretrained on \d of the 2 test scans"):
        finetune(dataset, tmp_path / "b", init=found.bundle, config=segmentation(), **CPU)


def test_scans_without_a_channel_and_constant_scans_are_refused_or_listed(make_study, tiny_arrays, tmp_path):
    for name in ("a", "b"):
        make_study(tmp_path / "pool" / name, roles=("pet", "ct") if name == "a" else ("pet",))
    make_study(tmp_path / "pool" / "c", roles=("pet", "ct"), ct=np.full_like(tiny_arrays["ct"], -1000.0))
    make_study(tmp_path / "pool" / "d", roles=("pet", "ct"), pet=np.zeros_like(tiny_arrays["pet"]))
    with pytest.raises(InputError, match=r"pool: b cannot be used: it has no CT"):
        pretrain_petct_mae([tmp_path / "pool"], tmp_path / "out", config=TINY, **CPU)
    tall = replace(TINY, window=(32, 8, 8), steps=1)
    found = pretrain_petct_mae(
        [tmp_path / "pool"], tmp_path / "out", config=tall, keep_going=True, assume_suv=True, **CPU
    )
    assert (found.scans, found.left_out, found.padded) == (1, 3, 1)
    reasons = (tmp_path / "out" / "left_out.csv").read_text(encoding="utf-8")
    assert "values span -1000 to -1000" in reasons and "PET is constant" in reasons


def test_pools_that_make_no_sense_are_refused(plain, tmp_path):
    with pytest.raises(InputError, match="in the pool already"):
        pools.pool_datasets([plain, plain])
    with pytest.raises(InputError, match="'other', which is no dataset"):
        pools.pool_datasets([plain], {"other": "CC0"})
    assert pools.pool_datasets([plain], {"unlabelled": "CC0"})[0].licence == "CC0"
    with pytest.raises(InputError, match="the pool is empty"):
        pretrain_petct_mae([plain], tmp_path / "out", config=replace(TINY, min_slices=500), **CPU)
    (tmp_path / "split.json").write_text(json.dumps({"train": ["a"], "validation": ["b"], "test": ["c"]}))
    assert read_exclusions(tmp_path / "split.json") == ("c", "b")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match="holds no case ids"):
        read_exclusions(tmp_path / "bad.json")


def test_what_an_audit_found_goes_into_the_card(plain, tmp_path):
    reading = {"column": "site", "step": "as they are", "balanced_accuracy": 0.9, "low": 0.8, "high": 0.95}
    audit = {"sites": {"a": 5, "b": 4}, "scans": 9, "readings": [{**reading, "chance": 0.5, "p": 0.005, "folds": 5}]}
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    found = pretrain_petct_mae([plain], tmp_path / "out", config=replace(TINY, steps=1), audit=tmp_path, **CPU)
    noted = load_bundle(found.bundle).card.origin["site_audit"]
    assert noted["sites"] == {"a": 5, "b": 4} and noted["readings"][0]["balanced_accuracy"] == 0.9
    with pytest.raises(InputError, match="is no site audit"):
        pretrain_petct_mae([plain], tmp_path / "out", config=TINY, audit=plain, **CPU)


def segmentation(**changes):
    changes = {"steps": 2, "epoch_steps": 2, **changes}
    return TINY.for_segmentation(**changes)


@pytest.fixture(scope="module")
def tuned(pretrained, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned")
    return out, finetune(dataset, out, init=pretrained[1].bundle, config=segmentation(), fraction=0.3, **CPU)


def test_fine_tuning_takes_all_but_the_head_tests_once_and_writes_a_model(tuned, pretrained, dataset):
    out, found = tuned
    start = load_bundle(pretrained[1].bundle)
    assert set(found.transfer.loaded) == set(start.states["0"])
    assert all(part("residual", name) == "head" for name in found.transfer.fresh)
    split = json.loads((out / "split.json").read_text(encoding="utf-8"))
    assert set(found.trained_on) <= set(split["train"]) and len(found.trained_on) == 2  # int(0.3 · 7)
    assert sorted(row["case"] for row in found.rows) == split["test"] and len(split["test"]) == 2
    segmented = uptake.segment(dataset / "p0", model=found.bundle, device="cpu")
    assert segmented.lesions.array.shape == (24, 20, 28)
    assert segmented.card.labels == ["background", "lesion"]


def test_a_scan_without_lesions_counts_by_false_positive_volume_not_by_dice(tuned, dataset, make_study, tiny_arrays):
    from uptake.workflows.labelled_cases import TestScans, labelled_cases, scores_on

    out, found = tuned
    empty = np.zeros_like(tiny_arrays["lesion"])
    make_study(out / "negatives" / "n", lesion=empty)
    bundle = load_bundle(found.bundle)
    data = labelled_cases(out / "negatives", bundle.plan, out / "negative_cache")
    assert data.positive == {"n": False}
    scans = TestScans(data)
    (row,) = scores_on(bundle.network(), bundle.config, scans, ["n"], device=torch.device("cpu"))
    assert scans("n") is scans("n")  # read once
    small = TestScans(data, limit=100)
    assert small("n") is not small("n")
    assert math.isnan(row["dice"]) and row["fp_volume_ml"] >= 0


def test_a_model_of_another_method_or_network_starts_nothing(dataset, tiny_bundle, pretrained, tmp_path):
    with pytest.raises(UsageError, match="is a bundle of lesiontracer"):
        finetune(dataset, tmp_path / "a", init=tiny_bundle, **CPU)
    other = replace(segmentation(), features=(4, 4))
    with pytest.raises(CheckpointError, match=r"do not fit the network: .* and should be"):
        finetune(dataset, tmp_path / "b", init=pretrained[1].bundle, config=other, **CPU)


def test_pretraining_like_a_model_starts_its_training(dataset, plain, tiny_bundle, tmp_path):
    base = replace(TINY, backbone="resenc_l", steps=2)
    found = pretrain_petct_mae([plain], tmp_path / "like", config=base, like=tiny_bundle, **CPU)
    start, model = load_bundle(found.bundle), load_bundle(tiny_bundle)
    assert start.plan == model.plan and start.config.channels == ("ct", "pet")
    heads = {name for name in model.states["0"] if part("residual", name) == "head"}
    assert start.states["0"].keys() == model.states["0"].keys() - heads


def test_any_pretraining_of_its_network_starts_lesiontracer(pretrained, dataset, tmp_path, caplog):
    config = replace(
        lesiontracer.Config.small(), spacing_mm=(8.0, 8.0, 8.0), window=(8, 8, 8), features=(4, 8), blocks=(1, 1),
        steps=1, epoch_steps=1, validation_batches=0, learning_rate=0.0, weight_decay=0.0, mirror_axes=(),
    )  # fmt: skip
    trained = uptake.train(
        "lesiontracer", dataset, tmp_path / "t", config=config, folds=("all",), init=pretrained[1].bundle, **CPU
    )
    start, found = pretrained[1].bundle, load_bundle(trained.bundle).states["all"]
    first = load_bundle(start).states["0"]["encoder.stem.convs.0.conv.weight"]
    assert torch.equal(found["encoder.stem.convs.0.conv.weight"], first.flip(1)), "PET and CT change places"
    assert "CT by zscore, PET by zscore; the network to be trained sees CT by" in caplog.text


def test_the_probe_trains_a_linear_map_alone_and_compares_with_untrained_features(pretrained, dataset, plain, tmp_path):
    single = {}
    for name in ("pet", "ct"):
        config = replace(TINY, channels=(name,), normalisation=("zscore",), steps=2)
        single[name] = pretrain_petct_mae([plain], tmp_path / name, config=config, **CPU).bundle
    arms = {"joint": str(pretrained[1].bundle), "separated": f"{single['pet']}+{single['ct']}"}
    options = {"shots": 2, "draws": 2, "updates": 2, "batch_size": 1, **CPU}
    found = probe(dataset, tmp_path / "probe", arms, **options)
    assert set(found.summary) == {"joint", "separated", "random"} and len(found.rows) == 3 * 2 * 2
    assert set(found.comparisons) == {("joint", "separated"), ("joint", "random"), ("separated", "random")}
    again = probe(dataset, tmp_path / "probe", arms, **options)
    assert again.rows == found.rows
    with pytest.raises(UsageError, match="at least one bundle"):
        probe(dataset, tmp_path / "none", {}, **CPU)


def test_a_label_curve_trains_the_grid_once_and_draws_it(pretrained, dataset, tmp_path, monkeypatch):
    from uptake.workflows import label_curve as module

    options = {"config": segmentation(), "fractions": (0.2, 1.0), "draws": 1, **CPU}
    done = []
    found = label_curve(
        dataset, tmp_path, {"mae": str(pretrained[1].bundle)}, on_run=lambda *a: done.append(a), **options
    )
    assert done[-1] == (4, 4)
    assert {(one.arm, one.fraction) for one in found.points} == {
        (arm, fraction) for arm in ("scratch", "mae") for fraction in (0.2, 1.0)
    }
    assert (tmp_path / "curve.png").is_file()
    monkeypatch.setattr(module, "scores_on", lambda *_, **__: pytest.fail("a run was tested again"))
    again = label_curve(dataset, tmp_path, {"mae": str(pretrained[1].bundle)}, **options)
    assert again.points == found.points
