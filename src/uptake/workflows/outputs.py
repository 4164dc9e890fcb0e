"""A case's folder of results: complete or not there at all."""

from __future__ import annotations

import glob
import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uptake import __version__
from uptake.cases import Case
from uptake.core.errors import OutputError
from uptake.core.pages import Picture
from uptake.gate import GateReport
from uptake.geometry.volume import Volume
from uptake.io.dicom_result import Maker
from uptake.io.write import (
    atomic_path,
    require_writable,
    sha256_of,
    write_csv,
    write_json,
    write_text,
    write_volume,
)
from uptake.quantification.assessment import assess
from uptake.quantification.assessment_tables import (
    MEASUREMENT_COLUMNS,
    assessment_as_json,
    lesion_context,
    measurement_rows,
)
from uptake.quantification.lesions import LesionTable
from uptake.quantification.manifest import BundleRecord, OutputFile, run_manifest
from uptake.quantification.organ_picture import organ_picture
from uptake.quantification.organ_tables import ORGAN_COLUMNS, organ_rows, organs_as_json
from uptake.quantification.pictures import mip_picture
from uptake.quantification.report import ModelFacts, ReportContent, report_html
from uptake.quantification.response import Patient
from uptake.quantification.tables import LESION_COLUMNS, lesion_rows, table_as_json
from uptake.workflows.cuts import lesion_cuts, reference_cuts
from uptake.workflows.dicom_results import DicomSettings, reference_of, write_lesion_objects, write_organ_objects
from uptake.workflows.findings import Organs
from uptake.workflows.patient import patient_of
from uptake.workflows.privacy import anonymous
from uptake.zoo.cards import Card

if TYPE_CHECKING:
    from uptake.workflows.segment import Segmentation  # it loads torch, which measuring a mask does not need

RUN = "run.json"
ORGAN_LABELS = "organ_labels.json"
LESION_LABELS = "lesion_labels.json"
"""Beside an organ map, and beside lesions of several kinds: {number: name}."""


ORGANS_SEEN = "Organs over the projections, from the front and from the left; of several in line the nearest shows."


def write_segmentation(found: Segmentation, folder: Path, *, dicom: DicomSettings | None = None) -> Path:
    """Write lesions.nii.gz, lesions.csv, lesions.json, mip.png, report.html and run.json, and return the folder.

    Where the model knows organs, organs.nii.gz, organ_labels.json, organs.csv, organs.json and organs.png are written
    too, or instead of the lesions' files. Where the PET came as DICOM, lesions.seg.dcm, lesions.rtstruct.dcm and
    measurements.sr.dcm, and organs.seg.dcm and organs.rtstruct.dcm, as `dicom` says. Everything is written beside the
    final place and appears there in one rename; an older result is replaced whole.
    """
    dicom = dicom or DicomSettings()
    model = model_facts(found.card, found.checksum)
    settings = {
        **asdict(found.settings),
        "device": found.device,
        "precision": found.precision,
        "engine": found.engine,
        "windows_computed": found.windows[0],
        "windows_skipped_as_air": found.windows[1],
        "ensemble": None if found.ensemble is None else found.ensemble.as_json(),
    }
    bundle = BundleRecord(found.card.name, found.card.version, found.card.checksums())
    return write_results(
        found.case,
        found.lesions,
        found.table,
        folder,
        model=model,
        bundle=bundle,
        settings=settings,
        request=request_of(found.case, bundle, asdict(found.settings), dicom, gate=found.gate is not None),
        warnings=found.warnings,
        timings_s=found.timings_s,
        dicom=dicom,
        maker=Maker("AUTOMATIC", found.card.name, found.card.version, found.checksum),
        gate=found.gate,
        organs=found.organs_to_write(),
        lesion_names=found.lesion_names,
    )


def write_results(
    case: Case,
    lesions: Volume | None,
    table: LesionTable | None,
    folder: Path,
    *,
    model: ModelFacts | None,
    bundle: BundleRecord | None,
    settings: Mapping[str, object],
    request: Mapping[str, object],
    warnings: tuple[str, ...],
    timings_s: Mapping[str, float],
    suv_window: tuple[float, float] = (0.0, 7.0),
    dicom: DicomSettings | None = None,
    maker: Maker | None = None,
    gate: GateReport | None = None,
    organs: Organs | None = None,
    lesion_names: Mapping[int, str] | None = None,
    patient: Patient | None = None,
) -> Path:
    """Write the files of one case; see `write_segmentation`. `maker` is who made the masks; nobody known by default.
    `patient` is what is known of tracer and body, by default what the case's header says.
    `gate` is what was said about the input; None where it was not asked. Without lesions, their files are left out;
    where they are of several kinds, lesion_labels.json names the values of lesions.nii.gz.

    All but run.json are the same bytes for the same input: dates and times stand there alone.
    """
    began = datetime.now(UTC).astimezone() - timedelta(seconds=sum(timings_s.values()))
    started = began.isoformat(timespec="seconds")
    versions = package_versions()
    dicom = dicom or DicomSettings()
    reference, notes = reference_of(case, dicom)
    warnings = (*warnings, *notes)
    assessment = None
    if table is not None:
        assessment = assess(
            case.pet,
            table,
            patient=patient or patient_of(case),
            organs=None if organs is None else organs.labels,
            names=None if organs is None else organs.names,
            measured=None if organs is None else organs.table,
        )
    if not dicom.keep_identifiers:
        case, warnings = anonymous(case, warnings)
    mip = mip_picture(case.pet, None if table is None else table.numbered, suv_window=suv_window)
    drawn = None if organs is None else organ_picture(case.pet, organs.labels, organs.names, suv_window=suv_window)
    outlined = ("; lesions outlined", " with lesion outlines") if table is not None else ("", "")
    content = ReportContent(
        case_id=case.id,
        table=table,
        mip=Picture(
            mip,
            f"Maximum-intensity projections, SUV {suv_window[0]:g} to {suv_window[1]:g}{outlined[0]}.",
            f"Coronal and sagittal projection of the PET{outlined[1]}",
        ),
        cuts=() if lesions is None or table is None else lesion_cuts(case, lesions, table, suv_window),
        warnings=warnings,
        model=model,
        sources=case.sources,
        image={
            "voxels": " × ".join(str(n) for n in case.pet.shape),
            "voxel size": " × ".join(f"{mm:.2f}" for mm in case.pet.spacing_mm) + " mm",
            "orientation": case.pet.orientation,
            "CT": "none" if case.ct is None else " × ".join(str(n) for n in case.ct.shape) + " voxels",
        },
        suv=_provenance(case.acquisition),
        settings=settings,
        versions=versions,
        gate=None if gate is None else gate.as_json(),
        organs=None if organs is None else organs.table,
        organ_map=None
        if drawn is None
        else Picture(drawn, ORGANS_SEEN, "Organs in colours over projections of the PET"),
        assessment=assessment,
        reference_cuts=() if assessment is None else reference_cuts(case, assessment, suv_window),
    )
    maker = maker or Maker()
    with whole_folder(folder) as place:
        if lesions is not None and table is not None and assessment is not None:
            context = lesion_context(assessment)
            write_volume(lesions, place / "lesions.nii.gz")
            write_csv(lesion_rows(table, context), place / "lesions.csv", columns=LESION_COLUMNS)
            assessed = {"assessment": assessment_as_json(table, assessment)}
            write_json({**table_as_json(table, context), **assessed}, place / "lesions.json")
            if organs is not None:
                rows = measurement_rows(table, assessment)
                write_csv(rows, place / "measurements.csv", columns=MEASUREMENT_COLUMNS)
            if lesion_names is not None and len(lesion_names) > 1:
                write_json({str(number): name for number, name in lesion_names.items()}, place / LESION_LABELS)
        if organs is not None:
            write_volume(organs.labels, place / "organs.nii.gz")
            write_json({str(number): name for number, name in organs.names.items()}, place / ORGAN_LABELS)
            write_csv(organ_rows(organs.table), place / "organs.csv", columns=ORGAN_COLUMNS)
            write_json(organs_as_json(organs.table), place / "organs.json")
        for name, picture in (("mip.png", mip), ("organs.png", drawn)):
            if picture is not None:
                with atomic_path(place / name) as temporary:
                    temporary.write_bytes(picture)
        write_text(report_html(content), place / "report.html")
        if reference is not None and lesions is not None and table is not None:
            places = () if assessment is None else assessment.places
            write_lesion_objects(
                table, lesions, reference, place, case_id=case.id, maker=maker, settings=dicom, places=places
            )
        if reference is not None and organs is not None:
            write_organ_objects(
                organs.labels, organs.names, reference, place, case_id=case.id, maker=maker, settings=dicom
            )
        outputs = [OutputFile(f.name, sha256_of(f), f.stat().st_size) for f in sorted(place.iterdir())]
        manifest = run_manifest(
            case.id,
            inputs=case.sources,
            outputs=outputs,
            bundle=bundle,
            settings=settings,
            versions=versions,
            timings_s=timings_s,
            warnings=warnings,
            acquisition=case.acquisition,
            gate=content.gate,
            started=started,
        )
        write_json({**manifest, "request": request}, place / RUN)
    return folder


def request_of(
    case: Case,
    bundle: BundleRecord | None,
    settings: Mapping[str, object],
    dicom: DicomSettings | None = None,
    *,
    gate: bool = True,
) -> dict[str, object]:
    """Return what a result depends on; two runs with equal requests give equal files."""
    return {
        "inputs": sorted([source.role, source.sha256] for source in case.sources),
        "bundle": None if bundle is None else dict(sorted(bundle.checksums.items())),
        "settings": dict(settings),
        "gate": gate,
        "version": __version__,
        **(dicom or DicomSettings()).request(case),
    }


def is_done(folder: Path, request: Mapping[str, object]) -> bool:
    """Return whether `folder` holds the complete result of this very request, files unchanged."""
    try:
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if run["request"] != json.loads(json.dumps(request)):
            return False
        return all(sha256_of(folder / output["name"]) == output["sha256"] for output in run["outputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def recover(folder: Path) -> None:
    """Put back what a run killed between the two renames of `whole_folder` left as ``.NAME.old``."""
    old = _old(folder)
    if old.exists() and not folder.exists():
        old.replace(folder)


def require_replaceable(folder: Path, *, own: Collection[str] = ()) -> None:
    """Check that a result may take the place of `folder`: it is absent, empty, or an earlier result and nothing else.

    Without this, an output folder that is the folder of the studies would put results in the place of a study.

    Parameters
    ----------
    folder : Path
    own : collection of str
        File names of an earlier result; by default those that its run.json lists.

    Raises
    ------
    OutputError
        Naming what is in the way.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder}: a file is in the way of the results; move it, or choose another output folder.")
    ours = {RUN, *_recorded_outputs(folder), *own}
    foreign = sorted(e.name for e in folder.iterdir() if e.name not in ours and not e.name.startswith("."))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise OutputError(
            f"{folder}: the results would replace this folder, and it holds files that are none: "
            f"{', '.join(foreign[:3])}{more}. Choose another output folder, or move them."
        )


@contextmanager
def whole_folder(folder: Path, *, own: Collection[str] = ()) -> Iterator[Path]:
    """Give a temporary folder beside `folder` that takes its place in one rename when the block succeeds.

    A run stopped inside the block leaves the old folder. A run killed between the two renames that replace an old
    folder leaves it as ``.NAME.old``; the next run puts it back. See `require_replaceable` for `own`.

    Raises
    ------
    OutputError
        If the system refuses, or `folder` holds anything but an earlier result.
    """
    require_writable(folder.parent)
    old = _old(folder)
    partial = None
    try:
        recover(folder)
        require_replaceable(folder, own=own)
        for stale in folder.parent.glob(f".{glob.escape(folder.name)}.part-*"):
            shutil.rmtree(stale, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=folder.parent))
        partial.chmod(0o755)
        yield partial
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.replace(old)
        partial.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        recover(folder)
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OutputError) and partial is not None:
            raise OutputError(str(error).replace(str(partial), str(folder))) from error
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise OutputError(
                f"{folder}: cannot be written: {reason}. Free space, or choose another folder."
            ) from error
        raise


def model_facts(card: Card, checksum: str) -> ModelFacts:
    """Return what the report says about a model."""
    training = ", ".join(f"{key}: {value}" for key, value in card.training.items())
    scores = []
    for score in card.scores:
        values = score.get("metrics", {}).get("dice")
        if values:
            scores.append(
                f"mean Dice {values['mean']:.2f} (95 % interval {values['low']:.2f} to {values['high']:.2f}), "
                f"{score.get('cases')} cases, {score.get('protocol')}"
            )
    return ModelFacts(
        name=card.name,
        version=card.version,
        checksum=checksum,
        method=f"{card.method}, preset {card.config.get('preset', '–')}",
        trained_on=training,
        limits=tuple(card.limits),
        scores="; ".join(scores),
    )


def package_versions() -> dict[str, str]:
    """Return the versions that can change a number; torch and openvino only where they are loaded."""
    versions = {"uptake": __version__, "python": platform.python_version(), "numpy": np.__version__}
    for name in ("torch", "openvino"):
        if name in sys.modules:
            versions[name] = str(sys.modules[name].__version__)
    return versions


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _recorded_outputs(folder: Path) -> set[str]:
    """Return the file names that the run.json of a folder lists; none where there is no readable one."""
    try:
        return {output["name"] for output in json.loads((folder / RUN).read_text(encoding="utf-8"))["outputs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _provenance(acquisition: Mapping[str, Any]) -> dict[str, object]:
    """Return the part of the acquisition record that fits a report: no nested tag lists."""
    if not set(acquisition) - {"tracer"}:
        return {"source": "SUV as given in the file", **acquisition}
    return {key: value for key, value in acquisition.items() if not isinstance(value, list | dict)}
