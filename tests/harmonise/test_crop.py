import numpy as np

from uptake.harmonise.crop import box, crop_to_nonzero


def test_a_voxel_counts_if_any_image_differs_from_zero():
    first, second = np.zeros((5, 6, 7)), np.zeros((5, 6, 7))
    first[1, 2, 3] = 4.0
    second[3, 2, 5] = -0.1
    crop = crop_to_nonzero([first, second])
    assert (crop.before, crop.lower, crop.upper) == ((5, 6, 7), (1, 2, 3), (4, 3, 6))
    assert first[box(crop)].shape == (3, 1, 3)


def test_air_of_a_ct_keeps_the_whole_image():
    crop = crop_to_nonzero([np.zeros((3, 4, 5)), np.full((3, 4, 5), -1024.0)])
    assert crop.lower == (0, 0, 0) and crop.upper == (3, 4, 5)


def test_nothing_but_zeros_keeps_everything():
    crop = crop_to_nonzero([np.zeros((3, 4, 5))])
    assert crop.lower == (0, 0, 0) and crop.upper == (3, 4, 5)
