from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import uptake
from uptake.core.errors import FileFormatError, GeometryError, InputError, MissingAttributeError, UnitError
from uptake.geometry import corner_distance_mm
from uptake.io.dicom import read_dicom

FACTOR = 70000 / (350e6 * 2 ** (-3600 / 6586.2))
"""Of the header in conftest, by hand."""


def text_of(case) -> str:
    return json.dumps([case.acquisition, case.warnings, [vars(source) for source in case.sources]])


def test_voxels_suv_and_place_by_hand(tmp_path, pet_series):
    slopes = [1.0, 2.0, 3.0, 4.0]
    study = read_dicom(pet_series(tmp_path / "PT", slopes=slopes))
    stored = (np.arange(48).reshape(4, 3, 4) * 600).astype(np.int16)  # (slice, row, column)
    assert study.pet.shape == (4, 3, 4)  # (column, row, slice)
    for k, j, i in [(0, 0, 0), (1, 2, 3), (3, 1, 0)]:
        assert study.pet.array[i, j, k] == pytest.approx(stored[k, j, i] * slopes[k] * FACTOR, rel=1e-6)
    # (10, 20, 30) mm LPS is (-10, -20, 30) mm RAS; columns are 2 mm apart to the left, rows 3 mm to the back.
    np.testing.assert_allclose(study.pet.world_of(np.array([0, 0, 0])), [-10, -20, 30])
    np.testing.assert_allclose(study.pet.world_of(np.array([1, 0, 0])), [-12, -20, 30])
    np.testing.assert_allclose(study.pet.world_of(np.array([0, 1, 0])), [-10, -23, 30])
    np.testing.assert_allclose(study.pet.world_of(np.array([0, 0, 1])), [-10, -20, 35])
    assert study.pet.orientation == "LPS"
    assert study.pet.frame_of_reference == "1.2.3.99"
    assert study.pet.array.dtype == np.float32
    assert study.ct is None
    assert study.warnings == ()


def test_what_was_used_is_on_record_and_nobody_is_named(tmp_path, pet_series):
    case = uptake.read(pet_series(tmp_path / "PT"))
    found = case.acquisition
    assert found["suv_factor"] == pytest.approx(FACTOR)
    assert found["suv_rule"] == "BQML/START"
    assert found["reference_time_source"] == "Series Time (0008,0031)"
    assert found["uptake_time_min"] == 60
    assert (found["tracer"], found["radionuclide"]) == ("FDG", "F-18")
    assert (found["manufacturer"], found["model"]) == ("Anyone", "Any Model")
    assert {"tag": "(0010,1030)", "name": "Patient's Weight", "value": "70"} in found["tags"]
    for secret in ("Secret", "SECRET", "19500101"):
        assert secret not in text_of(case)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)])
@pytest.mark.parametrize("upwards", [True, False])
def test_axial_coronal_and_oblique_stacks_in_any_file_order(tmp_path, pet_series, orientation, upwards):
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    positions = [tuple(np.array([1.0, 2.0, 3.0]) + 4.0 * n * normal) for n in range(4)]
    if not upwards:
        positions.reverse()
    study = read_dicom(pet_series(tmp_path, positions=positions, orientation=orientation))
    stored = (np.arange(48).reshape(4, 3, 4) * 600).astype(np.int16)
    flip = np.array([-1, -1, 1])
    for n, (j, i) in enumerate([(0, 0), (2, 1), (1, 3), (0, 2)]):
        lps = np.array(positions[n]) + i * 2.0 * row + j * 3.0 * column
        index = np.rint(study.pet.index_of(lps * flip)).astype(int)
        np.testing.assert_allclose(study.pet.world_of(index), lps * flip, atol=1e-6)
        assert study.pet.array[tuple(index)] == pytest.approx(stored[n, j, i] * 2.0 * FACTOR, rel=1e-6)


def test_ct_beside_the_pet_and_other_objects_passed_over(tmp_path, pet_series, ct_series):
    pet_series(tmp_path / "a" / "PT")
    ct_series(tmp_path / "b")
    ct_series(tmp_path / "scout", series="3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    pet_series(tmp_path / "mip", series="4", ImageType=["DERIVED", "SECONDARY", "MIP"])
    pet_series(tmp_path / "reprojection", series="6", SeriesType=["REPROJECTION", "IMAGE"])
    ct_series(tmp_path / "mr", series="5", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    (tmp_path / "notes.txt").write_text("no DICOM")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    case = uptake.read(tmp_path)
    assert case.id == tmp_path.name
    assert case.ct is not None
    assert case.ct.array[0, 0, 0] == 24 - 1024
    assert case.ct.array[3, 2, 3] == 47 * 15 + 24 - 1024
    assert [source.role for source in case.sources] == ["pet", "ct"]


def test_the_files_stand_in_the_order_of_the_slices(tmp_path, pet_series, ct_series):
    from pydicom import dcmread

    pet_series(tmp_path / "PT", positions=[(10, 20, 30 + 5.0 * z) for z in (2, 0, 3, 1)])
    ct_series(tmp_path / "CT")
    case = uptake.read(tmp_path)
    for volume, files in ((case.pet, case.pet_files), (case.ct, case.ct_files)):
        heights = [dcmread(file, stop_before_pixels=True).ImagePositionPatient[2] for file in files]
        assert heights == [volume.world_of(np.array([0, 0, k]))[2] for k in range(4)]


def test_hashes_belong_to_the_contents(tmp_path, pet_series):
    one = read_dicom(pet_series(tmp_path / "one")).sources
    shutil.copytree(tmp_path / "one", tmp_path / "two" / "nested")
    assert read_dicom(tmp_path / "two").sources[0].sha256 == one[0].sha256


def test_a_series_without_attenuation_correction_gives_way(tmp_path, pet_series):
    pet_series(tmp_path / "ac")
    pet_series(tmp_path / "nac", series="8", CorrectedImage=["DECY"])
    assert any("left out: PT series …1.2.3.8" in text for text in read_dicom(tmp_path).warnings)
    shutil.rmtree(tmp_path / "ac")
    with pytest.raises(UnitError, match=r"\(0028,0051\) lacks ATTN"):
        read_dicom(tmp_path)


def test_a_single_word_is_not_taken_for_letters(tmp_path, pet_series):
    with pytest.raises(UnitError, match=r"\(0028,0051\) lacks DECY"):
        read_dicom(pet_series(tmp_path, CorrectedImage="ATTN", SeriesType="STATIC"))


def test_several_candidates_are_named_by_uid_and_count(tmp_path, pet_series, ct_series):
    pet_series(tmp_path / "a")
    ct_series(tmp_path / "soft", SeriesDescription="Secret Person")
    ct_series(tmp_path / "again", series="7")
    with pytest.raises(
        InputError,
        match=r"2 CT series could be meant: CT series …1.2.3.2 \(4 slices\); CT series …1.2.3.7 \(4 slices\)",
    ) as caught:
        read_dicom(tmp_path)
    assert "Secret" not in str(caught.value)
    pet_series(tmp_path / "b", series="9")
    with pytest.raises(InputError, match="2 PET series could be meant"):
        read_dicom(tmp_path)


def test_a_ct_in_the_frame_of_the_pet_is_preferred(tmp_path, pet_series, ct_series):
    pet_series(tmp_path / "a")
    ct_series(tmp_path / "b")
    ct_series(tmp_path / "c", series="7", FrameOfReferenceUID="9.9")
    assert any("frame of reference" in text and "…1.2.3.7" in text for text in read_dicom(tmp_path).warnings)
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(GeometryError, match="different frames of reference"):
        uptake.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Units": "GML", "SUVType": "BSA"}, r"\(0054,1001\) is GML but SUV Type \(0054,1006\) is BSA"),
        ({"Units": "PROPCPS"}, "is PROPCPS: no SUV"),
        ({"DecayCorrection": "LATER"}, r"\(0054,1102\) is LATER; expected START"),
        ({"CorrectedImage": ["DECY"]}, "lacks ATTN"),
        ({"SeriesType": ["DYNAMIC", "IMAGE"]}, r"\(0054,1000\) is DYNAMIC: not supported yet"),
        ({"SeriesType": ["GATED", "IMAGE"]}, "is GATED: not supported yet"),
        ({"tracer": {"RadionuclideHalfLife": "4062.6"}}, "says F-18"),
        ({"tracer": {"RadionuclideHalfLife": "1.83", "codes": None}}, "expected seconds"),
        ({"tracer": {"RadiopharmaceuticalStartTime": "113000", "RadionuclideHalfLife": "1223", "codes": None}},
         "min after the injection"),
        ({"slopes": [1.0, 0.0, 1.0, 1.0]}, r"Rescale Slope \(0028,1053\) is 0"),
    ],
)  # fmt: skip
def test_rules_and_values_that_are_refused(tmp_path, pet_series, change, message):
    with pytest.raises(UnitError, match=message) as caught:
        read_dicom(pet_series(tmp_path, **change))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "attribute"),
    [
        ({"Units": None}, r"Units \(0054,1001\)"),
        ({"DecayCorrection": None}, r"Decay Correction \(0054,1102\)"),
        ({"PatientWeight": None}, r"Patient's Weight \(0010,1030\)"),
        ({"PatientWeight": "0"}, r"Patient's Weight \(0010,1030\)"),
        ({"tracer": {"RadionuclideTotalDose": None}}, r"Radionuclide Total Dose \(0018,1074\)"),
        ({"Units": "CNTS"}, r"\(7053,1009\) and .* \(7053,1000\) are absent"),
        ({"DecayCorrection": "NONE"}, r"Actual Frame Duration \(0018,1242\)"),
        ({"tracer": {"RadionuclideHalfLife": None, "codes": None}}, r"Radionuclide Half Life \(0018,1075\)"),
        ({"tracer": {"RadiopharmaceuticalStartTime": None}}, r"Radiopharmaceutical Start Time \(0018,1072\)"),
        ({"AcquisitionTime": None, "SeriesTime": None}, r"Acquisition Time \(0008,0032\)"),
        ({"injections": 0}, r"Radionuclide Total Dose \(0018,1074\)"),
        ({"ImagePositionPatient": None}, r"Image Position \(Patient\) \(0020,0032\)"),
        ({"ImageOrientationPatient": None}, r"Image Orientation \(Patient\) \(0020,0037\)"),
        ({"PixelSpacing": None}, r"Pixel Spacing \(0028,0030\)"),
        ({"RescaleSlope": None}, r"Rescale Slope \(0028,1053\)"),
    ],
)
def test_what_is_missing_is_named_with_its_tag_and_the_series(tmp_path, pet_series, change, attribute):
    with pytest.raises(MissingAttributeError, match=attribute) as caught:
        read_dicom(pet_series(tmp_path, **change))
    assert f"{tmp_path}: PT series …1.2.3.1 (4 slices): " in str(caught.value)


def test_two_injections_and_contradicting_slices_are_refused(tmp_path, pet_series):
    with pytest.raises(InputError, match=r"\(0054,0016\) has 2 items"):
        read_dicom(pet_series(tmp_path / "a", injections=2))

    def other_weight(header, n):
        header.PatientWeight = "70" if n else "80"

    with pytest.raises(InputError, match=r"Patient's Weight \(0010,1030\) differs between slices: 70, 80"):
        read_dicom(pet_series(tmp_path / "b", each=other_weight))


def stack(*heights: float) -> list[tuple[float, float, float]]:
    return [(10.0, 20.0, height) for height in heights]


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (stack(0, 5, 10, 20, 25), "1 gaps where slices are missing, the first after position 10.00 mm"),
        (stack(0, 5, 5, 10, 15), "1 slices share a position"),
        (stack(0, 0, 0, 0, 0), "slices share a position"),
        (stack(0, 5, 11, 16, 21), "the distance between slices varies from 5.00 to 6.00 mm"),
        ([(0, 1.0 * n, 5.0 * n) for n in range(5)], "tilted gantry: each slice is shifted by 1.00 mm"),
        ([(0, 2.0 * (n == 2), 5.0 * n) for n in range(5)], "shifted against one another by up to 2.00 mm"),
    ],
)
def test_stacks_that_are_refused(tmp_path, pet_series, positions, message):
    with pytest.raises(GeometryError, match=message):
        read_dicom(pet_series(tmp_path, slices=5, positions=positions))


def test_bed_borders_are_read_as_even_and_reported(tmp_path, pet_series):
    study = read_dicom(pet_series(tmp_path, slices=5, positions=stack(0, 3.27, 6.46, 9.75, 13.02)))
    assert "slices lie 3.19 to 3.29 mm apart; read as even 3.255 mm" in study.warnings[0]
    assert study.pet.spacing_mm[2] == pytest.approx(3.255)


def test_slices_of_two_sizes_or_directions_are_refused(tmp_path, pet_series):
    def turned(header, n):
        header.ImageOrientationPatient = [0, 1, 0, -1, 0, 0] if n == 2 else [1, 0, 0, 0, 1, 0]

    with pytest.raises(GeometryError, match=r"differ in Image Orientation \(Patient\)"):
        read_dicom(pet_series(tmp_path / "a", each=turned))

    def wider(header, n):
        header.PixelSpacing = [3.0, 2.5] if n == 2 else [3.0, 2.0]

    with pytest.raises(GeometryError, match=r"differ in size or Pixel Spacing"):
        read_dicom(pet_series(tmp_path / "b", each=wider))


def test_rounded_cosines_are_repaired_and_reported(tmp_path, pet_series):
    study = read_dicom(
        pet_series(tmp_path, orientation=(0.999, 0.0, 0.002, 0.0, 1.0, 0.0), positions=stack(0, 5, 10, 15))
    )
    assert any("made perpendicular" in text for text in study.warnings)


def test_damaged_and_absent_files(tmp_path, pet_series):
    folder = pet_series(tmp_path / "a")
    first = sorted(folder.iterdir())[0]
    first.write_bytes(first.read_bytes()[:-10])
    with pytest.raises(FileFormatError, match="truncated"):
        read_dicom(folder)
    (tmp_path / "b").mkdir()
    with pytest.raises(FileFormatError, match="holds no DICOM file"):
        read_dicom(tmp_path / "b")


def test_no_pet_or_a_single_slice_says_what_was_found(tmp_path, pet_series, ct_series):
    ct_series(tmp_path)
    with pytest.raises(InputError, match=r"no PET series of slices \(series found: 1 CT\)"):
        read_dicom(tmp_path)
    pet_series(tmp_path / "one", slices=1)
    with pytest.raises(InputError, match=r"\(1 slice\) is too short"):
        read_dicom(tmp_path)


def test_a_cropped_series_is_reported(tmp_path, pet_series):
    assert "(0054,0081) is 40" in read_dicom(pet_series(tmp_path, NumberOfSlices=40)).warnings[0]


def test_a_ct_in_another_scale_is_refused(tmp_path, pet_series, ct_series):
    pet_series(tmp_path / "a")
    ct_series(tmp_path / "b", RescaleType="OD")
    with pytest.raises(UnitError, match=r"Rescale Type \(0028,1054\) is OD"):
        read_dicom(tmp_path)


def test_the_day_before_and_dose_in_mbq(tmp_path, pet_series):
    late = {"RadiopharmaceuticalStartTime": "233000", "RadionuclideTotalDose": "350"}
    clock = {"SeriesTime": "003000", "AcquisitionTime": "003000"}
    case = uptake.read(pet_series(tmp_path, tracer=late, **clock))
    assert case.acquisition["suv_factor"] == pytest.approx(FACTOR)
    assert case.acquisition["injection_time"] == "2024-01-01T23:30:00"
    assert any("taken as MBq" in text for text in case.warnings)
    assert any("day before" in text for text in case.warnings)


@pytest.mark.parametrize(
    ("group", "creator", "element", "source"),
    [(0x0009, "GEMS_PETD_01", 0x0D, "GE Scan DateTime"), (0x0071, "SIEMENS MED PT", 0x22, "Siemens Decay Correction")],
)
def test_private_reference_times(tmp_path, pet_series, group, creator, element, source):
    def add(header, n):
        header.private_block(group, creator, create=True).add_new(element, "DT", "20240102104500.00")

    found = uptake.read(pet_series(tmp_path, each=add)).acquisition
    assert found["reference_time_source"].startswith(source)
    assert found["uptake_time_min"] == 45
    assert found["suv_factor"] == pytest.approx(70000 / (350e6 * 2 ** (-2700 / 6586.2)))


def test_utc_offset_of_the_injection(tmp_path, pet_series):
    tracer = {"RadiopharmaceuticalStartDateTime": "20240102090000+0000", "RadiopharmaceuticalStartTime": None}
    case = uptake.read(pet_series(tmp_path / "a", tracer=tracer, TimezoneOffsetFromUTC="+0100"))
    assert case.acquisition["uptake_time_min"] == 60
    case = uptake.read(pet_series(tmp_path / "b", tracer=tracer))
    assert case.acquisition["uptake_time_min"] == 120
    assert any("taken as local" in text for text in case.warnings)


def test_two_studies_in_one_folder_are_refused(tmp_path, pet_series):
    pet_series(tmp_path / "a")
    pet_series(tmp_path / "b", series="2", StudyInstanceUID="1.2.4")
    assert [case.id for case in uptake.io.read.find_cases(tmp_path)] == ["a", "b"]


def test_the_public_whole_body_series(shared_data):
    case = uptake.read(shared_data / "dicom" / "ge_raw" / "STS_001")
    assert case.acquisition["suv_factor"] == pytest.approx(2.429030e-04, rel=1e-6)
    nifti = uptake.read(shared_data / "wholebody" / "STS_001")
    assert corner_distance_mm(case.pet, nifti.pet) < 0.1
    # The NIfTI is stored in steps of 0.0025.
    assert np.abs(case.pet.array - nifti.pet.array).max() <= 0.00126
    crop = uptake.read(shared_data / "sts" / "STS_001").pet
    lower = np.rint(case.pet.index_of(np.array(crop.origin_mm))).astype(int)
    window = case.pet.array[tuple(slice(a, a + n) for a, n in zip(lower, crop.shape))]
    assert np.median(window[crop.array > 0.1] / crop.array[crop.array > 0.1]) == pytest.approx(1.0, abs=1e-6)
    assert (window[crop.array > 0.1] / crop.array[crop.array > 0.1]).std() < 2e-4


def test_a_real_series_that_has_to_be_refused(shared_data):
    with pytest.raises(MissingAttributeError, match=r"Units \(0054,1001\) is absent"):
        uptake.read(shared_data / "phantom/nema_iq/dicom_no_suv_tags")


@pytest.mark.parametrize(
    ("attribute", "value", "broken"),
    [
        ("PatientWeight", "71.5", "abcd"),
        ("RescaleSlope", "2.25", "abcd"),
        ("PixelSpacing", ["3.25", "2.25"], None),
        ("ImagePositionPatient", ["1.25", "2.25", "3.25"], None),
    ],
)
def test_words_in_place_of_numbers_are_refused(tmp_path, pet_series, attribute, value, broken):
    folder = pet_series(tmp_path, **{attribute: value})
    for path in folder.iterdir():
        old = value if isinstance(value, str) else "\\".join(value)
        new = broken or old.replace("2.25", "abcd")
        content = path.read_bytes()
        assert old.encode() in content
        path.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(InputError):
        read_dicom(folder)


@pytest.mark.parametrize("attribute", ["Rows", "Columns", "BitsAllocated", "PixelData", "SeriesInstanceUID"])
def test_slices_without_what_makes_an_image_are_refused_or_read(tmp_path, pet_series, attribute):
    def drop(header, n):
        delattr(header, attribute)

    try:
        read_dicom(pet_series(tmp_path, each=drop))
    except InputError:
        assert attribute != "SeriesInstanceUID"
