"""Headers of real series of four vendors against published factors (shared data: MIT, Precision Imaging Metrics)."""

from __future__ import annotations

import csv
import json

import pytest

from uptake.core.errors import UnitError
from uptake.io.dicom_suv import suv_of_headers

TRACER = (
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
)


def headers_of(shared_data, name):
    from pydicom.dataset import Dataset

    headers = []
    for entry in json.loads((shared_data / "dicom" / "suv_headers" / f"{name}.json").read_text()):
        header, tracer = Dataset(), Dataset()
        for keyword, value in entry.items():
            if keyword != "PhilipsPETPrivateGroup":
                text = str(value).strip() if isinstance(value, (int, float, str)) else value
                setattr(tracer if keyword in TRACER else header, keyword, text)
        header.RadiopharmaceuticalInformationSequence = [tracer]
        headers.append(header)
    return headers


@pytest.mark.parametrize(
    "name",
    ["BQML_AC_DT_lessThan_S_DT_SIEMENS", "CPS_AND_BQML_AC_DT_-_S_DT", "GE_MEDICAL_AND_BQML", "PHILIPS_BQML", "SIEMENS"],
)
def test_published_factors(shared_data, name):
    with (shared_data / "dicom" / "suv_headers" / "expected.csv").open() as stream:
        expected = {row["header"]: float(row["suvbw_factor_first_instance"]) for row in csv.DictReader(stream)}
    conversion, _, _ = suv_of_headers(headers_of(shared_data, name), name)
    assert conversion.factor == pytest.approx(expected[name], rel=1e-6)


def test_philips_counts_are_refused_by_name(shared_data):
    with pytest.raises(UnitError, match=r"^x: Units \(0054,1001\) is CNTS: not supported yet"):
        suv_of_headers(headers_of(shared_data, "PHILIPS_CNTS_AND_SUV"), "x")
