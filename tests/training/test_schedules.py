from itertools import pairwise

import pytest

from uptake.training.schedules import multistep, poly, warmup_cosine


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 1e-3), (1, 9.994e-4), (750, 5.359e-4), (1400, 8.740e-5), (1499, 1.385e-6)]
)
def test_the_published_rates(epoch, rate):
    for step in (250 * epoch, 250 * epoch + 249):
        assert poly(step, 375_000, initial=1e-3, epoch_steps=250) == pytest.approx(rate, rel=5e-4)


def test_a_last_short_epoch_keeps_a_rate_above_zero():
    assert poly(24, 25, initial=1.0, epoch_steps=10) == pytest.approx((1 / 3) ** 0.9)


def test_poly_falls_within_no_epoch_and_at_every_boundary():
    rates = [poly(step, 40, initial=1.0, epoch_steps=10) for step in range(40)]
    assert [len(set(rates[n : n + 10])) for n in (0, 10, 20, 30)] == [1] * 4
    assert len(set(rates)) == 4 and sorted(rates, reverse=True) == rates


def test_cosine_rises_over_its_warm_up_then_falls_to_a_hundredth():
    rates = [warmup_cosine(step, 1050, initial=2.0) for step in range(1051)]
    assert rates[0] == pytest.approx(2 / 50) and rates[49] == rates[50] == pytest.approx(2.0)
    assert rates[550] == pytest.approx(2 * (0.01 + 0.99 / 2))
    assert rates[1050] == pytest.approx(0.02)
    assert all(a >= b for a, b in pairwise(rates[50:]))


def test_a_run_no_longer_than_its_warm_up_stays_within_bounds():
    assert all(0 < warmup_cosine(step, 10, initial=1.0) <= 1.0 for step in range(60))


def test_multistep_falls_to_a_tenth_after_each_milestone():
    rates = [multistep(step, 200, initial=8e-4) for step in (0, 119, 120, 179, 180, 199)]
    assert rates == pytest.approx([8e-4, 8e-4, 8e-5, 8e-5, 8e-6, 8e-6])
