from __future__ import annotations

import numpy as np
import pytest

from uptake.cases import Case
from uptake.geometry import Volume
from uptake.geometry.grid import Grid
from uptake.harmonise.field import field_channels, field_grid, field_index, shifted, to_scan
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.plan import Plan


def plan_of(*names: str, spacing=(4.0, 4.0, 4.0), **options) -> Plan:
    return Plan(tuple(ChannelRule(name, "unchanged", 0, 0, 0, 1) for name in names), spacing, image_order=1, **options)


@pytest.fixture
def scan(turned) -> Volume:
    rng = np.random.default_rng(0)
    return Volume(rng.random((9, 8, 7)).astype(np.float32), turned)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 1, 0)])
def test_click_is_at_the_middle_voxel_and_axes_are_the_models(scan, transpose) -> None:
    plan = plan_of("pet", orientation="RAS", transpose=transpose)
    click = scan.world_of([4, 3, 2])
    field = field_grid(Grid.of(scan), plan, click, (6, 4, 8))
    assert field_index(field, click[None])[0] == pytest.approx([3, 2, 4])
    assert np.linalg.norm(field.affine[:3, :3], axis=0) == pytest.approx([4, 4, 4])
    code = Volume(np.zeros(field.shape), field.affine).orientation
    assert code == ("SAR" if transpose == (0, 1, 2) else "RAS")


def test_at_the_scans_own_spacing_voxels_are_copied(scan) -> None:
    plan = plan_of("pet", spacing=(8.0, 8.0, 8.0), orientation="RAS", transpose=(2, 1, 0))
    field = field_grid(Grid.of(scan), plan, scan.world_of([4, 4, 3]), (3, 3, 3))
    found = field_channels(Case("a", scan), field, plan)
    # the first axis of the scan points left; RAS turns it round
    assert found[0] == pytest.approx(scan.array[5:2:-1, 3:6, 2:5], abs=1e-5)


def test_beyond_the_scan_and_without_ct_channels_are_zero(scan) -> None:
    plan = plan_of("pet", "ct", spacing=(8.0, 8.0, 8.0))
    field = field_grid(Grid.of(scan), plan, scan.world_of([0, 0, 0]), (6, 6, 6))
    found = field_channels(Case("a", scan.with_array(scan.array + 1)), field, plan)
    assert (found[1] == 0).all()
    assert 0 < (found[0] == 0).mean() < 1
    with_ct = field_channels(Case("a", scan, Volume(np.full((2, 2, 2), 7.0), scan.affine)), field, plan)
    assert set(np.unique(with_ct[1])) == {-1024.0, 0.0, 7.0}  # air where the CT does not reach, 0 beyond the PET


def test_way_back_is_exact_on_one_spacing_and_keeps_places(scan) -> None:
    plan = plan_of("pet", spacing=(8.0, 8.0, 8.0), orientation="RAS")
    field = field_grid(Grid.of(scan), plan, scan.world_of([6, 4, 3]), (4, 4, 4))
    channels = field_channels(Case("a", scan), field, plan)
    box, values = to_scan(channels[0], field, scan)
    assert values.shape == tuple(s.stop - s.start for s in box)
    assert values == pytest.approx(scan.array[box], abs=1e-5)


def test_way_back_from_coarse_voxels_stays_within_the_field(scan) -> None:
    plan = plan_of("pet", spacing=(12.0, 12.0, 12.0))
    field = field_grid(Grid.of(scan), plan, scan.world_of([4, 4, 3]), (2, 2, 2))
    _, values = to_scan(np.ones((2, 2, 2), np.float32), field, scan)
    assert values.size >= 3**3 and (values == 1).all()
    far = field_grid(Grid.of(scan), plan, scan.world_of([500, 4, 3]), (2, 2, 2))
    assert to_scan(np.ones((2, 2, 2), np.float32), far, scan) is None


def test_shifted_by_voxels(scan) -> None:
    field = field_grid(Grid.of(scan), plan_of("pet"), scan.world_of([4, 4, 3]), (4, 4, 4))
    moved = shifted(field, (1, 0, -2))
    place = field.affine[:3, :3] @ [1, 0, -2] + field.affine[:3, 3]
    assert field_index(moved, place[None])[0] == pytest.approx([0, 0, 0], abs=1e-9)
