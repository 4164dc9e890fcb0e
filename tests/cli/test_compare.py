"""`uptake compare`: tables and pictures of methods on the same scans."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from uptake.geometry import Volume
from uptake.io.write import write_volume


@pytest.fixture
def cohort(tmp_path, turned):
    """Six references; method m<k> predicts each k planes too far."""
    for n in range(6):
        for folder, shift in (("r", 0), ("m1", 1), ("m2", 2 + n % 2), ("m3", 3)):
            array = np.zeros((12, 4, 4), np.uint8)
            array[2 + shift : 6 + shift] = 1
            (tmp_path / folder).mkdir(exist_ok=True)
            write_volume(Volume(array, turned), tmp_path / folder / f"c{n}.nii.gz")
    return tmp_path


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_masks_against_a_reference(cli, cohort):
    folders = [cohort / f"m{k}" for k in (1, 2, 3)]
    ran = cli("compare", *folders, "--reference", cohort / "r", "-o", cohort / "out", "-j", "1", "--metrics", "dice")
    assert (ran.code, ran.err) == (0, "")
    out = cohort / "out"
    assert {f.name for f in out.iterdir()} == {
        "comparison.csv", "comparison.json", "evaluations", "methods.csv", "pictures", "ranks.csv", "report.html",
        "table.md", "table.tex",
    }  # fmt: skip
    rows = table(out / "comparison.csv")
    assert [(row["a"], row["b"]) for row in rows] == [("m1", "m2"), ("m1", "m3"), ("m2", "m3")]
    # Four planes shifted by one: Dice 2·3/8; by two or three: 0.5 or 0.25; by three: 0.25.
    assert float(rows[0]["mean_a"]) == 0.75 and float(rows[0]["mean_b"]) == 0.375 and rows[0]["unit"] == ""
    assert float(rows[0]["difference"]) == -0.375 and rows[0]["a_larger"] == "6"
    assert {(row["method"], row["mean_rank"]) for row in table(out / "ranks.csv")} >= {("m1", "1.0")}
    assert {f.name for f in (out / "pictures").iterdir()} == {"paired_dice_lesion.png", "ranks_dice_lesion.png"}
    content = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert content["tests"] == 3 and content["methods"] == ["m1", "m2", "m3"]
    assert "m2 − m1" in ran.out and "Friedman" in ran.out
    assert "m2 − m1" in (out / "report.html").read_text(encoding="utf-8")
    assert r"\toprule" in (out / "table.tex").read_text(encoding="utf-8")


def test_outputs_of_evaluate(cli, cohort):
    for k in (1, 3):
        assert cli("evaluate", cohort / f"m{k}", cohort / "r", "-o", cohort / f"e{k}", "-q", "-j", "1",
                   "--metrics", "overlap").code == 0  # fmt: skip
    ran = cli("compare", cohort / "e1", cohort / "e3", "--names", "ours,theirs", "--margin", "dice=0.6")
    assert ran.code == 0
    assert "theirs − ours" in ran.out and "−0.500" in ran.out and "(±0.6)" in ran.out
    (cohort / "m3" / "c4.nii.gz").unlink()
    cli("evaluate", cohort / "m3", cohort / "r", "-o", cohort / "e3", "-q", "-j", "1", "--metrics", "overlap")
    ran = cli("compare", cohort / "e1", cohort / "e3")
    assert ran.code == 4 and "e3 lacks 1 (c4)" in ran.err
    ran = cli("compare", cohort / "e1", cohort / "e3", "--common", "-o", cohort / "out")
    assert ran.code == 0 and "e3 lacks 1 (c4)" in ran.out
    assert "e3 lacks 1 (c4)" in (cohort / "out" / "report.html").read_text(encoding="utf-8")


def test_masks_without_prediction_are_refused(cli, cohort):
    (cohort / "m3" / "c4.nii.gz").unlink()
    ran = cli("compare", cohort / "m1", cohort / "m3", "--reference", cohort / "r", "-j", "1")
    assert ran.code == 4 and "1 of 6 references have no prediction" in ran.err


def test_wrong_usage(cli, cohort):
    assert cli("compare", cohort / "m1").code == 2
    assert cli("compare").code == 2
    assert cli("compare", cohort / "m1", cohort / "m2", "--margin", "dice").code == 2
    ran = cli("compare", cohort / "m1", cohort / "m2")
    assert ran.code == 4 and "--reference" in ran.err
