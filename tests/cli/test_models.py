"""`uptake models` and `uptake info`: what there is, and what a model is, without loading weights."""

from __future__ import annotations

import json

import pytest

import uptake


@pytest.fixture
def shipped(make_bundle, tmp_path, monkeypatch):
    from uptake.zoo import cards

    make_bundle(tmp_path / "phantom-lesion-small")
    make_bundle(tmp_path / "with-ct", needs=["pet", "ct"])
    monkeypatch.setattr(cards, "SHIPPED", tmp_path)
    return tmp_path


def test_models_are_listed_with_what_they_take(cli, shipped):
    ran = cli("models")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert any("phantom-lesion-small *" in line and "PET (+ CT)" in line and "Apache-2.0" in line for line in lines)
    assert any("with-ct" in line and "PET + CT" in line for line in lines)


def test_an_installation_without_models_says_so(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("uptake.zoo.cards.SHIPPED", tmp_path)
    ran = cli("models")
    assert ran.code == 0
    assert ran.out == "No model comes with this installation; give -m the folder of a bundle.\n"
    assert json.loads(cli("models", "--json-output").out) == []


def test_models_as_json_are_the_cards(cli, shipped):
    cards = json.loads(cli("models", "--json-output").out)
    assert [card["name"] for card in cards] == ["phantom-lesion-small", "with-ct"]


def test_info_of_a_bundle_says_what_it_is_and_cannot_do(cli, tiny_bundle):
    ran = cli("info", tiny_bundle)
    assert (ran.code, ran.err) == (0, "")
    for words in ("tiny, version 1", "needs pet; accepts pet, ct", "8 x 8 x 8 mm", "It has learnt nothing.", "SHA-256"):
        assert words in ran.out
    assert "Research use only" in ran.out


def test_info_puts_the_mean_of_a_score_before_its_interval(cli, make_bundle, tmp_path):
    dice = {"high": 0.75, "low": 0.5, "mean": 0.625, "median": 0.6, "n": 41}
    scores = [{"protocol": "cross-validation", "cases": 41, "metrics": {"dice": dice}}]
    bundle = make_bundle(tmp_path / "scored", scores=scores, summary="")
    ran = cli("info", bundle)
    assert ran.out.splitlines()[0] == "scored, version 1"
    assert "dice: 0.625 (95 % interval 0.500 to 0.750), median 0.600" in ran.out


def test_info_of_an_incomplete_card_is_refused(cli, make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "odd", plan={})
    ran = cli("info", bundle)
    assert ran.code == 4
    assert "the card is incomplete" in ran.err
    assert str(bundle) in ran.err


def test_info_without_a_name_is_about_the_package(cli):
    ran = cli("info")
    assert ran.code == 0
    assert f"uptake {uptake.__version__}" in ran.out
    assert "Research use only" in ran.out


def test_info_of_something_unknown_is_refused(cli, tmp_path):
    assert cli("info", "no-such-model").code == 4
    assert "no card.json" in cli("info", tmp_path).err
