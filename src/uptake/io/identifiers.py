"""What in a header can tell who a patient is, and text without it.

Results carry numbers, codes and times of day; names, numbers of patients and examinations, dates and free text stay
behind unless the user asks for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

IDENTIFYING = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "MilitaryRank", "AccessionNumber", "StudyID",
    "RequestedProcedureID", "AdmissionID", "IssuerOfPatientID",
)  # fmt: skip
"""Attributes whose values must not appear in what we write; after PS3.15 annex E, Basic Confidentiality Profile."""

PEOPLE_AND_PLACES = (
    "ReferringPhysicianName", "PerformingPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy",
    "OperatorsName", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
    "DeviceSerialNumber", "StudyDescription", "SeriesDescription", "ProtocolName", "PatientComments", "ImageComments",
)  # fmt: skip
"""Free text and people beside the patient."""

KEPT_TEXT = frozenset({
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ReconstructionMethod", "AttenuationCorrectionMethod",
    "ScatterCorrectionMethod", "RandomsCorrectionMethod", "Radiopharmaceutical", "ConvolutionKernel", "RescaleType",
})  # fmt: skip
"""Attributes of free text that describe scanner and tracer; kept unless they hold an identifying value."""

GENERIC = frozenset({
    "anon", "anonymised", "anonymized", "anonymous", "case", "demo", "dro", "name", "nema", "no", "none", "patient",
    "phantom", "pseudonym", "qa", "qc", "research", "sim", "simulated", "study", "subject", "test", "unknown",
})  # fmt: skip
"""Words that stand in the place of a name or number and identify nobody."""

REMOVED = "removed"

LEAST_LETTERS = 3
"""A word of a name shorter than this is looked for only as a whole word; longer ones of numbers anywhere."""

_WORD = r"[^\W\d_]+|\d+"
_FREE_TEXT = frozenset({"LO", "LT", "SH", "ST", "UT", "UC", "PN", "UN"})
_DATE = re.compile(
    r"(?<![\d.…])(?:(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T?"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?=\d\d:|\d{4,6}(?!\d)|\D|$)"
)
"""A date as ISO or DICOM write it, alone or before a time of day."""


@dataclass(frozen=True)
class Identifiers:
    """The identifying values of a study.

    Attributes
    ----------
    words : frozenset of str
        Words of names, lower case.
    numbers : frozenset of str
        Numbers of patient and examination, and names written as one word; letters and digits only, lower case.
    pseudonymous : bool
        Patient Identity Removed (0012,0062) is YES: name and number are made up, and may be shown.
    """

    words: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    pseudonymous: bool = False

    @staticmethod
    def of(headers: Iterable[Any]) -> Identifiers:
        """Collect from headers of a study; one per series is enough."""
        words: set[str] = set()
        numbers: set[str] = set()
        flags = []
        for header in headers:
            flags.append(str(header.get("PatientIdentityRemoved", "") or "").upper() == "YES")
            for keyword in IDENTIFYING:
                value = header.get(keyword)
                if value is None or value == "":
                    continue
                text = str(value)
                if "Name" in keyword or keyword in ("PatientAddress", "MilitaryRank"):
                    parts = [word for word in re.findall(_WORD, text.casefold()) if len(word) > 1]
                    words |= set(parts) - GENERIC
                    if len(parts) > 1 and set(parts) - GENERIC:
                        numbers |= {"".join(parts), "".join(reversed(parts))}
                elif len(_plain(text)) > 1 and not _words(text) <= GENERIC:
                    numbers.add(_plain(text))
        return Identifiers(frozenset(words), frozenset(numbers), bool(flags) and all(flags))

    def in_name(self, name: str) -> bool:
        """Return whether the name of a folder or file gives the patient away."""
        return not self.pseudonymous and self._found(name)

    def scrubbed(self, value: Any) -> Any:
        """Return a JSON value from headers without dates, free text and identifying values.

        Lists of attributes as in `Case.acquisition` lose the values of dates and of free text that is not in
        `KEPT_TEXT`; every text loses its dates, and is removed if it holds a name or number of the patient.
        """
        if isinstance(value, Mapping):
            keyword = _keyword(value)
            if keyword:
                shown = self.scrubbed(value["value"]) if _tells_nothing(keyword) else REMOVED
                return {**value, "value": shown}
            return {key: self.scrubbed(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.scrubbed(item) for item in value]
        if not isinstance(value, str):
            return value
        return REMOVED if not self.pseudonymous and self._found(value) else _DATE.sub("", value)

    def message(self, text: str) -> str:
        """Return a sentence of ours without dates, or a mark that it was removed if it quotes an identifying number."""
        plain = _plain(text)
        if not self.pseudonymous and any(len(number) > LEAST_LETTERS and number in plain for number in self.numbers):
            return f"({REMOVED}: quotes the header)"
        return _DATE.sub("", text)

    def _found(self, text: str) -> bool:
        there = _words(text)
        if self.words & there:
            return True
        plain = _plain(text)
        return any(n in there or n == plain or (len(n) > LEAST_LETTERS and n in plain) for n in self.numbers)


def _words(text: str) -> set[str]:
    return set(re.findall(_WORD, text.casefold()))


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _keyword(entry: Mapping[str, Any]) -> str:
    """Return the keyword of an attribute record {"tag": "(0010,1030)", "name": ..., "value": ...}, or ""."""
    match = re.fullmatch(r"\(([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)", str(entry.get("tag", "")))
    if match is None or "value" not in entry:
        return ""
    from pydicom.datadict import keyword_for_tag

    return keyword_for_tag(int(match[1] + match[2], 16)) or "Private"


def _tells_nothing(keyword: str) -> bool:
    """Return whether the value of an attribute may be written: no date, no unique number, no text of people."""
    if keyword in KEPT_TEXT or keyword == "Private":
        return True
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    kind = dictionary_VR(tag) if tag is not None else "UN"
    return keyword not in IDENTIFYING + PEOPLE_AND_PLACES and kind not in _FREE_TEXT | {"DA", "UI"}
