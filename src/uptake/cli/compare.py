"""uptake compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uptake.cli.console import progress, say, table
from uptake.cli.options import OptionalOut


def compare(
    *methods: Path,
    out: OptionalOut = None,
    reference: Path | None = None,
    names: str | None = None,
    metrics: str | None = None,
    labels: str | None = None,
    label_names: str | None = None,
    margin: Annotated[tuple[str, ...], Parameter(name="--margin")] = (),
    equivalence: Literal["t", "wilcoxon", "bootstrap"] = "t",
    common: bool = False,
    subgroups: Path | None = None,
    interval: Literal["percentile", "bca", "studentised"] = "studentised",
    confidence: float = 0.95,
    empty: Literal["nan", "one", "zero"] = "nan",
    resample: bool = False,
    jobs: Annotated[int | None, Parameter(name=["--jobs", "-j"])] = None,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False,
) -> None:
    """Compare methods on the same scans: paired differences with intervals, tests, effect sizes, equivalence, ranks.

    Parameters
    ----------
    methods
        Two or more: folders that `uptake evaluate` or `uptake train` wrote, CSV files of scores, or, with --reference,
        masks.
    out
        Folder for tables, pictures and report.html.
    reference
        References of the masks, as for `uptake evaluate`.
    names
        Of the methods, with commas; by default what tells their paths apart.
    metrics
        Scores, with commas; by default Dice, false-positive and false-negative volume.
    labels
        Labels, with commas; by default all.
    label_names
        With --reference: names of the labels, as for `uptake evaluate --labels`.
    margin
        Equivalence margin of a score, e.g. dice=0.02; may be repeated. Shares have 0.02 by default.
    equivalence
        Kind of the two one-sided tests.
    common
        Compare on the scans that all methods have, which are listed, instead of refusing methods with different scans.
    subgroups
        CSV file with a column case or patient; every other column divides the cohort.
    interval
        Bootstrap interval of means and differences, over patients.
    confidence
        Of the intervals.
    empty
        With --reference: rule for empty references.
    resample
        With --reference: bring predictions on another grid to the reference's.
    jobs
        With --reference: processes.
    quiet
        Print nothing but errors.
    """
    if out is not None:
        from uptake.io.write import require_writable

        require_writable(out)
    from uptake.workflows.compare import METRICS, compare_methods, parse_margins
    from uptake.workflows.evaluation_results import StatisticsSettings
    from uptake.workflows.label_table import find_labels
    from uptake.workflows.method_scores import read_methods
    from uptake.workflows.scoring import EvaluateSettings

    statistics = StatisticsSettings(interval, confidence)
    statistics.check()
    margins = parse_margins(margin)
    wanted = _listed(metrics)
    settings = EvaluateSettings(empty=empty, metrics=tuple(wanted or METRICS), resample=resample)
    if reference is not None:
        settings.check()
    named = None
    if reference is not None and label_names is not None:
        named = find_labels(label_names, methods[0], reference)
    with progress("scoring", quiet=quiet) as told:
        found = read_methods(
            methods,
            names=_listed(names),
            reference=reference,
            table=named,
            settings=settings,
            out=out,
            jobs=jobs,
            on_case=told,
        )
    result = compare_methods(
        found,
        metrics=wanted,
        labels=_listed(labels),
        common=common,
        margins=margins,
        equivalence_method=equivalence,
        subgroups=subgroups,
        statistics=statistics,
    )
    written: list[Path] = []
    if out is not None:
        from uptake.workflows.compare_outputs import write_comparison

        written = write_comparison(result, out)
    if quiet:
        return
    from uptake.workflows.compare_outputs import tables_of

    for shown in tables_of(result):
        say(f"\n  {shown.caption}")
        rows = [dict(zip(shown.headings, cells, strict=True)) for cells in shown.rows]
        table(rows, {heading: heading for heading in shown.headings})
    for (label, metric), ranking in result.rankings.items():
        ranks = ", ".join(f"{n} {r:.2f}" for n, r in zip(ranking.methods, ranking.mean_ranks, strict=True))
        say(
            f"\n  {label}, {metric}: mean ranks {ranks}; Friedman p = {ranking.p:.3g}, critical difference "
            f"{ranking.critical_difference:.2f}"
        )
    for note in result.notes:
        say(f"  ! {note}")
    for path in written:
        if path.name in ("report.html", "comparison.csv"):
            say(f"  {path}")


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
