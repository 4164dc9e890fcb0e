"""`harmonise`: one case onto the model's grid, with the record of how it came there."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.cases import Case, Crop, HarmonisedCase, Resample, Scale, Trace
from uptake.core.errors import InputError, ModelError
from uptake.core.types import Shape3
from uptake.geometry.affine import spacing_mm
from uptake.geometry.components import component_voxels, labelled
from uptake.harmonise.crop import box, crop_to_mask, crop_to_nonzero, filled
from uptake.harmonise.normalise import normalise, scale_of, scaled
from uptake.harmonise.plan import Plan, channel_on_pet_grid
from uptake.harmonise.resample import labels_resized, resized

BODY_HU = -500.0
"""CT above this is body (or table), below it air or lung; the lung is found by its PET or by what surrounds it."""

BODY_SUV = 0.1
"""PET above this, averaged over a few voxels, is body: fat shows 0.2 to 0.4, air nothing but noise."""

BODY_PART = 0.01
"""Pieces smaller than this share of the largest are noise in the air, not body."""

ABSENT = 0.0
"""Normalised value of a channel that is not there; channel dropout in training writes the same."""


def harmonise(
    case: Case, plan: Plan, *, organ_table: npt.NDArray[np.uint8] | None = None
) -> tuple[HarmonisedCase, Trace]:
    """Return the case on the model's grid and the trace that `restore` walks back.

    Order of steps, as published for LesionTracer: CT to the PET grid; axes into the model's orientation; crop to
    non-zero; normalise; resample (cubic); the plan may say otherwise. Labels follow by their linear indicators.

    Parameters
    ----------
    case : Case
    plan : Plan
    organ_table : array (n,) uint8, optional
        Label of the case's organ map -> class of the method (`core.anatomy.class_table`); without it organs are left
        out.

    Returns
    -------
    HarmonisedCase
        channels (c, z, y, x) float32.
    Trace

    Raises
    ------
    ModelError
        If the plan names a channel that a case cannot have.
    InputError
        If the organ map holds a label that the table does not know.
    """
    change = plan.axis_change(case.pet.affine)
    images: dict[str, npt.NDArray[np.float32] | None] = {}
    for rule in plan.channels:
        if rule.name not in ("ct", "pet"):
            raise ModelError(f"the model wants a channel {rule.name!r}; cases have 'ct' and 'pet'.")
        image = channel_on_pet_grid(case, rule.name)
        images[rule.name] = None if image is None else change.apply(image)
    present = [image for image in images.values() if image is not None]
    turned = spacing_mm(case.pet.affine @ change.matrix(case.pet.shape))
    crop = crop_to_nonzero(present) if plan.crop == "nonzero" else _body_crop(case, plan, turned)
    where = box(crop)
    before = present[0][where].shape
    after = grid_shape((before[0], before[1], before[2]), turned, plan.spacing_mm)
    separate = plan.separate_axis(turned, plan.spacing_mm)
    inside = filled(present)[where] if any(rule.inside_only for rule in plan.channels) else None

    channels = np.full((len(plan.channels), *after), ABSENT, dtype=np.float32)
    scales = [Scale(0.0, 1.0)] * len(plan.channels)
    target = None
    body = np.zeros(after, dtype=bool)
    for index, rule in enumerate(plan.channels):
        image = images[rule.name]
        if image is None:
            continue
        cut = image[where]
        if plan.normalise_last:
            given = resized(cut, after, order=plan.image_order, separate=separate)
            channels[index] = normalise(given, rule)
        else:
            given = cut
            channels[index] = resized(normalise(cut, rule, inside), after, order=plan.image_order, separate=separate)
        if rule.scheme != "rescale_0_1":
            scales[index] = scale_of(given, rule, inside)
        if rule.name == "pet" and case.full_dose is not None:
            # In the numbers of the low-dose image: those of its own would be unknown when only the low dose is there.
            whole = scaled(change.apply(np.asarray(case.full_dose.array, dtype=np.float32))[where], scales[index])
            target = resized(whole, after, order=plan.image_order, separate=separate)
        inside_body = _body(cut, rule.name)
        body |= inside_body if after == before else resized(inside_body.astype(np.float32), after, order=1) > 0
    labels = None
    if case.lesions is not None:
        binary = (np.asarray(case.lesions.array) > 0).astype(np.uint8)
        labels = labels_resized(change.apply(binary)[where], after, separate=separate)
    organs = None
    if case.organs is not None and organ_table is not None:
        given = np.asarray(case.organs.array)
        if int(given.max()) >= len(organ_table) or int(given.min()) < 0:
            raise InputError(
                f"{case.id}: its organ map holds label {int(given.max())}, the table of organ labels ends at "
                f"{len(organ_table) - 1}; say which numbering the map has (--organ-labels)."
            )
        organs = labels_resized(change.apply(organ_table[given])[where], after, separate=separate)
    trace = Trace(
        source_shape=case.pet.shape,
        source_affine=case.pet.affine,
        axes=change,
        crop=crop,
        resample=Resample((before[0], before[1], before[2]), after),
        spacing_mm=plan.spacing_mm,
        separate_axis=plan.separate_axis(plan.spacing_mm, turned),
        frame_of_reference=case.pet.frame_of_reference,
    )
    absent = tuple(name for name, image in images.items() if image is None)
    return HarmonisedCase(case.id, channels, labels, body, absent, organs, tuple(scales), target), trace


def _body_crop(case: Case, plan: Plan, turned: npt.NDArray[np.floating]) -> Crop:
    """Return the box of the largest piece of body; of CT where there is one, whatever channels the plan takes."""
    found = channel_on_pet_grid(case, "ct")
    body = _body(np.asarray(case.pet.array, dtype=np.float32), "pet") if found is None else found > BODY_HU
    pieces, count = ndimage.label(plan.axis_change(case.pet.affine).apply(body))
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        pieces = pieces == sizes.argmax()
    z, y, x = (math.ceil(plan.crop_margin * m / s - 1e-6) for m, s in zip(plan.spacing_mm, turned, strict=True))
    return crop_to_mask(np.asarray(pieces > 0), (z, y, x))


def _body(image: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.bool_]:
    """Return where one image shows anything but air; scattered noise is not taken for body."""
    inside = image > BODY_HU if name == "ct" else ndimage.uniform_filter(image, size=3, mode="nearest") > BODY_SUV
    pieces, count = labelled(inside, connectivity=6)
    if count < 2:
        return np.asarray(inside)
    sizes = component_voxels(pieces, inside, count)
    large = np.concatenate([[False], sizes >= BODY_PART * sizes.max()])
    return np.asarray(large[pieces])


def grid_shape(shape: Shape3, spacing: npt.NDArray[np.floating], target_mm: tuple[float, float, float]) -> Shape3:
    """Return the number of voxels after resampling: round(size · spacing / target), half to even, at least 1.

    nnU-Net: (263, 256, 256) voxels of (3.27, 2.734375, 2.734375) mm become (287, 344, 344) of (3, 2.0364, 2.0364).
    """
    a, b, c = (max(1, round(float(s / t * n))) for n, s, t in zip(shape, spacing, target_mm, strict=True))
    return a, b, c
