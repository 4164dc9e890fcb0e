"""Reports written and read: numbers, units, references; by us, by pydicom alone, and by the validator."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uptake.core.errors import FileFormatError, OutputError, UsageError
from uptake.io import structured_report
from uptake.io.dicom_reference import Identity, read_reference
from uptake.io.dicom_result import Maker, Segment
from uptake.io.dicom_seg import write_seg
from uptake.io.structured_report import QUANTITIES, TOTALS, Measured, read_sr, write_sr
from uptake.io.terminology import Code

MAKER = Maker("AUTOMATIC", "test-model", "1.2", "0123456789abcdef")
NUMBERS = {
    "suv_max": 7.91072,
    "suv_mean": 2.5,
    "suv_peak": 5.98,
    "mtv_ml": 366.07871,
    "tlg_g": 935.4,
    "volume_ml": 400.0,
}
MEASURED = (
    Measured(1, "lesion 1", NUMBERS),
    Measured(2, "lesion 2", {**NUMBERS, "suv_max": 1.0, "suv_mean": math.nan, "mtv_ml": 0.0}),
)
TOTAL = {name: 2 * NUMBERS[name] for name in TOTALS}


@pytest.fixture(scope="module", params=[False, True], ids=["slices", "multi-frame"])
def found(request, dicom_pet, tmp_path_factory):
    """The SEG of two lesions and the reference to the PET it lies on."""
    folder = tmp_path_factory.mktemp("sr")
    files, volume = dicom_pet(folder / "pet", multi_frame=request.param)
    labels = np.zeros(volume.shape, np.uint8)
    labels[1:3, 1:3, 1:3], labels[5, 5, 3] = 1, 2
    reference = read_reference(files, volume)
    segments = [Segment(1, "lesion 1"), Segment(2, "lesion 2")]
    seg = write_seg(
        volume.with_array(labels), segments, reference, folder / "seg.dcm", maker=MAKER, identity=Identity("case 7")
    )
    return seg, reference


def written(found, path: Path, measured=MEASURED, **options) -> Path:
    seg, reference = found
    options = {"totals": TOTAL, "maker": MAKER, "identity": Identity("case 7"), **options}
    write_sr(measured, seg, reference, path, **options)
    return path


def test_every_number_comes_back_with_its_segment(found, tmp_path):
    one, two = read_sr(written(found, tmp_path / "a.dcm"))
    assert one["numbers"] == {name: round(value, 4) for name, value in NUMBERS.items()}
    assert (one["name"], one["seg"], one["segment"]) == ("lesion 1", found[0].sop_instance_uid, 1)
    assert "suv_mean" not in two["numbers"] and two["numbers"]["mtv_ml"] == 0.0
    assert one["tracking_uid"] != two["tracking_uid"]


def test_the_organ_that_a_lesion_lies_in_is_its_finding_site(found, tmp_path):
    import highdicom.sr

    named = (replace(MEASURED[0], organ="kidney_left"), replace(MEASURED[1], organ="liver"))
    file = written(found, tmp_path / "a.dcm", measured=named)
    kidney, liver = Code("64033007", "Kidney"), Code("10200004", "Liver")
    assert [group["site"] for group in read_sr(file)] == [(kidney, Code("7771000", "Left")), (liver, None)]
    groups = highdicom.sr.srread(file).content.get_volumetric_roi_measurement_groups()
    sites = [site for group in groups for site in group.finding_sites]
    told = [(site.value.value, site.value.scheme_designator, site.laterality) for site in sites]
    assert told[0][:2] == ("64033007", "SCT") and told[0][2].meaning == "Left"
    assert told[1] == ("10200004", "SCT", None)


@pytest.mark.parametrize("organ", ["", "no such organ", "lesion"])
def test_a_place_without_a_code_gives_no_finding_site(found, tmp_path, organ):
    group, _ = read_sr(written(found, tmp_path / "a.dcm", measured=(replace(MEASURED[0], organ=organ), MEASURED[1])))
    assert group["site"] == (None, None)


def test_highdicom_finds_the_same_groups(found, tmp_path):
    import highdicom.sr

    report = highdicom.sr.srread(written(found, tmp_path / "a.dcm"))
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["lesion 1", "lesion 2"]
    assert [len(group.get_measurements()) for group in groups] == [6, 5]
    (maximum, *_) = groups[0].get_measurements()
    assert (maximum.value, maximum.unit.value, maximum.derivation.meaning) == (7.9107, "g/ml{SUVbw}", "Maximum")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.dcm").write_text("no DICOM")
    with pytest.raises(FileFormatError, match="no DICOM structured report"):
        read_sr(tmp_path / "a.dcm")


def items(dataset) -> list:
    """Return all content items below one."""
    below = [item for item in dataset.get("ContentSequence", ())]
    return below + [other for item in below for other in items(item)]


def test_concepts_and_units_by_pydicom_alone(found, tmp_path):
    import pydicom

    dataset = pydicom.dcmread(written(found, tmp_path / "a.dcm", definitions=["MTV: voxels of the mask"]))
    numbers = [item for item in items(dataset) if item.ValueType == "NUM"]
    said = {}
    for item in numbers[:6]:
        measured = item.MeasuredValueSequence[0]
        derivation = [
            below.ConceptCodeSequence[0].CodeMeaning
            for below in item.get("ContentSequence", ())
            if below.ConceptNameCodeSequence[0].CodeMeaning == "Derivation"
        ]
        key = (item.ConceptNameCodeSequence[0].CodeMeaning, *derivation)
        said[key] = (float(measured.NumericValue), measured.MeasurementUnitsCodeSequence[0].CodeValue)
        assert measured.MeasurementUnitsCodeSequence[0].CodingSchemeDesignator == "UCUM"
    assert said == {
        ("SUVbw", "Maximum"): (7.9107, "g/ml{SUVbw}"),
        ("SUVbw", "Mean"): (2.5, "g/ml{SUVbw}"),
        ("SUVbw", "Peak Value Within ROI"): (5.98, "g/ml{SUVbw}"),
        ("Metabolic Volume",): (366.0787, "cm3"),
        ("Total Lesion Glycolysis",): (935.4, "g"),
        ("Volume",): (400.0, "cm3"),
    }
    assert len(numbers) == 6 + 5 + 5  # two lesions, one without a mean, and all together
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert any(item.get("TextValue") == "MTV: voxels of the mask" for item in items(dataset))
    assert dataset.SeriesDescription == "uptake lesion measurements - research use only"
    assert (dataset.VerificationFlag, dataset.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_codes_are_those_of_the_standard():
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts
    for concept, derivation, unit in QUANTITIES.values():
        for code in filter(None, (concept, derivation, unit)):
            if code.value == "g":  # a base unit of UCUM, in no context group
                continue
            names = {
                name
                for entries in concepts[code.scheme].values()
                for value, (name, _) in entries.items()
                if value == code.value
            }
            assert code.meaning in names


def test_nothing_identifies_the_patient_unless_asked_and_bytes_repeat(found, tmp_path):
    import pydicom

    content = written(found, tmp_path / "a.dcm").read_bytes()
    for word in (b"Secret", b"SECRET", b"19500101", b"073Y"):
        assert word not in content
    assert written(found, tmp_path / "b.dcm").read_bytes() == content
    kept = pydicom.dcmread(written(found, tmp_path / "c.dcm", identity=Identity("c", keep=True)))
    assert (kept.PatientID, kept.AccessionNumber) == ("SECRET-ID", "SECRET-A")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize(
    "options", [{}, {"identity": Identity("c", keep=True), "maker": Maker()}, {"measured": (), "totals": {}},
                {"measured": (replace(MEASURED[0], organ="kidney_left"),)}]
)  # fmt: skip
def test_the_validator_finds_no_error(found, tmp_path, options):
    ran = subprocess.run(
        ["dciodvfy", str(written(found, tmp_path / "a.dcm", **options))], capture_output=True, text=True, check=False
    )
    assert "Comprehensive3DSR" in ran.stderr
    assert [line for line in ran.stderr.splitlines() if line.startswith("Error")] == []


def test_what_does_not_fit_is_refused(found, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="unknown segment 9"):
        written(found, tmp_path / "a.dcm", measured=[replace(MEASURED[0], value=9)])
    with pytest.raises(UsageError, match=r"quantities \['suv_mode'\]"):
        written(found, tmp_path / "a.dcm", measured=[replace(MEASURED[0], numbers={"suv_mode": 1.0})])
    monkeypatch.setattr(structured_report, "read_sr", lambda path: [])
    with pytest.raises(OutputError, match=r"a\.dcm: not kept"):
        written(found, tmp_path / "a.dcm")
    assert list(tmp_path.iterdir()) == []
