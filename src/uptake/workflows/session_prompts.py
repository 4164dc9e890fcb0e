"""What a prompt must be to make sense on an image: inside it, on something, and at odds with no other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from uptake.cases import Case
from uptake.core.errors import InputError
from uptake.harmonise.onto import BODY_HU, BODY_SUV
from uptake.io.prompts import Prompt


def require_sense(prompt: Prompt, case: Case, earlier: Sequence[Prompt]) -> None:
    """Refuse a prompt that can only be a mistake.

    Parameters
    ----------
    prompt : Prompt
        Masks are on the PET's grid, and need no look.
    case : Case
    earlier : sequence of Prompt
        Those that were kept.

    Raises
    ------
    InputError
        If it lies outside the image (a box: wholly), a positive click or scribble lies in air, or a voxel was given the
        opposite label for the same object before.
    """
    if prompt.kind == "mask":
        return
    index = case.pet.index_of(prompt.places_mm)
    inside = ((index >= -0.5) & (index <= np.array(case.pet.shape) - 0.5)).all(axis=1)
    if not (inside.any() if prompt.kind == "box" else inside.all()):
        raise InputError(
            f"the {prompt.kind} at voxel {np.round(index[~inside][0], 1).tolist()} lies outside the image "
            f"{case.pet.shape}; positions are (i, j, k) of the PET's array, or mm RAS+ with space='mm'."
        )
    if prompt.kind == "box":
        return
    voxels = np.rint(index).astype(int).clip(0, np.array(case.pet.shape) - 1)
    if prompt.positive and all(in_air(case, place) for place in voxels):
        raise InputError(
            f"the {prompt.kind} at voxel {voxels[0].tolist()} lies in air: there is no uptake and no body there. "
            "Positions are (i, j, k) of the PET's array."
        )
    _require_no_contradiction(prompt, voxels, case, earlier)


def _require_no_contradiction(
    prompt: Prompt, voxels: npt.NDArray[np.int_], case: Case, earlier: Sequence[Prompt]
) -> None:
    own = {tuple(place) for place in voxels.tolist()}
    for other in earlier:
        if other.object_id != prompt.object_id or other.kind not in ("point", "scribble"):
            continue
        if other.positive == prompt.positive:
            continue
        theirs = np.rint(case.pet.index_of(other.places_mm)).astype(int).tolist()
        both = own & {tuple(place) for place in theirs}
        if both:
            raise InputError(
                f"voxel {list(min(both))} was marked as {'object' if other.positive else 'background'} of object "
                f"{prompt.object_id} before and as the opposite now; undo one of them."
            )


def in_air(case: Case, place: npt.NDArray[np.int_]) -> bool:
    """Return whether PET around a voxel (i, j, k) shows nothing, and the CT, if any, no body."""
    around = tuple(slice(max(0, n - 1), n + 2) for n in place.tolist())
    if float(np.mean(case.pet.array[around])) > BODY_SUV:
        return False
    if case.ct is None:
        return True
    index = np.rint(case.ct.index_of(case.pet.world_of(place))).astype(int)
    if (index < 0).any() or (index >= np.array(case.ct.shape)).any():
        return True
    return float(case.ct.array[tuple(index)]) < BODY_HU
