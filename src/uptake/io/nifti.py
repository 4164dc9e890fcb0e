"""NIfTI in and out, through nibabel."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import FileFormatError, GeometryError
from uptake.core.types import Affine
from uptake.geometry.grid import Grid, corner_distance_mm
from uptake.geometry.volume import Volume

FORM_DISAGREEMENT_MM = 1.0
"""sform and qform that put a corner of the image this far apart are reported."""

_MILLIMETRE = ("mm", "unknown")


def read_nifti(path: Path) -> tuple[npt.NDArray[Any], Affine, tuple[str, ...]]:
    """Return voxels as stored (scaled, any rank), affine and warnings of a ``.nii`` or ``.nii.gz`` file.

    The affine is nibabel's choice: the sform where its code is set, else the qform, else voxel sizes alone.

    Parameters
    ----------
    path : Path

    Returns
    -------
    array : array
        Integers where the file stores integers without scaling, else floating point.
    affine : array (4, 4)
        RAS+ mm.
    warnings : tuple of str

    Raises
    ------
    FileFormatError
        If the file is empty, truncated, damaged, or no NIfTI image of real numbers.
    GeometryError
        If the header says that lengths are not mm.
    """
    import nibabel as nib

    content = _content(path)
    kind = _kind(path, content)
    repairs = " ".join(kind.header_class.diagnose_binaryblock(content[: kind.header_class.sizeof_hdr]).split("\n"))
    try:
        with nib.imageglobals.LoggingOutputSuppressor():  # what it would print stands in `repairs`
            image = kind.from_bytes(content)
        header = image.header
        unit = header.get_xyzt_units()[0]
        if image.get_data_dtype().kind not in "iuf":
            raise FileFormatError(f"{path}: voxels of type {image.get_data_dtype()} are no image of real numbers.")
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, ValueError, KeyError, OverflowError, nib.filebasedimages.ImageFileError) as error:
        raise FileFormatError(
            f"{path}: truncated or damaged; the header promises more than the file holds, or is not readable "
            f"({type(error).__name__}). Copy or convert the image again."
        ) from error
    except (nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError) as error:
        raise FileFormatError(f"{path}: the NIfTI header is damaged ({error}). Convert the image again.") from error
    if unit not in _MILLIMETRE:
        raise GeometryError(f"{path}: lengths are in {unit}s (NIfTI xyzt_units), expected mm. Correct the header.")
    warnings = _orientation_warnings(path, image)
    if repairs:
        warnings = (f"{path}: the header is odd and was read as nibabel repairs it: {repairs}.", *warnings)
    return array, np.asarray(image.affine, dtype=np.float64), warnings


def orientation_is_known(path: Path) -> bool:
    """Return whether the header of a NIfTI file says where its voxels lie: sform or qform with a code above 0."""
    content = _content(path)
    header: Any = _kind(path, content).header_class.from_fileobj(io.BytesIO(content))
    return int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0


def nifti_bytes(volume: Volume, description: str) -> bytes:
    """Return the content of a ``.nii`` file: sform and qform with code 1 (scanner), lengths in mm.

    A sheared affine goes into the sform in full; the qform holds its nearest rotation.
    """
    import nibabel as nib

    image = nib.Nifti1Image(np.asarray(volume.array), volume.affine, dtype=volume.array.dtype)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = description.encode("ascii")[:79]
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1)
    return bytes(image.to_bytes())


def _content(path: Path) -> bytes:
    """Return the decompressed bytes; the checksum of the gzip stream is verified on the way."""
    raw = path.read_bytes()
    if not raw:
        raise FileFormatError(f"{path}: the file is empty. Copy or convert the image again.")
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        raise FileFormatError(
            f"{path}: truncated or damaged; the gzip stream ends early or its checksum is wrong. "
            "Copy or convert the image again."
        ) from error


def _kind(path: Path, content: bytes) -> Any:
    """Return nibabel's class for NIfTI-1 or NIfTI-2 by the magic string that marks a single file of either."""
    import nibabel as nib

    if content[344:347] == b"n+1":
        return nib.Nifti1Image
    if content[4:7] == b"n+2":
        return nib.Nifti2Image
    raise FileFormatError(
        f"{path}: truncated or damaged, or no NIfTI file: the mark n+1 or n+2 is absent from its header. "
        "Copy or convert the image again."
    )


def _orientation_warnings(path: Path, image: Any) -> tuple[str, ...]:
    header = image.header
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    if sform_code == 0 and qform_code == 0:
        return (
            f"{path}: neither sform nor qform is set, so left and right are not known; the axes were taken as "
            f"{Volume(np.zeros((1, 1, 1)), image.affine).orientation}.",
        )
    if sform_code == 0 or qform_code == 0:
        return ()
    shape = tuple(image.shape[:3])
    if len(shape) < 3:
        return ()
    try:
        qform = header.get_qform()
    except Exception:
        return (f"{path}: the qform is unusable; the sform was used.",)
    apart = corner_distance_mm(Grid(shape, header.get_sform()), Grid(shape, qform))
    if apart > FORM_DISAGREEMENT_MM:
        return (f"{path}: sform and qform disagree by {apart:.1f} mm at a corner; the sform was used.",)
    return ()
