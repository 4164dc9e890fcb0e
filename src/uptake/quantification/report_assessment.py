"""What the report says of organs, references and criteria: cells and sentences for the template."""

from __future__ import annotations

import math
from dataclasses import dataclass

from uptake.quantification.assessment import Assessment
from uptake.quantification.lesions import LesionTable
from uptake.quantification.organs import Organ, OrganTable
from uptake.quantification.places import LesionPlace
from uptake.quantification.reference_regions import NoReference
from uptake.quantification.response import Deauville, NotAssessed, Percist

MANY_ORGANS = 24
"""From this many organs on, those that readers seldom ask for are folded away."""

MAIN_ORGANS = frozenset(
    {"liver", "spleen", "brain", "heart", "heart_myocardium", "aorta", "urinary_bladder", "stomach", "pancreas"}
    | {"prostate", "colon", "small_bowel", "thyroid_gland"}
    | {name for organ in ("kidney", "adrenal_gland", "parotid_gland") for name in (f"{organ}_left", f"{organ}_right")}
    | {"kidneys", "kidney", "lungs", "lung", "head_glands", "bone_marrow", "vertebrae", "sacrum"}
)
"""Organs with uptake of their own that are shown in any case."""


@dataclass(frozen=True)
class LesionCells:
    """What an assessment adds to a lesion's row."""

    where: str
    score: str
    measurable: str


@dataclass(frozen=True)
class OrganCells:
    """An organ's row, with the lesions that are named after it."""

    organ: Organ
    lesions: int
    lesion_ml: float


@dataclass(frozen=True)
class ReferenceCells:
    """A reference region's row; `reason` where there is none."""

    name: str
    where: str = ""
    centre: str = ""
    volume_ml: float = math.nan
    mean: float = math.nan
    deviation: float = math.nan
    maximum: float = math.nan
    reason: str = ""


def lesion_cells(assessment: Assessment) -> list[LesionCells]:
    """Return place, score and measurability of every lesion, in words."""
    points = assessment.deauville if isinstance(assessment.deauville, Deauville) else None
    peaks = assessment.percist if isinstance(assessment.percist, Percist) else None
    cells = []
    for n, place in enumerate(assessment.places):
        score = None if points is None else points.scores[n]
        measurable = "–" if peaks is None else "yes" if peaks.measurable[n] else "no"
        cells.append(LesionCells(place_in_words(place), "–" if score is None else str(score), measurable))
    return cells


def place_in_words(place: LesionPlace) -> str:
    """Return a lesion's place: "liver", "touches spleen", "6 mm from aorta", else the level of the body."""
    organ, region = place.organ.replace("_", " "), place.region.replace("_", " and ")
    if place.relation == "in":
        return organ
    if place.relation == "touches":
        return f"touches {organ}"
    if place.relation == "near":
        return f"{place.distance_mm:.0f} mm from {organ}"
    return f"level of {region}" if region else "–"


def organ_cells(
    organs: OrganTable, assessment: Assessment | None, table: LesionTable | None
) -> tuple[list[OrganCells], list[OrganCells]]:
    """Return the rows of organs to show, and those to fold away: of long maps all but main and diseased organs."""
    counts: dict[str, tuple[int, float]] = {}
    if assessment is not None and table is not None:
        for lesion, place in zip(table.lesions, assessment.places, strict=True):
            number, ml = counts.get(place.organ, (0, 0.0))
            counts[place.organ] = (number + 1, ml + lesion.mtv_ml)
    rows = [OrganCells(organ, *counts.get(organ.organ, (0, 0.0))) for organ in organs.organs]
    if len(rows) <= MANY_ORGANS:
        return rows, []
    shown = [row for row in rows if row.lesions or row.organ.organ in MAIN_ORGANS]
    return shown, [row for row in rows if row not in shown]


def reference_cells(assessment: Assessment) -> list[ReferenceCells]:
    """Return a row for liver and blood pool each."""
    rows = []
    for region in (assessment.liver, assessment.blood_pool):
        name = region.name.replace("_", " ")
        if isinstance(region, NoReference):
            rows.append(ReferenceCells(name, reason=region.reason))
        else:
            centre = ", ".join(f"{mm:.0f}" for mm in region.centre_mm)
            rows.append(ReferenceCells(name, region.where, centre, region.volume_ml, region.suv_mean, region.suv_sd,
                                       region.suv_max))  # fmt: skip
    return rows


def criteria_in_words(table: LesionTable, assessment: Assessment) -> list[tuple[str, str]]:
    """Return title and sentence of each criterion: PERCIST, the five-point score, spread."""
    found, points = assessment.percist, assessment.deauville
    if isinstance(found, NotAssessed):
        first = found.reason.removeprefix("PERCIST: ")
    else:
        unit = f"{found.unit}peak"
        first = (
            f"measurable from {unit} {found.threshold:.2f} ({found.reference.replace('_', ' ')}: {found.formula}): "
            f"{sum(found.measurable)} of {len(found.measurable)}"
        )
        if found.hottest is not None:
            # Lesions are numbered from 1 in the order of the table.
            first += f", the hottest is number {found.hottest} with {unit} {found.peaks[found.hottest - 1]:.2f}"
        first += "."
    if isinstance(points, NotAssessed):
        second = points.reason.removeprefix("Five-point score: ")
    elif points.score is None:
        second = "open, because a reference is missing that decides; see the lesions."
    else:
        second = f"{points.score}, from SUVmax of the lesions against liver and blood pool; arithmetic, no reading."
    rows = [("PERCIST 1.0", first), ("Five-point score", second)]
    totals = table.totals
    if totals.lesions:
        spread = f"{totals.spread_voxels_mm:.0f} mm between the outermost voxels of lesions"
        if totals.lesions > 1:
            spread = f"{totals.spread_mm:.0f} mm between the centroids furthest apart, {spread}"
        if assessment.spread_per_m is not None and assessment.patient.body_surface_m2 is not None:
            # Between the centroids of one lesion there is no distance.
            centroids = f"{assessment.spread_per_m:.2f} and " if totals.lesions > 1 else ""
            spread += (
                f"; over a body surface of {assessment.patient.body_surface_m2:.2f} m² that is "
                f"{centroids}{assessment.spread_voxels_per_m:.2f} per m (SDmax)"
            )
        rows.append(("Spread (Dmax)", spread + "."))
    return rows
