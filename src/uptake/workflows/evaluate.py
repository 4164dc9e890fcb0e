"""Masks against references: two files, two images, or two folders; one process or many, resumable."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake.core import errors
from uptake.core.errors import InputError, OutputError, UptakeError, UsageError
from uptake.evaluation.empty import EmptyRule
from uptake.evaluation.labels import GROUPS
from uptake.io.foreign import as_volume
from uptake.io.write import require_writable
from uptake.workflows.label_table import Label, LabelTable, find_labels
from uptake.workflows.pairing import Pairing, find_pairs, pair_images
from uptake.workflows.processes import require_jobs, run_in_processes
from uptake.workflows.scoring import EvaluateSettings, Job, Outcome, score, score_volumes

log = logging.getLogger(__name__)

KEPT = "cases"
"""Folder of an evaluation with the rows of each case, which a later run goes on from."""

NAMED = 10
"""Cases that a message lists by name."""


@dataclass(frozen=True)
class Evaluation:
    """All scores of a cohort and what became of every case.

    Attributes
    ----------
    rows : tuple of dict
        A row per case and label, sorted by case.
    pairing : Pairing
    table : LabelTable
    settings : EvaluateSettings
    failures : tuple of dict
        `case`, `error`, `message`, `exit_code` of every case that could not be scored or had no partner.
    notes : tuple of str
        What to know about the numbers.
    kept : int
        Cases whose rows an earlier run had kept.
    """

    rows: tuple[dict[str, Any], ...]
    pairing: Pairing
    table: LabelTable
    settings: EvaluateSettings
    failures: tuple[dict[str, object], ...] = ()
    notes: tuple[str, ...] = ()
    kept: int = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels in the order of the table."""
        return tuple(dict.fromkeys(str(row["label"]) for row in self.rows))


def evaluate(
    prediction: Any,
    reference: Any,
    *,
    pet: Any = None,
    labels: Mapping[Label, str] | str | Path | None = None,
    empty: EmptyRule = "nan",
    metrics: Iterable[str] = GROUPS,
    resample: bool = False,
    assume_suv: bool = False,
    jobs: int = 1,
) -> list[dict[str, Any]]:
    """Return one row of scores per case and label: overlap, surface distances in mm, false volumes, lesions, SUV.

    Parameters
    ----------
    prediction, reference : path or image
        Two files, two images (`Volume`, nibabel, SimpleITK), or two folders, see `pairing.find_pairs`. In folders,
        files are matched by name, or by folder name where each case has its own.
    pet : path or image, optional
        Adds MTV, TLG, SUVmax, SUVmean and SUVpeak of both masks.
    labels : mapping, str or path, optional
        Label number (or tuple of numbers) -> name; or as `pairing.find_labels` takes it. By default the names of the
        `dataset.json` beside the masks, else everything that is not 0 is "lesion".
    empty : {"nan", "one", "zero"}
        How scores of a lesion-free reference count; see `evaluation.empty`.
    metrics : iterable of str
        Groups or names of scores; see `evaluation.labels`.
    resample : bool
        Bring predictions on another grid to the reference's (nearest neighbour); the row says so.
    assume_suv : bool
        As in `uptake.read`.
    jobs : int
        Processes for folders.

    Raises
    ------
    GeometryError
        If a mask is on another grid than its reference, with both grids.
    InputError
        If a reference has no prediction: a missing case is never skipped.

    Examples
    --------
    >>> evaluate("results/", "references/")[0]["dice"]
    """
    settings = EvaluateSettings(empty=empty, metrics=tuple(metrics), resample=resample, assume_suv=assume_suv)
    settings.check()
    if isinstance(prediction, str | Path) != isinstance(reference, str | Path):
        raise UsageError("give prediction and reference both as paths, or both as images.")
    if not isinstance(prediction, str | Path):
        if isinstance(pet, str | Path):
            raise UsageError("give masks and PET all as paths, or all as images.")
        table = _table(labels, None)
        volumes = as_volume(prediction, name="the prediction"), as_volume(reference, name="the reference")
        image = None if pet is None else as_volume(pet, name="the PET")
        return list(score_volumes("case", "case", *volumes, table=table, settings=settings, pet=image)[0])
    if pet is not None and not isinstance(pet, str | Path):
        raise UsageError("give masks and PET all as paths, or all as images.")
    places = Path(prediction), Path(reference)
    found = evaluate_cohort(
        *places, pet=None if pet is None else Path(pet), table=_table(labels, places), settings=settings, jobs=jobs,
        complete=True,
    )  # fmt: skip
    for failure in found.failures:
        log.warning("%s", failure["message"])
    for note in found.notes:
        log.warning("%s", note)
    return list(found.rows)


def evaluate_cohort(
    prediction: Path,
    reference: Path,
    *,
    pet: Path | None = None,
    images: bool = False,
    organs: Path | None = None,
    table: LabelTable | None = None,
    settings: EvaluateSettings | None = None,
    out: Path | None = None,
    jobs: int | None = 1,
    again: bool = False,
    strict: bool = False,
    complete: bool = False,
    on_case: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score every pair of masks of two files or two folders.

    Parameters
    ----------
    prediction, reference, pet : Path
        See `pairing.find_pairs`.
    images : bool
        The two are PETs, not masks: see `image_scoring`.
    organs : Path or None
        With `images`: organ map, or folder of organ maps.
    table : LabelTable or None
        None: found beside the masks.
    settings : EvaluateSettings or None
    out : Path or None
        Folder in which the rows of each case are kept as they come; the same call goes on from there.
    jobs : int or None
        Processes; None: see `processes.run_in_processes`.
    again : bool
        Score cases anew whose rows were kept.
    strict : bool
        Refuse missing, extra and failing cases instead of listing them.
    complete : bool
        Refuse references without prediction, and raise the first case's error.
    on_case : callable, optional
        Told (cases done, all).

    Raises
    ------
    InputError
        If nothing can be compared, the only case fails, or with `strict` or `complete` anything is amiss.
    """
    settings = settings or EvaluateSettings()
    settings.check()
    require_jobs(jobs)
    if images and pet is not None:
        raise UsageError("images are PETs already; a PET (--pet) goes with masks only.")
    if organs is not None and not images:
        raise UsageError("an organ map (--organs) goes with images only; masks name their labels with --labels.")
    if images:
        pairing = pair_images(prediction, reference, organs=organs)
        table = table or LabelTable(source="organs by number")
    else:
        pairing = find_pairs(prediction, reference, pet=pet)
        table = table or find_labels(None, prediction, reference)
    _require_partners(pairing, prediction, reference, strict=strict, complete=complete)
    kept = None
    if out is not None:
        require_writable(out)
        kept = out / KEPT
        if kept.exists() and not kept.is_dir():
            raise OutputError(f"{kept}: a file is in the way of a folder; choose another output folder.")
    work = [
        Job(pair, table, settings, None if kept is None else kept / f"{pair.case}.json", again)
        for pair in pairing.pairs
    ]
    raising = strict or complete or (len(work) == 1 and not pairing.missing and not pairing.extra)
    outcomes = _run(work, jobs, on_case or (lambda done, total: None), raising=raising)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed and len(failed) == len(outcomes):
        # Nothing was scored: a list of failures would be all there is.
        raise _error_of(failed[0], more=len(failed) - 1)
    return Evaluation(
        rows=tuple(row for outcome in outcomes for row in outcome.rows),
        pairing=pairing,
        table=table,
        settings=settings,
        failures=(*_partnerless(pairing, prediction, reference, pet), *map(_failure, failed)),
        notes=(*pairing.notes, *(note for outcome in outcomes for note in outcome.notes)),
        kept=sum(outcome.state == "kept" for outcome in outcomes),
    )


def _run(work: Sequence[Job], jobs: int | None, on_case: Callable[[int, int], None], *, raising: bool) -> list[Outcome]:
    outcomes = run_in_processes(score, work, jobs, on_case, stop=lambda outcome: raising and outcome.state == "failed")
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if raising and failed:
        raise _error_of(failed[0], more=0)
    return outcomes


def _error_of(outcome: Outcome, *, more: int) -> UptakeError:
    kind = getattr(errors, outcome.error, UptakeError)
    text = outcome.message if not more else f"{outcome.message} ({more} more cases failed as well.)"
    return kind(text)


def _failure(outcome: Outcome) -> dict[str, object]:
    return {
        "case": outcome.case,
        "error": outcome.error,
        "message": outcome.message,
        "exit_code": outcome.exit_code,
    }


def _require_partners(pairing: Pairing, prediction: Path, reference: Path, *, strict: bool, complete: bool) -> None:
    if pairing.missing and (strict or complete):
        raise InputError(
            f"{prediction}: {len(pairing.missing)} of {len(pairing.missing) + len(pairing.pairs)} references have no "
            f"prediction, first {pairing.missing[0]!r}. Every case counts; segment them, or take them out of the "
            f"reference folder. Missing: {_listed(pairing.missing)}."
        )
    if pairing.extra and strict:
        raise InputError(
            f"{reference}: {len(pairing.extra)} predictions have no reference, first {pairing.extra[0]!r}. Take them "
            f"out of the folder of predictions. Without reference: {_listed(pairing.extra)}."
        )
    if pairing.without_pet and strict:
        raise InputError(f"{len(pairing.without_pet)} cases have no PET: {_listed(pairing.without_pet)}.")


def _partnerless(pairing: Pairing, prediction: Path, reference: Path, pet: Path | None) -> list[dict[str, object]]:
    """Return a row of failures for each case that has a mask on one side only, or no PET."""
    kinds = (
        (
            pairing.missing,
            "MissingPrediction",
            f"{prediction}: has no mask of this case; its reference was not scored.",
        ),
        (pairing.extra, "MissingReference", f"{reference}: has no mask of this case; its prediction was not scored."),
        (pairing.without_pet, "MissingPet", f"{pet}: has no PET of this case; its SUV numbers are undefined."),
    )
    return [
        {"case": case, "error": kind, "message": text, "exit_code": InputError.exit_code}
        for cases, kind, text in kinds
        for case in cases
    ]


def _table(labels: Mapping[Label, str] | str | Path | None, places: tuple[Path, Path] | None) -> LabelTable:
    if isinstance(labels, Mapping):
        return LabelTable(dict(labels), None, "as given")
    if labels is None and places is None:
        return LabelTable()
    nowhere = Path(os.devnull)
    return find_labels(None if labels is None else str(labels), *(places or (nowhere, nowhere)))


def _listed(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - NAMED} more" if len(cases) > NAMED else ""
    return ", ".join(cases[:NAMED]) + more
