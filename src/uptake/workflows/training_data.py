"""A labelled dataset made ready for training: its studies, splits by patient, organ maps, plan, and cached cases."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.cases import Case
from uptake.core.anatomy import AUTOPET_NAMES, TOTAL_NAMES
from uptake.core.errors import InputError, UsageError
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Fingerprint, Plan, fingerprint, plan_from
from uptake.io.find import CaseFiles, find_cases
from uptake.io.read import read_case
from uptake.sampling.splits import Fold, folds_from_json, patient_folds, subject_of
from uptake.sampling.store import TrainingCase, stamp_of, store, stored

log = logging.getLogger(__name__)

SHIPPED_SPLITS = "splits_final.json"
"""Of an nnU-Net dataset: which cases are trained on and held out, fold by fold."""

FOLDS = 5

ALL = "all"
"""Name of the fold that trains on every case and holds none out."""


@dataclass(frozen=True)
class Prepared:
    """A dataset on one model grid: its plan, the configuration fitted to it, cases to cut windows from, file hashes."""

    files: Sequence[CaseFiles]
    plan: Plan
    config: Any
    cases: Mapping[str, TrainingCase]
    hashes: Mapping[str, Mapping[str, str]]


def labelled_studies(dataset: Path) -> tuple[list[CaseFiles], tuple[str, ...]]:
    """Return the studies with a lesion mask, and the names of those without; one that cannot be read stops all."""
    found = find_cases(dataset)
    broken = [files for files in found if files.problem is not None]
    if broken:
        raise InputError(
            f"{len(broken)} of {len(found)} studies in {dataset} cannot be used; mend them or take them out. "
            f"First: {broken[0].problem}"
        )
    files = [one for one in found if one.lesions is not None]
    left_out = tuple(one.id for one in found if one.lesions is None)
    if not files:
        raise InputError(f"{dataset}: no case there has a lesion mask (lesion, SEG, or nnU-Net labelsTr).")
    if left_out:
        log.warning("%d studies without a lesion mask are left out, first %s", len(left_out), left_out[0])
    return files, left_out


def dataset_splits(
    files: Sequence[CaseFiles],
    folds: Sequence[int | str],
    n_folds: int | None,
    splits: Path | None,
    dataset: Path | None = None,
) -> tuple[Fold, ...]:
    """Return the folds: those in `splits`, else `n_folds` new ones, else those that `dataset` ships, else five new."""
    patients = {found.id: patient_of(found) for found in files}
    if list(folds) == [ALL]:
        return ()
    if splits is None and n_folds is None and dataset is not None and (dataset / SHIPPED_SPLITS).is_file():
        splits = dataset / SHIPPED_SPLITS
        log.info("folds are those of %s", splits)
    if splits is not None:
        content = json.loads(Path(splits).read_text(encoding="utf-8"))
        return folds_from_json(content, list(patients), subject=patients.__getitem__)
    return patient_folds(list(patients), folds=FOLDS if n_folds is None else n_folds, subject=patients.__getitem__)


def patient_of(found: CaseFiles) -> str:
    return found.subject or subject_of(found.id)


def fold_named(name: int | str, split: Sequence[Fold], ids: Sequence[str]) -> Fold:
    if name == ALL:
        return Fold(tuple(ids), ())
    if not 0 <= int(name) < len(split):
        raise UsageError(f"fold {name} does not exist; there are {len(split)}, numbered from 0, and 'all'.")
    return split[int(name)]


def organ_names(numbering: str | Path) -> dict[int, str]:
    """Return label value -> class name of a numbering of organ maps.

    Raises
    ------
    UsageError
        If it is none of the known ones and no JSON file of that form.
    """
    known = {"total": TOTAL_NAMES, "autopet": AUTOPET_NAMES}
    if str(numbering) in known:
        return dict(known[str(numbering)])
    try:
        content = json.loads(Path(numbering).read_text(encoding="utf-8"))
        return {int(value): str(name) for value, name in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"organ labels {str(numbering)!r}: neither {' nor '.join(known)}, nor a JSON file {{number: name}}: {error}"
        ) from error


def with_organ_maps(files: Sequence[CaseFiles], folder: Path | None) -> list[CaseFiles]:
    """Return the cases with an organ map each, from their studies or from `folder`."""
    found = []
    for one in files:
        beside = next(iter(sorted(folder.glob(f"{one.id}.nii*"))), None) if folder is not None else None
        found.append(one if beside is None else replace(one, organs=beside))
    without = [one.id for one in found if one.organs is None]
    if without:
        raise InputError(
            f"the network has organ heads, but {len(without)} of {len(found)} cases have no organ map, first "
            f"{without[0]}. Put one beside each (organs.nii.gz), name a folder of them (--organ-maps), or train "
            "without (--organs none)."
        )
    return found


def prepared(
    files: Sequence[CaseFiles],
    plan_ids: Sequence[str] | None,
    config: Any,
    cache: Path,
    assume_suv: bool,
    organ_table: npt.NDArray[np.uint8] | None,
) -> Prepared:
    """Plan on the named cases (None: all), and bring every case onto that grid, through the cache."""
    hashes: dict[str, dict[str, str]] = {}

    def planning_cases() -> Iterator[Case]:
        for found in files:
            case = read_case(found, assume_suv=assume_suv)
            hashes[case.id] = {source.role: source.sha256 for source in case.sources}
            if plan_ids is None or case.id in plan_ids:
                yield case

    found = fingerprint(planning_cases(), orientation=config.orientation, channels=config.channels)
    schemes = dict(zip(config.channels, config.normalisation, strict=True))
    plan = plan_from(
        found,
        schemes=schemes,
        target_spacing_mm=config.spacing_mm,
        orientation=config.orientation,
        separate_z=config.separate_z,
    )
    fitted = config.fitted_to(_median_shape(found, plan))
    cases = {one.id: _cached(one, plan, hashes, cache, assume_suv=assume_suv, organ_table=organ_table) for one in files}
    return Prepared(files, plan, fitted, cases, hashes)


def _median_shape(found: Fingerprint, plan: Plan) -> list[float]:
    sizes = np.array(found.shapes) * np.array(found.spacings_mm) / np.array(plan.spacing_mm)
    return [float(n) for n in np.median(np.round(sizes), axis=0)]


def _cached(
    found: CaseFiles,
    plan: Plan,
    hashes: Mapping[str, Mapping[str, str]],
    folder: Path,
    *,
    assume_suv: bool,
    organ_table: npt.NDArray[np.uint8] | None,
) -> TrainingCase:
    stamp = stamp_of(plan.as_json(), hashes[found.id], organ_table)
    case = stored(folder, found.id, stamp)
    if case is None:
        harmonised, _ = harmonise(read_case(found, assume_suv=assume_suv), plan, organ_table=organ_table)
        case = store(folder, harmonised, stamp)
    return case
