"""Low-dose and full-dose scans of the same patients, with organ maps: found, checked, read, brought onto one grid."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uptake.cases import Case, HarmonisedCase
from uptake.core.anatomy import TOTAL_NAMES, class_table, classes_of
from uptake.core.errors import InputError
from uptake.core.types import Vector3
from uptake.geometry.affine import spacing_mm
from uptake.geometry.grid import require_same_grid
from uptake.geometry.orientation import axis_change
from uptake.harmonise.normalise import ChannelRule, scale_of, scaled, unscaled
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan
from uptake.io.find import CaseFiles
from uptake.io.image import image_stem, image_suffix
from uptake.io.read import read_case
from uptake.sampling.store import TrainingCase, stamp_of, store, stored

log = logging.getLogger(__name__)

SUV_CEILING = 20.0
"""Upper limit of the normalisation "fixed", SUV."""

MOST_GAIN = 1.25
"""By how much the mean SUV of the two images of a pair may differ. Thinning counts and scaling by the time they took
keeps the mean; a low dose that was never scaled is off by its dose fraction."""

ROLES = {"low": ("ld", "low_dose"), "full": ("fd", "full_dose"), "organs": ("seg", "organs")}
"""File names of a plain case folder, without suffix."""


@dataclass(frozen=True)
class Pair:
    """The files of one patient.

    Attributes
    ----------
    id : str
    low : Path
        PET at a fraction of the counts, SUV.
    full : Path
        The same acquisition with all counts, SUV, on the same grid.
    organs : Path
    tracer : str
        As the dataset tells it; "" where it does not.
    """

    id: str
    low: Path
    full: Path
    organs: Path
    tracer: str = ""


@dataclass(frozen=True)
class PairedDataset:
    """Pairs, and what holds for all of them.

    Attributes
    ----------
    pairs : tuple of Pair
    dose_fraction : float
        Of the low-dose images, in (0, 1).
    organ_names : mapping
        Label value of the organ maps -> class name.
    """

    pairs: tuple[Pair, ...]
    dose_fraction: float
    organ_names: Mapping[int, str]

    @property
    def tracers(self) -> tuple[str, ...]:
        """Every tracer once, sorted."""
        return tuple(sorted({pair.tracer for pair in self.pairs} - {""}))


def find_pairs(dataset: Path | str, *, dose: float | None = None) -> PairedDataset:
    """Return the pairs of a dataset.

    Two forms are read. A cohort of `uptake simulate`: ``imagesTr_dose_<fraction>`` beside ``imagesTr`` (PET _0001),
    ``organsTr`` and ``organ_labels.json``; tracers from ``cohort.csv``. Or a folder a case with ``ld``, ``fd`` and
    ``seg`` images, and ``dataset.json`` with "dose_fraction", "tracer" and, unless the maps are numbered as LDOS's
    table 1, "organ_labels" {number: name}.

    Parameters
    ----------
    dataset : Path
    dose : float, optional
        Which fraction, where the cohort holds several, or where ``dataset.json`` tells none.

    Raises
    ------
    InputError
        If there are no pairs, a file of a pair is missing, or the dose fraction is not known or contradicts itself.
    """
    dataset = Path(dataset)
    if not dataset.is_dir():
        raise InputError(f"{dataset}: no such folder.")
    if (dataset / "imagesTr").is_dir():
        return _of_cohort(dataset, dose)
    return _of_folders(dataset, dose)


def _of_cohort(dataset: Path, dose: float | None) -> PairedDataset:
    folders = {float(path.name.rsplit("_", 1)[1]): path for path in sorted(dataset.glob("imagesTr_dose_*"))}
    if not folders:
        raise InputError(
            f"{dataset}: holds full-dose images, but no folder imagesTr_dose_<fraction> with their low-dose twins; "
            "make them with uptake simulate --dose."
        )
    if dose is None and len(folders) > 1:
        raise InputError(f"{dataset}: holds the doses {', '.join(f'{f:g}' for f in folders)}; choose one with --dose.")
    chosen = next(iter(folders)) if dose is None else dose
    if chosen not in folders:
        raise InputError(f"{dataset}: has no dose {chosen:g}; there are {', '.join(f'{f:g}' for f in folders)}.")
    tracers = _tracers(dataset)
    pairs = []
    for low in sorted(folders[chosen].glob("[!.]*_0001.nii.gz")):
        case = low.name.removesuffix("_0001.nii.gz")
        pairs.append(
            _pair(
                case, low, dataset / "imagesTr" / low.name, dataset / "organsTr" / f"{case}.nii.gz",
                tracers.get(case, ""),
            )
        )  # fmt: skip
    return PairedDataset(_some(pairs, dataset), _fraction(chosen, dataset), _names(dataset / "organ_labels.json"))


def _of_folders(dataset: Path, dose: float | None) -> PairedDataset:
    about: dict[str, Any] = {}
    if (dataset / "dataset.json").is_file():
        about = _json(dataset / "dataset.json")
    written = about.get("dose_fraction")
    if written is None and dose is None:
        raise InputError(
            f"{dataset}: its dataset.json does not tell the dose_fraction of the low-dose images; give it there, or "
            "with --dose."
        )
    if written is not None and dose is not None and abs(float(written) - dose) > 1e-6:
        raise InputError(f"{dataset}: dataset.json says dose_fraction {written}, the command {dose:g}; mend either.")
    pairs = []
    for folder in sorted(path for path in dataset.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = {role: _image(folder, stems) for role, stems in ROLES.items()}
        if not any(files.values()):
            continue
        if files["low"] is None:
            raise InputError(f"{folder}: no ld image there; a case holds ld, fd and seg.")
        pairs.append(_pair(folder.name, files["low"], files["full"], files["organs"], str(about.get("tracer", ""))))
    names = {int(value): str(name) for value, name in about.get("organ_labels", {}).items()}
    default = dict(enumerate(classes_of("ldos")))
    return PairedDataset(
        _some(pairs, dataset), _fraction(dose if written is None else float(written), dataset), names or default
    )


def _image(folder: Path, stems: Sequence[str]) -> Path | None:
    images = [path for path in sorted(folder.iterdir()) if image_suffix(path) and image_stem(path).lower() in stems]
    if len(images) > 1:
        raise InputError(f"{folder}: {' and '.join(path.name for path in images)} could be the same; move one away.")
    return images[0] if images else None


def _pair(case: str, low: Path, full: Path | None, organs: Path | None, tracer: str) -> Pair:
    if full is None or not full.is_file():
        raise InputError(f"{case}: {low} has no full-dose PET beside it; a denoiser is trained on pairs (fd).")
    if organs is None or not organs.is_file():
        raise InputError(f"{case}: {low} has no organ map beside it (seg, or organsTr).")
    return Pair(case, low, full, organs, tracer)


def _some(pairs: Sequence[Pair], dataset: Path) -> tuple[Pair, ...]:
    if not pairs:
        raise InputError(
            f"{dataset}: no pairs there. Expected imagesTr and imagesTr_dose_<fraction> of a simulated cohort, or a "
            "folder a case with ld, fd and seg images."
        )
    return tuple(pairs)


def _fraction(value: float | None, dataset: Path) -> float:
    if value is None or not 0.0 < value < 1.0:
        raise InputError(f"{dataset}: a dose fraction lies between 0 and 1, came {value}.")
    return value


def _tracers(dataset: Path) -> dict[str, str]:
    """Return case -> tracer from the cohort's records, which are there before its table is."""
    found = {}
    for path in sorted((dataset / "cases").glob("*.json")):
        found[path.stem] = str(_json(path).get("parameters", {}).get("tracer", ""))
    return found


def _names(path: Path) -> dict[int, str]:
    return {int(value): str(name) for value, name in _json(path).items()} if path.is_file() else dict(TOTAL_NAMES)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object.")
    return content


def read_pair(pair: Pair, *, assume_suv: bool = False) -> Case:
    """Return the case: low dose as the PET, with its full dose and organs.

    Raises
    ------
    UnitError
        If an image is plainly not SUV (Bq/mL, z-scores).
    GeometryError
        If the images or the organ map are on different grids.
    InputError
        If the two are the same image, or their mean SUV differs by more than `MOST_GAIN`.
    """
    case = read_case(CaseFiles(pair.id, pet=pair.low, organs=pair.organs), assume_suv=assume_suv)
    whole = read_case(CaseFiles(pair.id, pet=pair.full), assume_suv=assume_suv)
    require_same_grid(
        case.pet,
        whole.pet,
        names=(str(pair.low), str(pair.full)),
        remedy="Low and full dose come from one acquisition and share its grid; reconstruct both alike.",
    )
    low, full = np.asarray(case.pet.array), np.asarray(whole.pet.array)
    if np.array_equal(low, full):
        raise InputError(f"{pair.id}: {pair.low} and {pair.full} are the same image; nothing could be learnt from it.")
    gain = float(low.mean(dtype=np.float64) / max(float(full.mean(dtype=np.float64)), 1e-9))
    if not 1 / MOST_GAIN <= gain <= MOST_GAIN:
        raise InputError(
            f"{pair.id}: the mean SUV of {pair.low} is {gain:.3g} times that of {pair.full}. Counts were thinned "
            "without scaling by the dose fraction, or the two are not of one acquisition."
        )
    sources = (*case.sources, *(replace(source, role="full_dose") for source in whole.sources))
    return replace(case, full_dose=whole.pet, sources=sources, warnings=(*case.warnings, *whole.warnings))


def pair_plan(cases: Sequence[Case], config: Any) -> Plan:
    """Return how pairs come onto the model's grid: the median spacing of the cases unless the configuration has one."""
    target = config.spacing_mm
    if target is None:
        spacings = []
        for case in cases:
            change = axis_change(case.pet.affine, config.orientation[::-1])
            spacings.append(spacing_mm(case.pet.affine @ change.matrix(case.pet.shape)))
        a, b, c = (float(v) for v in np.median(spacings, axis=0))
        target = (a, b, c)
    rule = ChannelRule("pet", config.normalisation[0], 0.0, SUV_CEILING, 0.0, 1.0)
    return Plan((rule,), target, config.orientation)


def harmonised_pair(case: Case, plan: Plan, config: Any, organ_names: Mapping[int, str]) -> HarmonisedCase:
    """Return the pair on the model's grid, its organs as `labels` in the configuration's numbering.

    With ``config.dose == "full"`` the full dose takes the place of the low dose, in its own units.
    """
    if config.dose == "full":
        assert case.full_dose is not None
        case = replace(case, pet=case.full_dose, full_dose=None)
    table = class_table(organ_names, config.labels)
    found, _ = harmonise(case, plan, organ_table=table)
    if config.separate_scales and found.target is not None:
        suv = unscaled(found.target, found.scales[0])
        found = replace(found, target=scaled(suv, scale_of(suv, plan.channels[0])))
    return replace(found, labels=found.organs, organs=None)


def cached_pair(
    pair: Pair, plan: Plan, config: Any, organ_names: Mapping[int, str], folder: Path, *, assume_suv: bool
) -> TrainingCase:
    """Return a pair as training cuts windows from it, through the cache in `folder`."""
    case = read_pair(pair, assume_suv=assume_suv)
    hashes = {source.role: source.sha256 for source in case.sources}
    about = {"plan": plan.as_json(), "dose": config.dose, "separate": config.separate_scales}
    stamp = stamp_of(about, hashes, class_table(organ_names, config.labels))
    found = stored(folder, pair.id, stamp)
    return found or store(folder, harmonised_pair(case, plan, config, organ_names), stamp)


def median_shape(cases: Sequence[TrainingCase]) -> Vector3:
    """Return the median (z, y, x) of the cases on the model's grid."""
    a, b, c = np.median([case.shape for case in cases], axis=0)
    return float(a), float(b), float(c)
