from __future__ import annotations

import numpy as np
import pytest

from uptake.sampling.windows import draw_window, forced_samples


@pytest.mark.parametrize(
    ("batch", "forced"),
    [(2, [False, True]), (3, [False, False, True]), (8, [False] * 5 + [True] * 3)],
)
def test_the_published_share_forces_one_of_two_one_of_three_three_of_eight(batch, forced):
    assert forced_samples(batch, 0.33).tolist() == forced


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (1.0, 4)])
def test_a_share_of_nothing_or_everything(share, count):
    assert forced_samples(4, share).sum() == count


def test_free_windows_lie_inside_and_reach_every_corner(make_training):
    case = make_training((9, 8, 7))
    rng = np.random.default_rng(0)
    corners = [draw_window(rng, [case], (4, 6, 7), forced=False).lower for _ in range(300)]
    assert {c[0] for c in corners} == set(range(6))
    assert {c[1] for c in corners} == set(range(3))
    assert {c[2] for c in corners} == {0}


@pytest.mark.parametrize("forced", [False, True])
def test_a_case_smaller_than_the_window_is_centred(make_training, forced):
    case = make_training((4, 5, 7), lesions=[(0, 0, 0)])
    draw = draw_window(np.random.default_rng(1), [case], (8, 8, 7), forced=forced)
    assert draw.lower == (-2, -1, 0)


def test_forced_windows_are_centred_on_a_lesion_and_never_begin_below_zero(make_training):
    case = make_training((20, 20, 20), lesions=[(10, 10, 10), (1, 19, 8)])
    rng = np.random.default_rng(2)
    corners = {draw_window(rng, [case], (6, 6, 6), forced=True).lower for _ in range(60)}
    assert corners == {(7, 7, 7), (0, 16, 5)}


def test_a_forced_window_holds_its_lesion_wherever_that_lies(make_training):
    rng = np.random.default_rng(3)
    for _ in range(200):
        shape = tuple(rng.integers(3, 15, 3))
        voxel = tuple(int(rng.integers(n)) for n in shape)
        case = make_training(shape, lesions=[voxel])
        draw = draw_window(rng, [case], (8, 6, 4), forced=True)
        assert case.cut(draw.lower, (8, 6, 4))[1].sum() == 1


def test_a_case_without_lesions_falls_back_to_a_free_window(make_training):
    case = make_training((12, 12, 12), lesions=[])
    rng = np.random.default_rng(4)
    corners = {draw_window(rng, [case], (4, 4, 4), forced=True).lower for _ in range(40)}
    assert len(corners) > 20 and all(0 <= n <= 8 for corner in corners for n in corner)


def test_cases_are_drawn_uniformly_whether_they_have_lesions_or_not(make_training):
    cases = [make_training(lesions=[]), make_training(), make_training()]
    rng = np.random.default_rng(5)
    counts = np.bincount([draw_window(rng, cases, (4, 4, 4), forced=True).case for _ in range(3000)])
    assert np.abs(counts - 1000).max() < 100
