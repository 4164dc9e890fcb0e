"""SUV of whole objects: the public digital reference objects, the same matrix made anew, and real series.

The public set (oncoray/suv_computation, CC BY 4.0, © 2026 Michael Vácha) has seventeen objects, twelve of which are at
hand. Each holds a phantom of SUV 0.20, 1.00 and 4.00 whose stored values and attributes differ. `MATRIX` makes all
seventeen kinds, and more of each, with slopes so fine that rounding plays no part.
"""

from __future__ import annotations

import csv
import json
import math
import zipfile
from datetime import datetime, timedelta

import numpy as np
import pytest

import uptake
from uptake.core.errors import UnitError
from uptake.io.dicom import read_dicom
from uptake.physics.suv_audit import recompute_factor

WEIGHT_KG, HEIGHT_M, DOSE_BQ, F18, GA68 = 70.0, 1.75, 368.08e6, 6586.2, 4057.7
TRUTH = np.array([0.2, 1.0, 4.0])
SLICES = 6
FRAME_S = 300.0
INJECTED = datetime(2025, 1, 1, 10, 0)
SCANNED = datetime(2025, 1, 1, 11, 0)


def left_after(seconds: float, half_life_s: float = F18) -> float:
    return math.exp(-math.log(2) * seconds / half_life_s)


def mean_over_frame(half_life_s: float = F18) -> float:
    """Mean activity over a frame, relative to that at its start."""
    exponent = math.log(2) * FRAME_S / half_life_s
    return (1 - math.exp(-exponent)) / exponent


CORRECTED_TO_SCAN = DOSE_BQ * left_after(3600.0) / (WEIGHT_KG * 1000)
"""Bq/mL of SUV 1, one hour after the injection of F-18."""


def stored_of(unit, k):
    return unit[k] if isinstance(unit, list) else unit


def bedwise(*minutes):
    """Acquisition time of each slice, minutes after `SCANNED`."""

    def write(header, k):
        header.AcquisitionTime = (SCANNED + timedelta(minutes=minutes[k * len(minutes) // SLICES])).strftime("%H%M%S")

    return write


def private(group, creator, element, vr, value):
    def write(header, k):
        chosen = value[k] if isinstance(value, list) else value
        if creator:
            header.private_block(group, creator, create=True).add_new(element, vr, chosen)
        else:
            header.add_new((group, 0x1000 + element), vr, chosen)

    return write


def together(*writers):
    def write(header, k):
        for one in writers:
            one(header, k)

    return write


def philips(element, value):
    return private(0x7053, "Philips PET Private Group", element, "DS", value)


BED_MINUTES = (0.0, 5.0, 10.0)
UNCORRECTED = [
    DOSE_BQ / (WEIGHT_KG * 1000) * left_after(3600 + 60 * BED_MINUTES[k * 3 // SLICES]) * mean_over_frame()
    for k in range(SLICES)
]

# Per case: value of SUV 1 in the unit of the header, and what differs from the first case.
MATRIX = {
    "0_0 BQML START": (CORRECTED_TO_SCAN, {}),
    "1_0 slope per slice": (CORRECTED_TO_SCAN, {"slopes": [1e-2 * (k + 1) for k in range(SLICES)]}),
    "2_0 GML": (1.0, {"Units": "GML", "SUVType": "BW"}),
    "2_0 GML, type empty": (1.0, {"Units": "GML"}),
    "2_1 GML LBMJAMES128": (56.520 / 70, {"Units": "GML", "SUVType": "LBMJAMES128", "PatientSex": "M"}),
    "2_1 GML LBMJANMA": (0.7979571, {"Units": "GML", "SUVType": "LBMJANMA", "PatientSex": "M"}),
    "2_1 GML LBM": (57.800 / 70, {"Units": "GML", "SUVType": "LBM", "PatientSex": "M"}),
    "2_2 GML IBW, sex O": (69.405 / 70, {"Units": "GML", "SUVType": "IBW"}),
    "2_3 CM2ML": (18481.43 / 70000, {"Units": "CM2ML", "SUVType": "BSA"}),
    "2_3 CM2ML, type empty, height in cm": (18481.43 / 70000, {"Units": "CM2ML", "PatientSize": "175"}),
    "2_4 CNTS, SUV factor": (1 / 0.0005, {"Units": "CNTS", "each": philips(0x00, "0.0005")}),
    "2_5 CNTS, activity factor": (CORRECTED_TO_SCAN / 4.0, {"Units": "CNTS", "each": philips(0x09, "4.0")}),
    "2_5 CNTS, activity factor per slice": (
        [CORRECTED_TO_SCAN / (k + 1) for k in range(SLICES)],
        {"Units": "CNTS", "each": philips(0x09, [str(k + 1) for k in range(SLICES)])},
    ),
    "2_5 CNTS, both factors": (
        CORRECTED_TO_SCAN / 4.0,
        {"Units": "CNTS", "each": together(philips(0x09, "4.0"), philips(0x00, f"{4.0 / CORRECTED_TO_SCAN:.8g}"))},
    ),
    "2_5 CNTS, activity factor, ADMIN": (
        DOSE_BQ / 70000 / 4.0, {"Units": "CNTS", "DecayCorrection": "ADMIN", "each": philips(0x09, "4.0")},
    ),
    "2_5 CNTS, activity factor, NONE": (
        [value / 4.0 for value in UNCORRECTED],
        {"Units": "CNTS", "DecayCorrection": "NONE", "CorrectedImage": ["ATTN"],
         "each": together(bedwise(*BED_MINUTES), philips(0x09, "4.0"))},
    ),
    "3_0 dose in MBq": (CORRECTED_TO_SCAN, {"tracer": {"RadionuclideTotalDose": "368.08"}}),
    "3_0 weight in g": (CORRECTED_TO_SCAN, {"PatientWeight": "70000"}),
    "3_1 ADMIN": (DOSE_BQ / 70000, {"DecayCorrection": "ADMIN"}),
    "3_2 Series Time after acquisition": (CORRECTED_TO_SCAN, {"SeriesTime": "113000"}),
    "3_2 Series Time after acquisition, no Frame Reference Time": (
        CORRECTED_TO_SCAN, {"SeriesTime": "113000", "FrameReferenceTime": None},
    ),
    "3_2 Series Time after acquisition, cropped to a late bed": (
        CORRECTED_TO_SCAN, {"SeriesTime": "120000", "AcquisitionTime": "111000", "FrameReferenceTime": "749602"},
    ),
    "3_2 Series Time after acquisition, several beds": (
        CORRECTED_TO_SCAN, {"SeriesTime": "113000", "FrameReferenceTime": None, "each": bedwise(*BED_MINUTES)},
    ),
    "3_3 GE private time": (
        CORRECTED_TO_SCAN,
        {"AcquisitionTime": "113000", "Manufacturer": "GE MEDICAL SYSTEMS",
         "each": private(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20250101110000.00")},
    ),
    "3_3 GE private time alone tells, creator dropped": (
        CORRECTED_TO_SCAN,
        {"AcquisitionTime": "113000", "SeriesTime": "114500", "Manufacturer": "GE MEDICAL SYSTEMS",
         "each": private(0x0009, None, 0x0D, "DT", "20250101110000.00")},
    ),
    "3_3 Siemens private time": (
        CORRECTED_TO_SCAN,
        {"SeriesTime": "114500", "AcquisitionTime": "113000",
         "each": private(0x0071, "SIEMENS MED PT", 0x22, "DT", "20250101110000.000000")},
    ),
    "3_4 NONE, several times": (
        UNCORRECTED, {"DecayCorrection": "NONE", "CorrectedImage": ["ATTN"], "each": bedwise(*BED_MINUTES)},
    ),
    "3_4 NONE, several times, DECY listed": (
        UNCORRECTED, {"DecayCorrection": "NONE", "DecayFactor": "1.0", "each": bedwise(*BED_MINUTES)},
    ),
    "4_0 only DateTime": (
        CORRECTED_TO_SCAN,
        {"tracer": {"RadiopharmaceuticalStartTime": None,
                    "RadiopharmaceuticalStartDateTime": "20250101100000.000000"}},
    ),
    "4_1 only Time": (CORRECTED_TO_SCAN, {}),
    "4_2 over midnight": (
        CORRECTED_TO_SCAN,
        {"tracer": {"RadiopharmaceuticalStartTime": "233000"}, "SeriesTime": "003000", "AcquisitionTime": "003000"},
    ),
    "4_2 scan over midnight": (
        CORRECTED_TO_SCAN,
        {"tracer": {"RadiopharmaceuticalStartTime": "225500"}, "SeriesTime": "235500", "AcquisitionDate": "20250102",
         "AcquisitionTime": "000500", "FrameReferenceTime": "749602"},
    ),
    "5_0 Ga-68": (
        DOSE_BQ * left_after(3600, GA68) / 70000, {"tracer": {"RadionuclideHalfLife": "4057.7", "codes": ("C-131A3",)}},
    ),
    "5_0 Zr-89, six days": (
        DOSE_BQ * left_after(6 * 86400 + 3600, 282276.0) / 70000,
        {"tracer": {"RadionuclideHalfLife": "282276", "codes": ("C-168A4",),
                    "RadiopharmaceuticalStartDateTime": "20241226100000"}},
    ),
    "6 half-life from the code": (
        DOSE_BQ * left_after(3600, 4062.6) / 70000, {"tracer": {"RadionuclideHalfLife": None, "codes": ("C-131A3",)}},
    ),
    "6 shifted date of the injection": (
        CORRECTED_TO_SCAN,
        {"tracer": {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": "20190707100000"}},
    ),
}  # fmt: skip


@pytest.fixture
def reference_object(pet_series, tmp_path):
    """Return a function that writes one case of the matrix and returns its folder."""

    def write(unit, changes):
        slopes = changes.get("slopes", [1e-4 * stored_of(unit, k) for k in range(SLICES)])
        stored = np.empty((SLICES, 3, 4), dtype=np.int16)
        for k in range(SLICES):
            values = TRUTH[(np.arange(12) + k) % 3].reshape(3, 4) * stored_of(unit, k) / slopes[k]
            if values.max() > 32000:
                slopes = [*slopes[:k], slopes[k] * values.max() / 32000, *slopes[k + 1 :]]
                values = TRUTH[(np.arange(12) + k) % 3].reshape(3, 4) * stored_of(unit, k) / slopes[k]
            stored[k] = np.rint(values)
        tracer = {
            "RadionuclideTotalDose": str(DOSE_BQ), "RadionuclideHalfLife": str(F18),
            "RadiopharmaceuticalStartTime": "100000", **changes.get("tracer", {}),
        }  # fmt: skip
        header = {
            "PatientSize": str(HEIGHT_M), "PatientSex": "O", "SeriesDate": "20250101", "AcquisitionDate": "20250101",
            "FrameReferenceTime": "150000", "ActualFrameDuration": str(int(FRAME_S * 1000)),
            "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"], "SeriesType": ["STATIC", "IMAGE"],
            **{key: value for key, value in changes.items() if key not in ("tracer", "slopes")},
        }  # fmt: skip
        exact = [float(f"{slope:.10g}") for slope in slopes]
        return pet_series(tmp_path / "PT", slices=SLICES, stored=stored, slopes=exact, tracer=tracer, **header)

    return write


@pytest.mark.parametrize("case", MATRIX)
def test_the_matrix_made_anew(reference_object, case):
    unit, changes = MATRIX[case]
    study = read_dicom(reference_object(unit, changes))
    # Stack order is that of the file numbers here, and each slice holds the three values in turn.
    expected = np.stack([TRUTH[(np.arange(12) + k) % 3].reshape(3, 4).T for k in range(SLICES)], axis=-1)
    np.testing.assert_allclose(study.pet.array, expected, rtol=3e-4)
    factors = recompute_factor(json.loads(json.dumps(study.acquisition)))
    found = study.acquisition["suv_slice_factors"] or [study.acquisition["suv_factor"]]
    np.testing.assert_allclose(factors, found, rtol=1e-12)


DRO = ("0_0", "2_0", "2_1", "2_2", "2_3", "2_4", "3_0", "3_1", "3_3", "4_0", "4_1", "5_0")


@pytest.mark.parametrize("number", DRO)
def test_public_digital_reference_objects(shared_data, tmp_path, number):
    nibabel = pytest.importorskip("nibabel")
    place = shared_data / "dicom" / "suv_dro"
    with zipfile.ZipFile(place / f"DRO_{number}.zip") as archive:
        archive.extractall(tmp_path)
    with (place / "expected.csv").open() as stream:
        (row,) = [row for row in csv.DictReader(stream) if row["id"] == f"DRO_{number}"]
    expected = [float(row[f"suvbw_{name}"]) for name in ("min", "median", "max")]
    (mask,) = tmp_path.rglob("DRO_mask.nii.gz")
    inside = np.asarray(nibabel.load(mask).dataobj) > 0
    mask.unlink()
    study = read_dicom(tmp_path, with_ct=False)
    suv = study.pet.array[inside]
    step = float(study.header.RescaleSlope) * study.conversion.factor
    assert np.abs(np.array([suv.min(), np.median(suv), suv.max()]) - expected).max() <= step
    assert recompute_factor(json.loads(json.dumps(study.acquisition))) == (pytest.approx(study.conversion.factor),)


@pytest.mark.parametrize("patient", ["STS_002", "STS_041", "STS_042"])
def test_stored_suv_of_real_series(shared_data, patient):
    found = read_dicom(shared_data / "dicom" / "sts_cropped" / patient / "PT")
    assert (found.acquisition["suv_rule"], found.acquisition["suv_factor"]) == ("GML/BW", 1.0)
    nifti = uptake.read(shared_data / "sts" / patient).pet
    # The NIfTI is stored in steps, one per image.
    np.testing.assert_allclose(np.sort(found.pet.array, axis=None), np.sort(nifti.array, axis=None), atol=5e-3)
    accounts = {entry["source"]: entry for entry in found.acquisition["reference_time_accounts"]}
    assert accounts["Frame Reference Time (0054,1300)"]["standing"] == "agrees"
    assert accounts["Decay Factor (0054,1321)"]["standing"] == "agrees"


def test_one_slice_of_a_real_flt_series(shared_data):
    from pydicom import dcmread

    from uptake.io.dicom_suv import suv_of_headers

    header = dcmread(shared_data / "dicom" / "acrin_flt" / "wholebody_slice.dcm")
    conversion, acquisition, notes = suv_of_headers([header], "slice")
    assert conversion.factor == pytest.approx(5.942485e-04, rel=1e-6)
    assert conversion.uptake_time_s == pytest.approx(3976.9, abs=0.1)
    rescaled = header.pixel_array * float(header.RescaleSlope)
    assert conversion.applied_to(rescaled[..., np.newaxis]).max() == pytest.approx(7.194, abs=1e-3)
    assert notes == ()
    standing = {entry["source"]: entry["standing"] for entry in acquisition["reference_time_accounts"]}
    assert standing["Decay Factor (0054,1321)"] == standing["Frame Reference Time (0054,1300)"] == "agrees"


def test_decay_factors_of_a_real_ge_series_count_from_its_series_time(shared_data):
    """The 267-slice series has one acquisition time for six beds: only Series Time tells the reference."""
    from pydicom import dcmread

    from uptake.io.dicom_suv import suv_of_headers

    files = sorted((shared_data / "dicom" / "ge_raw" / "STS_001" / "PT").glob("*.dcm"))[::20]
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    conversion, acquisition, notes = suv_of_headers(headers, "series")
    assert conversion.factor == pytest.approx(2.429030e-04, rel=1e-6)
    assert notes == ()
    accounts = {entry["source"]: entry for entry in acquisition["reference_time_accounts"]}
    assert accounts["Series Time (0008,0031)"]["standing"] == "used"
    assert "1215 s apart" in accounts["Frame Reference Time (0054,1300)"]["remark"]
    # One late bed alone would lead 20 min astray; Series Time still wins, and the conflict is reported.
    late = [header for header in headers if float(header.FrameReferenceTime) == 1215000]
    alone, _, notes = suv_of_headers(late, "bed")
    assert alone.factor == conversion.factor
    assert "(0054,1300) would place it 1215 s earlier" in notes[0]


def test_contradicting_philips_factors_are_refused(reference_object):
    both = together(philips(0x09, "4.0"), philips(0x00, f"{6.0 / CORRECTED_TO_SCAN:.8g}"))
    with pytest.raises(UnitError, match=r"\(7053,1000\) is 1\.50000 times what \(7053,1009\), weight, dose and times"):
        read_dicom(reference_object(CORRECTED_TO_SCAN / 4.0, {"Units": "CNTS", "each": both}))
