"""A DICOM study -> SUV and HU as NIfTI, and a side-car from which every number can be repeated."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from uptake import RESEARCH_USE_ONLY, __version__
from uptake.core.errors import InputError
from uptake.core.units import AIR_HU
from uptake.geometry.grid import Grid
from uptake.geometry.volume import Volume
from uptake.harmonise.resample import to_grid
from uptake.io.archive import Files
from uptake.io.dicom import DicomStudy, read_dicom
from uptake.io.dicom_choice import Verdict
from uptake.io.dicom_series import UID_TAIL, quiet_headers, values_of
from uptake.io.find import CaseFiles
from uptake.io.identifiers import IDENTIFYING, Identifiers
from uptake.io.read import overlap_warnings
from uptake.io.write import sha256_of, write_json, write_volume
from uptake.physics.plausibility import pet_objection, require_hu
from uptake.physics.suv import SuppliedValues
from uptake.workflows.convert_labels import LABELS, write_labels
from uptake.workflows.outputs import recover, require_replaceable, whole_folder
from uptake.workflows.privacy import named_safely

SCHEMA = "uptake-convert/1"
RECORD = "convert.json"
PET, CT, CT_ON_PET = "pet_suv.nii.gz", "ct.nii.gz", "ct_on_pet.nii.gz"

OWN = (RECORD, PET, CT, CT_ON_PET, LABELS)
"""Files of an earlier result, which may be replaced."""

FORMULA = "SUV = factor * (Rescale Slope * stored + Rescale Intercept), per slice; activity in Bq/mL = SUV / factor"


@dataclass(frozen=True)
class ConvertSettings:
    """What changes the files.

    Attributes
    ----------
    with_ct : bool
        Look for a CT.
    with_labels : bool
        Write the regions of RTSTRUCT and SEG as masks on the PET's grid.
    keep_identifiers : bool
        Write names, numbers, dates, UIDs and paths.
    supplied : SuppliedValues or None
        For a header that lacks them.
    """

    with_ct: bool = True
    with_labels: bool = True
    keep_identifiers: bool = False
    supplied: SuppliedValues | None = None


@dataclass(frozen=True)
class Converted:
    """One study that was converted.

    Attributes
    ----------
    case : str
        Name of its folder.
    folder : Path
    kept : bool
        Whether it was complete from an earlier run.
    record : mapping
        The content of convert.json.
    """

    case: str
    folder: Path
    kept: bool
    record: Mapping[str, Any]


@quiet_headers()
def convert(files: CaseFiles, out: Path, *, settings: ConvertSettings | None = None, again: bool = False) -> Converted:
    """Write ``out/<case>/``: pet_suv.nii.gz, ct.nii.gz, ct_on_pet.nii.gz, labels and convert.json.

    Parameters
    ----------
    files : CaseFiles
        Of a DICOM study, from `io.find.find_cases`.
    out : Path
    settings : ConvertSettings, optional
    again : bool
        Do it anew where the result of the same input, settings and version is complete.

    Raises
    ------
    InputError
        Of the kind that fits, before anything is written.
    OutputError
        If the folder cannot be written, or holds anything but an earlier result.

    Notes
    -----
    The arrays keep the voxel order of the source: columns, rows, slices along the slice normal. The affine says where
    they lie; nothing is flipped, cropped or resampled but the CT in ct_on_pet.nii.gz (linear, -1024 HU outside).
    """
    settings = settings or ConvertSettings()
    files = named_safely(files, keep_identifiers=settings.keep_identifiers)
    folder = out / files.id
    recover(folder)
    require_replaceable(folder, own=_own(folder))
    if files.problem is not None:
        raise InputError(files.problem)
    if files.dicom is None:
        raise InputError(f"{files.pet or files.id}: no DICOM study; convert takes DICOM.")
    study = read_dicom(
        files.dicom,
        with_ct=settings.with_ct,
        supplied=settings.supplied,
        pet_series=files.pet_series,
        ct_series=files.ct_series,
        study_uid=files.study_uid,
        least_slices=1,
    )
    warnings = [*study.warnings, *_checked(study, str(files.dicom))]
    request = _request(study, settings)
    done = None if again else _done(folder, request)
    if done is not None:
        return Converted(files.id, folder, True, done)
    record = _record(files, study, settings, warnings)
    with whole_folder(folder, own=_own(folder)) as place:
        write_volume(study.pet, place / PET)
        if study.ct is not None:
            write_volume(_whole_numbers(study.ct), place / CT)
            write_volume(to_grid(study.ct, Grid.of(study.pet), order=1, fill=AIR_HU), place / CT_ON_PET)
        labels, notes = [], []
        if settings.with_labels:
            labels, notes = write_labels(study, place, keep_identifiers=settings.keep_identifiers)
        outputs = [
            {"name": f.relative_to(place).as_posix(), "sha256": sha256_of(f), "size_bytes": f.stat().st_size}
            for f in sorted(place.rglob("*"))
            if f.is_file()
        ]
        notes = notes if settings.keep_identifiers else [Identifiers.of([study.header]).message(n) for n in notes]
        record |= {"labels": labels, "warnings": [*record["warnings"], *notes], "outputs": outputs, "request": request}
        write_json(record, place / RECORD)
    return Converted(files.id, folder, False, record)


def series_row(verdict: Verdict, *, keep_identifiers: bool = False) -> dict[str, object]:
    """Return what a table says about a series and why it was taken or left; no description unless asked."""
    entry = verdict.series
    header = entry.header
    row: dict[str, object] = {
        "series": entry.uid if keep_identifiers else f"…{entry.uid[-UID_TAIL:]}",
        "modality": entry.modality,
        "images": len(entry.images),
        "files": len(entry.files),
        "role": verdict.role,
        "why": verdict.why,
        "image_type": list(entry.image_type),
        "units": str(header.get("Units", "") or ""),
        "decay_correction": str(header.get("DecayCorrection", "") or ""),
        "corrected_image": [str(word) for word in values_of(header, "CorrectedImage")],
    }
    if keep_identifiers:
        row["description"] = str(header.get("SeriesDescription", "") or "")
        row["number"] = str(header.get("SeriesNumber", "") or "")
    return row


def _checked(study: DicomStudy, name: str) -> list[str]:
    """Refuse a CT that is plainly not HU or lies elsewhere; return warnings.

    A PET whose values look odd is reported and written: here the header, not a guess, says that they are SUV.
    """
    notes: list[str] = []
    objection = pet_objection(study.pet.array, study.pet.voxel_volume_ml)
    if objection is not None:
        notes.append(f"{name}: the SUV looks odd: {objection}. Check dose, weight and times in the header.")
    if study.ct is not None:
        notes += require_hu(study.ct.array, study.ct.voxel_volume_ml, name=name)
        notes += overlap_warnings(study.pet, study.ct, pet_name=f"{name} (PET)", ct_name=f"{name} (CT)")
    return notes


def _record(files: CaseFiles, study: DicomStudy, settings: ConvertSettings, warnings: list[str]) -> dict[str, Any]:
    """Return the content of convert.json but for its outputs."""
    conversion = study.conversion
    counts = {"pet": len(study.pet_files), "ct": len(study.ct_files)}
    inputs = [{"role": s.role, "files": counts[s.role], "sha256": s.sha256} for s in study.sources]
    suv = {
        **study.acquisition,
        "factor": conversion.factor,
        "slice_factors": None if conversion.slice_factors is None else list(conversion.slice_factors),
        "rule": conversion.rule,
        "uptake_time_s": conversion.uptake_time_s,
        "injected_dose_bq": conversion.injected_dose_bq,
        "dose_at_reference_bq": conversion.dose_at_reference_bq,
        "formula": FORMULA,
        "warnings": list(conversion.warnings),
        "supplied": {k: v for k, v in asdict(settings.supplied).items() if v} if settings.supplied else {},
    }
    geometry = {"pet": _place(study.pet)} | ({"ct": _place(study.ct)} if study.ct is not None else {})
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "notice": RESEARCH_USE_ONLY,
        "case": files.id,
        "inputs": inputs,
        "series": [series_row(v, keep_identifiers=settings.keep_identifiers) for v in study.choice.verdicts],
        "geometry": geometry,
        "versions": versions(),
    }
    if settings.keep_identifiers:
        patient = {keyword: str(study.header.get(keyword, "") or "") for keyword in (*IDENTIFYING, "StudyDate")}
        return {
            **record,
            "identifiers": "kept",
            "path": str(files.dicom),
            "patient": {keyword: value for keyword, value in patient.items() if value},
            "suv": _plain(suv),
            "warnings": warnings,
        }
    identifiers = Identifiers.of([study.header])
    return {
        **record,
        "identifiers": "removed",
        "suv": {**identifiers.scrubbed(_plain(suv)), "formula": FORMULA},
        "warnings": [identifiers.message(text.replace(str(files.dicom), files.id)) for text in warnings],
    }


def versions() -> dict[str, str]:
    """Return the versions that can change a number."""
    import nibabel
    import pydicom

    return {
        "uptake": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "nibabel": nibabel.__version__,
        "pydicom": pydicom.__version__,
    }


def _place(volume: Volume) -> dict[str, object]:
    return {
        "shape": list(volume.shape),
        "spacing_mm": [float(mm) for mm in volume.spacing_mm],
        "orientation": volume.orientation,
        "affine": volume.affine.tolist(),
    }


def _whole_numbers(volume: Volume) -> Volume:
    """Return HU as int16 where that loses nothing: half the size, and half the time."""
    rounded = volume.array.astype(np.int16)
    return volume.with_array(rounded) if np.array_equal(rounded, volume.array) else volume


def _request(study: DicomStudy, settings: ConvertSettings) -> dict[str, Any]:
    """Return what the files depend on; the content of a plain JSON."""
    wanted = {
        "inputs": sorted([source.role, source.sha256] for source in study.sources),
        "labels": _labels_of(study) if settings.with_labels else [],
        "settings": asdict(settings),
        "version": __version__,
    }
    return dict(_plain(wanted))


def _labels_of(study: DicomStudy) -> list[str]:
    """Return the hashes of the RTSTRUCT and SEG files."""
    with Files() as files:
        paths = [path for series in study.choice.labels for path in series.files]
        return sorted(hashlib.sha256(files.content(path)).hexdigest() for path in paths)


def _plain(value: Any) -> Any:
    """Return plain JSON values; moments as ISO 8601."""
    return json.loads(json.dumps(value, default=lambda one: one.isoformat() if isinstance(one, datetime) else str(one)))


def _done(folder: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the record of a folder that holds the complete, unchanged result of this request, else None."""
    record = _earlier(folder)
    try:
        same = record["request"] == request and all(
            sha256_of(folder / output["name"]) == output["sha256"] for output in record["outputs"]
        )
    except (OSError, KeyError, TypeError):
        return None
    return record if same else None


def _earlier(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _own(folder: Path) -> tuple[str, ...]:
    """Return the names of an earlier result in a folder, which may be replaced."""
    outputs = _earlier(folder).get("outputs", ())
    return (*OWN, *(str(o["name"]).split("/")[0] for o in outputs if isinstance(o, dict) and "name" in o))
