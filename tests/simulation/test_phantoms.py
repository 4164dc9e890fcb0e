"""The simulated patient against anatomy, physiology and its own tables. Coarse voxels: 8 mm."""

from __future__ import annotations

import json

import numpy as np
import pytest

from uptake.core.errors import UnitError, UsageError
from uptake.simulation import (
    LDOS_ORGANS,
    LESIONTRACER_ORGANS,
    ORGAN_IDS,
    ORGAN_NAMES,
    TRACERS,
    PatientConfig,
    demo_patient,
    simulate_patient,
    simulate_truth,
)
from uptake.simulation.balance import MASS_BALANCE_RANGE, mass_g
from uptake.simulation.organ_volumes import draw_volumes
from uptake.simulation.person import draw_person

COARSE = (8.0, 8.0, 8.0)
SEEDS = range(6)


@pytest.fixture(scope="module")
def patients():
    return [simulate_patient(seed, spacing_mm=COARSE, n_lesions=4) for seed in SEEDS]


def of(patient, name: str) -> np.ndarray:
    return patient.case.organs.array == ORGAN_IDS[name]


def mean(patient, *names: str) -> float:
    mask = np.any([of(patient, name) for name in names], axis=0)
    return float(patient.activity.array[mask].mean())


def test_the_case_is_stored_as_scanners_do(patients):
    for patient in patients:
        case = patient.case
        assert case.pet.orientation == case.ct.orientation == "LPS"
        assert case.pet.spacing_mm == pytest.approx(COARSE)
        assert case.pet.array.dtype == case.ct.array.dtype == np.float32
        assert case.lesions.array.dtype == case.organs.array.dtype == np.uint8
        assert np.isfinite(case.pet.array).all() and np.isfinite(case.ct.array).all()
        assert case.pet.array.min() >= 0
        height = case.pet.shape[2] * 8.0
        assert 0.55 < height / 1000 / patient.parameters["height_m"] < 0.65
        assert json.loads(json.dumps(dict(patient.parameters)))["simulated"] is True
        # One row of a table: no value that holds others.
        assert all(value is None or isinstance(value, bool | int | float | str)
                   for value in patient.parameters.values())  # fmt: skip


def test_mass_balance_and_the_order_of_uptake(patients):
    for patient in patients:
        assert 0.75 <= patient.parameters["mass_balance"] <= 1.0
        liver, blood = mean(patient, "liver"), mean(patient, "aorta")
        muscle, fat = mean(patient, "skeletal_muscle"), mean(patient, "subcutaneous_fat")
        assert 1.3 <= liver <= 3.0
        assert liver > blood > muscle > fat
        # Red marrow retreats to the trunk: shoulders do not light up.
        assert mean(patient, "humerus_left", "humerus_right") < 0.75 * mean(patient, "vertebrae_L3")


@pytest.mark.parametrize("tracer", TRACERS)
def test_every_tracer_conserves_the_injected_activity(tracer):
    for seed in (21, 22):
        truth = simulate_truth(seed, spacing_mm=(12.0, 12.0, 12.0), config=PatientConfig(tracer=tracer))
        assert MASS_BALANCE_RANGE[0] <= truth.parameters["mass_balance"] <= MASS_BALANCE_RANGE[1]
        # What lies in the field cannot hold more than was injected.
        inside = truth.activity.array.sum(dtype=float) * truth.activity.voxel_volume_ml / (1000 * truth.weight_kg)
        assert 0.4 < inside <= truth.parameters["mass_balance"]
        assert truth.radionuclide == {"FDG": "F-18", "PSMA-1007": "F-18"}.get(tracer, "Ga-68")


def test_each_tracer_lights_up_its_own_organs():
    config = {"mimics": False, "conditions": False, "lesion_free_fraction": 1.0}
    shown = {}
    for tracer in TRACERS:
        truth = simulate_truth(23, spacing_mm=(9.0,) * 3, config=PatientConfig(tracer=tracer, sex="male", **config))
        names = ("brain", "liver", "spleen", "kidney_left", "parotid_gland_right", "aorta", "adrenal_gland_left")
        shown[tracer] = {name: float(truth.activity.array[truth.mask(name)].mean()) for name in names}
    for tracer, organs in shown.items():
        assert (organs["brain"] > 3) == (tracer == "FDG")
        assert (organs["parotid_gland_right"] > 5) == tracer.startswith("PSMA")
        assert (organs["kidney_left"] > 2.5 * organs["liver"]) == (tracer == "PSMA-11")
    assert shown["DOTATATE"]["spleen"] > shown["DOTATATE"]["liver"]
    assert shown["DOTATATE"]["adrenal_gland_left"] > 2 * shown["FDG"]["adrenal_gland_left"]
    assert shown["PSMA-1007"]["liver"] > shown["PSMA-11"]["liver"]
    assert max(shown["FAPI-04"].values()) < 4


@pytest.mark.parametrize("seed", [31, 32, 33])
def test_organs_have_the_volumes_they_were_given(seed):
    config = PatientConfig(bmi=(19.0, 26.0, 38.0)[seed - 31])
    truth = simulate_truth(seed, spacing_mm=(6.0, 6.0, 6.0), n_lesions=0, config=config)
    ml = np.bincount(truth.organs.array.ravel(), minlength=256) * truth.organs.voxel_volume_ml
    groups = {"lungs": LESIONTRACER_ORGANS["lungs"], "heart": LESIONTRACER_ORGANS["heart"]}
    for key, target in truth.parameters.items():
        name = key.removeprefix("ml_")
        if not key.startswith("ml_") or name == "visceral_fat":
            continue
        found = sum(ml[ORGAN_IDS[part]] for part in groups.get(name, (name,)))
        # Glands of a few voxels: to the voxel.
        assert found == pytest.approx(target, rel=0.10, abs=2 * truth.organs.voxel_volume_ml), name


def test_all_organs_of_both_lists_are_there(patients):
    for patient in patients:
        there = set(np.unique(patient.case.organs.array))
        missing = {name for group in (LDOS_ORGANS, LESIONTRACER_ORGANS) for name, classes in group.items()
                   if not there & {ORGAN_IDS[c] for c in classes}}  # fmt: skip
        parameters = patient.parameters
        excused = {"prostate"} if parameters["sex"] == "female" or parameters["prostatectomy"] else set()
        assert missing <= excused | ({"spleen"} if parameters["splenectomy"] else set()), parameters["seed"]


def test_organs_that_were_taken_out_are_gone():
    from uptake.simulation.organ_volumes import Condition, _with_condition

    person = draw_person(np.random.default_rng(0), PatientConfig(sex="male"))
    condition = Condition(nephrectomy="left", prostatectomy=True, splenectomy=True, cholecystectomy=True)
    before = draw_volumes(np.random.default_rng(1), person, Condition())
    after = _with_condition(dict(before), person, condition)
    assert [after[name] for name in ("kidney_left", "prostate", "spleen", "gallbladder")] == [0.0] * 4
    assert after["kidney_right"] == pytest.approx(1.35 * before["kidney_right"])


def test_the_body_weighs_what_it_should(patients):
    for patient in patients:
        hu = np.where(patient.case.organs.array > 0, patient.case.ct.array, -1000.0)
        share = mass_g(hu) * patient.case.ct.voxel_volume_ml / 1000 / patient.parameters["weight_kg"]
        # Head, trunk, upper arms and half the thighs: Dempster's shares give 0.82.
        assert 0.70 < share < 0.94


def test_labels_lie_inside_the_body_and_on_their_side(patients):
    for patient in patients:
        organs = patient.case.organs
        body = organs.array > 0
        assert (patient.activity.array[body] > 0).mean() > 0.97  # gas takes up nothing
        assert (patient.case.lesions.array[~body] == 0).all()
        for name in ("kidney", "femur", "hip", "humerus", "parotid_gland"):
            sides = {}
            for side in ("left", "right"):
                index = np.argwhere(of(patient, f"{name}_{side}"))
                assert len(index), f"{name}_{side} is empty"
                sides[side] = organs.world_of(index)[:, 0].mean()
            assert sides["left"] < 0 < sides["right"], name  # world x grows to the patient's right
        liver, spleen = (organs.world_of(np.argwhere(of(patient, n)))[:, 0].mean() for n in ("liver", "spleen"))
        assert spleen < 0 < liver
        heights = [organs.world_of(np.argwhere(of(patient, n)))[:, 2].mean()
                   for n in ("brain", "heart", "liver", "urinary_bladder")]  # fmt: skip
        assert heights == sorted(heights, reverse=True)


def test_organs_have_human_volumes(patients):
    ml = {name: [of(p, name).sum() * p.case.pet.voxel_volume_ml for p in patients]
          for name in ("brain", "liver", "spleen", "kidney_left", "heart")}  # fmt: skip
    bounds = {
        "brain": (950, 1700),
        "liver": (800, 2600),
        "spleen": (50, 500),
        "kidney_left": (70, 300),
        "heart": (280, 900),
    }
    for name, (low, high) in bounds.items():
        assert low < min(ml[name]) and max(ml[name]) < high, (name, ml[name])


def test_ct_numbers_are_those_of_the_tissues(patients):
    for patient in patients:
        ct = patient.case.ct.array
        assert np.median(ct[of(patient, "lung_lower_lobe_right")]) < -600
        assert 15 < np.median(ct[of(patient, "liver")]) < 85
        assert -125 < np.median(ct[of(patient, "subcutaneous_fat")]) < -70
        assert np.median(ct[0, 0]) < -950


def test_the_lesion_table_is_the_truth(patients):
    for patient in patients:
        numbers, activity = patient.lesion_instances, patient.activity.array
        assert len(patient.lesion_table) == 4
        np.testing.assert_array_equal(numbers.array > 0, patient.case.lesions.array > 0)
        for lesion in patient.lesion_table:
            mask = numbers.array == lesion.number
            assert mask.sum() * numbers.voxel_volume_ml == pytest.approx(lesion.volume_ml)
            assert activity[mask].mean() == pytest.approx(lesion.suv_mean, rel=1e-4)
            assert activity[mask].max() == pytest.approx(lesion.suv_max)
            assert lesion.tbr > 1 and lesion.tracer == "FDG"
            assert numbers.world_of(np.argwhere(mask)).mean(axis=0) == pytest.approx(lesion.centre_mm)
            # Half-covered voxels at the rim, texture and a cold core keep the mean below the drawn value, not far.
            assert 0.35 * lesion.suv_drawn < lesion.suv_mean < 1.6 * lesion.suv_drawn


def test_without_noise_the_scan_is_the_truth_and_with_noise_it_keeps_its_mean():
    quiet = simulate_patient(1, spacing_mm=COARSE, n_lesions=0, config=PatientConfig(liver_cov=0.0))
    np.testing.assert_array_equal(quiet.case.pet.array, quiet.truth.array)
    noisy = simulate_patient(1, spacing_mm=COARSE, n_lesions=0, config=PatientConfig(liver_cov=0.15))
    np.testing.assert_array_equal(noisy.truth.array, quiet.truth.array)
    assert noisy.case.pet.array.sum(dtype=float) == pytest.approx(quiet.truth.array.sum(dtype=float), rel=0.01)
    assert quiet.truth.array.sum(dtype=float) == pytest.approx(quiet.activity.array.sum(dtype=float), rel=1e-3)
    for organ in ("liver", "lung_lower_lobe_right", "skeletal_muscle"):
        where = of(noisy, organ)
        assert noisy.case.pet.array[where].mean() == pytest.approx(quiet.truth.array[where].mean(), rel=0.03)


def test_the_liver_has_the_noise_asked_for(patients):
    ratio = np.concatenate([(p.case.pet.array / np.maximum(p.truth.array, 1e-6))[of(p, "liver")] for p in patients])
    assert ratio.std() == pytest.approx(0.10, rel=0.12)


def test_one_seed_is_one_patient(patients):
    again, other = simulate_patient(3, spacing_mm=COARSE, n_lesions=4), patients[4]
    for role in ("pet", "ct", "lesions", "organs"):
        a, b, c = (getattr(p.case, role) for p in (again, patients[3], other))
        assert a.array.tobytes() == b.array.tobytes()
        assert a.array.tobytes() != c.array.tobytes()
    assert again.lesion_table == patients[3].lesion_table
    assert again.parameters == patients[3].parameters


def test_the_person_does_not_depend_on_the_grid_or_the_lesions(patients):
    finer = simulate_patient(2, spacing_mm=(6.0, 7.0, 8.0), n_lesions=0)
    for name in ("height_m", "bmi", "sex", "arms", "suv_liver", "ml_liver", "glucose_mmol_l"):
        assert finer.parameters[name] == patients[2].parameters[name]
    for organ in ("liver", "brain", "heart"):
        volume = [of(p, organ).sum() * p.case.pet.voxel_volume_ml for p in (finer, patients[2])]
        assert volume[0] == pytest.approx(volume[1], rel=0.08)


def test_what_is_fixed_is_kept():
    config = PatientConfig(sex="male", height_m=1.9, bmi=35.0, age_years=70.0, arms="down")
    parameters = simulate_patient(0, spacing_mm=(12.0,) * 3, n_lesions=1, config=config).parameters
    assert (parameters["sex"], parameters["height_m"], parameters["bmi"]) == ("male", 1.9, 35.0)
    assert (parameters["age_years"], parameters["arms"], parameters["n_lesions"]) == (70.0, "down", 1)


def test_the_share_of_patients_without_lesions():
    from uptake.simulation.lesions import draw_count

    counts = np.array([draw_count(np.random.default_rng(s), 0.4) for s in range(2000)])
    assert (counts == 0).mean() == pytest.approx(0.4, abs=0.04)
    assert counts.max() <= 60
    assert counts[counts > 0].mean() == pytest.approx(9.0, rel=0.15)


@pytest.mark.parametrize("spacing", [(0.0, 4, 4), (4, 4), (-4, 4, 4), (4, 4, np.nan), (40, 4, 4)])
def test_a_bad_voxel_size_is_refused(spacing):
    with pytest.raises(UnitError, match="spacing_mm"):
        simulate_patient(0, spacing_mm=spacing)


@pytest.mark.parametrize(("seed", "n_lesions", "word"), [(-1, None, "seed"), (1.5, None, "seed"), (0, -1, "n_lesions"),
                                                        (0, 61, "n_lesions")])  # fmt: skip
def test_a_bad_seed_or_number_of_lesions_is_refused(seed, n_lesions, word):
    with pytest.raises(UsageError, match=word):
        simulate_patient(seed, spacing_mm=COARSE, n_lesions=n_lesions)


@pytest.mark.parametrize("bad", [{"sex": "other"}, {"arms": "akimbo"}, {"bmi": 80.0}, {"height_m": 0.5},
                                 {"liver_cov": -0.1}, {"noise_fwhm_mm": (1.0, 2.0)}])  # fmt: skip
def test_a_bad_configuration_is_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        PatientConfig(**bad)


def test_labels_carry_the_published_numbers():
    # Spot checks against the class table of TotalSegmentator's task "total".
    published = {
        **{"spleen": 1, "liver": 5, "lung_upper_lobe_left": 10, "vertebrae_L5": 27, "vertebrae_C1": 50, "heart": 51},
        **{"humerus_left": 69, "brain": 90, "rib_left_1": 92, "rib_right_12": 115, "costal_cartilages": 117},
    }
    assert {name: ORGAN_IDS[name] for name in published} == published
    assert len(ORGAN_NAMES) == len(ORGAN_IDS) <= 255


def test_what_no_lesion_is_has_no_lesion_label(patients):
    plain = simulate_patient(0, spacing_mm=COARSE, n_lesions=0)
    assert plain.parameters["mimics"]
    assert not plain.case.lesions.array.any()
    assert plain.lesion_table == ()
    assert len(plain.mimics) == len(plain.parameters["mimics"].split("; "))
    without = simulate_patient(0, spacing_mm=COARSE, n_lesions=0, config=PatientConfig(mimics=False))
    assert without.mimics == () and without.parameters["mimics"] == ""


def test_lesions_stand_out_from_what_surrounds_them(patients):
    from scipy.ndimage import binary_dilation

    for patient in patients:
        for lesion in patient.lesion_table:
            mask = patient.lesion_instances.array == lesion.number
            ring = (
                binary_dilation(mask, iterations=3) & ~binary_dilation(mask) & ~patient.case.lesions.array.astype(bool)
            )
            assert lesion.suv_mean > np.median(patient.activity.array[ring]), lesion


def test_the_demo_patient_has_his_lesions():
    patient = demo_patient(spacing_mm=(8.0, 8.0, 8.0))
    assert len(patient.lesion_table) == 8
    assert patient.parameters["sex"] == "male"
