"""The tables, the picture and the page of a study of doses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.pages import Picture
from uptake.evaluation.dose_charts import Curve, Panel, dose_chart
from uptake.evaluation.intervals import mean_interval
from uptake.evaluation.page import Page, Section, page_html
from uptake.evaluation.tables import Table, interval_text, number
from uptake.io.write import atomic_path, write_csv, write_json, write_text
from uptake.workflows.dose_measures import CASE_COLUMNS, LESION_COLUMNS, ORGAN_COLUMNS

CASES, ORGANS, LESIONS, SUMMARY, LIMITS, CHART, PAGE = (
    "dose_study.csv", "organs.csv", "lesions.csv", "summary.csv", "limits.csv", "dose_study.png", "report.html",
)  # fmt: skip

SUMMARY_COLUMNS = ("image", "metric", "dose", "mean", "low", "high", "patients", "values")
LIMIT_COLUMNS = ("image", "metric", "limit", "lowest_dose", "highest_dose_holds", "patients")

RECORDS = "cases"
"""Folder of a record, and a picture, per case."""

STRIPS_SHOWN = 3


@dataclass(frozen=True)
class Measure:
    """A quantity of the study.

    Attributes
    ----------
    name : str
        In summary.csv.
    title : str
        With its unit.
    table : str
        "case", "organ" or "lesion": whose rows hold it.
    column : str
    limit : float or None
        How large its magnitude may be (for `change`: how far below its value at the highest dose it may fall).
    reason : str
        Where the limit is from.
    change : bool
        Difference to the highest dose of the same patient.
    decimals : int
    bounds : tuple of float
        Range of the quantity: intervals are cut there.
    """

    name: str
    title: str
    table: str
    column: str
    limit: float | None = None
    reason: str = ""
    change: bool = False
    decimals: int = 2
    bounds: tuple[float, float] = (-math.inf, math.inf)


LEAST = (-100.0, math.inf)
"""Of an error in per cent of a quantity that is not negative."""

MEASURES = (
    Measure(
        "liver_cov", "noise: liver CoV", "case", "liver_cov", 0.15,
        "EANM/EARL ask for a coefficient of variation of 15 % at most", decimals=3, bounds=(0.0, math.inf),
    ),
    Measure(
        "liver_bias_percent", "liver SUVmean bias (%)", "case", "liver_bias_percent", 5.0,
        "ours: half of the 10 % that EARL allows a calibration", bounds=LEAST,
    ),
    Measure(
        "organ_bias_percent", "organ SUVmean bias (%), all organs", "organ", "bias_percent", 5.0,
        "ours: half of the 10 % that EARL allows a calibration", bounds=LEAST,
    ),
    Measure(
        "lesion_peak_error_percent", "lesion SUVpeak error (%)", "lesion", "peak_error_percent", 10.0,
        "QIBA: two scans of one lesion differ by 10 to 12 % (within-subject CoV)", bounds=LEAST,
    ),
    Measure(
        "lesion_peak_absolute_error_percent", "lesion SUVpeak error (%), without sign", "case",
        "lesion_peak_absolute_error_percent", 10.0, "as above", bounds=(0.0, math.inf),
    ),
    Measure("psnr_db", "PSNR (dB)", "case", "psnr_db", decimals=1),
    Measure("organ_dice", "organ Dice", "case", "organ_dice", decimals=3, bounds=(0.0, 1.0)),
    Measure(
        "organ_dice_change", "organ Dice, change to the highest dose", "case", "organ_dice", 0.02,
        "ours: two hundredths of Dice", change=True, decimals=3, bounds=(-1.0, 1.0),
    ),
    Measure("lesion_dice", "lesion Dice", "case", "lesion_dice", decimals=3, bounds=(0.0, 1.0)),
)  # fmt: skip

SHOWN = ("liver_cov", "organ_bias_percent", "lesion_peak_error_percent", "organ_dice", "lesion_dice", "psnr_db")
"""Panels of the picture, as far as there are values."""

Vector = npt.NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]


def write_study(
    out: Path, records: Sequence[Mapping[str, Any]], *, settings: Mapping[str, Any], notices: Sequence[str]
) -> None:
    """Write the tables, dose_study.png, report.html and study.json of all cases that are there.

    Parameters
    ----------
    out : Path
    records : sequence of mapping
        As ``cases/<case>.json`` holds them: "rows", "organs", "lesions", "made", "kind".
    settings : mapping
        For the page and study.json.
    notices : sequence of str
        What the reader must know before using a number.
    """
    tables = {name: [row for record in records for row in record[key]] for name, key in
              (("case", "rows"), ("organ", "organs"), ("lesion", "lesions"))}  # fmt: skip
    summary = summarised(tables)
    limits = lowest_doses(summary)
    write_csv(tables["case"], out / CASES, columns=CASE_COLUMNS)
    write_csv(tables["organ"], out / ORGANS, columns=ORGAN_COLUMNS)
    write_csv(tables["lesion"], out / LESIONS, columns=LESION_COLUMNS)
    write_csv([_summary_row(each) for each in summary], out / SUMMARY, columns=SUMMARY_COLUMNS)
    write_csv(limits, out / LIMITS, columns=LIMIT_COLUMNS)
    panels = _panels(summary)
    chart = dose_chart(panels) if panels else None
    if chart is not None:
        with atomic_path(out / CHART) as temporary:
            temporary.write_bytes(chart)
    write_json({"settings": settings, "notices": list(notices), "cases": len(records), "limits": limits,
                "measures": [asdict(measure) for measure in MEASURES]}, out / "study.json")  # fmt: skip
    strips = [
        (record["case"], path) for record in records if (path := out / "cases" / f"{record['case']}.png").is_file()
    ]
    write_text(page_html(_page(records, summary, limits, chart, strips[:STRIPS_SHOWN], settings, notices)), out / PAGE)


@dataclass(frozen=True, eq=False)
class Summarised:
    """One measure of one kind of image at one dose: mean, interval, and each patient's mean."""

    image: str
    measure: Measure
    dose: float
    mean: float
    low: float
    high: float
    values: int
    patients: Mapping[str, float]


def summarised(tables: Mapping[str, Rows]) -> list[Summarised]:
    """Return every measure at every dose, the bootstrap over patients; measures nobody has are left out."""
    found = []
    for measure in MEASURES:
        rows = _finite(tables[measure.table], measure)
        for image in dict.fromkeys(row["image"] for row in rows):
            for dose in sorted({row["dose"] for row in rows if row["image"] == image}, reverse=True):
                chosen = [row for row in rows if row["image"] == image and row["dose"] == dose]
                values = np.array([row["value"] for row in chosen])
                names = [str(row["patient"]) for row in chosen]
                groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
                interval = mean_interval(values, groups, bounds=measure.bounds)
                patients = {name: float(np.mean([v for v, n in zip(values, names, strict=True) if n == name]))
                            for name in dict.fromkeys(names)}  # fmt: skip
                found.append(Summarised(image, measure, dose, float(values.mean()), interval.low, interval.high,
                                        len(values), patients))  # fmt: skip
    return found


def lowest_doses(summary: Sequence[Summarised]) -> list[dict[str, Any]]:
    """Return the lowest dose down to which each limit holds with the whole interval, at it and at all higher ones.

    With a single patient there is no interval, and the mean alone has to hold.
    """
    rows = []
    for image, name in dict.fromkeys((each.image, each.measure.name) for each in summary):
        series = [each for each in summary if each.image == image and each.measure.name == name]
        measure = series[0].measure
        if measure.limit is None:
            continue
        lowest = math.nan
        for each in series:  # highest dose first
            if not _holds(each):
                break
            lowest = each.dose
        rows.append({"image": image, "metric": name, "limit": measure.limit, "lowest_dose": lowest,
                     "highest_dose_holds": _holds(series[0]), "patients": len(series[0].patients)})  # fmt: skip
    return rows


def _holds(each: Summarised) -> bool:
    ends = [v for v in (each.low, each.high) if not math.isnan(v)] or [each.mean]
    assert each.measure.limit is not None
    if each.measure.change:
        return min(ends) >= -each.measure.limit
    return max(abs(v) for v in ends) <= each.measure.limit


def _finite(rows: Rows, measure: Measure) -> list[dict[str, Any]]:
    """Return patient, image, dose and value of the rows that have one; for a change, less that at the highest dose."""
    plain = [
        {"patient": row["patient"], "case": row["case"], "image": row["image"], "dose": float(row["dose"]),
         "value": float(row[measure.column])}
        for row in rows if _number(row.get(measure.column)) is not None
    ]  # fmt: skip
    if not measure.change or not plain:
        return plain
    top = max(row["dose"] for row in plain)
    base = {(row["case"], row["image"]): row["value"] for row in plain if row["dose"] == top}
    return [{**row, "value": row["value"] - base[row["case"], row["image"]]} for row in plain
            if (row["case"], row["image"]) in base and row["dose"] < top]  # fmt: skip


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _summary_row(each: Summarised) -> dict[str, Any]:
    return {"image": each.image, "metric": each.measure.name, "dose": each.dose, "mean": each.mean, "low": each.low,
            "high": each.high, "patients": len(each.patients), "values": each.values}  # fmt: skip


def _panels(summary: Sequence[Summarised]) -> list[Panel]:
    panels = []
    for name in SHOWN:
        series = [each for each in summary if each.measure.name == name]
        if not series:
            continue
        limit = series[0].measure.limit
        signed = any(each.mean < 0 or each.low < 0 for each in series)
        limits = () if limit is None else (-limit, limit) if signed else (limit,)
        curves = {image: _curve([each for each in series if each.image == image])
                  for image in dict.fromkeys(each.image for each in series)}  # fmt: skip
        panels.append(Panel(series[0].measure.title, curves, limits))
    return panels


def _curve(series: Sequence[Summarised]) -> Curve:
    names = sorted({name for each in series for name in each.patients})
    values = np.array([[each.patients.get(name, math.nan) for each in series] for name in names])
    doses, mean, low, high = (np.array([getattr(each, key) for each in series]) for key in
                              ("dose", "mean", "low", "high"))  # fmt: skip
    return Curve(doses, mean, low, high, values)


def _page(
    records: Sequence[Mapping[str, Any]],
    summary: Sequence[Summarised],
    limits: Sequence[Mapping[str, Any]],
    chart: bytes | None,
    strips: Sequence[tuple[str, Path]],
    settings: Mapping[str, Any],
    notices: Sequence[str],
) -> Page:
    titles = {measure.name: measure for measure in MEASURES}
    answers = tuple(
        (str(row["image"]), titles[row["metric"]].title, _limit_text(titles[row["metric"]]), _dose_text(row),
         titles[row["metric"]].reason)
        for row in limits
    )  # fmt: skip
    numbers = tuple(
        (each.measure.title, each.image, f"{100 * each.dose:g}", number(each.mean, each.measure.decimals),
         interval_text(each.low, each.high, each.measure.decimals), str(len(each.patients)))
        for each in summary
    )  # fmt: skip
    caption = "Thin: patients. Thick: mean with its 95 % interval. Dashed: limits."
    curves = () if chart is None else (Picture(chart, caption, "Quantities against dose"),)
    shown = tuple(
        Picture(path.read_bytes(), f"{case}: coronal projections, SUV 0 to 7.", f"{case} at every dose")
        for case, path in strips
    )
    headings = ("image", "quantity", "limit", "lowest dose", "from")
    answer = Table("Lowest dose at which each limit holds.", headings, answers, words=5)
    columns = ("quantity", "image", "dose %", "mean", "interval", "patients")
    table = Table("Mean over patients with its 95 % bootstrap interval.", columns, numbers, words=2)
    words = (
        "A limit holds at a dose if the whole 95 % interval of the mean keeps it, there and at every higher dose. The "
        "limits are rules of thumb, not what a clinical question needs."
    )
    sections = [Section("How low can we go", (words,), (answer,), curves)]
    if shown:
        sections.append(Section("Patients at every dose", (), (), shown))
    sections.append(Section("Numbers", (), (table,)))
    lead = f"{len(records)} examinations at {len({each.dose for each in summary})} doses."
    return Page("Dose study", "How low can we go?", lead, tuple(notices), tuple(sections), settings)


def _limit_text(measure: Measure) -> str:
    assert measure.limit is not None
    sign = "no lower than −" if measure.change else "within ±" if "percent" in measure.name else "up to "
    return f"{sign}{measure.limit:g}"


def _dose_text(row: Mapping[str, Any]) -> str:
    lowest = row["lowest_dose"]
    return "at none of these doses" if math.isnan(lowest) else f"{100 * lowest:g} %"
