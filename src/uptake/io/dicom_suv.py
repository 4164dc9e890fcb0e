"""What PET headers say about tracer, dose and time -> a plain `SuvRecord`, and the record of every attribute used."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from uptake.core.errors import InputError, MissingAttributeError, UnitError
from uptake.core.units import MILLISECONDS_PER_SECOND
from uptake.io.dicom_series import quiet_headers, values_of
from uptake.io.dicom_tags import attribute_of, number_of, recorded, recorded_private, recorded_range, text_of
from uptake.io.dicom_time import datetime_of, time_of
from uptake.physics.radionuclides import (
    Radionuclide,
    radionuclide_of_code,
    radionuclide_of_half_life,
    radionuclide_of_meaning,
)
from uptake.physics.suv import SuppliedValues, SuvConversion, SuvRecord, suv_conversion
from uptake.physics.suv_audit import described
from uptake.physics.timing import AcquisitionTimes

_SERIES_ATTRIBUTES = (
    "SOPClassUID", "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ImageType", "Units", "SUVType",
    "DecayCorrection", "CorrectedImage", "AttenuationCorrectionMethod", "ReconstructionMethod", "SeriesType",
    "SeriesDate", "SeriesTime", "TimezoneOffsetFromUTC", "DecayCorrectionDateTime", "PatientWeight", "PatientSize",
    "PatientSex",
)  # fmt: skip
"""Attributes of the series that are recorded. None identifies a person; dates are needed to repeat the computation."""

_TRACER_ATTRIBUTES = (
    "Radiopharmaceutical", "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime", "RadionuclideTotalDose",
    "RadionuclideHalfLife",
)  # fmt: skip

_SLICE_ATTRIBUTES = (
    "AcquisitionDate", "AcquisitionTime", "FrameReferenceTime", "ActualFrameDuration", "DecayFactor", "RescaleSlope",
    "RescaleIntercept",
)  # fmt: skip

_ONE_PER_SERIES = ("Units", "DecayCorrection", "SUVType", "PatientWeight", "PatientSize", "PatientSex")
"""Have to agree over all slices."""

_ONE_PER_TRACER = (
    "RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime",
)  # fmt: skip

_SIEMENS = (0x0071, "SIEMENS MED PT", 0x22, "Decay Correction DateTime")
_GE = (0x0009, "GEMS_PETD_01", 0x0D, "PET Scan DateTime")
_PHILIPS_SUV = (0x7053, "Philips PET Private Group", 0x00, "SUV Scale Factor")
_PHILIPS_ACTIVITY = (0x7053, "Philips PET Private Group", 0x09, "Activity Concentration Scale Factor")
"""Private attributes: group, creator, element within the creator's block, name."""


def suv_of_headers(
    headers: list[Any], name: str, *, supplied: SuppliedValues | None = None
) -> tuple[SuvConversion, dict[str, object], tuple[str, ...]]:
    """Return the conversion to SUV, the record for `Case.acquisition`, and warnings.

    Parameters
    ----------
    headers : list of pydicom.Dataset
        All slices of one PET series, in the order of the third array axis.
    name : str
        How errors name the series.
    supplied : SuppliedValues or None
        Values that the caller gives where the header lacks them.

    Returns
    -------
    conversion : SuvConversion
    acquisition : dict
        Plain values for JSON: every attribute used, and what `physics.suv_audit.described` says of the conversion.
    warnings : tuple of str

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
    notes: list[str] = []
    try:
        with quiet_headers():
            tracer = _tracer(headers)
            record = _record(headers, tracer, notes)
            conversion = suv_conversion(record, supplied)
            acquisition = _acquisition(headers, tracer, record.nuclides, conversion)
    except MissingAttributeError as error:
        # What could not be read may be why something is missing.
        raise type(error)(" ".join([f"{name}: {error}", *notes])) from error
    except InputError as error:
        # The physics does not know the series; it is named here, once.
        raise type(error)(f"{name}: {error}") from error
    return conversion, acquisition, tuple(f"{name}: {note}" for note in (*notes, *conversion.warnings))


def _record(headers: list[Any], tracer: Any, notes: list[str]) -> SuvRecord:
    first = headers[0]
    for keyword in _ONE_PER_SERIES:
        _require_one(keyword, headers)
    intercepts = {number_of(header, "RescaleIntercept") or 0.0 for header in headers}
    if intercepts != {0.0}:
        notes.append(
            f"Rescale Intercept (0028,1052) is {max(intercepts, key=abs):g}, which the standard has at 0 for PET; it "
            "was added all the same."
        )
    units = text_of(first, "Units").upper()
    # The factors are defined for counts alone; other images of the same scanners carry them too.
    counted = headers if units == "CNTS" else []
    local_offset = text_of(first, "TimezoneOffsetFromUTC")
    start = text_of(tracer, "RadiopharmaceuticalStartDateTime")
    return SuvRecord(
        units=units,
        decay_correction=text_of(first, "DecayCorrection").upper(),
        patient_weight_kg=number_of(first, "PatientWeight"),
        patient_height_m=_optional(first, "PatientSize", notes),
        patient_sex=text_of(first, "PatientSex").upper(),
        injected_dose_bq=number_of(tracer, "RadionuclideTotalDose"),
        half_life_s=number_of(tracer, "RadionuclideHalfLife"),
        nuclides=_nuclides(tracer),
        times=_times(headers, notes),
        injection_date_and_time=_understood(
            "RadiopharmaceuticalStartDateTime",
            start,
            datetime_of(start, None, local_offset=local_offset, notes=notes),
            notes,
        ),
        injection_time_only=_time_only(tracer, notes),
        injection_zone_unknown=bool(re.search(r"[+-]\d{4}$", start)) and not local_offset,
        suv_type=text_of(first, "SUVType").upper(),
        corrected_image=_words(first, "CorrectedImage"),
        series_type=_words(first, "SeriesType"),
        image_type=_words(first, "ImageType"),
        philips_activity_factors=_private_numbers(counted, _PHILIPS_ACTIVITY),
        philips_suv_factors=_private_numbers(counted, _PHILIPS_SUV),
    )


def _tracer(headers: Sequence[Any]) -> Any:
    """Return the one item of the Radiopharmaceutical Information Sequence (0054,0016)."""
    from pydicom.dataset import Dataset

    tracers: list[Any] = []
    for header in headers:
        items = list(header.get("RadiopharmaceuticalInformationSequence") or ())
        if len(items) > 1:
            raise InputError(
                f"Radiopharmaceutical Information Sequence (0054,0016) has {len(items)} items: several injections are "
                "not supported yet."
            )
        # An empty item: each attribute that is needed is then reported by its own name.
        tracers.append(items[0] if items else Dataset())
    for keyword in _ONE_PER_TRACER:
        _require_one(keyword, tracers)
    return tracers[0]


def _nuclides(tracer: Any) -> tuple[Radionuclide, ...]:
    """Return what value and meaning of the Radionuclide Code Sequence (0054,0300) name, once if they agree."""
    found: list[Radionuclide] = []
    for item in list(tracer.get("RadionuclideCodeSequence") or ())[:1]:
        named = (
            radionuclide_of_code(text_of(item, "CodeValue")),
            radionuclide_of_meaning(text_of(item, "CodeMeaning")),
        )
        found += [nuclide for nuclide in named if nuclide is not None]
    return tuple(dict.fromkeys(found))


def _require_one(keyword: str, headers: Sequence[Any]) -> None:
    values = {text_of(header, keyword) for header in headers}
    if len(values) > 1:
        shown = ", ".join(sorted(value or "nothing" for value in values))
        raise InputError(f"{attribute_of(keyword)} differs between slices: {shown}. Give one series.")


def _times(headers: list[Any], notes: list[str]) -> AcquisitionTimes:
    first = headers[0]
    written = {(text_of(header, "SeriesDate"), text_of(header, "SeriesTime")): header for header in headers}
    series = [_moment(header, "SeriesDate", "SeriesTime", notes) for header in written.values()]
    known = [moment for moment in series if moment is not None]
    if len(set(known)) > 1:
        notes.append("Series Time (0008,0031) differs between slices; the earliest was taken.")
    start = min(known, default=None)
    return AcquisitionTimes(
        acquisition=_acquired(headers, start, notes),
        series=start,
        siemens_decay_correction=_private_datetime(first, _SIEMENS, notes),
        ge_scan=_private_datetime(first, _GE, notes),
        decay_correction=datetime_of(
            text_of(first, "DecayCorrectionDateTime"), None, local_offset=text_of(first, "TimezoneOffsetFromUTC")
        ),
        # Both are in ms: DICOM PS3.3 C.8.9.4.
        frame_reference_s=tuple(ms / MILLISECONDS_PER_SECOND for ms in _numbers(headers, "FrameReferenceTime", notes)),
        frame_duration_s=tuple(ms / MILLISECONDS_PER_SECOND for ms in _numbers(headers, "ActualFrameDuration", notes)),
        decay_factors=_numbers(headers, "DecayFactor", notes),
        frame_reference_at_start=text_of(first, "Manufacturer").upper().startswith("GE"),
    )


def _acquired(headers: list[Any], series: datetime | None, notes: list[str]) -> tuple[datetime, ...]:
    """Return when each slice was acquired; empty unless all of them say so.

    Where Acquisition Date is absent that of the series is taken, and the next day if the slice would otherwise have
    been acquired half a day or more before the series.
    """
    moments = []
    for header in headers:
        moment = _moment(header, "AcquisitionDate", "AcquisitionTime", notes)
        if moment is None:
            moment = datetime_of(
                text_of(header, "AcquisitionDateTime"), None, local_offset=text_of(header, "TimezoneOffsetFromUTC")
            )
        since_midnight = time_of(text_of(header, "AcquisitionTime"))
        if moment is None and since_midnight is not None and series is not None:
            moment = datetime.combine(series.date(), datetime.min.time()) + since_midnight
            if series - moment > timedelta(hours=12):
                moment += timedelta(days=1)
            _once(notes, "Acquisition Date (0008,0022) is absent; that of the series was taken.")
        if moment is not None:
            moments.append(moment)
    if 0 < len(moments) < len(headers):
        _once(notes, f"Acquisition Time (0008,0032) is absent in {len(headers) - len(moments)} slices.")
    return tuple(moments) if len(moments) == len(headers) else ()


def _moment(header: Any, date: str, time: str, notes: list[str]) -> datetime | None:
    day, clock = text_of(header, date), text_of(header, time)
    moment = datetime_of(day, clock)
    if moment is None and day and clock:
        _once(notes, f"{attribute_of(date)} {day!r} with {attribute_of(time)} {clock!r} is no date and time.")
    elif moment is None and clock and time_of(clock) is None:
        _once(notes, f"{attribute_of(time)} {clock!r} is no time.")
    return moment


def _time_only(tracer: Any, notes: list[str]) -> timedelta | None:
    text = text_of(tracer, "RadiopharmaceuticalStartTime")
    since_midnight = time_of(text)
    if text and since_midnight is None:
        _once(notes, f"{attribute_of('RadiopharmaceuticalStartTime')} {text!r} is no time.")
    return since_midnight


def _understood(keyword: str, text: str, moment: datetime | None, notes: list[str]) -> datetime | None:
    if text and moment is None:
        _once(notes, f"{attribute_of(keyword)} {text!r} is no date and time.")
    return moment


def _numbers(headers: Sequence[Any], keyword: str, notes: list[str]) -> tuple[float, ...]:
    """Return one number per slice; empty unless every slice has one."""
    found = [_optional(header, keyword, notes) for header in headers]
    numbers = tuple(value for value in found if value is not None)
    return numbers if len(numbers) == len(headers) else ()


def _optional(header: Any, keyword: str, notes: list[str]) -> float | None:
    """Return a number that not every rule needs; what is none is noted, and missed where it is needed."""
    try:
        return number_of(header, keyword)
    except UnitError as error:
        _once(notes, str(error))
        return None


def _words(header: Any, keyword: str) -> tuple[str, ...]:
    return tuple(str(word).strip().upper() for word in values_of(header, keyword))


def _private(header: Any, where: tuple[int, str, int, str]) -> str:
    """Return a private value as text, "" where absent; where the creator was dropped, of the block at 0x10."""
    group, creator, element, _ = where
    try:
        value = header.private_block(group, creator)[element].value
    except KeyError:
        entry = header.get((group, 0x1000 + element))
        if entry is None or (group, 0x0010) in header:
            return ""
        value = entry.value
    text = value.decode("ascii", "ignore") if isinstance(value, bytes) else str("" if value is None else value)
    return text.strip("\0 ")


def _private_datetime(header: Any, where: tuple[int, str, int, str], notes: list[str]) -> datetime | None:
    text = _private(header, where)
    moment = datetime_of(text, None, local_offset=text_of(header, "TimezoneOffsetFromUTC"), notes=notes)
    if text and moment is None:
        _once(notes, f"{where[3]} ({where[0]:04X},{0x1000 + where[2]:04X}) {text!r} is no date and time.")
    return moment


def _private_numbers(headers: Sequence[Any], where: tuple[int, str, int, str]) -> tuple[float, ...]:
    """Return one number per slice; empty where no slice has one.

    Raises
    ------
    UnitError
        If it is no number, or only some slices have it.
    """
    texts = [_private(header, where) for header in headers]
    attribute = f"Philips {where[3]} ({where[0]:04X},{0x1000 + where[2]:04X})"
    present = [text for text in texts if text]
    if not present:
        return ()
    if len(present) < len(texts):
        raise UnitError(
            f"{attribute} is absent in {len(texts) - len(present)} of {len(texts)} slices. Give one series."
        )
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        numbers = (math.nan,)
    if not all(math.isfinite(number) for number in numbers):
        raise UnitError(f"{attribute} is {texts[0]!r}; expected a number.")
    return numbers


def _acquisition(
    headers: list[Any], tracer: Any, nuclides: tuple[Radionuclide, ...], conversion: SuvConversion
) -> dict[str, object]:
    first = headers[0]
    nuclide = nuclides[0] if len(nuclides) == 1 else None
    if nuclide is None and conversion.half_life_s is not None:
        nuclide = radionuclide_of_half_life(conversion.half_life_s)
    codes = [
        recorded(item, ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
        for item in tracer.get("RadionuclideCodeSequence") or ()
    ]
    private = [
        recorded_private(where[0], where[2], where[3], _private(first, where))
        for where in (_SIEMENS, _GE, _PHILIPS_SUV, _PHILIPS_ACTIVITY)
    ]
    pharmaceuticals = list(tracer.get("RadiopharmaceuticalCodeSequence") or ())
    meaning = text_of(pharmaceuticals[0], "CodeMeaning") if pharmaceuticals else ""
    return {
        "tags": [
            *recorded(first, _SERIES_ATTRIBUTES),
            *recorded(tracer, _TRACER_ATTRIBUTES),
            *[entry for code in codes for entry in code],
            *recorded_range(headers, _SLICE_ATTRIBUTES),
            *[entry for entry in private if entry is not None],
        ],
        **described(conversion),
        "tracer": text_of(tracer, "Radiopharmaceutical") or meaning,
        "radionuclide": nuclide.name if nuclide else None,
        "manufacturer": text_of(first, "Manufacturer"),
        "model": text_of(first, "ManufacturerModelName"),
    }


def _once(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)
