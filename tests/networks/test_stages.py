"""What stages and windows a U-Net takes."""

from __future__ import annotations

import pytest

from uptake.core.errors import UsageError
from uptake.networks.stages import divisors, fitted_window, require_stages, require_window

HALVED_IN_PLANE = ((1, 1, 1), (1, 2, 2), (2, 2, 2))


def test_windows_divide_by_the_strides_of_each_axis():
    assert divisors((8, 16, 32, 64), None) == (8, 8, 8)
    assert divisors((8, 16, 32), HALVED_IN_PLANE) == (2, 4, 4)


@pytest.mark.parametrize(
    ("features", "blocks", "kernels", "message"),
    [
        ((8,), (1,), None, "two or more"),
        ((8, 16), (1,), None, "name the same stages"),
        ((8, 16), (1, 1), ((3, 3, 3),), "kernels name 1 stages, features 2"),
    ],
)
def test_stages_that_do_not_go_together_are_refused(features, blocks, kernels, message):
    with pytest.raises(UsageError, match=message):
        require_stages(features, blocks, kernels=kernels)


def test_stages_that_go_together_pass():
    require_stages((8, 16, 32), (1, 1, 1), kernels=None, strides=HALVED_IN_PLANE)


def test_windows_that_cannot_be_halved_are_refused():
    require_window((4, 8, 8), (2, 4, 4), halvings=2)
    with pytest.raises(UsageError, match=r"window \(4, 6, 8\) must divide by \(2, 4, 4\): the network halves it 2"):
        require_window((4, 6, 8), (2, 4, 4), halvings=2)
    with pytest.raises(UsageError, match="shrinks to one voxel"):
        require_window((2, 4, 4), (2, 4, 4), halvings=2)


def test_a_window_is_no_larger_than_the_case_needs_and_no_smaller_than_two_coarse_voxels():
    assert fitted_window((64, 64, 64), (33.0, 100.0, 3.0), (8, 8, 8)) == (40, 64, 16)
