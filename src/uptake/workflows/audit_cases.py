"""One scan of a site audit: read, harmonised step by step, reduced to distributions and features."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake import __version__
from uptake.core.errors import InputError, UptakeError, UsageError
from uptake.core.types import Mask, Vector3
from uptake.evaluation.site_distance import cdf_profile, value_edges
from uptake.evaluation.site_features import body_mask, image_features
from uptake.harmonise.normalise import ChannelRule, normalise
from uptake.harmonise.plan import Plan, channel_on_pet_grid
from uptake.io.find import CaseFiles
from uptake.io.read import read_case
from uptake.io.write import atomic_path, sha256_of_files

BEFORE = "as it is"
GAUSSIAN = "gaussian"
ZSCORE = "zscore"
PLAN = "plan"
STEPS = (GAUSSIAN, ZSCORE, PLAN)
"""Steps that are meant to harmonise, joined by "+" where several follow one another.

"gaussian": PET smoothed to one effective resolution, σ² = σ(target)² - σ(own)². "zscore": each channel of each scan to
mean 0 and deviation 1 inside the body. "plan": the normalisation of a model's plan.
"""

FWHM_PER_SIGMA = math.sqrt(8.0 * math.log(2.0))
BODY = "body"
CHANNELS = ("pet", "ct")
UNITS = {"pet": "g/mL", "ct": "HU"}
LEAST_VOXELS = 50
"""Organs with fewer voxels than this in a scan are left out of that scan."""

EDGES = {"pet": value_edges(0.5, 200.0), "ct": value_edges(200.0, 4000.0), "": value_edges(0.2, 200.0)}
"""Bins of each channel in its unit, and of values without unit after a normalisation."""


@dataclass(frozen=True)
class AuditJob:
    """A scan and what is done with it; goes to another process.

    Attributes
    ----------
    files : CaseFiles
    steps : tuple of str
        Beside `BEFORE`.
    fwhm_mm, target_mm : float or None
        Effective resolution of the scan's PET, and the one that "gaussian" brings it to.
    plan : Plan or None
    organs : mapping of int to str
        Names of organ labels; numbers without name keep their number.
    kept : Path or None
        File in which the result is kept for the next run.
    again, assume_suv : bool
    """

    files: CaseFiles
    steps: tuple[str, ...]
    fwhm_mm: float | None = None
    target_mm: float | None = None
    plan: Plan | None = None
    organs: Mapping[int, str] = field(default_factory=dict)
    kept: Path | None = None
    again: bool = False
    assume_suv: bool = False


@dataclass(frozen=True, eq=False)
class CaseProfile:
    """What an audit keeps of a scan.

    Attributes
    ----------
    case : str
    profiles : mapping
        (step, channel, region) -> array (bins,), see `site_distance.cdf_profile`.
    features : mapping
        Step -> feature -> number.
    voxel_ml : float
    state : str
        "read", "kept" or "failed".
    error, message : str
    exit_code : int
    """

    case: str
    profiles: Mapping[tuple[str, str, str], npt.NDArray[np.float64]] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    state: str = "read"
    error: str = ""
    message: str = ""
    exit_code: int = 0


def profile(job: AuditJob) -> CaseProfile:
    """Return the profile of a scan; an error becomes a result, so that one bad scan does not stop the others."""
    try:
        return _profile(job)
    except UptakeError as error:
        return CaseProfile(job.files.id, state="failed", error=type(error).__name__, message=str(error),
                           exit_code=error.exit_code)  # fmt: skip
    except Exception as error:
        text = f"{job.files.id}: {type(error).__name__}: {error}"
        return CaseProfile(job.files.id, state="failed", error=type(error).__name__, message=text, exit_code=1)


def require_steps(steps: Sequence[str], *, plan: Plan | None, fwhm: bool) -> None:
    """Check names of steps and that what they need is there.

    Raises
    ------
    UsageError
        Naming the step.
    """
    for step in steps:
        for part in step.split("+"):
            if part not in STEPS:
                raise UsageError(f"no step is called {part!r}; there are {', '.join(STEPS)}, joined by '+'.")
            if part == PLAN and plan is None:
                raise UsageError("the step 'plan' needs a model whose normalisation it takes; name one with --plan.")
            if part == GAUSSIAN and not fwhm:
                raise UsageError(
                    "the step 'gaussian' needs the effective resolution of every scan: a column 'fwhm_mm' in the table "
                    "of sites."
                )


def edges_of(step: str, channel: str) -> npt.NDArray[np.float64]:
    """Return the bins of a channel after a step: a normalised one has no unit."""
    return EDGES["" if {ZSCORE, PLAN} & set(step.split("+")) else channel]


def unit_of(step: str, channel: str) -> str:
    """Return the unit of a channel after a step."""
    return "" if {ZSCORE, PLAN} & set(step.split("+")) else UNITS[channel]


def harmonised(
    step: str,
    channel: str,
    image: npt.NDArray[np.float32],
    body: Mask,
    spacing_mm: Vector3,
    *,
    fwhm_mm: float | None = None,
    target_mm: float | None = None,
    plan: Plan | None = None,
) -> npt.NDArray[np.float32]:
    """Return one channel after the parts of a step, in their order.

    Parameters
    ----------
    step : str
        `BEFORE`, or names of `STEPS` joined by "+".
    channel : {"pet", "ct"}
    image : array (i, j, k) float32
    body : array (i, j, k) bool
    spacing_mm : tuple of float
    fwhm_mm, target_mm : float or None
        For "gaussian"; a CT is left as it is.
    plan : Plan or None
        For "plan".

    Raises
    ------
    InputError
        If a scan is smoother than the target already.
    """
    from scipy import ndimage

    for part in () if step == BEFORE else step.split("+"):
        if part == GAUSSIAN and channel == "pet":
            assert fwhm_mm is not None and target_mm is not None
            if fwhm_mm > target_mm + 1e-9:
                raise InputError(f"its resolution of {fwhm_mm:g} mm is coarser than the target of {target_mm:g} mm.")
            sigma = math.sqrt(max(target_mm**2 - fwhm_mm**2, 0.0)) / FWHM_PER_SIGMA
            image = ndimage.gaussian_filter(image, [sigma / mm for mm in spacing_mm])
        elif part == ZSCORE:
            inside = image[body].astype(np.float64)
            image = np.asarray((image - inside.mean()) / max(float(inside.std()), 1e-8), dtype=np.float32)
        elif part == PLAN:
            rule = _rule(plan, channel)
            image = image if rule is None else normalise(image, rule, body if rule.inside_only else None)
    return image


def _rule(plan: Plan | None, channel: str) -> ChannelRule | None:
    assert plan is not None
    return next((rule for rule in plan.channels if rule.name == channel), None)


def _profile(job: AuditJob) -> CaseProfile:
    request = _request(job) if job.kept is not None else {}
    if job.kept is not None and not job.again:
        kept = _kept(job.kept, request)
        if kept is not None:
            return kept
    case = read_case(job.files, assume_suv=job.assume_suv, labels=("organs",))
    spacing = case.pet.spacing_mm
    images = {name: channel_on_pet_grid(case, name) for name in CHANNELS}
    pet = images["pet"]
    assert pet is not None
    body = body_mask(pet, images["ct"], spacing)
    regions = {BODY: body}
    if case.organs is not None:
        for label in np.unique(case.organs.array):
            mask = np.asarray(case.organs.array == label)
            if label and int(mask.sum()) >= LEAST_VOXELS:
                regions[job.organs.get(int(label), str(int(label)))] = mask
    profiles: dict[tuple[str, str, str], npt.NDArray[np.float64]] = {}
    features: dict[str, dict[str, float]] = {}
    for step in (BEFORE, *job.steps):
        features[step] = {}
        for name, image in images.items():
            if image is None:
                continue
            try:
                after = harmonised(
                    step, name, image, body, spacing, fwhm_mm=job.fwhm_mm, target_mm=job.target_mm, plan=job.plan
                )
            except InputError as error:
                raise InputError(f"{job.files.id}: {error}") from error
            features[step] |= image_features(after, body, spacing, prefix=f"{name}_")
            for region, mask in regions.items():
                profiles[step, name, region] = cdf_profile(after[mask], edges_of(step, name))
    found = CaseProfile(job.files.id, profiles, features)
    if job.kept is not None:
        _keep(found, request, job.kept)
    return found


def _request(job: AuditJob) -> dict[str, Any]:
    files = job.files
    paths = [path for path in (files.pet, files.ct, files.organs) if path is not None]
    if files.dicom is not None:
        paths += [path for path in files.dicom.rglob("*") if path.is_file()]
    return {
        "case": files.id,
        "sha256": sha256_of_files(paths),
        "steps": list(job.steps),
        "fwhm_mm": job.fwhm_mm,
        "target_mm": job.target_mm,
        "plan": None if job.plan is None else json.loads(json.dumps(job.plan.as_json())),
        "organs": {str(number): name for number, name in job.organs.items()},
        "assume_suv": job.assume_suv,
        "version": __version__,
    }


def _keep(found: CaseProfile, request: Mapping[str, Any], path: Path) -> None:
    keys = list(found.profiles)
    meta = json.dumps({"request": request, "keys": keys, "features": found.features}, sort_keys=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, meta=np.array(meta), profiles=np.stack([found.profiles[key] for key in keys]))
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _kept(path: Path, request: Mapping[str, Any]) -> CaseProfile | None:
    """Return the profile that an earlier run kept for the very same request, else None."""
    try:
        with np.load(path, allow_pickle=False) as content:
            meta = json.loads(str(content["meta"]))
            if meta["request"] != request:
                return None
            rows = content["profiles"]
        profiles = {(step, channel, region): rows[n] for n, (step, channel, region) in enumerate(meta["keys"])}
        return CaseProfile(request["case"], profiles, meta["features"], state="kept")
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
