"""A multi-frame PET gives the SUV of the slices it was made of."""

from __future__ import annotations

import numpy as np
import pytest

import uptake
from uptake.core.errors import FileFormatError, GeometryError, InputError, MissingAttributeError, UnitError
from uptake.io.dicom import read_dicom
from uptake.io.dicom_multiframe import flat_headers

pydicom = pytest.importorskip("pydicom")

ENHANCED = "1.2.840.10008.5.1.4.1.1.130"
FACTOR = 70000 / (350e6 * 2 ** (-3600 / 6586.2))
STORED = (np.arange(60).reshape(5, 3, 4) * 500).astype(np.int16)  # (frame, row, column)
ORDER = (2, 0, 4, 1, 3)
"""Place of each frame along the stack: frames need not be in order."""


def dataset(**values):
    made = pydicom.Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def code(value, scheme="UCUM"):
    return [dataset(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=value)]


def frame_groups(n, *, unit, slope):
    content = dataset(FrameAcquisitionDateTime="20240102110000", FrameAcquisitionDuration=180000.0)
    content.FrameReferenceDateTime = "20240102110130"
    groups = dataset(
        FrameContentSequence=[content],
        PlanePositionSequence=[dataset(ImagePositionPatient=[10.0, 20.0, 30.0 + 5.0 * ORDER[n]])],
    )
    if unit is not None:
        groups.RealWorldValueMappingSequence = [
            dataset(
                RealWorldValueSlope=slope, RealWorldValueIntercept=0.0, MeasurementUnitsCodeSequence=code(unit),
                RealWorldValueFirstValueMapped=-32768, RealWorldValueLastValueMapped=32767,
            )
        ]  # fmt: skip
    return groups


@pytest.fixture
def enhanced(tmp_path):
    """Return a function that writes an Enhanced PET as in PS3.3 A.56: dose in MBq, no Units, no Decay Correction."""

    def write(name="pet.dcm", *, unit="Bq/ml", slopes=(1.0, 2.0, 3.0, 4.0, 5.0), each=None, change=None, **attributes):
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian

        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ENHANCED, "1.2.3.4.1"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = ENHANCED, "1.2.3.4.1"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.99"
        ds.Modality, ds.ImageType = "PT", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        ds.SeriesDate, ds.SeriesTime = "20240102", "110000"
        ds.AcquisitionDateTime = "20240102110000"
        ds.PatientWeight, ds.Manufacturer = "70", "Anyone"
        ds.CountsSource = "EMISSION"
        for keyword in ("DecayCorrected", "AttenuationCorrected", "ScatterCorrected", "RandomsCorrected"):
            setattr(ds, keyword, "YES")
        ds.GantryMotionCorrected = "NO"
        ds.DecayCorrectionDateTime = "20240102110000"
        ds.RadiopharmaceuticalInformationSequence = [
            dataset(
                RadiopharmaceuticalAgentNumber=1, RadionuclideTotalDose="350", RadionuclideHalfLife="6586.2",
                RadiopharmaceuticalStartDateTime="20240102100000", RadionuclideCodeSequence=code("C-111A1", "SRT"),
            )
        ]  # fmt: skip
        ds.Rows, ds.Columns, ds.NumberOfFrames = 3, 4, 5
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.SharedFunctionalGroupsSequence = [
            dataset(
                PixelMeasuresSequence=[dataset(PixelSpacing=[3.0, 2.0], SliceThickness=5.0)],
                PlaneOrientationSequence=[dataset(ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0])],
                PixelValueTransformationSequence=[dataset(RescaleSlope="1", RescaleIntercept="0", RescaleType="US")],
            )
        ]
        ds.PerFrameFunctionalGroupsSequence = [frame_groups(n, unit=unit, slope=slopes[n]) for n in range(5)]
        ds.PixelData = STORED.tobytes()
        for keyword, value in attributes.items():
            delattr(ds, keyword) if value is None else setattr(ds, keyword, value)
        for n, groups in enumerate(ds.get("PerFrameFunctionalGroupsSequence", ())):
            if each is not None:
                each(groups, n)
        if change is not None:
            change(ds)
        path = tmp_path / name
        ds.save_as(path, enforce_file_format=True)
        return path

    return write


def expected(slopes, factor=FACTOR):
    array = np.empty((4, 3, 5))
    for n, place in enumerate(ORDER):
        array[:, :, place] = STORED[n].T * float(slopes[n]) * factor
    return array


def test_an_enhanced_pet_by_hand(enhanced):
    case = uptake.read(enhanced())
    np.testing.assert_allclose(case.pet.array, expected((1, 2, 3, 4, 5)), rtol=1e-6)
    np.testing.assert_allclose(case.pet.world_of(np.array([0, 0, 0])), [-10, -20, 30])
    np.testing.assert_allclose(case.pet.world_of(np.array([1, 1, 4])), [-12, -23, 50])
    assert case.acquisition["suv_rule"] == "BQML/START"
    assert case.acquisition["injected_dose_bq"] == pytest.approx(350e6)
    assert case.acquisition["uptake_time_min"] == 60
    assert [path.name for path in case.pet_files] == ["pet.dcm"]


def test_a_large_file_is_read_by_pydicom_with_the_same_result(enhanced, monkeypatch):
    from uptake.io import archive

    path = enhanced()
    quick = uptake.read(path)
    monkeypatch.setattr(archive, "SMALL_FILE", 10)
    slow = uptake.read(path)
    np.testing.assert_array_equal(slow.pet.array, quick.pet.array)
    assert slow.acquisition == quick.acquisition


def test_frames_share_nothing_that_differs(enhanced):
    header = pydicom.dcmread(enhanced(), stop_before_pixels=True)
    before = str(header)
    flat = flat_headers(header, "x")
    assert [float(h.RescaleSlope) for h in flat] == [1, 2, 3, 4, 5]
    assert [float(h.ImagePositionPatient[2]) for h in flat] == [30.0 + 5.0 * place for place in ORDER]
    assert {(h.AcquisitionDate, h.AcquisitionTime, h.ActualFrameDuration) for h in flat} == {
        ("20240102", "110000", 180000)
    }
    assert flat[0].CorrectedImage == ["DECY", "ATTN", "SCAT", "RAN"]
    assert str(header) == before


@pytest.mark.parametrize(
    ("change", "rule", "factor"),
    [
        ({"DecayCorrectionDateTime": "20240102100000"}, "BQML/ADMIN", 70000 / 350e6),
        ({"unit": "g/ml{SUVbw}"}, "GML/BW", 1.0),
    ],
)
def test_other_units_and_moments(enhanced, change, rule, factor):
    case = uptake.read(enhanced(slopes=(1e-3,) * 5, **change), assume_suv=True)
    assert case.acquisition["suv_rule"] == rule
    np.testing.assert_allclose(case.pet.array, expected((1e-3,) * 5, factor), rtol=1e-5)


def test_units_may_stand_in_the_rescale_type(enhanced):
    def change(ds):
        ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleType = "BQML"

    case = uptake.read(enhanced(unit=None, change=change))
    np.testing.assert_allclose(case.pet.array, expected((1,) * 5), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"unit": None}, MissingAttributeError, r"Units \(0054,1001\) is absent"),
        ({"unit": "{counts}/s"}, UnitError, r"\(0054,1001\) is CPS"),
        ({"DecayCorrectionDateTime": None}, MissingAttributeError, r"Decay Correction \(0054,1102\)"),
        ({"AttenuationCorrected": "NO"}, UnitError, "lacks ATTN"),
        ({"PatientWeight": None}, MissingAttributeError, "Patient's Weight"),
        ({"NumberOfFrames": 4}, FileFormatError, r"Number of Frames \(0028,0008\) is 4, and .* has 5 items"),
        ({"PerFrameFunctionalGroupsSequence": None}, FileFormatError, "has 0 items"),
        ({"PixelData": STORED.tobytes()[:-24]}, FileFormatError, "ends within its pixels"),
    ],
)
def test_what_is_missing_is_named(enhanced, change, error, message):
    path = enhanced(**change)
    with pytest.raises(error, match=message) as caught:
        read_dicom(path)
    assert str(path) in str(caught.value)


def test_several_moments_and_doubled_frames_are_refused(enhanced):
    def temporal(groups, n):
        groups.FrameContentSequence[0].TemporalPositionIndex = 1 + n % 2

    with pytest.raises(UnitError, match=r"Temporal Position Index \(0020,9128\) has 2 values: not supported"):
        read_dicom(enhanced(each=temporal))

    def doubled(groups, n):
        groups.PlanePositionSequence[0].ImagePositionPatient = [10.0, 20.0, 30.0 + 5.0 * (n // 2)]

    with pytest.raises(GeometryError, match="share a position"):
        read_dicom(enhanced(each=doubled))


def test_a_folder_with_an_enhanced_ct_beside_slices_of_pet(tmp_path, pet_series, enhanced):
    def as_ct(ds):
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
        ds.Modality, ds.SeriesInstanceUID = "CT", "1.2.3.5"
        transformation = ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
        transformation.RescaleIntercept, transformation.RescaleType = "-1024", "HU"
        ds.PixelData = (STORED // 25).tobytes()

    enhanced("ct.dcm", unit=None, change=as_ct)
    pet_series(tmp_path / "PT")
    case = uptake.read(tmp_path)
    assert case.ct is not None
    assert case.ct.shape == (4, 3, 5)
    assert case.ct.array[0, 0, 2] == -1024  # the first frame lies third
    assert case.ct.array.max() == 59 * 20 - 1024
    assert [path.name for path in case.ct_files] == ["ct.dcm"]


@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_a_legacy_converted_pet_equals_its_slices(tmp_path, dicom_pet, orientation):
    stored = np.random.default_rng(1).integers(0, 20000, (7, 7, 5))
    dicom_pet(tmp_path / "slices", orientation=orientation, stored=stored)
    dicom_pet(tmp_path / "converted", orientation=orientation, stored=stored, multi_frame=True)
    slices, converted = uptake.read(tmp_path / "slices"), uptake.read(tmp_path / "converted")
    np.testing.assert_allclose(converted.pet.array, slices.pet.array, rtol=1e-6)
    np.testing.assert_allclose(converted.pet.affine, slices.pet.affine, atol=1e-4)
    assert converted.acquisition["suv_factor"] == pytest.approx(slices.acquisition["suv_factor"], rel=1e-9)
    assert converted.acquisition["reference_time"] == slices.acquisition["reference_time"]
    np.testing.assert_array_equal(uptake.read(tmp_path / "converted" / "all.dcm").pet.array, converted.pet.array)


def test_real_slices_converted_to_one_file(shared_data, tmp_path):
    import warnings

    hd = pytest.importorskip("highdicom.legacy")
    folder = shared_data / "dicom" / "ge_raw" / "STS_001" / "PT"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets = [pydicom.dcmread(path) for path in sorted(folder.iterdir())[100:120]]
        image = hd.LegacyConvertedEnhancedPETImage(datasets, "1.2.3.4", 9, "1.2.3.4.5", 1)
        image.save_as(tmp_path / "all.dcm")
        case = uptake.read(tmp_path / "all.dcm")
    whole = uptake.read(shared_data / "dicom" / "ge_raw" / "STS_001")
    start = round(float(whole.pet.index_of(np.array(case.pet.origin_mm))[2]))
    np.testing.assert_allclose(case.pet.array, whole.pet.array[:, :, start : start + 20], rtol=1e-6)


def test_one_slice_of_a_series_is_no_study(tmp_path, pet_series):
    folder = pet_series(tmp_path / "PT")
    path = sorted(folder.iterdir())[0]
    with pytest.raises(InputError, match="one DICOM file is one slice"):
        uptake.read(path)
