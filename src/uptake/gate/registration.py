"""Rigid registration by mutual information, through SimpleITK: one thread, one seed, the same numbers every time.

References
----------
Mattes et al., IEEE Trans Med Imaging 22(1), 2003. doi:10.1109/TMI.2003.809072
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from uptake.core.types import FloatArray, Mask
from uptake.gate.comparison import CT_RANGE_HU, REACH_MM, Comparison
from uptake.geometry.volume import Volume

BINS = 32
FEWEST_SAMPLES = 500
"""Fewer voxels than this make no histogram of 32 by 32."""

SLACK = 0.02
"""A search may end this much below the information it began with: the samples are drawn anew for every look."""

SEED = 20

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@contextmanager
def one_thread() -> Iterator[None]:
    """Let ITK work on one thread: its metrics sum in the order in which threads finish, and obey no other switch."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def start_at(centre_mm: FloatArray, *, rigid: bool) -> Any:
    """Return the transform that moves nothing: a rotation about `centre_mm` (RAS+) and a shift, or a shift alone."""
    import SimpleITK as sitk

    if not rigid:
        return sitk.TranslationTransform(3)
    transform = sitk.Euler3DTransform()
    transform.SetCenter((LPS[:3, :3] @ centre_mm).tolist())
    return transform


def translation(shift_mm: FloatArray) -> Any:
    """Return the transform that shifts by `shift_mm`, RAS+."""
    import SimpleITK as sitk

    transform = sitk.TranslationTransform(3)
    transform.SetOffset((LPS[:3, :3] @ shift_mm).tolist())
    return transform


def registered(level: Comparison, starts: list[Any], compared: Mask, most: int) -> Any | None:
    """Return the transform that maximises mutual information on about `most` samples, from the best of some starts.

    None if ITK fails, or if the search ends at less information than it began with: then it has run away.
    """
    import SimpleITK as sitk

    if compared.sum() < FEWEST_SAMPLES:
        return starts[-1]
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    # Drawn once, every n-th voxel, jittered from a fixed seed; "all voxels" would ask the mask anew in every step.
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(min(1.0, most / float(compared.sum())), SEED)
    method.SetMetricFixedMask(_image(level.pet.with_array(compared.astype(np.uint8))))
    # Gradients at the samples alone: filtering both images first takes longer than the registration.
    method.SetMetricUseFixedImageGradientFilter(False)
    method.SetMetricUseMovingImageGradientFilter(False)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=level.spacing_mm / 3.0, minStep=0.05, numberOfIterations=60, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    fixed, moving = _image(level.pet), _image(_in_air(level.ct))

    def information(transform: Any) -> float:
        method.SetInitialTransform(transform, inPlace=False)
        return -float(method.MetricEvaluate(fixed, moving))

    try:
        known = [information(start) for start in starts]
        began = max(known)
        best = starts[known.index(began)]
        method.SetInitialTransform(best, inPlace=False)
        found = method.Execute(fixed, moving)
        if found.GetName() == "CompositeTransform":
            found = sitk.CompositeTransform(found).GetNthTransform(0)
        found = type(best)(found)
        return found if information(found) >= (1.0 - SLACK) * began else None
    except RuntimeError:
        return None


def displacement(transform: Any, point_mm: FloatArray) -> FloatArray:
    """Return how far the transform moves a point, RAS+ mm."""
    point = LPS[:3, :3] @ point_mm
    moved = np.asarray(transform.TransformPoint(point.tolist()))
    return np.asarray(LPS[:3, :3] @ (moved - point))


def angle_deg(transform: Any) -> float:
    """Return the angle of a rotation about whatever axis, degrees."""
    matrix = np.reshape(transform.GetMatrix(), (3, 3))
    return round(float(np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))), 3)


def _in_air(ct: Volume) -> Volume:
    """Return the CT with air around it, so that a shift finds air beyond its faces; tissue faces are never reached."""
    counts = [int(np.ceil(2 * REACH_MM / mm)) for mm in ct.spacing_mm]
    affine = ct.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.array(counts)
    return Volume(np.pad(ct.array, [(n, n) for n in counts], constant_values=CT_RANGE_HU[0]), affine)


def _image(volume: Volume) -> Any:
    """Return the volume as a SimpleITK image."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.T))
    affine = LPS @ volume.affine
    spacing = np.asarray(volume.spacing_mm)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image
