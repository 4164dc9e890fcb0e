"""Lesion numbers out: a DICOM structured report by template TID 1500, read back before it gets its name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake import __version__
from uptake.core.errors import FileFormatError, OutputError, UsageError
from uptake.io.dicom_reference import Identity, Reference, safe_text, uid_of
from uptake.io.dicom_result import (
    MANUFACTURER,
    Maker,
    Written,
    equipment,
    quiet_writing,
    save_checked,
    series_description,
    stamp,
)
from uptake.io.dicom_seg import coded, tracking_uid
from uptake.io.terminology import Code, meaning_of, site_of

SERIES_NUMBER = 9003

COMPREHENSIVE_3D = "1.2.840.10008.5.1.4.1.1.88.34"

SUV = Code("126401", "SUVbw", "DCM")
METABOLIC_VOLUME = Code("126032", "Metabolic Volume", "DCM")
GLYCOLYSIS = Code("126033", "Total Lesion Glycolysis", "DCM")
VOLUME = Code("118565006", "Volume")
MAXIMUM = Code("56851009", "Maximum")
MEAN = Code("373098007", "Mean")
PEAK = Code("126031", "Peak Value Within ROI", "DCM")
TOTAL = Code("255619001", "Total")
PER_GRAM = Code("g/ml{SUVbw}", "Standardized Uptake Value body weight", "UCUM")
CUBIC_CENTIMETRE = Code("cm3", "cubic centimeter", "UCUM")
GRAM = Code("g", "gram", "UCUM")
IMAGING = Code("363679005", "Imaging procedure")

QUANTITIES: Mapping[str, tuple[Code, Code | None, Code]] = {
    "suv_max": (SUV, MAXIMUM, PER_GRAM),
    "suv_mean": (SUV, MEAN, PER_GRAM),
    "suv_peak": (SUV, PEAK, PER_GRAM),
    "mtv_ml": (METABOLIC_VOLUME, None, CUBIC_CENTIMETRE),
    "tlg_g": (GLYCOLYSIS, None, GRAM),
    "volume_ml": (VOLUME, None, CUBIC_CENTIMETRE),
}
"""Name -> concept, derivation and unit; PS3.16 CID 7466, 7464, 84. 1 cm³ is 1 mL."""

TOTALS = ("suv_max", "suv_peak", "mtv_ml", "tlg_g", "volume_ml")
"""What is said of all lesions together."""

IMAGING_MEASUREMENTS, MEASUREMENT_GROUP, REFERENCED_SEGMENT = "126010", "125007", "121191"
TRACKING_IDENTIFIER, TRACKING_UID, DERIVATION = "112039", "112040", "121401"
FINDING_SITE, LATERALITY = "363698007", "272741003"
"""Codes (DCM; of site and side SCT) of the parts of a report that are read back; PS3.16 TID 1500, 1411, 1419."""

DECIMALS = 4
"""As in lesions.csv and lesions.json."""


@dataclass(frozen=True)
class Measured:
    """The numbers of one segment.

    Attributes
    ----------
    value : int
        In the label map.
    name : str
    numbers : mapping
        Values by the names of `QUANTITIES`.
    organ : str
        Class name of the organ it lies in; "" where it lies in none, or none is known.
    """

    value: int
    name: str
    numbers: Mapping[str, float]
    organ: str = ""


@quiet_writing()
def write_sr(
    measured: Sequence[Measured],
    segmentation: Written,
    reference: Reference,
    path: Path,
    *,
    totals: Mapping[str, float],
    maker: Maker,
    identity: Identity,
    definitions: Sequence[str] = (),
    content: str = "lesion measurements",
) -> Written:
    """Write measurements as a Comprehensive 3D SR: one group per segment that refers to it, one for all together.

    Parameters
    ----------
    measured : sequence of Measured
        Numbers that are NaN are left out. An organ that has a code (`terminology.site_of`) becomes the Finding Site.
    segmentation : Written
        The SEG that holds the segments, from `dicom_seg.write_seg`.
    reference : Reference
    path : Path
    totals : mapping
        `TOTALS` of the whole body.
    maker, identity, content
        As `dicom_seg.write_seg`.
    definitions : sequence of str
        How the numbers are defined where no code says it ("MTV: voxels at or above 41 % of SUVmax"); stand as
        parameters of the algorithm in the group of all lesions.

    Raises
    ------
    UsageError
        If a segment is not in the SEG, or a quantity is unknown.
    OutputError
        If the file cannot be written, or does not hold the same numbers when read back.

    References
    ----------
    DICOM PS3.16 TID 1500 (Measurement Report), TID 1411 (Volumetric ROI Measurements), TID 1501; PS3.3 A.35.13.
    """
    from highdicom import sr
    from pydicom.sr.codedict import codes

    for each in measured:
        unknown = sorted(set(each.numbers) - set(QUANTITIES))
        if unknown or each.value not in segmentation.numbers:
            raise UsageError(f"measurements of {each.name!r}: unknown segment {each.value} or quantities {unknown}.")
    key = (segmentation.sop_instance_uid, *measured, sorted(totals.items()), *definitions, maker, identity, __version__)
    sop_uid, series_uid = uid_of("SR", *key), uid_of("SR series", *key)
    made = equipment(maker)
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid_of("device", maker.name, maker.version, maker.checksum, __version__),
        name=made["manufacturer_model_name"],
        manufacturer_name=MANUFACTURER,
        model_name=made["manufacturer_model_name"],
        serial_number=made["device_serial_number"],
    )
    context = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))
    named: dict[str, Any] = {
        "name": safe_text(maker.name) or MANUFACTURER,
        "version": safe_text(maker.version) or __version__,
    }
    algorithm = sr.AlgorithmIdentification(**named)
    groups = [_group(each, segmentation, reference, algorithm) for each in measured]
    defined = sr.AlgorithmIdentification(**named, parameters=[*definitions] or None)
    groups.append(_together(totals, sop_uid, defined))
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=coded(IMAGING),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    evidence = reference.stand_ins(identity)
    dataset = sr.Comprehensive3DSR(
        evidence=[*evidence, _evidence_of(segmentation, evidence[0])],
        content=report,
        series_instance_uid=series_uid,
        series_number=SERIES_NUMBER,
        sop_instance_uid=sop_uid,
        instance_number=1,
        is_complete=True,
        series_description=series_description(content),
        **made,
    )
    stamp(dataset, reference, identity)
    save_checked(dataset, path, lambda file: _check(file, measured, segmentation))
    return Written(path, COMPREHENSIVE_3D, sop_uid, series_uid, dict(segmentation.numbers))


def _measurements(numbers: Mapping[str, float], *, totals: bool = False) -> list[Any]:
    from highdicom import sr

    result = []
    for name, (concept, derivation, unit) in QUANTITIES.items():
        value = numbers.get(name, math.nan)
        if not math.isfinite(value):
            continue
        derived = TOTAL if totals and derivation is None else derivation
        result.append(
            sr.Measurement(
                name=coded(concept),
                value=round(float(value), DECIMALS),
                unit=coded(unit),
                derivation=None if derived is None else coded(derived),
            )
        )
    return result


def _group(each: Measured, segmentation: Written, reference: Reference, algorithm: Any) -> Any:
    from highdicom import sr

    number = segmentation.numbers[each.value]
    meaning = meaning_of(each.name)
    site = site_of(each.organ)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=tracking_uid(segmentation.sop_instance_uid, number), identifier=safe_text(each.name)
        ),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.sop_class_uid,
            sop_instance_uid=segmentation.sop_instance_uid,
            segment_number=number,
            source_series=sr.SourceSeriesForSegmentation(reference.series_uid),
        ),
        finding_type=coded(meaning.type),
        finding_category=coded(meaning.category),
        finding_sites=None if site is None else [_finding_site(*site)],
        algorithm_id=algorithm,
        measurements=_measurements(each.numbers),
    )


def _finding_site(part: Code, side: Code | None) -> Any:
    from highdicom import sr

    return sr.FindingSite(coded(part), laterality=None if side is None else coded(side))


def _together(totals: Mapping[str, float], sop_uid: str, algorithm: Any) -> Any:
    from highdicom import sr

    meaning = meaning_of("lesion")
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid_of("all lesions", sop_uid), identifier="all lesions"),
        finding_type=coded(meaning.type),
        finding_category=coded(meaning.category),
        algorithm_id=algorithm,
        measurements=_measurements({name: totals[name] for name in TOTALS if name in totals}, totals=True),
    )


def _evidence_of(segmentation: Written, image: Any) -> Any:
    """Return what a report has to know of the SEG it refers to."""
    from pydicom.dataset import Dataset

    evidence = Dataset()
    evidence.StudyInstanceUID = image.StudyInstanceUID
    evidence.SeriesInstanceUID = segmentation.series_instance_uid
    evidence.SOPClassUID = segmentation.sop_class_uid
    evidence.SOPInstanceUID = segmentation.sop_instance_uid
    evidence.SpecificCharacterSet = image.SpecificCharacterSet
    return evidence


def read_sr(path: Path) -> list[dict[str, object]]:
    """Return the measurement groups of a report that refer to segments.

    Returns
    -------
    list of dict
        `name` and `tracking_uid`, `seg` (SOP Instance UID) and `segment` referred to, `site` (a pair of codes: body
        part and side, None for either that is not told), and `numbers` under the names of `QUANTITIES`; measurements of
        other kinds are passed over.

    Raises
    ------
    FileFormatError
        If the file is no structured report, or damaged.
    """
    from pydicom import dcmread

    try:
        report = dcmread(path)
        groups = [
            group
            for part in report.get("ContentSequence") or ()
            if _concept(part) == IMAGING_MEASUREMENTS
            for group in part.get("ContentSequence") or ()
            if _concept(group) == MEASUREMENT_GROUP
        ]
        found = [_numbers_of(group.get("ContentSequence") or ()) for group in groups]
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise FileFormatError(f"{path}: no DICOM structured report, or damaged ({error}).") from error
    return [entry for entry in found if "segment" in entry]


def _numbers_of(items: Sequence[Any]) -> dict[str, object]:
    """Return name, references and numbers of one measurement group."""
    entry: dict[str, object] = {"site": (None, None)}
    numbers: dict[str, float] = {}
    for item in items:
        concept = _concept(item)
        if concept == TRACKING_IDENTIFIER:
            entry["name"] = str(item.TextValue)
        elif concept == TRACKING_UID:
            entry["tracking_uid"] = str(item.UID)
        elif concept == REFERENCED_SEGMENT:
            segment = item.ReferencedSOPSequence[0]
            entry["seg"] = str(segment.ReferencedSOPInstanceUID)
            entry["segment"] = int(segment.ReferencedSegmentNumber)
        elif concept == FINDING_SITE:
            sides = [_code(below) for below in item.get("ContentSequence") or () if _concept(below) == LATERALITY]
            entry["site"] = (_code(item), sides[0] if sides else None)
        elif item.ValueType == "NUM":
            measured = item.MeasuredValueSequence[0]
            derived = [
                str(below.ConceptCodeSequence[0].CodeValue)
                for below in item.get("ContentSequence") or ()
                if _concept(below) == DERIVATION
            ]
            unit = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
            for name, (code, derivation, wanted) in QUANTITIES.items():
                expected = [] if derivation is None else [derivation.value]
                if (concept, derived, unit) == (code.value, expected, wanted.value):
                    numbers[name] = float(measured.NumericValue)
    return {**entry, "numbers": numbers}


def _concept(item: Any) -> str:
    """Return the code value of what a content item is about, "" if it says nothing."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _code(item: Any) -> Code:
    """Return the value of a content item of type CODE."""
    found = item.ConceptCodeSequence[0]
    return Code(str(found.CodeValue), str(found.CodeMeaning), str(found.CodingSchemeDesignator))


def _check(file: Path, measured: Sequence[Measured], segmentation: Written) -> None:
    """Read a report back and compare every number and reference."""
    found = read_sr(file)
    expected = [
        {
            "name": safe_text(each.name),
            "tracking_uid": tracking_uid(segmentation.sop_instance_uid, segmentation.numbers[each.value]),
            "seg": segmentation.sop_instance_uid,
            "segment": segmentation.numbers[each.value],
            "site": site_of(each.organ) or (None, None),
            "numbers": {k: round(float(v), DECIMALS) for k, v in each.numbers.items() if math.isfinite(v)},
        }
        for each in measured
    ]
    if found != expected:
        raise OutputError(
            f"{file}: {len(found)} groups of measurements, or their numbers and sites, differ from what was meant"
        )
