from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import UnitError
from uptake.physics.plausibility import pet_objection, require_hu, require_suv

VOXEL_ML = 0.064  # 4 mm


@pytest.fixture
def patient() -> np.ndarray:
    """(40, 30, 50) SUV: a body of about 1 in air, one hot spot. 3.8 L."""
    rng = np.random.default_rng(0)
    suv = np.zeros((40, 30, 50), dtype=np.float32)
    suv[8:32, 6:24] = rng.gamma(4.0, 0.2, size=(24, 18, 50))
    suv[20, 15, 25] = 30.0
    return suv


def test_a_patient_is_accepted(patient):
    assert pet_objection(patient, VOXEL_ML) is None


def test_a_noisy_patient_with_negative_air_is_accepted(patient):
    noisy = patient + np.random.default_rng(1).normal(0, 0.15, patient.shape).astype(np.float32)
    assert (noisy < 0).mean() > 0.25
    assert pet_objection(noisy, VOXEL_ML) is None


@pytest.mark.parametrize("bqml_per_suv", [200.0, 4000.0])
def test_bqml_is_refused(patient, bqml_per_suv):
    assert "Bq/mL" in str(pet_objection(patient * bqml_per_suv, VOXEL_ML))


def test_bqml_of_a_crop_is_refused_by_its_mean(patient):
    crop = patient[10:20, 10:20, 10:20] * 4000  # 64 mL
    assert "Bq/mL" in str(pet_objection(crop, VOXEL_ML))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: (x - x.mean()) / x.std(), "zero mean"),
        (lambda x: x / x.max(), "looks scaled"),
        (lambda x: x * 4e-3, "looks scaled"),
        (lambda x: np.rint(x / x.max() * 255), "8-bit"),
        (lambda x: x * 0, "every voxel is 0"),
        (lambda x: x * 60 - 1000, "looks like a CT"),
    ],
)
def test_other_scales_are_refused_with_the_reason(patient, change, reason):
    assert reason in str(pet_objection(change(patient), VOXEL_ML))


def test_the_error_names_file_and_override(patient):
    with pytest.raises(UnitError, match=r"^a/pet\.nii\.gz: .*plainly not in SUV.*--assume-suv"):
        require_suv(patient * 4000, VOXEL_ML, name="a/pet.nii.gz")


def test_ct_in_hu_passes_and_a_clipped_one_is_reported():
    ramp = np.linspace(-1000, 1500, 1000).reshape(10, 10, 10)
    assert require_hu(ramp, 5.0) == ()
    assert "holds no air" in require_hu(np.clip(ramp, -160, 240), 5.0)[0]


def test_ct_without_intercept_or_normalised_is_refused():
    ramp = np.linspace(-1000, 1500, 1000).reshape(10, 10, 10)
    with pytest.raises(UnitError, match="rescale intercept is missing"):
        require_hu(ramp + 1024, 5.0, name="ct.nii")
    with pytest.raises(UnitError, match=r"ct\.nii: .*span 0 to 1"):
        require_hu((ramp + 1000) / 2500, 5.0, name="ct.nii")


def test_a_small_crop_of_bone_is_not_refused():
    assert "no air" in require_hu(np.linspace(20, 900, 125).reshape(5, 5, 5), 0.064)[0]


def test_real_patients_pass_and_a_phantom_in_scanner_units_does_not(shared_data):
    nib = pytest.importorskip("nibabel")

    def objection(path, scale=1.0):
        image = nib.load(path)
        return pet_objection(
            np.asarray(image.dataobj, dtype=np.float32) * scale, abs(np.linalg.det(image.affine)) / 1000
        )

    patients = sorted(shared_data.glob("sts/*/pet.nii.gz"))
    assert len(patients) == 41
    assert [path for path in patients if objection(path)] == []
    # A heavy patient with a low dose: 1 SUV = 1000 Bq/mL.
    assert [path for path in patients if not objection(path, 1000.0)] == []
    whole = shared_data / "wholebody" / "STS_001" / "pet.nii.gz"
    assert objection(whole) is None
    assert "Bq/mL" in objection(whole, 1 / 2.429030e-04)
    for recon in ("recon_1", "recon_2"):
        assert "Bq/mL" in objection(shared_data / "phantom" / "nema_iq" / f"{recon}.nii.gz")
