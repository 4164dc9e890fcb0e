"""`uptake train seganypet`: folds, trusted cases, organs to prompt for, scores by clicks, and what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from uptake.core.errors import InputError, UsageError
from uptake.geometry import Volume
from uptake.io.write import write_volume
from uptake.methods.seganypet import Config
from uptake.training.confident import ConfidentRules
from uptake.workflows.bundles import load_bundle
from uptake.workflows.session import Session
from uptake.workflows.train_seganypet import largest_lesions, train_seganypet, trusted_ids

SHAPE = (14, 12, 16)
AFFINE = np.diag([-8.0, -8.0, 8.0, 1.0])


@pytest.fixture
def dataset(tmp_path):
    """Four patients as `uptake simulate cohort` lays them out: a lesion each, liver (5), spleen (1) and fat (140)."""
    place = tmp_path / "cohort"
    for folder in ("imagesTr", "labelsTr", "organsTr"):
        (place / folder).mkdir(parents=True)
    for n in range(4):
        lesions, organs = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        lesions[3 + n : 6 + n, 3:6, 3:6] = 1
        organs[6:10, 2:8, 8:12] = 5
        organs[2:4, 8:11, 8:11] = 1
        organs[10:13, 9:11, 1:6] = 140
        pet = (1.0 + 7.0 * lesions + 2.0 * (organs == 5)).astype(np.float32)
        ct = np.where(organs == 140, -100.0, 40.0).astype(np.float32)
        write_volume(Volume(ct, AFFINE), place / "imagesTr" / f"s{n % 2}_p{n}_0000.nii.gz")
        write_volume(Volume(pet, AFFINE), place / "imagesTr" / f"s{n % 2}_p{n}_0001.nii.gz")
        write_volume(Volume(lesions, AFFINE), place / "labelsTr" / f"s{n % 2}_p{n}.nii.gz")
        write_volume(Volume(organs, AFFINE), place / "organsTr" / f"s{n % 2}_p{n}.nii.gz")
    channels = {"0": "CT", "1": "SUV"}
    labels = {"background": 0, "lesion": 1}
    content = {"channel_names": channels, "labels": labels, "numTraining": 4, "file_ending": ".nii.gz"}
    (place / "dataset.json").write_text(json.dumps(content))
    names = {"1": "spleen", "5": "liver", "140": "subcutaneous_fat"}
    (place / "organ_labels.json").write_text(json.dumps(names))
    return place


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture
def tiny():
    return replace(
        Config.small(), spacing_mm=(8.0,) * 3, window=(8, 8, 8), features=(4, 8), blocks=(1, 1), jitter=2, steps=2,
        epoch_steps=2, validation_batches=1,
    )  # fmt: skip


OPTIONS = ("--preset", "small", "--window", "8", "8", "8", "--spacing-mm", "8", "8", "8", "--features", "4,8")
OPTIONS = (*OPTIONS, "--blocks", "1,1", "--steps", "2", "--batch-size", "2", "--device", "cpu")


def test_a_command_trains_a_fold_and_clicks_at_its_held_out_lesions(cli, dataset, tmp_path):
    trusted = tmp_path / "trusted.txt"
    trusted.write_text("s0_p0\ns1_p1\n")
    split = {"train": ["s0_p0", "s0_p2"], "val": ["s1_p1", "s1_p3"]}
    (dataset / "splits_final.json").write_text(json.dumps([split]))
    found = cli("train", "seganypet", dataset, "--out", tmp_path / "out", "--trusted", trusted, "--organs",
                "lesiontracer", "--name", "my-clicks", *OPTIONS)  # fmt: skip
    assert found.code == 0, found.err
    assert "held-out lesions after 5 click(s)" in " ".join(found.out.split())
    rows = rows_of(tmp_path / "out" / "cases.csv")
    assert [(row["fold"], row["case"], row["lesion"]) for row in rows] == [("0", "s1_p1", "1"), ("0", "s1_p3", "1")]
    assert float(rows[0]["ml"]) == pytest.approx(27 * 0.512)
    assert all(0.0 <= float(row[f"dice_{n}"]) <= 1.0 for row in rows for n in range(1, 6))
    bundle = load_bundle(tmp_path / "out" / "fold_0" / "bundle")
    assert bundle.card.name == "my-clicks" and bundle.folds == ("0",)
    assert bundle.config.learning == ConfidentRules(rectify="agreeing") and bundle.config.trusted_share == 0.5
    (score,) = bundle.card.scores
    assert score["cases"] == 2 and score["metrics"]["dice_1"]["n"] == 2
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["lesions"] == 2 and summary["metrics"] == score["metrics"]
    (log,) = rows_of(tmp_path / "out" / "fold_0" / "log.csv")
    assert float(log["train_trusted"]) > 0 and float(log["train_other"]) > 0
    session = Session(bundle, device="cpu")
    session.set_image(dataset / "imagesTr" / "s1_p1_0001.nii.gz", ct=dataset / "imagesTr" / "s1_p1_0000.nii.gz")
    session.add_point((5, 4, 4))
    assert session.predict().mask.shape == SHAPE


def test_organs_of_the_grouping_are_objects_and_fat_is_none(dataset, tiny, tmp_path, monkeypatch):
    from uptake.workflows import train_seganypet as module

    seen = {}

    def remembered(train, validation, *arguments, **named):
        seen.update({case.id: case for case in [*train, *validation]})
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_promptable", remembered)
    for organs, expected in (("lesiontracer", ["lesion", "liver", "spleen"]), (None, ["lesion"])):
        with pytest.raises(KeyboardInterrupt):
            train_seganypet(dataset, tmp_path / "out", config=tiny, organs=organs, folds=["all"], device="cpu")
        assert sorted(target.name for target in seen["s0_p0"].targets) == expected
    with pytest.raises(KeyboardInterrupt):
        train_seganypet(dataset, tmp_path / "out", config=tiny, trusted="s0_*", folds=["all"], device="cpu")
    assert [case for case, one in sorted(seen.items()) if one.trusted] == ["s0_p0", "s0_p2"]


def test_whose_labels_are_trusted(tmp_path):
    ids = ["s0_p0", "s0_p2", "s1_p1"]
    assert trusted_ids("s0_*", ids) == {"s0_p0", "s0_p2"}
    some = tmp_path / "ids.txt"
    some.write_text("s1_p1\n\n")
    assert trusted_ids(str(some), ids) == {"s1_p1"}
    some.write_text("s1_p1\np9\n")
    with pytest.raises(InputError, match="1 ids are those of no case with a lesion mask, first p9"):
        trusted_ids(str(some), ids)
    with pytest.raises(UsageError, match="is none of the 3 cases"):
        trusted_ids("nowhere.txt", ids)
    with pytest.raises(UsageError, match="is all of the 3 cases"):
        trusted_ids("s*", ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dose", "0.05"), "--dose: not for seganypet"),
        (("--without", "ct-dropout"), "--without: not for seganypet"),
        (("--folds", "7"), "fold 7 does not exist"),
        (("--folds", "0,1", "--devices", "2"), "one fold a time"),
        (("--comparator", "ldpet"), "comparator"),
        (("--trusted", "nobody_*"), "is none of the 4 cases"),
        (("--init", "no-such-model"), "no-such-model"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_trained(cli, dataset, tmp_path, options, message):
    found = cli("train", "seganypet", dataset, "--out", tmp_path / "out", *OPTIONS, "--n-folds", "2", *options)
    assert found.code in (2, 3, 4) and message in " ".join(found.err.split()), found.err
    assert not (tmp_path / "out" / "fold_0").exists()


def test_options_of_prompts_and_u_nets_are_refused_elsewhere(cli, dataset, tmp_path):
    found = cli("train", "lesiontracer", dataset, "--out", tmp_path / "out", "--trusted", "s0_*")
    assert found.code == 2 and "--trusted: not for lesiontracer" in " ".join(found.err.split())
    found = cli("train", "seganypet", dataset, "--out", tmp_path / "out", "--preset", "best", "--features", "4,8")
    assert found.code == 2 and "is a transformer" in " ".join(found.err.split())


def test_a_dataset_without_lesions_or_with_a_missing_organ_map_is_refused(dataset, tiny, tmp_path):
    (dataset / "organsTr" / "s0_p2.nii.gz").unlink()
    with pytest.raises(InputError, match="1 of 4 cases have no organ map, first s0_p2"):
        train_seganypet(dataset, tmp_path / "out", config=tiny, organs="lesiontracer", folds=["all"], device="cpu")
    for path in (dataset / "labelsTr").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no case there has a lesion mask"):
        train_seganypet(dataset, tmp_path / "out", config=tiny, device="cpu")


def test_the_largest_lesions_come_first():
    lesions = np.zeros((9, 4, 4), np.uint8)
    lesions[0, 0, 0] = 1
    lesions[2:4, :2, :2] = 1
    lesions[6:9, 3, 3] = 1
    found = largest_lesions(Volume(lesions, np.diag([10.0, 10.0, 10.0, 1.0])), most=2)
    assert [ml for _, ml in found] == pytest.approx([8.0, 3.0])
    assert found[0][0].sum() == 8 and found[0][0][2:4, :2, :2].all()


def test_comparators_and_mixing_by_name():
    small, published = Config.small(), Config.published()
    assert small.comparator("seganypet").learning == ConfidentRules(rectify="agreeing")
    assert small.comparator("fine-tune").learning.learning == "fine_tune"
    assert published.comparator("consistency").learning == ConfidentRules("consistency")
    assert published.mixing().trusted_share is None and small.mixing().trusted_share == 0.5
    with pytest.raises(UsageError, match="comparator"):
        small.comparator("ldpet")
