"""MetaImage (.mha) and NRRD in and out, through SimpleITK. World coordinates are LPS there and RAS+ here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import FileFormatError
from uptake.core.types import Affine
from uptake.geometry.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""x and y change sign between the two world frames; its own inverse."""


def read_sitk(path: Path) -> tuple[npt.NDArray[Any], Affine, tuple[str, ...]]:
    """Return voxels in the order of the affine's columns, the RAS+ affine (mm) and warnings.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is truncated, or holds colours or vectors.
    """
    import SimpleITK

    if path.stat().st_size == 0:
        raise FileFormatError(f"{path}: the file is empty. Copy or convert the image again.")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if reader.GetNumberOfComponents() != 1:
            raise FileFormatError(
                f"{path}: {reader.GetNumberOfComponents()} values per voxel; expected one (no colours)."
            )
        if reader.GetDimension() not in (3, 4):
            # The rank is reported by the caller in the same words for all formats.
            return np.empty(reader.GetSize()), np.eye(4), ()
        image = reader.Execute()
    except RuntimeError as error:
        raise FileFormatError(
            f"{path}: truncated, damaged, or no image that SimpleITK can read. Copy or convert it again."
        ) from error
    dimension = image.GetDimension()
    spacing = np.asarray(image.GetSpacing())[:3]
    cosines = np.asarray(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = cosines * spacing
    affine[:3, 3] = np.asarray(image.GetOrigin())[:3]
    # SimpleITK hands the array over as (…, k, j, i); the affine's columns are i, j, k.
    array = np.ascontiguousarray(SimpleITK.GetArrayFromImage(image).T)
    return array, LPS_TO_RAS @ affine, ()


def write_sitk(volume: Volume, path: Path) -> None:
    """Write ``.mha`` or ``.nrrd``, compressed. Not atomic by itself: see `write.atomic_path`.

    Raises
    ------
    OSError
        If SimpleITK cannot write.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.array.T))  # (i, j, k) -> (k, j, i)
    affine = LPS_TO_RAS @ volume.affine
    spacing = np.asarray(volume.spacing_mm)
    image.SetSpacing([float(value) for value in spacing])
    image.SetOrigin([float(value) for value in affine[:3, 3]])
    image.SetDirection([float(value) for value in (affine[:3, :3] / spacing).ravel()])
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(f"SimpleITK could not write {path.name}") from error
