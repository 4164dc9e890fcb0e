"""The organ table as rows for a CSV file and as plain JSON values. Units stand in the names."""

from __future__ import annotations

from uptake.quantification.organs import PERCENTILES, Organ, OrganTable
from uptake.quantification.suv_metrics import PEAK_RADIUS_MM, PEAK_VOLUME_ML
from uptake.quantification.tables import rounded

ORGAN_COLUMNS = (
    "organ", "label", "voxels", "volume_ml", "measured_ml", "suv_mean", "suv_sd", "suv_cov", "suv_median", "suv_min",
    "suv_max", *(f"suv_p{percent}" for percent in PERCENTILES), "suv_peak", "total_g",
    "centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "at_edge",
)  # fmt: skip
"""Columns of organs.csv; positions are RAS+ (x to the right, y to the front, z to the head)."""


def organ_rows(table: OrganTable) -> list[dict[str, object]]:
    """Return one row per organ with the keys of `ORGAN_COLUMNS`; None where a value is undefined."""
    return [_row(organ) for organ in table.organs]


def organs_as_json(table: OrganTable) -> dict[str, object]:
    """Return the table and its definitions as plain JSON values (no NaN: undefined values are None)."""
    return {
        "definitions": {
            "volume_ml": "volume of the label, lesions included",
            "measured_ml": "volume of the voxels behind the SUV statistics"
            + (": the label without lesions" if table.without_lesions else ""),
            "suv_sd": "standard deviation, n - 1",
            "suv_cov": "suv_sd / suv_mean",
            "suv_peak": (
                f"highest mean in a {PEAK_VOLUME_ML:g} mL sphere (radius {PEAK_RADIUS_MM:.4f} mm) that reaches the "
                "centre of no voxel outside the measured part"
            ),
            "total_g": "sum of SUV times voxel volume",
            "at_edge": "the label reaches an outermost voxel of the image",
        },
        "without_lesions": table.without_lesions,
        "organs": organ_rows(table),
        "absent": list(table.absent),
        "warnings": list(table.warnings),
    }


def _row(organ: Organ) -> dict[str, object]:
    percentiles = {
        f"suv_p{percent}": rounded(value) for percent, value in zip(PERCENTILES, organ.suv_percentiles, strict=True)
    }
    centre = {f"centroid_{axis}_mm": rounded(value, 2) for axis, value in zip("xyz", organ.centroid_mm, strict=True)}
    row: dict[str, object] = {
        "organ": organ.organ,
        "label": organ.label,
        "voxels": organ.voxels,
        "volume_ml": rounded(organ.volume_ml),
        "measured_ml": rounded(organ.measured_ml),
        "suv_mean": rounded(organ.suv_mean),
        "suv_sd": rounded(organ.suv_sd),
        "suv_cov": rounded(organ.suv_cov),
        "suv_median": rounded(organ.suv_median),
        "suv_min": rounded(organ.suv_min),
        "suv_max": rounded(organ.suv_max),
        **percentiles,
        "suv_peak": rounded(organ.suv_peak),
        "total_g": rounded(organ.total_g),
        **centre,
        "at_edge": organ.at_edge,
    }
    return {column: row[column] for column in ORGAN_COLUMNS}
