"""Every code is one that somebody else has published under that name."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import pytest

from uptake.core.anatomy import classes_of
from uptake.io.terminology import ABNORMALITY, BOTH, LEFT, RIGHT, UNKNOWN, meaning_of, meanings, site_of
from uptake.simulation.labels import ORGAN_IDS, ORGAN_NAMES

TOTAL = [name for number, name in ORGAN_NAMES.items() if number <= 117]


@pytest.fixture(scope="module")
def standard() -> dict[str, set[str]]:
    """SNOMED CT code -> its names in the context groups of DICOM PS3.16."""
    pydicom = pytest.importorskip("pydicom.sr._concepts_dict")
    found: dict[str, set[str]] = {}
    for entries in pydicom.concepts["SCT"].values():
        for code, (name, _) in entries.items():
            found.setdefault(code, set()).add(name.lower())
    return found


def test_every_class_of_totalsegmentator_has_codes():
    assert len(TOTAL) == 117
    assert [name for name in TOTAL if meaning_of(name).origin == "general"] == []


def test_codes_and_names_said_to_be_in_dicom_are(standard):
    for name, meaning in meanings().items():
        for code in (meaning.category, meaning.type, meaning.laterality, meaning.region, meaning.region_laterality):
            if code is None or (code is meaning.type and meaning.origin != "DICOM"):
                continue
            assert code.scheme == "SCT"
            assert code.meaning.lower() in standard[code.value], f"{name}: {code}"
    assert meaning_of("lesion").type.meaning.lower() in standard[meaning_of("lesion").type.value]


def test_codes_said_to_be_elsewhere_are_not_in_dicom(standard):
    others = [meaning for meaning in meanings().values() if meaning.origin != "DICOM"]
    assert others
    assert not [meaning for meaning in others if meaning.type.value in standard]


def test_no_two_classes_share_type_and_side():
    keys = Counter(
        (m.type, m.laterality, m.region, m.region_laterality)
        for m in map(meaning_of, ORGAN_IDS)
        if m.origin != "general"
    )
    assert max(keys.values()) == 1


@pytest.mark.parametrize(
    ("name", "code", "side"),
    [
        ("kidney_left", "64033007", LEFT),
        ("kidneys", "64033007", BOTH),
        ("subclavian_artery_left", "36765005", LEFT),
        ("rib_right_12", "43993008", RIGHT),
        ("vertebrae_T10", "7610001", None),
        ("lung_middle_lobe_right", "72481006", None),
        ("lungs", "39607008", BOTH),
        ("something_else", UNKNOWN.value, None),
    ],
)
def test_names_and_their_codes(name, code, side):
    assert (meaning_of(name).type.value, meaning_of(name).laterality) == (code, side)


def test_a_cyst_is_an_abnormality_of_one_kidney():
    cyst = meaning_of("kidney_cyst_right")
    assert (cyst.category, cyst.laterality, cyst.region_laterality) == (ABNORMALITY, None, RIGHT)


def test_a_site_is_the_body_part_with_the_side_that_is_known():
    kidney = meaning_of("kidney_left").type
    assert site_of("kidney_left") == (kidney, LEFT)
    assert site_of("kidneys") == (kidney, None)
    assert site_of("kidney_cyst_right") == (kidney, RIGHT)
    assert site_of("liver") == (meaning_of("liver").type, None)
    assert site_of("") is site_of("lesion 2") is site_of("no such organ") is None


def test_lesions_are_numbered_and_told_apart_by_colour():
    assert meaning_of("lesion").type == meaning_of("lesion 12").type == meaning_of("Lesions").type
    assert meaning_of("lesion 1").colour != meaning_of("lesion 2").colour
    assert meaning_of("lesionlike").origin == "general"


@pytest.mark.parametrize("numbering", ["ldos", "lesiontracer"])
def test_organs_that_are_shown_together_are_told_apart_by_colour(numbering):
    # Distance of redmean, 0 to about 765: a cheap stand-in for what the eye sees.
    def apart(one, other):
        red = (one[0] + other[0]) / 2
        weights = (2 + red / 256, 4, 2 + (255 - red) / 256)
        return sum(w * (a - b) ** 2 for w, a, b in zip(weights, one, other, strict=True)) ** 0.5

    colours = {name: meaning_of(name).colour for name in classes_of(numbering)[1:]}
    close = [(a, b) for a, b in combinations(colours, 2) if apart(colours[a], colours[b]) < 90]
    assert close == []


def test_the_right_one_of_a_pair_is_darker():
    left, right = meaning_of("kidney_left").colour, meaning_of("kidney_right").colour
    assert left == meaning_of("kidneys").colour and all(dark < light for dark, light in zip(right, left, strict=True))


def test_neighbouring_classes_differ_in_colour():
    # Both sides together never stand in a map beside one of them, and share its colour.
    colours = [meaning.colour for meaning in meanings().values() if meaning.laterality != BOTH]
    assert all(one != other for one, other in pairwise(colours))
    assert all(0 <= value <= 255 for colour in colours for value in colour)
