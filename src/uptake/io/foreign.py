"""Images that live in other packages' objects: in as a `Volume`, out as the type they came as. No files."""

from __future__ import annotations

from typing import Any

import numpy as np

from uptake.core.errors import GeometryError
from uptake.geometry.volume import Volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def as_volume(image: Any, *, name: str = "image") -> Volume:
    """Return a `Volume` of a `Volume`, a nibabel image, or a SimpleITK image.

    Parameters
    ----------
    image : Volume, nibabel spatial image, or SimpleITK.Image
        Three-dimensional.
    name : str
        How an error calls it.

    Raises
    ------
    GeometryError
        If the image is not three-dimensional, or of another type. A bare array is refused: it has no place in space.
    """
    if isinstance(image, Volume):
        return image
    kind = _kind(image)
    if kind == "nibabel":
        return Volume(np.asanyarray(image.dataobj), image.affine)
    if kind == "SimpleITK":
        import SimpleITK as sitk

        if image.GetDimension() != 3:
            raise GeometryError(f"{name}: has {image.GetDimension()} dimensions, a volume has three.")
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        # SimpleITK hands arrays out as (k, j, i); its affine's columns are i, j, k.
        return Volume(sitk.GetArrayFromImage(image).transpose(), LPS_TO_RAS @ affine)
    raise GeometryError(
        f"{name}: came {type(image).__name__}; give a path, an uptake.Volume (array and affine), a nibabel image or a "
        "SimpleITK image."
    )


def is_foreign(image: Any) -> bool:
    """Return whether `as_volume` knows the type and it is not already a `Volume`."""
    return _kind(image) is not None


def like(volume: Volume, image: Any) -> Any:
    """Return the volume as the type of `image`: nibabel in, nibabel out; SimpleITK in, SimpleITK out; else itself."""
    kind = _kind(image)
    if kind == "nibabel":
        import nibabel as nib

        return nib.Nifti1Image(volume.array, volume.affine)
    if kind == "SimpleITK":
        import SimpleITK as sitk

        result = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose()))
        result.CopyInformation(image)
        return result
    return volume


def _kind(image: Any) -> str | None:
    """Name the package an image belongs to, without importing one that its owner has not imported."""
    for base in type(image).__mro__:
        root = base.__module__.split(".")[0]
        if root == "nibabel" and hasattr(image, "dataobj") and hasattr(image, "affine"):
            return "nibabel"
        if root == "SimpleITK" and hasattr(image, "GetDirection"):
            return "SimpleITK"
    return None
