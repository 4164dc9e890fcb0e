from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from uptake.cases import Case, HarmonisedCase, SourceFile
from uptake.core.errors import GeometryError, InputError
from uptake.geometry import Volume


def image(shape=(3, 4, 5), shift_mm: float = 0.0, frame: str | None = None) -> Volume:
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    affine[0, 3] = shift_mm
    return Volume(np.zeros(shape, np.float32), affine, frame_of_reference=frame)


def test_a_case_keeps_what_it_is_given():
    case = Case("a", image(), ct=image((9, 9, 9)), sources=(SourceFile("pet", "a/pet.nii", "00"),))
    assert (case.lesions, case.warnings, dict(case.acquisition)) == (None, (), {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        case.id = "b"


def test_a_case_needs_a_name():
    with pytest.raises(InputError, match="needs a name"):
        Case("", image())


def test_a_full_dose_pet_has_to_be_on_the_grid_of_the_low_dose():
    assert Case("a", image(), full_dose=image()).full_dose.shape == (3, 4, 5)
    with pytest.raises(GeometryError, match=r"a: the PET has shape .*the full-dose PET has shape"):
        Case("a", image(), full_dose=image((3, 4, 6)))
    body = np.ones((5, 4, 3), bool)
    with pytest.raises(GeometryError, match="target"):
        HarmonisedCase("a", np.zeros((1, 5, 4, 3), np.float32), None, body, target=np.zeros((5, 4, 4), np.float32))


@pytest.mark.parametrize("role", ["lesions", "organs"])
def test_labels_have_to_be_on_the_grid_of_the_pet(role):
    Case("a", image(), **{role: image()})
    with pytest.raises(GeometryError, match=rf"a: the PET has shape .*the {role} mask has shape"):
        Case("a", image(), **{role: image((3, 4, 6))})
    with pytest.raises(GeometryError, match=r"4\.00 mm apart"):
        Case("a", image(), **{role: image(shift_mm=4.0)})
    with pytest.raises(GeometryError, match="different frames of reference"):
        Case("a", image(frame="1.2"), **{role: image(frame="1.3")})


def test_harmonised_arrays_have_to_fit_one_another():
    body = np.ones((5, 4, 3), bool)
    HarmonisedCase("a", np.zeros((2, 5, 4, 3), np.float32), np.zeros((5, 4, 3), np.uint8), body)
    HarmonisedCase("a", np.zeros((2, 5, 4, 3), np.float32), None, body)
    with pytest.raises(GeometryError, match="channels"):
        HarmonisedCase("a", np.zeros((5, 4, 3), np.float32), None, body)
    with pytest.raises(GeometryError, match="channels"):
        HarmonisedCase("a", np.zeros((2, 5, 4, 4), np.float32), None, body)
    with pytest.raises(GeometryError, match="labels"):
        HarmonisedCase("a", np.zeros((2, 5, 4, 3), np.float32), np.zeros((5, 4, 4), np.uint8), body)
