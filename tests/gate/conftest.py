"""A simulated patient that all rules look at, and ways to spoil it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from uptake.cases import Case
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume
from uptake.simulation import PatientConfig, simulate_patient


@pytest.fixture(scope="session")
def patient() -> Case:
    """A man of BMI 26 with his arms up, vertex to mid-thigh, 6 mm voxels, PET and CT perfectly aligned."""
    config = PatientConfig(sex="male", bmi=26.0, arms="up")
    return simulate_patient(502, spacing_mm=(6.0, 6.0, 6.0), n_lesions=3, config=config).case


@pytest.fixture(scope="session")
def flip() -> Callable[[Volume, int], Volume]:
    """Return a function that reverses an image along a world axis (0 x, 1 y, 2 z) and leaves its header as it was."""

    def flipped(volume: Volume, axis: int) -> Volume:
        turned = reorient(volume, "RAS")
        return turned.with_array(np.ascontiguousarray(np.flip(turned.array, axis)))

    return flipped


@pytest.fixture(scope="session")
def cut() -> Callable[..., Case]:
    """Return a function that keeps a part of a case: ``cut(case, z=(0.2, 0.5))``, shares from low to high."""

    def part(
        case: Case,
        *,
        x: tuple[float, float] = (0, 1),
        y: tuple[float, float] = (0, 1),
        z: tuple[float, float] = (0, 1),
    ) -> Case:
        def volume(whole: Volume | None) -> Volume | None:
            if whole is None:
                return None
            turned = reorient(whole, "RAS")
            ends = [(round(a * n), round(b * n)) for (a, b), n in zip((x, y, z), turned.shape, strict=True)]
            affine = turned.affine.copy()
            affine[:3, 3] += affine[:3, :3] @ np.array([low for low, _ in ends])
            return Volume(turned.array[tuple(slice(low, high) for low, high in ends)].copy(), affine)

        pet = volume(case.pet)
        assert pet is not None
        return replace(case, pet=pet, ct=volume(case.ct), lesions=None, organs=None)

    return part
