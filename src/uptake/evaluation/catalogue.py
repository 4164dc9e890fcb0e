"""What each score is: its heading, unit, range, and whether more of it is better. Tables and pictures read it here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "nearer zero", "neither"]


@dataclass(frozen=True)
class Metric:
    """One column of scores.

    Attributes
    ----------
    name : str
        Column in scores.csv.
    heading : str
        In tables and on axes, without the unit.
    unit : str
        Empty for shares and counts.
    better : str
        "higher", "lower", "nearer zero" (errors with a sign), or "neither" (volumes, counts of the reference).
    bounds : tuple of float
        Range of the score; intervals are cut there.
    decimals : int
        In tables.
    """

    name: str
    heading: str
    unit: str = ""
    better: Better = "neither"
    bounds: tuple[float, float] = (-math.inf, math.inf)
    decimals: int = 3

    @property
    def title(self) -> str:
        """Heading with its unit."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


SHARE = (0.0, 1.0)
POSITIVE = (0.0, math.inf)

_LISTED = (
    Metric("dice", "Dice", better="higher", bounds=SHARE),
    Metric("iou", "IoU", better="higher", bounds=SHARE),
    Metric("sensitivity", "sensitivity", better="higher", bounds=SHARE),
    Metric("precision", "precision", better="higher", bounds=SHARE),
    Metric("reference_ml", "reference volume", "mL", "neither", POSITIVE, 1),
    Metric("prediction_ml", "predicted volume", "mL", "neither", POSITIVE, 1),
    Metric("volume_error_ml", "volume error", "mL", "nearer zero", decimals=1),
    Metric("volume_error_fraction", "relative volume error", "", "nearer zero"),
    Metric("fp_volume_ml", "false-positive volume", "mL", "lower", POSITIVE, 2),
    Metric("fn_volume_ml", "false-negative volume", "mL", "lower", POSITIVE, 2),
    Metric("fp_components", "false-positive components", "", "lower", POSITIVE, 1),
    Metric("fn_components", "false-negative components", "", "lower", POSITIVE, 1),
    Metric("reference_components", "reference components", "", "neither", POSITIVE, 1),
    Metric("prediction_components", "predicted components", "", "neither", POSITIVE, 1),
    Metric("psnr_db", "PSNR", "dB", "higher", decimals=2),
    Metric("ssim", "SSIM", "", "higher", (-1.0, 1.0)),
    Metric("nrmse", "NRMSE", "", "lower", POSITIVE),
    Metric("rmse", "RMSE", "g/mL", "lower", POSITIVE),
    Metric("mae", "mean absolute error", "g/mL", "lower", POSITIVE),
    Metric("suv_mean", "SUVmean", "g/mL", "neither", decimals=2),
    Metric("reference_suv_mean", "SUVmean of the reference", "g/mL", "neither", decimals=2),
    Metric("suv_bias", "bias of SUVmean", "g/mL", "nearer zero"),
    Metric("suv_bias_percent", "bias of SUVmean", "%", "nearer zero", decimals=1),
    Metric("cov", "coefficient of variation", "", "neither", POSITIVE),
    Metric("reference_cov", "coefficient of variation of the reference", "", "neither", POSITIVE),
    Metric("tp_voxels", "true-positive voxels", "", "neither", POSITIVE, 0),
    Metric("fp_voxels", "false-positive voxels", "", "lower", POSITIVE, 0),
    Metric("fn_voxels", "false-negative voxels", "", "lower", POSITIVE, 0),
    Metric("tn_voxels", "true-negative voxels", "", "neither", POSITIVE, 0),
    Metric("hd95_mm", "HD95, pooled", "mm", "lower", POSITIVE, 1),
    Metric("hd95_max_mm", "HD95, larger of both directions", "mm", "lower", POSITIVE, 1),
    Metric("hd100_mm", "Hausdorff distance", "mm", "lower", POSITIVE, 1),
    Metric("asd_mm", "average surface distance", "mm", "lower", POSITIVE, 2),
    Metric("asd_to_reference_mm", "ASD, prediction to reference", "mm", "lower", POSITIVE, 2),
    Metric("asd_to_prediction_mm", "ASD, reference to prediction", "mm", "lower", POSITIVE, 2),
    Metric("hd95_max_surfels_mm", "HD95, surface elements", "mm", "lower", POSITIVE, 1),
    Metric("asd_to_reference_surfels_mm", "ASD to reference, surface elements", "mm", "lower", POSITIVE, 2),
    Metric("asd_to_prediction_surfels_mm", "ASD to prediction, surface elements", "mm", "lower", POSITIVE, 2),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _LISTED}
"""Column -> what it is. Columns whose names hold a tolerance or an IoU are taken apart by `metric_of`."""

HEADLINE = (
    "dice", "surface_dice_2mm", "hd95_mm", "asd_mm", "fp_volume_ml", "fn_volume_ml", "lesion_f1_iou0.1_many_to_one",
    "volume_error_ml", "psnr_db", "ssim", "nrmse", "suv_bias", "suv_bias_percent", "cov", "reference_cov",
)  # fmt: skip
"""Scores that reports show first, where they were computed: of masks, then of images."""

_SURFACE_DICE = re.compile(r"surface_dice_(?P<tolerance>[0-9.e+-]+)mm(?P<voxels>_voxels)?")
_LESION = re.compile(
    r"lesion_(?P<rate>f1|sensitivity|precision|tp|fp|fn)_(?P<overlap>iou(?P<iou>[0-9.e+-]+)|any)"
    r"_(?P<matching>many_to_one|one_to_one)"
)
_RATES = {
    "f1": "lesion F1", "sensitivity": "lesion sensitivity", "precision": "lesion precision", "tp": "lesions found",
    "fp": "false-positive lesions", "fn": "missed lesions",
}  # fmt: skip


def metric_of(name: str) -> Metric:
    """Return what a column is; an unknown one is taken as it is named, unbounded, neither good nor bad."""
    if name in METRICS:
        return METRICS[name]
    found = _SURFACE_DICE.fullmatch(name)
    if found:
        how = ", voxel surfaces" if found["voxels"] else ""
        return Metric(name, f"surface Dice at {found['tolerance']} mm{how}", better="higher", bounds=SHARE)
    found = _LESION.fullmatch(name)
    if found:
        overlap = f"IoU ≥ {found['iou']}" if found["iou"] else "any overlap"
        heading = f"{_RATES[found['rate']]}, {overlap}, {found['matching'].replace('_', ' ')}"
        if found["rate"] in ("f1", "sensitivity", "precision"):
            return Metric(name, heading, better="higher", bounds=SHARE)
        return Metric(name, heading, "", "higher" if found["rate"] == "tp" else "lower", POSITIVE, 1)
    return Metric(name, name.replace("_", " "))
