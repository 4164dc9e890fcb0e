"""Line integrals against chords of a disk, the transpose against the inner product, slabs against the whole."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.simulation.attenuation import MU_WATER_PER_MM, correction_factor
from uptake.simulation.projector import Projector, ScanGeometry


def disk(n: int, pixel_mm: float, radius_mm: float, parts: int = 8) -> np.ndarray:
    fine = ((np.arange(n * parts) + 0.5) / parts - n / 2) * pixel_mm
    inside = (fine[:, None] ** 2 + fine[None, :] ** 2 <= radius_mm**2).astype(np.float32)
    return inside.reshape(n, parts, n, parts).mean(axis=(1, 3))[:, :, None]


@pytest.mark.parametrize(
    ("shape", "spacing", "subsets"),
    [((17, 23, 5), (4.0, 4.0, 3.0), 1), ((20, 12, 70), (2.0, 5.0, 4.0), 6), ((9, 9, 1), (3.3, 3.3, 3.0), 7)],
)
def test_the_adjoint_is_the_exact_transpose(shape, spacing, subsets):
    rng = np.random.default_rng(0)
    projector = Projector(ScanGeometry.of_image(shape, spacing, subsets=subsets), subsets=subsets)
    image = rng.uniform(size=shape).astype(np.float32)
    lines = projector.apply(image)
    other = rng.uniform(size=lines.shape).astype(np.float32)
    left = np.vdot(lines.astype(np.float64), other)
    right = np.vdot(image.astype(np.float64), projector.adjoint(other))
    assert left == pytest.approx(right, rel=1e-6)


def test_lines_through_a_disk_are_its_chords():
    n, pixel, radius = 101, 2.0, 80.0
    geometry = ScanGeometry.of_image((n, n, 1), (pixel,) * 3)
    lines = Projector(geometry).apply(disk(n, pixel, radius))[:, :, 0]
    s = geometry.radial_mm()
    chord = 2 * np.sqrt(np.maximum(radius**2 - s**2, 0))
    inner = np.abs(s) < 0.9 * radius
    np.testing.assert_allclose(lines[:, inner], np.broadcast_to(chord, lines.shape)[:, inner], rtol=0.02)
    # Every direction sees the same total: area / pitch.
    totals = lines.sum(axis=1) * geometry.bin_mm
    np.testing.assert_allclose(totals, np.pi * radius**2, rtol=0.01)


def test_the_centre_of_a_water_cylinder_of_20_cm_is_corrected_by_6_82():
    n, pixel = 65, 4.0
    projector = Projector(ScanGeometry.of_image((n, n, 1), (pixel,) * 3))
    lines = projector.apply(disk(n, pixel, 100.0) * np.float32(MU_WATER_PER_MM))
    middle = np.argmin(np.abs(projector.geometry.radial_mm()))
    assert correction_factor(lines[:, middle]) == pytest.approx(6.82, rel=0.01)


def test_rectangular_pixels_measure_in_millimetres():
    # A block of 24 mm x 30 mm: straight through along either axis.
    image = np.zeros((14, 12, 1), np.float32)
    image[5:9, 3:9] = 1.0
    geometry = ScanGeometry((14, 12), (6.0, 5.0), 2, 21, 2.0)
    along_j, along_i = Projector(geometry).apply(image)[:, 10, 0]
    assert along_j == pytest.approx(30.0, rel=1e-5) and along_i == pytest.approx(24.0, rel=1e-5)


def test_neither_slabs_nor_threads_nor_subsets_change_a_bit():
    shape = (24, 20, 150)
    geometry = ScanGeometry.of_image(shape, (4.0,) * 3, subsets=4)
    image = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
    one = Projector(geometry, subsets=4).apply(image)
    two = Projector(geometry, subsets=4, threads=2)
    np.testing.assert_array_equal(two.apply(image), one)
    np.testing.assert_array_equal(Projector(geometry).apply(image), one)
    np.testing.assert_array_equal(
        two.adjoint(one)[..., 100:101], Projector(geometry, subsets=4).adjoint(one[..., 100:101])
    )
    np.testing.assert_array_equal(two.apply_subset(3, image), one[two.angles_of(3)])


def test_angles_fill_the_subsets_and_lines_reach_the_corners():
    geometry = ScanGeometry.of_image((140, 100, 9), (4.0, 4.0, 4.0), subsets=21)
    assert geometry.n_angles % 21 == 0
    assert abs(geometry.radial_mm()[0]) >= np.hypot(280, 200) - 4.0
    assert ScanGeometry.of_image((400, 400, 9), (2.0, 2.0, 2.0)).n_angles == 160


@pytest.mark.parametrize("subsets", [0, 999])
def test_subsets_that_cannot_be_filled_are_refused(subsets):
    with pytest.raises(UsageError, match="subsets"):
        Projector(ScanGeometry.of_image((9, 9, 1), (4.0,) * 3), subsets=subsets)
    with pytest.raises(UsageError, match="positive"):
        ScanGeometry((9, 9), (4.0, 0.0), 4, 4, 4.0)
