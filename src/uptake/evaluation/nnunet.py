"""The part of summary.json that nnU-Net's own tools read: its keys, its counts, its rule for the empty.

nnU-Net's rule: Dice and IoU are undefined only where prediction and reference are both empty; where one of them is,
they are 0. Means leave undefined values out; the foreground mean is the plain mean over labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

KEYS = ("Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref")


@dataclass(frozen=True)
class CaseCounts:
    """Voxels of every label of one case.

    Attributes
    ----------
    prediction_file, reference_file : str
    counts : mapping of str to (tp, fp, fn, tn)
        Label number, or "(1, 2)" for a region, -> voxels.
    """

    prediction_file: str
    reference_file: str
    counts: Mapping[str, tuple[int, int, int, int]]


def nnunet_summary(cases: Sequence[CaseCounts]) -> dict[str, object]:
    """Return `foreground_mean`, `mean` and `metric_per_case` as nnU-Net's evaluation writes them.

    An undefined value is NaN, which our JSON writer turns into null: nnU-Net writes a bare ``NaN``, which is no JSON.

    References
    ----------
    nnU-Net 2.8, nnunetv2/evaluation/evaluate_predictions.py, whose output it equals (tests/parity/test_nnunet_summary).
    """
    per_case = [
        {
            "metrics": {label: _metrics(*counts) for label, counts in case.counts.items()},
            "prediction_file": case.prediction_file,
            "reference_file": case.reference_file,
        }
        for case in cases
    ]
    labels = list(dict.fromkeys(label for case in cases for label in case.counts))
    mean = {
        label: {
            key: _mean([_metrics(*case.counts[label])[key] for case in cases if label in case.counts]) for key in KEYS
        }
        for label in labels
    }
    # A label that is defined nowhere makes the foreground mean undefined, in nnU-Net as here.
    foreground = {key: float(np.mean([mean[label][key] for label in labels])) if labels else math.nan for key in KEYS}
    return {"foreground_mean": foreground, "mean": mean, "metric_per_case": per_case}


def label_key(label: int | tuple[int, ...]) -> str:
    """Return how nnU-Net writes a label, "1", or a region of several, "(1, 2)"."""
    return str(label)


def _metrics(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    some = tp + fp + fn > 0
    return {
        "Dice": 2 * tp / (2 * tp + fp + fn) if some else math.nan,
        "FN": fn,
        "FP": fp,
        "IoU": tp / (tp + fp + fn) if some else math.nan,
        "TN": tn,
        "TP": tp,
        "n_pred": fp + tp,
        "n_ref": fn + tp,
    }


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan
