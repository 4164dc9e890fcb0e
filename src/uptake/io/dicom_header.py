"""Headers of many slices, read fast: the elements of a file are found in one walk, and what equals the first slice of
its series is shared with it instead of being decoded again.

pydicom decodes the values. Anything out of the ordinary (another byte order, deflated, an odd element) is left to
pydicom's own reader: `read_header` then returns None.
"""

from __future__ import annotations

import struct
from typing import Any

IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN = (
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
)  # fmt: skip
"""Transfer syntaxes that are not explicit little endian in their headers, and that one; DICOM PS3.5 annex A."""

SERIES = 0x0020000E
"""Series Instance UID."""

_PREAMBLE = 132
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_SYNTAX, _MEDIA_CLASS = 0x00020010, 0x00020002
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with a length of 32 bits; PS3.5 section 7.1.2."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_Element = tuple[bytes | None, bytes]
"""Value representation (None where it is implicit) and value of an element, undecoded."""

_implicit = struct.Struct("<HHL").unpack_from
_explicit = struct.Struct("<HH2sH").unpack_from
_length = struct.Struct("<L").unpack_from


class OddHeaderError(ValueError):
    """The header is not of the plain kind that is read here."""


class SharedHeaders:
    """The first header of each series, decoded; later ones share with it what is equal byte for byte."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[dict[int, _Element], Any]] = {}
        self._decoded: dict[bytes, dict[int, Any]] = {}

    def read(self, content: bytes) -> tuple[Any, int, str, str] | None:
        """Return the header of a file, or None where pydicom has to read it.

        Parameters
        ----------
        content : bytes
            The whole file.

        Returns
        -------
        header : pydicom.Dataset
            Everything before the pixels. Elements may be shared with other headers: not to be changed in place.
        pixels_at : int
            Byte at which the pixel element begins; the length of the file where there is none.
        syntax, media_class : str
            Transfer Syntax UID (0002,0010) and Media Storage SOP Class UID (0002,0002).
        """
        if len(content) < _PREAMBLE:
            return None
        try:
            meta, start = _walk(content, _PREAMBLE, explicit=True, group=2)
            syntax = _uid(meta.get(_SYNTAX))
            if syntax in ("", DEFLATED, BIG_ENDIAN):
                return None
            explicit = syntax != IMPLICIT
            elements, pixels_at = _walk(content, start, explicit=explicit)
        except (OddHeaderError, struct.error):
            return None
        return self._dataset(elements, explicit), pixels_at, syntax, _uid(meta.get(_MEDIA_CLASS))

    def _dataset(self, elements: dict[int, _Element], explicit: bool) -> Any:
        from pydicom.charset import convert_encodings, default_encoding
        from pydicom.dataset import Dataset
        from pydicom.tag import BaseTag

        series = elements.get(SERIES, (None, b""))[1] + (b"e" if explicit else b"i")
        known, decoded = self._shared(series)
        values: dict[Any, Any] = {}
        for tag, element in elements.items():
            if tag in decoded and known[tag] == element:
                shared = decoded[tag]
                values[shared.tag] = shared
            else:
                key = BaseTag(tag)
                values[key] = _raw(key, element, explicit)
        header = Dataset(values)
        named = header.get("SpecificCharacterSet")
        header.set_original_encoding(not explicit, True, convert_encodings(named) if named else default_encoding)
        self._first.setdefault(series, (elements, header))
        return header

    def _shared(self, series: bytes) -> tuple[dict[int, _Element], dict[int, Any]]:
        """Return the elements of the first header of a series, as found and decoded.

        They are decoded when the second file comes: a series of one file (contours) may be large.
        """
        if series not in self._first:
            return {}, {}
        elements, header = self._first[series]
        if series not in self._decoded:
            self._decoded[series] = _decode_all(header)
        return elements, self._decoded[series]


def _decode_all(header: Any) -> dict[int, Any]:
    """Decode every element of a header, and return those that could be."""
    decoded = {}
    for tag in tuple(header.keys()):
        try:
            decoded[int(tag)] = header[tag]
        except Exception:  # whoever asks for the value later gets the error, with its own words
            continue
    return decoded


def _raw(tag: Any, element: _Element, explicit: bool) -> Any:
    from pydicom.dataelem import RawDataElement

    kind, value = element
    return RawDataElement(tag, kind.decode("ascii") if kind else None, len(value), value or None, 0, not explicit, True)


def _walk(content: bytes, at: int, *, explicit: bool, group: int | None = None) -> tuple[dict[int, _Element], int]:
    """Return the elements from `at` to the pixels (or to the end of `group`), and where they end."""
    elements: dict[int, _Element] = {}
    end = len(content)
    while at + 8 <= end:
        if group is not None and _implicit(content, at)[0] != group:
            return elements, at
        tag, kind, length, value_at = _element(content, at, explicit)
        if tag in _PIXELS:
            return elements, at
        if length == _UNDEFINED:
            value_end, after = _end_of_sequence(content, value_at, explicit and kind != b"UN")
            if kind == b"UN":
                raise OddHeaderError
            kind = b"SQ"  # only sequences may have it before the pixels; of a private one nothing else says so
        else:
            value_end = after = value_at + length
            if value_end > end:
                raise OddHeaderError
        elements[tag] = (kind, content[value_at:value_end])
        at = after
    return elements, at


def _element(content: bytes, at: int, explicit: bool) -> tuple[int, bytes | None, int, int]:
    """Return tag, value representation (None if implicit), length and place of the value."""
    if not explicit:
        group, number, length = _implicit(content, at)
        return group << 16 | number, None, length, at + 8
    group, number, kind, short = _explicit(content, at)
    if kind in _LONG:
        return group << 16 | number, kind, _length(content, at + 8)[0], at + 12
    if not (kind.isalpha() and kind.isupper()):
        raise OddHeaderError
    return group << 16 | number, kind, short, at + 8


def _end_of_sequence(content: bytes, at: int, explicit: bool) -> tuple[int, int]:
    """Return where the items of a sequence of undefined length end, and the place after its delimiter."""
    while True:
        group, number, length = _implicit(content, at)
        tag = group << 16 | number
        if tag == _SEQUENCE_END:
            return at, at + 8
        if tag != _ITEM:
            raise OddHeaderError
        at += 8
        at = _end_of_item(content, at, explicit) if length == _UNDEFINED else at + length


def _end_of_item(content: bytes, at: int, explicit: bool) -> int:
    while True:
        group, number, _ = _implicit(content, at)
        if group << 16 | number == _ITEM_END:
            return at + 8
        _, kind, length, value_at = _element(content, at, explicit)
        if length == _UNDEFINED:
            _, at = _end_of_sequence(content, value_at, explicit and kind != b"UN")
        else:
            at = value_at + length


def _uid(element: _Element | None) -> str:
    return "" if element is None else element[1].decode("ascii", "replace").strip("\0 ")
