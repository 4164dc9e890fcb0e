"""A site audit on disk: tidy tables, Markdown and LaTeX, pictures, one HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from uptake import __version__
from uptake.core.pages import Picture
from uptake.evaluation.page import Page, Section, page_html
from uptake.evaluation.site_charts import readings_chart, site_curves
from uptake.evaluation.tables import Table, interval_text, latex, markdown, number, p_phrase, p_text
from uptake.io.write import require_writable, write_csv, write_json, write_text
from uptake.workflows.audit import Audit
from uptake.workflows.audit_cases import BEFORE, BODY, CHANNELS, GAUSSIAN, edges_of, unit_of
from uptake.workflows.audit_sites import SITE
from uptake.workflows.page_pictures import write_pictures

FAILURES = "failures.csv"
PICTURES = "pictures"
CONFOUNDED = 0.3
"""Association with the site from which a column is pointed out, where its p is below 0.05."""


def write_audit(found: Audit, out: Path) -> list[Path]:
    """Write distances.csv, readings.csv, features.csv, confounds.csv, audit.json, table.md, table.tex, report.html and
    pictures/ into `out`, failures.csv where a scan could not be read, and return the paths.
    """
    require_writable(out)
    written = []

    def keep(name: str) -> Path:
        written.append(out / name)
        return out / name

    distances, readings, confounds = (
        list(_distance_rows(found)),
        list(_reading_rows(found)),
        list(_confound_rows(found)),
    )
    tables = (
        ("distances.csv", distances),
        ("readings.csv", readings),
        ("features.csv", list(_feature_rows(found))),
        ("confounds.csv", confounds),
        (FAILURES, list(found.failures)),
    )
    for name, rows in tables:
        if rows:
            write_csv(rows, keep(name), columns=list(dict.fromkeys(key for row in rows for key in row)))
        else:
            (out / name).unlink(missing_ok=True)
    warnings = warnings_of(found)
    content = {
        "version": __version__,
        "sites": {site: len({r.patient for r in found.rows if r.site == site}) for site in found.sites},
        "scans": len(found.rows),
        "steps": found.steps,
        "target_fwhm_mm": found.target_mm,
        "permutations": found.permutations,
        "seed": found.seed,
        "distances": distances,
        "readings": [
            {**row, "confusion": one.result.confusion} for row, one in zip(readings, found.readings, strict=True)
        ],
        "confounds": confounds,
        "failures": found.failures,
        "notes": warnings,
    }
    write_json(content, keep("audit.json"))
    shown = tables_of(found)
    write_text("\n".join(markdown(table) for table in shown), keep("table.md"))
    write_text("\n".join(latex(t, label=f"tab:audit{n + 1}") for n, t in enumerate(shown)), keep("table.tex"))
    figures = _figures(found)
    write_pictures(figures, out / PICTURES, kinds=("values_",))
    page = Page(
        kind="Site audit",
        title=out.resolve().name,
        lead=lead(found),
        warnings=tuple(warnings),
        sections=tuple(_sections(found, shown, figures)),
        facts=_facts(found),
    )
    write_text(page_html(page), keep("report.html"))
    return written


def lead(found: Audit) -> str:
    """Return what a classifier reads off the images, before and after."""
    parts = []
    for one in found.readings:
        if one.column == SITE:
            result = one.result
            parts.append(
                f"{one.step}: {number(result.balanced_accuracy, 2)} "
                f"({interval_text(result.low, result.high, 2)}, {p_phrase(result.p)})"
            )
    sites = f"{len(found.rows)} scans of {len(found.sites)} sites"
    if not parts:
        return f"{sites}; too few patients for a classifier."
    chance = number(1.0 / len(found.sites), 2)
    return f"{sites}. Balanced accuracy of a linear site classifier, chance {chance}: {'; '.join(parts)}."


def warnings_of(found: Audit) -> list[str]:
    """Return what to know before reading a number: confounds first."""
    warnings = []
    for name, one in found.confounds.items():
        if one.value >= CONFOUNDED and one.p < 0.05:
            warnings.append(
                f"site and {name} go together ({one.kind} {number(one.value, 2)}, {p_phrase(one.p)}): a difference "
                f"between sites may be one of {name}. Match the patients, or audit within each {name}."
            )
    if not found.confounds:
        warnings.append(
            "The table of sites has no other columns: confounds (tracer, sex, weight, scanner) are unknown."
        )
    if found.failures:
        warnings.append(f"{len(found.failures)} scans could not be read and are left out; {FAILURES} says why.")
    return [*warnings, *found.notes]


def tables_of(found: Audit) -> list[Table]:
    """Return the tables of readings, of distances in the body, of distances in organs, and of confounds."""
    readings = tuple(
        (
            one.column,
            one.step,
            number(one.result.balanced_accuracy, 2),
            interval_text(one.result.low, one.result.high, 2),
            number(one.result.chance, 2),
            p_text(one.result.p),
            ", ".join(f"{c} {n}" for c, n in zip(one.result.classes, one.result.patients, strict=True)),
        )
        for one in found.readings
    )
    tables = [
        Table(
            f"What a linear classifier reads off held-out patients: balanced accuracy with 95 % interval, p of "
            f"{found.permutations} permutations.",
            ("column", "images", "balanced accuracy", "interval", "chance", "p", "patients"),
            readings,
            words=2,
        )
    ]
    for in_body in (True, False):
        rows = tuple(
            (
                one.channel.upper(),
                *(() if in_body else (one.region,)),
                f"{one.a} – {one.b}",
                one.step,
                f"{number(one.distance.w1, 3)} {unit_of(one.step, one.channel)}".strip(),
                number(one.distance.over_mean, 3) if unit_of(one.step, one.channel) == "g/mL" else "–",
                number(one.distance.over_sd, 3),
                p_text(one.distance.p),
            )
            for one in sorted(found.distances, key=lambda one: (one.channel != "pet", one.region, one.a, one.b))
            # Smoothing the PET leaves the CT as it is.
            if (one.region == BODY) == in_body and (one.channel, one.step) != ("ct", GAUSSIAN)
        )
        if rows:
            headings = (
                "channel",
                *(() if in_body else ("region",)),
                "sites",
                "images",
                "W1",
                "W1 / mean",
                "W1 / SD",
                "p",
            )
            caption = (
                f"Wasserstein-1 distance of the sites' values in {'the body' if in_body else 'organs'}, patients "
                f"weighing the same; p of {found.permutations} permutations, uncorrected."
            )
            tables.append(Table(caption, headings, rows, words=3 if in_body else 4))
    if found.confounds:
        lines = tuple(
            (name, one.kind, number(one.value, 2), p_text(one.p), str(one.patients))
            for name, one in found.confounds.items()
        )
        caption = "How the other columns go with the site (0: not at all, 1: one says the other)."
        tables.append(Table(caption, ("column", "measure", "value", "p", "patients"), lines, words=2))
    return tables


def _distance_rows(found: Audit) -> Iterable[dict[str, object]]:
    for one in found.distances:
        distance = one.distance
        unit = unit_of(one.step, one.channel)
        yield {
            "step": one.step,
            "channel": one.channel,
            "region": one.region,
            "site_a": one.a,
            "site_b": one.b,
            "w1": distance.w1,
            "unit": unit,
            # The mean of HU, or of values without unit, is near zero for no reason that matters.
            "w1_over_mean": distance.over_mean if unit == "g/mL" else math.nan,
            "w1_over_sd": distance.over_sd,
            "p": distance.p,
            "patients_a": distance.patients[0],
            "patients_b": distance.patients[1],
        }


def _reading_rows(found: Audit) -> Iterable[dict[str, object]]:
    for one in found.readings:
        result = one.result
        yield {
            "column": one.column,
            "step": one.step,
            "classes": " ".join(result.classes),
            "balanced_accuracy": result.balanced_accuracy,
            "low": result.low,
            "high": result.high,
            "chance": result.chance,
            "p": result.p,
            "patients": " ".join(map(str, result.patients)),
            "folds": result.folds,
        }


def _confound_rows(found: Audit) -> Iterable[dict[str, object]]:
    for name, one in found.confounds.items():
        yield {"column": name, **asdict(one)}


def _feature_rows(found: Audit) -> Iterable[dict[str, object]]:
    for step, cases in found.features.items():
        for row in found.rows:
            yield {"step": step, "case": row.case, "patient": row.patient, "site": row.site, **cases[row.case]}


def _figures(found: Audit) -> dict[str, Picture]:
    figures = {}
    if found.readings:
        order = [(one.column, one.step, one.result) for one in found.readings]
        figures["readings"] = Picture(
            readings_chart(order),
            "Balanced accuracy on held-out patients with its interval. After harmonisation the site should fall to "
            "chance while tracer and disease stay where they were.",
            "Balanced accuracies by column and step",
        )
    for channel in CHANNELS:
        curves: dict[str, dict[str, object]] = {}
        for (step, name, region, site), curve in found.curves.items():
            if name == channel and region == BODY:
                curves.setdefault(step, {})[site] = curve
        if curves:
            figures[f"values_{channel}"] = Picture(
                site_curves(
                    curves,  # type: ignore[arg-type]
                    {step: edges_of(step, channel) for step in curves},
                    units={step: unit_of(step, channel) for step in curves},
                    title=f"{channel.upper()} values in the body, by site",
                ),
                "Distribution functions, patients weighing the same; the area between two curves is their W1 distance.",
                f"Distribution of {channel.upper()} values by site",
            )
    return figures


def _sections(found: Audit, tables: Sequence[Table], figures: Mapping[str, Picture]) -> Iterable[Section]:
    words = (
        "Perfect harmonisation ends at chance. A column other than the site shows whether a step erased biology along "
        "with the site."
    )
    yield Section("Can the site be read off an image?", (words,), tables[:1], _some(figures, "readings"))
    text = (
        "A shift by d is d; a factor c is |c - 1| times the mean. Two random halves of one site are apart too: see p."
    )
    yield Section("How far apart are the values?", (text,), tuple(t for t in tables[1:] if "W1" in t.headings),
                  _some(figures, "values_"))  # fmt: skip
    confounds = tuple(table for table in tables if "measure" in table.headings)
    if confounds:
        yield Section("Confounds", tables=confounds)
    if found.failures:
        rows = tuple((str(f["case"]), str(f["error"]), str(f["message"])) for f in found.failures)
        yield Section("Not read", tables=(Table("", ("case", "why", "message"), rows, words=3),))


def _some(figures: Mapping[str, Picture], begin: str) -> tuple[Picture, ...]:
    return tuple(figure for name, figure in figures.items() if name.startswith(begin))


def _facts(found: Audit) -> dict[str, object]:
    return {
        "patients": {site: len({r.patient for r in found.rows if r.site == site}) for site in found.sites},
        "steps": [step for step in found.steps if step != BEFORE] or "none",
        "resolution after gaussian (mm)": found.target_mm,
        "classifier": "multinomial logistic regression, L2, standardised features, patients kept together in folds",
        "permutations": found.permutations,
        "seed": found.seed,
        "uptake": __version__,
    }
