"""Hand-made images."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.geometry import Volume


@pytest.fixture
def oblique() -> np.ndarray:
    """(4, 4): 30 degrees about z, anisotropic, second axis flipped."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turn = np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [2.0, 3.0, 5.0]
    affine[:3, 3] = [-40.0, 12.5, -700.0]
    return affine


@pytest.fixture
def suv(oblique: np.ndarray) -> Volume:
    """A (6, 5, 4) PET that passes for SUV: 0 to 11.9."""
    return Volume((np.arange(120, dtype=np.float32) / 10).reshape(6, 5, 4), oblique)


@pytest.fixture
def hu(suv: Volume) -> Volume:
    """A CT on the grid of `suv`, -1000 to 190 HU."""
    return suv.with_array(np.arange(120, dtype=np.float32).reshape(6, 5, 4) * 10 - 1000)
