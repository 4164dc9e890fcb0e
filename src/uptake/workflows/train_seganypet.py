"""Train SegAnyPET on a dataset: what is prompted for, whose labels are trusted, folds by patient, scores by clicks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.anatomy import class_table, classes_of
from uptake.core.errors import InputError, UsageError
from uptake.core.types import Mask
from uptake.evaluation.statistics import summarise
from uptake.geometry.components import connected_components
from uptake.geometry.volume import Volume
from uptake.io.find import CaseFiles
from uptake.io.read import read_case
from uptake.io.write import require_writable, write_csv, write_json
from uptake.methods.seganypet import Config
from uptake.sampling.prompt_cases import PromptCase
from uptake.training.devices import is_first_process, resolve_device
from uptake.training.protocol import EpochReport
from uptake.workflows.bundles import load_bundle
from uptake.workflows.interact import PUBLISHED_CLICKS, object_dice
from uptake.workflows.promptable_data import prompt_cases
from uptake.workflows.session import Session
from uptake.workflows.train import About, TrainingResult
from uptake.workflows.train_promptable import train_promptable
from uptake.workflows.training_data import (
    SHIPPED_SPLITS,
    dataset_splits,
    fold_named,
    labelled_studies,
    organ_names,
    patient_of,
    with_organ_maps,
)
from uptake.zoo.bundle import save_bundle

ORGAN_FOLDER, ORGAN_LABELS = "organsTr", "organ_labels.json"
"""Organ maps and their numbering in a dataset of `uptake simulate cohort`."""

CLICKS = 5
MOST_LESIONS = 4
"""Lesions of a held-out case that are clicked at, the largest first."""

PROTOCOL = (
    f"held-out cases of one fold, up to {MOST_LESIONS} lesions each, on the scan's grid; window on the first click, "
    "which lies anywhere in the lesion, further ones in the middle of the largest mistake"
)


def train_seganypet(
    dataset: Path | str,
    out: Path | str,
    *,
    config: Config | None = None,
    about: About | None = None,
    trusted: str | None = None,
    init: str | Path | None = None,
    organs: str | None = None,
    organ_maps: Path | None = None,
    organ_labels: str | Path = "total",
    folds: Sequence[int | str] = (0,),
    n_folds: int | None = None,
    splits: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    devices: int = 1,
    stored_as: str = "float16",
    assume_suv: bool = False,
    on_epoch: Callable[[str, EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train a promptable model, and write a bundle a fold: a session asks one network.

    Parameters
    ----------
    dataset : Path
        nnU-Net raw dataset, or a folder of studies with lesion masks. Every lesion is an object of its own.
    out : Path
        Receives cache/, fold_k/ (log, checkpoints, bundle/), cases.csv and summary.json. Calling again with the same
        arguments goes on where a killed run stopped.
    config : Config, optional
        `small` by default on CPUs, `best` with CUDA.
    about : About, optional
    trusted : str, optional
        Whose labels are of high quality: a text file with a case id a line, or a pattern such as "hospital1_*". All
        others are then learnt from as `config.learning` says, and make half of every batch (`Config.mixing`). Without
        it every label is trusted.
    init : str or Path, optional
        Bundle whose weights training starts from; the network must be the same.
    organs : str, optional
        Grouping (`core.anatomy.GROUPINGS`) whose organs are objects too, each label by itself.
    organ_maps : Path, optional
        Folder of organ maps named like the cases; by default the dataset's organsTr, else the maps beside the images.
    organ_labels : str or Path
        Their numbering, as in `workflows.train.train`; by default the dataset's organ_labels.json, if it has one.
    folds, n_folds, splits, device, precision, stored_as, assume_suv, on_epoch, on_step
        As in `workflows.train.train`.
    devices : int
        Data-parallel; one fold at a time.

    Returns
    -------
    TrainingResult
        Its rows are held-out lesions: fold, case, patient, lesion, ml, and Dice after 1 to 5 clicks.

    Raises
    ------
    InputError
        If no case has a lesion mask, a case cannot be read, an id of the trusted is in no case, or a patient is on both
        sides of a split.
    UsageError
        If a fold does not exist, the trusted are none or all of the cases, or several folds are to be trained on
        several devices.
    """
    dataset, out = Path(dataset), Path(out)
    require_writable(out)
    if devices > 1 and len(folds) > 1:
        raise UsageError("with several devices train one fold a time: --folds 0, then the next.")
    files, left_out = labelled_studies(dataset)
    config = config or (Config.best() if resolve_device(device).type == "cuda" else Config.small())
    about = about or About(name=f"seganypet-{dataset.resolve().name}", data=dataset.resolve().name)
    ids = [one.id for one in files]
    split = dataset_splits(files, folds, n_folds, splits, dataset)
    chosen = {str(name): fold_named(name, split, ids) for name in folds}
    believed = set(ids) if trusted is None else trusted_ids(trusted, ids)
    if trusted is not None:
        config = config.mixing()
    start = None if init is None else load_bundle(init)
    names = None
    if organs is not None:
        files, names = _with_organs(files, dataset, organs, organ_maps, organ_labels)
    made = prompt_cases(
        files,
        config.plan(),
        out / "cache",
        organs=names,
        min_voxels=config.min_voxels,
        trusted=believed.__contains__,
        assume_suv=assume_suv,
    )
    cases: Mapping[str, PromptCase] = {case.id: case for case in made}
    if split and is_first_process():
        write_json([{"train": list(f.train), "val": list(f.validation)} for f in split], out / SHIPPED_SPLITS)
    rows: list[dict[str, Any]] = []
    bundles = []
    for name, fold in chosen.items():
        bundle = train_promptable(
            [cases[case] for case in fold.train],
            [cases[case] for case in fold.validation],
            out / f"fold_{name}",
            config,
            about=about,
            start=start,
            device=device,
            precision=precision,
            devices=devices,
            stored_as=stored_as,
            fold=name,
            keep="last",
            on_epoch=None if on_epoch is None else (lambda report, n=name: on_epoch(n, report)),
            on_step=on_step,
        )
        bundles.append(bundle)
        if not is_first_process():
            continue
        held = [one for one in files if one.id in fold.validation]
        found = [{"fold": name, **row} for row in click_rows(bundle, held, device=device, assume_suv=assume_suv)]
        rows += found
        if found:
            _write_scores(bundle, found, about)
            write_csv(rows, out / "cases.csv", columns=list(rows[0]))
    summary = _summary(rows)
    if is_first_process():
        write_json({"folds": list(chosen), "lesions": len(rows), "metrics": summary}, out / "summary.json")
    return TrainingResult(tuple(bundles), rows, summary, left_out)


def trusted_ids(trusted: str, ids: Sequence[str]) -> set[str]:
    """Return the cases whose labels are trusted, by a text file of ids or a pattern.

    Raises
    ------
    InputError
        If the file names a case that is not there.
    UsageError
        If no case is trusted, or all are.
    """
    place = Path(trusted)
    if place.is_file():
        found = set(place.read_text(encoding="utf-8").split())
        unknown = sorted(found - set(ids))
        if unknown:
            raise InputError(
                f"{place}: {len(unknown)} ids are those of no case with a lesion mask, first {unknown[0]}."
            )
    else:
        found = {case for case in ids if fnmatchcase(case, trusted)}
    if not found or len(found) == len(ids):
        raise UsageError(
            f"trusted {trusted!r} is {'none' if not found else 'all'} of the {len(ids)} cases: name a file with the "
            "ids of some, one a line, or a pattern that fits some; without it every label is trusted."
        )
    return found


def click_rows(
    bundle: Path, files: Sequence[CaseFiles], *, device: str = "auto", assume_suv: bool = False
) -> list[dict[str, Any]]:
    """Return a row for each of the largest lesions of every case: Dice after 1 to 5 clicks, on the scan's own grid."""
    session = Session(bundle, device=device)
    rows = []
    for one in files:
        case = read_case(one, assume_suv=assume_suv)
        assert case.lesions is not None
        session.set_image(case)
        for number, (mask, ml) in enumerate(largest_lesions(case.lesions), start=1):
            dice = object_dice(session, mask, clicks=CLICKS, seed=number)
            row: dict[str, Any] = {"case": one.id, "patient": patient_of(one), "lesion": number, "ml": ml}
            rows.append(row | {f"dice_{n}": value for n, value in enumerate(dice, start=1)})
    return rows


def largest_lesions(lesions: Volume, most: int = MOST_LESIONS) -> list[tuple[Mask, float]]:
    """Return the largest lesions (18-connected), each a mask of its own with its volume in mL, the largest first."""
    pieces = connected_components(np.asarray(lesions.array) > 0)
    order = np.argsort(-pieces.voxels, kind="stable")[:most]
    return [(pieces.labels == n + 1, float(pieces.voxels[n]) * lesions.voxel_volume_ml) for n in order]


def _with_organs(
    files: Sequence[CaseFiles], dataset: Path, organs: str, organ_maps: Path | None, organ_labels: str | Path
) -> tuple[list[CaseFiles], dict[int, str]]:
    """Return the cases with their organ maps, and label -> name of those labels that belong to the grouping."""
    if organ_maps is None and (dataset / ORGAN_FOLDER).is_dir():
        organ_maps = dataset / ORGAN_FOLDER
        if organ_labels == "total" and (dataset / ORGAN_LABELS).is_file():
            organ_labels = dataset / ORGAN_LABELS
    numbering = organ_names(organ_labels)
    table = class_table(numbering, classes_of(organs))
    return with_organ_maps(files, organ_maps), {label: name for label, name in numbering.items() if table[label]}


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {}
    found = summarise(rows, metrics=[f"dice_{n}" for n in PUBLISHED_CLICKS], patient="patient")
    # Dice ends at 0 and 1, which an interval over few patients does not know.
    return {
        name: {"mean": one.mean, "median": one.median, "low": max(one.low, 0.0), "high": min(one.high, 1.0), "n": one.n}
        for name, one in found.items()
    }


def _write_scores(folder: Path, rows: Sequence[Mapping[str, Any]], about: About) -> None:
    """Write the scores of held-out lesions into a bundle's card."""
    bundle = load_bundle(folder)
    score = {"protocol": PROTOCOL, "cases": len({row["case"] for row in rows}), "metrics": _summary(rows)}
    save_bundle(replace(bundle.card, scores=[*about.scores, score]), bundle.states, folder)
