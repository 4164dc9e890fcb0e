import math

import pytest

from uptake.evaluation.catalogue import metric_of
from uptake.evaluation.statistics import Summary
from uptake.evaluation.tables import (
    Table,
    interval_text,
    latex,
    markdown,
    number,
    p_phrase,
    p_text,
    signed,
    summary_cells,
)

TABLE = Table("Two methods & 5 % of cases.", ("method", "Dice"), (("a_b", "0.81"), ("c|d", "–")))


def test_markdown():
    assert markdown(TABLE) == (
        "Two methods & 5 % of cases.\n\n| method | Dice |\n|---|---:|\n| a_b | 0.81 |\n| c\\|d | – |\n"
    )


def test_latex_escapes_what_latex_reads_as_commands():
    assert latex(TABLE, label="tab:x") == (
        "\\begin{table}\n\\centering\n\\caption{Two methods \\& 5 \\% of cases.}\n\\label{tab:x}\n"
        "\\begin{tabular}{lr}\n\\toprule\nmethod & Dice \\\\\n\\midrule\na\\_b & 0.81 \\\\\nc|d & -- \\\\\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )
    assert r"\textbackslash{}" in latex(Table("", ("a\\b",), ()))


def test_numbers_as_text():
    assert [number(v, 2) for v in (0.125, -0.001, -3.456, 1234.5, math.nan, math.inf, -math.inf)] == [
        "0.12", "0.00", "−3.46", "1,234.50", "–", "∞", "−∞",
    ]  # fmt: skip
    assert [signed(v, 2) for v in (0.125, -0.5, 0.001, 0.0, math.inf, math.nan)] == [
        "+0.12", "−0.50", "0.00", "0.00", "+∞", "–",
    ]  # fmt: skip
    assert interval_text(0.1, 0.25, 2) == "0.10 to 0.25" and interval_text(math.nan, 1.0) == "–"
    assert interval_text(-0.1, 0.25, 2, with_sign=True) == "−0.10 to +0.25"
    assert [p_text(p) for p in (0.0004, 0.001, 0.25, math.nan)] == ["< 0.001", "0.001", "0.250", "–"]
    assert [p_phrase(p) for p in (0.0004, 0.25)] == ["p < 0.001", "p = 0.250"]


def test_summaries_as_cells():
    summary = Summary("fp_volume_ml", 1.234, 0.5, 0.9, math.inf, 0.95, "studentised", 7, 2, 6)
    assert summary_cells(summary, metric_of("fp_volume_ml")) == ("1.23", "0.90 to ∞", "0.50", "7", "2")


def test_cells_that_do_not_fit_are_our_own_fault():
    with pytest.raises(AssertionError):
        Table("", ("a", "b"), (("1",),))
