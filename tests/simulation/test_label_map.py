"""Label maps as anatomies: boxes of a few voxels with known places, and maps that cannot be right."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.anatomy import AUTOPET_NAMES, TOTAL_NAMES
from uptake.core.errors import GeometryError, InputError
from uptake.geometry import Volume
from uptake.simulation.label_map import label_map, lungs_of

# RAS+ world, 4 x 5 x 10 mm, turned by 20 degrees about the body's axis.
TURN = np.array([[np.cos(0.35), -np.sin(0.35), 0], [np.sin(0.35), np.cos(0.35), 0], [0, 0, 1]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = TURN @ np.diag([4.0, 5.0, 10.0])
OBLIQUE[:3, 3] = (-30.0, 12.0, 700.0)
PLAIN = np.diag([4.0, 5.0, 10.0, 1.0])


def boxes(affine: np.ndarray = PLAIN, **where: tuple[slice, slice, slice]) -> Volume:
    numbers = {name: value for value, name in TOTAL_NAMES.items()}
    array = np.zeros((16, 10, 12), np.uint8)
    for name, box in where.items():
        array[box] = numbers[name]
    return Volume(array, affine)


RIGHT, LEFT = (slice(10, 13), slice(2, 5), slice(3, 7)), (slice(2, 4), slice(2, 5), slice(3, 7))


@pytest.mark.parametrize("affine", [PLAIN, OBLIQUE])
def test_a_structure_is_where_it_is(affine):
    labels = label_map(boxes(affine, kidney_right=RIGHT, kidney_left=LEFT), TOTAL_NAMES)
    part = labels.structure("kidney_right")
    assert labels.labels.orientation == "LPS"
    assert part.volume_ml == pytest.approx(3 * 3 * 4 * 0.2)
    np.testing.assert_allclose(part.centre_mm, (affine @ (11.0, 3.0, 4.5, 1.0))[:3], atol=1e-9)
    base = affine[2, 3]
    assert (part.bottom_mm, part.top_mm) == pytest.approx((base + 25.0, base + 65.0))
    assert not part.cut
    both = labels.structure("kidney_right", "kidney_left")
    assert both.volume_ml == pytest.approx(5 * 3 * 4 * 0.2)
    assert labels.structure("spleen") is None


def test_what_the_map_cuts_is_known():
    top = (slice(10, 13), slice(2, 5), slice(5, 12))
    part = label_map(boxes(liver=top), TOTAL_NAMES).structure("liver")
    assert part.cut_above and part.cut and not part.cut_below


def test_islands_are_no_part_of_an_organ_but_of_the_bowel():
    where = {"liver": RIGHT, "colon": LEFT}
    labels = boxes(**where)
    labels.array[0, 9, 11], labels.array[0, 9, 0] = 5, 20
    made = label_map(labels, TOTAL_NAMES)
    assert made.structure("liver").volume_ml == pytest.approx(3 * 3 * 4 * 0.2)
    assert not made.structure("liver").cut
    assert made.structure("colon").volume_ml == pytest.approx((2 * 3 * 4 + 1) * 0.2)


def test_lobes_and_whole_lungs_are_the_same_lungs():
    lobes = boxes(lung_lower_lobe_right=RIGHT, lung_lower_lobe_left=LEFT)
    whole = Volume(np.where(lobes.array > 0, 5, 0).astype(np.uint8), lobes.affine)
    for labels in (label_map(lobes, TOTAL_NAMES), label_map(whole, AUTOPET_NAMES)):
        assert lungs_of(labels).volume_ml == pytest.approx(5 * 3 * 4 * 0.2)


def test_chambers_are_the_heart_and_published_head_glands_are_left_out():
    array = np.zeros((6, 6, 6), np.uint8)
    array[1:3, 1:3, 1:3], array[3:5, 1:3, 1:3], array[0, 0, 0] = 1, 2, 10
    names = {1: "heart_atrium_left", 2: "heart_ventricle_left", 10: "head_glands_published"}
    labels = label_map(Volume(array, PLAIN), names)
    assert dict(labels.classes) == {"heart": (1, 2)}


def test_numbers_without_a_name_and_names_without_an_organ_are_refused():
    labels = boxes(liver=RIGHT)
    with pytest.raises(InputError, match=r"the label 5 has no name in this numbering.*--anatomy-labels"):
        label_map(labels, {1: "spleen"})
    with pytest.raises(InputError, match="tail is no class that the simulator knows"):
        label_map(labels, {5: "tail"}, source="map.nii.gz")
    with pytest.raises(InputError, match="holds no organ, only head_glands_published"):
        label_map(labels, {5: "head_glands_published"})
    with pytest.raises(InputError, match="holds no organ, only zeros"):
        label_map(boxes(), TOTAL_NAMES)


def test_a_mirrored_map_and_names_of_another_numbering_are_refused():
    with pytest.raises(GeometryError, match="kidney_right does not lie to the right of kidney_left"):
        label_map(boxes(kidney_right=LEFT, kidney_left=RIGHT), TOTAL_NAMES)
    organs = boxes(liver=RIGHT, spleen=LEFT)
    # The ten organs published with LesionTracer: 1 spleen, 3 liver. Read as "total", 3 is the left kidney.
    published = np.select([organs.array == 5, organs.array == 1], [3, 1]).astype(np.uint8)
    published[6:8, 2:5, 3:7] = 2
    label_map(Volume(published, PLAIN), AUTOPET_NAMES)
    with pytest.raises(GeometryError, match="numbers mean something else"):
        label_map(Volume(published, PLAIN), TOTAL_NAMES)
