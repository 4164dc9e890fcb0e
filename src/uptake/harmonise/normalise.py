"""Intensity normalisation by name. PET is not CT: each channel says which rule it follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uptake.cases import Scale
from uptake.core.errors import UsageError
from uptake.core.types import Image, Mask

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ChannelRule:
    """How one channel is normalised.

    Attributes
    ----------
    name : str
        "ct" (HU) or "pet" (SUV).
    scheme : str
        A key of `SCHEMES`.
    lower, upper : float
        Clip limits in HU or SUV (the 0.5 and 99.5 percentiles inside the lesions of the training cases). "fixed" clips
        to them and divides by `upper`.
    mean, std : float
        Location and scale: of the clipped values for "clip_zscore" and "zscore", of asinh(SUV) for "asinh".
    inside_only : bool
        "zscore" takes its mean and deviation inside the non-zero part of the scan and leaves 0 outside (nnU-Net's
        ``use_mask_for_norm``); other schemes do not heed it.
    """

    name: str
    scheme: str
    lower: float
    upper: float
    mean: float
    std: float
    inside_only: bool = False

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise UsageError(f"{self.scheme!r} is no normalisation; known are {', '.join(sorted(SCHEMES))}.")


def normalise(array: Image, rule: ChannelRule, inside: Mask | None = None) -> Float32:
    """Return the normalised image, float32, dimensionless, same shape; the input is not changed.

    Parameters
    ----------
    array : array (z, y, x)
        HU or SUV.
    rule : ChannelRule
    inside : array (z, y, x) bool, optional
        Where the scan is not empty; used by rules that are `inside_only`.
    """
    image = np.asarray(array, dtype=np.float32)
    if rule.inside_only and rule.scheme == "zscore" and inside is not None:
        result = np.zeros_like(image)
        result[inside] = zscore(image[inside], rule)
        return result
    return SCHEMES[rule.scheme](image, rule)


def scale_of(array: Image, rule: ChannelRule, inside: Mask | None = None) -> Scale:
    """Return the numbers by which `normalise` changes this image, clipping aside.

    Raises
    ------
    UsageError
        If the rule's result cannot be undone by a mean, a deviation and a bend ("rescale_0_1").
    """
    if rule.scheme == "zscore":
        image = np.asarray(array, dtype=np.float32)
        seen = image[inside] if rule.inside_only and inside is not None else image
        return Scale(float(seen.mean()), max(float(seen.std()), 1e-8))
    if rule.scheme in ("clip_zscore", "asinh"):
        return Scale(rule.mean, max(rule.std, 1e-8), "asinh" if rule.scheme == "asinh" else "none")
    if rule.scheme in ("fixed", "unchanged"):
        return Scale(0.0, rule.upper if rule.scheme == "fixed" else 1.0)
    raise UsageError(f"normalisation {rule.scheme!r} has no scale that could be undone.")


def scaled(array: Image, scale: Scale) -> Float32:
    """Return another image in the units of the one that `scale` was taken from, float32: (bend(v) - mean) / std."""
    image = np.asarray(array, dtype=np.float32)
    bent = np.arcsinh(image) if scale.bend == "asinh" else image
    return np.asarray((bent - scale.mean) / scale.std, dtype=np.float32)


def unscaled(array: Image, scale: Scale) -> Float32:
    """Return the image in its physical unit again, float32: the inverse of `scaled`."""
    bent = np.asarray(array, dtype=np.float32) * np.float32(scale.std) + np.float32(scale.mean)
    return np.asarray(np.sinh(bent) if scale.bend == "asinh" else bent, dtype=np.float32)


def clip_zscore(array: Float32, rule: ChannelRule) -> Float32:
    """Return ``(clip(x, lower, upper) - mean) / std``: LesionTracer's rule for both channels (nnU-Net "CT").

    With LesionTracer's PET constants everything below SUV 1.04 becomes one value and everything above 51 another.
    """
    result = np.clip(array, rule.lower, rule.upper)
    result -= rule.mean  # in place: every array of a whole body that is not made is a tenth of a second less
    result /= max(rule.std, 1e-8)
    return result


def zscore(array: Float32, rule: ChannelRule) -> Float32:
    """Return ``(x - mean(x)) / std(x)`` of this very image: nnU-Net's rule for any channel not called CT."""
    return np.asarray((array - array.mean()) / max(float(array.std()), 1e-8), dtype=np.float32)


def asinh(array: Float32, rule: ChannelRule) -> Float32:
    """Return ``(asinh(x) - mean) / std``: linear below SUV 1, logarithmic above, no clipping, absolute scale kept.

    The faint uptake that `clip_zscore` cuts off stays visible, and a bladder of SUV 60 lies only 1.9 above a lesion
    of SUV 9 before scaling.
    """
    result = np.arcsinh(array)
    result -= rule.mean
    result /= max(rule.std, 1e-8)
    return result


def unchanged(array: Float32, rule: ChannelRule) -> Float32:
    """Return the image as it is (nnU-Net's "no normalisation")."""
    return array


def fixed(array: Float32, rule: ChannelRule) -> Float32:
    """Return ``clip(x, lower, upper) / upper``: one scale for every scan, so that SUV keeps its meaning."""
    return np.asarray(np.clip(array, rule.lower, rule.upper) / rule.upper, dtype=np.float32)


def rescale_0_1(array: Float32, rule: ChannelRule) -> Float32:
    """Return ``(x - min(x)) / (max(x) - min(x))`` of this very image."""
    shifted = array - array.min()
    return np.asarray(shifted / max(float(shifted.max()), 1e-8), dtype=np.float32)


SCHEMES: dict[str, Callable[[Float32, ChannelRule], Float32]] = {
    "clip_zscore": clip_zscore,
    "zscore": zscore,
    "asinh": asinh,
    "unchanged": unchanged,
    "fixed": fixed,
    "rescale_0_1": rescale_0_1,
}
"""Name -> rule."""
