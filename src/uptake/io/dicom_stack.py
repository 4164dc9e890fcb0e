"""Slices of one series -> one stack: order, spacing, and what makes a stack unusable. No pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import FileFormatError, GeometryError, MissingAttributeError, UnitError
from uptake.core.types import Affine, FloatArray, Shape3
from uptake.geometry.affine import orthonormalised
from uptake.io.archive import Files
from uptake.io.dicom_series import Image, Series, values_of

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's patient coordinates (PS3.3 C.7.6.2.1.1) are LPS, ours RAS+: x and y change sign."""

SAME_DIRECTION = 1.0e-3
"""Largest difference of direction cosines between slices of one stack; headers round to 1e-4 or better."""

DUPLICATE_SHARE = 0.1
"""Two slices closer than this share of the usual distance are at one position."""

IRREGULAR_SHARE = 0.1
"""Distances between slices may differ by this share: bed borders of real scanners differ by 2.5 %."""

MISSING_SHARE = 1.5
"""A distance above this many usual ones is a missing slice."""

REPORTED_OFFSET_MM = 0.01
"""Slices further than this from their place on the regular grid are reported."""

OFF_AXIS_MM = 0.5
"""Slices may be shifted in their own plane against the straight line through the stack by this much."""

_TIMES = ("FrameReferenceTime", "AcquisitionTime", "TriggerTime", "TemporalPositionIndex", "ActualFrameDuration")
"""Attributes in which frames of one position differ if they were taken one after the other."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order, and where they lie.

    Attributes
    ----------
    images : tuple of Image
        In the order of the third array axis.
    affine : array (4, 4)
        Of (column, row, slice), RAS+ mm.
    shape : tuple of int
        Columns, rows, slices.
    warnings : tuple of str
    """

    images: tuple[Image, ...]
    affine: Affine
    shape: Shape3
    warnings: tuple[str, ...]

    @property
    def headers(self) -> list[Any]:
        return [image.header for image in self.images]

    @property
    def files(self) -> tuple[Path, ...]:
        """In the order of the slices; one for a multi-frame image."""
        return tuple(dict.fromkeys(image.path for image in self.images))


def stacked(series: Series, files: Files, *, name: str) -> Stack:
    """Return the slices of a series in order, after all checks on their geometry.

    Parameters
    ----------
    series : Series
    files : Files
        To tell exact copies of a file from a second image.
    name : str
        How errors and warnings name the series: folder and UID tail.

    Raises
    ------
    MissingAttributeError
        If position, orientation or spacing is absent.
    GeometryError
        If slices are missing, doubled, irregular, of several sizes or directions, or the gantry is tilted.

    References
    ----------
    DICOM PS3.3 C.7.6.2 (Image Plane), C.8.15.3.9 and C.7.6.16.2.3 (planes of multi-frame images).
    """
    images, copies = _without_copies(series.images, files, name)
    headers = [image.header for image in images]
    positions = np.array([numbers(header, "ImagePositionPatient", 3, name) for header in headers])
    orientations = np.array([numbers(header, "ImageOrientationPatient", 6, name) for header in headers])
    spacings = np.array([numbers(header, "PixelSpacing", 2, name) for header in headers])
    sizes = {tuple(int(numbers(header, word, 1, name)[0]) for word in ("Columns", "Rows")) for header in headers}
    if len(sizes) > 1 or np.abs(spacings - spacings[0]).max() > 1e-4:
        raise GeometryError(
            f"{name}: slices differ in size or Pixel Spacing (0028,0030): {sorted(sizes)}. Give one series."
        )
    if np.abs(orientations - orientations[0]).max() > SAME_DIRECTION:
        raise GeometryError(
            f"{name}: slices differ in Image Orientation (Patient) (0020,0037); one stack of parallel slices is "
            "expected."
        )
    row, column = orientations[0, :3], orientations[0, 3:]
    normal = np.cross(row, column)
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    ordered = tuple(images[n] for n in order)
    if len(ordered) == 1:
        step, warnings = _single_step(ordered[0].header, normal, name)
    else:
        step, warnings = _regular_step(positions, normal, [image.header for image in ordered], name)
    affine = np.eye(4)
    # Pixel Spacing is (between rows, between columns): the second belongs to the column index, our first axis.
    affine[:3, 0] = row * spacings[0, 1]
    affine[:3, 1] = column * spacings[0, 0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    repaired, moved = orthonormalised(LPS_TO_RAS @ affine, name=name)
    if moved > 1e-5:
        warnings = (*warnings, f"{name}: direction cosines were off by {moved:.2g} and made perpendicular.")
    ((columns, rows),) = sizes
    return Stack(ordered, repaired, (columns, rows, len(ordered)), (*copies, *warnings, *_incomplete(ordered, name)))


def numbers(header: Any, keyword: str, count: int, name: str) -> Sequence[float]:
    """Return the `count` finite values of a numeric attribute.

    Raises
    ------
    MissingAttributeError
        If it is absent, or has another number of values.
    UnitError
        If it holds words.
    """
    values = values_of(header, keyword)
    if len(values) != count or "" in values:
        raise MissingAttributeError(
            f"{name}: {_attribute(keyword)} is absent or incomplete. Export the series again from the scanner."
        )
    try:
        result = [float(value) if isinstance(value, float | int) else float(str(value)) for value in values]
    except ValueError:
        result = [math.nan]
    if not all(math.isfinite(number) for number in result):
        raise UnitError(f"{name}: {_attribute(keyword)} is {', '.join(map(str, values))}; expected numbers.")
    return result


def _attribute(keyword: str) -> str:
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _without_copies(images: Sequence[Image], files: Files, name: str) -> tuple[list[Image], tuple[str, ...]]:
    """Leave out files that are byte for byte copies of another; two different files of one instance are refused."""
    first: dict[tuple[str, int], Image] = {}
    kept, copies = [], 0
    for image in images:
        uid = str(image.header.get("SOPInstanceUID", "") or "")
        other = first.setdefault((uid, image.frame), image) if uid else image
        if other is image:
            kept.append(image)
        elif files.content(other.path) == files.content(image.path):
            copies += 1
        else:
            raise FileFormatError(
                f"{image.path}: another file than {other.path}, and both claim to be one instance by SOP Instance UID "
                "(0008,0018). Leave the right one in the folder."
            )
    if not copies:
        return kept, ()
    return kept, (f"{name}: {copies} exact copies of slices were left out.",)


def _single_step(header: Any, normal: FloatArray, name: str) -> tuple[FloatArray, tuple[str, ...]]:
    (thickness,) = numbers(header, "SliceThickness", 1, name)
    if thickness <= 0:
        raise GeometryError(f"{name}: one slice only, and its Slice Thickness (0018,0050) is {thickness:g} mm.")
    return normal * thickness, (f"{name}: one slice only; its Slice Thickness {thickness:g} mm was taken as spacing.",)


def _regular_step(
    positions: FloatArray, normal: FloatArray, headers: list[Any], name: str
) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the world vector (LPS mm) from slice to slice, after the checks on gaps, and warnings."""
    along = positions @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    doubled = gaps < max(DUPLICATE_SHARE * usual, 1e-3)
    if usual < 1e-3 or doubled.any():
        raise GeometryError(_doubled(np.flatnonzero(doubled), along, headers, name))
    wide = np.flatnonzero(gaps > MISSING_SHARE * usual)
    if wide.size:
        at = along[wide[0]]
        raise GeometryError(
            f"{name}: {wide.size} gaps where slices are missing, the first after position {at:.2f} mm "
            f"({gaps[wide[0]]:.2f} mm "
            f"instead of {usual:.2f} mm). Export the whole series again."
        )
    if np.abs(gaps - usual).max() > IRREGULAR_SHARE * usual:
        raise GeometryError(
            f"{name}: the distance between slices varies from {gaps.min():.2f} to {gaps.max():.2f} mm; expected one "
            "distance "
            f"within {IRREGULAR_SHARE:.0%}. Resample the series to even slices first."
        )
    count = len(positions)
    step = (positions[-1] - positions[0]) / (count - 1)
    offsets = positions - (positions[0] + np.arange(count)[:, None] * step)
    across = float(np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1).max())
    if across > OFF_AXIS_MM:
        raise GeometryError(
            f"{name}: slices are shifted against one another by up to {across:.2f} mm in their own plane."
        )
    tilt = float(np.linalg.norm(step - (step @ normal) * normal))
    if tilt > 0.01 * float(np.linalg.norm(step)):
        raise GeometryError(
            f"{name}: tilted gantry: each slice is shifted by {tilt:.2f} mm in its plane. "
            "Resample the series to a perpendicular stack first."
        )
    off = float(np.abs(offsets @ normal).max())
    if off > REPORTED_OFFSET_MM:
        return step, (
            f"{name}: slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart; read as even "
            f"{np.linalg.norm(step):.3f} mm, "
            f"which moves a slice by at most {off:.2f} mm.",
        )
    return step, ()


def _doubled(pairs: Any, along: FloatArray, headers: list[Any], name: str) -> str:
    """Say which slices share a position, and whether they were taken one after the other."""
    differ = [
        keyword
        for keyword in _TIMES
        if any(str(headers[n].get(keyword, "")) != str(headers[n + 1].get(keyword, "")) for n in pairs)
    ]
    at = f", the first at {along[pairs[0]]:.2f} mm" if len(pairs) else ""
    why = (
        f"they differ in {_attribute(differ[0])}: a dynamic or gated series"
        if differ
        else "a dynamic or gated series, or a series stored twice"
    )
    return f"{name}: {len(pairs)} slices share a position with another{at}; {why}. Give one static series."


def _incomplete(images: Sequence[Image], name: str) -> tuple[str, ...]:
    """Compare with Number of Slices (0054,0081), the only witness of slices that are missing at an end of the stack."""
    promised = int(images[0].header.get("NumberOfSlices") or 0)
    if promised > len(images):
        return (f"{name}: Number of Slices (0054,0081) is {promised}; the series was cropped or is incomplete.",)
    return ()
