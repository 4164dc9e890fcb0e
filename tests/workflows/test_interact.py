from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import InputError, UsageError
from uptake.geometry import Volume
from uptake.workflows import interact
from uptake.workflows.interact import object_dice, protocol_scores


class Obedient:
    """A session that marks a cube around every positive click and nothing else."""

    def __init__(self, pet: Volume, reach: int = 0) -> None:
        self.reach = reach
        self.case = type("Case", (), {"pet": pet})()
        self.points: list = []
        self.centres: list = []

    def reset(self):
        self.points, self.start = [], None

    def place_windows(self, centre):
        self.centres.append(centre)

    @property
    def objects(self):
        return (1,) if self.points or self.start is not None else ()

    def add_point(self, place, *, positive, object_id):
        if any(place == other and positive != was for other, was in self.points):
            raise InputError("contradiction")
        self.points.append((tuple(place), positive))

    def add_scribble(self, places, *, positive, object_id):
        for place in places:
            self.add_point(tuple(int(n) for n in place), positive=positive, object_id=object_id)

    def add_mask(self, mask, *, object_id):
        self.start = mask.array != 0

    def predict(self, object_id):
        mask = np.zeros(self.case.pet.shape, bool) if self.start is None else self.start.copy()
        for place, positive in self.points:
            around = tuple(slice(max(0, n - self.reach), n + self.reach + 1) for n in place)
            if positive:
                mask[around] = True
            else:
                mask[place] = False
        return type("Answer", (), {"mask": self.case.pet.with_array(mask)})()


@pytest.fixture
def pet() -> Volume:
    return Volume(np.random.default_rng(0).random((12, 12, 12)), np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.fixture
def truth(pet) -> np.ndarray:
    found = np.zeros(pet.shape, bool)
    found[2:5, 2:5, 2:5] = True
    return found


def test_dice_after_each_click(pet, truth) -> None:
    session = Obedient(pet, reach=1)
    found = object_dice(session, truth, clicks=3, first="centre")
    assert found == [1.0, 1.0, 1.0]
    assert len(session.points) == 0, "the session is left as it was found"
    worse = object_dice(session, truth, clicks=4, first="random", seed=3)
    assert len(worse) == 4 and worse[0] < 1


def test_oracle_windows_lie_on_the_middle_of_the_truth_and_are_taken_back(pet, truth) -> None:
    session = Obedient(pet)
    object_dice(session, truth, clicks=1, window="oracle")
    assert session.centres[0].tolist() == [6.0, 6.0, 6.0] and session.centres[-1] is None
    object_dice(session, truth, clicks=1)
    assert session.centres[2:] == [None, None]


@pytest.mark.parametrize(("protocol", "steps"), [("autopet_iv", 11), ("autopet_v", 6)])
def test_protocols_have_their_steps_and_get_better(pet, truth, protocol, steps) -> None:
    found = protocol_scores(Obedient(pet), pet.with_array(truth), protocol)
    assert len(found.dice) == steps
    assert found.dice[0] == 0.0 and found.dice[-1] > 0.2
    assert list(found.dice) == sorted(found.dice)


def test_an_automatic_start_is_the_first_answer(pet, truth) -> None:
    start = np.zeros_like(truth)
    start[2:5, 2:5, 2:4] = True
    found = protocol_scores(Obedient(pet), pet.with_array(truth), "autopet_v", start=pet.with_array(start))
    assert found.dice[0] == pytest.approx(2 * 18 / (18 + 27))
    assert found.dice[-1] > found.dice[0]


def test_a_case_without_lesions_has_no_dice(pet) -> None:
    found = protocol_scores(Obedient(pet), pet.with_array(np.zeros(pet.shape, bool)), "autopet_v")
    assert np.isnan(found.dice).all() and found.fp_volume_ml == (0.0,) * 6


def test_refusals(pet, truth) -> None:
    with pytest.raises(InputError, match="nothing to click on"):
        object_dice(Obedient(pet), np.zeros_like(truth))
    with pytest.raises(UsageError, match="click or on the oracle"):
        object_dice(Obedient(pet), truth, window="truth")
    with pytest.raises(UsageError, match="protocols are"):
        protocol_scores(Obedient(pet), pet.with_array(truth), "autopet_vi")
    assert interact.PUBLISHED_CLICKS == (1, 3, 5)
