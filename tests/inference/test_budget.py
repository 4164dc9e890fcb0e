"""The rule of budgeted ensembling, by hand: what fits, what is dropped, and the least that is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import BudgetError, UsageError
from uptake.inference.budget import (
    Budget,
    Memory,
    Rest,
    Wish,
    after_first_pass,
    everything_fits,
    first_pass_step,
    flip_order,
)

GB = 10**9


def wish(folds=5, axes=(2, 1, 0), step=0.5, windows=None, fixed=False):
    # LesionTracer's windows of 192 over (300, 400, 400): 48 at step 0.5, 18 at 0.6.
    return Wish(folds, axes, step, windows or (lambda at: 48 if at < 0.6 else 18), fixed)


def test_the_challenge_keeps_forty_of_its_three_hundred_seconds():
    assert Budget(300.0).reserve_s == pytest.approx(40.0)
    assert Budget(300.0).seconds_left(20.0) == pytest.approx(240.0)
    assert Budget(30.0).reserve_s == pytest.approx(4.0)
    assert Budget(3000.0).reserve_s == 40.0
    assert Budget().seconds_left(1e9) == float("inf")
    assert not Budget().given


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["max_seconds", "max_ram_gb"])
def test_a_limit_is_a_positive_number(name, value):
    with pytest.raises(UsageError, match=f"{name} is a positive number"):
        Budget(**{name: value})


def test_flips_are_added_from_left_right_to_head_foot():
    assert flip_order((0, 1, 2)) == (2, 1, 0)
    # A model grid of (y, z, x): its axis 0 is front-back.
    assert flip_order((0, 1, 2), (1, 0, 2)) == (2, 0, 1)


def test_everything_is_all_folds_times_all_flips():
    # 5 folds x 8 flips x 48 windows x 0.1 s = 192 s, and 4 further folds to compile at 2 s.
    assert everything_fits(wish(), window_s=0.1, setup_s=2.0, left_s=200.0)
    assert not everything_fits(wish(), window_s=0.1, setup_s=2.0, left_s=199.0)


def test_short_time_takes_the_tile_step_of_the_challenge_unless_the_caller_named_one():
    facts = {"window_s": 1.0, "left_s": 100.0, "spent_s": 0.0, "reserve_s": 0.0}
    assert first_pass_step(wish(), **facts) == 0.6
    assert first_pass_step(wish(step=0.75), **facts) == 0.75
    assert first_pass_step(wish(fixed=True), **facts) == 0.5


def test_too_little_time_names_the_least():
    with pytest.raises(BudgetError, match=r"18 windows of 1 s at tile step 0\.6") as refused:
        first_pass_step(wish(), window_s=1.0, left_s=17.0, spent_s=2.0, reserve_s=3.0)
    # (2 + 18) / (1 - 40 / 300) = 23.08
    assert "is 24 s (--max-seconds)" in str(refused.value)
    # For long passes the reserve is 40 s: 10 + 400 + 40.
    with pytest.raises(BudgetError, match="is 450 s"):
        first_pass_step(wish(windows=lambda _: 400), window_s=1.0, left_s=1.0, spent_s=10.0, reserve_s=40.0)


@given(spent=st.floats(0.0, 100.0), window=st.floats(1e-3, 30.0), windows=st.integers(1, 300))
def test_the_least_that_was_named_suffices(spent, window, windows):
    asked = wish(windows=lambda _: windows)
    with pytest.raises(BudgetError) as refused:
        first_pass_step(asked, window_s=window, left_s=-1.0, spent_s=spent, reserve_s=0.0)
    least = Budget(float(str(refused.value).split(" is ")[-1].split(" s ")[0]))
    left = least.seconds_left(spent)
    assert first_pass_step(asked, window_s=window, left_s=left, spent_s=spent, reserve_s=least.reserve_s) == 0.6


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (160.0, Rest(4, (2, 1))),  # 4 folds x 4 x 10 s
        (159.0, Rest(4, (2,))),
        (80.0, Rest(4, (2,))),
        (79.0, Rest(4, ())),
        (39.0, Rest(3, ())),
        (9.0, Rest(0, ())),
        (-5.0, Rest(0, ())),
        (1e6, Rest(4, (2, 1))),  # never more than two axes once a first pass was plain
    ],
)
def test_the_published_rule_after_a_first_pass_of_ten_seconds(left, expected):
    assert after_first_pass(wish(), first_pass_s=10.0, setup_s=0.0, left_s=left) == expected


def test_folds_that_have_to_be_compiled_cost_that_too():
    assert after_first_pass(wish(), first_pass_s=10.0, setup_s=5.0, left_s=180.0) == Rest(4, (2, 1))
    assert after_first_pass(wish(), first_pass_s=10.0, setup_s=5.0, left_s=179.0) == Rest(4, (2,))


@pytest.mark.parametrize(("left", "axes"), [(40.0, (2, 1)), (39.0, (2,)), (19.0, ()), (-1.0, ())])
def test_a_single_fold_is_run_again_with_flips(left, axes):
    assert after_first_pass(wish(folds=1), first_pass_s=10.0, setup_s=0.0, left_s=left) == Rest(0, axes)


def test_a_model_without_flips_gets_none():
    assert after_first_pass(wish(axes=()), first_pass_s=1.0, setup_s=0.0, left_s=1e6) == Rest(4, ())


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (7.5, (5, 5)),  # 2 + 1 + 0.5 + 4 x 1
        (7.4, (1, 5)),
        (5.5, (1, 5)),  # one at a time, and two arrays of logits
        (5.4, (1, 1)),
        (3.5, (1, 1)),
    ],
)
def test_networks_that_fit_the_memory(limit, expected):
    facts = {"resident": 2 * GB, "working": GB, "per_network": GB, "logits": GB, "stretch": GB // 2}
    assert Memory(limit=int(limit * GB), **facts).networks_at_a_time(5) == expected


@pytest.mark.parametrize(("limit", "arrays"), [(9.0, 2), (5.5, 2), (5.4, 1), (4.5, 1), (4.4, 0), (3.0, 0)])
def test_arrays_of_logits_that_fit_beside_one_network(limit, arrays):
    facts = {"resident": 2 * GB, "working": GB, "per_network": GB, "logits": GB, "stretch": GB // 2}
    assert Memory(limit=int(limit * GB), **facts).arrays_of_logits == arrays


def test_too_little_memory_names_the_least():
    facts = {"resident": 2 * GB, "working": GB, "per_network": 0, "logits": GB, "stretch": GB // 4}
    with pytest.raises(BudgetError, match=r"The least is 3\.2[56] GB \(--max-ram-gb\)"):
        Memory(limit=3 * GB, **facts).networks_at_a_time(5)
