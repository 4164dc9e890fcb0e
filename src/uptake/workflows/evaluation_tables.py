"""The tables of an evaluation: tidy rows for CSV files, and headline tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from uptake.evaluation.catalogue import HEADLINE, metric_of
from uptake.evaluation.statistics import Summary
from uptake.evaluation.tables import SUMMARY_HEADINGS, Table, interval_text, number, percent, summary_cells
from uptake.workflows.evaluate import Evaluation
from uptake.workflows.evaluation_results import NO_SCORES, Results

LABELS_IN_A_LONG_TABLE = 2
"""Up to so many labels the headline table has a line per score; beyond, a line per label."""

WIDE_METRICS = (
    "dice", "surface_dice_2mm", "hd95_mm", "fp_volume_ml", "fn_volume_ml", "psnr_db", "ssim", "nrmse", "suv_mean",
    "suv_bias", "suv_bias_percent", "cov", "reference_cov",
)  # fmt: skip

WORST = 5
"""Cases that the report names as lowest."""

QUANTITY_NAMES = {
    "mtv_ml": ("MTV", "mL"), "tlg_g": ("TLG", "g"), "suv_max": ("SUVmax", "g/mL"), "suv_mean": ("SUVmean", "g/mL"),
    "suv_peak": ("SUVpeak", "g/mL"),
}  # fmt: skip


LONG_COLUMNS = ("case", "patient", "label", "metric", "unit", "value", "empty")
SUMMARY_COLUMNS = (
    "label", "metric", "unit", "rule", "mean", "median", "low", "high", "confidence", "interval", "n", "undefined",
    "patients",
)  # fmt: skip
SUBGROUP_COLUMNS = ("column", "level", *SUMMARY_COLUMNS)


def long_rows(rows: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, object]]:
    """Yield a row per case, label and score."""
    for row in rows:
        for name, value in row.items():
            if name in NO_SCORES or not isinstance(value, int | float):
                continue
            key = {"case": row["case"], "patient": row["patient"], "label": row["label"]}
            yield {**key, "metric": name, "unit": metric_of(name).unit, "value": value, "empty": row.get("empty", "")}


def summary_rows(found: Evaluation, results: Results) -> Iterable[dict[str, object]]:
    """Yield a row per label, score and rule for the empty."""
    for label, summaries in results.summaries.items():
        for one in summaries.values():
            yield _summary_row(label, one, found.settings.empty)
        for rule, others in results.other_rules[label].items():
            for one in others.values():
                yield _summary_row(label, one, rule)


def subgroup_rows(found: Evaluation, results: Results) -> Iterable[dict[str, object]]:
    """Yield a row per label, subgroup and score."""
    for label, subgroups in results.subgroups.items():
        for one in subgroups:
            yield {"column": one.column, "level": one.level, **_summary_row(label, one.summary, found.settings.empty)}


def agreement_rows(results: Results) -> Iterable[dict[str, object]]:
    """Yield a row per label, quantity and scale."""
    for label, agreements in results.agreement.items():
        for (quantity, _), one in agreements.items():
            yield {"label": label, "quantity": quantity, **one.row()}


def _summary_row(label: str, one: Summary, rule: str) -> dict[str, object]:
    values = asdict(one)
    return {"label": label, "metric": values.pop("metric"), "unit": metric_of(one.metric).unit, "rule": rule, **values}


def infinite_in_words(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with infinities as "inf": an empty field means undefined, which they are not."""
    return [
        {k: ("inf" if v > 0 else "-inf") if isinstance(v, float) and math.isinf(v) else v for k, v in row.items()}
        for row in rows
    ]


def tables_of(found: Evaluation, results: Results) -> list[Table]:
    """Return the headline scores, and the scores under the other rules where they differ."""
    labels = list(results.summaries)
    tables = []
    how = (
        f"{len({row['case'] for row in results.rows})} scans of {patients_text(results)}; mean with "
        f"{percent(results.statistics.confidence)} interval ({results.statistics.interval} bootstrap over patients, "
        f"{results.statistics.draws:,} draws)"
    )
    masks = any("empty" in row for row in results.rows)
    how += f"; rule for empty references: {found.settings.empty}." if masks else "."
    if len(labels) <= LABELS_IN_A_LONG_TABLE:
        lines = [
            (label, metric_of(name).title, *summary_cells(results.summaries[label][name], metric_of(name)))
            for label in labels
            for name in HEADLINE
            if name in results.summaries[label]
        ]
        tables.append(Table(how, ("label", "score", *SUMMARY_HEADINGS), tuple(lines), words=2))
    else:
        names = [name for name in WIDE_METRICS if any(name in results.summaries[label] for label in labels)]
        lines = [
            (label, *(_cell(results.summaries[label], name) for name in names), _scans(results.summaries[label]))
            for label in labels
        ]
        tables.append(Table(how, ("label", *(metric_of(name).title for name in names), "scans"), tuple(lines)))
    rules = [
        (label, metric_of(name).title, rule, *summary_cells(one, metric_of(name)))
        for label in labels
        for name in HEADLINE
        for rule, one in (
            (found.settings.empty, results.summaries[label].get(name)),
            *((rule, found_.get(name)) for rule, found_ in results.other_rules[label].items()),
        )
        if one is not None and any(name in other for other in results.other_rules[label].values())
    ]
    if rules:
        caption = "The same scores under each rule for empty references: nan (official autoPET), one, zero (nnU-Net)."
        tables.append(Table(caption, ("label", "score", "rule", *SUMMARY_HEADINGS), tuple(rules), words=3))
    return tables


def _cell(summaries: Mapping[str, Summary], name: str) -> str:
    one = summaries.get(name)
    if one is None or not one.n:
        return "–"
    decimals = metric_of(name).decimals
    return f"{number(one.mean, decimals)} ({interval_text(one.low, one.high, decimals)})"


def _scans(summaries: Mapping[str, Summary]) -> str:
    one = summaries.get("dice") or next(iter(summaries.values()))
    # Where masks are compared, a lesion-free scan has no Dice; an organ that a scan lacks has no numbers.
    return str(one.n) + (f" + {one.undefined} undefined" if one.undefined else "")


def agreement_table(results: Results) -> Table:
    """Return bias, limits of agreement and coefficients of every label."""
    rows = []
    for label, agreements in results.agreement.items():
        for (quantity, scale), one in agreements.items():
            title, unit = QUANTITY_NAMES[quantity]
            rows.append(
                (
                    label,
                    f"{title} ({unit})" if scale == "absolute" else f"{title}, ratio",
                    number(one.bias, 2),
                    interval_text(one.bias_low, one.bias_high, 2),
                    interval_text(one.lower, one.upper, 2),
                    number(one.icc_a1.value),
                    interval_text(one.icc_a1.low, one.icc_a1.high),
                    number(one.ccc),
                    str(one.n),
                    str(one.undefined),
                )
            )
    headings = (
        "label", "quantity", "bias", "95 % interval", "limits of agreement", "ICC(A,1)", "95 % interval", "CCC",
        "scans", "left out",
    )  # fmt: skip
    return Table("Bias, limits of agreement and agreement coefficients.", headings, tuple(rows), words=2)


def subgroup_table(results: Results) -> Table:
    """Return the scores of every subgroup."""
    rows = tuple(
        (label, one.column, one.level, metric_of(one.summary.metric).title,
         *summary_cells(one.summary, metric_of(one.summary.metric)))
        for label, subgroups in results.subgroups.items()
        for one in subgroups
    )  # fmt: skip
    return Table("Scores within each part of the cohort.", ("label", "column", "level", "score", *SUMMARY_HEADINGS),
                 rows, words=4)  # fmt: skip


def lowest_table(results: Results) -> Table | None:
    """Return the scans with the lowest Dice; None where there are hardly more than those."""
    scored = [row for row in results.rows if isinstance(row.get("dice"), float) and math.isfinite(row["dice"])]
    if len(scored) <= WORST:
        return None
    lowest = sorted(scored, key=lambda row: (row["dice"], row["case"]))[:WORST]
    rows = tuple(
        (str(row["case"]), str(row["label"]), number(row["dice"]), number(row["reference_ml"], 1),
         number(row["prediction_ml"], 1))
        for row in lowest
        if "reference_ml" in row and "prediction_ml" in row
    )  # fmt: skip
    return Table("", ("case", "label", "Dice", "reference mL", "predicted mL"), rows, words=2) if rows else None


def patient_count(results: Results) -> int:
    """Return how many patients have a row."""
    return len({row["patient"] for row in results.rows})


def patients_text(results: Results) -> str:
    """Return "1 patient" or "12 patients"."""
    count = patient_count(results)
    return f"{count} patient{'s' if count != 1 else ''}"
