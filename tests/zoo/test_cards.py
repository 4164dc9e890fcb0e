from __future__ import annotations

import json

import pytest

from uptake.core.errors import CheckpointError, ModelError
from uptake.zoo import cards
from uptake.zoo.cards import CARD_FILE, find_bundle, read_card, shipped_bundles


def write(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD_FILE).write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def shipped(tmp_path, monkeypatch, make_card):
    place = tmp_path / "shipped"
    for name in ("phantom-lesion-small", "fdg-lesion"):
        write(place / name, make_card(name=name).as_text())
    (place / "no-bundle").mkdir()
    monkeypatch.setattr(cards, "SHIPPED", place)
    return place


def test_a_card_survives_its_file(tmp_path, make_card):
    card = make_card(files={"fold_0.safetensors": "ab" * 32})
    assert read_card(write(tmp_path / "b", card.as_text())) == card


def test_card_text_is_stable_and_says_what_it_is_for(make_card):
    text = make_card().as_text()
    assert text == make_card().as_text() and text.endswith("}\n")
    assert "Läsionen > 1 mL" in text
    assert json.loads(text)["notice"] == "Research use only. Not a medical device."


def test_a_folder_without_a_card_is_no_bundle(tmp_path):
    with pytest.raises(CheckpointError, match=rf"{tmp_path.name}: no card\.json there, so this is not a model bundle"):
        read_card(tmp_path)


def test_a_newer_card_format_asks_for_an_upgrade(tmp_path, make_card):
    folder = write(tmp_path / "b", make_card(format=cards.CARD_FORMAT + 1).as_text())
    with pytest.raises(CheckpointError, match=r"card\.json: written in card format 2, this version reads 1; upgrade"):
        read_card(folder)


@pytest.mark.parametrize("damage", ["{", "[]", "null", "{}", "\x00", "unknown key", "missing key", "text format"])
def test_a_damaged_card_is_refused_with_its_path(tmp_path, make_card, damage):
    values = json.loads(make_card().as_text())
    if damage == "unknown key":
        damage = json.dumps(values | {"colour": "red"})
    elif damage == "missing key":
        damage = json.dumps({k: v for k, v in values.items() if k != "licence"})
    elif damage == "text format":
        damage = json.dumps(values | {"format": "1"})
    with pytest.raises(CheckpointError, match=r"card\.json: the card cannot be read"):
        read_card(write(tmp_path / "b", damage))


def test_a_card_in_another_encoding_is_refused(tmp_path):
    (tmp_path / CARD_FILE).write_bytes('{"a": "ä"}'.encode("latin-1"))
    with pytest.raises(CheckpointError, match="the card cannot be read"):
        read_card(tmp_path)


def test_a_bundle_is_found_by_path_and_by_name(shipped, tmp_path, make_card):
    own = write(tmp_path / "own", make_card().as_text())
    assert find_bundle(own) == own and find_bundle(str(own)) == own
    assert find_bundle("fdg-lesion") == shipped / "fdg-lesion"


def test_only_folders_with_a_card_are_shipped_bundles(shipped):
    assert [path.name for path in shipped_bundles()] == ["fdg-lesion", "phantom-lesion-small"]


def test_an_unknown_name_is_refused_with_the_closest_one(shipped):
    with pytest.raises(ModelError, match=r"no model 'fdg-lesions'\. Did you mean 'fdg-lesion'\?.*phantom-lesion-small"):
        find_bundle("fdg-lesions")
    with pytest.raises(ModelError, match=r"no model 'xyz'\. Models here: fdg-lesion, phantom-lesion-small"):
        find_bundle("xyz")


def test_without_shipped_models_the_error_says_none(shipped, monkeypatch, tmp_path):
    monkeypatch.setattr(cards, "SHIPPED", tmp_path / "nothing")
    with pytest.raises(ModelError, match="Models here: none"):
        find_bundle("xyz")


def test_a_folder_that_exists_without_a_card_is_refused_as_such(shipped, tmp_path):
    (tmp_path / "weights").mkdir()
    with pytest.raises(ModelError, match=r"weights: exists but holds no card\.json"):
        find_bundle(tmp_path / "weights")


def test_the_default_model_is_a_name_not_a_path():
    assert "/" not in cards.DEFAULT_MODEL
