"""How far is the CT from the PET, in mm? Measured by rigid registration, reported, never applied.

Mattes mutual information between the square root of the PET (so that the patient's outline counts as much as a bladder)
and the CT between -1000 and 200 HU, blurred to the PET's resolution; regular-step gradient descent on coarse grids, one
thread, one seed: the same numbers every time.

Two precautions keep a crop from reporting what it cannot know. Only PET voxels that stay inside the CT for every shift
up to `REACH_MM` are compared, so that moving out of the field never pays; faces of the CT that show nothing but air are
continued as air. And a direction counts only where the CT's edges tell a shift along it from a general swelling of the
outline: a thigh is a cone, and a blurred cone looks like a shifted one.

References
----------
Mattes et al., IEEE Trans Med Imaging 22(1), 2003. doi:10.1109/TMI.2003.809072
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import ndimage

from uptake.core.types import FloatArray, Mask
from uptake.gate.overview import block_means
from uptake.geometry.volume import Volume

LEVELS_MM = (12.0, 8.0)
"""Voxel size of the grids, coarse to fine."""

FEWEST_VOXELS = 10
"""Along each axis; where a small crop has fewer, the grid is finer."""

BINS = 32
PET_CAP_SUV = 4.0
"""Uptake above this counts like this: a hot bladder carries no more weight than a hot skin."""

CT_RANGE_HU = (-1000.0, 200.0)
CT_FWHM_MM = 6.0
"""Blur that brings the CT to the resolution of a PET."""

BODY_SUV = 0.2
RING_MM = 20.0
"""Air around the patient that is compared, so that the outline counts."""

REACH_MM = 20.0
"""Shifts up to this are compared on the same voxels."""

AIR_FACE = 0.97
"""A face of the CT whose voxels are air to this share is continued as air."""

WEAK_EDGE_SHARE = 0.4
"""An axis along which the CT has less edge than this, relative to its best axis, is not measured."""

WEAK_EDGE_HU_PER_MM = 7.0
"""Or less than this: root mean square over the compared voxels."""

ROTATION_FIELD_MM = 400.0
"""Shorter fields are registered by translation alone; a rotation and a shift look alike in them."""

MOST_SAMPLES = (60_000, 80_000)
"""PET voxels compared on each grid, about."""

SLACK = 0.02
"""A search may end this much below the information it began with: the samples are drawn anew for every look."""

SEED = 20
SECTION_SAMPLES = 40_000
FARTHEST_MM = 80.0
"""A larger shift than this is a failed registration, or two examinations. Crops: no further than `REACH_MM`."""

SECTIONS = ("upper third", "middle third", "lower third")
FEWEST_SAMPLES = 500
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Misalignment:
    """Where the CT shows a structure, minus where the PET shows it.

    Attributes
    ----------
    shift_mm : tuple of float or None
        At the middle of the body, along x (right), y (front), z (head), RAS+ mm; None along an axis that this field of
        view cannot measure.
    rotation_deg : float or None
        Angle of the rotation; None where only a translation was measured.
    largest_mm : float
        Largest displacement anywhere on the body, mm, over the measured axes.
    sections : mapping
        The same shift measured for each third of a long field by itself, where it could be.
    """

    shift_mm: tuple[float | None, float | None, float | None]
    rotation_deg: float | None
    largest_mm: float
    sections: dict[str, tuple[float | None, float | None, float | None]]

    @property
    def length_mm(self) -> float:
        """Length of the shift over the measured axes, mm."""
        return length_mm(self.shift_mm)


def length_mm(shift: tuple[float | None, float | None, float | None]) -> float:
    """Return the length of a shift over the axes that were measured, mm; NaN if none was."""
    known = [mm for mm in shift if mm is not None]
    return float(np.linalg.norm(known)) if known else float("nan")


def measure_misalignment(pet: Volume, ct: Volume) -> Misalignment | None:
    """Return how far the CT is from the PET, or None where the field is too small to tell.

    Parameters
    ----------
    pet : Volume
        SUV.
    ct : Volume
        HU, on any grid in the same frame of reference.
    """
    levels = [_Level(pet, ct, spacing) for spacing in LEVELS_MM]
    fine = levels[-1]
    if fine.compared.sum() < FEWEST_SAMPLES:
        return None
    known = fine.measurable_axes()
    if not known.any():
        return None
    low, high = fine.body_box_mm()
    rigid = bool(known.all()) and high[2] - low[2] >= ROTATION_FIELD_MM
    centre = (low + high) / 2
    still = _start(centre, rigid=rigid)
    coarse = _registered(levels[0], [still], levels[0].compared, MOST_SAMPLES[0])
    transform = _registered(fine, [still] if coarse is None else [still, coarse], fine.compared, MOST_SAMPLES[1])
    if transform is None:
        return None
    shift = _displacement(transform, centre)
    if not (np.abs(shift) <= np.where(fine.open_axes, FARTHEST_MM, REACH_MM))[known].all():
        return None
    sections = {}
    if rigid:
        for name, (bottom, top) in zip(SECTIONS, _thirds(low[2], high[2]), strict=True):
            part = fine.compared & fine.between(bottom, top)
            local = _section(fine, part, shift)
            if local is not None:
                sections[name] = _over(local, known)
    corners = np.array(list(product(*zip(low, high, strict=True))))
    far = max(float(np.linalg.norm(_displacement(transform, corner)[known])) for corner in corners)
    angle = _angle_deg(transform) if rigid else None
    return Misalignment(_over(shift, known), angle, far, sections)


class _Level:
    """PET and CT on one grid size, and which PET voxels are compared."""

    def __init__(self, pet: Volume, ct: Volume, spacing_mm: float) -> None:
        finest = min(n * mm for n, mm in zip(pet.shape, pet.spacing_mm, strict=True)) / FEWEST_VOXELS
        target = min(spacing_mm, finest)
        reduced = block_means(pet, target)
        self.spacing_mm = spacing_mm
        self.pet = reduced.with_array(np.sqrt(np.clip(reduced.array, 0.0, PET_CAP_SUV)))
        dense = block_means(ct, target)
        sigma = [CT_FWHM_MM / 2.355 / mm for mm in dense.spacing_mm]
        clipped = np.clip(dense.array, *CT_RANGE_HU)
        self.ct = dense.with_array(ndimage.gaussian_filter(clipped, sigma, mode="nearest"))
        body = ndimage.binary_opening(reduced.array > BODY_SUV)
        self.body = np.asarray(body)
        rounds = max(1, round(RING_MM / float(np.mean(self.pet.spacing_mm))))
        self.open_axes = np.ones(3, dtype=bool)
        self.compared: Mask = self._staying_inside() & ndimage.binary_dilation(body, iterations=rounds)

    def _staying_inside(self) -> Mask:
        """Return the PET voxels, but for the outermost, whose place stays in the CT for every shift in reach."""
        between = np.linalg.inv(self.ct.affine) @ self.pet.affine
        axes = np.meshgrid(*[np.arange(n) for n in self.pet.shape], indexing="ij", sparse=True)
        inside = np.zeros(self.pet.shape, dtype=bool)
        inside[1:-1, 1:-1, 1:-1] = True
        for axis, size in enumerate(self.ct.shape):
            place = sum(between[axis, n] * axes[n] for n in range(3)) + between[axis, 3]
            margin = REACH_MM / self.ct.spacing_mm[axis]
            first, last = (np.take(self.ct.array, end, axis=axis) < -500.0 for end in (0, -1))
            if first.mean() < AIR_FACE:
                inside &= place >= margin
            if last.mean() < AIR_FACE:
                inside &= place <= size - 1 - margin
            if max(first.mean(), last.mean()) < AIR_FACE:
                self.open_axes &= np.abs(self.ct.direction[:, axis]) < 0.5
        return inside

    def measurable_axes(self) -> Mask:
        """Return for x, y and z whether the CT's edges can tell a shift along it.

        With g the gradient of the CT and the swelling of its outline |g| as a nuisance, the information about a shift
        along one axis is the part of g that neither the other axes nor |g| explain.
        """
        linear = (self.pet.affine[:3, :3] / np.asarray(self.pet.spacing_mm)).T
        between = np.linalg.inv(self.ct.affine) @ self.pet.affine
        dense = ndimage.affine_transform(
            self.ct.array, between[:3, :3], between[:3, 3], output_shape=self.pet.shape, order=1, mode="nearest"
        )
        smooth = ndimage.gaussian_filter(dense, [4.0 / mm for mm in self.pet.spacing_mm])
        along = np.stack(np.gradient(smooth, *self.pet.spacing_mm), axis=-1)[self.compared] @ linear
        columns = np.column_stack([along, np.linalg.norm(along, axis=1)]).astype(np.float64)
        information = columns.T @ columns / len(columns)
        try:
            edge = 1.0 / np.sqrt(np.diag(np.linalg.inv(information))[:3])
        except np.linalg.LinAlgError:
            return np.zeros(3, dtype=bool)
        return np.asarray((edge > WEAK_EDGE_HU_PER_MM) & (edge > WEAK_EDGE_SHARE * edge.max()))

    def body_box_mm(self) -> tuple[FloatArray, FloatArray]:
        """Return the lower and upper corner of the patient, RAS+ mm."""
        index = np.argwhere(self.body & self.compared)
        corners = np.array(list(product(*zip(index.min(axis=0), index.max(axis=0), strict=True))))
        world = self.pet.world_of(corners.astype(np.float64))
        return np.asarray(world.min(axis=0)), np.asarray(world.max(axis=0))

    def between(self, bottom_mm: float, top_mm: float) -> Mask:
        """Return the voxels whose height z lies between two values, mm."""
        row = self.pet.affine[2]
        axes = np.meshgrid(*[np.arange(n) for n in self.pet.shape], indexing="ij", sparse=True)
        height = sum(row[n] * axes[n] for n in range(3)) + row[3]
        return np.asarray((height >= bottom_mm) & (height <= top_mm))


def _thirds(low: float, high: float) -> list[tuple[float, float]]:
    cuts = np.linspace(low, high, 4)
    return [(float(cuts[2 - n]), float(cuts[3 - n])) for n in range(3)]


def _start(centre_mm: FloatArray, *, rigid: bool) -> Any:
    import SimpleITK as sitk

    if not rigid:
        return sitk.TranslationTransform(3)
    transform = sitk.Euler3DTransform()
    transform.SetCenter((LPS[:3, :3] @ centre_mm).tolist())
    return transform


def _section(level: _Level, part: Mask, start_mm: FloatArray) -> FloatArray | None:
    """Return the translation, RAS+ mm, that fits a part of the patient best."""
    import SimpleITK as sitk

    if part.sum() < FEWEST_SAMPLES:
        return None
    transform = sitk.TranslationTransform(3)
    transform.SetOffset((LPS[:3, :3] @ start_mm).tolist())
    found = _registered(level, [transform], part, SECTION_SAMPLES)
    return None if found is None else _displacement(found, np.zeros(3))


def _registered(level: _Level, starts: list[Any], compared: Mask, most: int) -> Any | None:
    """Return the transform that maximises mutual information on about `most` samples, from the best of some starts.

    None if ITK fails, or if the search ends at less information than it began with: then it has run away.
    """
    import SimpleITK as sitk

    if compared.sum() < FEWEST_SAMPLES:
        return starts[-1]
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums in one order: the same bytes every time
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
        best = max(starts, key=information)
        began = information(best)
        found = method.Execute(fixed, moving)
        if found.GetName() == "CompositeTransform":
            found = sitk.CompositeTransform(found).GetNthTransform(0)
        found = type(best)(found)
        return found if information(found) >= (1.0 - SLACK) * began else None
    except RuntimeError:
        return None


def _displacement(transform: Any, point_mm: FloatArray) -> FloatArray:
    """Return how far the transform moves a point, RAS+ mm."""
    point = LPS[:3, :3] @ point_mm
    moved = np.asarray(transform.TransformPoint(point.tolist()))
    return np.asarray(LPS[:3, :3] @ (moved - point))


def _angle_deg(transform: Any) -> float:
    matrix = np.reshape(transform.GetMatrix(), (3, 3))
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))))


def _over(shift: FloatArray, known: Mask) -> tuple[float | None, float | None, float | None]:
    x, y, z = (float(mm) if here else None for mm, here in zip(shift, known, strict=True))
    return x, y, z


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
