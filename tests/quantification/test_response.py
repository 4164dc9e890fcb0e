import math
from dataclasses import replace

import pytest

from uptake.quantification.lesions import Lesion
from uptake.quantification.reference_regions import NoReference, ReferenceRegion
from uptake.quantification.response import (
    Deauville,
    NotAssessed,
    Patient,
    Percist,
    deauville,
    five_point_score,
    percist,
)

LIVER = ReferenceRegion("liver", "sphere", (0, 0, 0), 251, 16.0, suv_mean=2.0, suv_sd=0.25, suv_max=2.6, suv_median=2.0)
BLOOD = ReferenceRegion("blood_pool", "tube", (0, 0, 0), 25, 1.6, suv_mean=1.5, suv_sd=0.1, suv_max=1.8, suv_median=1.5)
NO_LIVER = NoReference("liver", "lesions take 60% of the liver")
NO_BLOOD = NoReference("blood_pool", "the organ map has no aorta")
FDG = Patient("FDG", True, sul_factor=0.8)


def lesion(number, suv_max, suv_peak):
    here = (0.0, 0.0, 0.0)
    return Lesion(number, 10, 1.0, 1.0, suv_max, suv_peak, suv_peak, 1.0, suv_peak, here, here, here)


LESIONS = (lesion(1, 6.0, 4.0), lesion(2, 4.2, 3.5), lesion(3, 2.5, 1.9), lesion(4, 1.7, 1.2))


def test_percist_by_hand():
    found = percist(LESIONS, LIVER, BLOOD, patient=FDG)
    assert isinstance(found, Percist)
    assert (found.reference, found.unit) == ("liver", "SUL")
    assert found.threshold == pytest.approx(1.5 * 1.6 + 2 * 0.2)  # 2.8 g/mL SUL, 3.5 as SUV
    assert found.peaks == pytest.approx((3.2, 2.8, 1.52, 0.96))
    assert found.measurable == (True, True, False, False)  # a peak on the threshold is measurable
    assert found.hottest == 1 and not found.notes
    assert found.formula == "1.5 × 1.60 + 2 × 0.20"


def test_suv_in_place_of_sul_is_said_and_changes_no_verdict():
    found = percist(LESIONS, LIVER, BLOOD, patient=replace(FDG, sul_factor=None))
    assert (found.unit, found.threshold) == ("SUV", 3.5)
    assert found.measurable == (True, True, False, False)
    assert "stands in for SUL" in found.notes[0]


def test_a_diseased_liver_gives_way_to_the_blood_pool():
    found = percist(LESIONS, NO_LIVER, BLOOD, patient=FDG)
    assert found.reference == "blood_pool"
    assert found.threshold == pytest.approx(2.0 * 1.2 + 2 * 0.08)
    assert "lesions take 60% of the liver" in found.notes[0]


def test_nothing_measurable():
    found = percist(LESIONS[2:], LIVER, BLOOD, patient=FDG)
    assert found.hottest is None and found.measurable == (False, False)
    assert percist((), LIVER, BLOOD, patient=FDG).peaks == ()


@pytest.mark.parametrize("criterion", [percist, deauville])
def test_only_for_fdg_and_only_with_a_reference(criterion):
    for patient, reason in (
        (Patient("PSMA-1007", False), "defined for FDG; the tracer is PSMA-1007"),
        (Patient("DOTA peptide", False), "the tracer is DOTA peptide"),
        (Patient(), "the tracer is not known"),
    ):
        found = criterion(LESIONS, LIVER, BLOOD, patient=patient)
        assert isinstance(found, NotAssessed) and reason in found.reason
    found = criterion(LESIONS, NO_LIVER, NO_BLOOD, patient=FDG)
    assert isinstance(found, NotAssessed)
    assert NO_LIVER.reason in found.reason and NO_BLOOD.reason in found.reason


def test_five_points_by_hand():
    found = deauville(LESIONS, LIVER, BLOOD, patient=FDG)
    assert isinstance(found, Deauville)
    assert found.scores == (5, 4, 3, 2)  # 6.0 > 2 x 2.6; 4.2 > 2.6; 2.5 > 1.8; 1.7
    assert found.liver_ratios == pytest.approx((6 / 2.6, 4.2 / 2.6, 2.5 / 2.6, 1.7 / 2.6))
    assert found.blood_ratios[3] == pytest.approx(1.7 / 1.8)
    assert found.score == 5 and not found.notes
    assert deauville((), LIVER, BLOOD, patient=FDG).score == 1


@pytest.mark.parametrize(
    ("suv", "liver", "blood", "score"),
    [
        (1.8, 2.6, 1.8, 2), (1.81, 2.6, 1.8, 3), (2.6, 2.6, 1.8, 3), (2.61, 2.6, 1.8, 4), (5.2, 2.6, 1.8, 4),
        (5.21, 2.6, 1.8, 5),
        # Blood pool not below the liver.
        (1.9, 2.0, 2.0, 2), (2.0, 2.0, 2.0, 3), (2.0, 2.0, 2.4, 3), (2.2, 2.0, 2.4, 4),
        # One reference alone tells some of it.
        (3.0, 2.6, math.nan, 4), (9.0, 2.6, math.nan, 5), (2.0, 2.6, math.nan, None), (1.5, math.nan, 1.8, 2),
        (3.0, math.nan, 1.8, None), (3.0, math.nan, math.nan, None),
    ],
)  # fmt: skip
def test_limits_of_the_scale(suv, liver, blood, score):
    assert five_point_score(suv, liver, blood) == score


def test_a_missing_reference_is_named_and_leaves_scores_open():
    found = deauville(LESIONS, LIVER, NO_BLOOD, patient=FDG)
    assert found.scores == (5, 4, None, None) and found.score == 5
    assert "no blood-pool reference: the organ map has no aorta" in found.notes[0]
    assert all(math.isnan(ratio) for ratio in found.blood_ratios)
    assert deauville(LESIONS[1:], LIVER, NO_BLOOD, patient=FDG).score == 4  # the open ones are below the liver
    assert deauville(LESIONS[2:], LIVER, NO_BLOOD, patient=FDG).score is None
    without = deauville(LESIONS[2:], NO_LIVER, BLOOD, patient=FDG)
    assert without.scores == (None, 2) and without.score is None


def test_a_reference_without_uptake_gives_no_ratio():
    found = deauville(LESIONS, replace(LIVER, suv_max=0.0), BLOOD, patient=FDG)
    assert all(math.isnan(ratio) for ratio in found.liver_ratios)
