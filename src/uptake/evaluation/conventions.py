"""The same scores under the other rules for empty references: what would have been written, without measuring again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import get_args

from uptake.evaluation.empty import EmptyRule, missed_volume, ratio, require_rule, share

RULES: tuple[EmptyRule, ...] = get_args(EmptyRule)
DEPENDENT = ("dice", "iou", "sensitivity", "precision", "surface_dice_", "lesion_f1_", "fn_volume_ml")
"""Columns, or how their names begin, that depend on the rule; lesion sensitivity and precision do as well."""


def under_rule(row: Mapping[str, object], rule: EmptyRule) -> dict[str, object]:
    """Return a row of scores as it is under another rule for empty references.

    Parameters
    ----------
    row : mapping
        As `LabelScores.row` gives it: the rules differ where `reference_ml` is 0 only, so the row holds all it takes.
    rule : {"nan", "one", "zero"}

    Returns
    -------
    dict
        A copy; `empty` names the new rule.
    """
    require_rule(rule)
    changed = {**row, "empty": rule}
    reference, prediction = _number(row["reference_ml"]), _number(row["prediction_ml"])
    if reference != 0:
        return changed
    score = ratio(0.0, prediction, prediction=prediction, reference=0.0, empty=rule)
    of_reference = share(0.0, 0.0, other=prediction, empty=rule)
    of_prediction = share(0.0, prediction, other=0.0, empty=rule)
    for name in row:
        if name in ("dice", "iou") or name.startswith(("surface_dice_", "lesion_f1_")):
            changed[name] = score
        elif name == "sensitivity" or name.startswith("lesion_sensitivity_"):
            changed[name] = of_reference
        elif name == "precision" or name.startswith("lesion_precision_"):
            changed[name] = of_prediction
        elif name == "fn_volume_ml":
            changed[name] = missed_volume(0.0, reference=0.0, empty=rule)
    return changed


def depends_on_rule(name: str) -> bool:
    """Return whether a score can differ between rules for empty references."""
    return name.startswith((*DEPENDENT, "lesion_sensitivity_", "lesion_precision_"))


def _number(value: object) -> float:
    return math.nan if value is None or value == "" else float(value)  # type: ignore[arg-type]
