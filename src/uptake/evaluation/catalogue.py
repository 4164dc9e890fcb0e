"""What each score is: its heading, unit, range, and whether more of it is better. Tables and pictures read it here."""

from __future__ import annotations

import math
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
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _LISTED}
"""Column -> what it is, in the order of tables."""


def metric_of(name: str) -> Metric:
    """Return what a column is; an unknown one is taken as it is named, unbounded, neither good nor bad."""
    return METRICS.get(name) or Metric(name, name.replace("_", " "))
