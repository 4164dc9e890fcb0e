"""What is said of an epoch of training."""

from __future__ import annotations

import math

import pytest

from uptake.cli.train import epoch_line

ROW = {"train_loss": 0.5, "validation_loss": 0.25, "pseudo_dice": 0.125, "seconds": 7.4}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "held-out windows: loss +0.2500, Dice 0.125  7 s"),
        ({"click_dice_1": 0.3, "click_dice_5": 0.6}, "loss +0.2500, Dice 0.300 after a click, 0.600 after five  7 s"),
        ({"validation_loss": math.nan, "pseudo_dice": math.nan}, "loss +0.5000  7 s"),
    ],
)
def test_held_out_windows_are_told_where_there_are_any(change, said):
    line = epoch_line("0", 3, 10, {**ROW, **change})
    assert line.startswith("fold 0  step      3/10  loss +0.5000  ") and line.endswith(said) and "nan" not in line


def test_a_row_without_windows_says_nothing_of_them():
    assert (
        epoch_line("all", 10, 10, {"train_loss": -0.1, "seconds": 2.0}) == "fold all  step     10/10  loss -0.1000  2 s"
    )
