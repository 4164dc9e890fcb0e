"""One multi-frame header -> one flat header per frame, in the words of the single-frame objects.

Enhanced PET and CT keep what differs from frame to frame in functional groups; objects converted from slices keep the
rest of the old attributes in two further sequences. Flattened, both go through the same rules as slices.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from uptake.core.errors import FileFormatError
from uptake.core.units import BQ_PER_MBQ

UNIT_OF_UCUM = {
    "Bq/ml": ("BQML", ""),
    "{counts}": ("CNTS", ""),
    "{counts}/s": ("CPS", ""),
    "{propcounts}": ("PROPCNTS", ""),
    "{propcounts}/s": ("PROPCPS", ""),
    "g/ml": ("GML", ""),
    "g/ml{SUVbw}": ("GML", "BW"),
    "g/ml{SUVlbm}": ("GML", "LBM"),
    "g/ml{SUVlbm(James128)}": ("GML", "LBMJAMES128"),
    "g/ml{SUVlbm(Janma)}": ("GML", "LBMJANMA"),
    "g/ml{SUVibw}": ("GML", "IBW"),
    "cm2/ml": ("CM2ML", ""),
    "cm2/ml{SUVbsa}": ("CM2ML", "BSA"),
    "/cm": ("1CM", ""),
}
"""Measurement Units (0040,08EA) in UCUM -> Units (0054,1001) and SUV Type (0054,1006); PS3.16 CID 84 and 85."""

CORRECTIONS = {
    "DecayCorrected": "DECY",
    "AttenuationCorrected": "ATTN",
    "ScatterCorrected": "SCAT",
    "DeadTimeCorrected": "DTIM",
    "GantryMotionCorrected": "MOTN",
    "PatientMotionCorrected": "PMOT",
    "CountLossNormalizationCorrected": "CLN",
    "RandomsCorrected": "RAN",
    "NonUniformRadialSamplingCorrected": "RADL",
    "SensitivityCalibrated": "DCAL",
    "DetectorNormalizationCorrection": "NORM",
}
"""YES/NO attributes of PS3.3 C.8.22.6 -> words of Corrected Image (0028,0051)."""

LARGEST_DOSE_MBQ = 1.0e4
"""An enhanced object states the dose in MBq (PS3.3 C.8.22.4). More than this nobody is given: it is in Bq."""

SAME_MOMENT_S = 1.0
"""Decay Correction DateTime this close to the injection means corrected to the administration."""

_PLAIN_GROUPS = (
    "PixelMeasuresSequence",  # Pixel Spacing (0028,0030)
    "PlaneOrientationSequence",  # Image Orientation (Patient) (0020,0037)
    "PlanePositionSequence",  # Image Position (Patient) (0020,0032)
    "PixelValueTransformationSequence",  # Rescale Slope (0028,1053), Intercept, Type
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
)
"""Functional groups whose attributes keep their names; PS3.3 C.7.6.16.2."""

_DROPPED = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ReferencedSeriesSequence")


def flat_headers(header: Any, name: str) -> list[Any]:
    """Return one header per frame of a multi-frame PET or CT, as a slice of a single-frame series would have it.

    Parameters
    ----------
    header : pydicom.Dataset
        Of the file, without pixels.
    name : str
        How errors name the file.

    Returns
    -------
    list of pydicom.Dataset
        In the order of the frames. They share the elements that do not differ.

    Raises
    ------
    FileFormatError
        If there are not as many functional groups as frames.

    References
    ----------
    DICOM PS3.3 C.7.6.16 (functional groups), C.8.22.3 to C.8.22.6 (Enhanced PET), A.70 and A.72 (legacy converted).
    """
    from pydicom.dataset import Dataset

    frames = list(header.get("PerFrameFunctionalGroupsSequence") or ())
    count = int(header.get("NumberOfFrames") or 0)
    if not frames or len(frames) != count:
        raise FileFormatError(
            f"{name}: Number of Frames (0028,0008) is {count}, and the Per-Frame Functional Groups Sequence "
            f"(5200,9230) has {len(frames)} items; expected one per frame. Export the series again."
        )
    common = Dataset()
    _put(common, header)
    for keyword in _DROPPED:
        if keyword in common:
            delattr(common, keyword)
    shared = (header.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    _take(common, shared)
    _enhanced_series(common)
    result = []
    for frame in frames:
        flat = Dataset()
        _put(flat, common)
        _take(flat, frame)
        _times(flat, shared, frame)
        _units(flat, shared, frame)
        result.append(flat)
    return result


def _put(target: Any, source: Any) -> None:
    """Put every element of one data set into another, undecoded."""
    for tag in tuple(source.keys()):
        target[tag] = source.get_item(tag)


def _set(target: Any, keyword: str, value: Any) -> None:
    """Give a data set an element of its own: setting the attribute would change an element that others share."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import DataElement

    tag = tag_for_keyword(keyword)
    assert tag is not None
    target[tag] = DataElement(tag, dictionary_VR(tag), value)


def _take(flat: Any, groups: Any) -> None:
    """Put the attributes of functional groups that keep their names into a flat header."""
    for keyword in _PLAIN_GROUPS:
        for item in groups.get(keyword) or ():
            _put(flat, item)
    for keyword in ("PETFrameTypeSequence", "CTImageFrameTypeSequence"):
        for item in groups.get(keyword) or ():
            if item.get("FrameType"):
                _set(flat, "ImageType", item.FrameType)


def _enhanced_series(flat: Any) -> None:
    """State in single-frame words what an Enhanced PET says once: corrections, decay correction, dose."""
    if "CorrectedImage" not in flat and any(keyword in flat for keyword in CORRECTIONS):
        words = [word for keyword, word in CORRECTIONS.items() if str(flat.get(keyword, "")) == "YES"]
        _set(flat, "CorrectedImage", words)
    tracers = list(flat.get("RadiopharmaceuticalInformationSequence") or ())
    if "DecayCorrection" not in flat and "DecayCorrected" in flat:
        correction = _decay_correction(flat, tracers)
        if correction:
            _set(flat, "DecayCorrection", correction)
        if tracers:
            _set(flat, "RadiopharmaceuticalInformationSequence", [_in_becquerels(tracer) for tracer in tracers])


def _decay_correction(flat: Any, tracers: list[Any]) -> str:
    """Return Decay Correction (0054,1102) as Decay Corrected (0018,9758) and its DateTime (0018,9701) imply it."""
    if str(flat.DecayCorrected) != "YES":
        return "NONE"
    moment = _seconds(str(flat.get("DecayCorrectionDateTime", "") or ""))
    if moment is None:
        return ""  # the physics then misses Decay Correction and names it
    injections = [_seconds(str(tracer.get("RadiopharmaceuticalStartDateTime", "") or "")) for tracer in tracers]
    near = any(other is not None and abs(other - moment) <= SAME_MOMENT_S for other in injections)
    return "ADMIN" if near else "START"


def _in_becquerels(tracer: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    _put(item, tracer)
    try:
        dose = float(str(item.get("RadionuclideTotalDose", "") or 0))
    except ValueError:
        return item
    if 0 < dose < LARGEST_DOSE_MBQ:
        _set(item, "RadionuclideTotalDose", f"{dose * BQ_PER_MBQ:.10g}")
    return item


def _times(flat: Any, shared: Any, frame: Any) -> None:
    """Frame Content (C.7.6.16.2.2) -> Acquisition Date, Time and Actual Frame Duration, ms in both."""
    for groups in (shared, frame):
        for content in groups.get("FrameContentSequence") or ():
            began = re.match(r"(\d{8})(\d{2,6}(?:\.\d+)?)", str(content.get("FrameAcquisitionDateTime", "") or ""))
            if began:
                _set(flat, "AcquisitionDate", began[1])
                _set(flat, "AcquisitionTime", began[2])
            duration = content.get("FrameAcquisitionDuration")
            if duration is not None:
                _set(flat, "ActualFrameDuration", str(round(float(duration))))
            for keyword in ("TemporalPositionIndex", "StackID"):
                if content.get(keyword) is not None:
                    _set(flat, keyword, content.get(keyword))


def _units(flat: Any, shared: Any, frame: Any) -> None:
    """Units, slope and intercept of an enhanced PET: from the Real World Value Mapping, else from the Rescale Type."""
    if str(flat.get("Modality", "")) != "PT" or flat.get("Units"):
        return
    for groups in (frame, shared):
        for mapping in groups.get("RealWorldValueMappingSequence") or ():
            codes = list(mapping.get("MeasurementUnitsCodeSequence") or ())
            unit = UNIT_OF_UCUM.get(str(codes[0].get("CodeValue", "")) if codes else "")
            if unit is None or mapping.get("RealWorldValueSlope") is None:
                continue
            _set(flat, "Units", unit[0])
            if unit[1]:
                _set(flat, "SUVType", unit[1])
            _set(flat, "RescaleSlope", f"{float(mapping.RealWorldValueSlope):.10g}")
            _set(flat, "RescaleIntercept", f"{float(mapping.get('RealWorldValueIntercept') or 0.0):.10g}")
            return
    kind = str(flat.get("RescaleType", "") or "").upper()
    if kind in {unit for unit, _ in UNIT_OF_UCUM.values()}:
        _set(flat, "Units", kind)


def _seconds(text: str) -> float | None:
    """Return a DT value as seconds since 1970, without time zones, or None."""
    match = re.match(r"(\d{14})(\.\d+)?", text)
    try:
        moment = datetime.strptime(match[1], "%Y%m%d%H%M%S") if match else None
    except ValueError:
        return None
    return (moment - datetime(1970, 1, 1)).total_seconds() + float(match[2] or 0) if match and moment else None
