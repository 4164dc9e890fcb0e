import csv
import json

import numpy as np
import pytest

import uptake
from uptake.cases import Case
from uptake.cli.quantify import place_of
from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry import Volume, reorient
from uptake.io.write import write_json, write_volume
from uptake.workflows.organ_map import read_organ_map
from uptake.workflows.patient import PatientFacts, patient_of
from uptake.workflows.quantify import quantify_to

GRID = np.diag([4.0, 4, 4, 1])
NAMES = {"1": "liver", "2": "spleen"}


@pytest.fixture
def scan(tmp_path):
    """A folder with pet, mask and organ map of 4 mm voxels: liver of 2 SUV, a hot lesion in the spleen."""
    shape = (60, 40, 40)
    i, j, k = np.indices(shape)
    organs = np.zeros(shape, np.uint8)
    organs[(i - 38) ** 2 / 16**2 + (j - 20) ** 2 / 13**2 + (k - 20) ** 2 / 14**2 <= 1] = 1
    organs[(i - 10) ** 2 + (j - 14) ** 2 + (k - 20) ** 2 <= 36] = 2
    pet = np.choose(organs, (0.5, 2.0, 3.0)).astype(np.float32)
    lesions = np.zeros(shape, np.uint8)
    lesions[9:12, 13:16, 19:22] = 1
    pet[lesions == 1] = 7.0
    for name, array in (("pet", pet), ("mask", lesions), ("organs", organs)):
        write_volume(Volume(array, GRID), tmp_path / f"{name}.nii.gz")
    return tmp_path


def measured(scan, **options):
    options.setdefault("organ_labels", "1=liver,2=spleen")
    _, folder = quantify_to(
        scan / "pet.nii.gz", scan / "mask.nii.gz", scan / "out", organs=scan / "organs.nii.gz", gate=False, **options
    )
    return folder


def rows_of(path):
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_organs_and_lesions_in_one_table(scan, plain_pictures):
    folder = measured(scan, facts=PatientFacts("fluorodeoxyglucose", 80.0, 1.80, "M"))
    (lesion,) = rows_of(folder / "lesions.csv")
    assert (lesion["organ"], lesion["organ_relation"], lesion["deauville"]) == ("spleen", "in", "5")
    assert [(row["kind"], row["name"]) for row in rows_of(folder / "measurements.csv")] == [
        ("reference", "liver"), ("organ", "liver"), ("organ", "spleen"), ("lesion", "1"),
    ]  # fmt: skip
    assert [row["organ"] for row in rows_of(folder / "organs.csv")] == ["liver", "spleen"]
    assessment = json.loads((folder / "lesions.json").read_text())["assessment"]
    # Janmahasatian: 9270 x 80 / (6680 + 216 x 24.69) = 61.73 kg; Du Bois: 0.007184 x 80^0.425 x 180^0.725 = 1.996 m².
    assert assessment["patient"] == {"tracer": "FDG", "sul_factor": pytest.approx(61.731 / 80, abs=1e-4),
                                     "body_surface_m2": pytest.approx(1.9964, abs=2e-3)}  # fmt: skip
    assert assessment["percist"]["threshold"] == pytest.approx(3.0 * assessment["patient"]["sul_factor"], abs=1e-3)
    assert assessment["percist"]["unit"] == "SUL" and assessment["percist"]["measurable"] == 1
    run = json.loads((folder / "run.json").read_text())
    assert [source["role"] for source in run["inputs"]] == ["lesions", "organs", "pet"]
    assert run["settings"]["tracer"] == "fluorodeoxyglucose" and run["settings"]["organ_labels"] == "1=liver,2=spleen"
    page = (folder / "report.html").read_text()
    assert "Against healthy tissue" in page and "measurable from SULpeak" in page


def test_without_the_tracer_the_criteria_say_why(scan, plain_pictures):
    folder = measured(scan)
    assessment = json.loads((folder / "lesions.json").read_text())["assessment"]
    assert assessment["percist"]["assessed"] is False and "--tracer FDG" in assessment["percist"]["reason"]
    page = (folder / "report.html").read_text()
    assert "the tracer is not known" in page and "five-point</small>" not in page
    psma = measured(scan, facts=PatientFacts("PSMA-1007"))
    assert "the tracer is PSMA-1007" in (psma / "report.html").read_text()


def test_without_an_organ_map_nothing_is_added_to_the_report(scan, plain_pictures):
    _, folder = quantify_to(scan / "pet.nii.gz", scan / "mask.nii.gz", scan / "out", gate=False)
    assert "Against healthy tissue" not in (folder / "report.html").read_text()
    assert not (folder / "organs.csv").exists() and not (folder / "measurements.csv").exists()
    assert rows_of(folder / "lesions.csv")[0]["organ"] == ""


def test_the_command_prints_references_and_scores(scan, cli, plain_pictures):
    write_json(NAMES, scan / "organ_labels.json")
    done = cli(
        "quantify", scan / "pet.nii.gz", scan / "mask.nii.gz", "--organs", scan / "organs.nii.gz", "--tracer", "FDG",
        "--no-gate", "-o", scan / "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    heading, _, first = (line.split() for line in done.out.splitlines()[:3])
    assert heading[-2:] == ["where", "score"] and first[-2:] == ["spleen", "5"]
    assert "liver: SUVmean 2.00, SD 0.00 (sphere 30 mm" in done.out
    assert "blood pool: no reference, the organ map has no aorta" in done.out
    assert "PERCIST: 1 measurable from SUVpeak 3.00" in done.out and "Five-point score: 5" in done.out
    assert "stands in for SUL" in done.out.replace("\n", " ")


@pytest.mark.parametrize(
    ("organ", "relation", "distance", "said"),
    [
        ("urinary_bladder", "in", 0.0, "urinary bladder"),
        ("liver", "touches", 0.0, "touches liver"),
        ("aorta", "near", 6.4, "6 mm from aorta"),
        (None, None, None, None),
    ],
)
def test_only_an_organ_that_holds_a_lesion_is_where_it_lies(organ, relation, distance, said):
    assert place_of({"organ": organ, "organ_relation": relation, "organ_distance_mm": distance}) == said


def test_a_map_in_another_orientation_is_turned(scan):
    pet = Volume(np.zeros((60, 40, 40), np.float32), GRID)
    organs = uptake.read(scan / "organs.nii.gz", assume_suv=True).pet
    write_volume(reorient(organs, "LPS").with_array(reorient(organs, "LPS").array.astype(np.uint8)), scan / "t.nii.gz")
    found = read_organ_map(scan / "t.nii.gz", pet, labels="total")
    assert np.array_equal(found.labels.array, organs.array) and found.names[5] == "liver" and not found.warnings


def test_a_map_on_another_grid_is_refused_or_resampled_on_record(scan):
    pet = Volume(np.zeros((60, 40, 40), np.float32), GRID)
    fine = np.diag([2.0, 2, 2, 1])
    fine[:3, 3] = -1.0
    array = np.repeat(np.repeat(np.repeat(np.arange(60) > 29, 2)[:, None, None], 80, 1), 80, 2)
    write_volume(Volume(array.astype(np.uint8), fine), scan / "ct_organs.nii.gz")
    with pytest.raises(GeometryError, match="--resample-organs"):
        read_organ_map(scan / "ct_organs.nii.gz", pet, labels="1=liver")
    found = read_organ_map(scan / "ct_organs.nii.gz", pet, labels="1=liver", resample=True)
    assert np.array_equal(found.labels.array[:, 20, 20] == 1, np.arange(60) > 29)
    assert "nearest neighbour" in found.warnings[0]
    away = fine.copy()
    away[:3, 3] = 5000.0
    write_volume(Volume(array.astype(np.uint8), away), scan / "far.nii.gz")
    with pytest.raises(GeometryError, match="do not meet"):
        read_organ_map(scan / "far.nii.gz", pet, labels="1=liver", resample=True)


def test_names_come_from_the_option_else_from_beside_the_map(scan):
    pet = Volume(np.zeros((60, 40, 40), np.float32), GRID)
    path = scan / "organs.nii.gz"
    with pytest.raises(UsageError, match="nobody says what its labels mean"):
        read_organ_map(path, pet)
    assert read_organ_map(path, pet, labels="autopet").names[3] == "liver"
    write_json({"labels": {"background": 0, "spleen": 1, "liver": 2}}, scan / "dataset.json")
    assert read_organ_map(path, pet).names == {1: "spleen", 2: "liver"}
    write_json(NAMES, scan / "organ_labels.json")
    assert read_organ_map(path, pet).names == {1: "liver", 2: "spleen"}
    write_json({"labels": {"background": 0, "all": [1, 2]}}, scan / "regions.json")
    with pytest.raises(UsageError, match="names no single labels"):
        read_organ_map(path, pet, labels=str(scan / "regions.json"))


def test_a_folder_of_masks_names_its_organs(scan):
    pet = Volume(np.zeros((60, 40, 40), np.float32), GRID)
    organs = uptake.read(scan / "organs.nii.gz", assume_suv=True).pet
    (scan / "masks").mkdir()
    for label, name in ((1, "liver"), (2, "spleen")):
        write_volume(organs.with_array((organs.array == label).astype(np.uint8)), scan / "masks" / f"{name}.nii.gz")
    found = read_organ_map(scan / "masks", pet)
    assert {found.names[int(v)] for v in np.unique(found.labels.array) if v} == {"liver", "spleen"}
    with pytest.raises(UsageError, match="the files name the organs"):
        read_organ_map(scan / "masks", pet, labels="autopet")


def test_refusals(scan):
    write_volume(Volume(np.zeros((60, 40, 40), np.uint8), GRID), scan / "nothing.nii.gz")
    pet = Volume(np.zeros((60, 40, 40), np.float32), GRID)
    with pytest.raises(InputError, match="holds no organ"):
        read_organ_map(scan / "nothing.nii.gz", pet, labels="total")
    with pytest.raises(UsageError, match="give one with --organs"):
        quantify_to(scan / "pet.nii.gz", scan / "mask.nii.gz", scan / "out", organ_labels="total")
    for facts in ({"tracer": "water"}, {"weight_kg": 70000.0}, {"height_m": 175.0}, {"sex": "male"}):
        with pytest.raises(UsageError):
            PatientFacts(**facts)
    with pytest.raises(UsageError, match="the PET is an image"):
        uptake.quantify(pet, pet, pet_series="1.2", assume_suv=True)
    with pytest.raises(UsageError, match="a Case, read already"):
        uptake.export(pet, Case("case", pet), scan / "out", pet_series="1.2")
    with pytest.raises(UsageError, match="a Case, read already"):
        uptake.read_regions(scan / "x.dcm", Case("case", pet), pet_series="1.2")


def test_a_header_tells_tracer_and_body(dicom_pet, tmp_path):
    dicom_pet(tmp_path / "study")
    patient = patient_of(uptake.read(tmp_path / "study", assume_suv=True))
    assert (patient.tracer, patient.is_fdg) == ("FDG", True)
    # 70 kg, 1.70 m, a woman: 9270 x 70 / (8780 + 244 x 24.22) / 70; 0.007184 x 70^0.425 x 170^0.725.
    assert patient.sul_factor == pytest.approx(9270 / (8780 + 244 * 70 / 1.7**2), rel=1e-6)
    assert patient.body_surface_m2 == pytest.approx(0.007184 * 70**0.425 * 170**0.725, rel=1e-6)
    other = patient_of(uptake.read(tmp_path / "study", assume_suv=True), PatientFacts("PSMA-11"))
    assert (other.tracer, other.is_fdg) == ("PSMA-11", False)


def test_nothing_known_is_nothing_assumed():
    case = Case("case", Volume(np.zeros((3, 3, 3), np.float32), GRID))
    patient = patient_of(case, PatientFacts(weight_kg=70.0))
    assert patient.is_fdg is patient.sul_factor is patient.body_surface_m2 is None and patient.tracer == ""
    assert patient_of(case, PatientFacts(weight_kg=70.0, height_m=1.7)).sul_factor is None  # sex is not known


def test_two_pets_in_a_study_are_told_apart(pet_series, tmp_path, cli):
    first, second = (pet_series(tmp_path / "study" / name, series=name) for name in ("31", "32"))
    pet = uptake.read(tmp_path / "study", pet_series="32").pet
    write_volume(pet.with_array((pet.array > 1).astype(np.uint8)), tmp_path / "mask.nii.gz")
    assert first != second
    table = uptake.quantify(tmp_path / "study", tmp_path / "mask.nii.gz", pet_series="32")
    assert table.totals.lesions >= 1
    uptake.export(tmp_path / "mask.nii.gz", tmp_path / "study", tmp_path / "seg", kinds=("seg",), pet_series="32")
    listed = cli("regions", next((tmp_path / "seg").glob("*.dcm")), "-s", tmp_path / "study", "--pet-series", "32")
    assert listed.code == 0 and "lesion" in listed.out
