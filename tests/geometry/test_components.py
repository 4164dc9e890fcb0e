import numpy as np
import pytest
from scipy import ndimage

from uptake.core.errors import InputError, UsageError
from uptake.geometry import Volume
from uptake.geometry.components import bounding_box, connected_components, foreground


def two_cubes(offset):
    """Return two voxels in a 4x4x4 grid, the second at (1, 1, 1) + offset."""
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 1, 1] = True
    mask[tuple(np.add((1, 1, 1), offset))] = True
    return mask


@pytest.mark.parametrize(
    ("offset", "counts"),
    [((1, 0, 0), (1, 1, 1)), ((1, 1, 0), (2, 1, 1)), ((1, 1, 1), (2, 2, 1)), ((2, 0, 0), (2, 2, 2))],
    ids=["face", "edge", "corner", "gap"],
)
def test_connectivity_decides_what_touches(offset, counts):
    found = tuple(connected_components(two_cubes(offset), connectivity=c).count for c in (6, 18, 26))
    assert found == counts


def test_boxes_and_counts_belong_to_the_labels():
    mask = np.zeros((6, 5, 4), bool)
    mask[1:3, 2, 1:4] = True
    mask[5, 0, 0] = True
    parts = connected_components(mask)
    assert parts.voxels.tolist() == [6, 1]
    assert parts.boxes == ((slice(1, 3), slice(2, 3), slice(1, 4)), (slice(5, 6), slice(0, 1), slice(0, 1)))
    for number, box in enumerate(parts.boxes, start=1):
        assert (parts.labels[box] == number).sum() == parts.voxels[number - 1]
    assert ((parts.labels > 0) == mask).all()


def test_touched_tells_which_components_share_a_voxel():
    mask = np.zeros((6, 1, 1), bool)
    mask[[0, 2, 3, 5]] = True
    other = np.zeros_like(mask)
    other[3] = True
    parts = connected_components(mask)
    assert parts.touched(other).tolist() == [False, True, False]
    assert not parts.touched(np.zeros_like(mask)).any()


def test_empty_mask_has_no_components_and_no_box():
    mask = np.zeros((3, 3, 3), bool)
    parts = connected_components(mask)
    assert parts.count == 0 and parts.boxes == () and not parts.labels.any()
    assert parts.touched(~mask).shape == (0,)
    assert bounding_box(mask) is None


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_does_not_matter(order):
    rng = np.random.default_rng(3)
    mask = rng.random((9, 8, 7)) > 0.8
    assert (connected_components(np.asarray(mask, order=order)).labels == connected_components(mask).labels).all()


@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (18, 2), (26, 3)])
def test_thin_random_masks_agree_with_scipy(connectivity, rank):
    rng = np.random.default_rng(connectivity)
    structure = ndimage.generate_binary_structure(3, rank)
    for _ in range(300):
        mask = rng.random(rng.integers(1, 6, 3)) < rng.uniform(0.1, 0.9)
        assert connected_components(mask, connectivity=connectivity).count == ndimage.label(mask, structure)[1]


def test_unknown_connectivity_is_refused():
    with pytest.raises(UsageError, match="6, 18 or 26"):
        connected_components(np.ones((2, 2, 2), bool), connectivity=8)


@pytest.mark.parametrize(
    ("value", "message"),
    [(0.5, "fractions"), (np.nan, "NaN"), (-1.0, "negative"), (-1, "negative"), ("a", "no labels")],
)
def test_what_is_no_mask_is_refused(value, message):
    array = np.zeros((2, 2, 2)) if isinstance(value, float) else np.full((2, 2, 2), value)
    array[0, 0, 0] = value
    with pytest.raises(InputError, match=message):
        foreground(Volume(array, np.eye(4)), name="lesions")


def test_whole_numbers_in_any_type_are_a_mask():
    for dtype in (bool, np.uint8, np.int16, np.float32):
        array = np.zeros((2, 2, 2), dtype)
        array[1, 1, 1] = 1
        assert foreground(Volume(array, np.eye(4))).sum() == 1
