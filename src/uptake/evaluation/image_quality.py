"""How close one PET is to another, for denoising: PSNR, SSIM and NRMSE inside the body.

The air around the patient is easy and large: scored with it, every method looks good. So the body is an argument of
every score here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.core.types import Image, Mask
from uptake.geometry.components import Box, bounding_box

Window = Literal["gaussian", "uniform"]
"""Where SSIM takes its local statistics. "gaussian": weights of sigma 1.5 voxels over 11 x 11 x 11 voxels, variances
over the weights (Wang 2004; MONAI's default). "uniform": 7 x 7 x 7 voxels, variances over n - 1 (scikit-image's
default)."""

Normalisation = Literal["rms", "range", "mean"]
"""By what of the reference, inside the body, NRMSE divides: its root mean square, its maximum minus minimum, its
mean."""

SSIM_K1, SSIM_K2 = 0.01, 0.03
"""Constants of Wang et al."""

GAUSSIAN_SIGMA = 1.5
GAUSSIAN_RADIUS = 5
UNIFORM_RADIUS = 3


@dataclass(frozen=True)
class ImageQuality:
    """How close an image is to its reference inside the body.

    Attributes
    ----------
    psnr_db : float
        Peak signal-to-noise ratio, dB; infinite for equal images.
    ssim : float
        Mean structural similarity, -1 to 1.
    nrmse : float
        Root mean square error over the reference's root mean square.
    rmse, mae, bias : float
        Root mean square, mean absolute and mean error, in the unit of the image (g/mL for SUV).
    data_range : float
        That PSNR and SSIM were taken with.
    window : {"gaussian", "uniform"}
    voxels, ssim_voxels : int
        Of the body; of these, the ones whose SSIM window lies inside the image.
    """

    psnr_db: float
    ssim: float
    nrmse: float
    rmse: float
    mae: float
    bias: float
    data_range: float
    window: Window
    voxels: int
    ssim_voxels: int


def image_quality(
    image: Image,
    reference: Image,
    *,
    body: Mask | None = None,
    data_range: float | None = None,
    window: Window = "gaussian",
) -> ImageQuality:
    """Return PSNR, SSIM, NRMSE and errors of an image against its reference inside the body.

    Parameters
    ----------
    image, reference : arrays (i, j, k)
        In one unit, on one grid.
    body : array (i, j, k) bool, or None
        Where to look; None: everywhere.
    data_range : float or None
        Peak of PSNR and scale of SSIM; None: maximum minus minimum of the reference inside the body. Fix it to compare
        scans.
    window : {"gaussian", "uniform"}
        Of SSIM, see `Window`.

    Raises
    ------
    InputError
        If shapes differ, a voxel of the body is not finite, or the body is empty.
    UsageError
        If the window is unknown or the range not positive.
    """
    where = require_images(image, reference, body)
    values, truth = (np.asarray(array[where], dtype=np.float64) for array in (image, reference))
    scale = _range(truth, data_range)
    error = values - truth
    similar = ssim_map(image, reference, body=where, data_range=scale, window=window)
    rmse = math.sqrt(float((error**2).mean()))
    return ImageQuality(
        psnr_db=_decibel(rmse, scale),
        ssim=float(similar.mean()) if similar.size else math.nan,
        nrmse=_over(rmse, truth, "rms"),
        rmse=rmse,
        mae=float(np.abs(error).mean()),
        bias=float(error.mean()),
        data_range=scale,
        window=window,
        voxels=len(values),
        ssim_voxels=len(similar),
    )


def psnr(image: Image, reference: Image, *, body: Mask | None = None, data_range: float | None = None) -> float:
    """Return the peak signal-to-noise ratio 20 log10(range / RMSE), dB; see `image_quality` for the arguments."""
    rmse, truth = _rmse(image, reference, body)
    return _decibel(rmse, _range(truth, data_range))


def nrmse(image: Image, reference: Image, *, body: Mask | None = None, normalisation: Normalisation = "rms") -> float:
    """Return the root mean square error over a size of the reference, see `Normalisation`; NaN if that is 0."""
    if normalisation not in get_args(Normalisation):
        raise UsageError(f"NRMSE is taken over {', '.join(get_args(Normalisation))}; came {normalisation!r}.")
    rmse, truth = _rmse(image, reference, body)
    return _over(rmse, truth, normalisation)


def ssim(
    image: Image,
    reference: Image,
    *,
    body: Mask | None = None,
    data_range: float | None = None,
    window: Window = "gaussian",
) -> float:
    """Return the mean structural similarity in three dimensions, -1 to 1; see `image_quality` for the arguments.

    NaN if no voxel of the body has its whole window inside the image.

    References
    ----------
    Wang Z et al., IEEE Trans Image Process 13:600 (2004), eq. 13, with the window in three dimensions.
    """
    similar = ssim_map(image, reference, body=body, data_range=data_range, window=window)
    return float(similar.mean()) if similar.size else math.nan


def ssim_map(
    image: Image,
    reference: Image,
    *,
    body: Mask | None = None,
    data_range: float | None = None,
    window: Window = "gaussian",
) -> npt.NDArray[np.float64]:
    """Return the structural similarity (n,) of the voxels of the body whose window is inside the image, scan order."""
    if window not in get_args(Window):
        raise UsageError(f"the window of SSIM is 'gaussian' or 'uniform', came {window!r}.")
    where = require_images(image, reference, body)
    radius = GAUSSIAN_RADIUS if window == "gaussian" else UNIFORM_RADIUS
    scale = _range(np.asarray(reference[where], dtype=np.float64), data_range)
    inner = np.zeros_like(where)
    core = (slice(radius, -radius),) * 3
    inner[core] = where[core]
    around = bounding_box(inner)
    if around is None:
        return np.zeros(0)
    box = _grown(around, radius)
    x, y = (np.asarray(array[box], dtype=np.float64) for array in (image, reference))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("an image holds NaN or infinite voxels near the body, inside a window of SSIM.")
    chosen = inner[box]
    mean_x, mean_y = _local(x, window)[chosen], _local(y, window)[chosen]
    # Over n - 1 with equal weights, over the weights themselves with Gaussian ones.
    count = (2 * radius + 1) ** 3
    correction = count / (count - 1) if window == "uniform" else 1.0
    var_x = correction * (_local(x * x, window)[chosen] - mean_x**2)
    var_y = correction * (_local(y * y, window)[chosen] - mean_y**2)
    covariance = correction * (_local(x * y, window)[chosen] - mean_x * mean_y)
    c1, c2 = (SSIM_K1 * scale) ** 2, (SSIM_K2 * scale) ** 2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return np.asarray(above / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))


def require_images(image: Image, reference: Image, body: Mask | None) -> Mask:
    """Return the body (everywhere for None) after checking that both images can be compared in it.

    Raises
    ------
    InputError
        If shapes differ, the body is empty or no mask, or a voxel in it is not finite.
    """
    where = np.ones(np.shape(image), bool) if body is None else body
    if image.shape != reference.shape or where.shape != image.shape or image.ndim != 3:
        raise InputError(f"images of shape {image.shape} and {reference.shape} in a body of shape {where.shape}.")
    if where.dtype != bool:
        raise InputError(f"the body is a boolean mask, came {where.dtype}.")
    if not where.any():
        raise InputError("the region to compare images in is empty.")
    for array in (image, reference):
        if not np.isfinite(array[where]).all():
            raise InputError("an image holds NaN or infinite voxels where it is to be compared.")
    return where


def _rmse(image: Image, reference: Image, body: Mask | None) -> tuple[float, npt.NDArray[np.float64]]:
    where = require_images(image, reference, body)
    values, truth = (np.asarray(array[where], dtype=np.float64) for array in (image, reference))
    return math.sqrt(float(((values - truth) ** 2).mean())), truth


def _decibel(rmse: float, data_range: float) -> float:
    return 20 * math.log10(data_range / rmse) if rmse > 0 else math.inf


def _over(rmse: float, truth: npt.NDArray[np.float64], normalisation: Normalisation) -> float:
    sizes = {"rms": math.sqrt(float((truth**2).mean())), "range": float(np.ptp(truth)), "mean": float(truth.mean())}
    size = sizes[normalisation]
    return rmse / size if size else math.nan


def _range(truth: npt.NDArray[np.float64], data_range: float | None) -> float:
    if data_range is not None and not (math.isfinite(data_range) and data_range > 0):
        raise UsageError(f"a data range is a positive number, came {data_range!r}.")
    found = float(np.ptp(truth)) if data_range is None else float(data_range)
    if found == 0:
        raise InputError("the reference is one number everywhere in the body; give a data_range to scale by.")
    return found


def _local(values: npt.NDArray[np.float64], window: Window) -> npt.NDArray[np.float64]:
    """Return the local means; how the border is continued does not matter, it is not used."""
    from scipy import ndimage

    if window == "uniform":
        return np.asarray(ndimage.uniform_filter(values, size=2 * UNIFORM_RADIUS + 1))
    return np.asarray(ndimage.gaussian_filter(values, GAUSSIAN_SIGMA, radius=GAUSSIAN_RADIUS))


def _grown(box: Box, by: int) -> tuple[Any, ...]:
    return tuple(slice(side.start - by, side.stop + by) for side in box)
