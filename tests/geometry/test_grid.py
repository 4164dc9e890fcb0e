from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import GeometryError
from uptake.geometry import Grid, Volume, corner_distance_mm, overlap_fraction, reorient, require_same_grid, same_grid


def volume(shape=(10, 12, 14), shift=(0.0, 0.0, 0.0), frame=None, **options) -> Volume:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = shift
    return Volume(np.zeros(shape), affine, frame_of_reference=frame, **options)


def test_corners_are_the_outer_edges():
    corners = Grid((2, 1, 1), np.diag([2.0, 3.0, 4.0, 1.0])).corners_mm()
    assert corners.min(axis=0).tolist() == [-1.0, -1.5, -2.0]
    assert corners.max(axis=0).tolist() == [3.0, 1.5, 2.0]


def test_distance_at_the_corners():
    assert corner_distance_mm(volume(), volume(shift=(3.0, 0.0, 4.0))) == pytest.approx(5.0)
    assert corner_distance_mm(volume(), volume((10, 12, 15))) == float("inf")
    # 1e-3 rad about z at half a metre: half a millimetre, whatever the entries of the matrix.
    turned = np.diag([2.0, 3.0, 4.0, 1.0])
    turned[:2, :2] = [[2.0, -0.003], [0.002, 3.0]]
    far = Volume(np.zeros((250, 10, 10)), turned)
    assert corner_distance_mm(far, volume((250, 10, 10))) == pytest.approx(0.5, abs=0.02)


def test_same_grid_has_a_tolerance_in_mm():
    assert same_grid(volume(), volume(shift=(0.09, 0.0, 0.0)))
    assert not same_grid(volume(), volume(shift=(0.11, 0.0, 0.0)))
    assert same_grid(volume(), volume(shift=(0.9, 0.0, 0.0)), tolerance_mm=1.0)


def test_a_flipped_grid_is_another_grid():
    assert not same_grid(volume(), reorient(volume(), "LAS"))


def test_refusals_name_both_and_the_remedy():
    with pytest.raises(GeometryError, match=r"a\.nii has shape .* b\.nii has shape .* Resample"):
        require_same_grid(volume(), volume((10, 12, 15)), names=("a.nii", "b.nii"))
    with pytest.raises(GeometryError, match=r"up to 2\.00 mm apart .*orientation RAS and RAS.* Do this"):
        require_same_grid(volume(), volume(shift=(2.0, 0.0, 0.0)), remedy="Do this.")
    with pytest.raises(GeometryError, match=r"frames of reference .…1\.2 and …1\.3"):
        require_same_grid(volume(frame="1.2"), volume(frame="1.3"))
    require_same_grid(volume(frame="1.2"), volume())


def test_overlap():
    assert overlap_fraction(volume(), volume()) == 1.0
    assert overlap_fraction(volume(), volume(shift=(500.0, 0.0, 0.0))) == 0.0
    half = overlap_fraction(volume(), volume(shift=(10.0, 0.0, 0.0)))  # 10 of 20 mm
    assert half == pytest.approx(0.5, abs=0.03)
    small = volume((5, 6, 7))
    assert overlap_fraction(small, volume()) == 1.0
    assert overlap_fraction(volume(), small) == pytest.approx(1 / 8, abs=0.03)
    assert overlap_fraction(volume(), reorient(volume(), "PIL")) == 1.0
