"""What a prompt must be to make sense on an image."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.cases import Case
from uptake.core.errors import InputError
from uptake.geometry import Volume
from uptake.io.prompts import Prompt
from uptake.workflows.session_prompts import in_air, require_sense

AFFINE = np.array([[0, -4.0, 0, 10], [3.0, 0, 0, -5], [0, 0, 5.0, 7], [0, 0, 0, 1]])
"""Anisotropic, two axes swapped."""


@pytest.fixture
def pet():
    """(10, 8, 6) voxels: SUV 1 where i >= 5, air before."""
    array = np.zeros((10, 8, 6), np.float32)
    array[5:] = 1.0
    return Volume(array, AFFINE)


def at(pet, *voxels, kind="point", positive=True, object_id=1):
    return Prompt(kind, pet.world_of(np.array(voxels, dtype=float)), positive, object_id)


def test_clicks_boxes_and_scribbles_on_the_body_pass(pet):
    case = Case("case", pet)
    require_sense(at(pet, (8, 4, 3)), case, ())
    require_sense(at(pet, (1, 4, 3), positive=False), case, ())
    require_sense(at(pet, (8, 4, 3), (20, 4, 3), kind="box"), case, ())
    require_sense(at(pet, (1, 4, 3), (8, 4, 3), kind="scribble"), case, ())


@pytest.mark.parametrize(
    ("kind", "voxels", "message"),
    [
        ("point", [(10, 4, 3)], r"point at voxel \[10.0, 4.0, 3.0\] lies outside the image \(10, 8, 6\)"),
        ("box", [(12, 4, 3), (20, 4, 3)], "box at voxel .* lies outside"),
        ("scribble", [(8, 4, 3), (8, 4, 6)], "scribble at voxel .* lies outside"),
        ("point", [(1, 4, 3)], r"point at voxel \[1, 4, 3\] lies in air"),
    ],
)
def test_what_can_only_be_a_mistake_is_refused(pet, kind, voxels, message):
    with pytest.raises(InputError, match=message):
        require_sense(at(pet, *voxels, kind=kind), Case("case", pet), ())


def test_a_voxel_is_not_both_object_and_background_of_one_object(pet):
    case, earlier = Case("case", pet), [at(pet, (8, 4, 3))]
    with pytest.raises(InputError, match=r"voxel \[8, 4, 3\] was marked as object of object 1 before"):
        require_sense(at(pet, (7, 4, 3), (8, 4, 3), kind="scribble", positive=False), case, earlier)
    require_sense(at(pet, (8, 4, 3), positive=False, object_id=2), case, earlier)


def test_air_is_no_uptake_and_in_a_ct_no_body(pet):
    ct = pet.with_array(np.where(np.indices(pet.shape)[0] >= 3, 40.0, -1000.0).astype(np.float32))
    assert in_air(Case("case", pet), np.array([3, 4, 3]))
    assert not in_air(Case("case", pet, ct), np.array([3, 4, 3]))
    assert in_air(Case("case", pet, ct), np.array([1, 4, 3]))
    assert not in_air(Case("case", pet, ct), np.array([8, 4, 3]))
