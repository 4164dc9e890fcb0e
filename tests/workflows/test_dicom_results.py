"""DICOM in, DICOM out: what `segment`, `quantify`, `export` and `regions` write for a study and read from one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import uptake
from uptake.core.errors import GeometryError, InputError, OutputError, UsageError
from uptake.geometry import Volume
from uptake.geometry.orientation import reorient
from uptake.io.image import read_labels
from uptake.io.structured_report import read_sr
from uptake.io.write import write_volume
from uptake.quantification.lesions import measure_lesions
from uptake.workflows.dicom_results import lesion_segments

FAST = ("--no-mirror", "--precision", "float32", "--device", "cpu", "--engine", "torch", "--min-volume-ml", "4")
"""Random weights find hundreds of specks; the small ones share a segment."""

OBJECTS = {"lesions.seg.dcm", "lesions.rtstruct.dcm", "measurements.sr.dcm"}
BQML_PER_SUV = 350e6 * 2 ** (-3600 / 6586.2) / 70000
"""Of the series that `dicom_pet` writes: 350 MBq, 60 minutes of F-18, 70 kg."""

SECRETS = (b"Secret", b"SECRET", b"19500101")


@pytest.fixture(scope="module")
def study(dicom_pet, tiny_arrays, tmp_path_factory) -> Path:
    """A PET of a cylinder with two hot balls, as DICOM."""
    folder = tmp_path_factory.mktemp("studies") / "patient_7"
    stored = np.clip(np.rint(tiny_arrays["pet"] * BQML_PER_SUV / 2), 0, 32000)
    dicom_pet(folder, stored.shape, spacing=(8.0, 8.0, 8.0), stored=stored)
    return folder


@pytest.fixture(scope="module")
def case(study) -> uptake.Case:
    return uptake.read(study)


@pytest.fixture
def mask(case, tiny_arrays, tmp_path) -> Path:
    """The hot balls as NIfTI on the PET's grid."""
    path = tmp_path / "mask.nii.gz"
    write_volume(case.pet.with_array(tiny_arrays["lesion"]), path)
    return path


@pytest.fixture
def segment(cli, tiny_bundle, plain_pictures):
    return lambda *arguments: cli("segment", *arguments, "-m", tiny_bundle, *FAST)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def run_json(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_segment_writes_the_same_lesions_as_nifti_seg_rtstruct_and_report(segment, study, tmp_path):
    ran = segment(study, "-o", tmp_path)
    folder = tmp_path / "patient_7"
    assert ran.code == 0 and names(folder) > OBJECTS
    published, _ = read_labels(folder / "lesions.nii.gz")
    assert published.array.any()
    for name in ("lesions.seg.dcm", "lesions.rtstruct.dcm"):
        found = uptake.read_regions(folder / name, study)
        assert (found.union(published).array == published.array).all()
        assert found.warnings == ()
    lesions = json.loads((folder / "lesions.json").read_text(encoding="utf-8"))["lesions"]
    reported = read_sr(folder / "measurements.sr.dcm")
    assert len(reported) == len(lesions) > 0
    for one, other in zip(reported, lesions, strict=True):
        assert one["name"] == f"lesion {other['lesion']}"
        assert one["numbers"] == {name: other[name] for name in one["numbers"]}
        assert {"suv_max", "suv_mean", "suv_peak", "mtv_ml", "tlg_g"} <= set(one["numbers"])
    run = run_json(folder)
    assert {output["name"] for output in run["outputs"]} >= OBJECTS
    for name in OBJECTS:
        content = (folder / name).read_bytes()
        assert not any(secret in content for secret in SECRETS)
        assert b"research use only" in content and b"tiny" in content
    assert "kept" in segment(study, "-o", tmp_path).out


def test_the_report_names_the_organ_that_a_lesion_lies_in(cli, case, study, mask, tmp_path, plain_pictures):
    lesions, _ = read_labels(mask)
    table = measure_lesions(case.pet, lesions)
    first = table.numbered.array == 1
    write_volume(case.pet.with_array(np.where(first, 3, 0).astype(np.uint8)), tmp_path / "organs.nii.gz")
    ran = cli(
        "quantify",
        study,
        mask,
        "-o",
        tmp_path,
        "--organs",
        tmp_path / "organs.nii.gz",
        "--organ-labels",
        "3=kidney_left",
    )
    assert ran.code == 0
    sites = [group["site"] for group in read_sr(tmp_path / "patient_7" / "measurements.sr.dcm")]
    assert len(sites) == len(table.lesions) == 2
    assert [code.meaning for code in sites[0]] == ["Kidney", "Left"]
    assert sites[1] == (None, None)


def test_dicom_can_be_left_out_and_identifiers_kept(segment, study, tmp_path):
    assert segment(study, "-o", tmp_path, "--no-dicom").code == 0
    assert not OBJECTS & names(tmp_path / "patient_7")
    ran = segment(study, "-o", tmp_path, "--keep-identifiers")
    assert "kept" not in ran.out
    for name in OBJECTS:
        assert b"SECRET-ID" in (tmp_path / "patient_7" / name).read_bytes()


def test_images_without_dicom_give_none(segment, make_study, tmp_path):
    segment(make_study(tmp_path / "in" / "patient_7"), "-o", tmp_path / "out")
    folder = tmp_path / "out" / "patient_7"
    assert not OBJECTS & names(folder)
    assert "dicom" not in run_json(folder)["request"]


def test_a_study_that_cannot_be_referred_to_says_so_and_keeps_its_results(cli, dicom_pet, tmp_path, plain_pictures):
    stored = 3000.0 + np.arange(245).reshape(7, 7, 5)
    dicom_pet(tmp_path / "in", spacing=(8.0, 8.0, 8.0), stored=stored, FrameOfReferenceUID=None)
    pet = uptake.read(tmp_path / "in").pet
    write_volume(pet.with_array(np.ones(pet.shape, np.uint8)), tmp_path / "mask.nii.gz")
    ran = cli("quantify", tmp_path / "in", tmp_path / "mask.nii.gz", "-o", tmp_path / "out")
    assert ran.code == 0
    folder = tmp_path / "out" / "in"
    assert not OBJECTS & names(folder)
    assert any("No DICOM results" in text and "(0020,0052) is absent" in text for text in run_json(folder)["warnings"])


def test_quantify_measures_a_seg_and_an_rtstruct_like_the_mask(cli, study, mask, tmp_path, plain_pictures):
    assert cli("quantify", study, mask, "-o", tmp_path / "a", "--made-by", "tiny").code == 0
    made = tmp_path / "a" / "patient_7"
    assert names(made) > OBJECTS
    expected = uptake.quantify(study, mask).totals
    for name in ("lesions.seg.dcm", "lesions.rtstruct.dcm"):
        assert uptake.quantify(study, made / name).totals == expected
        assert uptake.quantify(study, made / name, roi="lesion 1").totals.lesions == 1
    ran = cli("quantify", study, made / "lesions.seg.dcm", "-o", tmp_path / "b", "--roi", "lesion 2", "--no-dicom")
    assert ran.code == 0
    assert not OBJECTS & names(tmp_path / "b" / "patient_7")
    roles = {source["role"]: source["path"] for source in run_json(tmp_path / "b" / "patient_7")["inputs"]}
    assert roles["lesions"].endswith("lesions.seg.dcm")
    with pytest.raises(UsageError, match="can be chosen of these alone"):
        uptake.quantify(study, mask, roi="lesion 1")


def test_lesions_too_small_for_the_table_are_segments_too(case):
    array = np.zeros(case.pet.shape, np.uint8)
    array[8:11, 8:11, 8:11] = array[2, 5, 5] = array[20, 10, 10] = 1
    table = measure_lesions(case.pet, case.pet.with_array(array), min_volume_ml=2.0)
    labels, segments = lesion_segments(table, case.pet.with_array(array))
    assert [segment.name for segment in segments] == ["lesion 1", "lesions under 2 mL"]
    assert (labels.array > 0).sum() == array.sum() and (labels.array == 2).sum() == 2
    nothing = measure_lesions(case.pet, case.pet.with_array(array * np.uint8(0)))
    assert [s.name for s in lesion_segments(nothing, case.pet.with_array(array * np.uint8(0)))[1]] == ["lesion"]


def test_a_file_that_fails_its_check_leaves_no_result(cli, study, mask, tmp_path, plain_pictures, monkeypatch):
    from uptake.io import rtstruct

    monkeypatch.setattr(rtstruct, "outlines", lambda mask: [])
    ran = cli("quantify", study, mask, "-o", tmp_path / "out")
    assert ran.code == OutputError.exit_code
    assert "did not read back as it was meant" in ran.err
    assert list((tmp_path / "out").iterdir()) == []


# export


def test_export_takes_masks_of_any_orientation(study, mask, case, tmp_path):
    straight = uptake.export(mask, study, tmp_path / "a", made_by="somebody's net")
    assert set(straight) == {"seg", "rtstruct", "sr"}
    labels, _ = read_labels(mask)
    for code in ("RAS", "SPL"):
        turned = tmp_path / f"{code}.nii.gz"
        write_volume(reorient(labels, code), turned)
        paths = uptake.export(turned, study, tmp_path / code, made_by="somebody's net")
        assert {kind: path.read_bytes() for kind, path in paths.items()} == {
            kind: path.read_bytes() for kind, path in straight.items()
        }
    found = uptake.read_regions(straight["seg"], case)
    assert (found.union(case.pet).array == labels.array).all()


def test_export_names_labels_and_takes_images(study, case, tmp_path):
    import pydicom

    array = np.zeros(case.pet.shape, np.uint8)
    array[5:9, 5:9, 5:9], array[12:14, 9:12, 9:12], array[1, 1, 1] = 5, 2, 9
    paths = uptake.export(case.pet.with_array(array), study, tmp_path, names={5: "liver", 2: "kidney_left"})
    assert {kind: path.name for kind, path in paths.items()} == {
        "seg": "labels.seg.dcm", "rtstruct": "labels.rtstruct.dcm"
    }  # fmt: skip
    found = uptake.read_regions(paths["rtstruct"], case)
    assert [region.name for region in found.regions] == ["kidney_left", "liver", "label 9"]
    assert [region.voxels for region in found.regions] == [18, 64, 1]
    segments = pydicom.dcmread(paths["seg"]).SegmentSequence
    codes = [item.SegmentedPropertyTypeCodeSequence[0].CodeValue for item in segments]
    assert codes == ["64033007", "10200004", "123037004"]
    assert {item.SegmentAlgorithmType for item in segments} == {"MANUAL"}


def test_export_writes_a_seg_anew_as_rtstruct(study, case, mask, tmp_path):
    first = uptake.export(mask, study, tmp_path / "a")
    again = uptake.export(first["seg"], study, tmp_path / "b", kinds=("rtstruct",))
    assert (
        uptake.read_regions(again["rtstruct"], case).union(case.pet).array
        == uptake.read_regions(first["rtstruct"], case).union(case.pet).array
    ).all()


def test_export_puts_a_mask_of_the_ct_on_the_ct(pet_series, ct_series, tmp_path):
    import pydicom

    pet_series(tmp_path / "in" / "PT", Rows=3)
    ct_series(tmp_path / "in" / "CT", positions=[(10.0, 20.0, 31.0 + 5.0 * n) for n in range(4)])
    case = uptake.read(tmp_path / "in", assume_suv=True)
    array = np.zeros(case.ct.shape, np.uint8)
    array[1:3, 1, 1:3] = 1
    paths = uptake.export(case.ct.with_array(array), case, tmp_path / "out")
    assert set(paths) == {"seg", "rtstruct"}
    seg = pydicom.dcmread(paths["seg"])
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.2"
    assert seg.pixel_array.sum() == array.sum()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kinds": ("png",)}, UsageError, r"kinds are seg, rtstruct, sr; came \['png'\]"),
        ({"kinds": ()}, UsageError, "came none"),
        ({"kinds": ("sr",)}, UsageError, "the report refers to the SEG"),
    ],
)
def test_export_refuses_kinds_it_does_not_know(study, mask, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        uptake.export(mask, study, tmp_path / "out", **options)


def test_export_refuses_masks_that_do_not_fit(study, case, make_study, mask, tmp_path):
    small = Volume(np.ones((4, 4, 4), np.uint8), case.pet.affine)
    with pytest.raises(GeometryError, match=r"4 x 4 x 4 voxels is on no grid of the study \(the PET has 24 x 20 x 28"):
        uptake.export(small, study, tmp_path / "a")
    moved = case.pet.affine.copy()
    moved[0, 3] += 3
    with pytest.raises(GeometryError, match=r"lies 3\.0 mm away"):
        uptake.export(Volume(np.ones(case.pet.shape, np.uint8), moved), study, tmp_path / "a")
    with pytest.raises(InputError, match="fractions"):
        uptake.export(case.pet.with_array(case.pet.array / 7), study, tmp_path / "a")
    with pytest.raises(InputError, match="no label to write"):
        uptake.export(
            case.pet.with_array(np.zeros(case.pet.shape, np.uint8)), study, tmp_path / "a", names={1: "liver"}
        )
    with pytest.raises(InputError, match="the study is not DICOM"):
        uptake.export(mask, make_study(tmp_path / "nifti"), tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []


def test_export_and_regions_on_the_command_line(cli, study, mask, tmp_path):
    ran = cli("export", mask, "--study", study, "-o", tmp_path / "a", "--no-rtstruct")
    assert ran.code == 0 and names(tmp_path / "a") == {"lesions.seg.dcm", "measurements.sr.dcm"}
    ran = cli("export", mask, "--study", study, "-o", tmp_path / "b", "--labels", "1=spleen")
    assert (
        ran.code == 0 and "No report" in ran.out and names(tmp_path / "b") == {"labels.seg.dcm", "labels.rtstruct.dcm"}
    )
    assert cli("export", mask, "--study", study, "-o", tmp_path / "c", "--no-seg", "--no-rtstruct").code == 2
    ran = cli("regions", tmp_path / "b" / "labels.seg.dcm", "--study", study)
    assert ran.code == 0 and "spleen" in ran.out and "Spleen" in ran.out
    ran = cli("regions", tmp_path / "b" / "labels.rtstruct.dcm", "--study", study, "-o", tmp_path / "r")
    assert names(tmp_path / "r") == {"spleen.nii.gz", "regions.json"}
    written, _ = read_labels(tmp_path / "r" / "spleen.nii.gz")
    assert (written.array == read_labels(mask)[0].array).all()
    record = json.loads((tmp_path / "r" / "regions.json").read_text(encoding="utf-8"))
    assert record["regions"][0]["file"] == "spleen.nii.gz" and record["source"]["kind"] == "RTSTRUCT"
    ran = cli("regions", tmp_path / "b" / "labels.seg.dcm", "--study", study, "--roi", "liver")
    assert ran.code == 4 and "no region 'liver'" in ran.err


def test_region_files_are_told_apart(case, tmp_path):
    from uptake.io.dicom_regions import Region, Regions
    from uptake.workflows.regions import write_regions

    source = tmp_path / "a.dcm"
    source.write_bytes(b"")
    inside = np.ones((1, 1, 1), bool)
    box = (slice(0, 1),) * 3
    found = Regions(
        source,
        "SEG",
        tuple(Region(n, name, case.pet.shape, box, inside) for n, name in enumerate(("a/b", "a:b", "..", "A b"), 1)),
    )
    rows = write_regions(found, case.pet, tmp_path / "out")
    assert [row["file"] for row in rows] == ["a_b.nii.gz", "a_b_2.nii.gz", "region_3.nii.gz", "A_b_4.nii.gz"]


def test_several_regions_need_a_choice(study, case, tmp_path):
    array = np.zeros(case.pet.shape, np.uint8)
    array[5:9, 5:9, 5:9], array[12:14, 9:12, 9:12] = 1, 2
    path = uptake.export(case.pet.with_array(array), study, tmp_path, names={1: "liver", 2: "spleen"})["seg"]
    with pytest.raises(InputError, match=r"holds 2 regions and none is called lesion.*'liver', 'spleen'"):
        uptake.quantify(study, path)
    assert uptake.quantify(study, path, roi=["spleen"]).totals.volume_ml == pytest.approx(18 * 0.512)


def test_overlapping_regions_are_not_forced_into_one_map(study, case, tmp_path):
    from uptake.io.dicom_regions import Region, Regions
    from uptake.workflows.export import label_map

    inside = np.ones((2, 2, 2), bool)
    regions = tuple(
        Region(n, f"part {n}", case.pet.shape, (slice(n, n + 2),) * 3, inside) for n in (1, 2)
    )  # fmt: skip
    with pytest.raises(InputError, match="'part 2' and 'part 1' overlap"):
        label_map(Regions(tmp_path, "SEG", regions), case.pet)
