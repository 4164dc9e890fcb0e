"""The lesion table as rows for a CSV file and as plain JSON values. Units stand in the names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from uptake.core.types import Vector3
from uptake.quantification.lesions import NUMBERING, Lesion, LesionTable
from uptake.quantification.suv_metrics import PEAK_RADIUS_MM, PEAK_VOLUME_ML

DECIMALS = 4
"""Of SUV, mL and g in files: 0.0001 mL is far below a voxel. Positions get two, 0.01 mm."""

CONTEXT_COLUMNS = (
    "organ", "organ_relation", "organ_share", "organ_distance_mm", "region", "sul_peak", "percist_measurable",
    "liver_ratio", "blood_pool_ratio", "deauville",
)  # fmt: skip
"""Columns that an organ map and facts about the patient fill (`assessment_tables.lesion_context`)."""

LESION_COLUMNS = (
    "lesion", "voxels", "volume_ml", "mtv_ml", "mtv_method", "suv_max", "suv_mean", "suv_peak", "suv_peak_inside",
    "tlg_g", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "hottest_x_mm", "hottest_y_mm", "hottest_z_mm",
    "connectivity", *CONTEXT_COLUMNS,
)  # fmt: skip
"""Columns of lesions.csv; positions are RAS+ (x to the right, y to the front, z to the head)."""

Context = Sequence[Mapping[str, object]]


def lesion_rows(table: LesionTable, context: Context = ()) -> list[dict[str, object]]:
    """Return one row per lesion with the keys of `LESION_COLUMNS`; None where a value is undefined.

    `context` is the `CONTEXT_COLUMNS` of each lesion; without it they are None.
    """
    return [_row(lesion, table, known) for lesion, known in _with_context(table, context)]


def table_as_json(table: LesionTable, context: Context = ()) -> dict[str, object]:
    """Return the table, its totals and its definitions as plain JSON values (no NaN: undefined values are None).

    Positions are given twice, as RAS+ (NIfTI) and as LPS (DICOM), so that nobody has to guess the sign. `context` is as
    in `lesion_rows`.
    """
    totals = table.totals
    return {
        "definitions": {
            "lesion": f"connected component of the mask, {table.connectivity}-connectivity",
            "numbering": NUMBERING,
            "mtv": mtv_definition(table.mtv_method),
            "suv_mean": "mean over the metabolic tumour volume",
            "suv_peak": (
                f"highest mean in a {PEAK_VOLUME_ML:g} mL sphere (radius {PEAK_RADIUS_MM:.4f} mm) centred on a voxel "
                "of the lesion, voxels weighted by the share inside the sphere, whole image"
            ),
            "tlg": "MTV x SUVmean",
            "spread": "largest distance between two lesion centroids (Dmax)",
            "spread_voxels": "largest distance between two voxel centres of any lesions",
        },
        "connectivity": table.connectivity,
        "mtv_method": table.mtv_method,
        "min_volume_ml": table.min_volume_ml,
        "left_out": {"components": table.left_out, "volume_ml": rounded(table.left_out_ml)},
        "totals": {
            "lesions": totals.lesions,
            "volume_ml": rounded(totals.volume_ml),
            "mtv_ml": rounded(totals.mtv_ml),
            "tlg_g": rounded(totals.tlg_g),
            "suv_max": rounded(totals.suv_max),
            "suv_mean": rounded(totals.suv_mean),
            "suv_peak": rounded(totals.suv_peak),
            "spread_mm": rounded(totals.spread_mm, 2),
            "spread_voxels_mm": rounded(totals.spread_voxels_mm, 2),
        },
        "lesions": [{**_entry(lesion), **known} for lesion, known in _with_context(table, context)],
        "warnings": list(table.warnings),
    }


def mtv_definition(method: str) -> str:
    """Return an MTV rule in words."""
    if method == "mask":
        return "all voxels of the mask"
    if method.endswith("%"):
        return f"voxels of the mask at or above {method.removesuffix('%')} % of the lesion's SUVmax"
    return f"voxels of the mask at or above SUV {method.removeprefix('suv')}"


def lps(point: Vector3) -> Vector3:
    """Return a RAS+ world position (mm) in DICOM's LPS: x and y change sign."""
    # 0.0 is added so that a zero stays 0 and does not become -0 in a file.
    return -point[0] + 0.0, -point[1] + 0.0, point[2]


def _with_context(table: LesionTable, context: Context) -> list[tuple[Lesion, Mapping[str, object]]]:
    """Return each lesion with its `CONTEXT_COLUMNS`, None where nothing is known."""
    nothing = dict.fromkeys(CONTEXT_COLUMNS)
    known = context or [nothing] * len(table.lesions)
    return [(lesion, {**nothing, **its}) for lesion, its in zip(table.lesions, known, strict=True)]


def _row(lesion: Lesion, table: LesionTable, known: Mapping[str, object]) -> dict[str, object]:
    numbers = _numbers(lesion)
    places = {
        f"{name}_{axis}_mm": rounded(value, 2)
        for name, point in (("centroid", lesion.centroid_mm), ("hottest", lesion.hottest_mm))
        for axis, value in zip("xyz", point, strict=True)
    }
    row = {**numbers, **places, **known, "mtv_method": table.mtv_method, "connectivity": table.connectivity}
    return {column: row[column] for column in LESION_COLUMNS}


def _entry(lesion: Lesion) -> dict[str, object]:
    places: dict[str, object] = {}
    for name, point in (("centroid", lesion.centroid_mm), ("hottest", lesion.hottest_mm), ("peak", lesion.peak_mm)):
        places[f"{name}_ras_mm"] = [rounded(value, 2) for value in point]
        places[f"{name}_lps_mm"] = [rounded(value, 2) for value in lps(point)]
    return {**_numbers(lesion), **places}


def _numbers(lesion: Lesion) -> dict[str, object]:
    return {
        "lesion": lesion.lesion,
        "voxels": lesion.voxels,
        "volume_ml": rounded(lesion.volume_ml),
        "mtv_ml": rounded(lesion.mtv_ml),
        "suv_max": rounded(lesion.suv_max),
        "suv_mean": rounded(lesion.suv_mean),
        "suv_peak": rounded(lesion.suv_peak),
        "suv_peak_inside": rounded(lesion.suv_peak_inside),
        "tlg_g": rounded(lesion.tlg_g),
    }


def rounded(value: float, decimals: int = DECIMALS) -> float | None:
    """Return a number as it stands in a file; None where it is undefined."""
    return round(value, decimals) + 0.0 if math.isfinite(value) else None
