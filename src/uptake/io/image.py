"""One image file of any kind -> a checked `Volume` and what had to be said about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import FileFormatError, GeometryError
from uptake.geometry.affine import orthonormalised
from uptake.geometry.volume import Volume

NIFTI_SUFFIXES = (".nii.gz", ".nii")
SITK_SUFFIXES = (".mha", ".nrrd", ".mhd", ".nhdr")
IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *SITK_SUFFIXES)

LARGEST_LABEL = 65535


def image_suffix(path: Path) -> str:
    """Return which of `IMAGE_SUFFIXES` a file name ends with, or "" (upper case is accepted)."""
    name = path.name.lower()
    return next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix)), "")


def image_stem(path: Path) -> str:
    """Return the file name without its image suffix."""
    suffix = image_suffix(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.stem


def image_parts(path: Path) -> list[Path]:
    """Return the files of an image: the file itself, and the voxels that a ``.mhd`` or ``.nhdr`` header points to."""
    if image_suffix(path) not in (".mhd", ".nhdr"):
        return [path]
    pointer = re.search(rb"(?im)^(?:ElementDataFile\s*=|data\s*file:)\s*(\S.*?)\s*$", path.read_bytes()[:65536])
    voxels = path.parent / pointer[1].decode("utf-8", "replace") if pointer else path
    return [path, voxels] if voxels != path and voxels.is_file() else [path]


def read_image(path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Return a volume of float32 with finite voxels, and warnings.

    Parameters
    ----------
    path : Path
        NIfTI (.nii, .nii.gz), MetaImage (.mha, .mhd) or NRRD (.nrrd, .nhdr).

    Raises
    ------
    FileFormatError
        If the file is absent, empty, truncated, of another kind, or holds NaN or infinite voxels.
    GeometryError
        If the image is not three-dimensional (a fourth axis of length 1 is dropped with a warning), its affine is
        unusable, or its axes are further from perpendicular than can be repaired.
    """
    array, affine, warnings = _read(path)
    voxels = array.astype(np.float32, copy=False)
    _require_finite(path, voxels)
    return Volume(voxels, affine), warnings


def read_labels(path: Path) -> tuple[Volume, tuple[str, ...]]:
    """Return a label map as uint8, or uint16 where a label is above 255, and warnings.

    Raises
    ------
    FileFormatError
        As `read_image`, and if a value is negative, fractional or above 65535.
    GeometryError
        As `read_image`.
    """
    array, affine, warnings = _read(path)
    _require_finite(path, array)
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > LARGEST_LABEL or (array.dtype.kind == "f" and bool((array != np.rint(array)).any())):
        raise FileFormatError(
            f"{path}: a label map holds whole numbers from 0 to {LARGEST_LABEL}; this one goes from {low:g} to {high:g}"
            f"{' with fractions' if array.dtype.kind == 'f' else ''}. Give the mask, not an image or probabilities."
        )
    return Volume(array.astype(np.uint8 if high <= 255 else np.uint16), affine), warnings


def _read(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], tuple[str, ...]]:
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: no such file.")
    suffix = image_suffix(path)
    try:
        if suffix in NIFTI_SUFFIXES:
            from uptake.io.nifti import read_nifti

            array, affine, warnings = read_nifti(path)
        elif suffix in SITK_SUFFIXES:
            from uptake.io.sitk import read_sitk

            array, affine, warnings = read_sitk(path)
        else:
            raise FileFormatError(
                f"{path}: not an image that can be read here; expected one of {', '.join(IMAGE_SUFFIXES)}, or the "
                "folder "
                "of a DICOM study."
            )
    except PermissionError as error:
        raise FileFormatError(f"{path}: permission denied; make the file readable.") from error
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
        warnings = (*warnings, f"{path}: a fourth axis of length 1 was dropped.")
    if array.ndim != 3 or 0 in array.shape:
        kind = "a time series or several channels" if array.ndim > 3 else "a single slice or a row"
        raise GeometryError(
            f"{path}: {array.ndim}-D image of shape {array.shape}, {kind}; expected three axes. "
            "Give one static volume per file."
        )
    repaired, moved = orthonormalised(affine, name=str(path))
    if moved:
        warnings = (*warnings, f"{path}: direction cosines were off by {moved:.2g} and made perpendicular.")
    return array, repaired, warnings


def _require_finite(path: Path, array: npt.NDArray[Any]) -> None:
    if array.dtype.kind != "f":
        return
    broken = array.size - int(np.isfinite(array).sum())
    if broken:
        raise FileFormatError(
            f"{path}: {broken} of {array.size} voxels are NaN or infinite. "
            "Set them to what they should be (0 outside the field of view) or convert the image again."
        )
