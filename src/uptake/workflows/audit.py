"""Do the sites of a cohort differ in their images, and does a step that is meant to harmonise them do so?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, OutputError
from uptake.evaluation.association import Association, association
from uptake.evaluation.site_classifier import Classification, classify
from uptake.evaluation.site_distance import Distance, group_distance
from uptake.harmonise.plan import Plan
from uptake.io.find import find_cases
from uptake.io.write import require_writable
from uptake.workflows.audit_cases import BEFORE, GAUSSIAN, AuditJob, CaseProfile, edges_of, profile, require_steps
from uptake.workflows.audit_sites import SITE, SiteRow, read_sites
from uptake.workflows.processes import require_jobs, run_in_processes

KEPT = "cases"
MOST_LEVELS = 6
"""A column with more different words than this is no label that a classifier is asked to read."""


@dataclass(frozen=True)
class SiteDistance:
    """Distance of two sites in one region of one channel after one step."""

    step: str
    channel: str
    region: str
    a: str
    b: str
    distance: Distance


@dataclass(frozen=True)
class Reading:
    """How well one column (the site, or a possible confound) can be read off the images after one step."""

    step: str
    column: str
    result: Classification


@dataclass(frozen=True, eq=False)
class Audit:
    """All that an audit found.

    Attributes
    ----------
    sites : tuple of str
    rows : tuple of SiteRow
        Of the scans that were read.
    steps : tuple of str
        `BEFORE` first.
    distances : tuple of SiteDistance
    readings : tuple of Reading
    confounds : mapping of str to Association
        Column -> how it goes with the site.
    features : mapping
        Step -> case -> feature -> number.
    curves : mapping
        (step, channel, region, site) -> mean profile of its patients.
    failures : tuple of dict
    notes : tuple of str
    kept : int
    target_mm : float or None
    permutations : int
    seed : int
    """

    sites: tuple[str, ...]
    rows: tuple[SiteRow, ...]
    steps: tuple[str, ...]
    distances: tuple[SiteDistance, ...]
    readings: tuple[Reading, ...]
    confounds: Mapping[str, Association]
    features: Mapping[str, Mapping[str, Mapping[str, float]]]
    curves: Mapping[tuple[str, str, str, str], npt.NDArray[np.float64]]
    failures: tuple[dict[str, object], ...]
    notes: tuple[str, ...]
    kept: int
    target_mm: float | None
    permutations: int
    seed: int


def audit(
    dataset: Path,
    sites: Path,
    *,
    steps: Sequence[str] = (),
    plan: Plan | None = None,
    target_mm: float | None = None,
    organs: Mapping[int, str] | None = None,
    out: Path | None = None,
    permutations: int = 200,
    seed: int = 0,
    jobs: int | None = 1,
    again: bool = False,
    assume_suv: bool = False,
    on_case: Callable[[int, int], None] | None = None,
) -> Audit:
    """Return distances between sites, how well the site can be read off an image, and possible confounds.

    Parameters
    ----------
    dataset : Path
        Studies as `uptake segment` reads them, nnU-Net images included; organ maps beside the images are used.
    sites : Path
        CSV with columns `case` or `patient`, and `site`; `fwhm_mm` for the step "gaussian"; every other column is a
        possible confound.
    steps : sequence of str
        See `audit_cases.STEPS`; each is compared with the images as they are.
    plan : Plan, optional
        For the step "plan".
    target_mm : float, optional
        Resolution that "gaussian" brings every PET to; by default the coarsest in the table.
    organs : mapping of int to str, optional
        Names of organ labels.
    out : Path, optional
        Folder in which what was kept of each scan goes; a later call goes on from there.
    permutations : int
        For distances and classifiers.
    seed : int
    jobs, again, assume_suv, on_case
        As for `evaluate.evaluate_cohort`.

    Raises
    ------
    InputError
        If the table does not fit the studies, there are fewer than two sites, or no scan can be read.
    UsageError
        If a step does not exist or lacks what it needs.
    """
    require_jobs(jobs)
    files = find_cases(dataset)
    rows, notes = read_sites(sites, files)
    known = [row.fwhm_mm for row in rows if math.isfinite(row.fwhm_mm)]
    require_steps(steps, plan=plan, fwhm=len(known) == len(rows))
    if any(GAUSSIAN in step for step in steps) and target_mm is None:
        target_mm = max(known)
    kept = None
    if out is not None:
        require_writable(out)
        kept = out / KEPT
        if kept.exists() and not kept.is_dir():
            raise OutputError(f"{kept}: a file is in the way of a folder; choose another output folder.")
    by_id = {one.id: one for one in files}
    work = [
        AuditJob(
            by_id[row.case],
            tuple(steps),
            row.fwhm_mm if math.isfinite(row.fwhm_mm) else None,
            target_mm,
            plan,
            organs or {},
            None if kept is None else kept / f"{row.case}.npz",
            again,
            assume_suv,
        )
        for row in rows
    ]
    found = run_in_processes(profile, work, jobs, on_case or (lambda done, total: None))
    failed = [one for one in found if one.state == "failed"]
    if len(failed) == len(found):
        raise InputError(f"no scan could be read; first: {failed[0].message}")
    good = {one.case: one for one in found if one.state != "failed"}
    rows = [row for row in rows if row.case in good]
    names = tuple(sorted({row.site for row in rows}))
    if len(names) < 2:
        raise InputError(f"{sites}: scans of one site only ({', '.join(names)}) could be read; two are needed.")
    all_steps = (BEFORE, *steps)
    distances, curves = _distances(rows, good, names, permutations, seed)
    readings, skipped = _readings(rows, good, all_steps, permutations, seed)
    others = list(dict.fromkeys(name for row in rows for name in row.others))
    patients = list({row.patient: row for row in rows}.values())
    confounds = {
        name: association([r.site for r in patients], [r.others.get(name, "") for r in patients], seed=seed)
        for name in others
    }
    return Audit(
        sites=names,
        rows=tuple(rows),
        steps=all_steps,
        distances=tuple(distances),
        readings=tuple(readings),
        confounds=confounds,
        features={step: {row.case: good[row.case].features[step] for row in rows} for step in all_steps},
        curves=curves,
        failures=tuple(_failure(one) for one in failed),
        notes=(*notes, *skipped),
        kept=sum(one.state == "kept" for one in found),
        target_mm=target_mm,
        permutations=permutations,
        seed=seed,
    )


def _distances(
    rows: Sequence[SiteRow], good: Mapping[str, CaseProfile], sites: Sequence[str], permutations: int, seed: int
) -> tuple[list[SiteDistance], dict[tuple[str, str, str, str], npt.NDArray[np.float64]]]:
    """Return the distances of all pairs of sites, and each site's mean profile; patients weigh the same."""
    keys = list(dict.fromkeys(key for row in rows for key in good[row.case].profiles))
    found: list[SiteDistance] = []
    curves = {}
    for step, channel, region in keys:
        key = step, channel, region
        of_patient: dict[tuple[str, str], list[npt.NDArray[np.float64]]] = {}
        for row in rows:
            if key in good[row.case].profiles:
                of_patient.setdefault((row.site, row.patient), []).append(good[row.case].profiles[key])
        names = np.array([site for site, _ in of_patient])
        profiles = np.stack([np.mean(scans, axis=0) for scans in of_patient.values()])
        for site in sites:
            if (names == site).any():
                curves[step, channel, region, site] = profiles[names == site].mean(axis=0)
        for a, b in combinations(sites, 2):
            own = (names == a) | (names == b)
            if (names == a).any() and (names == b).any():
                distance = group_distance(
                    profiles[own], names[own] == a, edges_of(step, channel), permutations=permutations, seed=seed
                )
                found.append(SiteDistance(step, channel, region, a, b, distance))
    return found, curves


def _readings(
    rows: Sequence[SiteRow], good: Mapping[str, CaseProfile], steps: Sequence[str], permutations: int, seed: int
) -> tuple[list[Reading], tuple[str, ...]]:
    """Return how well the site, and every column of a few words, can be read off the features after each step."""
    columns = {SITE: [row.site for row in rows]}
    for name in dict.fromkeys(name for row in rows for name in row.others):
        values = [row.others.get(name, "") for row in rows]
        if 2 <= len({v for v in values if v}) <= MOST_LEVELS and not all(_is_number(v) for v in values if v):
            columns[name] = values
    found: list[Reading] = []
    notes: list[str] = []
    for name, values in columns.items():
        own = [n for n, value in enumerate(values) if value]
        for step in steps:
            names = list(dict.fromkeys(f for n in own for f in good[rows[n].case].features[step]))
            matrix = np.array(
                [[good[rows[n].case].features[step].get(f, math.nan) for f in names] for n in own], dtype=np.float64
            )
            try:
                result = classify(
                    matrix,
                    [values[n] for n in own],
                    [rows[n].patient for n in own],
                    permutations=permutations,
                    seed=seed,
                )
            except InputError as error:
                notes.append(f"{name} was not classified: {error}")
                break
            found.append(Reading(step, name, result))
    return found, tuple(notes)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _failure(one: CaseProfile) -> dict[str, object]:
    return {"case": one.case, "error": one.error, "message": one.message, "exit_code": one.exit_code}
