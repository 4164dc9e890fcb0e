"""What denoising does to uptake: bias and noise of SUV per organ, recovery of a known activity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from uptake.core.errors import InputError, UsageError
from uptake.core.types import FloatArray, Image, LabelMap, Mask
from uptake.evaluation.image_quality import require_images


@dataclass(frozen=True)
class OrganQuality:
    """Uptake of one organ in an image and in its reference.

    Attributes
    ----------
    organ : str
    voxels : int
    mean, reference_mean : float
        SUVmean, g/mL.
    bias, bias_percent : float
        Mean minus reference mean, g/mL, and in per cent of the reference mean.
    cov, reference_cov : float
        Coefficient of variation, standard deviation (n - 1) over mean: the noise of a uniform organ.
    """

    organ: str
    voxels: int
    mean: float
    reference_mean: float
    bias: float
    bias_percent: float
    cov: float
    reference_cov: float


@dataclass(frozen=True)
class Recovery:
    """How much of a known activity an image shows.

    Attributes
    ----------
    mean, maximum : float
        Recovery coefficients: mean and maximum of the region over its true value; 1 is all of it.
    contrast : float
        (mean / background - 1) / (true / true background - 1), the contrast recovery of NEMA NU 2; NaN without a
        background, or where the truth has no contrast.
    """

    mean: float
    maximum: float
    contrast: float


def organ_quality(
    image: Image, reference: Image, organs: LabelMap, *, labels: Mapping[int, str]
) -> tuple[OrganQuality, ...]:
    """Return SUVmean bias and coefficient of variation of each organ, in the order of `labels`.

    Parameters
    ----------
    image, reference : arrays (i, j, k)
        SUV, g/mL.
    organs : array (i, j, k) of whole numbers
    labels : mapping of int to str
        An organ that is not there has 0 voxels and NaN elsewhere; it is not left out.

    Raises
    ------
    InputError
        If shapes differ or a voxel of an organ is not finite.
    """
    inside = np.isin(organs, list(labels)) if labels else np.zeros(np.shape(organs), bool)
    if not inside.any():
        return tuple(_organ(name, np.zeros(0), np.zeros(0)) for name in labels.values())
    where = require_images(image, reference, inside)
    values, truth = (np.asarray(array[where], dtype=np.float64) for array in (image, reference))
    found = organs[where]
    return tuple(_organ(name, values[found == label], truth[found == label]) for label, name in labels.items())


def recovery(
    image: Image,
    region: Mask,
    *,
    true_value: float,
    background: Mask | None = None,
    true_background: float | None = None,
) -> Recovery:
    """Return recovery coefficients of a region of known activity, such as a sphere of a phantom.

    Parameters
    ----------
    image : array (i, j, k)
    region : array (i, j, k) bool
    true_value : float
        In the unit of the image, > 0.
    background : array (i, j, k) bool, or None
        With `true_background`, for contrast recovery.
    true_background : float or None
        In the unit of the image, > 0.

    Raises
    ------
    InputError
        If a region is empty or not finite, or a true value not positive.
    UsageError
        If only one of the two about the background is given.

    References
    ----------
    NEMA NU 2-2018, section 7.4.1, percent contrast (there times 100).
    """
    if (background is None) != (true_background is None):
        raise UsageError("contrast recovery needs the background and its true value, both or neither.")
    for value in (true_value, true_background):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"a true activity is a positive number, came {value!r}.")
    inside = np.asarray(image[require_images(image, image, region)], dtype=np.float64)
    contrast = math.nan
    if background is not None and true_background is not None and true_value != true_background:
        around = float(np.mean(image[require_images(image, image, background)], dtype=np.float64))
        contrast = (float(inside.mean()) / around - 1) / (true_value / true_background - 1) if around else math.nan
    return Recovery(float(inside.mean()) / true_value, float(inside.max()) / true_value, contrast)


def _organ(name: str, values: FloatArray, truth: FloatArray) -> OrganQuality:
    mean, reference_mean = (float(v.mean()) if v.size else math.nan for v in (values, truth))
    spread = [float(v.std(ddof=1)) if v.size > 1 else math.nan for v in (values, truth)]
    return OrganQuality(
        organ=name,
        voxels=values.size,
        mean=mean,
        reference_mean=reference_mean,
        bias=mean - reference_mean,
        bias_percent=100 * (mean - reference_mean) / reference_mean if reference_mean else math.nan,
        cov=spread[0] / mean if mean else math.nan,
        reference_cov=spread[1] / reference_mean if reference_mean else math.nan,
    )
