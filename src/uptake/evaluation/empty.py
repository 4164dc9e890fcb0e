"""What a score is where there is nothing to compare: named rules, so that no mean hides which one it used."""

from __future__ import annotations

import math
from typing import Literal, get_args

from uptake.core.errors import UsageError

EmptyRule = Literal["nan", "one", "zero"]
"""What Dice and its like are where the reference is empty.

"nan", the official autoPET rule (also MONAI's `ignore_empty=True`): undefined, whatever was predicted, so that a mean
over scans leaves lesion-free ones out. The false-negative volume is undefined too; the false-positive volume counts.

"one", the rule of interactive challenges (also MONAI's `ignore_empty=False`): an empty prediction of an empty reference
is right, 1; any prediction there is 0. The false-negative volume is 0.

"zero", the rule of nnU-Net, LDOS, SegAnyPET and surface-distance: undefined where both are empty; where something is
predicted, 0. The false-negative volume is 0.

An empty prediction of a reference that is not empty has Dice 0 under every rule.
"""

DistanceRule = Literal["nan", "inf"]
"""What a surface distance is where one of the two masks has no surface.

"nan" (LDOS, MONAI's percentiles): undefined; such cases are counted apart. "inf" (surface-distance, MONAI's maximum and
average): infinite. Where both are empty it is undefined under both rules.
"""


def require_rule(empty: str) -> None:
    """Check that `empty` is one of `EmptyRule`.

    Raises
    ------
    UsageError
        If not.
    """
    if empty not in get_args(EmptyRule):
        raise UsageError(
            f"the rule for empty references is 'nan' (official autoPET), 'one' or 'zero' (nnU-Net), came {empty!r}."
        )


def require_distance_rule(empty: str) -> None:
    """Check that `empty` is one of `DistanceRule`.

    Raises
    ------
    UsageError
        If not.
    """
    if empty not in get_args(DistanceRule):
        raise UsageError(f"the rule for distances to an empty mask is 'nan' or 'inf', came {empty!r}.")


def ratio(above: float, below: float, *, reference: float, prediction: float, empty: EmptyRule) -> float:
    """Return a Dice-like score above / below, or what the rule says where the reference is empty.

    Parameters
    ----------
    above, below : float
        Numerator and denominator; the denominator is 0 only if both masks are empty.
    reference, prediction : float
        Size of the two masks in any unit; 0 means empty.
    empty : {"nan", "one", "zero"}
        See `EmptyRule`.
    """
    require_rule(empty)
    if reference == 0:
        if empty == "nan":
            return math.nan
        if prediction == 0:
            return 1.0 if empty == "one" else math.nan
        return 0.0
    return above / below


def share(part: float, whole: float, *, other: float, empty: EmptyRule) -> float:
    """Return part / whole, e.g. sensitivity; NaN if `whole` is 0, or 1 by the rule "one" if the `other` mask is too."""
    require_rule(empty)
    if whole == 0:
        return 1.0 if empty == "one" and other == 0 else math.nan
    return part / whole


def missed_volume(volume_ml: float, *, reference: float, empty: EmptyRule) -> float:
    """Return the false-negative volume, mL: NaN by the rule "nan" (official autoPET) if the reference is empty."""
    require_rule(empty)
    return math.nan if reference == 0 and empty == "nan" else volume_ml


def without_surface(*, prediction: int, reference: int, empty: DistanceRule) -> float:
    """Return the distance where at least one of the two surfaces has no element."""
    require_distance_rule(empty)
    return math.inf if empty == "inf" and (prediction or reference) else math.nan
