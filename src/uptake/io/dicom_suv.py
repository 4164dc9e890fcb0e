"""What PET headers say about tracer, dose and time -> a plain `SuvRecord`, and the record of every attribute used."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from uptake.core.errors import InputError, UnitError
from uptake.core.units import BQ_PER_MBQ, SECONDS_PER_MINUTE
from uptake.io.dicom_series import quiet_headers, values_of
from uptake.io.dicom_time import datetime_of, time_of
from uptake.physics.radionuclides import radionuclide_of_code, radionuclide_of_half_life, require_half_life
from uptake.physics.suv import SuppliedValues, SuvConversion, SuvRecord, require_supported_rule, suv_conversion
from uptake.physics.timing import AcquisitionTimes, injection_time, reference_time

_SERIES_ATTRIBUTES = (
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "Units", "SUVType", "DecayCorrection",
    "CorrectedImage", "AttenuationCorrectionMethod", "ReconstructionMethod", "SeriesType", "SeriesDate",
    "SeriesTime", "PatientWeight", "PatientSize", "PatientSex",
)  # fmt: skip
"""Attributes of the series that are recorded. None identifies a person; dates are needed to repeat the computation."""

_TRACER_ATTRIBUTES = (
    "Radiopharmaceutical", "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime", "RadionuclideTotalDose",
    "RadionuclideHalfLife",
)  # fmt: skip

_ONE_PER_SERIES = ("Units", "DecayCorrection", "PatientWeight", "SUVType")
"""Have to agree over all slices."""


def suv_of_headers(
    headers: list[Any], name: str, *, supplied: SuppliedValues | None = None
) -> tuple[SuvConversion, dict[str, object], tuple[str, ...]]:
    """Return the conversion to SUV, the record for `Case.acquisition`, and warnings.

    Parameters
    ----------
    headers : list of pydicom.Dataset
        All slices of one PET series.
    name : str
        How errors name the series.
    supplied : SuppliedValues or None
        Values that the caller gives where the header lacks them.

    Raises
    ------
    MissingAttributeError, UnitError
        As `physics.suv.suv_conversion`; the attribute is named.
    InputError
        If slices contradict one another, or several tracers are given.

    References
    ----------
    DICOM PS3.3 C.8.9.1 PET Series, C.8.9.2 PET Isotope, C.8.9.4 PET Image.
    """
    try:
        with quiet_headers():
            return _suv_of_headers(headers, name, supplied or SuppliedValues())
    except InputError as error:
        # The physics does not know the series; it is named here, once.
        raise type(error)(f"{name}: {error}") from error


def _suv_of_headers(
    headers: list[Any], name: str, supplied: SuppliedValues
) -> tuple[SuvConversion, dict[str, object], tuple[str, ...]]:
    for keyword in _ONE_PER_SERIES:
        values = {_text(header, keyword) for header in headers}
        if len(values) > 1:
            raise InputError(
                f"{_attribute(keyword)} differs between slices: {', '.join(sorted(values))}. Give one series."
            )
    first = headers[0]
    units, correction, suv_type = (_text(first, word) for word in ("Units", "DecayCorrection", "SUVType"))
    require_supported_rule(units, correction, suv_type=suv_type)
    series_type = [str(word).upper() for word in values_of(first, "SeriesType")]
    for word in ("DYNAMIC", "GATED"):
        if word in series_type:
            raise UnitError(
                f"Series Type (0054,1000) is {word}: not supported yet. Give a static or whole-body series."
            )
    tracer, nuclide = _tracer(first)
    half_life_s = _number(tracer, "RadionuclideHalfLife") or supplied.half_life_s
    if half_life_s is not None:
        require_half_life(half_life_s, nuclide)
        nuclide = nuclide or radionuclide_of_half_life(half_life_s)
    record = SuvRecord(
        units=units,
        decay_correction=correction,
        suv_type=suv_type,
        patient_weight_kg=_number(first, "PatientWeight") or supplied.weight_kg,
        injected_dose_bq=_number(tracer, "RadionuclideTotalDose")
        or (supplied.dose_mbq and supplied.dose_mbq * BQ_PER_MBQ),
        half_life_s=half_life_s,
        injection=None,
        reference=None,
        corrected_image=tuple(str(word) for word in values_of(first, "CorrectedImage")),
    )
    notes: list[str] = []
    if half_life_s is not None:
        reference = reference_time(_times(headers, notes), half_life_s)
        injection, injection_notes = injection_time(
            reference=reference.moment,
            half_life_s=half_life_s,
            date_and_time=_injection_date_and_time(tracer, first, notes) or supplied.injection,
            time_only=time_of(_text(tracer, "RadiopharmaceuticalStartTime")),
        )
        notes += [*reference.warnings, *injection_notes]
        record = replace(record, injection=injection, reference=reference.moment, reference_source=reference.source)
    conversion = suv_conversion(record)
    notes += conversion.warnings
    acquisition: dict[str, object] = {
        "tags": [*_tags(first, _SERIES_ATTRIBUTES), *_tags(tracer, _TRACER_ATTRIBUTES), *_slice_tags(headers)],
        "suv_factor": conversion.factor,
        "suv_rule": conversion.rule,
        "reference_time": record.reference.isoformat() if record.reference else None,
        "reference_time_source": record.reference_source,
        "injection_time": record.injection.isoformat() if record.injection else None,
        "uptake_time_min": conversion.uptake_time_s / SECONDS_PER_MINUTE,
        "injected_dose_bq": conversion.injected_dose_bq,
        "dose_at_reference_bq": conversion.dose_at_reference_bq,
        "half_life_s": half_life_s,
        "patient_weight_kg": record.patient_weight_kg,
        "tracer": _text(tracer, "Radiopharmaceutical") or _meaning(tracer, "RadiopharmaceuticalCodeSequence"),
        "radionuclide": nuclide.name if nuclide else None,
        "manufacturer": _text(first, "Manufacturer"),
        "model": _text(first, "ManufacturerModelName"),
    }
    return conversion, acquisition, tuple(f"{name}: {note}" for note in notes)


def _tracer(header: Any) -> tuple[Any, Any]:
    """Return the one item of the Radiopharmaceutical Information Sequence (0054,0016), and its nuclide if coded."""
    items = list(header.get("RadiopharmaceuticalInformationSequence") or ())
    if len(items) > 1:
        raise InputError(
            f"Radiopharmaceutical Information Sequence (0054,0016) has {len(items)} items: several injections are not "
            "supported yet."
        )
    if not items:
        from pydicom.dataset import Dataset

        # An empty item: each attribute that is needed is then reported by its own name.
        return Dataset(), None
    codes = list(items[0].get("RadionuclideCodeSequence") or ())
    return items[0], radionuclide_of_code(_text(codes[0], "CodeValue")) if codes else None


def _times(headers: list[Any], notes: list[str]) -> AcquisitionTimes:
    first = headers[0]
    acquisition = [datetime_of(_text(h, "AcquisitionDate"), _text(h, "AcquisitionTime")) for h in headers]
    frame_s = [_number(h, "FrameReferenceTime") for h in headers]
    duration_s = [_number(h, "ActualFrameDuration") for h in headers]
    return AcquisitionTimes(
        acquisition=tuple(moment for moment in acquisition if moment is not None),
        series=datetime_of(_text(first, "SeriesDate"), _text(first, "SeriesTime")),
        siemens_decay_correction=_private_datetime(first, 0x0071, "SIEMENS MED PT", 0x22, notes),
        ge_scan=_private_datetime(first, 0x0009, "GEMS_PETD_01", 0x0D, notes),
        # Both are in ms: DICOM PS3.3 C.8.9.4.
        frame_reference_s=tuple(value / 1000.0 for value in frame_s if value is not None),
        frame_duration_s=tuple(value / 1000.0 for value in duration_s if value is not None),
        frame_reference_at_start=_text(first, "Manufacturer").upper().startswith("GE"),
    )


def _injection_date_and_time(tracer: Any, header: Any, notes: list[str]) -> datetime | None:
    text = _text(tracer, "RadiopharmaceuticalStartDateTime")
    return datetime_of(text, None, local_offset=_text(header, "TimezoneOffsetFromUTC"), notes=notes)


def _private_datetime(header: Any, group: int, creator: str, element: int, notes: list[str]) -> datetime | None:
    """Return a private DateTime; where the creator was dropped, the block at 0x10 is taken as the vendor's."""
    try:
        value = header.private_block(group, creator)[element].value
    except KeyError:
        entry = header.get((group, 0x1000 + element))
        if entry is None or (group, 0x0010) in header:
            return None
        value = entry.value
    text = value.decode("ascii", "ignore") if isinstance(value, bytes) else str(value)
    return datetime_of(text.strip("\0 "), None, local_offset=_text(header, "TimezoneOffsetFromUTC"), notes=notes)


def _text(header: Any, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()


def _number(header: Any, keyword: str) -> float | None:
    text = _text(header, keyword)
    try:
        return float(text) if text else None
    except ValueError:
        raise UnitError(f"{_attribute(keyword)} is {text!r}; expected a number.") from None


def _meaning(tracer: Any, keyword: str) -> str:
    codes = list(tracer.get(keyword) or ())
    return _text(codes[0], "CodeMeaning") if codes else ""


def _attribute(keyword: str) -> str:
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _tags(header: Any, keywords: tuple[str, ...]) -> list[dict[str, object]]:
    return [_tag(keyword, header.get(keyword)) for keyword in keywords if header.get(keyword) not in (None, "")]


def _tag(keyword: str, value: Any) -> dict[str, object]:
    name, _, tag = _attribute(keyword).rpartition(" ")
    plain = str(value) if isinstance(value, str) or not hasattr(value, "__iter__") else [str(item) for item in value]
    return {"tag": tag, "name": name, "value": plain}


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _slice_tags(headers: list[Any]) -> list[dict[str, object]]:
    """Return what differs from slice to slice as its distinct values, first and last, in order."""
    result = []
    for keyword in ("AcquisitionDate", "AcquisitionTime", "FrameReferenceTime", "ActualFrameDuration", "RescaleSlope"):
        values = sorted({_text(header, keyword) for header in headers} - {""}, key=_as_number)
        if values:
            result.append(_tag(keyword, values[0] if len(values) == 1 else [values[0], values[-1]]))
    return result
