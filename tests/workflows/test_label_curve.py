"""What is concluded from the scores of a grid, with answers by hand."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.workflows.label_curve import SCRATCH, Run, conclude, grid, label_curve


def row(arm, fraction, draw, case, dice, patient=None):
    facts = {"arm": arm, "fraction": fraction, "scans": int(fraction * 100), "draw": draw, "seed": 0}
    return {**facts, "case": case, "patient": patient or case, "dice": dice}


@pytest.fixture
def rows():
    """Twelve patients; the pretrained network loses next to nothing with a tenth of the labels."""
    found = []
    for number in range(12):
        base = 0.5 + 0.03 * number
        for draw in (0, 1):
            case = f"p{number}"
            found += [
                row(SCRATCH, 0.1, draw, case, base - 0.2 + 0.04 * draw),
                row("mae", 0.1, draw, case, base + 0.001 * (-1) ** number),
                row(SCRATCH, 1.0, draw, case, base),
                row("mae", 1.0, draw, case, base + 0.01),
            ]
        found.append(row("mae", 0.1, 0, f"negative {number}", math.nan))
    return found


def test_points_average_draws_within_a_patient_and_leave_undefined_scores_out(rows):
    found = {(one.arm, one.fraction): one for one in conclude(rows, None).points}
    base = np.mean([0.5 + 0.03 * n for n in range(12)])
    assert found[SCRATCH, 0.1].mean == pytest.approx(base - 0.18)
    assert found[SCRATCH, 0.1].runs == 2 and found[SCRATCH, 0.1].scans == 10
    assert found[SCRATCH, 0.1].spread == pytest.approx(0.04 / math.sqrt(2))
    assert found["mae", 0.1].mean == pytest.approx(base)
    assert found["mae", 1.0].low < found["mae", 1.0].mean < found["mae", 1.0].high


def test_pairs_say_what_differs_and_what_is_equivalent(rows):
    pairs = {(one.a, one.a_fraction, one.b, one.b_fraction): one for one in conclude(rows, None).pairs}
    assert set(pairs) == {("mae", 0.1, SCRATCH, 0.1), ("mae", 0.1, SCRATCH, 1.0), ("mae", 1.0, SCRATCH, 1.0)}
    few = pairs["mae", 0.1, SCRATCH, 0.1]
    assert few.comparison.difference == pytest.approx(0.18) and few.comparison.p < 0.01
    assert not few.equivalence.equivalent
    promise = pairs["mae", 0.1, SCRATCH, 1.0]
    assert promise.equivalence.equivalent and promise.comparison.patients == 12
    assert not conclude(rows, None, margin=0.0001).pairs[1].equivalence.equivalent


def test_a_point_is_worth_the_scans_that_scratch_needs_for_it(rows):
    found = {(one.arm, one.fraction): one for one in conclude(rows, None).worth}
    assert set(found) == {("mae", 0.1), ("mae", 1.0)}
    tenth, whole = found["mae", 0.1], found["mae", 1.0]
    assert tenth.like == pytest.approx(100.0, rel=0.01), "its mean is that of all 100 scans from scratch"
    assert tenth.low <= tenth.like <= tenth.high
    assert whole.like == pytest.approx(100.0) and whole.beyond == "above"


def test_everything_is_written(rows, tmp_path):
    conclude(rows, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "scores.csv", "curve.csv", "pairs.csv", "labels_saved.csv", "summary.json", "curve.png",
    }  # fmt: skip
    with (tmp_path / "curve.csv").open(encoding="utf-8", newline="") as stream:
        assert [(one["arm"], one["fraction"]) for one in csv.DictReader(stream)] == [
            ("mae", "0.1"), ("mae", "1.0"), ("scratch", "0.1"), ("scratch", "1.0"),
        ]  # fmt: skip
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_grid_gives_every_point_as_many_runs_and_finishes_draw_by_draw():
    runs = grid([SCRATCH, "mae"], (0.1, 1.0), draws=3, seeds=2)
    assert len(runs) == len(set(runs)) == 24
    for fraction in (0.1, 1.0):
        assert sum(run.arm == "mae" and run.fraction == fraction for run in runs) == 6
    assert runs[:4] == [Run(SCRATCH, 0.1, 0, 0), Run("mae", 0.1, 0, 0), Run(SCRATCH, 1.0, 0, 0), Run("mae", 1.0, 0, 0)]
    assert {run.draw for run in runs if run.fraction == 1.0} == {0}
    assert Run("mae", 0.1, 2, 1).folder == "mae/f0.1_d2_s1"
    fewer = grid([SCRATCH, "mae"], (0.1, 1.0), draws=3, seeds=2, whole_runs=2)
    assert fewer == [run for run in runs if run.fraction < 1.0 or run.seed < 2]


@pytest.mark.parametrize(
    ("arms", "options", "says"),
    [
        ({}, {}, "needs pretrained bundles"),
        ({"scratch": "x"}, {}, "names other than 'scratch'"),
        ({"a": "x"}, {"draws": 2, "whole_runs": 3}, r"1 to draws x seeds \(2\), came 3"),
        ({"a": "x"}, {"fractions": (0.0, 1.0)}, "fractions lie in"),
        ({"a": "x"}, {"fractions": (0.5, 0.5)}, "each once"),
        ({"a": "x"}, {"draws": 0}, "draws and seeds"),
    ],
)
def test_a_grid_without_sense_is_refused_before_any_work(arms, options, says, tmp_path):
    with pytest.raises(UsageError, match=says):
        label_curve(tmp_path / "nowhere", tmp_path / "out", arms, **options)
    assert not (tmp_path / "out").exists()
