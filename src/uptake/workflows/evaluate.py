"""Masks against references: two files, two images, or two folders of equally named files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.overlap import EmptyRule, evaluate_pair
from uptake.evaluation.statistics import Summary, summarise
from uptake.io.find import case_name, find_cases
from uptake.io.foreign import as_volume
from uptake.io.image import image_stem, image_suffix, read_labels
from uptake.io.write import require_writable, write_csv, write_json
from uptake.sampling.splits import subject_of

METRICS = (
    "dice",
    "iou",
    "sensitivity",
    "precision",
    "reference_ml",
    "prediction_ml",
    "volume_error_ml",
    "fp_volume_ml",
    "fn_volume_ml",
)


def evaluate(
    prediction: Any,
    reference: Any,
    *,
    labels: Mapping[int, str] | None = None,
    empty: EmptyRule = "nan",
) -> list[dict[str, object]]:
    """Return one row of scores per case and label: Dice, IoU, sensitivity, precision, volumes, FP and FN volume.

    Parameters
    ----------
    prediction, reference : path or image
        Two files, two images (`Volume`, nibabel, SimpleITK), or two folders. In folders, files are matched by name,
        or by folder name where each case has its own (``<case>/lesions.nii.gz`` against ``<case>/lesion.nii.gz``).
    labels : mapping, optional
        Label number -> name; by default everything that is not 0 is "lesion".
    empty : {"nan", "one"}
        How Dice of a lesion-free reference counts; see `evaluation.overlap`.

    Raises
    ------
    GeometryError
        If a mask is on another grid than its reference, saying how far apart they lie.
    InputError
        If a reference has no prediction: a missing case is never skipped.

    Examples
    --------
    >>> evaluate("results/", "references/")[0]["dice"]
    """
    if isinstance(prediction, str | Path) != isinstance(reference, str | Path):
        raise UsageError("give prediction and reference both as paths, or both as images.")
    if not isinstance(prediction, str | Path):
        pairs = [("case", as_volume(prediction, name="the prediction"), as_volume(reference, name="the reference"))]
        return [row for case, a, b in pairs for row in _rows(case, a, b, labels, empty)]
    rows: list[dict[str, object]] = []
    for case, predicted, referred in _pairs(Path(prediction), Path(reference)):
        try:
            found = _rows(case, read_labels(predicted)[0], read_labels(referred)[0], labels, empty)
        except InputError as error:
            raise type(error)(f"{predicted} against {referred}: {error}") from error
        rows += found
    return rows


def summary_of(rows: list[dict[str, object]]) -> dict[str, dict[str, Summary]]:
    """Return label -> metric -> mean, median, interval."""
    names = list(dict.fromkeys(str(row["label"]) for row in rows))
    return {
        name: summarise([row for row in rows if row["label"] == name], metrics=METRICS, patient="patient")
        for name in names
    }


def write_evaluation(rows: list[dict[str, object]], out: Path) -> None:
    """Write scores.csv (a row per case and label) and summary.json."""
    require_writable(out)
    write_csv(rows, out / "scores.csv", columns=list(rows[0]))
    write_json(
        {label: {name: vars(one) for name, one in found.items()} for label, found in summary_of(rows).items()},
        out / "summary.json",
    )


def _rows(
    case: str, prediction: Any, reference: Any, labels: Mapping[int, str] | None, empty: EmptyRule
) -> list[dict[str, object]]:
    scores = evaluate_pair(prediction, reference, labels=labels, empty=empty)
    return [{"case": case, "patient": subject_of(case), **score.row()} for score in scores]


def _pairs(prediction: Path, reference: Path) -> list[tuple[str, Path, Path]]:
    for path in (prediction, reference):
        if not path.exists():
            raise InputError(f"{path}: does not exist.")
    if prediction.is_file() != reference.is_file():
        raise UsageError(f"{prediction} and {reference}: give two files or two folders.")
    if prediction.is_file():
        return [(case_name(reference), prediction, reference)]
    predicted, referred = _masks(prediction), _references(reference)
    if not referred:
        raise InputError(f"{reference}: holds no mask (NAME.nii.gz, or NAME/lesion.nii.gz).")
    missing = sorted(referred.keys() - predicted.keys())
    if missing:
        raise InputError(
            f"{prediction}: {len(missing)} of {len(referred)} references have no prediction, first {missing[0]!r}. "
            "Every case counts; segment them, or take them out of the reference folder."
        )
    return [(case, predicted[case], referred[case]) for case in sorted(referred)]


def _references(folder: Path) -> dict[str, Path]:
    """Return case id -> lesion mask: plain files, or study folders of any nesting, named as `segment` names them."""
    if not any(path.is_file() and image_suffix(path) for path in folder.iterdir()):
        try:
            found = {files.id: files.lesions for files in find_cases(folder) if files.lesions is not None}
        except InputError:
            found = {}  # folders of masks alone, without a PET
        if found:
            return found
    return _masks(folder)


def _masks(folder: Path) -> dict[str, Path]:
    """Return case name -> mask file of a folder."""
    direct = {image_stem(path): path for path in sorted(folder.iterdir()) if path.is_file() and image_suffix(path)}
    if direct:
        return direct
    found = {}
    for case in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for name in ("lesions", "lesion", "SEG"):
            files = [
                path for path in case.iterdir() if path.is_file() and image_stem(path) == name and image_suffix(path)
            ]
            if files:
                found[case.name] = files[0]
                break
    return found
