"""An assessment as columns of the lesion table, as the one table of organs and lesions, and as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from uptake.quantification.assessment import Assessment
from uptake.quantification.lesions import Lesion, LesionTable
from uptake.quantification.places import INSIDE_SHARE, NEAR_MM, LesionPlace
from uptake.quantification.reference_regions import NoReference, ReferenceRegion
from uptake.quantification.response import MARKEDLY, Deauville, NotAssessed, Percist
from uptake.quantification.tables import lps, rounded

MEASUREMENT_COLUMNS = (
    "kind", "name", "organ", "region", "volume_ml", "suv_mean", "suv_sd", "suv_max", "suv_peak", "total_g", "lesions",
    "lesion_ml", "deauville", "percist_measurable",
)  # fmt: skip
"""Columns of measurements.csv, the one table: references, organs, lesions."""


def lesion_context(assessment: Assessment) -> list[dict[str, object]]:
    """Return for each lesion the columns of lesions.csv that an organ map and the patient's facts fill."""
    peaks = assessment.percist if isinstance(assessment.percist, Percist) else None
    points = assessment.deauville if isinstance(assessment.deauville, Deauville) else None
    rows: list[dict[str, object]] = []
    for n, place in enumerate(assessment.places):
        rows.append(
            {
                "organ": place.organ or None,
                "organ_relation": place.relation or None,
                "organ_share": rounded(place.share) if place.organ else None,
                "organ_distance_mm": rounded(place.distance_mm, 2),
                "region": place.region or None,
                "sul_peak": None if peaks is None or peaks.unit != "SUL" else rounded(peaks.peaks[n]),
                "percist_measurable": None if peaks is None else peaks.measurable[n],
                "liver_ratio": None if points is None else rounded(points.liver_ratios[n]),
                "blood_pool_ratio": None if points is None else rounded(points.blood_ratios[n]),
                "deauville": None if points is None else points.scores[n],
            }
        )
    return rows


def measurement_rows(table: LesionTable, assessment: Assessment) -> list[dict[str, object]]:
    """Return the one table: a row per reference region, organ and lesion, with the keys of `MEASUREMENT_COLUMNS`."""
    rows: list[dict[str, object]] = []
    for region in assessment.references:
        rows.append(
            {
                "kind": "reference",
                "name": region.name,
                "organ": "liver" if region.name == "liver" else "aorta",
                "volume_ml": rounded(region.volume_ml),
                "suv_mean": rounded(region.suv_mean),
                "suv_sd": rounded(region.suv_sd),
                "suv_max": rounded(region.suv_max),
            }
        )
    pairs = list(zip(table.lesions, assessment.places, strict=True))
    for organ in () if assessment.organs is None else assessment.organs.organs:
        its = [lesion for lesion, place in pairs if place.organ == organ.organ]
        rows.append(
            {
                "kind": "organ",
                "name": organ.organ,
                "organ": organ.organ,
                "volume_ml": rounded(organ.volume_ml),
                "suv_mean": rounded(organ.suv_mean),
                "suv_sd": rounded(organ.suv_sd),
                "suv_max": rounded(organ.suv_max),
                "suv_peak": rounded(organ.suv_peak),
                "total_g": rounded(organ.total_g),
                "lesions": len(its),
                "lesion_ml": rounded(math.fsum(lesion.mtv_ml for lesion in its)),
            }
        )
    for (lesion, place), context in zip(pairs, lesion_context(assessment), strict=True):
        rows.append(
            {
                "kind": "lesion",
                "name": str(lesion.lesion),
                "organ": place.organ or None,
                "region": place.region or None,
                "volume_ml": rounded(lesion.volume_ml),
                "suv_mean": rounded(lesion.suv_mean),
                "suv_max": rounded(lesion.suv_max),
                "suv_peak": rounded(lesion.suv_peak),
                "total_g": rounded(lesion.tlg_g),
                "deauville": context["deauville"],
                "percist_measurable": context["percist_measurable"],
            }
        )
    return [{column: row.get(column) for column in MEASUREMENT_COLUMNS} for row in rows]


def assessment_as_json(table: LesionTable, assessment: Assessment) -> dict[str, object]:
    """Return references, criteria, spread and sums by organ and region as plain JSON values."""
    patient = assessment.patient
    return {
        "definitions": {
            "organ": (
                f"the organ that holds most of the lesion (in: at least {INSIDE_SHARE:.0%} of it; touches: less, or a "
                f"voxel beside it), else the nearest one within {NEAR_MM:g} mm (near)"
            ),
            "region": "level of the body by the height of the lesion's centroid",
            "percist": "PERCIST 1.0: peak >= 1.5 x liver mean + 2 SD, else 2.0 x blood-pool mean + 2 SD",
            "deauville": (
                "five-point scale from SUVmax: 2 up to blood pool, 3 up to liver, 4 above, 5 above "
                f"{MARKEDLY:g} x liver; 1 for a scan without lesions"
            ),
            "sdmax": "largest distance over body surface (Du Bois), 1/m",
        },
        "patient": {
            "tracer": patient.tracer or None,
            "sul_factor": _number(patient.sul_factor),
            "body_surface_m2": _number(patient.body_surface_m2),
        },
        "references": [_reference(region) for region in (assessment.liver, assessment.blood_pool)],
        "percist": _percist(assessment.percist),
        "deauville": _deauville(assessment.deauville),
        "sdmax_per_m": _number(assessment.spread_per_m),
        "sdmax_voxels_per_m": _number(assessment.spread_voxels_per_m),
        "by_organ": _sums(table.lesions, assessment.places, lambda place: place.organ),
        "by_region": _sums(table.lesions, assessment.places, lambda place: place.region),
        "warnings": list(assessment.warnings),
    }


def _sums(
    lesions: Iterable[Lesion], places: Iterable[LesionPlace], key: Callable[[LesionPlace], str]
) -> list[dict[str, object]]:
    """Return count, MTV, TLG and SUVmax of the lesions of each organ or region, largest MTV first."""
    groups: dict[str, list[Lesion]] = {}
    for lesion, place in zip(lesions, places, strict=True):
        groups.setdefault(key(place), []).append(lesion)
    return [
        {
            "name": name or None,
            "lesions": len(group),
            "mtv_ml": rounded(math.fsum(lesion.mtv_ml for lesion in group)),
            "tlg_g": rounded(math.fsum(lesion.tlg_g for lesion in group)),
            "suv_max": rounded(max(lesion.suv_max for lesion in group)),
        }
        for name, group in sorted(groups.items(), key=_largest_first)
    ]


def _largest_first(item: tuple[str, list[Lesion]]) -> tuple[float, str]:
    return -math.fsum(lesion.mtv_ml for lesion in item[1]), item[0]


def _reference(region: ReferenceRegion | NoReference) -> dict[str, object]:
    if isinstance(region, NoReference):
        return {"name": region.name, "placed": False, "reason": region.reason}
    return {
        "name": region.name,
        "placed": True,
        "where": region.where,
        "centre_ras_mm": [rounded(value, 2) for value in region.centre_mm],
        "centre_lps_mm": [rounded(value, 2) for value in lps(region.centre_mm)],
        "voxels": region.voxels,
        "volume_ml": rounded(region.volume_ml),
        "suv_mean": rounded(region.suv_mean),
        "suv_sd": rounded(region.suv_sd),
        "suv_max": rounded(region.suv_max),
        "suv_median": rounded(region.suv_median),
        "warnings": list(region.warnings),
    }


def _percist(found: Percist | NotAssessed) -> dict[str, object]:
    if isinstance(found, NotAssessed):
        return {"assessed": False, "reason": found.reason}
    return {
        "assessed": True,
        "reference": found.reference,
        "unit": found.unit,
        "threshold": rounded(found.threshold),
        "formula": found.formula,
        "measurable": sum(found.measurable),
        "hottest": found.hottest,
        "notes": list(found.notes),
    }


def _deauville(found: Deauville | NotAssessed) -> dict[str, object]:
    if isinstance(found, NotAssessed):
        return {"assessed": False, "reason": found.reason}
    return {
        "assessed": True,
        "score": found.score,
        "liver_suv_max": rounded(found.liver_suv_max),
        "blood_pool_suv_max": rounded(found.blood_suv_max),
        "notes": list(found.notes),
    }


def _number(value: float | None) -> float | None:
    return None if value is None else rounded(value)
