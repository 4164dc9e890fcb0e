from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.simulated_users import autopet_iv_clicks, next_click, next_scribble


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def truth() -> np.ndarray:
    found = np.zeros((12, 12, 12), bool)
    found[1:6, 1:6, 1:6] = True
    found[9:11, 9:11, 9:11] = True
    return found


def test_centre_click_is_the_deepest_point_of_the_largest_mistake(truth, rng) -> None:
    found = next_click(np.zeros_like(truth), truth, rng)
    assert found is not None and found.place == (3, 3, 3) and found.positive
    surplus = truth.copy()
    surplus[:, :, 6:] = True
    found = next_click(surplus, truth, rng)
    assert found is not None and not found.positive and not truth[found.place]


def test_depth_goes_by_mm(rng) -> None:
    wanted = np.zeros((9, 5, 5), bool)
    wanted[1:8, 1:4, 1:4] = True
    flat = next_click(np.zeros_like(wanted), wanted, rng, spacing_mm=(0.1, 10.0, 10.0))
    assert flat is not None and flat.place[0] == 4


@pytest.mark.parametrize("rule", ["centre", "random", "deep"])
def test_no_mistake_no_click(truth, rng, rule) -> None:
    assert next_click(truth, truth, rng, rule=rule) is None


def test_random_and_deep_clicks_are_wrong_voxels(truth, rng) -> None:
    for rule in ("random", "deep"):
        places = [next_click(np.zeros_like(truth), truth, rng, rule=rule).place for _ in range(30)]
        assert all(truth[place] for place in places)
        assert len(set(places)) > 3
    # depth 3 at the middle of the large one: deep clicks are in its inner 3³ voxels
    assert all(2 <= n <= 4 for place in places for n in place)


def test_autopet_iv_visits_lesions_first_then_rims(truth, rng) -> None:
    pet = np.where(truth, 9.0, 1.0)
    pet[6:9, 0, 0] = [20.0, 30.0, 20.0]
    tumour, background = autopet_iv_clicks(truth, pet, rng)
    assert len(tumour) == len(background) == 10
    assert {(3, 3, 3)} < {click.place for click in tumour[:2]}
    assert all(truth[click.place] and click.positive for click in tumour)
    assert all(pet[click.place] >= 20 and not click.positive for click in background)
    from scipy.ndimage import binary_erosion

    assert not any(binary_erosion(truth)[click.place] for click in tumour[2:])


def test_autopet_iv_without_tumour_has_no_tumour_clicks(rng) -> None:
    tumour, background = autopet_iv_clicks(np.zeros((4, 4, 4), bool), np.arange(64.0).reshape(4, 4, 4), rng)
    assert tumour == [] and len(background) == 10


def test_same_seed_same_clicks(truth) -> None:
    pet = np.random.default_rng(1).random(truth.shape)
    first, second = (autopet_iv_clicks(truth, pet, np.random.default_rng(42)) for _ in range(2))
    assert first == second


def test_scribbles_run_through_the_largest_part_of_a_slice(truth, rng) -> None:
    found = next_scribble(np.zeros_like(truth), truth, rng)
    assert found is not None and found.positive
    assert found.places[:, 2].tolist() == [1] * 5
    assert found.places[:, :2].tolist() == [[i, 3] for i in range(1, 6)]
    assert next_scribble(truth, truth, rng) is None
    surplus = truth.copy()
    surplus[:, 8:, 0] = True
    back = next_scribble(surplus, truth, rng, style="random")
    assert back is not None and not back.positive
    assert all(surplus[tuple(p)] and not truth[tuple(p)] for p in back.places)


def test_what_is_missing_wins_a_tie(rng) -> None:
    mask, wanted = np.zeros((4, 4, 1), bool), np.zeros((4, 4, 1), bool)
    mask[0, :2], wanted[3, :2] = True, True
    assert next_scribble(mask, wanted, rng).positive


def test_refusals(truth, rng) -> None:
    with pytest.raises(UsageError, match="rules of clicking"):
        next_click(truth, truth, rng, rule="guess")
    with pytest.raises(UsageError, match="styles of scribbles"):
        next_scribble(truth, truth, rng, style="circle")
    with pytest.raises(InputError):
        next_click(truth, truth[1:], rng)
    with pytest.raises(InputError, match="the PET has shape"):
        autopet_iv_clicks(truth, np.zeros((2, 2, 2)), rng)
