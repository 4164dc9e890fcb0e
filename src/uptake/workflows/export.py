"""Labels out: any mask back onto the DICOM study it belongs to, as SEG, RTSTRUCT and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uptake.cases import Case
from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry.grid import corner_distance_mm, same_grid
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume
from uptake.io.dicom_labels import is_dicom_labels, read_dicom_labels, slices_of
from uptake.io.dicom_reference import Identity, Reference, read_reference
from uptake.io.dicom_regions import Regions
from uptake.io.foreign import as_volume
from uptake.io.image import read_labels
from uptake.io.read import read
from uptake.io.terminology import LESION
from uptake.io.write import require_writable
from uptake.quantification.lesions import LesionTable, measure_lesions
from uptake.workflows.dicom_results import (
    KINDS,
    lesion_segments,
    maker_of,
    segments_of,
    write_objects,
)


def export(
    mask: Any,
    study: Path | str | Case,
    out: Path | str,
    *,
    names: Mapping[int, str] | None = None,
    kinds: Sequence[str] = KINDS,
    made_by: str | None = None,
    keep_identifiers: bool = False,
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    mtv_method: str = "mask",
    assume_suv: bool = False,
    pet_series: str | None = None,
    ct_series: str | None = None,
) -> dict[str, Path]:
    """Write a mask as DICOM SEG, RTSTRUCT and measurement report on the study that it belongs to.

    Parameters
    ----------
    mask : path or image
        On the grid of the study's PET or CT, in any orientation of its axes: an image file, a `Volume`, a nibabel or
        SimpleITK image; or a DICOM SEG or RTSTRUCT, to write it anew.
    study : path or Case
        The DICOM study.
    out : path
        Folder for the files.
    names : mapping of int to str, optional
        What the values of the mask are called; TotalSegmentator's class names get their SNOMED CT codes. Without it
        every voxel that is not 0 is lesion, and each connected component a segment of its own.
    kinds : sequence of str
        Of "seg", "rtstruct", "sr". The report refers to the SEG and holds the measurements of lesions on the PET.
    made_by : str, optional
        The algorithm that made the mask: the files then say AUTOMATIC and name it; without it they say MANUAL.
    keep_identifiers : bool
        Copy name, ID, birth date and the like from the study.
    connectivity, min_volume_ml, mtv_method
        Of lesions, as in `uptake.quantify`.
    assume_suv : bool
    pet_series, ct_series : str, optional
        As in `uptake.read`.

    Returns
    -------
    dict of str to Path
        The files by kind.

    Raises
    ------
    GeometryError
        If the mask lies on neither grid.
    UsageError, InputError
        Of the kind that fits.
    OutputError
        If a file cannot be written, or does not read back to the same voxels.

    Examples
    --------
    >>> export("organs.nii.gz", "study/", "out/", names={1: "liver", 2: "spleen"}, made_by="MyNet 1.0")
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        raise UsageError(f"kinds are {', '.join(KINDS)}; came {unknown or 'none'}.")
    if "sr" in kinds and "seg" not in kinds:
        raise UsageError("the report refers to the SEG; write that too (--seg).")
    place = Path(out)
    require_writable(place)
    wanted_suv = "sr" in kinds and names is None
    if isinstance(study, Case):
        require_no_choice(pet_series, ct_series)
        case = study
    else:
        case = read(study, labels=False, assume_suv=assume_suv or not wanted_suv, pet_series=pet_series,
                    ct_series=ct_series)  # fmt: skip
    if not case.pet_files:
        raise InputError(f"{case.id}: the study is not DICOM; there is nothing that a SEG or RTSTRUCT could refer to.")
    labels, found_names = _labels(mask, case)
    names = names if names is not None else found_names
    labels, reference = _onto_slices(labels, case)
    identity = Identity(case.id, keep_identifiers)
    maker = maker_of(made_by)
    if names is not None:
        segments = segments_of(labels, names)
        if not segments:
            raise InputError(f"{case.id}: the mask is empty; there is no label to write.")
        return write_objects(
            labels, segments, reference, place, maker=maker, identity=identity, content="labels", kinds=kinds
        )
    table = _measured(labels, case, reference, connectivity, min_volume_ml, mtv_method)
    numbered, segments = lesion_segments(table, labels)
    on_pet = reference.modality == "PT"
    return write_objects(
        numbered, segments, reference, place, maker=maker, identity=identity, content="lesions", kinds=kinds,
        table=table if on_pet else None,
    )  # fmt: skip


def require_no_choice(*series: str | None) -> None:
    """Check that nobody chooses a series of what has been read already.

    Raises
    ------
    UsageError
        If somebody does.
    """
    if any(one is not None for one in series):
        raise UsageError(
            "pet_series and ct_series choose among the series of a DICOM study; this is a Case, read already."
        )


def _labels(mask: Any, case: Case) -> tuple[Volume, Mapping[int, str] | None]:
    """Return a label map, and the names of its values where the file tells them."""
    if not isinstance(mask, str | Path):
        return as_volume(mask, name="the mask"), None
    path = Path(mask)
    if is_dicom_labels(path):
        found = read_dicom_labels(path, case.pet, reference=slices_of(case.pet, case.pet_files))
        labels, names = label_map(found, case.pet)
        lesions = all(name.lower().startswith(LESION) for name in names.values())
        return labels, None if lesions else names
    return read_labels(path)[0], None


def label_map(found: Regions, pet: Volume) -> tuple[Volume, dict[int, str]]:
    """Return regions as one label map and the names of its values.

    Raises
    ------
    InputError
        If two regions share a voxel: one map cannot hold both.
    """
    array = np.zeros(pet.shape, np.uint16)
    names: dict[int, str] = {}
    for number, region in enumerate(found.regions, start=1):
        names[number] = region.name
        if region.box is None:
            continue
        part = array[region.box]
        shared = part[region.inside]
        if shared.any():
            other = names[int(shared.max())]
            raise InputError(
                f"{found.path}: {region.name!r} and {other!r} overlap; write them one at a time (uptake regions gives "
                "a mask of each)."
            )
        part[region.inside] = number
    return pet.with_array(array), names


def _onto_slices(labels: Volume, case: Case) -> tuple[Volume, Reference]:
    """Return the labels in the voxel order of the series whose grid they lie on, and the slices of that series.

    Raises
    ------
    GeometryError
        If they lie on neither the PET's grid nor the CT's.
    """
    if not np.issubdtype(labels.array.dtype, np.integer):
        labels = labels.with_array(_whole(labels.array))
    distances = []
    for image, files, name in ((case.pet, case.pet_files, "PET"), (case.ct, case.ct_files, "CT")):
        if image is None or not files:
            continue
        turned = reorient(labels, image.orientation)
        if same_grid(turned, image):
            placed = Volume(turned.array, image.affine, frame_of_reference=image.frame_of_reference)
            return placed, read_reference(files, image, name=f"{case.id}: the {name}")
        far = corner_distance_mm(turned, image)
        size = " x ".join(str(n) for n in image.shape)
        distances.append(f"the {name} has {size} voxels" + (f" and lies {far:.1f} mm away" if np.isfinite(far) else ""))
    shape = " x ".join(str(n) for n in labels.shape)
    raise GeometryError(
        f"the mask of {shape} voxels is on no grid of the study ({'; '.join(distances)}). Bring it to the PET's or the "
        "CT's own grid first; resampling labels here would change them."
    )


def _whole(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if not np.isfinite(array).all() or (array != np.rint(array)).any() or array.min() < 0:
        raise InputError("the mask holds fractions, negative or undefined values; labels are whole numbers from 0.")
    return array.astype(np.uint16)


def _measured(
    labels: Volume, case: Case, reference: Reference, connectivity: int, min_volume_ml: float, mtv_method: str
) -> LesionTable:
    """Return the lesion table; of a mask on the CT it holds numbers and volumes, and no uptake that means anything."""
    image = case.pet if reference.modality == "PT" else labels.with_array(np.zeros(labels.shape, np.float32))
    return measure_lesions(image, labels, connectivity=connectivity, min_volume_ml=min_volume_ml, mtv_method=mtv_method)
