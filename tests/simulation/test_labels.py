"""Groups of organ labels: the two published lists, and what is in no group."""

from __future__ import annotations

import numpy as np

from uptake.simulation.labels import LDOS_ORGANS, LESIONTRACER_ORGANS, ORGAN_IDS, grouped


def test_the_published_lists():
    assert list(LDOS_ORGANS) == [
        "spleen", "colon", "urinary_bladder", "sacrum", "vertebrae", "heart", "aorta", "clavicula", "femur", "hip",
        "autochthon", "kidney", "brain", "liver", "stomach", "pancreas", "lung", "esophagus",
    ]  # fmt: skip
    assert list(LESIONTRACER_ORGANS) == [
        "spleen", "kidneys", "liver", "urinary_bladder", "lungs", "brain", "heart", "stomach", "prostate", "head_glands"
    ]  # fmt: skip
    for groups in (LDOS_ORGANS, LESIONTRACER_ORGANS):
        classes = [name for names in groups.values() for name in names]
        assert len(classes) == len(set(classes)) and set(classes) <= set(ORGAN_IDS)


def test_grouping_merges_sides_and_drops_the_rest():
    names = ["kidney_left", "kidney_right", "liver", "skin", "parotid_gland_left", "vertebrae_S1"]
    organs = np.array([0, *(ORGAN_IDS[n] for n in names)], np.uint8).reshape(1, 1, 7)
    assert grouped(organs, LESIONTRACER_ORGANS).ravel().tolist() == [0, 2, 2, 3, 0, 10, 0]
    assert grouped(organs, LDOS_ORGANS).ravel().tolist() == [0, 12, 12, 14, 0, 0, 4]
    assert grouped(organs, LDOS_ORGANS).dtype == np.uint8
