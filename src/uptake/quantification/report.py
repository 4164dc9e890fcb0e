"""One self-contained HTML page per case: what was found, the pictures, and how it was made. No script, no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from uptake import RESEARCH_USE_ONLY
from uptake.cases import SourceFile
from uptake.core.pages import Picture, rendered
from uptake.quantification.assessment import Assessment
from uptake.quantification.lesions import LesionTable
from uptake.quantification.organs import OrganTable
from uptake.quantification.report_assessment import criteria_in_words, lesion_cells, organ_cells, reference_cells
from uptake.quantification.response import NotAssessed
from uptake.quantification.suv_metrics import PEAK_RADIUS_MM
from uptake.quantification.tables import mtv_definition

SHORT_HASH = 12
"""Characters of a SHA-256 that the page shows; run.json holds all 64."""


@dataclass(frozen=True)
class ModelFacts:
    """What the page says about the model, taken from its card.

    Attributes
    ----------
    name, version : str
    checksum : str
        SHA-256 of the bundle's weights.
    method : str
        Method and preset, in words.
    trained_on : str
        Training data with counts and licence, in words.
    limits : tuple of str
        Known limits, one sentence each.
    scores : str
        Measured quality with its interval and on what; empty if unknown.
    """

    name: str
    version: str
    checksum: str
    method: str = ""
    trained_on: str = ""
    limits: tuple[str, ...] = ()
    scores: str = ""


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything the page shows. Plain values; mappings are shown as two-column tables in their order.

    Attributes
    ----------
    case_id : str
    table : LesionTable or None
        None where no lesions were looked for.
    mip : Picture or None
    cuts : tuple of Picture
        Fused slices, hottest lesion first.
    warnings : tuple of str
        Of reading, of the model and of the measurement; those of the table are added.
    model : ModelFacts or None
        None where the mask was given by the user.
    sources : tuple of SourceFile
        Shown by role, last part of the path and short hash.
    image : mapping
        Grid, voxel size, orientation, ...
    suv : mapping
        How the SUV came about: tags used, factor, tracer, dose, times.
    settings : mapping
    timings_s : mapping
        Seconds of each stage.
    versions : mapping
        Package and interpreter versions.
    created : str
        Date and time of the run, in words; empty to leave it out.
    gate : mapping or None
        The input gate's report, `GateReport.as_json`; None where it was not run.
    organs : OrganTable or None
        None where there is no organ map.
    assessment : Assessment or None
        Lesions against organs and references; None where lesions were not looked for.
    organ_map : Picture or None
        The organs over the projections of the PET.
    reference_cuts : tuple of Picture
        Fused cuts through each reference region.
    """

    case_id: str
    table: LesionTable | None
    mip: Picture | None = None
    cuts: tuple[Picture, ...] = ()
    warnings: tuple[str, ...] = ()
    model: ModelFacts | None = None
    sources: tuple[SourceFile, ...] = ()
    image: Mapping[str, object] = field(default_factory=dict)
    suv: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    timings_s: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    gate: Mapping[str, Any] | None = None
    organs: OrganTable | None = None
    assessment: Assessment | None = None
    reference_cuts: tuple[Picture, ...] = ()
    organ_map: Picture | None = None


def summary_sentence(table: LesionTable) -> str:
    """Return the finding in one sentence, with units."""
    totals = table.totals
    if totals.lesions == 0:
        return "No lesion was found in this image."
    lesions = "1 lesion" if totals.lesions == 1 else f"{totals.lesions} lesions"
    spread = f", largest distance between lesions {totals.spread_mm / 10:.1f} cm" if totals.lesions > 1 else ""
    return (
        f"{lesions}, total MTV {volume(totals.mtv_ml)} mL, TLG {volume(totals.tlg_g)} g, "
        f"hottest SUVmax {totals.suv_max:.2f}, highest SUVpeak {totals.suv_peak:.2f}{spread}."
    )


def organs_sentence(organs: OrganTable | None) -> str:
    """Return in one sentence how many organs were found, where lesions were not looked for."""
    if organs is None or not organs.organs:
        return "No organ was found in this image; lesions were not looked for."
    found = len(organs.organs)
    return f"{found} organ{'s' if found > 1 else ''} found and measured; lesions were not looked for."


def report_html(content: ReportContent) -> str:
    """Return the report of one case as one HTML document with embedded pictures.

    Every value is escaped; the page holds no script and refers to nothing outside itself.
    """
    table, organs, assessment = content.table, content.organs, content.assessment
    measured = [*(table.warnings if table else ()), *(organs.warnings if organs else ())]
    measured += assessment.warnings if assessment else ()
    shown, folded = organ_cells(organs, assessment, table) if organs else ([], [])
    # Without an organ map every place and every criterion would be a dash.
    told = assessment if assessment is not None and assessment.organs is not None else None
    return rendered(
        "uptake.quantification",
        "report.html.j2",
        {"volume": volume, "suv": suv, "seconds": _seconds},
        content=content,
        table=table,
        organs=organs,
        totals=table.totals if table else None,
        summary=summary_sentence(table) if table else organs_sentence(organs),
        shown_organs=shown,
        folded_organs=folded,
        assessment=told,
        cells=lesion_cells(told) if told else [],
        scored=told is not None and not isinstance(told.deauville, NotAssessed),
        references=reference_cells(told) if told else [],
        criteria=criteria_in_words(table, told) if table and told else [],
        warnings=tuple(dict.fromkeys((*content.warnings, *measured))),
        notice=RESEARCH_USE_ONLY,
        mtv=mtv_definition(table.mtv_method) if table else "",
        peak_radius_mm=PEAK_RADIUS_MM,
        sources=[(s.role, PurePath(s.path.replace("\\", "/")).name, s.sha256[:SHORT_HASH]) for s in content.sources],
        short_hash=SHORT_HASH,
        gate=content.gate,
        findings=_by_severity(content.gate),
    )


def volume(value: float) -> str:
    """Return mL or g as text: two decimals below 10, one below 100, none above; "–" where undefined."""
    if value != value:
        return "–"
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:,.0f}"


def suv(value: float) -> str:
    """Return an SUV as text with two decimals; "–" where undefined."""
    return "–" if value != value else f"{value:.2f}"


def _by_severity(gate: Mapping[str, Any] | None) -> dict[str, list[Any]]:
    """Return the findings of the gate by light, what needs attention first."""
    findings = [] if gate is None else list(gate["findings"])
    return {light: [f for f in findings if f["light"] == light] for light in ("red", "amber", "grey", "green")}


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
