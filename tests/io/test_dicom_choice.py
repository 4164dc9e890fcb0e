"""Which series is taken, and the reason given for each."""

from __future__ import annotations

import shutil

import pytest

from uptake.core.errors import FileFormatError, GeometryError, InputError, UnitError, UsageError
from uptake.io.archive import Files
from uptake.io.dicom import read_dicom
from uptake.io.dicom_choice import Choice, choose
from uptake.io.dicom_series import scan

pytest.importorskip("pydicom")

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def chosen(place, **named) -> Choice:
    with Files() as files:
        return choose(scan(place, files), **named)


def roles(choice: Choice) -> dict[str, tuple[str, str]]:
    return {verdict.series.uid.rsplit(".", 1)[1]: (verdict.role, verdict.why) for verdict in choice.verdicts}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"SeriesType": ["DYNAMIC", "IMAGE"]}, "not a static or whole-body series"),
        ({"SeriesType": ["GATED", "IMAGE"]}, "not a static or whole-body series"),
        ({"CorrectedImage": ["DECY"]}, "not attenuation corrected"),
        ({"Units": "1CM"}, "another is in BQML, which leads to SUV"),
        ({"ImageType": ["DERIVED", "PRIMARY"]}, "another is an original and not derived image"),
        ({"slices": 1}, "another is a stack of slices"),
        ({"slices": 3}, "another is longer (15 mm)"),
        ({"slices": 3, "positions": [(10, 20, 30.0 + 7.5 * n) for n in range(3)]}, "another is of more slices (4)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_pet_gives_way_to_the_other_and_the_reason_is_said(tmp_path, pet_series, other, reason):
    pet_series(tmp_path / "best", series="1")
    pet_series(tmp_path / "other", series="8", **other)
    choice = chosen(tmp_path)
    assert choice.pet is not None
    assert choice.pet.uid == "1.2.3.1"
    assert roles(choice)["8"] == ("left", reason)
    assert roles(choice)["1"] == ("pet", reason.removeprefix("another is ").removeprefix("not "))
    told = [text for text in choice.warnings if "…1.2.3.8" in text]
    assert bool(told) == reason.startswith("not")
    # By itself the other is taken, or refused for what it is.
    shutil.rmtree(tmp_path / "best")
    assert chosen(tmp_path).pet is not None


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"FrameOfReferenceUID": "9.9"}, "not in the PET's frame of reference"),
        ({"StudyInstanceUID": "1.2.4"}, "not of the PET's study"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, "another is an original and not derived image"),
        ({"positions": [(10, 20, 30.0 + 2.0 * n) for n in range(4)]}, "another is over 100% of the PET"),
        ({"ConvolutionKernel": "B70f"}, "another is of a kernel that is not for lung or bone"),
        ({"slices": 3, "positions": [(10, 20, 30.0 + 7.5 * n) for n in range(3)]}, "another is of more slices (4)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_ct_gives_way_to_the_other_and_the_reason_is_said(tmp_path, pet_series, ct_series, other, reason):
    pet_series(tmp_path / "pet")
    ct_series(tmp_path / "best", series="2")
    ct_series(tmp_path / "other", series="8", **other)
    choice = chosen(tmp_path)
    assert choice.ct is not None
    assert choice.ct.uid == "1.2.3.2"
    assert roles(choice)["8"] == ("left", reason)
    assert bool([text for text in choice.warnings if "…1.2.3.8" in text]) == reason.startswith("not")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "scout, projection or screen shot"),
        ({"SeriesType": ["REPROJECTION", "IMAGE"]}, "scout, projection or screen shot"),
        ({"SOPClassUID": SECONDARY_CAPTURE}, "another kind of object"),
        ({"ImageType": ["DERIVED", "SECONDARY", "FUSION"]}, "colour or fused picture"),
    ],
)
def test_what_is_no_stack_of_slices_is_never_taken(tmp_path, pet_series, change, why):
    pet_series(tmp_path, **change)
    choice = chosen(tmp_path)
    assert choice.pet is None
    assert why in roles(choice)["1"][1]
    with pytest.raises(InputError, match=r"no PET series of slices \(series found: 1 PT; .*"):
        read_dicom(tmp_path)


def test_a_scout_within_the_series_of_the_slices_is_told_apart(tmp_path, pet_series, ct_series):
    pet_series(tmp_path / "pet")

    def each(ds, n):
        if n == 0:
            ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    ct_series(tmp_path / "ct", slices=5, each=each)
    study = read_dicom(tmp_path)
    assert study.ct is not None
    assert study.ct.shape == (4, 3, 4)


def test_a_lone_ct_slice_is_no_ct(tmp_path, pet_series, ct_series):
    pet_series(tmp_path / "pet")
    ct_series(tmp_path / "ct", slices=1)
    choice = chosen(tmp_path)
    assert choice.ct is None
    assert roles(choice)["2"] == ("left", "one slice only")


def test_the_user_chooses_by_the_end_of_the_uid(tmp_path, pet_series, ct_series):
    for series in ("11", "12"):
        pet_series(tmp_path / f"p{series}", series=series)
    for series in ("21", "22"):
        ct_series(tmp_path / f"c{series}", series=series)
    with pytest.raises(InputError, match="Choose with --pet-series and the end of its UID"):
        read_dicom(tmp_path)
    with pytest.raises(InputError, match="2 CT series could be meant"):
        read_dicom(tmp_path, pet_series="12")
    study = read_dicom(tmp_path, pet_series="…1.2.3.12", ct_series="21")
    assert (study.choice.pet.uid, study.choice.ct.uid) == ("1.2.3.12", "1.2.3.21")
    found = roles(study.choice)
    assert found["12"] == ("pet", "named with --pet-series")
    assert found["11"] == ("left", "another was named with --pet-series")
    assert roles(chosen(tmp_path))["11"][0] == "candidate"
    assert read_dicom(tmp_path, pet_series="12", with_ct=False).ct is None


@pytest.mark.parametrize(("tail", "count"), [("99", "no PT series"), ("1", "2 PT series"), ("", "no PT series")])
def test_a_name_that_fits_none_or_several_is_wrong_usage(tmp_path, pet_series, tail, count):
    pet_series(tmp_path / "a", series="11")
    pet_series(tmp_path / "b", series="21")
    with pytest.raises(UsageError, match=f"{count} ends with") as caught:
        read_dicom(tmp_path, pet_series=tail)
    assert "PT series …1.2.3.11 (4 slices)" in str(caught.value)


def test_a_series_that_was_left_can_be_named(tmp_path, pet_series):
    pet_series(tmp_path / "a")
    pet_series(tmp_path / "nac", series="8", CorrectedImage=["DECY"])
    with pytest.raises(UnitError, match="lacks ATTN"):
        read_dicom(tmp_path, pet_series="8")


def test_pets_of_two_studies_are_never_weighed_against_each_other(tmp_path, pet_series):
    pet_series(tmp_path / "a", slices=6)
    pet_series(tmp_path / "b", series="9", slices=4, StudyInstanceUID="1.2.4", CorrectedImage=["DECY"])
    for path in [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()]:
        path.rename(tmp_path / f"{path.parent.name}{path.stem}")  # one flat folder, no suffixes
    with pytest.raises(InputError, match=r"2 PET series could be meant \(of 2 studies\).*folder of its own"):
        read_dicom(tmp_path)
    assert read_dicom(tmp_path, study_uid="1.2.3").pet.shape == (4, 3, 6)


def test_rtstruct_and_seg_are_labels_and_the_rest_is_passed_over(tmp_path, pet_series, ct_series):
    pet_series(tmp_path / "pet")
    ct_series(tmp_path / "rt", series="3", Modality="RTSTRUCT", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3")
    ct_series(tmp_path / "seg", series="4", Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")
    ct_series(tmp_path / "mr", series="5", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    choice = chosen(tmp_path)
    assert [series.uid for series in choice.labels] == ["1.2.3.3", "1.2.3.4"]
    assert roles(choice)["5"] == ("left", "neither PET nor CT")


def test_exact_copies_are_left_out_and_a_second_image_of_one_name_is_refused(tmp_path, pet_series):
    folder = pet_series(tmp_path / "a")
    whole = read_dicom(folder)
    shutil.copytree(folder, tmp_path / "b" / "copy")
    study = read_dicom(tmp_path)
    assert (study.pet.array == whole.pet.array).all()
    assert any("4 exact copies of slices were left out" in text for text in study.warnings)
    path = next((tmp_path / "b" / "copy").iterdir())
    path.write_bytes(path.read_bytes()[:-2] + b"\1\1")
    with pytest.raises(FileFormatError, match=r"both claim to be one instance by SOP Instance UID \(0008,0018\)"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(
    ("each", "why"),
    [
        (
            lambda ds, n: setattr(ds, "FrameReferenceTime", str(1000 * n)),
            r"differ in Frame Reference Time \(0054,1300\)",
        ),
        (lambda ds, n: None, "a series stored twice"),
    ],
)
def test_two_images_at_one_place(tmp_path, pet_series, each, why):
    positions = [(10, 20, 30.0 + 5.0 * (n // 2)) for n in range(6)]
    with pytest.raises(GeometryError, match=f"3 slices share a position with another, the first at 30.00 mm; .*{why}"):
        read_dicom(pet_series(tmp_path, slices=6, positions=positions, each=each))


@pytest.mark.parametrize("length", [0, 100, 400, -1])
def test_a_damaged_file_among_the_slices_is_named(tmp_path, pet_series, length):
    folder = pet_series(tmp_path / "PT")
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FileFormatError) as caught:
        read_dicom(tmp_path)
    assert str(path) in str(caught.value)
    assert "cop" in str(caught.value)  # copy it again


def test_a_file_cut_within_its_series_uid_counts_among_those_around_it(tmp_path, pet_series):
    folder = pet_series(tmp_path / "PT", series="123456")
    path = sorted(folder.iterdir())[0]
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"1.2.3.123456") + 9])
    with pytest.raises(FileFormatError, match="truncated") as caught:
        read_dicom(tmp_path)
    assert str(path) in str(caught.value)


def test_a_damaged_file_of_something_else_is_reported(tmp_path, pet_series, ct_series):
    pet_series(tmp_path / "PT")
    other = ct_series(tmp_path / "MR", series="5", Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    path = sorted(other.iterdir())[0]
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"1.2.3.99") + 4])
    assert any("1 damaged files of other series" in text for text in read_dicom(tmp_path).warnings)


def test_a_study_that_is_damaged_through_and_through(tmp_path, pet_series):
    for path in pet_series(tmp_path / "PT").iterdir():
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileFormatError, match=r"\.dcm: the DICOM file is truncated"):
        read_dicom(tmp_path)


def test_a_lone_pet_slice_is_read_only_where_that_is_asked_for(tmp_path, pet_series):
    folder = pet_series(tmp_path, slices=1, SliceThickness="4.5")
    with pytest.raises(InputError, match="one slice is no volume"):
        read_dicom(folder)
    study = read_dicom(folder, least_slices=1)
    assert study.pet.spacing_mm == pytest.approx((2.0, 3.0, 4.5))
    assert any("Slice Thickness 4.5 mm was taken as spacing" in text for text in study.warnings)
