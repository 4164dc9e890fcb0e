"""Noise of an image told from its counts: how many there were, and how the reconstruction correlates it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from uptake.core.types import Mask, Vector3
from uptake.simulation.counts import draw_counts
from uptake.simulation.fields import Array
from uptake.simulation.osem import Measurement, Recon, Sensitivity, post_filter, reconstruct
from uptake.simulation.projector import Projector
from uptake.simulation.reference import fine_part

SLAB_MM = 48.0
"""Half the thickness of the slab around the reference sphere that is reconstructed."""

CALIBRATIONS, REPEATS = 2, 3
"""Rounds of calibration, and noise realisations in each."""

CALIBRATION_STREAM = 12

FILTERS_MM = np.arange(0.0, 8.1, 0.5)
"""Widths that `matched_filter` tries."""

USUAL_FILTER_MM = 5.0


def scaled(expected: Measurement, factor: float, slices: slice = slice(None)) -> Measurement:
    """Return expected counts of `factor` times the scan time, of some slices."""
    share = np.float32(factor)
    parts = (expected.counts, expected.factor, expected.background)
    a, b, c = (np.asarray(part[:, :, slices] * share, dtype=np.float32) for part in parts)
    return Measurement(a, b, c)


def counting_noise(
    expected: Measurement, projector: Projector, recon: Recon, spacing: Vector3, rng: np.random.Generator
) -> Array:
    """Return what counting noise does to the image: reconstruction of drawn counts less that of expected ones."""
    drawn = Measurement(draw_counts(expected.counts, rng), expected.factor, expected.background)
    sensitivity = Sensitivity(expected.factor, projector, recon, spacing)
    noise = reconstruct(drawn, projector, recon, spacing, sensitivity=sensitivity)
    noise -= reconstruct(expected, projector, recon, spacing, sensitivity=sensitivity)
    return noise


def count_level(
    image: Array | None,
    region: Mask,
    expected: Measurement,
    projector: Projector,
    recon: Recon,
    spacing: Vector3,
    *,
    cov: float | None,
    seed: int,
) -> tuple[float, float]:
    """Return the factor on the expected counts that gives the noise of an image, and that noise as SD / mean.

    Parameters
    ----------
    image : array (i, j, k) float32 or None
        On the grid of the reconstruction; its fine part in the region is matched.
    region : array (i, j, k) bool
        Even uptake.
    expected, projector, recon, spacing
    cov : float or None
        SD / mean of the noise to be matched in place of that of the image.
    seed : int
    """
    slab = _slab(region, spacing[2])
    where = region[:, :, slab]
    wanted = 0.0
    if cov is None:
        assert image is not None
        wanted = float(fine_part(image[:, :, slab], spacing)[where].var())
    level, relative = 1.0, 0.0
    for turn in range(CALIBRATIONS):
        part = scaled(expected, level, slab)
        sensitivity = Sensitivity(part.factor, projector, recon, spacing)
        ideal = reconstruct(part, projector, recon, spacing, sensitivity=sensitivity)
        mean = float(ideal[where].mean())
        total, fine = [], []
        for repeat in range(REPEATS):
            rng = np.random.default_rng([seed, CALIBRATION_STREAM, turn, repeat])
            drawn = Measurement(draw_counts(part.counts, rng), part.factor, part.background)
            noise = reconstruct(drawn, projector, recon, spacing, sensitivity=sensitivity) - ideal
            total.append(float((noise[where] ** 2).mean()))
            fine.append(float(fine_part(noise, spacing)[where].var()))
        change = float(np.mean(total)) / mean**2 / cov**2 if cov is not None else float(np.mean(fine)) / wanted
        level *= change
        relative = float(np.sqrt(np.mean(total) / change)) / mean
    return level, relative


def _slab(region: Mask, slice_mm: float) -> slice:
    middle = int(np.median(np.nonzero(region)[2]))
    half = int(np.ceil(SLAB_MM / slice_mm))
    return slice(max(middle - half, 0), min(middle + half + 1, region.shape[2]))


def matched_filter(
    image: Array,
    region: Mask | None,
    box: tuple[slice, slice, slice],
    expected: Measurement,
    projector: Projector,
    recon: Recon,
    spacing: Vector3,
    seed: int,
) -> Recon:
    """Return the reconstruction whose filter correlates neighbouring voxels of its noise as they are in the image.

    Parameters
    ----------
    image : array (i, j, k) float32
    region : array (i, j, k) bool or None
        Even uptake, where it is looked at; None gives a filter of 5 mm.
    box : tuple of slice
        Part of the image that is reconstructed.
    expected, projector, recon, spacing, seed
    """
    if region is None:
        return replace(recon, filter_fwhm_mm=USUAL_FILTER_MM)
    slab = _slab(region, spacing[2])
    where = region[box][:, :, slab]
    target = neighbour_correlation(image[box][:, :, slab], where, spacing)
    rng = np.random.default_rng([seed, CALIBRATION_STREAM, 99])
    raw = counting_noise(scaled(expected, 1.0, slab), projector, recon, spacing, rng)
    candidates = [replace(recon, filter_fwhm_mm=float(width)) for width in FILTERS_MM]
    gaps = [abs(neighbour_correlation(post_filter(raw, c, spacing), where, spacing) - target) for c in candidates]
    return candidates[int(np.argmin(gaps))]


def neighbour_correlation(image: Array, region: Mask, spacing: Vector3) -> float:
    """Return the correlation of transverse neighbours in a region, after everything coarser than 20 mm is taken out."""
    fine = np.where(region, fine_part(image, spacing), np.float32(0)).astype(np.float64)
    variance = float((fine**2).sum()) / max(int(region.sum()), 1)
    pairs, number = 0.0, 0
    for axis in range(2):
        n = region.shape[axis]
        near, far = np.arange(n - 1), np.arange(1, n)
        pairs += float((np.take(fine, near, axis) * np.take(fine, far, axis)).sum())
        number += int((np.take(region, near, axis) & np.take(region, far, axis)).sum())
    return pairs / max(number, 1) / max(variance, 1e-12)
