"""The commands of masked pretraining, on tiny scans: what they print, write and refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest

NETWORK = (
    "--preset", "small", "--features", "4,8", "--blocks", "1,1", "--window", "8", "8", "8", "--spacing-mm", "8", "8",
    "8", "--mask-block", "4", "4", "4", "--steps", "2", "--device", "cpu", "--precision", "32-true",
)  # fmt: skip
SHORT = ("--device", "cpu", "--precision", "32-true")


@pytest.fixture(scope="module")
def dataset(make_study, tiny_arrays, tmp_path_factory):
    """Eight labelled studies, tall enough for the rule of 32 slices."""
    folder = tmp_path_factory.mktemp("data") / "cohort"
    rng = np.random.default_rng(1)
    tall = {role: np.concatenate([array] * 2, axis=2) for role, array in tiny_arrays.items()}
    for number in range(8):
        pet = np.clip(tall["pet"] + rng.normal(0, 0.1, tall["pet"].shape), 0, None).astype(np.float32)
        make_study(folder / f"p{number}", **{**tall, "pet": pet})
    return folder


def test_from_scans_to_a_curve(cli, dataset, tmp_path):
    split = tmp_path / "split.json"
    names = [f"p{number}" for number in range(8)]
    split.write_text(json.dumps({"train": names[:5], "validation": names[5:6], "test": names[6:]}))
    start = tmp_path / "start"
    ran = cli("pretrain", "petct_mae", dataset, "-o", start, "--exclude", split, *NETWORK)
    assert ran.code == 0, ran.err
    assert "5 scans in the pool" in ran.out and f"bundle: {start / 'bundle'}" in ran.out
    tuned = cli(
        "finetune", dataset, "-o", tmp_path / "tuned", "--init", start / "bundle", "--split", split, "--fraction", 0.4,
        "--epochs", 1, *SHORT,
    )  # fmt: skip
    assert tuned.code == 0, tuned.err
    assert "of the head start anew" in tuned.out and "trained on 2 scans; mean Dice of 2 test scans" in tuned.out
    curve = cli(
        "label-curve", dataset, "-o", tmp_path / "curve", "--init", f"mae={start / 'bundle'}", "--split", split,
        "--fractions", "0.5,1", "--draws", 1, "--steps", 1, *SHORT,
    )  # fmt: skip
    assert curve.code == 0, curve.err
    assert "mae 50 % - scratch 100 %" in curve.out.replace("\n", " ")
    assert (tmp_path / "curve" / "curve.png").is_file()
    probed = cli(
        "probe", dataset, "-o", tmp_path / "probe", "--init", start / "bundle", "--split", split, "--shots", 2,
        "--draws", 1, "--updates", 1, *SHORT,
    )  # fmt: skip
    assert probed.code == 0, probed.err
    assert "start - random" in probed.out


def test_options_that_contradict_one_another_are_wrong_usage(cli, dataset, tmp_path):
    for options, says in (
        (("finetune", dataset, "--init", "x", "--backbone", "swin_small"), "--backbone names a network to train"),
        (("finetune", dataset, "--steps", 2, "--epochs", 2), "both say how long to train"),
        (("label-curve", dataset, "--init", "a=x", "--fractions", "half"), "--fractions takes numbers"),
        (("pretrain", "petct_mae", dataset, "--channel-weights", "a"), "--channel-weights takes numbers"),
        (("pretrain", "petct_mae", dataset, "--mask-ratio", 2), "ratio between 0 and 1"),
    ):
        ran = cli(*options, "-o", tmp_path / "out")
        assert ran.code == 2 and says in " ".join(ran.err.split()), ran.err


def test_a_licence_file_that_is_none_is_refused(cli, dataset, tmp_path):
    (tmp_path / "licences.json").write_text("[]")
    ran = cli("pretrain", "petct_mae", dataset, "-o", tmp_path / "out", "--licences", tmp_path / "licences.json")
    assert ran.code == 4 and "is no JSON file {dataset: licence}" in " ".join(ran.err.split())
