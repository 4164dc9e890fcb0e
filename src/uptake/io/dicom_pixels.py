"""The voxels of a stack: each file is read once, hashed, decoded and rescaled by its own slope."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import FileFormatError, GeometryError, UnitError
from uptake.io.archive import Files
from uptake.io.dicom_series import Image, quiet_headers
from uptake.io.dicom_stack import Stack, numbers

NATIVE = {"1.2.840.10008.1.2": "<", "1.2.840.10008.1.2.1": "<", "1.2.840.10008.1.2.2": ">"}
"""Transfer syntaxes with plain pixels, and their byte order (implicit and explicit little endian, big endian);
DICOM PS3.5 annex A."""

LOSSY = "01"
"""Lossy Image Compression (0028,2110) of an image that ever was compressed with loss."""

_UNDEFINED = 0xFFFFFFFF


def voxels(
    stack: Stack, files: Files, *, name: str, scale: Callable[[int], float] | None = None
) -> tuple[npt.NDArray[np.float32], str, tuple[str, ...]]:
    """Return the rescaled voxels, the SHA-256 over the files, and warnings.

    Parameters
    ----------
    stack : Stack
    files : Files
    name : str
        How errors name the series.
    scale : callable, optional
        Factor on slope * stored + intercept of slice k: Bq/mL to SUV.

    Returns
    -------
    array : array (column, row, slice) float32
        The column index runs fastest in memory, as NIfTI stores it.
    sha256 : str
        Over the sorted hashes of the files, as `io.write.sha256_of_files`.
    warnings : tuple of str

    Raises
    ------
    FileFormatError
        If a file is truncated, cannot be decoded, or holds NaN; the file is named.
    MissingAttributeError, UnitError
        If the Rescale Slope (0028,1053) is absent or not positive.

    References
    ----------
    DICOM PS3.3 C.11.1 (Modality LUT), C.8.9.4.1.3 (Rescale Slope of PET), C.7.6.3.1.4 (pixel representation).
    """
    columns, rows, count = stack.shape
    array = np.empty((count, rows, columns), dtype=np.float32)
    places: dict[Path, list[int]] = {}
    for k, image in enumerate(stack.images):
        places.setdefault(image.path, []).append(k)
    lines = [_line(image.header, name) for image in stack.images]

    def load(path: Path) -> str:
        content = files.content(path)
        here = places[path]
        stored = _stored(content, [stack.images[k] for k in here], rows, columns, path)
        for k, plane in zip(here, stored, strict=True):
            slope, intercept = lines[k]
            factor = 1.0 if scale is None else scale(k)
            # In float64, rounded once.
            array[k] = (plane * np.float64(slope) + intercept) * factor
        return hashlib.sha256(content).hexdigest()

    with quiet_headers(), ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        digests = list(pool.map(load, places))
    if not np.isfinite(array).all():
        raise FileFormatError(f"{name}: rescaled voxels are NaN or infinite; the series is damaged. Export it again.")
    notes: tuple[str, ...] = ()
    if any(str(image.header.get("LossyImageCompression", "") or "") == LOSSY for image in stack.images):
        notes = (f"{name}: was compressed with loss (0028,2110); its values are approximate.",)
    return array.transpose(), hashlib.sha256("\n".join(sorted(digests)).encode("ascii")).hexdigest(), notes


def _line(header: Any, name: str) -> tuple[float, float]:
    """Return Rescale Slope and Intercept of a slice."""
    (slope,) = numbers(header, "RescaleSlope", 1, name)
    (intercept,) = numbers(header, "RescaleIntercept", 1, name)
    if slope <= 0:
        raise UnitError(f"{name}: Rescale Slope (0028,1053) is {slope:g}; expected a positive number.")
    return slope, intercept


def _stored(content: bytes, images: Sequence[Image], rows: int, columns: int, path: Path) -> Sequence[npt.NDArray[Any]]:
    """Return the stored values of the wanted frames of one file, each (row, column)."""
    header = images[0].header
    syntax = images[0].syntax
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise GeometryError(f"{path}: a slice holds colours; expected one grey image per slice.")
    try:
        order = NATIVE.get(syntax)
        plain = None if order is None else _plain(content, images[0], rows * columns, order)
        frames = _decoded(content, images[0].pixels_at) if plain is None else plain
        frames = frames.reshape(-1, rows, columns)
        return [frames[image.frame] for image in images]
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from error
    except Exception as error:  # decoders raise many kinds
        from pydicom.uid import UID

        name = UID(syntax).name or "not stated"
        raise FileFormatError(
            f"{path}: the pixels cannot be decoded; the file is truncated or damaged, or its compression ({name}) is "
            "not known here. Export the series again, uncompressed (Explicit VR Little Endian)."
        ) from error


def _plain(content: bytes, image: Image, size: int, order: str) -> npt.NDArray[Any] | None:
    """Return the values of uncompressed pixels (frame * pixel), or None where pydicom has to look at them."""
    header, at = image.header, image.pixels_at
    if content[at : at + 4] != np.array([0x7FE0, 0x0010], dtype=f"{order}u2").tobytes():
        return None  # real numbers (Float Pixel Data)
    explicit = content[at + 4 : at + 6] in (b"OW", b"OB")
    start = at + (12 if explicit else 8)
    length = int(np.frombuffer(content, f"{order}u4", 1, start - 4)[0])
    bits, used = int(header.BitsAllocated), int(header.get("BitsStored") or header.BitsAllocated)
    if length == _UNDEFINED or bits not in (8, 16, 32) or int(header.get("HighBit", used - 1)) != used - 1:
        return None
    frames = int(header.get("NumberOfFrames") or 1)
    if len(content) < start + frames * size * bits // 8:
        raise FileFormatError("the DICOM file is truncated: it ends within its pixels. Export or copy the file again.")
    kind = "i" if int(header.get("PixelRepresentation") or 0) else "u"
    values = np.frombuffer(content, f"{order}{kind}{bits // 8}", frames * size, start)
    if used == bits:
        return values
    # Bits above those stored may hold anything (overlays of old); shifting there and back clears or sign-extends them.
    native = values.astype(values.dtype.newbyteorder("="))
    return (native << (bits - used)) >> (bits - used)


def _decoded(content: bytes, at: int) -> npt.NDArray[Any]:
    """Return the values of compressed or real-number pixels: through pydicom where it can, else SimpleITK's GDCM."""
    from pydicom import dcmread

    header = dcmread(io.BytesIO(content), force=True)
    if "PixelData" in header and header.file_meta.TransferSyntaxUID.is_encapsulated:
        _require_whole(content, at)
        from pydicom.pixels.decoders.base import get_decoder

        try:
            able = get_decoder(header.file_meta.TransferSyntaxUID).is_available
        except NotImplementedError:
            able = False
        if not able:
            return _through_gdcm(header)
    return np.asarray(header.pixel_array)


def _require_whole(content: bytes, at: int) -> None:
    """Check that the fragments of compressed pixels are all there: decoders make an image of half a stream too.

    References
    ----------
    DICOM PS3.5 A.4: items (FFFE,E000) with their lengths, then a sequence delimiter (FFFE,E0DD).
    """
    at += 12
    while content[at : at + 4] == b"\xfe\xff\x00\xe0":
        at += 8 + int.from_bytes(content[at + 4 : at + 8], "little")
    if content[at : at + 4] != b"\xfe\xff\xdd\xe0":
        raise FileFormatError("the DICOM file is truncated: it ends within its pixels. Export or copy the file again.")


def _through_gdcm(header: Any) -> npt.NDArray[Any]:
    """Decode with the GDCM inside SimpleITK, which wants a file: one without names and without a rescale."""
    import SimpleITK as sitk
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

    bare = FileDataset("", Dataset(), file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    bare.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    for keyword in (
        "SOPClassUID", "SOPInstanceUID", "Modality", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
        "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames", "PixelData",
    ):  # fmt: skip
        if keyword in header:
            bare[keyword] = header[keyword]
    handle, name = tempfile.mkstemp(suffix=".dcm", prefix="uptake-")
    os.close(handle)
    try:
        bare.save_as(name, enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(name)
        return np.asarray(sitk.GetArrayFromImage(reader.Execute()))
    finally:
        Path(name).unlink(missing_ok=True)
