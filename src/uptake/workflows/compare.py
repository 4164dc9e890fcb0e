"""Two or more methods on the same scans: tables of scores in, differences with intervals, tests and ranks out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.catalogue import metric_of
from uptake.evaluation.comparison import Comparison, compare_paired, patient_differences, patient_means
from uptake.evaluation.equivalence import Equivalence, EquivalenceMethod, equivalence
from uptake.evaluation.ranking import Ranking, rank_methods
from uptake.evaluation.significance import holm
from uptake.evaluation.statistics import NOT_STATED, Summary, column, summarise
from uptake.workflows.evaluation_results import Groups, StatisticsSettings, read_groups
from uptake.workflows.method_scores import Method, listed, numeric_columns, require_comparable, shared_keys

METRICS = ("dice", "fp_volume_ml", "fn_volume_ml")
"""Compared where nobody says otherwise: autoPET's three. Every further score costs all of them power (Holm)."""

IMAGE_METRICS = ("psnr_db", "ssim", "nrmse", "suv_bias_percent")
"""The same for tables of images."""

SHARE_MARGIN = 0.02
"""Equivalence margin of scores from 0 to 1 where none is given; those in mm or mL have none."""

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class PairResult:
    """Method `b` against method `a` by one score of one label; differences are b - a.

    Attributes
    ----------
    label, metric, a, b : str
    comparison : Comparison
    p_holm, p_sign_flip_holm : float
        Corrected for all tests of the table.
    equivalence : Equivalence or None
        None where there is no margin.
    verdict : str
        In words.
    """

    label: str
    metric: str
    a: str
    b: str
    comparison: Comparison
    p_holm: float
    p_sign_flip_holm: float
    equivalence: Equivalence | None
    verdict: str


@dataclass(frozen=True)
class SubgroupResult:
    """The difference b - a within a part of the cohort; without a test, for no question was asked about each part."""

    label: str
    metric: str
    column: str
    level: str
    a: str
    b: str
    comparison: Comparison


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Everything said about the methods.

    Attributes
    ----------
    methods : tuple of str
    labels, metrics : tuple of str
    pairs : tuple of PairResult
    summaries : mapping
        (label, metric, method) -> Summary.
    rankings : mapping
        (label, metric) -> Ranking, with three methods or more and a score that can be good or bad.
    scores : mapping
        (label, metric) -> array (patients, methods), patients with all scores only.
    subgroups : tuple of SubgroupResult
    tests : int
        By which p-values were corrected.
    statistics : StatisticsSettings
    margins : mapping of str to float
    equivalence_method : str
    notes : tuple of str
    """

    methods: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    pairs: tuple[PairResult, ...]
    summaries: Mapping[tuple[str, str, str], Summary]
    rankings: Mapping[tuple[str, str], Ranking]
    scores: Mapping[tuple[str, str], npt.NDArray[np.float64]]
    subgroups: tuple[SubgroupResult, ...]
    tests: int
    statistics: StatisticsSettings
    margins: Mapping[str, float]
    equivalence_method: str
    notes: tuple[str, ...] = field(default_factory=tuple)


def compare_methods(
    methods: Sequence[Method],
    *,
    metrics: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    common: bool = False,
    margins: Mapping[str, float] | None = None,
    equivalence_method: EquivalenceMethod = "t",
    subgroups: Path | None = None,
    statistics: StatisticsSettings | None = None,
) -> Comparisons:
    """Return every pair of methods compared on the same scans, and the ranks of three or more.

    Parameters
    ----------
    methods : sequence of Method
    metrics : sequence of str, optional
        Scores; `METRICS` by default, as far as all methods have them. Errors with a sign are compared by their size.
    labels : sequence of str, optional
        All by default.
    common : bool
        Compare on the scans that all methods share instead of refusing methods with different scans.
    margins : mapping of str to float, optional
        Score -> equivalence margin; scores from 0 to 1 have `SHARE_MARGIN` by default.
    equivalence_method : {"t", "wilcoxon", "bootstrap"}
    subgroups : Path, optional
        See `evaluation_results.read_groups`.
    statistics : StatisticsSettings, optional

    Raises
    ------
    InputError
        If the methods were scored on different scans, by different rules or against different references, or lack a
        score or label.
    """
    statistics = statistics or StatisticsSettings()
    keys, notes = shared_keys(methods, common=common)
    require_comparable(methods, keys)
    chosen_labels = _chosen(labels, list(dict.fromkeys(label for _, label in keys)), "label")
    available = [m for m in numeric_columns(methods[0]) if all(m in numeric_columns(x) for x in methods)]
    chosen = (
        _chosen(metrics, available, "score") if metrics else [m for m in (*METRICS, *IMAGE_METRICS) if m in available]
    )
    if not chosen:
        names = ", ".join((*METRICS, *IMAGE_METRICS))
        raise InputError(f"the methods share none of the scores {names}; name one: {listed(available)}.")
    groups = Groups()
    if subgroups is not None:
        first = methods[0].rows
        groups = read_groups(subgroups, {case: str(first[case, label]["patient"]) for case, label in keys})
        notes += groups.notes
    margins = {**{m: SHARE_MARGIN for m in chosen if metric_of(m).bounds == (0.0, 1.0)}, **(margins or {})}
    found: list[PairResult] = []
    parts: list[SubgroupResult] = []
    summaries, rankings, scores = {}, {}, {}
    for label in chosen_labels:
        own = [key for key in keys if key[1] == label]
        patients = [groups.patients.get(key[0], str(methods[0].rows[key]["patient"])) for key in own]
        for name in chosen:
            values = np.stack([_values(method, own, name) for method in methods], axis=1)
            values[~np.isfinite(values)] = math.nan
            if name in IMAGE_METRICS and np.isnan(values).all():
                continue  # of the body alone, or of organs alone
            for n, method in enumerate(methods):
                rows = [{name: v, "patient": p} for v, p in zip(values[:, n], patients, strict=True)]
                summaries[label, name, method.name] = summarise(
                    rows, metrics=[name], patient="patient", **vars(statistics)
                )[name]
            means = patient_means(values, patients)
            scores[label, name] = means[~np.isnan(means).any(axis=1)]
            if len(methods) > 2 and metric_of(name).better != "neither" and len(scores[label, name]):
                higher = metric_of(name).better == "higher"
                rankings[label, name] = rank_methods(means, [m.name for m in methods], higher_is_better=higher)
            for a, b in combinations(range(len(methods)), 2):
                if not np.isfinite(values[:, [a, b]]).all(axis=1).any():
                    notes += (f"{label}, {name}: {methods[a].name} and {methods[b].name} share no defined score.",)
                    continue
                where = label, name, methods[a].name, methods[b].name
                found.append(_pair(where, values[:, a], values[:, b], patients, margins.get(name), equivalence_method,
                                   statistics))  # fmt: skip
                parts += _parts(where, own, values[:, a], values[:, b], patients, groups, statistics)
    pairs = _corrected(found)
    return Comparisons(
        methods=tuple(method.name for method in methods),
        labels=tuple(chosen_labels),
        metrics=tuple(chosen),
        pairs=pairs,
        summaries=summaries,
        rankings=rankings,
        scores=scores,
        subgroups=tuple(parts),
        tests=len(pairs),
        statistics=statistics,
        margins={name: margins[name] for name in chosen if name in margins},
        equivalence_method=equivalence_method,
        notes=notes,
    )


def parse_margins(texts: Sequence[str]) -> dict[str, float]:
    """Return score -> margin from texts like "dice=0.02".

    Raises
    ------
    UsageError
        If one is no such text.
    """
    margins = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            margins[name.strip()] = float(value)
        except ValueError:
            margins[name.strip()] = math.nan
        if not name.strip() or not (math.isfinite(margins[name.strip()]) and margins[name.strip()] > 0):
            raise UsageError(f"{text!r} is no equivalence margin; write SCORE=NUMBER, e.g. dice=0.02.")
    return margins


def _chosen(asked: Sequence[str] | None, available: Sequence[str], what: str) -> list[str]:
    unknown = [name for name in asked or () if name not in available]
    if unknown:
        raise InputError(f"no {what} {unknown[0]!r} in all tables; there are {listed(available, most=30)}.")
    return list(dict.fromkeys(asked)) if asked else list(available)


def _values(method: Method, keys: Sequence[tuple[str, str]], name: str) -> npt.NDArray[np.float64]:
    values = column([method.rows[key] for key in keys], name)
    return np.abs(values) if metric_of(name).better == "nearer zero" else values


def _pair(
    where: tuple[str, str, str, str],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    patients: Sequence[str],
    margin: float | None,
    method: EquivalenceMethod,
    statistics: StatisticsSettings,
) -> PairResult:
    comparison = compare_paired(b, a, patients=patients, **vars(statistics))
    equivalent = None
    if margin is not None:
        differences = patient_differences(b, a, patients=patients)
        equivalent = equivalence(differences, margin, method=method, draws=statistics.draws, seed=statistics.seed)
    return PairResult(*where, comparison, math.nan, math.nan, equivalent, "")


def _parts(
    where: tuple[str, str, str, str],
    keys: Sequence[tuple[str, str]],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    patients: Sequence[str],
    groups: Groups,
    statistics: StatisticsSettings,
) -> list[SubgroupResult]:
    found = []
    label, name, first, second = where
    for heading, levels in groups.values.items():
        level_of = [levels.get(case) or NOT_STATED for case, _ in keys]
        for level in dict.fromkeys(sorted(level_of)):
            own = [n for n, other in enumerate(level_of) if other == level]
            if np.isfinite(a[own] + b[own]).any():
                one = compare_paired(b[own], a[own], patients=[patients[n] for n in own], **vars(statistics))
                found.append(SubgroupResult(label, name, heading, level, first, second, one))
    return found


def _corrected(found: Sequence[PairResult]) -> tuple[PairResult, ...]:
    """Return the pairs with p-values corrected for all tests, and what they say in words."""
    ranks = holm([one.comparison.p for one in found])
    means = holm([one.comparison.p_sign_flip for one in found])
    result = []
    for one, p, p_mean in zip(found, ranks, means, strict=True):
        words = verdict(one, float(p))
        result.append(
            PairResult(
                one.label, one.metric, one.a, one.b, one.comparison, float(p), float(p_mean), one.equivalence, words
            )
        )
    return tuple(result)


def verdict(one: PairResult, p_holm: float) -> str:
    """Return what a comparison shows, in words: by Wilcoxon's test after Holm, and by the equivalence test."""
    comparison, better = one.comparison, metric_of(one.metric).better
    small = one.equivalence is not None and one.equivalence.equivalent
    within = f" within {one.equivalence.margin:g}" if one.equivalence is not None else ""
    if comparison.equal == comparison.patients:
        return "identical"
    if not p_holm < SIGNIFICANT:
        return f"equivalent{within}" if small else "no difference shown"
    if comparison.difference * comparison.rank_biserial <= 0:
        return "differ; mean and ranks point apart"
    winner = one.b if (comparison.difference > 0) == (better == "higher") else one.a
    words = f"{winner} better" if better != "neither" else f"{one.b if comparison.difference > 0 else one.a} larger"
    return f"{words}, but equivalent{within}" if small else words
