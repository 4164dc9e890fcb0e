from __future__ import annotations

import pytest

from uptake.core.errors import UnitError
from uptake.physics.radionuclides import (
    RADIONUCLIDES,
    radionuclide_of_code,
    radionuclide_of_half_life,
    radionuclide_of_meaning,
    require_half_life,
)


@pytest.mark.parametrize(
    ("code", "name"), [("C-111A1", "F-18"), ("77004003", "F-18"), ("C-131A3", "Ga-68"), (" c-105a1 ", "C-11")]
)
def test_codes_name_nuclides(code, name):
    nuclide = radionuclide_of_code(code)
    assert nuclide is not None
    assert nuclide.name == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("^18^Fluorine", "F-18"), ("18F", "F-18"), ("F^18^[^18^Fluorine]", "F-18"), ("Ga-68", "Ga-68"),
        ("68Gallium", "Ga-68"), ("^94m^Technetium", "Tc-94m"), ("94mTc", "Tc-94m"), ("^52m^Manganese", "Mn-52m"),
        ("^52^Manganese", "Mn-52"), ("Zirconium 89", "Zr-89"),
    ],
)  # fmt: skip
def test_meanings_name_nuclides(text, name):
    nuclide = radionuclide_of_meaning(text)
    assert nuclide is not None
    assert nuclide.name == name


@pytest.mark.parametrize(
    "text", ["", "Fluorodeoxyglucose", "FDG 18", "68", "Gallium", "^99m^Technetium", "18F and 68Ga"]
)
def test_meanings_that_name_none_or_two(text):
    assert radionuclide_of_meaning(text) is None


def test_every_meaning_of_the_context_group_is_understood():
    from pydicom.sr._cid_dict import cid_concepts
    from pydicom.sr._concepts_dict import concepts

    for scheme, names in cid_concepts[4020].items():
        for name in names:
            for code, (meaning, _) in concepts[scheme][name].items():
                assert radionuclide_of_meaning(meaning) is radionuclide_of_code(code) is not None


def test_unknown_codes_and_half_lives_name_nothing():
    assert radionuclide_of_code("T-D4909") is None
    assert radionuclide_of_half_life(3000.0) is None
    # As-70 and Tc-94m are 1.2 % apart: no telling which.
    assert radionuclide_of_half_life(3140.0) is None


@pytest.mark.parametrize(
    ("half_life_s", "name"), [(6586.0, "F-18"), (6588.0, "F-18"), (4057.0, "Ga-68"), (1223.0, "C-11"), (598.0, "N-13")]
)
def test_real_header_values_are_recognised_and_accepted(half_life_s, name):
    nuclide = radionuclide_of_half_life(half_life_s)
    assert nuclide is not None
    assert nuclide.name == name
    require_half_life(half_life_s, nuclide)


def test_no_two_nuclides_are_confused():
    codes = [code for nuclide in RADIONUCLIDES for code in nuclide.codes]
    assert len(set(codes)) == len(codes)
    for nuclide in RADIONUCLIDES:
        assert radionuclide_of_half_life(nuclide.half_life_s) in (nuclide, None)
        assert radionuclide_of_code(nuclide.codes[0]) is nuclide
    for nuclide in RADIONUCLIDES[:8]:
        assert radionuclide_of_half_life(nuclide.half_life_s) is nuclide


def test_every_nuclide_of_the_context_group_is_known():
    from pydicom.sr._cid_dict import cid_concepts
    from pydicom.sr._concepts_dict import concepts

    wanted = {code for scheme, names in cid_concepts[4020].items() for name in names for code in concepts[scheme][name]}
    assert wanted <= {code for nuclide in RADIONUCLIDES for code in nuclide.codes}


def test_half_life_in_hours_is_refused():
    with pytest.raises(UnitError, match=r"\(0018,1075\) is 1.83; expected seconds"):
        require_half_life(1.83, None)


def test_half_life_of_another_nuclide_is_refused():
    with pytest.raises(UnitError, match="says Ga-68"):
        require_half_life(6586.2, radionuclide_of_code("C-131A3"))
