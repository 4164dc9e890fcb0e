from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from uptake.gate.misalignment import measure_misalignment
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume


def moved(ct: Volume, shift, angle_deg: float = 0.0, about=(0.0, 0.0, 0.0)) -> Volume:
    """Return the CT turned about x through a point and shifted, by its affine alone."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    motion = np.eye(4)
    motion[:3, :3] = [[1, 0, 0], [0, c, -s], [0, s, c]]
    motion[:3, 3] = np.asarray(about) - motion[:3, :3] @ np.asarray(about) + shift
    return Volume(ct.array, motion @ ct.affine)


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (6.0, -4.0, 9.0), (-12.0, 15.0, -18.0)])
def test_a_known_shift_is_measured_to_a_millimetre(patient, shift):
    found = measure_misalignment(patient.pet, moved(patient.ct, shift))
    np.testing.assert_allclose(found.shift_mm, shift, atol=1.2)
    assert found.rotation_deg < 0.3 and found.largest_mm == pytest.approx(np.linalg.norm(shift), abs=2.0)
    assert set(found.sections) == {"upper third", "middle third", "lower third"}
    for section in found.sections.values():
        np.testing.assert_allclose(section, shift, atol=2.5)


def test_a_known_turn_is_measured_and_moves_the_ends_most(patient):
    base = measure_misalignment(patient.pet, patient.ct)
    found = measure_misalignment(patient.pet, moved(patient.ct, (0.0, 0.0, 0.0), 2.0, base.centre_mm))
    assert found.rotation_deg == pytest.approx(2.0, abs=0.3)
    np.testing.assert_allclose(found.shift_mm, (0, 0, 0), atol=1.2)
    # Half of a body of 1.1 m, turned by 2 degrees.
    assert found.largest_mm == pytest.approx(550 * np.radians(2.0), rel=0.2)


def test_the_same_input_gives_the_same_numbers_whatever_the_storage(patient):
    first = measure_misalignment(patient.pet, patient.ct)
    assert measure_misalignment(patient.pet, patient.ct) == first
    other = measure_misalignment(reorient(patient.pet, "RAS"), reorient(patient.ct, "SAR"))
    np.testing.assert_allclose(other.shift_mm, first.shift_mm, atol=1.0)


def test_a_part_that_moved_alone_shows_in_its_third(patient):
    ct = reorient(patient.ct, "RAS")
    array, third = ct.array.copy(), ct.shape[2] * 2 // 3
    array[:, :, third:] = np.roll(array[:, :, third:], 2, axis=0)  # the head, 12 mm to the right
    found = measure_misalignment(patient.pet, ct.with_array(array))
    assert found.sections["upper third"][0] == pytest.approx(12.0, abs=2.0)
    assert abs(found.sections["lower third"][0]) < 2.0


def test_a_thigh_is_not_measured_along_its_length(patient, cut):
    case = cut(patient, x=(0.3, 0.5), z=(0.0, 0.15))
    found = measure_misalignment(case.pet, case.ct)
    assert found is None or found.shift_mm[2] is None
    assert found is None or found.rotation_deg is None


def test_nothing_to_compare_is_no_measurement(patient):
    empty = patient.pet.with_array(patient.pet.array * 0)
    assert measure_misalignment(empty, patient.ct) is None
    even = Volume(np.ones((30, 30, 30), np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    assert measure_misalignment(even, even) is None


def test_a_real_pair_that_is_known_not_to_fit_is_measured(shared_data):
    # The contours of PET and CT, each fitting its own image, lie 6.5 mm apart along z and 3.4 mm along x.
    pet, ct = (nib.load(shared_data / f"sts/STS_019/{name}.nii.gz") for name in ("pet", "ct"))
    found = measure_misalignment(*(Volume(i.get_fdata(dtype=np.float32), i.affine) for i in (pet, ct)))
    np.testing.assert_allclose(found.shift_mm, (3.4, 0.0, 6.5), atol=3.0)


@pytest.mark.parametrize("name", ["STS_028", "STS_049", "STS_037"])
def test_real_pairs_without_a_known_fault_fit(shared_data, name):
    folder = shared_data / "sts" / name
    pet, ct = (nib.load(folder / f"{role}.nii.gz") for role in ("pet", "ct_on_pet"))
    volumes = [Volume(i.get_fdata(dtype=np.float32), i.affine) for i in (pet, ct)]
    found = measure_misalignment(*volumes)
    assert found.length_mm < 5.0
    known = np.array([mm is not None for mm in found.shift_mm])
    shift = np.array([5.0, -4.0, 3.0])
    again = measure_misalignment(volumes[0], moved(volumes[1], shift))
    difference = np.array(again.shift_mm, dtype=float) - np.array(found.shift_mm, dtype=float)
    np.testing.assert_allclose(difference[known], shift[known], atol=2.5)
