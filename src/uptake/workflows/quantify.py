"""A PET and a mask in, the same table, pictures and report out: for masks from anywhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uptake.cases import Case
from uptake.core.errors import UsageError
from uptake.gate import check
from uptake.geometry.volume import Volume
from uptake.io.foreign import as_volume
from uptake.io.read import read
from uptake.physics.plausibility import require_suv
from uptake.quantification.lesions import LesionTable, measure_lesions
from uptake.workflows.dicom_results import DicomSettings, maker_of
from uptake.workflows.outputs import recover, request_of, require_replaceable, write_results
from uptake.workflows.regions import read_with_mask


def quantify(
    pet: Any,
    mask: Any,
    *,
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    mtv_method: str = "mask",
    assume_suv: bool = False,
    roi: str | Sequence[str] | None = None,
) -> LesionTable:
    """Return the lesion table of a PET and a mask; files, `Volume`s, nibabel or SimpleITK images.

    Parameters
    ----------
    pet : path, Case, or image
        SUV, g/mL.
    mask : path or image
        On the PET's grid; every voxel that is not 0 is lesion. Or a DICOM SEG or RTSTRUCT of the PET's study.
    connectivity, min_volume_ml, mtv_method
        See `quantification.lesions.measure_lesions`.
    assume_suv : bool
        As in `uptake.read`.

    Raises
    ------
    InputError
        Of the kind that fits.

    Examples
    --------
    >>> quantify("pet.nii.gz", "lesion.nii.gz").totals.tlg_g
    """
    volume, labels = _volumes(pet, mask, assume_suv=assume_suv, roi=roi)
    return measure_lesions(
        volume, labels, connectivity=connectivity, min_volume_ml=min_volume_ml, mtv_method=mtv_method
    )


def quantify_to(
    pet: Path,
    mask: Path,
    out: Path,
    *,
    ct: Path | None = None,
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    mtv_method: str = "mask",
    assume_suv: bool = False,
    roi: Sequence[str] | None = None,
    made_by: str | None = None,
    dicom: DicomSettings | None = None,
    gate: bool = True,
) -> tuple[LesionTable, Path]:
    """Measure the mask, write lesions.nii.gz, tables, pictures, report and run.json, and return table and folder.

    The folder is ``out/<case>``. Where the PET came as DICOM, the mask is written as DICOM too; `made_by` names the
    algorithm that made it, and without it the mask is called drawn by hand. `gate` judges the PET and the CT first; the
    lights stand in run.json and the report.
    """
    began = time.perf_counter()
    case = read_with_mask(pet, mask, ct=ct, assume_suv=assume_suv, rois=roi)
    assert case.lesions is not None
    recover(out / case.id)
    require_replaceable(out / case.id)
    table = measure_lesions(
        case.pet, case.lesions, connectivity=connectivity, min_volume_ml=min_volume_ml, mtv_method=mtv_method
    )
    settings = {"connectivity": connectivity, "min_volume_ml": min_volume_ml, "mtv_method": mtv_method}
    timings = {"read and quantify": time.perf_counter() - began}
    report = check(case) if gate else None
    if gate:
        timings["gate"] = time.perf_counter() - began - timings["read and quantify"]
    folder = write_results(
        case,
        case.lesions,
        table,
        out / case.id,
        model=None,
        bundle=None,
        settings=settings,
        request=request_of(case, None, settings, dicom, gate=gate),
        warnings=case.warnings,
        timings_s=timings,
        dicom=dicom,
        maker=maker_of(made_by),
        gate=report,
    )
    return table, folder


def _volumes(pet: Any, mask: Any, *, assume_suv: bool, roi: str | Sequence[str] | None = None) -> tuple[Volume, Volume]:
    if isinstance(mask, str | Path):
        if not isinstance(pet, str | Path):
            raise UsageError("give PET and mask both as files, or both as images.")
        rois = (roi,) if isinstance(roi, str) else roi
        case = read_with_mask(Path(pet), Path(mask), assume_suv=assume_suv, rois=rois)
        assert case.lesions is not None
        return case.pet, case.lesions
    if roi is not None:
        raise UsageError("roi chooses among the regions of a DICOM file; the mask is an image.")
    labels = as_volume(mask, name="the mask")
    if isinstance(pet, Case):
        return pet.pet, labels
    if isinstance(pet, str | Path):
        return read(pet, assume_suv=assume_suv, labels=False).pet, labels
    volume = as_volume(pet, name="the PET")
    if not assume_suv:
        require_suv(volume.array, volume.voxel_volume_ml, name="the PET")
    return volume, labels
