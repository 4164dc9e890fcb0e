"""`uptake evaluate` and `uptake quantify`: scores and numbers of masks that are there already."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from uptake.geometry import Volume
from uptake.io.write import write_volume


@pytest.fixture
def masks(tmp_path, turned):
    """Return a function that writes a mask of voxels ``low`` to ``high`` along the first axis."""

    def write(path, low, high, affine=turned, shape=(10, 4, 4)):
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.zeros(shape, np.uint8)
        array[low:high] = 1
        write_volume(Volume(array, affine), path)
        return path

    return write


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_two_files(cli, masks, tmp_path):
    # 4 planes predicted, 4 true, 2 in common: Dice 2*2/(4+4), IoU 2/6; a plane is 16 voxels of 0.512 mL.
    prediction, reference = masks(tmp_path / "p.nii.gz", 2, 6), masks(tmp_path / "r.nii.gz", 4, 8)
    ran = cli("evaluate", prediction, reference, "-o", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    (row,) = table(tmp_path / "out" / "scores.csv")
    assert row["case"] == "r"
    assert float(row["dice"]) == pytest.approx(0.5)
    assert float(row["iou"]) == pytest.approx(1 / 3)
    assert float(row["reference_ml"]) == pytest.approx(4 * 16 * 0.512)
    assert float(row["volume_error_ml"]) == pytest.approx(0.0)
    assert "0.50" in ran.out
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"scores.csv", "summary.json"}


def test_without_an_output_folder_nothing_is_written(cli, masks, tmp_path, monkeypatch):
    prediction, reference = masks(tmp_path / "p.nii.gz", 2, 6), masks(tmp_path / "r.nii.gz", 4, 8)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert cli("evaluate", prediction, reference).code == 0
    assert list((tmp_path / "here").iterdir()) == []


def test_two_folders_with_the_summary(cli, masks, tmp_path):
    for number, (low, high) in enumerate([(2, 6), (4, 8), (0, 4)]):
        masks(tmp_path / "p" / f"c{number}.nii.gz", low, high)
        masks(tmp_path / "r" / f"c{number}.nii.gz", 4, 8)
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out")
    assert ran.code == 0
    rows = table(tmp_path / "out" / "scores.csv")
    assert [float(row["dice"]) for row in rows] == [0.5, 1.0, 0.0]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    (dice,) = (metrics["dice"] for metrics in summary.values())
    assert dice["mean"] == pytest.approx(0.5)
    assert dice["low"] <= 0.5 <= dice["high"]
    assert "mean Dice 0.5000" in ran.out
    assert "3 cases" in ran.out


def test_result_folders_are_matched_with_study_folders(cli, masks, tmp_path):
    for case in ("a", "b"):
        masks(tmp_path / "out" / case / "lesions.nii.gz", 2, 6)
        masks(tmp_path / "studies" / case / "lesion.nii.gz", 4, 8)
    (tmp_path / "out" / "failures.csv").write_text("case\n", encoding="utf-8")
    ran = cli("evaluate", tmp_path / "out", tmp_path / "studies")
    assert ran.code == 0
    assert "2 cases" in ran.out


def test_a_reference_without_prediction_is_never_skipped(cli, masks, tmp_path):
    masks(tmp_path / "p" / "a.nii.gz", 2, 6)
    for case in "abc":
        masks(tmp_path / "r" / f"{case}.nii.gz", 4, 8)
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out")
    assert ran.code == 4
    assert "2 of 3 references have no prediction, first 'b'" in ran.err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_mask_on_another_grid_is_refused_with_both_files_and_the_distance(cli, masks, tmp_path, turned):
    moved = turned.copy()
    moved[:3, 3] += [0, 0, 7]
    prediction, reference = masks(tmp_path / "p.nii.gz", 2, 6, moved), masks(tmp_path / "r.nii.gz", 4, 8)
    ran = cli("evaluate", prediction, reference, "-o", tmp_path / "out")
    assert ran.code == 4
    assert str(prediction) in ran.err
    assert str(reference) in ran.err
    assert "7.0" in ran.err
    assert list((tmp_path / "out").iterdir()) == []
    other = masks(tmp_path / "s.nii.gz", 2, 6, turned, (10, 4, 5))
    ran = cli("evaluate", other, reference)
    assert ran.code == 4
    assert "(10, 4, 5)" in ran.err


def test_an_image_instead_of_a_mask_is_refused(cli, make_study, tmp_path):
    study = make_study(tmp_path / "s")
    ran = cli("evaluate", study / "pet.nii.gz", study / "lesion.nii.gz")
    assert ran.code == 4
    assert str(study / "pet.nii.gz") in ran.err
    assert "Give the mask" in ran.err


def test_what_is_not_there_or_does_not_match_is_refused(cli, masks, tmp_path):
    reference = masks(tmp_path / "r" / "a.nii.gz", 4, 8)
    assert cli("evaluate", tmp_path / "nowhere.nii.gz", reference).code == 4
    assert cli("evaluate", reference, tmp_path / "r").code == 2
    (tmp_path / "empty").mkdir()
    ran = cli("evaluate", tmp_path / "r", tmp_path / "empty")
    assert ran.code == 4
    assert "holds no mask" in ran.err


def test_a_lesion_free_reference_has_no_dice_or_one(cli, masks, tmp_path):
    prediction, reference = masks(tmp_path / "p.nii.gz", 0, 0), masks(tmp_path / "r.nii.gz", 0, 0)
    assert cli("evaluate", prediction, reference, "-o", tmp_path / "a").code == 0
    assert table(tmp_path / "a" / "scores.csv")[0]["dice"] == ""
    assert cli("evaluate", prediction, reference, "-o", tmp_path / "b", "--empty", "one").code == 0
    assert float(table(tmp_path / "b" / "scores.csv")[0]["dice"]) == 1.0


def test_quantify_writes_what_segment_writes_without_a_model(cli, make_study, tmp_path, tiny_arrays):
    study = make_study(tmp_path / "patient_7")
    ran = cli("quantify", study, study / "lesion.nii.gz", "-o", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    folder = tmp_path / "out" / "patient_7"
    assert {f.name for f in folder.iterdir()} == {
        "lesions.nii.gz",
        "lesions.csv",
        "lesions.json",
        "mip.png",
        "report.html",
        "run.json",
    }
    assert str(folder / "report.html") in ran.out
    assert "total: MTV" in ran.out
    rows = table(folder / "lesions.csv")
    assert len(rows) == 2
    hot = tiny_arrays["pet"][tiny_arrays["lesion"] > 0]
    assert max(float(row["suv_max"]) for row in rows) == pytest.approx(float(hot.max()), rel=1e-3)
    assert sum(float(row["tlg_g"]) for row in rows) == pytest.approx(float(hot.sum()) * 0.512, rel=1e-3)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert run["bundle"] is None
    assert {source["role"] for source in run["inputs"]} == {"pet", "ct", "lesions"}


def test_quantify_takes_files_and_an_mtv_rule(cli, make_study, tmp_path, plain_pictures):
    study = make_study(tmp_path / "patient_7")
    files = (study / "pet.nii.gz", study / "lesion.nii.gz")
    assert cli("quantify", *files, "-o", tmp_path / "a", "--mtv", "41%").code == 0
    (folder,) = (tmp_path / "a").iterdir()
    assert float(table(folder / "lesions.csv")[0]["mtv_ml"]) > 0
    ran = cli("quantify", *files, "-o", tmp_path / "b", "--mtv", "a lot")
    assert ran.code == 2
    assert "no MTV rule" in ran.err
    assert list((tmp_path / "b").iterdir()) == []


def test_quantify_of_an_empty_mask_is_a_result(cli, make_study, tmp_path, tiny_arrays, plain_pictures):
    study = make_study(tmp_path / "patient_7", lesion=np.zeros_like(tiny_arrays["lesion"]))
    ran = cli("quantify", study, study / "lesion.nii.gz", "-o", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    assert "The mask is empty" in ran.out
    assert table(tmp_path / "out" / "patient_7" / "lesions.csv") == []


def test_quantify_refuses_a_mask_on_another_grid(cli, make_study, masks, tmp_path, plain_pictures):
    study = make_study(tmp_path / "patient_7")
    mask = masks(tmp_path / "m.nii.gz", 2, 6)
    ran = cli("quantify", study / "pet.nii.gz", mask, "-o", tmp_path / "out")
    assert ran.code == 4
    assert str(mask) in ran.err
    assert "Resample" in ran.err
    assert list((tmp_path / "out").iterdir()) == []


def test_references_are_found_as_studies_of_any_nesting(cli, make_study, tmp_path):
    import shutil

    make_study(tmp_path / "cohort" / "site" / "p7")
    predicted = tmp_path / "results" / "site_p7"
    predicted.mkdir(parents=True)
    shutil.copy(tmp_path / "cohort" / "site" / "p7" / "lesion.nii.gz", predicted / "lesions.nii.gz")
    outcome = cli("evaluate", tmp_path / "results", tmp_path / "cohort")
    assert outcome.code == 0, outcome
    assert "site_p7" in outcome.out and "1.00" in outcome.out
