import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.geometry.nearest import nearest_distances

SPACING = (1.0, 2.0, 5.0)


def slow(points, targets, spacing):
    """Return the distances as the definition says them: every point against every target."""
    a, b = np.argwhere(points) * spacing, np.argwhere(targets) * spacing
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2)).min(axis=1)


def test_by_hand():
    points, targets = np.zeros((2, 6, 6, 6), bool)
    points[0, 0, 0] = points[3, 0, 0] = points[0, 2, 1] = targets[0, 0, 0] = True
    # In the order of the scan: (0, 0, 0), (0, 2, 1) at (0, 4, 5) mm, (3, 0, 0).
    assert nearest_distances(points, targets, spacing_mm=SPACING).tolist() == [0.0, math.sqrt(16 + 25), 3.0]


@given(st.integers(0, 10_000), st.floats(0.005, 0.5), st.sampled_from([(1.0, 1.0, 1.0), SPACING, (4.07, 4.07, 3.0)]))
def test_every_mask_agrees_with_the_definition(seed, share, spacing):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 16, 3)
    points, targets = rng.random(shape) < 0.2, rng.random(shape) < share
    targets.flat[0] = True
    found = nearest_distances(points, targets, spacing_mm=spacing)
    np.testing.assert_allclose(found, slow(points, targets, spacing), rtol=1e-14)


@pytest.mark.parametrize("gap", [3, 6, 7, 8, 40])
def test_masks_far_apart(gap):
    points, targets = np.zeros((2, 60, 9, 9), bool)
    points[5:9, 2:5, 2:5] = targets[8 + gap : 10 + gap, 4:6, 3:7] = True
    np.testing.assert_allclose(nearest_distances(points, targets, spacing_mm=SPACING), slow(points, targets, SPACING))


def test_nothing_to_measure():
    full, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    assert nearest_distances(empty, full, spacing_mm=SPACING).shape == (0,)
    assert nearest_distances(full, empty, spacing_mm=SPACING).tolist() == [math.inf] * 8


def test_memory_order_does_not_matter():
    rng = np.random.default_rng(1)
    points, targets = rng.random((2, 9, 8, 7)) < 0.1
    expected = nearest_distances(points, targets, spacing_mm=SPACING)
    found = nearest_distances(np.asfortranarray(points), np.asfortranarray(targets), spacing_mm=SPACING)
    assert found.tolist() == expected.tolist()
