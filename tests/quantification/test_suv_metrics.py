import math

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.geometry import Volume
from uptake.quantification.lesions import measure_lesions
from uptake.quantification.suv_metrics import PEAK_RADIUS_MM, mtv_threshold, peak_kernel, suv_peak

CLINICAL = [(4.0, 4.0, 4.0), (4.07, 4.07, 3.0), (5.47, 5.47, 3.27), (2.04, 2.04, 3.0), (1.5, 2.0, 1.0)]


def rotated(spacing, angle=0.5):
    """Return an affine turned by `angle` about x, then about z, with an origin."""
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = (-40, 30, 12)
    return affine


def centred(volume):
    """Return the distance of every voxel centre from the middle voxel, mm."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    return np.linalg.norm(volume.world_of(index) - volume.world_of(np.array(volume.shape) // 2), axis=-1)


def peak_at(pet, *centre):
    return suv_peak(pet.array, np.array([centre]), peak_kernel(pet.affine))


def test_radius_is_that_of_one_millilitre():
    assert pytest.approx(6.2035, abs=1e-4) == PEAK_RADIUS_MM


@pytest.mark.parametrize("spacing", CLINICAL)
def test_weights_add_up_to_one_and_the_whole_voxels_to_one_millilitre(spacing):
    for affine in (np.diag([*spacing, 1]), rotated(spacing)):
        kernel = peak_kernel(affine)
        assert kernel.weights.sum() == pytest.approx(1)
        # The middle voxel lies wholly inside the sphere: its weight is its volume in mL.
        assert kernel.weights.max() == pytest.approx(np.prod(spacing) / 1000, rel=2e-3)


@pytest.mark.parametrize("spacing", CLINICAL)
def test_uniform_sphere_has_its_own_value(spacing):
    blank = Volume(np.zeros((25, 25, 25)), rotated(spacing))
    pet = blank.with_array(np.where(centred(blank) <= 15, 7.5, 0.3))
    middle = tuple(np.array(pet.shape) // 2)
    assert peak_at(pet, *middle).suv == pytest.approx(7.5, abs=1e-3)
    table = measure_lesions(pet, blank.with_array(centred(blank) <= 15))
    assert table.totals.suv_peak == pytest.approx(7.5, abs=1e-3)
    assert table.totals.suv_peak <= table.totals.suv_max


@pytest.mark.parametrize("spacing", CLINICAL)
def test_single_hot_voxel_is_diluted_in_one_millilitre(spacing):
    pet = np.zeros((21, 21, 21))
    pet[10, 10, 10] = 40.0
    peak = peak_at(Volume(pet, np.diag([*spacing, 1])), 10, 10, 10)
    assert peak.suv == pytest.approx(40.0 * np.prod(spacing) / 1000, rel=2e-3)


def test_moving_a_hot_ball_within_a_voxel_changes_the_peak_by_less_than_three_percent():
    affine = np.diag([4.07, 4.07, 3.0, 1])
    blank = Volume(np.zeros((17, 17, 21)), affine)
    index = np.stack(np.meshgrid(*map(np.arange, blank.shape), indexing="ij"), axis=-1)
    peaks = []
    for shift in np.random.default_rng(0).uniform(-0.5, 0.5, (12, 3)):
        centre = blank.world_of(np.array([8, 8, 10]) + shift)
        distance = np.linalg.norm(blank.world_of(index) - centre, axis=-1)
        # A 25 mm ball seen with 7 mm resolution, nearly: a smooth edge.
        pet = blank.with_array(5.0 / (1 + np.exp((distance - 12.5) / 2)))
        peaks.append(measure_lesions(pet, blank.with_array(distance < 12.5)).totals.suv_peak)
    assert max(peaks) / min(peaks) - 1 < 0.03


def test_the_sphere_takes_the_image_around_the_lesion():
    pet = np.full((9, 9, 9), 2.0)
    mask = np.zeros((9, 9, 9), bool)
    mask[4, 4, 4] = True
    pet[mask] = 6.0
    grid = np.diag([4.0, 4, 4, 1])
    # 0.064 mL of the sphere has 6, the rest 2.
    expected = 2 + 4 * 0.064
    assert measure_lesions(Volume(pet, grid), Volume(mask, grid)).totals.suv_peak == pytest.approx(expected, rel=1e-3)


def test_centre_may_be_any_voxel_of_the_lesion_not_only_the_hottest():
    pet = np.zeros((15, 15, 15))
    pet[3, 7, 7] = 10.0
    pet[9:12, 6:9, 6:9] = 6.0
    grid = np.diag([4.0, 4, 4, 1])
    table = measure_lesions(Volume(pet, grid), Volume(np.ones(pet.shape, np.uint8), grid))
    (lesion,) = table.lesions
    assert lesion.hottest_mm == (12, 28, 28)
    assert lesion.peak_mm == (40, 28, 28)


def test_at_the_edge_the_mean_is_over_the_part_inside():
    pet = np.full((8, 8, 8), 3.0)
    volume = Volume(pet, np.diag([2.0, 2, 2, 1]))
    corner = peak_at(volume, 0, 0, 0)
    assert corner.suv == pytest.approx(3.0)
    # An eighth of the sphere, and half a voxel more on each side.
    assert 1 / 8 < corner.inside < 1 / 3
    assert peak_at(volume, 4, 4, 4).inside == pytest.approx(1.0)
    only_corner = np.zeros(pet.shape, bool)
    only_corner[0, 0, 0] = True
    table = measure_lesions(volume, volume.with_array(only_corner))
    assert table.lesions[0].suv_peak_inside == pytest.approx(corner.inside)
    assert "edge of the image" in table.warnings[0]


def test_a_sphere_that_takes_in_hotter_tissue_beside_the_lesion_is_reported():
    pet = np.full((9, 9, 9), 1.0)
    pet[6:] = 30.0
    mask = np.zeros(pet.shape, bool)
    mask[4:6, 4, 4] = True
    table = measure_lesions(Volume(pet, np.diag([4.0, 4, 4, 1])), Volume(mask, np.diag([4.0, 4, 4, 1])))
    assert table.totals.suv_peak > table.totals.suv_max == 1.0
    assert "hotter tissue beside" in table.warnings[0]


def test_large_lesions_give_the_same_peak_as_trying_every_voxel():
    rng = np.random.default_rng(5)
    pet = rng.gamma(2.0, 1.0, (34, 33, 32))
    kernel = peak_kernel(np.diag([4.0, 4, 3, 1]))
    every = np.argwhere(np.ones(pet.shape, bool))
    found = suv_peak(pet, every, kernel)
    by_parts = [suv_peak(pet, part, kernel) for part in np.array_split(every, 4)]
    best = max(by_parts, key=lambda peak: peak.suv)
    assert len(every) > 16384
    assert found.suv == pytest.approx(best.suv, abs=1e-12) and found.index == best.index


def test_voxels_larger_than_the_sphere_give_their_own_value():
    pet = np.zeros((3, 3, 3))
    pet[1, 1, 1] = 8.0
    assert peak_at(Volume(pet, np.diag([20.0, 20, 20, 1])), 1, 1, 1).suv == 8.0


@pytest.mark.parametrize(
    ("method", "threshold"), [("mask", None), ("41%", 4.1), ("50%", 5.0), ("suv2.5", 2.5), ("suv4", 4.0)]
)
def test_threshold_rules(method, threshold):
    assert mtv_threshold(method, 10.0) == (None if threshold is None else pytest.approx(threshold))


@pytest.mark.parametrize("method", ["", "41", "suv", "%", "101%", "0%", "suv-1", "suvnan", "liver", "4.0", "suvinf"])
def test_unknown_rules_are_refused(method):
    with pytest.raises(UsageError, match="no MTV rule"):
        mtv_threshold(method, 10.0)
