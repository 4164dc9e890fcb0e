from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.gate import Light, Organs
from uptake.gate.landmarks import is_crop, liver_in_pet
from uptake.gate.orientation import AXES, Clue, clues_of_images, clues_of_organs, orientation_findings
from uptake.gate.overview import ct_overview, pet_overview
from uptake.geometry.volume import Volume
from uptake.simulation import ORGAN_NAMES

WORLD = ("left_right", "front_back", "head_foot")


def lights(pet, ct=None):
    view = pet_overview(pet)
    liver = None if is_crop(view) else liver_in_pet(view)
    clues = clues_of_images(view, None if ct is None else ct_overview(ct), liver)
    return {finding.check: finding.light for finding in orientation_findings(clues)}


def test_a_patient_as_stated_is_green_on_all_axes(patient):
    assert lights(patient.pet, patient.ct) == dict.fromkeys(AXES, Light.GREEN)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_axis_is_red_and_the_others_stay_green(patient, flip, axis):
    found = lights(flip(patient.pet, axis), flip(patient.ct, axis))
    assert found == {name: Light.RED if name == WORLD[axis] else Light.GREEN for name in AXES}


def test_a_pet_alone_shows_side_and_height(patient, flip):
    found = lights(flip(patient.pet, 2))
    assert (found["left_right"], found["head_foot"]) == (Light.GREEN, Light.RED)
    found = lights(flip(patient.pet, 0))
    assert (found["left_right"], found["head_foot"]) == (Light.RED, Light.GREEN)


def test_a_ct_that_is_mirrored_alone_contradicts_the_pet(patient, flip):
    clues = clues_of_images(
        pet_overview(patient.pet), ct_overview(flip(patient.ct, 0)), liver_in_pet(pet_overview(patient.pet))
    )
    (finding,) = [f for f in orientation_findings(clues) if f.check == "left_right"]
    assert finding.light is Light.RED and "contradict" in finding.sentence
    assert "to the left" in finding.measured and "to the right" in finding.measured


@pytest.mark.parametrize("part", [(0.0, 0.25), (0.75, 1.0), (0.45, 0.7), (0.3, 0.7)])
def test_a_part_of_the_body_is_never_called_flipped(patient, cut, part):
    case = cut(patient, z=part)
    assert set(lights(case.pet, case.ct).values()) <= {Light.GREEN, Light.GREY}


def test_a_crop_around_a_lesion_cannot_tell(patient, cut):
    case = cut(patient, x=(0.4, 0.65), y=(0.3, 0.8), z=(0.4, 0.7))
    assert lights(case.pet, case.ct) == dict.fromkeys(AXES, Light.GREY)


def test_an_empty_or_even_image_cannot_tell():
    grid = np.diag([6.0, 6.0, 6.0, 1.0])
    empty, even = Volume(np.zeros((80, 80, 120)), grid), Volume(np.ones((80, 80, 120)), grid)
    assert lights(empty, even) == dict.fromkeys(AXES, Light.GREY)
    assert lights(even) == dict.fromkeys(AXES, Light.GREY)


def test_labelled_organs_tell_every_axis(patient, flip):
    def found(volume):
        findings = orientation_findings(clues_of_organs(Organs(volume, ORGAN_NAMES).centres_mm()))
        return {finding.check: finding.light for finding in findings}

    assert found(patient.organs) == dict.fromkeys(AXES, Light.GREEN)
    for axis, name in enumerate(WORLD):
        assert found(flip(patient.organs, axis))[name] is Light.RED
    nothing = clues_of_organs(Organs(patient.organs.with_array(patient.organs.array * 0), ORGAN_NAMES).centres_mm())
    assert nothing == []


def test_organs_need_names():
    with pytest.raises(UsageError, match="need names"):
        Organs(Volume(np.zeros((2, 2, 2), np.uint8), np.eye(4)), {})


def test_faint_and_mixed_clues_are_amber_and_strong_ones_overrule_them():
    def light(*clues):
        return orientation_findings(list(clues))[2].light

    faint = Clue(1, False, "PET", "two foci", strong=False)
    assert light(faint) is Light.AMBER
    assert light(faint, Clue(1, True, "CT", "the spine")) is Light.GREEN
    assert light(Clue(1, True, "CT", "one"), Clue(1, False, "CT", "other")) is Light.AMBER
    assert light() is Light.GREY


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_real_whole_body_pet_is_flagged_when_flipped_and_only_then(shared_data, flip, axis):
    image = nib.load(shared_data / "wholebody/STS_001/pet.nii.gz")
    pet = Volume(image.get_fdata(dtype=np.float32), image.affine)
    found = lights(flip(pet, axis))
    assert found[WORLD[axis]] in (Light.RED, Light.AMBER)
    assert {found[name] for name in AXES if name != WORLD[axis]} == {Light.GREEN}
    if axis == 0:
        assert lights(pet) == dict.fromkeys(AXES, Light.GREEN)


@pytest.mark.parametrize("name", ["STS_016", "STS_034", "STS_027", "STS_009"])
def test_real_crops_cannot_tell(shared_data, name):
    pet, ct = (nib.load(shared_data / f"sts/{name}/{file}.nii.gz") for file in ("pet", "ct_on_pet"))
    found = lights(*(Volume(image.get_fdata(dtype=np.float32), image.affine) for image in (pet, ct)))
    assert found == dict.fromkeys(AXES, Light.GREY)


@pytest.mark.parametrize("name", ["fdg_69aa8dbfd2", "psma_95b833d46f153cd2"])
def test_real_organ_maps_are_told(shared_data, flip, name):
    folder = shared_data / "anatomy"
    file = next(iter([*folder.glob(f"*/{name}.nii.gz"), *folder.glob(f"{name}/organs*.nii.gz")]))
    names = {int(k): v for k, v in json.loads((folder / "autopet_organs/labels.json").read_text()).items() if int(k)}
    image = nib.load(file)
    # Every fourth voxel along each axis is enough for centres of gravity, and a test.
    labels = Volume(np.asanyarray(image.dataobj)[::4, ::4, ::4], image.affine @ np.diag([4.0, 4.0, 4.0, 1.0]))

    def found(volume):
        findings = orientation_findings(clues_of_organs(Organs(volume, names).centres_mm()))
        return {finding.check: finding.light for finding in findings}

    assert found(labels) == dict.fromkeys(AXES, Light.GREEN)
    assert [found(flip(labels, axis))[WORLD[axis]] for axis in range(3)] == [Light.RED] * 3
