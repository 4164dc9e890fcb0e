"""A labelled dataset on the grid of a given plan, and the scores of a network on its scans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uptake.cases import HarmonisedCase, Trace
from uptake.core.errors import InputError
from uptake.evaluation.overlap import evaluate_pair
from uptake.geometry.volume import Volume
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan
from uptake.harmonise.restore import restore
from uptake.io.find import CaseFiles
from uptake.io.read import read_case
from uptake.io.write import write_volume
from uptake.methods import petct_mae
from uptake.methods.petct_mae import Config
from uptake.sampling.store import TrainingCase, stamp_of, store, stored
from uptake.training.devices import bf16_pays
from uptake.workflows.bundles import Bundle
from uptake.workflows.pool import fingerprints_of
from uptake.workflows.training_data import labelled_studies, patient_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledCases:
    """Cases to cut windows from, by id, with what is known of each.

    Attributes
    ----------
    files : mapping of str to CaseFiles
    plan : Plan
    cases : mapping of str to TrainingCase
    patients : mapping of str to str
    positive : mapping of str to bool
        Whether a case has a lesion, on the model grid.
    hashes : mapping
        Case id -> role -> SHA-256.
    """

    files: Mapping[str, CaseFiles]
    plan: Plan
    cases: Mapping[str, TrainingCase]
    patients: Mapping[str, str]
    positive: Mapping[str, bool]
    hashes: Mapping[str, Mapping[str, str]]


def labelled_cases(
    dataset: Path,
    plan: Plan,
    cache: Path,
    *,
    assume_suv: bool = False,
    on_case: Callable[[int, int], None] | None = None,
) -> LabelledCases:
    """Bring every study with a lesion mask onto the plan's grid, through the cache.

    Raises
    ------
    InputError
        If no study has a lesion mask, one cannot be read, or one lacks a channel of the plan.
    """
    files, _ = labelled_studies(dataset)
    cases: dict[str, TrainingCase] = {}
    hashes: dict[str, dict[str, str]] = {}
    for number, one in enumerate(files):
        case = read_case(one, assume_suv=assume_suv, labels=("lesions",))
        if "ct" in plan.channel_names and case.ct is None:
            raise InputError(f"{one.id}: has no CT, and the network has a CT channel. Add it, or take the case out.")
        hashes[one.id] = {source.role: source.sha256 for source in case.sources}
        stamp = stamp_of(plan.as_json(), hashes[one.id])
        found = stored(cache, one.id, stamp)
        if found is None:
            found = store(cache, harmonise(case, plan)[0], stamp)
        cases[one.id] = found
        if on_case is not None:
            on_case(number + 1, len(files))
    return LabelledCases(
        {one.id: one for one in files},
        plan,
        cases,
        {one.id: patient_of(one) for one in files},
        {name: len(case.foreground) > 0 for name, case in cases.items()},
        hashes,
    )


def require_unseen(data: LabelledCases, ids: Sequence[str], start: Bundle) -> None:
    """Check that no test scan, and no other scan of its patient, was in the pool that a bundle was pretrained on.

    Raises
    ------
    InputError
        Naming the first and how many there are.
    """
    pool = set(start.card.origin.get("pool", ()))
    seen = [case for case in ids if pool & set(fingerprints_of(case, data.patients[case], data.hashes[case]))]
    if seen:
        raise InputError(
            f"{start.card.name}: was pretrained on {len(seen)} of the {len(ids)} test scans or on other scans of their "
            f"patients, first {seen[0]}. Scores on them would be too good. Pretrain without them (uptake pretrain "
            "petct_mae --exclude split.json), or say that it is meant (--allow-overlap)."
        )


KEPT_BYTES = 4 * 1024**3
"""Of test scans that a grid of runs keeps in memory; those beyond it are read again for each run."""


class TestScans:
    """Test scans as the network sees them, with their references; read once for all runs of a grid, while they fit."""

    __test__ = False  # for pytest, which takes the name for one of its own

    def __init__(self, data: LabelledCases, *, assume_suv: bool = False, limit: int = KEPT_BYTES) -> None:
        self.data, self.assume_suv, self.left = data, assume_suv, limit
        self._kept: dict[str, tuple[HarmonisedCase, Trace, Volume]] = {}

    def __call__(self, name: str) -> tuple[HarmonisedCase, Trace, Volume]:
        """Return the case on the model's grid, the way back, and its lesions on its own grid."""
        if name not in self._kept:
            case = read_case(self.data.files[name], assume_suv=self.assume_suv, labels=("lesions",))
            assert case.lesions is not None
            found = (*harmonise(replace(case, lesions=None), self.data.plan), case.lesions)
            size = found[0].channels.nbytes + found[0].body.nbytes + case.lesions.array.nbytes
            if size > self.left:
                return found
            self.left -= size
            self._kept[name] = found
        return self._kept[name]


def scores_on(
    network: nn.Module,
    config: Config,
    scans: TestScans,
    ids: Sequence[str],
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    masks: Path | None = None,
) -> list[dict[str, Any]]:
    """Segment scans on their own grid and return a row of scores for each.

    Dice of a scan without lesions is undefined, as everywhere here; its false-positive volume counts.

    Parameters
    ----------
    network : nn.Module
        Gives logits of ``config.labels``.
    config : Config
    scans : TestScans
    ids : sequence of str
    device, dtype
    masks : Path, optional
        Folder for the masks.
    """
    rows = []
    plan, patients = scans.data.plan, scans.data.patients
    for name in ids:
        harmonised, trace, lesions = scans(name)
        prediction = petct_mae.predict([network], harmonised, config, device=device, dtype=dtype)
        mask = restore(prediction, trace, order=plan.logits_order).labels
        if masks is not None:
            write_volume(mask, masks / f"{name}.nii.gz")
        (scores,) = evaluate_pair(mask, lesions)
        rows.append({"case": name, "patient": patients[name], **scores.row()})
    return rows


def inference_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format of convolutions at inference for a training precision."""
    if precision == "bf16-mixed" or (precision == "auto" and bf16_pays(device)):
        return torch.bfloat16
    return torch.float32
