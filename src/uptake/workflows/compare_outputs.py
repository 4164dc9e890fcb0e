"""A comparison of methods on disk: tidy tables, Markdown and LaTeX, pictures, one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from uptake import __version__
from uptake.core.pages import Picture
from uptake.evaluation.catalogue import Metric, metric_of
from uptake.evaluation.comparison_charts import paired_dots, rank_diagram
from uptake.evaluation.intervals import mean_interval, median_interval
from uptake.evaluation.page import Page, Section, page_html
from uptake.evaluation.tables import Table, interval_text, latex, markdown, number, p_phrase, p_text, percent, signed
from uptake.io.write import require_writable, write_csv, write_json, write_text
from uptake.workflows.compare import Comparisons, PairResult
from uptake.workflows.evaluation_tables import infinite_in_words
from uptake.workflows.page_pictures import file_word, write_pictures

PICTURES = "pictures"
MOST_FIGURES = 24
"""Labels times scores that get pictures; further ones stand in the tables."""


def write_comparison(found: Comparisons, out: Path) -> list[Path]:
    """Write comparison.csv, methods.csv, ranks.csv and subgroups.csv where there are any, comparison.json, table.md,
    table.tex, report.html and pictures/ into `out`, and return their paths.
    """
    require_writable(out)
    written = []

    def keep(name: str) -> Path:
        written.append(out / name)
        return out / name

    pairs = [pair_row(one) for one in found.pairs]
    methods = [
        {"label": label, "method": method, **{k: v for k, v in asdict(one).items()}}
        for (label, _, method), one in found.summaries.items()
    ]
    ranks = [
        {"label": label, "metric": metric, "method": name, "mean_rank": rank, "p_friedman": ranking.p,
         "critical_difference": ranking.critical_difference, "patients": ranking.patients}
        for (label, metric), ranking in found.rankings.items()
        for name, rank in zip(ranking.methods, ranking.mean_ranks, strict=True)
    ]  # fmt: skip
    parts = [
        {"label": one.label, "metric": one.metric, "column": one.column, "level": one.level, "a": one.a, "b": one.b,
         "mean_a": one.comparison.mean_b, "mean_b": one.comparison.mean_a, "difference": one.comparison.difference,
         "low": one.comparison.low, "high": one.comparison.high, "n": one.comparison.n,
         "undefined": one.comparison.undefined, "patients": one.comparison.patients}
        for one in found.subgroups
    ]  # fmt: skip
    tables = (("comparison.csv", pairs), ("methods.csv", methods), ("ranks.csv", ranks), ("subgroups.csv", parts))
    for name, rows in tables:
        if rows:
            write_csv(infinite_in_words(rows), keep(name), columns=list(rows[0]))
        else:
            (out / name).unlink(missing_ok=True)
    write_json(_as_json(found, pairs, methods), keep("comparison.json"))
    shown = tables_of(found)
    write_text("\n".join(markdown(table) for table in shown), keep("table.md"))
    write_text("\n".join(latex(t, label=f"tab:comparison{n + 1}") for n, t in enumerate(shown)), keep("table.tex"))
    figures = figures_of(found)
    write_pictures(figures, out / PICTURES, kinds=("paired_", "ranks_"))
    page = Page(
        kind="Comparison of methods",
        title=" against ".join(found.methods[:4]) + (" and others" if len(found.methods) > 4 else ""),
        lead=lead(found),
        warnings=found.notes,
        sections=tuple(_sections(found, shown, figures)),
        facts=_facts(found),
    )
    write_text(page_html(page), keep("report.html"))
    return written


def lead(found: Comparisons) -> str:
    """Return the first findings in a sentence each."""
    lines = [
        f"{one.label}, {metric_of(one.metric).heading}: {one.verdict} ({one.b} − {one.a} "
        f"{signed(one.comparison.difference, metric_of(one.metric).decimals)}, "
        f"{percent(one.comparison.confidence)} interval {_interval(one, metric_of(one.metric))}, "
        f"{p_phrase(one.p_holm)} after Holm)."
        for one in found.pairs[:3]
    ]
    more = f" {len(found.pairs) - 3} more comparisons below." if len(found.pairs) > 3 else ""
    return " ".join(lines) + more if lines else "The methods share no defined score."


def pair_row(one: PairResult) -> dict[str, object]:
    """Return a comparison as one flat row: differences are b - a, `mean_a` is that of method `a`."""
    comparison, equal = one.comparison, one.equivalence
    return {
        "label": one.label,
        "metric": one.metric,
        "unit": metric_of(one.metric).unit,
        "a": one.a,
        "b": one.b,
        "mean_a": comparison.mean_b,
        "mean_b": comparison.mean_a,
        "difference": comparison.difference,
        "low": comparison.low,
        "high": comparison.high,
        "confidence": comparison.confidence,
        "interval": comparison.interval,
        "p_wilcoxon": comparison.p,
        "p_wilcoxon_holm": one.p_holm,
        "p_sign_flip": comparison.p_sign_flip,
        "p_sign_flip_holm": one.p_sign_flip_holm,
        "cohens_dz": comparison.cohens_dz,
        "rank_biserial": comparison.rank_biserial,
        "cliffs_delta": comparison.cliffs_delta,
        "b_larger": comparison.larger,
        "equal": comparison.equal,
        "a_larger": comparison.smaller,
        "margin": None if equal is None else equal.margin,
        "equivalence_test": "" if equal is None else equal.method,
        "p_equivalence": None if equal is None else equal.p,
        "equivalent": "" if equal is None else equal.equivalent,
        "n": comparison.n,
        "undefined": comparison.undefined,
        "patients": comparison.patients,
        "verdict": one.verdict,
    }


def tables_of(found: Comparisons) -> list[Table]:
    """Return the methods' means, and the table of comparisons."""
    confidence = percent(found.statistics.confidence)
    summaries = []
    for label in found.labels:
        for metric in found.metrics:
            if (label, metric) not in found.scores:
                continue
            cells = []
            for method in found.methods:
                one, decimals = found.summaries[label, metric, method], metric_of(metric).decimals
                cells.append(f"{number(one.mean, decimals)} ({interval_text(one.low, one.high, decimals)})")
            scans = {found.summaries[label, metric, method].n for method in found.methods}
            count = str(scans.pop()) if len(scans) == 1 else f"{min(scans)} to {max(scans)}"
            summaries.append((label, _title(metric), *cells, count))
    kind = f"{found.statistics.interval} bootstrap over patients"
    means = Table(
        f"Mean of each method with {confidence} interval ({kind}).",
        ("label", "score", *found.methods, "scans"),
        tuple(summaries),
        words=2,
    )
    rows = []
    for one in found.pairs:
        metric, equal = metric_of(one.metric), one.equivalence
        rows.append(
            (
                one.label,
                _title(one.metric),
                f"{one.b} − {one.a}",
                one.verdict,
                signed(one.comparison.difference, metric.decimals),
                _interval(one, metric),
                p_text(one.p_holm),
                p_text(one.p_sign_flip_holm),
                "–" if equal is None else f"{p_text(equal.p)} (±{equal.margin:g})",
                number(one.comparison.rank_biserial, 2),
                number(one.comparison.cohens_dz, 2),
                str(one.comparison.patients),
            )
        )
    headings = (
        "label", "score", "methods", "verdict", "difference", "interval", "p Wilcoxon", "p sign flip", "p equivalence",
        "r", "dz", "patients",
    )  # fmt: skip
    caption = (
        f"Mean differences per patient with {confidence} interval ({kind}, not corrected); two-sided p after "
        f"Holm's correction for {found.tests} tests; rank-biserial r and Cohen's dz; equivalence by two "
        f"one-sided tests ({found.equivalence_method})."
    )
    return [means, Table(caption, headings, tuple(rows), words=4)]


def figures_of(found: Comparisons) -> dict[str, Picture]:
    """Return file stem -> picture: paired dots, and ranks of three methods or more."""
    figures: dict[str, Picture] = {}
    statistics = found.statistics
    for (label, name), scores in list(found.scores.items())[:MOST_FIGURES]:
        if len(scores) < 2:
            continue
        metric = replace(metric_of(name), heading=_title(name, unit=False))
        stem = f"{name}_{file_word(label)}"
        options = {"draws": statistics.draws, "confidence": statistics.confidence, "seed": statistics.seed}
        columns = range(len(found.methods))
        figures[f"paired_{stem}"] = Picture(
            paired_dots(
                scores,
                found.methods,
                metric,
                medians=[median_interval(scores[:, n], **options) for n in columns],
                differences=[
                    mean_interval(scores[:, n] - scores[:, 0], method=statistics.interval, **options)
                    for n in columns[1:]
                ],
                margin=found.margins.get(name),
            ),
            f"{label}, {metric.title}: every patient by every method, joined by a line; differences to "
            f"{found.methods[0]} on the right.",
            f"Paired dots of {metric.title} of {label}",
        )
        ranking = found.rankings.get((label, name))
        if ranking is not None:
            figures[f"ranks_{stem}"] = Picture(
                rank_diagram(ranking, title=f"{label}, {metric.heading}"),
                "Methods joined by a bar do not differ in mean rank (Nemenyi).",
                f"Critical-difference diagram of {metric.heading} of {label}",
            )
    return figures


def _interval(one: PairResult, metric: Metric) -> str:
    return interval_text(one.comparison.low, one.comparison.high, metric.decimals, with_sign=True)


def _title(name: str, *, unit: bool = True) -> str:
    """Return the title of a score as it was compared: errors with a sign by their size."""
    metric = metric_of(name)
    title = metric.title if unit else metric.heading
    return f"size of {title}" if metric.better == "nearer zero" else title


def _as_json(
    found: Comparisons, pairs: Sequence[dict[str, object]], methods: Sequence[dict[str, object]]
) -> dict[str, object]:
    return {
        "version": __version__,
        "methods": found.methods,
        "labels": found.labels,
        "metrics": found.metrics,
        "tests": found.tests,
        "statistics": asdict(found.statistics),
        "comparisons": pairs,
        "summaries": methods,
        "rankings": [
            {"label": label, "metric": metric, **asdict(ranking)} for (label, metric), ranking in found.rankings.items()
        ],
        "notes": found.notes,
    }


def _sections(found: Comparisons, tables: Sequence[Table], figures: dict[str, Picture]) -> Iterable[Section]:
    words = (
        "Differences are per patient. A p-value says how surprising the data were if the methods were exchangeable; no "
        "difference shown is no equivalence, for which there is a test of its own."
    )
    yield Section("Differences", (words,), (tables[1],))
    yield Section("Methods", tables=(tables[0],))
    paired = tuple(figure for name, figure in figures.items() if name.startswith("paired_"))
    if paired:
        yield Section("Patients", figures=paired)
    ranks = tuple(figure for name, figure in figures.items() if name.startswith("ranks_"))
    if ranks:
        text = "Mean ranks over patients, 1 is best; ranks see no sizes, read them beside the differences."
        yield Section("Ranks", (text,), figures=ranks)
    if found.subgroups:
        rows = tuple(
            (one.label, _title(one.metric), f"{one.b} − {one.a}", one.column, one.level,
             signed(one.comparison.difference, metric_of(one.metric).decimals),
             interval_text(one.comparison.low, one.comparison.high, metric_of(one.metric).decimals, with_sign=True),
             str(one.comparison.n))
            for one in found.subgroups
        )  # fmt: skip
        headings = ("label", "score", "methods", "column", "level", "difference", "interval", "scans")
        yield Section("Subgroups", tables=(Table("Differences within each part of the cohort.", headings, rows, 5),))


def _facts(found: Comparisons) -> dict[str, object]:
    statistics = found.statistics
    return {
        "tests corrected for (Holm)": found.tests,
        "tests": "Wilcoxon signed rank (zeros left out) and sign flips of the mean, two-sided, over patients",
        "equivalence": f"two one-sided tests, {found.equivalence_method}",
        "margins": dict(found.margins),
        "intervals": f"{statistics.interval} bootstrap over patients, {statistics.draws} draws, seed {statistics.seed}",
        "ranks": "Friedman (Iman and Davenport's F), Nemenyi's critical difference at 0.05",
        "uptake": __version__,
    }
