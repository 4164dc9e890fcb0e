"""What a dose costs: noise, bias, lesion peaks and organs of one image, against the best image there is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from uptake.core.anatomy import class_table, classes_of
from uptake.core.errors import UsageError
from uptake.core.types import LabelMap, Mask
from uptake.evaluation.image_quality import image_quality
from uptake.evaluation.organ_quality import organ_quality
from uptake.evaluation.overlap import dice
from uptake.evaluation.site_features import body_mask
from uptake.geometry.volume import Volume
from uptake.quantification.suv_metrics import peak_kernel, suv_peak
from uptake.simulation.reference import SPHERE_MM, quiet_sphere

LIVER = "liver"

ORGANS = "ldos"
"""Grouping of `core.anatomy` that organs are measured in."""

DEEP_ENOUGH_MM = 10.0
"""A liver whose deepest point is nearer than this to its edge, or to a lesion, holds no place without spill-over."""

CASE_COLUMNS = (
    "case", "patient", "tracer", "dose", "image", "reference", "liver_cov", "liver_bias_percent",
    "organ_bias_percent", "lesions", "lesion_peak_error_percent", "lesion_peak_absolute_error_percent",
    "lesion_max_error_percent", "psnr_db", "ssim", "nrmse", "organ_dice", "organs_scored", "lesion_dice",
)  # fmt: skip
ORGAN_COLUMNS = ("case", "patient", "dose", "image", "organ", "voxels", "suv_mean", "reference_suv_mean",
                 "bias_percent", "cov", "dice")  # fmt: skip
LESION_COLUMNS = ("case", "patient", "dose", "image", "lesion", "volume_ml", "suv_peak", "reference_suv_peak",
                  "peak_error_percent", "suv_max", "reference_suv_max", "max_error_percent")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Regions:
    """Where an examination is measured, the same for all doses.

    Attributes
    ----------
    body : array (i, j, k) bool
    sphere : array (i, j, k) bool or None
        3 cm across, deep in the liver, or where an image without an organ map is quietest.
    organs : array (i, j, k) unsigned or None
        Classes of the grouping `ORGANS`, lesions and all.
    lesions : array (i, j, k) unsigned or None
        Numbered one by one.
    """

    body: Mask
    sphere: Mask | None
    organs: LabelMap | None = None
    lesions: LabelMap | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What a model found in an image, on the same grid.

    Attributes
    ----------
    organs : array (i, j, k) unsigned or None
    organ_names : mapping of int to str
    lesions : array (i, j, k) bool or None
    """

    organs: LabelMap | None = None
    organ_names: Mapping[int, str] | None = None
    lesions: Mask | None = None


def regions_of(
    reference: Volume, *, organs: Volume | None, names: Mapping[int, str], lesions: Volume | None
) -> Regions:
    """Return where an examination is measured.

    Parameters
    ----------
    reference : Volume
        The best image there is, SUV.
    organs : Volume or None
        On its grid; numbers mean `names`.
    names : mapping of int to str
    lesions : Volume or None
        On its grid, numbered one by one.
    """
    grouped = None
    if organs is not None:
        grouped = _in_classes(np.asarray(organs.array), names)
    numbers = None if lesions is None else np.asarray(lesions.array)
    body = body_mask(reference.array, None, reference.spacing_mm)
    if grouped is None:
        return Regions(body, quiet_sphere(reference), None, numbers)
    liver = grouped == classes_of(ORGANS).index(LIVER)
    if numbers is not None:
        liver &= numbers == 0
    return Regions(body, deep_sphere(liver, reference), grouped, numbers)


def deep_sphere(inside: Mask, grid: Volume) -> Mask | None:
    """Return the voxels of a mask within 1.5 cm of its deepest point, or None if that is not deep.

    The place follows from the outline alone: the quietest sphere of an image would have been chosen for its noise.

    Parameters
    ----------
    inside : array (i, j, k) bool
    grid : Volume
        Whose voxels they are; its values are not looked at.
    """
    if not inside.any():
        return None
    # A frame of air, so that a liver cut by the edge of the image is not taken for deep there.
    depth = distance_transform_edt(np.pad(inside, 1), sampling=grid.spacing_mm)[1:-1, 1:-1, 1:-1]
    if float(depth.max()) < DEEP_ENOUGH_MM:
        return None
    centre = np.unravel_index(int(depth.argmax()), inside.shape)
    squared = np.zeros(inside.shape)
    for axis, (at, step) in enumerate(zip(centre, grid.spacing_mm, strict=True)):
        shape = [-1 if a == axis else 1 for a in range(3)]
        squared = squared + (((np.arange(inside.shape[axis]) - at) * step) ** 2).reshape(shape)
    return np.asarray(inside & (squared <= (SPHERE_MM / 2) ** 2))


def measure(
    image: Volume, reference: Volume, regions: Regions, *, found: Found | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row about an image, a row per organ, and a row per lesion.

    Parameters
    ----------
    image, reference : Volume
        SUV on one grid.
    regions : Regions
        From `regions_of`.
    found : Found or None
        What a model made of the image; without it there is no Dice.

    Notes
    -----
    Errors are (image - reference) / reference, per cent. SUVmean of an organ leaves out its lesions. SUVpeak is that of
    each image by itself: noise moves the sphere to where it is highest, as it does in the clinic.
    """
    quality = image_quality(image.array, reference.array, body=regions.body)
    row: dict[str, Any] = {"psnr_db": quality.psnr_db, "ssim": quality.ssim, "nrmse": quality.nrmse}
    if regions.sphere is not None:
        values, truth = (np.asarray(each.array[regions.sphere], dtype=np.float64) for each in (image, reference))
        row["liver_cov"] = float(values.std(ddof=1) / values.mean())
        row["liver_bias_percent"] = _error(float(values.mean()), float(truth.mean()))
    organs = _organ_rows(image, reference, regions, found)
    biases = [abs(one["bias_percent"]) for one in organs if math.isfinite(one["bias_percent"])]
    scores = [one["dice"] for one in organs if math.isfinite(one["dice"])]
    if biases:
        row["organ_bias_percent"] = float(np.mean(biases))
    if scores:
        row["organ_dice"], row["organs_scored"] = float(np.mean(scores)), len(scores)
    lesions = _lesion_rows(image, reference, regions)
    row["lesions"] = len(lesions)
    if lesions:
        errors = np.array([one["peak_error_percent"] for one in lesions])
        row["lesion_peak_error_percent"] = float(errors.mean())
        row["lesion_peak_absolute_error_percent"] = float(np.abs(errors).mean())
        row["lesion_max_error_percent"] = float(np.mean([one["max_error_percent"] for one in lesions]))
    if found is not None and found.lesions is not None and regions.lesions is not None:
        row["lesion_dice"] = dice(np.asarray(found.lesions, dtype=bool), regions.lesions > 0)
    return row, organs, lesions


def _in_classes(organs: LabelMap, names: Mapping[int, str]) -> LabelMap:
    """Return an organ map in the classes of `ORGANS`; numbers without a name are background."""
    table = class_table(names, classes_of(ORGANS))
    lookup = np.zeros(max(int(organs.max()) + 1, len(table)), dtype=np.uint8)
    lookup[: len(table)] = table
    return np.asarray(lookup[organs])


def _organ_rows(image: Volume, reference: Volume, regions: Regions, found: Found | None) -> list[dict[str, Any]]:
    if regions.organs is None:
        return []
    names = dict(enumerate(classes_of(ORGANS)))
    present = [int(n) for n in np.unique(regions.organs) if n]
    plain = regions.organs if regions.lesions is None else np.where(regions.lesions > 0, 0, regions.organs)
    predicted, known = None, frozenset[str]()
    if found is not None and found.organs is not None and found.organ_names is not None:
        try:
            predicted = _in_classes(found.organs, found.organ_names)
        except UsageError:  # a model of other classes has nothing to be scored here
            predicted = None
        else:
            classes = class_table(found.organ_names, classes_of(ORGANS))
            known = frozenset(names[int(n)] for n in classes if n)
    rows = []
    for one in organ_quality(image.array, reference.array, plain, labels={n: names[n] for n in present}):
        score = math.nan
        if predicted is not None and one.organ in known:
            number = classes_of(ORGANS).index(one.organ)
            score = dice(predicted == number, regions.organs == number)
        rows.append(
            {
                "organ": one.organ, "voxels": one.voxels, "suv_mean": one.mean, "dice": score,
                "reference_suv_mean": one.reference_mean, "bias_percent": one.bias_percent, "cov": one.cov,
            }
        )  # fmt: skip
    return rows


def _lesion_rows(image: Volume, reference: Volume, regions: Regions) -> list[dict[str, Any]]:
    if regions.lesions is None:
        return []
    kernel = peak_kernel(image.affine)
    rows = []
    for number in (int(n) for n in np.unique(regions.lesions) if n):
        voxels = np.argwhere(regions.lesions == number)
        where = tuple(voxels.T)
        peak, true_peak = (suv_peak(each.array, voxels, kernel).suv for each in (image, reference))
        top, true_top = (float(each.array[where].max()) for each in (image, reference))
        rows.append(
            {
                "lesion": number, "volume_ml": len(voxels) * image.voxel_volume_ml, "suv_peak": peak,
                "reference_suv_peak": true_peak, "peak_error_percent": _error(peak, true_peak), "suv_max": top,
                "reference_suv_max": true_top, "max_error_percent": _error(top, true_top),
            }
        )  # fmt: skip
    return rows


def _error(value: float, truth: float) -> float:
    return 100.0 * (value - truth) / truth if truth else math.nan
