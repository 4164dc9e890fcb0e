"""The ways in: what a user calls a study becomes a `Case`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from uptake.cases import Case
from uptake.core.errors import GeometryError, UsageError
from uptake.geometry.grid import overlap_fraction, require_same_frame
from uptake.geometry.volume import Volume
from uptake.io.foreign import as_volume, is_foreign
from uptake.io.read import read
from uptake.physics.plausibility import require_hu, require_suv


def case_of(study: Any, ct: Any, *, assume_suv: bool) -> Case:
    """Return the case that a study is: a path, a `Case`, a `Volume`, or an image of another package, checked.

    Raises
    ------
    InputError
        Of the kind that fits: NaN, units, geometry.
    UsageError
        If PET and CT are not given in the same way.
    """
    if isinstance(study, Case):
        if ct is not None:
            raise UsageError("a Case holds its own CT; ct=… goes with a path or an image.")
        return study
    if isinstance(study, str | Path):
        if not (ct is None or isinstance(ct, str | Path)):
            raise UsageError("give PET and CT both as paths, or both as images.")
        return read(study, ct=ct, assume_suv=assume_suv, labels=False)
    if not (isinstance(study, Volume) or is_foreign(study)):
        as_volume(study, name="the PET")  # raises with the list of what is accepted
    pet = _numbers(as_volume(study, name="the PET"), "the PET")
    if not assume_suv:
        require_suv(pet.array, pet.voxel_volume_ml, name="the PET")
    if ct is None:
        return Case("case", pet)
    if isinstance(ct, str | Path):
        raise UsageError("give PET and CT both as paths, or both as images.")
    hu = _numbers(as_volume(ct, name="the CT"), "the CT")
    require_same_frame(pet, hu, names=("the PET", "the CT"))
    if max(overlap_fraction(pet, hu), overlap_fraction(hu, pet)) == 0.0:
        raise GeometryError("the PET and the CT do not overlap in space; they are of two examinations.")
    warnings = require_hu(hu.array, hu.voxel_volume_ml, name="the CT")
    return Case("case", pet, hu, warnings=tuple(warnings))


def _numbers(volume: Volume, name: str) -> Volume:
    array = np.asarray(volume.array, dtype=np.float32)
    if not np.isfinite(array).all():
        raise GeometryError(f"{name} holds NaN or infinite voxels; convert it again.")
    return volume.with_array(array)
