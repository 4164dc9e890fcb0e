"""Studies become cases with targets: on the model grid once, kept in the cache, refused where there is nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry import Volume
from uptake.io.find import find_cases
from uptake.io.write import write_volume
from uptake.methods.seganypet import Config
from uptake.workflows import promptable_data
from uptake.workflows.promptable_data import prompt_cases

SHAPE = (14, 12, 16)
AFFINE = np.diag([-4.0, -4.0, 4.0, 1.0])
ORGANS = {5: "liver", 90: "brain"}


@pytest.fixture
def plan():
    return replace(Config.small(), channels=("pet",), normalisation=("asinh",)).plan()


@pytest.fixture
def study(tmp_path):
    """A body of SUV 1 with a lesion of 8 voxels, one of 1, a liver (5), a brain (90) and a rib (100)."""
    pet = np.ones(SHAPE, np.float32)
    lesions, organs = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    lesions[2:4, 2:4, 2:4] = 1
    lesions[9, 9, 9] = 1
    organs[6:10, 2:8, 3:8] = 5
    organs[2:6, 2:6, 11:15] = 90
    organs[11:13, 2:4, 2:4] = 100
    pet[lesions > 0] = 8.0
    for name, array in (("pet", pet), ("lesion", lesions), ("organs", organs)):
        (tmp_path / "data" / "p1").mkdir(parents=True, exist_ok=True)
        write_volume(Volume(array, AFFINE), tmp_path / "data" / "p1" / f"{name}.nii.gz")
    return tmp_path / "data"


def sizes(case):
    return sorted((target.name, int(target.mask.sum())) for target in case.targets)


def test_lesions_one_by_one_and_named_organs_are_targets(study, plan, tmp_path):
    (case,) = prompt_cases(find_cases(study), plan, tmp_path / "cache", organs=ORGANS)
    assert case.id == "p1" and case.trusted and case.channels.shape == (1, 16, 12, 14)
    assert sizes(case) == [("brain", 64), ("lesion", 1), ("lesion", 8), ("liver", 120)]
    lesion = next(target for target in case.targets if len(target.places) == 8)
    z, y, x = lesion.places.T
    assert np.allclose(case.channels[:][0, z, y, x], np.arcsinh(8.0), rtol=1e-6)


def test_without_named_organs_only_lesions_are_targets_and_small_ones_can_be_left_out(study, plan, tmp_path):
    (case,) = prompt_cases(find_cases(study), plan, tmp_path / "cache")
    assert sizes(case) == [("lesion", 1), ("lesion", 8)]
    (case,) = prompt_cases(find_cases(study), plan, tmp_path / "cache", min_voxels=2)
    assert sizes(case) == [("lesion", 8)]


def test_whom_the_caller_does_not_trust_is_marked(study, plan, tmp_path):
    (case,) = prompt_cases(find_cases(study), plan, tmp_path / "cache", trusted=lambda name: name != "p1")
    assert not case.trusted


def test_a_case_is_harmonised_once_and_again_when_files_or_organs_change(study, plan, tmp_path, monkeypatch):
    calls = []
    original = promptable_data.harmonise

    def counted(case, *arguments, **named):
        calls.append(case.id)
        return original(case, *arguments, **named)

    monkeypatch.setattr(promptable_data, "harmonise", counted)
    for organs, expected in ((ORGANS, 1), (ORGANS, 1), ({5: "liver"}, 2)):
        prompt_cases(find_cases(study), plan, tmp_path / "cache", organs=organs)
        assert len(calls) == expected
    changed = np.zeros(SHAPE, np.uint8)
    changed[2:5, 2:4, 2:4] = 1
    write_volume(Volume(changed, AFFINE), study / "p1" / "lesion.nii.gz")
    (case,) = prompt_cases(find_cases(study), plan, tmp_path / "cache", organs={5: "liver"})
    assert len(calls) == 3 and ("lesion", 12) in sizes(case)


def test_a_study_without_lesion_mask_is_refused(study, plan, tmp_path):
    (study / "p1" / "lesion.nii.gz").unlink()
    with pytest.raises(InputError, match="p1: there is no lesion mask"):
        prompt_cases(find_cases(study), plan, tmp_path / "cache", organs=ORGANS)


def test_an_organ_map_on_another_grid_is_refused(study, plan, tmp_path):
    write_volume(Volume(np.zeros((5, 5, 5), np.uint8), AFFINE), study / "p1" / "organs.nii.gz")
    with pytest.raises(GeometryError):
        prompt_cases(find_cases(study), plan, tmp_path / "cache", organs=ORGANS)


@pytest.mark.parametrize("label", [0, -1, 256])
def test_labels_of_organs_are_numbers_that_a_map_can_hold(study, plan, tmp_path, label):
    with pytest.raises(UsageError, match=f"from 1 to 255, came {label}"):
        prompt_cases(find_cases(study), plan, tmp_path / "cache", organs={label: "liver"})
