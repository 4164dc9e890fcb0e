"""One pair of masks, files in and a row per label out: what a process of a cohort does, and what it keeps on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uptake import __version__
from uptake.core.errors import UptakeError, UsageError
from uptake.evaluation.empty import DistanceRule, EmptyRule
from uptake.evaluation.labels import GROUPS, Rules, evaluate_volumes, metric_names
from uptake.evaluation.nnunet import label_key
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.io.find import CaseFiles
from uptake.io.image import read_labels
from uptake.io.read import read_case
from uptake.io.write import sha256_of, sha256_of_files, write_json
from uptake.quantification.suv_metrics import peak_kernel
from uptake.quantification.totals import SuvTotals, suv_totals
from uptake.workflows.image_scoring import ImagePair, read_and_score
from uptake.workflows.label_table import Label, LabelTable
from uptake.workflows.mask_grids import grid_text, on_one_grid
from uptake.workflows.pairing import Pair

SUV_QUANTITIES = tuple(SuvTotals.__dataclass_fields__)
SUV_COLUMNS = tuple(f"{side}_{name}" for name in SUV_QUANTITIES for side in ("reference", "prediction"))
"""Columns that a PET adds: of the reference's and of the predicted mask."""


@dataclass(frozen=True)
class EvaluateSettings:
    """What changes the numbers of an evaluation.

    Attributes
    ----------
    empty : {"nan", "one", "zero"}
        Rule for empty references in scores.csv; the report gives the others too.
    empty_distance : {"nan", "inf"}
        Rule for distances where one mask is empty.
    metrics : tuple of str
        Groups or names, see `evaluation.labels`.
    connectivity : int
        Of components and lesions.
    min_iou : float
        Overlap from which a lesion counts as found.
    tolerances_mm : tuple of float
        Of surface Dice, mm.
    resample : bool
        Bring a prediction on another grid to that of the reference (nearest neighbour) instead of refusing it.
    assume_suv : bool
        Take the PET as SUV although its values say otherwise.
    """

    empty: EmptyRule = "nan"
    empty_distance: DistanceRule = "nan"
    metrics: tuple[str, ...] = GROUPS
    connectivity: int = 18
    min_iou: float = 0.1
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)
    resample: bool = False
    assume_suv: bool = False

    def check(self) -> None:
        """Check the settings before any file is read.

        Raises
        ------
        UsageError
            Naming a rule or a score that does not exist.
        """
        known = metric_names(self.rules())
        names = {*known, *(name for group in known.values() for name in group)}
        unknown = [name for name in self.metrics if name not in names]
        if unknown or not self.metrics:
            raise UsageError(
                f"no score is called {', '.join(unknown) or 'nothing'}; groups are {', '.join(known)}, single names "
                f"such as {', '.join(group[0] for group in known.values())}."
            )

    def rules(self) -> Rules:
        """Return the part that the scores themselves follow."""
        return Rules(
            empty=self.empty,
            empty_distance=self.empty_distance,
            connectivity=self.connectivity,
            min_iou=self.min_iou,
            tolerances_mm=self.tolerances_mm,
        )


@dataclass(frozen=True)
class Job:
    """One pair and how to score it; goes to another process.

    Attributes
    ----------
    pair : Pair or ImagePair
    table : LabelTable
    settings : EvaluateSettings
    kept : Path or None
        File in which the rows are kept for the next run; None keeps nothing.
    again : bool
        Score although the file holds the rows of the same request.
    """

    pair: Pair | ImagePair
    table: LabelTable
    settings: EvaluateSettings
    kept: Path | None = None
    again: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one pair.

    Attributes
    ----------
    case : str
    rows : tuple of dict
        A row per label; empty if the case failed.
    notes : tuple of str
        What to know about the numbers: a resampled mask, masks without a common voxel.
    state : str
        "scored", "kept" (an earlier run's rows) or "failed".
    error, message : str
        Kind of error and its text, of a failed case.
    exit_code : int
        That the case alone would have given.
    """

    case: str
    rows: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    state: str = "scored"
    error: str = ""
    message: str = ""
    exit_code: int = 0


def score(job: Job) -> Outcome:
    """Return the outcome of a job; an error becomes an outcome, so that one bad case does not stop the others."""
    try:
        return _score(job)
    except UptakeError as error:
        text = f"{source_of(job.pair.prediction)} against {source_of(job.pair.reference)}: {error}"
        return Outcome(job.pair.case, (), (), "failed", type(error).__name__, text, error.exit_code)
    except Exception as error:
        names = f"{source_of(job.pair.prediction)} against {source_of(job.pair.reference)}"
        text = f"{names}: {type(error).__name__}: {error}"
        return Outcome(job.pair.case, (), (), "failed", type(error).__name__, text, 1)


def score_volumes(
    case: str,
    patient: str,
    prediction: Volume,
    reference: Volume,
    *,
    table: LabelTable,
    settings: EvaluateSettings,
    pet: Volume | None = None,
    fold: str = "",
) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """Return a row per label, and notes, of two label volumes and the PET they lie on.

    Raises
    ------
    GeometryError
        If the grids differ and may not be resampled, or do not meet in space at all. Both grids are in the message.
    InputError
        If a volume holds no labels, or labels that the table does not name.
    """
    prediction, how = on_one_grid(prediction, reference, resample=settings.resample)
    notes = [f"{case}: the prediction was resampled, {how}."] if how else []
    ignored = 0
    if table.ignore is not None:
        counts_for_nothing = reference.array == table.ignore
        ignored = int(np.count_nonzero(counts_for_nothing))
        prediction, reference = (
            volume.with_array(np.where(counts_for_nothing, 0, volume.array)) for volume in (prediction, reference)
        )
    labels = None if table.names is None else dict(table.names)
    found = evaluate_volumes(prediction, reference, labels=labels, metrics=settings.metrics, rules=settings.rules())
    kernel = None if pet is None else peak_kernel(pet.affine)
    if pet is not None:
        require_same_grid(
            reference,
            pet,
            names=("the masks", "the PET"),
            remedy=f"Bring the masks to the PET's grid. Masks: {grid_text(reference)}. PET: {grid_text(pet)}.",
        )
    rows = []
    for scores, label in zip(found, _labels(table), strict=True):
        row: dict[str, Any] = {
            "case": case,
            "patient": patient,
            "label": scores.label,
            "label_number": 1 if label is None else label_key(label),
        }
        row |= {name: value for name, value in scores.row().items() if name != "label"}
        if "tn_voxels" in row:
            row["tn_voxels"] -= ignored
        if pet is not None:
            measured = {
                side: suv_totals(pet, _mask(volume, label), kernel=kernel)
                for side, volume in (("reference", reference), ("prediction", prediction))
            }
            row |= {
                f"{side}_{name}": getattr(measured[side], name)
                for name in SUV_QUANTITIES
                for side in ("reference", "prediction")
            }
        row["fold"], row["resampled"] = fold, how
        rows.append(row)
    if prediction.array.any() and reference.array.any() and not _meet(prediction, reference):
        notes.append(
            f"{case}: prediction and reference have no voxel in common; check that both are of one patient, and that "
            "neither is flipped."
        )
    return tuple(rows), tuple(notes)


def _score(job: Job) -> Outcome:
    pair = job.pair
    request = _request(job) if job.kept is not None else {}
    if job.kept is not None and not job.again:
        kept = _kept_rows(job.kept, request)
        if kept is not None:
            return replace(kept, case=pair.case)
    if isinstance(pair, ImagePair):
        rows, notes = read_and_score(pair, labels=job.table.numbers(), assume_suv=job.settings.assume_suv), ()
    else:
        rows, notes = _score_masks(pair, job.table, job.settings)
    if job.kept is not None:
        job.kept.parent.mkdir(exist_ok=True)  # here, so that a refusal leaves nothing behind
        written = [{name: _stored(value) for name, value in row.items()} for row in rows]
        # JSON sorts the keys; the order of the columns is kept beside them.
        columns = [list(row) for row in rows]
        write_json({"request": request, "rows": written, "columns": columns, "notes": list(notes)}, job.kept)
    return Outcome(pair.case, rows, notes)


def _score_masks(
    pair: Pair, table: LabelTable, settings: EvaluateSettings
) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    prediction, reference = read_labels(pair.prediction)[0], read_labels(pair.reference)[0]
    pet = None
    if pair.pet is not None:
        pet = read_case(pair.pet, assume_suv=settings.assume_suv, labels=False).pet
    return score_volumes(
        pair.case,
        pair.patient,
        prediction,
        reference,
        table=table,
        settings=settings,
        pet=pet,
        fold=pair.fold,
    )


def source_of(file: Path | CaseFiles) -> Path:
    """Return where a mask or a PET comes from: its file, or its DICOM folder."""
    if isinstance(file, Path):
        return file
    return file.pet or file.dicom or Path(file.id)


def _request(job: Job) -> dict[str, Any]:
    """Return what the rows depend on; two jobs with equal requests give equal rows."""
    pair = job.pair
    files = {"prediction": pair.prediction, "reference": pair.reference}
    other = pair.organs if isinstance(pair, ImagePair) else pair.pet
    hashes = {role: _sha256(file) for role, file in {**files, "other": other}.items() if file is not None}
    names = job.table.names
    return {
        "case": pair.case,
        "patient": pair.patient,
        "fold": "" if isinstance(pair, ImagePair) else pair.fold,
        "sha256": hashes,
        "labels": None if names is None else {label_key(label): name for label, name in names.items()},
        "ignore": job.table.ignore,
        "settings": json.loads(json.dumps(asdict(job.settings))),
        "version": __version__,
    }


def _sha256(file: Path | CaseFiles) -> str:
    source = source_of(file)
    return sha256_of_files(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else sha256_of(source)


def _kept_rows(path: Path, request: Mapping[str, Any]) -> Outcome | None:
    """Return the rows that an earlier run kept for the very same request, else None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["request"] != request:
            return None
        rows = tuple(
            {name: _restored(row[name]) for name in columns}
            for row, columns in zip(content["rows"], content["columns"], strict=True)
        )
        return Outcome("", rows, tuple(content["notes"]), "kept")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stored(value: object) -> object:
    """Return a value as JSON keeps it: NaN as null, infinity as a word."""
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def _restored(value: object) -> object:
    return math.nan if value is None else math.inf if value == "inf" else value


def _labels(table: LabelTable) -> list[Label | None]:
    return [None] if table.names is None else list(table.names)


def _mask(volume: Volume, label: Label | None) -> Any:
    if label is None:
        return volume.array != 0
    return np.isin(volume.array, label) if isinstance(label, tuple) else volume.array == label


def _meet(prediction: Volume, reference: Volume) -> bool:
    return bool(((prediction.array != 0) & (reference.array != 0)).any())
