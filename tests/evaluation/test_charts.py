import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.evaluation.agreement import agreement
from uptake.evaluation.agreement import bland_altman as bland_altman_points
from uptake.evaluation.catalogue import metric_of
from uptake.evaluation.charts import ACCENT, INK, bland_altman, score_dots, subgroup_dots, swarm
from uptake.evaluation.comparison_charts import paired_dots, rank_diagram
from uptake.evaluation.intervals import Interval
from uptake.evaluation.ranking import rank_methods
from uptake.evaluation.statistics import by_subgroup, summarise

DOT = "#73b1d5"
"""A dot's blue as it is seen on white, 55 % of it."""

PAIRED_DOT = "#59a3cd"
"""The same, 65 %."""


def pixels(png):
    """Return (height, width, 3) 0..1."""
    from matplotlib.image import imread

    assert png.startswith(b"\x89PNG")
    return imread(io.BytesIO(png))[..., :3]


def where(image, colour, tolerance=0.06):
    """Return rows and columns of the pixels of one colour."""
    wanted = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    return np.nonzero((np.abs(image - wanted) < tolerance).all(axis=-1))


def dots(scores, metric="dice", **labels):
    values = labels or {"lesion": np.array(scores)}
    summaries = {name: summarise([{metric: v} for v in found])[metric] for name, found in values.items()}
    return score_dots(values, summaries, metric_of(metric))


def test_the_mean_stands_where_it_belongs():
    columns = [np.median(where(pixels(dots([mean - 0.05, mean + 0.05] * 8)), ACCENT)[1]) for mean in (0.2, 0.4, 0.8)]
    # Equal steps of Dice are equal steps on the axis: 0.2 apart, then 0.4.
    assert (columns[2] - columns[1]) / (columns[1] - columns[0]) == pytest.approx(2, abs=0.1)


def test_every_scan_is_a_dot():
    def outside(n):
        # Sixty scans in the middle keep the interval, which covers dots, narrow.
        scores = np.concatenate([np.full(60, 0.5), np.linspace(0.02, 0.3, n), np.linspace(0.7, 0.98, n)])
        _, columns = where(pixels(dots(scores)), DOT)
        return int((np.abs(columns - np.median(columns)) > 80).sum())

    few, many = outside(3), outside(9)
    assert few > 60 and many / few == pytest.approx(3, rel=0.2)


def test_a_row_for_each_label_and_no_crash_without_a_score():
    one = pixels(dots([0.5, 0.6]))
    two = pixels(dots(None, liver=np.array([0.5, 0.6]), spleen=np.array([math.nan, math.nan])))
    assert two.shape[0] > one.shape[0] and two.shape[1] == one.shape[1]
    assert len(where(pixels(dots([math.nan])), ACCENT)[0]) == 0


def test_long_tails_get_a_logarithmic_axis():
    short, long = dots([0.0, 0.5, 1.0, 2.0], "fp_volume_ml"), dots([0.0, 0.5, 1.0, 2000.0], "fp_volume_ml")
    spread = [np.ptp(where(pixels(png), DOT)[1][:-1]) for png in (short, long)]
    # On a linear axis three of the four dots would fall into one.
    assert spread[1] > 0.5 * spread[0]


def test_same_scores_same_bytes():
    assert dots([0.1, 0.5, 0.9]) == dots([0.1, 0.5, 0.9])
    assert dots([0.1, 0.5, 0.9]) != dots([0.1, 0.5, 0.8])


@given(st.lists(st.floats(0, 1), max_size=40))
def test_the_swarm_stays_in_its_row_and_parts_equal_values(values):
    offsets = swarm(np.array(values), reach=0.3)
    assert offsets.shape == (len(values),) and (np.abs(offsets) <= 0.3 + 1e-12).all()
    assert len({*zip(values, offsets, strict=True)}) == len(values)


def test_subgroups():
    table = [
        {"dice": v, "tracer": t} for v, t in zip([0.2, 0.3, 0.8, 0.9], ["FDG", "FDG", "PSMA", "PSMA"], strict=True)
    ]
    png = subgroup_dots(by_subgroup(table, ["tracer"], metrics=["dice"]), metric_of("dice"), summarise(table)["dice"])
    rows, columns = where(pixels(png), ACCENT)
    upper = rows < (rows.min() + rows.max()) / 2
    assert columns[upper].mean() < columns[~upper].mean()


@pytest.mark.parametrize("bias", [-4.0, 4.0])
def test_bland_altman_draws_the_bias_on_its_side_of_no_difference(bias):
    reference = np.array([10.0, 20, 30, 40])
    points = reference + bias + np.array([1.0, -1, -1, 1]), reference
    image = pixels(bland_altman(*bland_altman_points(*points), agreement(*points), quantity="MTV", unit="mL"))
    bias_row, zero_row = (np.bincount(where(image, colour)[0]).argmax() for colour in (ACCENT, INK))
    # Rows count from the top.
    assert (bias_row < zero_row) == (bias > 0)


@pytest.mark.parametrize("scale", ["absolute", "percent", "ratio"])
def test_bland_altman_on_every_scale_and_without_a_pair(scale):
    measured, reference = np.array([0.0, 12.0, 30.0, math.nan]), np.array([0.0, 10.0, 33.0, 1.0])
    found = agreement(measured, reference, scale=scale)
    points = bland_altman_points(measured, reference, scale=scale)
    picture = bland_altman(*points, found, quantity="MTV", unit="mL")
    assert picture == bland_altman(*points, found, quantity="MTV", unit="mL")
    nothing = np.full(3, math.nan)
    none = bland_altman_points(nothing, nothing, scale=scale)
    pixels(bland_altman(*none, agreement(nothing, nothing, scale=scale), quantity="MTV", unit="mL"))


def interval(low, high):
    return Interval(low, high, "studentised", 0.95, 100, 5)


@pytest.mark.parametrize("methods", [2, 3])
def test_paired_dots(methods):
    scores = np.random.default_rng(0).random((12, methods))
    names = ["a", "b", "a method with a name that is longer than a column is wide"][:methods]
    parts = {
        "medians": [interval(0.4, 0.6)] * methods,
        "differences": [interval(-0.1, math.inf)] + [interval(-0.1, 0.1)] * (methods - 2),
    }
    plain = paired_dots(scores, names, metric_of("dice"), **parts)
    assert plain == paired_dots(scores, names, metric_of("dice"), **parts)
    assert plain != paired_dots(scores, names, metric_of("dice"), **parts, margin=0.1)
    _, columns = where(pixels(plain), PAIRED_DOT)
    assert len(columns) > 200 * methods


def test_ranks_are_joined_where_they_do_not_differ():
    rng = np.random.default_rng(1)
    apart = rank_methods(rng.normal([3, 2, 1, 0], 0.1, (40, 4)), "abcd")
    alike = rank_methods(rng.normal(0, 1, (40, 4)), "abcd")
    assert apart.groups == () and alike.groups
    taller = [pixels(rank_diagram(found, title="Dice")).shape[0] for found in (apart, alike)]
    assert taller[1] > taller[0]
    assert rank_diagram(apart) == rank_diagram(apart)
