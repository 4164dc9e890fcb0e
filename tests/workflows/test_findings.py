"""Which of a model's labels are lesions, which are organs, and how they come apart."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from uptake.cases import Restored
from uptake.core.errors import ModelError
from uptake.geometry import Volume
from uptake.workflows.findings import is_lesion, organ_heads, require_sortable, sort_findings, sorted_labels


def labels(values):
    return Volume(np.array(values, dtype=np.uint8).reshape(1, 1, -1), np.eye(4))


@pytest.mark.parametrize("name", ["lesion", "Lesions", "tumor", "liver_tumour", "GTVp", "GTVn 2", "bone-metastases"])
def test_names_of_lesions(name):
    assert is_lesion(name)


@pytest.mark.parametrize("name", ["liver", "urinary_bladder", "autochthon_left", "class 1", "lung_upper_lobe_left"])
def test_names_of_other_things(name):
    assert not is_lesion(name)


def test_a_lesion_model_gives_one_mask_and_no_organs():
    found = sort_findings(Restored(labels([0, 1, 1])), ("background", "lesion"))
    assert found.lesions.array.ravel().tolist() == [0, 1, 1]
    assert found.lesion_names == {1: "lesion"}
    assert (found.organs, found.organ_names) == (None, {})


def test_an_organ_model_gives_a_map_and_no_lesions():
    found = sort_findings(Restored(labels([0, 2, 1])), ("background", "spleen", "liver"))
    assert (found.lesions, found.lesion_names) == (None, {})
    assert found.organs.array.ravel().tolist() == [0, 2, 1]
    assert found.organ_names == {1: "spleen", 2: "liver"}


def test_labels_of_both_kinds_come_apart_and_organs_keep_their_numbers():
    names = ("background", "liver", "GTVp", "spleen", "GTVn")
    assert sorted_labels(names) == ({2: "GTVp", 4: "GTVn"}, {1: "liver", 3: "spleen"})
    found = sort_findings(Restored(labels([0, 1, 2, 3, 4])), names)
    assert found.lesions.array.ravel().tolist() == [0, 0, 1, 0, 2]
    assert found.lesion_names == {1: "GTVp", 2: "GTVn"}
    assert found.organs.array.ravel().tolist() == [0, 1, 0, 3, 0]
    assert found.organ_names == {1: "liver", 3: "spleen"}
    assert sort_findings(Restored(labels([1, 2])), names, organs=False).organs is None


def test_organ_heads_may_name_what_is_lesion_too():
    restored = Restored(labels([0, 1, 0]), labels([2, 2, 1]))
    found = sort_findings(restored, ("background", "lesion"), ("background", "spleen", "liver"))
    assert found.lesions.array.ravel().tolist() == [0, 1, 0]
    assert found.organs.array.ravel().tolist() == [2, 2, 1]
    assert found.organ_names == {1: "spleen", 2: "liver"}


def test_nothing_to_find_is_refused_before_the_network_runs():
    with pytest.raises(ModelError, match=r"m: knows organs and no lesions; without them \(--no-organs\)"):
        require_sortable(("background", "liver"), organs=False, name="m")


def test_two_numberings_of_organs_are_refused():
    with pytest.raises(ModelError, match=r"m: has organ heads and the labels liver beside lesions; their numbers"):
        require_sortable(("background", "lesion", "liver"), ("background", "spleen"), name="m")


def test_only_a_family_of_heads_names_its_classes():
    assert organ_heads(SimpleNamespace(organs=("background", "liver"))) == ("background", "liver")
    assert organ_heads(SimpleNamespace(organs=True)) == ()  # LDOS: whether it finds organs
    assert organ_heads(SimpleNamespace()) == ()
