"""Splits and subsets: whole patients, nested, and nobody in two places."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import InputError, UsageError
from uptake.workflows.labelled_split import fraction_of, make_split, read_split, shots_of

PATIENTS = {f"p{n}_{scan}": f"p{n}" for n in range(20) for scan in range(1 + n % 3)}
POSITIVE = {case: int(patient[1:]) % 4 == 0 for case, patient in PATIENTS.items()}


def people(ids):
    return {PATIENTS[case] for case in ids}


@given(seed=st.integers(0, 50))
def test_a_split_has_every_case_once_and_no_patient_twice(seed):
    split = make_split(PATIENTS, seed=seed)
    parts = (split.train, split.validation, split.test)
    assert sorted(case for part in parts for case in part) == sorted(PATIENTS)
    assert [len(people(part)) for part in parts] == [14, 2, 4]
    assert split == make_split(dict(reversed(PATIENTS.items())), seed=seed)


def test_a_test_part_can_be_given_and_takes_all_scans_of_its_patients():
    split = make_split(PATIENTS, test=["p1_0", "p1_1", "p3_0"], seed=1)
    assert split.test == ("p1_0", "p1_1", "p3_0") and not people(split.train) & {"p1", "p3"}
    with pytest.raises(InputError, match="'p1_1' is another scan of a patient of the test part"):
        make_split(PATIENTS, test=["p1_0"])
    with pytest.raises(InputError, match="1 unknown cases, first 'x'"):
        make_split(PATIENTS, test=["x"])
    with pytest.raises(InputError, match="too few"):
        make_split({"a": "a", "b": "b"})


@given(draw=st.integers(0, 20), seed=st.integers(0, 3))
def test_subsets_of_a_draw_are_nested_hold_whole_patients_and_a_lesion(draw, seed):
    train = sorted(PATIENTS)
    subsets = [fraction_of(train, PATIENTS, POSITIVE, f, draw=draw, seed=seed) for f in (0.01, 0.1, 0.3, 1.0)]
    assert len(subsets[0]) <= 3 and any(POSITIVE[case] for case in subsets[0])
    assert subsets[-1] == tuple(train)
    for small, large in pairwise(subsets):
        assert set(small) <= set(large)
        assert {case for case in train if PATIENTS[case] in people(small)} == set(small)
    assert int(0.3 * len(train)) <= len(subsets[2]) < int(0.3 * len(train)) + 3


def test_another_draw_is_another_subset():
    train = sorted(PATIENTS)
    assert len({fraction_of(train, PATIENTS, POSITIVE, 0.3, draw=draw) for draw in range(8)}) > 4


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5])
def test_a_fraction_outside_of_0_to_1_is_refused(fraction):
    with pytest.raises(UsageError, match="in \\(0, 1\\]"):
        fraction_of(sorted(PATIENTS), PATIENTS, POSITIVE, fraction)


def test_shots_are_scans_with_lesions_of_different_patients():
    found = shots_of(sorted(PATIENTS), PATIENTS, POSITIVE, 4, draw=3)
    assert len(found) == len(people(found)) == 4 and all(POSITIVE[case] for case in found)
    with pytest.raises(InputError, match="6 shots were asked for; 5 patients"):
        shots_of(sorted(PATIENTS), PATIENTS, POSITIVE, 6)


def test_a_split_is_read_back_and_a_bad_one_refused(tmp_path):
    split = make_split(PATIENTS)
    file = tmp_path / "split.json"
    file.write_text(json.dumps(split.as_json()))
    assert read_split(file, PATIENTS) == split
    file.write_text(json.dumps({"train": ["p1_0"], "validation": ["p2_0"], "test": ["p1_1"]}))
    with pytest.raises(InputError, match="1 patients are in two parts"):
        read_split(file, PATIENTS)
    file.write_text(json.dumps({"train": ["p1_0"], "validation": [], "test": ["who"]}))
    with pytest.raises(InputError, match="unknown cases, first 'who'"):
        read_split(file, PATIENTS)
    file.write_text("[]")
    with pytest.raises(InputError, match="is no split"):
        read_split(file, PATIENTS)
