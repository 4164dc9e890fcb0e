"""Images that live in other packages' objects: in as a `Volume`, out as the type they came as. No files."""

from __future__ import annotations

from typing import Any

import numpy as np

from uptake.core.errors import GeometryError
from uptake.geometry.affine import orthonormalised
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
        If the image is not one static volume of real numbers with perpendicular axes (small deviations are repaired,
        as in a file), or of another type. A bare array is refused: it has no place in space.
    """
    if isinstance(image, Volume):
        return image
    kind = _kind(image)
    if kind == "nibabel":
        _require_three(len(image.shape), name)
        if image.get_data_dtype().kind not in "iuf":
            raise GeometryError(f"{name}: voxels of type {image.get_data_dtype()} are no image of real numbers.")
        # An image that was made in memory may have none; it is refused like an unusable one.
        affine = np.full((4, 4), np.nan) if image.affine is None else image.affine
        return Volume(np.asanyarray(image.dataobj), orthonormalised(affine, name=name)[0])
    if kind == "SimpleITK":
        import SimpleITK as sitk

        _require_three(image.GetDimension(), name)
        if image.GetNumberOfComponentsPerPixel() != 1:
            raise GeometryError(
                f"{name}: {image.GetNumberOfComponentsPerPixel()} values per voxel; expected one (no colours, no "
                "vectors)."
            )
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        affine, _ = orthonormalised(LPS_TO_RAS @ affine, name=name)
        # SimpleITK hands arrays out as (k, j, i); its affine's columns are i, j, k.
        return Volume(sitk.GetArrayFromImage(image).transpose(), affine)
    raise GeometryError(
        f"{name}: came {type(image).__name__}; give a path, an uptake.Volume (array and affine), a nibabel image or a "
        "SimpleITK image."
    )


def is_foreign(image: Any) -> bool:
    """Return whether `as_volume` knows the type and it is not already a `Volume`."""
    return _kind(image) is not None


def like(volume: Volume, image: Any) -> Any:
    """Return the volume as the type of `image`, on that image's own grid to the bit: nibabel for nibabel, SimpleITK
    for SimpleITK, else the volume itself.
    """
    kind = _kind(image)
    if kind == "nibabel":
        import nibabel as nib

        return nib.Nifti1Image(volume.array, image.affine)
    if kind == "SimpleITK":
        import SimpleITK as sitk

        result = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose()))
        result.CopyInformation(image)
        return result
    return volume


def _require_three(dimensions: int, name: str) -> None:
    if dimensions != 3:
        raise GeometryError(f"{name}: has {dimensions} dimensions, a volume has three. Give one static volume.")


def _kind(image: Any) -> str | None:
    """Name the package an image belongs to, without importing one that its owner has not imported."""
    for base in type(image).__mro__:
        root = base.__module__.split(".")[0]
        if root == "nibabel" and hasattr(image, "dataobj") and hasattr(image, "affine"):
            return "nibabel"
        if root == "SimpleITK" and hasattr(image, "GetDirection"):
            return "SimpleITK"
    return None
