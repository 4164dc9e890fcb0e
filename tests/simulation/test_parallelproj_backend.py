"""The optional backend: what it hands to the library, its absence, and the library itself where it is installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from uptake.core.errors import UsageError
from uptake.simulation import parallelproj_backend
from uptake.simulation.misalignment import Motion
from uptake.simulation.parallelproj_backend import ParallelprojProjector
from uptake.simulation.petscan import scan_patient
from uptake.simulation.projector import Projector, ScanGeometry

SHAPE, SPACING = (21, 17, 3), (4.0, 4.0, 1.0)


def sampled_forward(start, end, image, origin, size):
    """Line integrals by sampling each line 400 times: the library's signature, none of its code."""
    t = (np.arange(400) + 0.5) / 400
    points = start[:, None, :] + (end - start)[:, None, :] * t[None, :, None]
    index = np.moveaxis((points - origin) / size, -1, 0)
    values = map_coordinates(image, index, order=1, mode="constant")
    return values.mean(axis=1) * np.linalg.norm(end - start, axis=1)


@pytest.fixture
def stand_in(monkeypatch):
    calls = []

    def back(start, end, shape, origin, size, values):
        calls.append((start, end, shape, origin, size, values))
        return np.zeros(shape, np.float32)

    monkeypatch.setitem(sys.modules, "parallelproj", SimpleNamespace(joseph3d_fwd=sampled_forward, joseph3d_back=back))
    return calls


def test_the_lines_handed_over_are_those_of_the_sparse_projector(stand_in):
    geometry = ScanGeometry.of_image(SHAPE, SPACING, subsets=4)
    image = np.zeros(SHAPE, np.float32)
    image[5:15, 4:12, 1] = 1.0
    image[12:16, 8:11, 2] = 2.0
    ours = Projector(geometry, subsets=4).apply(image)
    theirs = ParallelprojProjector(geometry, subsets=4).apply(image)
    assert np.abs(theirs - ours).max() < 0.08 * ours.max()
    assert theirs.sum() == pytest.approx(ours.sum(), rel=5e-3)
    assert not theirs[:, :, 0].any()


def test_the_adjoint_hands_over_the_same_lines_in_the_same_order(stand_in):
    geometry = ScanGeometry.of_image(SHAPE, SPACING, subsets=4)
    projector = ParallelprojProjector(geometry, subsets=4)
    lines = np.random.default_rng(0).uniform(size=(len(projector.angles_of(1)), geometry.n_bins, 3)).astype(np.float32)
    projector.adjoint_subset(1, lines)
    start, end, shape, _, _, values = stand_in[0]
    assert shape == SHAPE and (values == lines.ravel()).all()
    assert start.shape == end.shape == (lines.size, 3)
    assert (start[:, 2] == np.tile([-1.0, 0.0, 1.0], lines.size // 3)).all()


def test_without_the_library_it_is_refused_with_the_remedy(monkeypatch, trunk):
    monkeypatch.setitem(sys.modules, "parallelproj", None)
    assert not parallelproj_backend.available()
    with pytest.raises(UsageError, match="conda-forge"):
        ParallelprojProjector(ScanGeometry.of_image(SHAPE, SPACING))
    with pytest.raises(UsageError, match="conda-forge"):
        scan_patient(trunk, seed=0, motion=Motion(), backend="parallelproj")
    with pytest.raises(UsageError, match="astra"):
        scan_patient(trunk, seed=0, motion=Motion(), backend="astra")


def test_the_library_gives_the_same_line_integrals():
    pytest.importorskip("parallelproj")
    if not parallelproj_backend.available():
        pytest.skip("this parallelproj has no joseph3d_fwd")
    geometry = ScanGeometry.of_image((40, 40, 4), (4.0, 4.0, 1.0), subsets=2)
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(40, 40, 4)).astype(np.float32)
    ours, theirs = (kind(geometry, subsets=2) for kind in (Projector, ParallelprojProjector))
    np.testing.assert_allclose(theirs.apply(image), ours.apply(image), rtol=1e-2, atol=0.5)
    lines = rng.uniform(size=(geometry.n_angles, geometry.n_bins, 4)).astype(np.float32)
    left = np.vdot(theirs.apply(image).astype(float), lines)
    assert left == pytest.approx(np.vdot(image.astype(float), theirs.adjoint(lines)), rel=1e-4)
