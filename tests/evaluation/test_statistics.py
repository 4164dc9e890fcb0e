import math

import numpy as np
import pytest

from uptake.core.errors import InputError
from uptake.evaluation.statistics import NOT_STATED, by_subgroup, column, summarise, volume_level


def rows(values, **columns):
    return [{"dice": v, **{k: c[n] for k, c in columns.items()}} for n, v in enumerate(values)]


def test_mean_median_and_count_leave_out_and_count_the_undefined():
    (summary,) = summarise(rows([0.2, 0.4, math.nan, 0.9, math.inf])).values()
    assert summary.mean == pytest.approx(0.5) and summary.median == pytest.approx(0.4)
    assert (summary.n, summary.undefined, summary.patients) == (3, 2, 3)
    assert 0.0 <= summary.low < 0.5 < summary.high <= 1.0
    assert summary.interval == "studentised"


def test_nothing_defined_gives_nan_not_a_crash():
    (summary,) = summarise(rows([math.nan, math.nan])).values()
    assert math.isnan(summary.mean) and math.isnan(summary.low) and (summary.n, summary.undefined) == (0, 2)
    assert summarise([]) == {}


def test_one_patient_has_no_interval():
    (summary,) = summarise(rows([0.3, 0.5], who=["a", "a"]), patient="who").values()
    assert summary.mean == pytest.approx(0.4) and summary.patients == 1
    assert math.isnan(summary.low) and math.isnan(summary.high)


def test_the_interval_is_the_one_asked_for():
    values = np.random.default_rng(0).beta(8, 2, 20)
    found = {name: summarise(rows(values), interval=name)["dice"] for name in ("percentile", "bca", "studentised")}
    assert {one.interval for one in found.values()} == set(found)
    assert len({(one.low, one.high) for one in found.values()}) == 3
    wide = summarise(rows(values), confidence=0.99)["dice"]
    assert wide.low < found["studentised"].low and wide.high > found["studentised"].high


def test_fields_of_a_table_read_back_count_as_numbers_and_empty_ones_as_undefined():
    np.testing.assert_array_equal(
        column([{"a": "0.5"}, {"a": ""}, {"a": None}, {"a": 2}], "a"), [0.5, np.nan, np.nan, 2]
    )


def test_subgroups_add_up_to_the_whole():
    table = rows([0.1, 0.2, 0.3, 0.4, 0.5], tracer=["FDG", "PSMA", "FDG", "", None], dose=["5", "100", "20", "5", "5"])
    found = by_subgroup(table, ["tracer", "dose"], metrics=["dice"])
    assert [(one.column, one.level, one.summary.n) for one in found] == [
        ("tracer", "FDG", 2), ("tracer", "PSMA", 1), ("tracer", NOT_STATED, 2),
        ("dose", "5", 3), ("dose", "20", 1), ("dose", "100", 1),
    ]  # fmt: skip
    assert found[0].summary.mean == pytest.approx(0.2)
    assert sum(one.summary.n for one in found if one.column == "tracer") == 5


def test_volume_classes():
    bounds = [10, 100]
    assert [volume_level(v, bounds) for v in (0, 0.1, 10, 10.1, 100, 101)] == [
        "none", "0 to 10 mL", "0 to 10 mL", "10 to 100 mL", "10 to 100 mL", "above 100 mL",
    ]  # fmt: skip
    assert volume_level(math.nan, bounds) == "none"
    levels = ["above 100 mL", "none", "10 to 100 mL", "0 to 10 mL"]
    found = by_subgroup(rows([0.1] * 4, volume=levels), ["volume"], metrics=["dice"])
    assert [one.level for one in found] == ["none", "0 to 10 mL", "10 to 100 mL", "above 100 mL"]


def test_guards():
    with pytest.raises(InputError, match="'iou'"):
        summarise(rows([0.1]), metrics=["iou"])
    with pytest.raises(InputError, match="'iou'"):
        column([{"iou": "high"}], "iou")
    with pytest.raises(InputError, match="patient"):
        summarise(rows([0.1, 0.2]), patient="who")
