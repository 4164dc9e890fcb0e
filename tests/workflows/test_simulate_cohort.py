"""Cohorts of simulated patients: the dataset, the same bytes from any number of processes, going on, full disks."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from uptake.core.anatomy import GROUPINGS, class_table
from uptake.core.errors import OutputError, UsageError
from uptake.io.find import find_cases
from uptake.io.image import read_image, read_labels
from uptake.io.read import read_case
from uptake.sampling.splits import folds_from_json
from uptake.simulation.label_noise import LabelNoise
from uptake.simulation.labels import ORGAN_IDS
from uptake.workflows import simulate_cohort as cohorts
from uptake.workflows.simulate_cohort import CohortSettings, simulate_cohort
from uptake.workflows.simulated import SimulationSettings

PLAIN = CohortSettings(SimulationSettings(spacing_mm=(12.0, 12.0, 12.0), n_lesions=3, doses=(0.05,)))
NOISY = replace(PLAIN, label_noise=LabelNoise(erosion=0.3, missing=0.2, swapped=0.2), keep_truth=True)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def simulated_once():
    """Simulate each patient once for this module: most tests are about what becomes of the files."""
    known, real = {}, cohorts.simulated

    def remembered(seed, settings, **options):
        if (seed, settings) not in known:
            known[seed, settings] = real(seed, settings, **options)
        return known[seed, settings]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohorts, "simulated", remembered)
        yield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two patients with wrong labels, and what was said of them."""
    out = tmp_path_factory.mktemp("cohort")
    return out, simulate_cohort(out, patients=2, seed=5, settings=NOISY, jobs=1)


def test_it_is_an_nnunet_dataset(cohort):
    out, result = cohort
    assert result.written == ("sim_00005", "sim_00006")
    assert result.failures == ()
    names = {path.relative_to(out).parts[0] for path in out.rglob("*") if path.is_file()}
    assert names == {
        "imagesTr", "imagesTr_dose_0.05", "labelsTr", "labelsTr_clean", "organsTr", "organsTr_clean", "truthTr",
        "cases", "dataset.json", "splits_final.json", "cohort.csv", "cohort.json", "organ_labels.json",
    }  # fmt: skip
    dataset = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
    assert dataset["channel_names"] == {"0": "CT", "1": "PET"}
    assert (dataset["numTraining"], dataset["labels"]) == (2, {"background": 0, "lesion": 1})
    assert "errors" in dataset["description"]
    first, _ = cases = find_cases(out)
    assert [case.id for case in cases] == list(result.written)
    case = read_case(first)
    assert case.warnings == ()
    assert case.ct is not None and case.ct.shape == case.pet.shape
    assert case.lesions is not None and set(np.unique(case.lesions.array)) <= {0, 1}
    splits = json.loads((out / "splits_final.json").read_text(encoding="utf-8"))
    folds = folds_from_json(splits, [case.id for case in cases])
    assert sorted(name for fold in folds for name in fold.validation) == [case.id for case in cases]


def test_the_table_holds_what_was_drawn(cohort):
    out, _ = cohort
    with (out / "cohort.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == ["sim_00005", "sim_00006"]
    assert list(rows[0])[:4] == ["case", "seed", "tracer", "radionuclide"]
    assert rows[0]["site_scanner"] == "mCT"
    assert float(rows[0]["liver_cov_0.05"]) > float(rows[0]["liver_cov_1"])
    assert int(rows[0]["wrong_organs"]) > 0
    record = json.loads((out / "cases" / "sim_00005.json").read_text(encoding="utf-8"))
    assert int(rows[0]["wrong_organs"]) == len(record["label_changes"]["organs"])
    assert "no such person exists" in record["notice"]


def test_labels_are_wrong_as_recorded_and_the_truth_is_kept(cohort):
    out, _ = cohort
    noisy, clean = (read_labels(out / f"organsTr{kind}" / "sim_00005.nii.gz")[0].array for kind in ("", "_clean"))
    record = json.loads((out / "cases" / "sim_00005.json").read_text(encoding="utf-8"))
    for change in record["label_changes"]["organs"]:
        assert (clean == change["label"]).sum() == change["voxels_before"]
        if change["kind"] == "missing":
            assert not (noisy == change["label"]).any()
        if change["kind"] == "swapped":
            # Whatever is painted later may cover a voxel or two.
            now = noisy[clean == change["label"]]
            assert (now == change["partner"]).mean() > 0.5
    assert {change["kind"] for change in record["label_changes"]["organs"]} <= {"erosion", "missing", "swapped"}
    lesions = read_labels(out / "labelsTr_clean" / "sim_00005.nii.gz")[0].array
    instances = read_labels(out / "truthTr" / "sim_00005" / "lesion_instances.nii.gz")[0].array
    np.testing.assert_array_equal(lesions > 0, instances > 0)


def test_the_endless_scan_lies_between_truth_and_scan(cohort):
    out, _ = cohort
    folder = out / "truthTr" / "sim_00006"
    ideal = read_image(folder / "noise_free.nii.gz")[0].array
    scanned = read_image(out / "imagesTr" / "sim_00006_0001.nii.gz")[0].array
    low = read_image(out / "imagesTr_dose_0.05" / "sim_00006_0001.nii.gz")[0].array
    liver = read_labels(out / "organsTr_clean" / "sim_00006.nii.gz")[0].array == ORGAN_IDS["liver"]
    assert np.std(scanned[liver] - ideal[liver]) < 0.5 * np.std(low[liver] - ideal[liver])
    assert ideal[liver].mean() == pytest.approx(scanned[liver].mean(), rel=0.05)


def test_organ_maps_serve_both_methods_by_name(cohort):
    out, _ = cohort
    names = {int(k): v for k, v in json.loads((out / "organ_labels.json").read_text(encoding="utf-8")).items()}
    organs = read_labels(out / "organsTr_clean" / "sim_00006.nii.gz")[0].array
    assert not (organs == ORGAN_IDS["heart_myocardium"]).any()
    for grouping in ("ldos", "lesiontracer"):
        classes = ("background", *GROUPINGS[grouping])
        found = set(np.unique(class_table(names, classes)[organs]))
        assert len(found) >= len(classes) - 2, grouping  # a prostate, and an organ that this patient may lack


def test_the_files_do_not_depend_on_the_number_of_processes(cohort, tmp_path):
    out, _ = cohort
    simulate_cohort(tmp_path / "two", patients=2, seed=5, settings=NOISY, jobs=2)
    assert content(tmp_path / "two") == content(out)


def test_finished_cases_are_kept_damaged_ones_made_again_and_more_added(tmp_path):
    told = []
    simulate_cohort(tmp_path, patients=1, seed=5, settings=PLAIN, jobs=1)
    before = content(tmp_path)
    (tmp_path / "labelsTr" / "sim_00005.nii.gz").write_bytes(b"bits have rotted")
    result = simulate_cohort(
        tmp_path, patients=2, seed=5, settings=PLAIN, jobs=1, on_patient=lambda *done: told.append(done)
    )
    assert result.written == ("sim_00005", "sim_00006")
    assert told == [(0, 2), (1, 2), (2, 2)]
    again = simulate_cohort(tmp_path, patients=2, seed=5, settings=PLAIN, jobs=1)
    assert again.kept == ("sim_00005", "sim_00006")
    after = content(tmp_path)
    assert {name: after[name] for name in before if "sim_00005" in name} == {
        name: data for name, data in before.items() if "sim_00005" in name
    }
    assert json.loads(after["dataset.json"])["numTraining"] == 2


def test_other_settings_are_refused_unless_the_cohort_is_to_be_replaced(tmp_path):
    simulate_cohort(tmp_path, patients=1, seed=5, settings=PLAIN, jobs=1)
    before = content(tmp_path)
    with pytest.raises(UsageError, match=r"other settings \(keep_truth, label_noise_erosion"):
        simulate_cohort(tmp_path, patients=1, seed=5, settings=NOISY, jobs=1)
    assert content(tmp_path) == before
    assert simulate_cohort(tmp_path, patients=1, seed=6, settings=NOISY, jobs=1, again=True).written == ("sim_00006",)
    # Nothing of the other settings is left among the images.
    assert not [name for name in content(tmp_path) if "sim_00005" in name]
    assert {case.id for case in find_cases(tmp_path)} == {"sim_00006"}


def test_a_folder_with_other_data_is_refused(tmp_path):
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "labelsTr" / "patient.nii.gz").write_bytes(b"years")
    with pytest.raises(OutputError, match="labelsTr that this command has not made"):
        simulate_cohort(tmp_path, patients=1, settings=PLAIN, jobs=1)
    assert [path.name for path in tmp_path.rglob("*")] == ["labelsTr", "patient.nii.gz"]


def test_one_failing_case_does_not_stop_the_others(tmp_path, monkeypatch):
    real = cohorts.simulated

    def breaks(seed, settings, **options):
        if seed == 5:
            raise ZeroDivisionError("of all things")
        return real(seed, settings, **options)

    monkeypatch.setattr(cohorts, "simulated", breaks)
    result = simulate_cohort(tmp_path, patients=2, seed=5, settings=PLAIN, jobs=1)
    assert result.written == ("sim_00006",)
    assert [(f.case, f.error, f.exit_code) for f in result.failures] == [("sim_00005", "ZeroDivisionError", 1)]
    assert "of all things" in (tmp_path / "failures.csv").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))["numTraining"] == 1
    monkeypatch.undo()
    assert simulate_cohort(tmp_path, patients=2, seed=5, settings=PLAIN, jobs=1).kept == ("sim_00006",)
    assert not (tmp_path / "failures.csv").exists()


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_is_finished(tmp_path, monkeypatch):
    real, written = cohorts.write_volume, []

    def full(volume, path):
        if "sim_00006" in path.name and "labelsTr" in path.parts:
            raise OutputError(f"{path}: cannot be written: the disk is full; free space or write elsewhere.")
        written.append(path)
        real(volume, path)

    monkeypatch.setattr(cohorts, "write_volume", full)
    with pytest.raises(OutputError, match=r"disk is full.* 1 of 3 cases are finished and kept") as caught:
        simulate_cohort(tmp_path, patients=3, seed=5, settings=PLAIN, jobs=1)
    assert caught.value.exit_code == 4
    assert not any("sim_00007" in path.name for path in written)  # nothing more was begun
    assert [path.stem for path in (tmp_path / "cases").iterdir()] == ["sim_00005"]
    assert json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))["numTraining"] == 1
    monkeypatch.undo()
    result = simulate_cohort(tmp_path, patients=2, seed=5, settings=PLAIN, jobs=1)
    assert (result.kept, result.written) == (("sim_00005",), ("sim_00006",))


@pytest.mark.parametrize(("patients", "seed"), [(0, 0), (1, -1)])
def test_numbers_that_make_no_cohort_are_refused(patients, seed, tmp_path):
    with pytest.raises(UsageError, match="1 patient or more"):
        simulate_cohort(tmp_path / "x", patients=patients, seed=seed)
    assert not (tmp_path / "x").exists()
