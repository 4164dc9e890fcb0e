"""A cohort of masks: pairs, labels, one process or many, going on after a stop."""

from __future__ import annotations

import json
import math
import os

import numpy as np
import pytest

from uptake.core.errors import InputError, OutputError, UptakeError, UsageError
from uptake.geometry import Volume
from uptake.io.write import write_volume
from uptake.workflows import processes
from uptake.workflows.evaluate import evaluate, evaluate_cohort
from uptake.workflows.evaluation_results import Groups, parse_bounds, read_groups, results_of
from uptake.workflows.label_table import LabelTable, find_labels
from uptake.workflows.pairing import find_pairs
from uptake.workflows.scoring import EvaluateSettings, score_volumes

QUICK = EvaluateSettings(metrics=("overlap", "components"))


def write(path, low=2, high=6, label=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((10, 4, 4), np.uint8)
    array[low:high] = label
    write_volume(Volume(array, np.diag([-4.0, 4, 5, 1])), path)
    return path


@pytest.fixture
def cohort(tmp_path):
    for n in range(5):
        write(tmp_path / "p" / f"c{n}.nii.gz", 1 + n % 3, 5)
        write(tmp_path / "r" / f"c{n}.nii.gz")
    return tmp_path


def plain(rows):
    """Return rows in which NaN equals itself."""
    return [{k: "nan" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]


def test_many_processes_give_what_one_gives_in_the_same_order(cohort):
    told = []
    one = evaluate_cohort(cohort / "p", cohort / "r", settings=QUICK)
    two = evaluate_cohort(
        cohort / "p", cohort / "r", settings=QUICK, jobs=2, on_case=lambda done, total: told.append((done, total))
    )
    assert [row["case"] for row in two.rows] == [f"c{n}" for n in range(5)]
    assert plain(one.rows) == plain(two.rows)
    assert told == [(n, 5) for n in range(6)]


def test_a_bad_case_in_another_process_is_an_outcome_and_the_only_case_an_error(cohort):
    (cohort / "p" / "c3.nii.gz").write_bytes(b"no image")
    found = evaluate_cohort(cohort / "p", cohort / "r", settings=QUICK, jobs=2)
    assert [f["case"] for f in found.failures] == ["c3"] and len(found.rows) == 4
    assert found.failures[0]["exit_code"] == 4 and "c3.nii.gz" in found.failures[0]["message"]
    with pytest.raises(InputError, match=r"c3\.nii\.gz"):
        evaluate_cohort(cohort / "p" / "c3.nii.gz", cohort / "r" / "c3.nii.gz")
    for n in (0, 1, 2, 4):
        (cohort / "p" / f"c{n}.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="4 more cases failed as well"):
        evaluate_cohort(cohort / "p", cohort / "r")


def test_a_stopped_run_goes_on_where_it_was(cohort, monkeypatch):
    def stop_after_two(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_cohort(cohort / "p", cohort / "r", settings=QUICK, out=cohort / "o", on_case=stop_after_two)
    assert {f.name for f in (cohort / "o" / "cases").iterdir()} == {"c0.json", "c1.json"}
    found = evaluate_cohort(cohort / "p", cohort / "r", settings=QUICK, out=cohort / "o")
    assert found.kept == 2 and len(found.rows) == 5
    fresh = evaluate_cohort(cohort / "p", cohort / "r", settings=QUICK)
    assert plain(found.rows) == plain(fresh.rows)
    assert [list(row) for row in found.rows] == [list(row) for row in fresh.rows], "the order of the columns is kept"


def test_rows_are_scored_anew_when_anything_they_depend_on_changed(cohort):
    def kept(**change):
        return evaluate_cohort(cohort / "p", cohort / "r", out=cohort / "o", **{"settings": QUICK, **change}).kept

    assert (kept(), kept()) == (0, 5)
    assert kept(again=True) == 0
    write(cohort / "p" / "c1.nii.gz", 3, 6)
    assert kept() == 4
    assert kept(settings=EvaluateSettings(metrics=("overlap",))) == 0
    assert kept(table=LabelTable({1: "node"})) == 0
    (cohort / "o" / "cases" / "c2.json").write_text("{")
    assert kept(table=LabelTable({1: "node"}), settings=EvaluateSettings(metrics=("overlap",))) == 0
    assert kept() == 0


def test_infinite_distances_survive_being_kept(cohort):
    write(cohort / "p" / "c0.nii.gz", 0, 0)
    settings = EvaluateSettings(metrics=("hd95_mm",), empty_distance="inf")
    for _ in range(2):
        found = evaluate_cohort(cohort / "p", cohort / "r", settings=settings, out=cohort / "o")
        assert found.rows[0]["hd95_mm"] == math.inf
    assert found.kept == 5


def test_a_file_in_the_way_of_the_kept_rows_is_refused(cohort):
    (cohort / "o").mkdir()
    (cohort / "o" / "cases").write_text("")
    with pytest.raises(OutputError, match="in the way"):
        evaluate_cohort(cohort / "p", cohort / "r", out=cohort / "o")


def test_python_refuses_a_missing_prediction_and_takes_jobs(cohort):
    assert len(evaluate(cohort / "p", str(cohort / "r"), metrics=["dice"], jobs=1)) == 5
    (cohort / "p" / "c4.nii.gz").unlink()
    with pytest.raises(InputError, match="1 of 5 references have no prediction, first 'c4'"):
        evaluate(cohort / "p", cohort / "r")
    with pytest.raises(UsageError, match="processes"):
        evaluate(cohort / "p", cohort / "r", jobs=0)
    with pytest.raises(UsageError, match="no score is called dise"):
        evaluate(cohort / "p", cohort / "r", metrics=["dise"])


def test_a_process_that_the_system_ends_is_told_plainly():
    with pytest.raises(UptakeError, match="fewer --jobs"):
        processes.run_in_processes(os._exit, [1, 1], 2, lambda done, total: None)


@pytest.mark.parametrize(("table", "expected"), [
    ({1: "lesion"}, {"lesion": 0.75}),
    ({(1, 2): "whole", 2: "core"}, {"whole": 0.875, "core": 1.0}),
])  # fmt: skip
def test_labels_and_regions(table, expected):
    reference, prediction = np.zeros((10, 2, 2), np.uint8), np.zeros((10, 2, 2), np.uint8)
    reference[0:4], reference[6:10] = 1, 2
    prediction[1:5], prediction[6:10] = 1, 2
    if 1 in table:
        reference[6:], prediction[6:] = 0, 0
    rows, notes = score_volumes(
        "c", "p", Volume(prediction, np.eye(4)), Volume(reference, np.eye(4)), table=LabelTable(table), settings=QUICK
    )
    assert {row["label"]: row["dice"] for row in rows} == pytest.approx(expected) and notes == ()


def test_ignored_voxels_count_for_nothing():
    reference, prediction = np.zeros((10, 1, 1), np.uint8), np.zeros((10, 1, 1), np.uint8)
    reference[0:4], reference[4:8], prediction[2:8] = 1, 9, 1
    table = LabelTable({1: "lesion"}, ignore=9)
    ((row,), _) = score_volumes(
        "c", "p", Volume(prediction, np.eye(4)), Volume(reference, np.eye(4)), table=table, settings=QUICK
    )
    assert [row[f"{kind}_voxels"] for kind in ("tp", "fp", "fn", "tn")] == [2, 0, 2, 2]


def test_pairs_by_name_and_what_has_no_partner(tmp_path):
    for case in "abc":
        write(tmp_path / "p" / f"{case}.nii.gz")
    for case in "bcd":
        write(tmp_path / "r" / f"{case}.nii.gz")
    found = find_pairs(tmp_path / "p", tmp_path / "r")
    assert [pair.case for pair in found.pairs] == ["b", "c"]
    assert (found.missing, found.extra) == (("d",), ("a",))
    for case in "bc":
        (tmp_path / "p" / f"{case}.nii.gz").unlink()
    with pytest.raises(InputError, match=r"no case has a mask in both\. Predictions: a; references: b, c, d"):
        find_pairs(tmp_path / "p", tmp_path / "r")


def test_folds_and_raw_datasets(tmp_path):
    for fold, case in enumerate("ab"):
        write(tmp_path / "res" / "Trainer" / f"fold_{fold}" / "held_out" / f"{case}.nii.gz")
        write(tmp_path / "raw" / "labelsTr" / f"{case}.nii.gz")
    write(tmp_path / "raw" / "labelsTs" / "z.nii.gz")
    for place in (tmp_path / "res", tmp_path / "res" / "Trainer"):
        found = find_pairs(place, tmp_path / "raw")
        assert [(pair.case, pair.fold) for pair in found.pairs] == [("a", "fold_0"), ("b", "fold_1")]
    found = find_pairs(tmp_path / "res" / "Trainer" / "fold_1", tmp_path / "raw")
    assert [pair.case for pair in found.pairs] == ["b"] and found.missing == ()
    assert "1 of 2 references belong to no fold found here (fold_1)" in found.notes[0]
    write(tmp_path / "res" / "Trainer" / "fold_1" / "held_out" / "a.nii.gz")
    with pytest.raises(InputError, match="case a was predicted by fold_0 and fold_1"):
        find_pairs(tmp_path / "res", tmp_path / "raw")
    write(tmp_path / "res" / "Other" / "fold_0" / "validation" / "a.nii.gz")
    with pytest.raises(InputError, match="2 trainers; give one: Other, Trainer"):
        find_pairs(tmp_path / "res", tmp_path / "raw")
    for case in "az":
        write(tmp_path / "both" / f"{case}.nii.gz")
    with pytest.raises(InputError, match="labelsTr and of labelsTs"):
        find_pairs(tmp_path / "both", tmp_path / "raw")


def test_two_masks_of_one_case_are_refused(tmp_path):
    write(tmp_path / "p" / "a.nii.gz")
    write(tmp_path / "p" / "a.mha")
    write(tmp_path / "r" / "a.nii.gz")
    with pytest.raises(InputError, match="two masks of one case"):
        find_pairs(tmp_path / "p", tmp_path / "r")


def test_pets_by_name_and_missing_ones(cohort):
    pets = cohort / "pets"
    for n in range(4):
        write(pets / f"c{n}.nii.gz")
    found = find_pairs(cohort / "p", cohort / "r", pet=pets)
    assert found.without_pet == ("c4",) and found.pairs[0].pet.pet == pets / "c0.nii.gz"
    taken = EvaluateSettings(metrics=("overlap",), assume_suv=True)
    result = evaluate_cohort(cohort / "p", cohort / "r", pet=pets, settings=taken)
    assert [f["error"] for f in result.failures] == ["MissingPet"] and len(result.rows) == 5
    assert results_of(result).agreement["lesion"]["mtv_ml", "absolute"].n == 4
    with pytest.raises(InputError, match="1 cases have no PET: c4"):
        evaluate_cohort(cohort / "p", cohort / "r", pet=pets, settings=QUICK, strict=True)
    with pytest.raises(UsageError, match="a folder of PETs"):
        find_pairs(cohort / "p", cohort / "r", pet=pets / "c0.nii.gz")


@pytest.mark.parametrize(("text", "names", "ignore"), [
    ('{"labels": {"background": 0, "liver": 1, "lesion": 2}}', {1: "liver", 2: "lesion"}, None),
    ('{"labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}}', {(1, 2): "whole", 2: "core"}, 3),
    ('{"0": "background", "1": "liver"}', {1: "liver"}, None),
])  # fmt: skip
def test_label_tables_of_files(tmp_path, text, names, ignore):
    file = tmp_path / "labels.json"
    file.write_text(text)
    found = find_labels(str(file), tmp_path, tmp_path)
    assert (dict(found.names), found.ignore) == (names, ignore)


def test_label_tables_of_csv_and_text(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("number,name\n0,background\n5,liver\n7,left kidney\n")
    assert find_labels(str(file), tmp_path, tmp_path).names == {5: "liver", 7: "left kidney"}
    assert find_labels("1=lesion, 2=lymph node", tmp_path, tmp_path).names == {1: "lesion", 2: "lymph node"}
    assert find_labels(None, tmp_path, tmp_path).names is None
    for text, words in (("{", "holds no table"), ('{"0": "background"}', "names no label"),
                        ('{"1": "a", "2": "a"}', "one name to several")):  # fmt: skip
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=words):
            find_labels(str(tmp_path / "bad.json"), tmp_path, tmp_path)


def test_contradicting_dataset_files_are_refused(tmp_path):
    for side, name in (("p", "liver"), ("r", "spleen")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "dataset.json").write_text(json.dumps({"labels": {"background": 0, name: 1}}))
    with pytest.raises(InputError, match="name different labels"):
        find_labels(None, tmp_path / "p", tmp_path / "r")
    (tmp_path / "r" / "dataset.json").unlink()
    assert find_labels(None, tmp_path / "p", tmp_path / "r").names == {1: "liver"}


def test_groups_of_a_table(tmp_path):
    file = tmp_path / "who.csv"
    patients = {f"c{n}": f"p{n // 2}" for n in range(30)}
    lines = [f"p{n},{'FDG' if n % 2 else 'PSMA'},{10 * n}" for n in range(15)]
    file.write_text("patient,tracer,dose\n" + "\n".join(lines))
    found = read_groups(file, patients)
    assert found.values["tracer"]["c2"] == found.values["tracer"]["c3"] == "FDG"
    # Fifteen doses become thirds of five patients.
    levels = list(found.values["dose"].values())
    assert sorted({level: levels.count(level) for level in levels}.values()) == [10, 10, 10]
    file.write_text("case,tracer\nc0,FDG\nc0,PSMA\n")
    with pytest.raises(InputError, match="two lines about case 'c0' that differ"):
        read_groups(file, patients)
    file.write_text("case,tracer\nz,FDG\n")
    with pytest.raises(InputError, match="names none of the cases"):
        read_groups(file, patients)
    with pytest.raises(InputError, match="cannot be read"):
        read_groups(tmp_path / "nowhere.csv", patients)


def test_a_group_named_like_a_score_is_refused(cohort):
    found = evaluate_cohort(cohort / "p", cohort / "r", settings=QUICK)
    with pytest.raises(InputError, match="column 'dice', which is that of a score"):
        results_of(found, groups=Groups({"dice": {"c0": "x"}}))


def test_volume_bounds():
    assert parse_bounds("10,100") == (10.0, 100.0) and parse_bounds("") == ()
    for text in ("a", "0,5", "5,5", "9,3"):
        with pytest.raises(UsageError, match="volume classes"):
            parse_bounds(text)
