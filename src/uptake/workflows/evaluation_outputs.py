"""An evaluation on disk: tidy tables, nnU-Net's summary, Markdown and LaTeX, pictures, one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from uptake import __version__
from uptake.core.pages import Picture
from uptake.evaluation.agreement import bland_altman as bland_altman_points
from uptake.evaluation.catalogue import HEADLINE, metric_of
from uptake.evaluation.charts import bland_altman, score_dots, subgroup_dots
from uptake.evaluation.nnunet import CaseCounts, nnunet_summary
from uptake.evaluation.page import Page, Section, page_html
from uptake.evaluation.statistics import Summary, column
from uptake.evaluation.tables import (
    Table,
    interval_text,
    latex,
    markdown,
    number,
    percent,
)
from uptake.io.write import require_writable, write_csv, write_json, write_text
from uptake.workflows.evaluate import Evaluation
from uptake.workflows.evaluation_results import SUBGROUP_METRICS, Results
from uptake.workflows.evaluation_tables import (
    LONG_COLUMNS,
    QUANTITY_NAMES,
    SUBGROUP_COLUMNS,
    SUMMARY_COLUMNS,
    agreement_rows,
    agreement_table,
    infinite_in_words,
    long_rows,
    lowest_table,
    patient_count,
    patients_text,
    subgroup_rows,
    subgroup_table,
    summary_rows,
    tables_of,
)
from uptake.workflows.page_pictures import file_word, write_pictures
from uptake.workflows.scoring import source_of

FAILURES = "failures.csv"
FAILURE_COLUMNS = ("case", "error", "message", "exit_code")
PICTURES = "pictures"


LEADING = ("dice", "psnr_db", "ssim")
"""Scores that the first sentence names."""

FEW_PATIENTS = 20
"""Below this the intervals cover less than they say (tests/evaluation/test_coverage.py)."""


def write_evaluation(found: Evaluation, results: Results, out: Path, *, notes: Iterable[str] = ()) -> list[Path]:
    """Write all files of an evaluation into `out` and return their paths.

    scores.csv (a row per case and label), scores_long.csv (a row per score), summary.csv, subgroups.csv and
    agreement.csv where there are any, summary.json, table.md, table.tex, report.html, pictures/, and failures.csv where
    something failed (removed where nothing did).
    """
    require_writable(out)
    warnings = _warnings(found, results, notes)
    tables = tables_of(found, results)
    figures = _figures(found, results)
    written = []

    def keep(name: str) -> Path:
        written.append(out / name)
        return out / name

    columns = list(dict.fromkeys(name for row in results.rows for name in row))
    write_csv(infinite_in_words(results.rows), keep("scores.csv"), columns=columns)
    long = list(long_rows(results.rows))
    write_csv(infinite_in_words(long), keep("scores_long.csv"), columns=LONG_COLUMNS)
    write_csv(infinite_in_words(summary_rows(found, results)), keep("summary.csv"), columns=SUMMARY_COLUMNS)
    optional = (
        ("subgroups.csv", list(subgroup_rows(found, results)), SUBGROUP_COLUMNS),
        ("agreement.csv", list(agreement_rows(results)), None),
        (FAILURES, list(found.failures), FAILURE_COLUMNS),
    )
    for name, rows, wanted in optional:
        if rows:
            write_csv(infinite_in_words(rows), keep(name), columns=wanted or list(rows[0]))
        else:
            (out / name).unlink(missing_ok=True)
    write_json(_summary_json(found, results, warnings), keep("summary.json"))
    write_text("\n".join(markdown(table) for table in tables), keep("table.md"))
    write_text("\n".join(latex(t, label=f"tab:scores{n + 1}") for n, t in enumerate(tables)), keep("table.tex"))
    write_pictures(figures, out / PICTURES, kinds=("scores_", "subgroups_", "agreement_"))
    page = Page(
        kind="Evaluation of masks" if any("empty" in row for row in results.rows) else "Evaluation of images",
        title=out.resolve().name,
        lead=lead(found, results),
        warnings=tuple(warnings),
        sections=tuple(_sections(found, results, tables, figures)),
        facts=_facts(found, results),
    )
    write_text(page_html(page), keep("report.html"))
    return written


def lead(found: Evaluation, results: Results) -> str:
    """Return the result in one or two sentences."""
    cases = len({row["case"] for row in results.rows})
    parts = []
    for label, summaries in results.summaries.items():
        for name in LEADING:
            one = summaries.get(name)
            if one is not None and one.n:
                metric = metric_of(name)
                interval = f"{percent(one.confidence)} interval {interval_text(one.low, one.high, metric.decimals)}"
                parts.append(f"{label} mean {metric.title} {number(one.mean, metric.decimals)} ({interval})")
    shown = "; ".join(parts[:4]) + (f"; and {len(parts) - 4} more" if len(parts) > 4 else "")
    begin = f"{cases} scan{'s' if cases != 1 else ''} of {patients_text(results)}"
    return f"{begin}: {shown}." if shown else f"{begin}; no score is defined."


def _summary_json(found: Evaluation, results: Results, warnings: Sequence[str]) -> dict[str, object]:
    files = {
        pair.case: (str(source_of(pair.prediction)), str(source_of(pair.reference))) for pair in found.pairing.pairs
    }
    counts: dict[str, dict[str, tuple[int, int, int, int]]] = {}
    for row in found.rows:
        if "tp_voxels" in row:
            voxels = tuple(int(row[f"{kind}_voxels"]) for kind in ("tp", "fp", "fn", "tn"))
            counts.setdefault(row["case"], {})[str(row["label_number"])] = voxels  # type: ignore[assignment]
    nnunet = nnunet_summary([CaseCounts(*files[case], labels) for case, labels in counts.items()]) if counts else {}
    names = {str(row["label_number"]): row["label"] for row in found.rows}
    ours = {
        "version": __version__,
        "settings": asdict(found.settings),
        "statistics": asdict(results.statistics),
        "labels": {"names": names, "ignore": found.table.ignore, "source": found.table.source},
        "cases": len({row["case"] for row in found.rows}),
        "patients": patient_count(results),
        "missing": found.pairing.missing,
        "extra": found.pairing.extra,
        "failures": [dict(failure) for failure in found.failures],
        "scores": {label: _plain(summaries) for label, summaries in results.summaries.items()},
        "other_rules": {
            label: {rule: _plain(summaries) for rule, summaries in rules.items()}
            for label, rules in results.other_rules.items()
            if rules
        },
        "agreement": {
            label: {f"{quantity}, {scale}": one.row() for (quantity, scale), one in agreements.items()}
            for label, agreements in results.agreement.items()
            if agreements
        },
        "notes": list(warnings),
    }
    return {**nnunet, "uptake": ours}


def _plain(summaries: Mapping[str, Summary]) -> dict[str, dict[str, object]]:
    return {name: {k: v for k, v in asdict(one).items() if k != "metric"} for name, one in summaries.items()}


def _figures(found: Evaluation, results: Results) -> dict[str, Picture]:
    """Return file stem -> picture."""
    figures = {}
    for name in HEADLINE:
        labels = [label for label in results.summaries if name in results.summaries[label]]
        labels = [label for label in labels if results.summaries[label][name].n]
        if not labels:
            continue
        own = {label: [row for row in results.rows if row["label"] == label] for label in labels}
        values = {label: column([row for row in own[label] if name in row], name) for label in labels}
        title = metric_of(name).title
        figures[f"scores_{name}"] = Picture(
            score_dots(values, {label: results.summaries[label][name] for label in labels}, metric_of(name)),
            f"{title} of every scan; diamond and bar: mean and interval.",
            f"{title} as dots by label",
        )
    for label, subgroups in results.subgroups.items():
        for name in SUBGROUP_METRICS[:1]:
            if any(one.summary.metric == name for one in subgroups):
                figures[f"subgroups_{name}_{file_word(label)}"] = Picture(
                    subgroup_dots(subgroups, metric_of(name), results.summaries[label][name]),
                    f"{metric_of(name).title} of {label} by subgroup.",
                    f"Means and intervals of {metric_of(name).title} by subgroup",
                )
    for label, agreements in results.agreement.items():
        rows = [row for row in results.rows if row["label"] == label and "prediction_mtv_ml" in row]
        for (quantity, scale), one in agreements.items():
            if scale != "absolute" or not one.n:
                continue
            title, unit = QUANTITY_NAMES[quantity]
            points = bland_altman_points(column(rows, f"prediction_{quantity}"), column(rows, f"reference_{quantity}"))
            figures[f"agreement_{quantity}_{file_word(label)}"] = Picture(
                bland_altman(*points, one, quantity=f"{label}: {title}", unit=unit),
                f"{title} of {label}: difference against mean of prediction and reference (Bland and Altman).",
                f"Bland-Altman picture of {title}",
            )
    return figures


def _sections(
    found: Evaluation, results: Results, tables: Sequence[Table], figures: Mapping[str, Picture]
) -> Iterable[Section]:
    yield Section("Scores", tables=tuple(tables[:1]), figures=_named(figures, "scores_"))
    if len(tables) > 1:
        words = (
            "A lesion-free reference has no Dice to speak of. Under nan it is left out and only false-positive volume "
            "speaks of it; under one an empty prediction counts 1; under zero any prediction counts 0 and an empty one "
            "is left out. State the rule with every mean."
        )
        yield Section("Other rules for empty references", (words,), tuple(tables[1:]))
    if any(results.agreement.values()):
        words = "Prediction minus reference. Limits of agreement hold 95 % of differences if these are normal."
        yield Section("Agreement of SUV numbers", (words,), (agreement_table(results),), _named(figures, "agreement_"))
    if any(results.subgroups.values()):
        yield Section("Subgroups", tables=(subgroup_table(results),), figures=_named(figures, "subgroups_"))
    lowest = lowest_table(results)
    if lowest is not None:
        yield Section("Lowest Dice", ("Look at these scans first.",), (lowest,))
    if found.failures:
        rows = tuple((str(f["case"]), str(f["error"]), str(f["message"])) for f in found.failures)
        yield Section("Not scored", tables=(Table("", ("case", "why", "message"), rows, words=3),))


def _named(figures: Mapping[str, Picture], begin: str) -> tuple[Picture, ...]:
    return tuple(figure for name, figure in figures.items() if name.startswith(begin))


def _warnings(found: Evaluation, results: Results, notes: Iterable[str]) -> list[str]:
    warnings = []
    missing, extra, total = len(found.pairing.missing), len(found.pairing.extra), len(found.pairing.pairs)
    if missing:
        warnings.append(f"{missing} of {missing + total} references have no prediction and are in no mean below.")
    if extra:
        warnings.append(f"{extra} predictions have no reference and were not scored.")
    failed = len(found.failures) - missing - extra - len(found.pairing.without_pet)
    if failed:
        warnings.append(f"{failed} cases could not be scored and are in no mean below; {FAILURES} says why.")
    if found.pairing.without_pet:
        warnings.append(f"{len(found.pairing.without_pet)} cases have no PET; their SUV numbers are undefined.")
    patients = patient_count(results)
    if 1 < patients < FEW_PATIENTS:
        warnings.append(
            f"{patients} patients are few: intervals from fewer than {FEW_PATIENTS} cover less than they say."
        )
    scans = len({row["case"] for row in results.rows})
    if any(results.agreement.values()) and patients < scans:
        warnings.append("Several scans of one patient count as independent in bias, limits of agreement and ICC.")
    return [*warnings, *found.notes, *notes]


def _facts(found: Evaluation, results: Results) -> dict[str, object]:
    settings = found.settings
    interval = (
        f"{results.statistics.interval} bootstrap over patients, {results.statistics.draws} draws, "
        f"seed {results.statistics.seed}"
    )
    if not any("empty" in row for row in results.rows):
        body = "largest piece of the reference above SUV 0.1; SSIM with Gaussian windows, range of the reference"
        return {"organs": found.table.source, "body": body, "interval of means": interval, "uptake": __version__}
    return {
        "labels": found.table.source,
        "rule for empty references": settings.empty,
        "distances to an empty mask": settings.empty_distance,
        "lesions": f"components of {settings.connectivity}-connectivity; found from IoU {settings.min_iou:g}",
        "interval of means": interval,
        "masks on other grids": "resampled to the nearest" if settings.resample else "refused",
        "uptake": __version__,
    }
