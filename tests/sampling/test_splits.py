from __future__ import annotations

import random

import pytest

from uptake.core.errors import InputError
from uptake.sampling.splits import folds_from_json, patient_folds, subject_of, tracer_of

CASES = [f"fdg_{patient:010x}_{study:02d}-PET  CT" for patient in range(11) for study in range(1 + patient % 3)]


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("fdg_a1b2c3d4e5_07-13-2003-NA-PET-CT Ganzkoerper  primaer-12345", "fdg_a1b2c3d4e5"),
        ("psma_95b833d65be26d9f_2018-04-23", "psma_95b833d65be26d9f"),
        ("fdg_a1b2c3d4e5", "fdg_a1b2c3d4e5"),
        ("STS_001", "STS_001"),
        ("fdg_ward_3", "fdg_ward_3"),
    ],
)
def test_the_patient_is_the_second_part_of_an_autopet_name(case, patient):
    assert subject_of(case) == patient


def test_no_patient_is_on_both_sides_and_every_case_is_held_out_once():
    folds = patient_folds(CASES, folds=5)
    for fold in folds:
        assert not {subject_of(c) for c in fold.train} & {subject_of(c) for c in fold.validation}
        assert sorted(fold.train + fold.validation) == sorted(CASES)
        assert fold.validation
    assert sorted(case for fold in folds for case in fold.validation) == sorted(CASES)
    patients = [len({subject_of(c) for c in fold.validation}) for fold in folds]
    assert max(patients) - min(patients) <= 1


def test_every_fold_has_its_share_of_each_tracer():
    cases = CASES + [f"psma_{patient:016x}_2018-0{1 + visit}-01" for patient in range(7) for visit in range(2)]
    folds = patient_folds(cases, folds=3)
    for tracer, number in (("fdg", 11), ("psma", 7)):
        held_out = [len({subject_of(c) for c in fold.validation if tracer_of(c) == tracer}) for fold in folds]
        assert sum(held_out) == number and max(held_out) - min(held_out) <= 1
    assert [tracer_of(name) for name in ("fdg_a1b2c3d4e5", "psma_95b833d65be26d9f", "STS_001")] == ["fdg", "psma", ""]


def test_folds_repeat_whatever_the_order_of_the_cases():
    shuffled = list(CASES)
    random.Random(3).shuffle(shuffled)
    assert patient_folds(shuffled, folds=4, seed=7) == patient_folds(CASES, folds=4, seed=7)


def test_another_seed_gives_other_folds():
    assert patient_folds(CASES, folds=4, seed=7) != patient_folds(CASES, folds=4, seed=8)


@pytest.mark.parametrize("folds", [0, 1, 12])
def test_too_few_or_too_many_folds_are_refused(folds):
    with pytest.raises(InputError, match=f"11 patients cannot be split into {folds} folds"):
        patient_folds(CASES, folds=folds)


def test_a_split_file_is_taken_as_it_is():
    (fold,) = folds_from_json([{"train": ["b", "a"], "val": ["c"]}], ["a", "b", "c", "d"])
    assert (fold.train, fold.validation) == (("b", "a"), ("c",))


def test_a_split_file_with_an_unknown_case_is_refused():
    with pytest.raises(InputError, match="fold 1 of the split file names 1 unknown cases, first 'x'"):
        folds_from_json([{"train": ["a"], "val": ["b"]}, {"train": ["a"], "val": ["x"]}], ["a", "b"])


def test_a_split_file_with_a_patient_on_both_sides_is_refused():
    one, other = "psma_95b833d65be26d9f_2018-04-23", "psma_95b833d65be26d9f_2019-01-02"
    with pytest.raises(InputError, match="1 patients in training and validation, first 'psma_95b833d65be26d9f'"):
        folds_from_json([{"train": [one], "val": [other]}], [one, other])
