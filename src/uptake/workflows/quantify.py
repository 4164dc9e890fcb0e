"""A PET and a mask in, the same table, pictures and report out: for masks from anywhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from uptake.cases import Case
from uptake.core.errors import UsageError
from uptake.gate import check
from uptake.gate import organs as gate_organs
from uptake.geometry.volume import Volume
from uptake.io.foreign import as_volume
from uptake.io.read import read
from uptake.physics.plausibility import require_suv
from uptake.quantification.lesions import LesionTable, measure_lesions
from uptake.quantification.organs import measure_organs
from uptake.workflows.dicom_results import DicomSettings, maker_of
from uptake.workflows.findings import Organs
from uptake.workflows.organ_map import read_organ_map
from uptake.workflows.outputs import recover, request_of, require_replaceable, write_results
from uptake.workflows.patient import PatientFacts, patient_of
from uptake.workflows.regions import read_with_mask
from uptake.workflows.tracers import with_tracer


def quantify(
    pet: Any,
    mask: Any,
    *,
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    mtv_method: str = "mask",
    assume_suv: bool = False,
    roi: str | Sequence[str] | None = None,
    pet_series: str | None = None,
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
    pet_series : str, optional
        As in `uptake.read`.
    roi : str or sequence of str, optional
        Which regions of a DICOM SEG or RTSTRUCT are lesions.

    Raises
    ------
    InputError
        Of the kind that fits.

    Notes
    -----
    `uptake.quantification.assessment.assess` holds the table against an organ map.

    Examples
    --------
    >>> quantify("pet.nii.gz", "lesion.nii.gz").totals.tlg_g
    """
    volume, labels = _volumes(pet, mask, assume_suv=assume_suv, roi=roi, pet_series=pet_series)
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
    organs: Path | None = None,
    organ_labels: str | None = None,
    resample_organs: bool = False,
    facts: PatientFacts | None = None,
    pet_series: str | None = None,
    ct_series: str | None = None,
) -> tuple[LesionTable, Path]:
    """Measure the mask, write lesions.nii.gz, tables, pictures, report and run.json, and return table and folder.

    The folder is ``out/<case>``. Where the PET came as DICOM, the mask is written as DICOM too; `made_by` names the
    algorithm that made it, and without it the mask is called drawn by hand. `gate` judges the PET and the CT first; the
    lights stand in run.json and the report.

    With an organ map (`organs`, `organ_labels`, `resample_organs`: see `organ_map.read_organ_map`) organs are measured
    and written too, and lesions held against them. `facts` completes what the header says of tracer and body.
    """
    began = time.perf_counter()
    facts = facts or PatientFacts()
    if organs is None and (organ_labels is not None or resample_organs):
        raise UsageError("--organ-labels and --resample-organs are about an organ map; give one with --organs FILE.")
    case = read_with_mask(
        pet, mask, ct=ct, assume_suv=assume_suv, rois=roi, pet_series=pet_series, ct_series=ct_series,
        supplied=facts.supplied(),
    )  # fmt: skip
    assert case.lesions is not None
    case = with_tracer(case, facts.tracer)
    found_map = None
    if organs is not None:
        found_map = read_organ_map(
            organs, case.pet, labels=organ_labels, pet_files=case.pet_files, resample=resample_organs
        )
        case = replace(
            case,
            organs=found_map.labels,
            sources=(*case.sources, found_map.source),
            warnings=(*case.warnings, *found_map.warnings),
        )
    recover(out / case.id)
    require_replaceable(out / case.id)
    table = measure_lesions(
        case.pet, case.lesions, connectivity=connectivity, min_volume_ml=min_volume_ml, mtv_method=mtv_method
    )
    settings: dict[str, object] = {
        "connectivity": connectivity,
        "min_volume_ml": min_volume_ml,
        "mtv_method": mtv_method,
        **facts.as_json(),
    }
    measured = None
    if found_map is not None:
        settings["organ_labels"] = organ_labels or "beside the map"
        organ_table = measure_organs(case.pet, found_map.labels, found_map.names, lesions=table.numbered)
        measured = Organs(found_map.labels, found_map.names, organ_table)
    timings = {"read and quantify": time.perf_counter() - began}
    named = None if found_map is None else gate_organs.Organs(found_map.labels, found_map.names)
    report = check(case, organs=named) if gate else None
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
        organs=measured,
        patient=patient_of(case, facts),
    )
    return table, folder


def _volumes(
    pet: Any,
    mask: Any,
    *,
    assume_suv: bool,
    roi: str | Sequence[str] | None = None,
    pet_series: str | None = None,
) -> tuple[Volume, Volume]:
    if isinstance(mask, str | Path):
        if not isinstance(pet, str | Path):
            raise UsageError("give PET and mask both as files, or both as images.")
        rois = (roi,) if isinstance(roi, str) else roi
        case = read_with_mask(Path(pet), Path(mask), assume_suv=assume_suv, rois=rois, pet_series=pet_series)
        assert case.lesions is not None
        return case.pet, case.lesions
    if roi is not None:
        raise UsageError("roi chooses among the regions of a DICOM file; the mask is an image.")
    labels = as_volume(mask, name="the mask")
    if isinstance(pet, Case) and pet_series is None:
        return pet.pet, labels
    if isinstance(pet, str | Path):
        return read(pet, assume_suv=assume_suv, labels=False, pet_series=pet_series).pet, labels
    if pet_series is not None:
        raise UsageError("pet_series chooses among the PETs of a DICOM study; the PET is an image.")
    volume = as_volume(pet, name="the PET")
    if not assume_suv:
        require_suv(volume.array, volume.voxel_volume_ml, name="the PET")
    return volume, labels
