from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uptake.core.errors import FileFormatError, InputError, UsageError
from uptake.geometry import Volume
from uptake.io.prompts import Prompt, mask_of, read_prompts, runs_of, write_prompts


@pytest.fixture
def pet(turned) -> Volume:
    array = np.zeros((6, 8, 20), np.float32)
    array[1, 2, 3] = 5.0
    array[3, 2, 1] = 0.0
    return Volume(array, turned)


@pytest.fixture
def prompts(pet) -> list[Prompt]:
    mask = np.zeros(pet.shape, bool)
    mask[1:3, 2, 4:9] = True
    return [
        Prompt("point", pet.world_of([1, 2, 3])),
        Prompt("point", pet.world_of([4, 2, 3]), False, 2),
        Prompt("box", pet.world_of([[0, 0, 0], [2, 3, 4]])),
        Prompt("scribble", pet.world_of([[1, 2, 3], [1, 3, 3]])),
        Prompt("mask", np.zeros((0, 3)), True, 3, runs_of(mask)),
    ]


def same(first: Prompt, second: Prompt) -> bool:
    return (first.kind, first.positive, first.object_id, first.runs) == (
        second.kind,
        second.positive,
        second.object_id,
        second.runs,
    ) and np.allclose(first.places_mm, second.places_mm, atol=1e-3)


def test_own_form_keeps_everything(tmp_path, pet, prompts) -> None:
    write_prompts(prompts, tmp_path / "p.json", pet, model="m 123")
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["space"] == "RAS" and content["model"] == "m 123" and content["image"]["shape"] == [6, 8, 20]
    found = read_prompts(tmp_path / "p.json", pet)
    assert len(found) == 5 and all(same(a, b) for a, b in zip(found, prompts, strict=True))


def test_world_positions_may_be_lps(tmp_path, pet, prompts) -> None:
    write_prompts(prompts[:1], tmp_path / "p.json", pet)
    content = json.loads((tmp_path / "p.json").read_text())
    content["space"] = "LPS"
    content["prompts"][0]["mm"] = (prompts[0].places_mm * [-1, -1, 1]).tolist()
    (tmp_path / "p.json").write_text(json.dumps(content))
    assert same(read_prompts(tmp_path / "p.json", pet)[0], prompts[0])


@pytest.mark.parametrize("form", ["autopet", "platform"])
def test_autopet_forms_there_and_back(tmp_path, pet, prompts, form) -> None:
    points = [prompts[0], Prompt("point", pet.world_of([4, 2, 3]), False)]
    write_prompts(points, tmp_path / "p.json", pet, form=form)
    content = json.loads((tmp_path / "p.json").read_text())
    if form == "autopet":
        assert content == {"tumor": [[1, 2, 3]], "background": [[4, 2, 3]]}
    else:
        assert content["version"] == {"major": 1, "minor": 0} and content["type"] == "Multiple points"
        assert content["points"][0] == {"point": [1, 2, 3], "name": "tumor"}
    assert all(same(a, b) for a, b in zip(read_prompts(tmp_path / "p.json", pet), points, strict=True))


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ({"tumor": [[3, 2, 1]]}, InputError, "read backwards"),  # air as given, SUV 5 the other way round
        ({"tumor": [[15, 2, 3]]}, InputError, "read backwards"),  # outside as given, inside the other way round
        ({"tumor": [[7, 30, 9]]}, InputError, "outside the image"),
        ({"tumor": [[1, 2]]}, FileFormatError, "three indices"),
        ({"points": [{"point": [1, 2, 3], "name": "liver"}]}, InputError, "also liver"),
        ({"points": [{"place": [1, 2, 3]}]}, FileFormatError, "KeyError"),
        ({"clicks": []}, FileFormatError, "no prompts in it"),
        ([1, 2], FileFormatError, "no prompts in it"),
        ({"format": "uptake prompts", "version": 99}, FileFormatError, "upgrade"),
        ({"format": "uptake prompts", "version": 1, "space": "XYZ", "prompts": []}, FileFormatError, "known are RAS"),
    ],
)
def test_files_that_are_refused(tmp_path, pet, content, error, words) -> None:
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(error, match=words):
        read_prompts(tmp_path / "p.json", pet)


def test_lps_written_as_ras_is_noticed(tmp_path, pet, prompts) -> None:
    write_prompts(prompts[:1], tmp_path / "p.json", pet)
    content = json.loads((tmp_path / "p.json").read_text())
    content["prompts"][0]["mm"] = (prompts[0].places_mm * [-1, -1, 1]).tolist()
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="they are LPS"):
        read_prompts(tmp_path / "p.json", pet)


def test_broken_json_and_missing_file(tmp_path, pet) -> None:
    (tmp_path / "p.json").write_text("{")
    for name in ("p.json", "none.json"):
        with pytest.raises(FileFormatError, match="cannot be read as JSON"):
            read_prompts(tmp_path / name, pet)


def test_masks_belong_to_their_grid(tmp_path, pet, prompts) -> None:
    write_prompts(prompts[4:], tmp_path / "p.json", pet)
    other = Volume(np.zeros((6, 8, 21), np.float32), pet.affine)
    with pytest.raises(InputError, match="another grid"):
        read_prompts(tmp_path / "p.json", other)


def test_autopet_forms_hold_points_of_one_object(tmp_path, pet, prompts) -> None:
    with pytest.raises(UsageError, match="one object"):
        write_prompts(prompts[:2], tmp_path / "p.json", pet, form="autopet")
    with pytest.raises(UsageError, match="no box"):
        write_prompts(prompts[2:3], tmp_path / "p.json", pet, form="platform")
    with pytest.raises(UsageError, match="came 'xml'"):
        write_prompts(prompts[:1], tmp_path / "p.json", pet, form="xml")


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "point", "places_mm": [[1, 2, 3], [1, 2, 3]]},
        {"kind": "box", "places_mm": [[1, 2, 3]]},
        {"kind": "lasso", "places_mm": [[1, 2, 3]]},
        {"kind": "point", "places_mm": [[1, np.nan, 3]]},
        {"kind": "point", "places_mm": [[1, 2, 3]], "object_id": 0},
    ],
)
def test_prompts_that_are_none(wrong) -> None:
    with pytest.raises(InputError):
        Prompt(**wrong)


@given(arrays(bool, st.tuples(*[st.integers(1, 5)] * 3)))
def test_runs_give_the_mask_back(mask) -> None:
    assert np.array_equal(mask_of(runs_of(mask), mask.shape), mask)


def test_runs_beyond_the_image_are_refused() -> None:
    with pytest.raises(InputError, match="does not fit"):
        mask_of([(6, 3)], (2, 2, 2))
