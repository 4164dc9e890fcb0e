"""Slices of one series -> one volume: order, spacing, and what makes a stack unusable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import FileFormatError, GeometryError, MissingAttributeError, UnitError
from uptake.core.types import FloatArray
from uptake.geometry.affine import orthonormalised
from uptake.geometry.volume import Volume
from uptake.io.dicom_series import Series, quiet_headers, values_of

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


def read_stack(series: Series, *, name: str) -> tuple[Volume, list[Any], tuple[str, ...]]:
    """Return the rescaled volume, the slice headers in stack order, and warnings.

    Each slice is rescaled by its own Rescale Slope and Intercept (PET slopes differ from slice to slice).

    Parameters
    ----------
    series : Series
    name : str
        How errors and warnings name it: folder and UID tail.

    Returns
    -------
    volume : Volume
        (column, row, slice) float32, RAS+, with Frame of Reference UID (0020,0052).
    headers : list of pydicom.Dataset
        Without pixels, in the order of the third array axis.
    warnings : tuple of str

    Raises
    ------
    MissingAttributeError
        If position, orientation, spacing or rescale slope is absent.
    GeometryError
        If slices are missing, doubled, irregular, of several sizes or directions, or the gantry is tilted.
    FileFormatError
        If a file is truncated or its pixels cannot be decoded.

    References
    ----------
    DICOM PS3.3 C.7.6.2 (Image Plane), C.11.1 (Modality LUT), C.8.9.4.1.3 (Rescale Slope of PET).
    """
    headers = [_read(path) for path in series.files]
    positions = np.array([_numbers(header, "ImagePositionPatient", 3, name) for header in headers])
    orientations = np.array([_numbers(header, "ImageOrientationPatient", 6, name) for header in headers])
    spacings = np.array([_numbers(header, "PixelSpacing", 2, name) for header in headers])
    sizes = {tuple(int(_numbers(header, word, 1, name)[0]) for word in ("Rows", "Columns")) for header in headers}
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
    headers = [headers[n] for n in order]
    step, warnings = _regular_step(positions, normal, name)
    affine = np.eye(4)
    # Pixel Spacing is (between rows, between columns): the second belongs to the column index, our first axis.
    affine[:3, 0] = row * spacings[0, 1]
    affine[:3, 1] = column * spacings[0, 0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    repaired, moved = orthonormalised(LPS_TO_RAS @ affine, name=name)
    if moved > 1e-5:
        warnings = (*warnings, f"{name}: direction cosines were off by {moved:.2g} and made perpendicular.")
    rows, columns = next(iter(sizes))
    array = np.empty((columns, rows, len(headers)), dtype=np.float32)
    for k, header in enumerate(headers):
        array[:, :, k] = _rescaled(header, name).T  # stored (row, column) -> (column, row)
        del header.PixelData
    if not np.isfinite(array).all():
        raise FileFormatError(f"{name}: rescaled voxels are NaN or infinite; the series is damaged. Export it again.")
    return Volume(array, repaired, frame_of_reference=series.frame_of_reference), headers, warnings


def _regular_step(positions: FloatArray, normal: FloatArray, name: str) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the world vector (LPS mm) from slice to slice, after the checks on gaps, and warnings."""
    along = positions @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    doubled = gaps < max(DUPLICATE_SHARE * usual, 1e-3)
    if usual < 1e-3 or doubled.any():
        raise GeometryError(
            f"{name}: {int(doubled.sum())} slices share a position. A dynamic or gated series, or a series copied "
            "twice: "
            "give one static series."
        )
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


def _read(path: Path) -> Any:
    from pydicom import dcmread

    try:
        with quiet_headers():
            header = dcmread(path)
            header.decode()
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise FileFormatError(f"{path}: the DICOM file is truncated or damaged. Export it again.") from error
    return header


def _rescaled(header: Any, name: str) -> FloatArray:
    """Return slope * stored + intercept, (row, column) float64."""
    (slope,) = _numbers(header, "RescaleSlope", 1, name)
    (intercept,) = _numbers(header, "RescaleIntercept", 1, name)
    if slope <= 0:
        raise UnitError(f"{name}: Rescale Slope (0028,1053) is {slope:g}; expected a positive number.")
    try:
        with quiet_headers():
            stored = header.pixel_array
    except Exception as error:  # decoders raise many kinds
        raise FileFormatError(
            f"{name}: the pixels of slice {header.get('InstanceNumber', '?')} cannot be decoded; the file is "
            "truncated, or its "
            "compression needs another pydicom plug-in. Export the series uncompressed (Explicit VR Little Endian)."
        ) from error
    if stored.ndim != 2:
        raise GeometryError(f"{name}: a slice holds {stored.ndim}-D pixels; expected one grey image per file.")
    return np.asarray(stored, dtype=np.float64) * slope + intercept


def _numbers(header: Any, keyword: str, count: int, name: str) -> Sequence[float]:
    """Return the `count` finite values of a numeric attribute."""
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    attribute = f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
    values = values_of(header, keyword)
    if len(values) != count or "" in values:
        raise MissingAttributeError(
            f"{name}: {attribute} is absent or incomplete. Export the series again from the scanner."
        )
    try:
        numbers = [float(str(value)) for value in values]
    except ValueError:
        numbers = [math.nan]
    if not all(math.isfinite(number) for number in numbers):
        raise UnitError(f"{name}: {attribute} is {', '.join(map(str, values))}; expected numbers.")
    return numbers
