"""`uptake evaluate` and `uptake quantify`: scores and numbers of masks that are there already."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from uptake.geometry import Volume
from uptake.io.write import write_volume

FILES = {
    "cases", "pictures", "report.html", "scores.csv", "scores_long.csv", "subgroups.csv", "summary.csv", "summary.json",
    "table.md", "table.tex",
}  # fmt: skip


@pytest.fixture
def real_charts():
    """For the tests that want them drawn."""


@pytest.fixture(autouse=True)
def plain_charts(request, monkeypatch):
    """Put one small picture in the place of every chart; tests of tables need none."""
    if "real_charts" in request.fixturenames:
        return
    from uptake.workflows import evaluation_outputs

    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63680000000082008177cd72b6"
        "0000000049454e44ae426082"
    )
    for name in ("score_dots", "subgroup_dots", "bland_altman"):
        monkeypatch.setattr(evaluation_outputs, name, lambda *_, **__: png)


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


def test_two_files(cli, masks, tmp_path, real_charts):
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
    assert {f.name for f in (tmp_path / "out").iterdir()} == FILES


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
    dice = summary["uptake"]["scores"]["lesion"]["dice"]
    assert dice["mean"] == pytest.approx(0.5)
    assert dice["low"] <= 0.5 <= dice["high"]
    assert summary["foreground_mean"]["Dice"] == pytest.approx(0.5)
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


def test_cases_without_partner_are_listed_with_exit_3_and_refused_with_strict(cli, masks, tmp_path):
    for case in "ax":
        masks(tmp_path / "p" / f"{case}.nii.gz", 2, 6)
    for case in "abc":
        masks(tmp_path / "r" / f"{case}.nii.gz", 4, 8)
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "strict", "--strict")
    assert ran.code == 4
    assert "2 of 3 references have no prediction, first 'b'" in ran.err
    assert list((tmp_path / "strict").iterdir()) == []
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out")
    assert ran.code == 3
    assert "3 cases were not scored" in ran.err
    failures = table(tmp_path / "out" / "failures.csv")
    assert [(row["case"], row["error"]) for row in failures] == [
        ("b", "MissingPrediction"), ("c", "MissingPrediction"), ("x", "MissingReference"),
    ]  # fmt: skip
    assert [row["case"] for row in table(tmp_path / "out" / "scores.csv")] == ["a"]
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "2 of 3 references have no prediction and are in no mean below" in report
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["uptake"]["missing"] == ["b", "c"] and summary["uptake"]["extra"] == ["x"]
    for case in "bc":
        masks(tmp_path / "p" / f"{case}.nii.gz", 2, 6)
    assert cli("evaluate", tmp_path / "p", tmp_path / "r", "--strict").code == 4
    (tmp_path / "p" / "x.nii.gz").unlink()
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out", "--strict")
    assert (ran.code, ran.err) == (0, "")
    assert not (tmp_path / "out" / "failures.csv").exists()
    assert "1 cases were scored by an earlier run" in ran.out


def test_a_mask_on_another_grid_is_refused_with_both_files_and_the_distance(cli, masks, tmp_path, turned):
    moved = turned.copy()
    moved[:3, 3] += [0, 0, 7]
    prediction, reference = masks(tmp_path / "p.nii.gz", 2, 6, moved), masks(tmp_path / "r.nii.gz", 4, 8)
    ran = cli("evaluate", prediction, reference, "-o", tmp_path / "out")
    assert ran.code == 4
    assert str(prediction) in ran.err
    assert str(reference) in ran.err
    assert "7.0" in ran.err
    # Both grids, by the first voxel, which is what differs.
    assert "first voxel at (90.0, -80.0, -900.0) mm RAS" in ran.err
    assert "first voxel at (90.0, -80.0, -893.0) mm RAS" in ran.err
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


def test_resampling_is_on_request_and_on_record(cli, masks, tmp_path, turned):
    fine = turned @ np.diag([0.5, 1, 1, 1])
    fine[:3, 3] -= 0.25 * turned[:3, 0]  # the same outer edge
    prediction = masks(tmp_path / "p.nii.gz", 4, 12, fine, (20, 4, 4))
    reference = masks(tmp_path / "r.nii.gz", 4, 8)
    ran = cli("evaluate", prediction, reference)
    assert ran.code == 4
    assert "20 x 4 x 4 voxels of 4 x 8 x 8 mm" in ran.err and "10 x 4 x 4 voxels of 8 x 8 x 8 mm" in ran.err
    assert "--resample" in ran.err
    ran = cli("evaluate", prediction, reference, "--resample", "-o", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    (row,) = table(tmp_path / "out" / "scores.csv")
    # Voxels 2 to 5 of the coarse grid against 4 to 7: the example of the first test.
    assert float(row["dice"]) == pytest.approx(0.5)
    assert row["resampled"].startswith("nearest neighbour, from 20 x 4 x 4 voxels of 4 x 8 x 8 mm")
    assert "the prediction was resampled" in ran.out
    assert "the prediction was resampled" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_masks_of_two_patients_under_one_name_are_refused_even_with_resampling(cli, masks, tmp_path, turned):
    moved = turned.copy()
    moved[:3, 3] += 5000
    masks(tmp_path / "p" / "a.nii.gz", 2, 6, moved)
    masks(tmp_path / "r" / "a.nii.gz", 2, 6)
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "--resample")
    assert ran.code == 4
    assert "do not meet in space: masks of two patients under one name" in ran.err


def test_masks_without_a_common_voxel_are_pointed_out(cli, masks, tmp_path):
    prediction, reference = masks(tmp_path / "p.nii.gz", 0, 2), masks(tmp_path / "r.nii.gz", 7, 9)
    ran = cli("evaluate", prediction, reference)
    assert ran.code == 0
    assert "no voxel in common; check that both are of one patient" in ran.out


def test_one_bad_case_does_not_stop_the_others(cli, masks, tmp_path, turned):
    for case in "abc":
        masks(tmp_path / "p" / f"{case}.nii.gz", 2, 6)
        masks(tmp_path / "r" / f"{case}.nii.gz", 4, 8)
    broken = np.zeros((10, 4, 4), np.float32)
    broken[0, 0, 0] = np.nan
    write_volume(Volume(broken, turned), tmp_path / "p" / "a.nii.gz")
    write_volume(Volume(np.full_like(broken, 0.3), turned), tmp_path / "p" / "b.nii.gz")
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out", "-j", "1")
    assert ran.code == 3
    failures = {row["case"]: row for row in table(tmp_path / "out" / "failures.csv")}
    assert "NaN or infinite" in failures["a"]["message"] and "fractions" in failures["b"]["message"]
    assert {row["exit_code"] for row in failures.values()} == {"4"}
    assert [row["case"] for row in table(tmp_path / "out" / "scores.csv")] == ["c"]
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "--strict", "-j", "1")
    assert ran.code == 4 and "NaN or infinite" in ran.err


def test_floats_that_are_whole_numbers_are_a_mask(cli, masks, tmp_path, turned):
    array = np.zeros((10, 4, 4), np.float32)
    array[4:8] = 1.0
    write_volume(Volume(array, turned), tmp_path / "p.nii.gz")
    ran = cli("evaluate", tmp_path / "p.nii.gz", masks(tmp_path / "r.nii.gz", 4, 8))
    assert ran.code == 0 and "1.00" in ran.out


@pytest.fixture
def labelled(tmp_path, turned):
    """Two cases of labels 1 and 2, predicted like the reference."""
    array = np.zeros((10, 4, 4), np.uint8)
    array[2:4], array[6:9] = 1, 2
    for side in "pr":
        (tmp_path / side).mkdir()
        for case in "ab":
            write_volume(Volume(array, turned), tmp_path / side / f"{case}.nii.gz")
    return tmp_path


def test_labels_by_name_from_the_command_and_from_dataset_json(cli, labelled):
    ran = cli("evaluate", labelled / "p", labelled / "r", "--labels", "1=liver,2=lesion", "-o", labelled / "a")
    assert ran.code == 0
    rows = table(labelled / "a" / "scores.csv")
    assert [(row["case"], row["label"]) for row in rows] == [(c, n) for c in "ab" for n in ("liver", "lesion")]
    dataset = {"labels": {"background": 0, "spleen": 1, "lesion": 2}}
    (labelled / "r" / "dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    assert cli("evaluate", labelled / "p", labelled / "r", "-o", labelled / "b").code == 0
    assert {row["label"] for row in table(labelled / "b" / "scores.csv")} == {"spleen", "lesion"}
    report = (labelled / "b" / "report.html").read_text(encoding="utf-8")
    assert "dataset.json" in report


def test_a_label_outside_the_table_is_refused(cli, labelled):
    ran = cli("evaluate", labelled / "p", labelled / "r", "--labels", "1=liver")
    assert ran.code == 4 and "labels [2] that the table of labels does not name" in ran.err
    ran = cli("evaluate", labelled / "p", labelled / "r", "--labels", "liver")
    assert ran.code == 2 and "no table of labels" in ran.err


def test_every_rule_for_the_empty_is_reported(cli, masks, tmp_path):
    for case, predicted, referred in (("a", (2, 6), (2, 6)), ("b", (0, 0), (0, 0)), ("c", (2, 6), (0, 0))):
        masks(tmp_path / "p" / f"{case}.nii.gz", *predicted)
        masks(tmp_path / "r" / f"{case}.nii.gz", *referred)
    assert cli("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out", "-j", "1").code == 0
    rows = [row for row in table(tmp_path / "out" / "summary.csv") if row["metric"] == "dice"]
    found = {row["rule"]: (float(row["mean"]), int(row["n"]), int(row["undefined"])) for row in rows}
    # Case b: right, and 1 by "one"; case c: 0 by "one" and "zero". By "nan" neither counts.
    assert found == {"nan": (1.0, 1, 2), "one": (2 / 3, 3, 0), "zero": (0.5, 2, 1)}
    assert "| one |" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["foreground_mean"]["Dice"] == 0.5  # nnU-Net's rule, whatever ours is
    assert summary["uptake"]["other_rules"]["lesion"]["one"]["dice"]["mean"] == pytest.approx(2 / 3)


def test_a_pet_adds_suv_numbers_and_their_agreement(cli, make_study, tmp_path, tiny_arrays):
    for n, case in enumerate("abc"):
        make_study(tmp_path / "studies" / case, roles=("pet", "lesion"))
        shrunk = tiny_arrays["lesion"].copy()
        shrunk[8 + n] = 0
        make_study(tmp_path / "p" / case, roles=("lesion",), lesion=shrunk)
    ran = cli("evaluate", tmp_path / "p", tmp_path / "studies", "--pet", tmp_path / "studies", "-o", tmp_path / "out",
              "-j", "1")  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    rows = table(tmp_path / "out" / "scores.csv")
    hot = tiny_arrays["pet"][tiny_arrays["lesion"] > 0]
    assert float(rows[0]["reference_tlg_g"]) == pytest.approx(float(hot.sum()) * 0.512, rel=1e-3)
    assert float(rows[0]["reference_suv_max"]) == pytest.approx(float(hot.max()), rel=1e-3)
    found = {(row["quantity"], row["scale"]): row for row in table(tmp_path / "out" / "agreement.csv")}
    apart = [float(row["prediction_mtv_ml"]) - float(row["reference_mtv_ml"]) for row in rows]
    assert float(found["mtv_ml", "absolute"]["bias"]) == pytest.approx(np.mean(apart)) and np.mean(apart) < 0
    assert (tmp_path / "out" / "pictures" / "agreement_tlg_g_lesion.png").is_file()
    (tmp_path / "studies" / "b" / "pet.nii.gz").rename(tmp_path / "b_pet.nii.gz")
    ran = cli("evaluate", tmp_path / "p", tmp_path / "studies", "--pet", tmp_path / "studies", "-j", "1")
    assert ran.code == 3 and "'b'" not in ran.err and "b" in ran.err


def test_subgroups_of_a_table(cli, masks, tmp_path):
    for n, case in enumerate("abcd"):
        masks(tmp_path / "p" / f"{case}.nii.gz", 2 + n, 6 + n)
        masks(tmp_path / "r" / f"{case}.nii.gz", 4, 8)
    sheet = tmp_path / "who.csv"
    sheet.write_text("case,patient,tracer\na,one,FDG\nb,one,PSMA\nc,two,FDG\nz,three,FDG\n", encoding="utf-8")
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "-o", tmp_path / "out", "--subgroups", sheet, "-j", "1")
    assert ran.code == 0
    rows = [row for row in table(tmp_path / "out" / "subgroups.csv") if row["metric"] == "dice"]
    found = {(row["column"], row["level"]): (int(row["n"]), float(row["mean"])) for row in rows}
    assert found["tracer", "FDG"] == (2, pytest.approx(0.75)) and found["tracer", "not stated"][0] == 1
    assert found["tracer", "PSMA"] == (1, pytest.approx(0.75))
    assert sum(n for (column, _), (n, _) in found.items() if column == "reference volume") == 4
    assert {row["patient"] for row in table(tmp_path / "out" / "scores.csv")} == {"one", "two", "d"}
    assert "who.csv says nothing about 1 of 4 cases" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    sheet.write_text("who,tracer\na,FDG\n", encoding="utf-8")
    ran = cli("evaluate", tmp_path / "p", tmp_path / "r", "--subgroups", sheet, "-j", "1")
    assert ran.code == 4 and "column 'case' or 'patient'" in ran.err


def test_an_nnunet_results_folder(cli, masks, tmp_path):
    for fold, cases in enumerate(("ab", "cd")):
        for case in cases:
            masks(tmp_path / "Trainer" / f"fold_{fold}" / "validation" / f"{case}.nii.gz", 2, 6)
    for case in "abcdef":
        masks(tmp_path / "Dataset501_X" / "labelsTr" / f"{case}.nii.gz", 4, 8)
    (tmp_path / "Dataset501_X" / "dataset.json").write_text('{"labels": {"background": 0, "tumour": 1}}')
    ran = cli("evaluate", tmp_path / "Trainer", tmp_path / "Dataset501_X", "-o", tmp_path / "out", "-j", "1")
    assert (ran.code, ran.err) == (0, "")
    rows = table(tmp_path / "out" / "scores.csv")
    assert [(row["case"], row["fold"], row["label"]) for row in rows] == [
        ("a", "fold_0", "tumour"), ("b", "fold_0", "tumour"), ("c", "fold_1", "tumour"), ("d", "fold_1", "tumour"),
    ]  # fmt: skip
    assert "2 of 6 references belong to no fold found here (fold_0, fold_1)" in ran.out


def test_rules_and_settings_that_do_not_exist_are_refused_before_a_file_is_read(cli, tmp_path):
    for option in (("--metrics", "dise"), ("--min-iou", "2"), ("--volume-bounds", "5,1"), ("--confidence", "95"),
                   ("--connectivity", "7"), ("--jobs", "0")):  # fmt: skip
        ran = cli("evaluate", tmp_path, tmp_path, *option)
        assert ran.code == 2, option
