"""Masks of a masked autoencoder: what the published ones do, and what each option changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.cases import HarmonisedCase
from uptake.core.errors import FileFormatError, UsageError
from uptake.sampling.augment import NO_AUGMENTATION, AugmentRules, draw_sample
from uptake.sampling.batches import BatchRules
from uptake.sampling.masking import (
    MaskedWindows,
    MaskRules,
    block_grid,
    cut_unlabelled,
    draw_blocks,
    hidden_voxels,
    imputed,
    zoom_alone,
)
from uptake.sampling.pool import StoredCases, StoredName
from uptake.sampling.store import store, training_case

PUBLISHED = MaskRules()
WINDOW = (96, 128, 128)


def blocks(rules, *, draws=1, samples=1, window=WINDOW, channels=2):
    rng = np.random.default_rng(0)
    return np.concatenate(
        [draw_blocks(rng, rules, samples=samples, channels=channels, window=window) for _ in range(draws)]
    )


def test_the_published_window_has_512_blocks_half_of_them_hidden():
    assert block_grid(WINDOW, PUBLISHED.block) == (8, 8, 8)
    found = blocks(PUBLISHED, draws=1000)
    assert found.shape == (1000, 2, 8, 8, 8)
    assert abs(found.mean() - 0.5) < 0.01
    counts = found.reshape(1000, 2, -1).sum(-1)
    assert 10.3 < counts.std() < 12.3  # sqrt(512 / 4) = 11.3: each block for itself


def test_masks_of_pet_and_ct_know_nothing_of_one_another():
    found = blocks(PUBLISHED, draws=200).reshape(200, 2, -1)
    pet, ct = found[:, 0].ravel(), found[:, 1].ravel()
    assert abs(np.corrcoef(pet, ct)[0, 1]) < 0.01
    assert abs((pet & ct).mean() - 0.25) < 0.01 and abs((pet & ~ct).mean() - 0.25) < 0.01


def test_coupled_masks_are_the_same_for_all_channels():
    found = blocks(MaskRules(coupling="coupled"), samples=5)
    assert (found[:, 0] == found[:, 1]).all() and found.any() and not found.all()


def test_exact_masks_hide_the_same_number_of_blocks_each_time():
    found = blocks(MaskRules(ratio=0.6, sampler="exact"), samples=50)
    assert set(found.reshape(100, -1).sum(-1)) == {307}  # round(0.6 · 512)
    assert len({one.tobytes() for one in found.reshape(100, -1)}) == 100


def test_one_channel_is_masked_and_the_other_fully_visible():
    found = blocks(MaskRules(coupling="one_channel"), samples=200).reshape(200, 2, -1).any(-1)
    assert (found.sum(1) == 1).all()
    assert 60 < found[:, 0].sum() < 140


def test_a_mask_is_constant_inside_each_block_and_cut_at_the_windows_end():
    coarse = torch.from_numpy(blocks(MaskRules(block=(4, 4, 4)), window=(8, 8, 10)))
    fine = hidden_voxels(coarse, (4, 4, 4), (8, 8, 10))
    assert coarse.shape == (1, 2, 2, 2, 3) and fine.shape == (1, 2, 8, 8, 10)
    for z, y, x in np.ndindex(2, 2, 3):
        part = fine[0, 1, 4 * z : 4 * z + 4, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        assert (part == coarse[0, 1, z, y, x]).all()


@pytest.mark.parametrize("fill", ["mean", "minimum", "noise"])
def test_hidden_voxels_are_filled_and_visible_ones_untouched(fill):
    channels = torch.randn(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) + 3
    hidden = torch.rand(channels.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    found = imputed(channels, hidden, fill=fill, seed=7)
    assert torch.equal(found[~hidden], channels[~hidden])
    if fill == "mean":
        assert (found[hidden] == 0).all()
    elif fill == "minimum":
        assert (found[0, 1][hidden[0, 1]] == channels[0, 1].min()).all()
    else:
        assert torch.equal(found, imputed(channels, hidden, fill=fill, seed=7))
        assert abs(float(found[hidden].mean())) < 0.3


def edge_over_interior(image, hidden, fill):
    """Mean |gradient| across the borders of blocks over that inside them, along x."""
    step = (imputed(image, hidden, fill=fill, seed=3)).diff(dim=-1).abs()
    border = hidden.diff(dim=-1)
    return float(step[border].mean() / step[~border].mean())


def test_filling_with_the_mean_softens_the_edges_of_blocks_but_does_not_remove_them():
    """What stands behind "no discontinuity": a smooth scan half air, half tissue."""
    ramp = torch.tanh(torch.linspace(-4, 4, 64)).expand(1, 1, 32, 32, 64).clone()
    scan = (ramp - ramp.mean()) / ramp.std()
    grid = torch.from_numpy(blocks(MaskRules(block=(8, 8, 8)), window=(32, 32, 64), channels=1))
    hidden = hidden_voxels(grid, (8, 8, 8), (32, 32, 64))
    mean, minimum = edge_over_interior(scan, hidden, "mean"), edge_over_interior(scan, hidden, "minimum")
    assert 1.0 < mean < minimum


@pytest.fixture
def cases():
    rng = np.random.default_rng(0)
    body = np.zeros((12, 12, 12), np.uint8)
    body[2:10] = 1
    return [
        training_case(HarmonisedCase(f"case {n}", rng.normal(size=(2, 12, 12, 12)).astype(np.float32), body, body > 0))
        for n in range(2)
    ]


RULES = BatchRules((8, 8, 8), 3, 1.0, ("pet", "ct"), (4.0, 4.0, 4.0), NO_AUGMENTATION, seed=5)


def test_a_batch_depends_on_seed_step_and_rank_alone(cases):
    source = MaskedWindows(cases, RULES, MaskRules(block=(4, 4, 4)))
    device = torch.device("cpu")

    def batch(step, rank=0, of=source):
        return of.finished(of.cut(step, rank), device)

    one, again, other = batch(4), batch(4), batch(5)
    assert torch.equal(one.channels, again.channels) and torch.equal(one.hidden, again.hidden)
    assert not torch.equal(one.hidden, other.hidden) and not torch.equal(one.hidden, batch(4, rank=1).hidden)
    assert one.channels.shape == one.target.shape == (3, 2, 8, 8, 8) and one.body.shape == (3, 8, 8, 8)
    assert torch.equal(one.channels, one.target * ~one.hidden)
    assert not torch.equal(batch(4, of=source.plain(seed=9)).target, one.target)


ZOOMED = replace(NO_AUGMENTATION, scale_p=1.0, scale=(1.25, 1.25))


def test_a_zoom_alone_takes_a_larger_box_and_shrinks_it_about_its_centre():
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], (40, 40, 40))
    body = np.ones((40, 40, 40), np.uint8)
    case = training_case(HarmonisedCase("ramp", np.stack([ramp, -ramp]), body, body > 0))
    rules = replace(RULES, window=(16, 16, 16), augment=ZOOMED)
    found = cut_unlabelled(np.random.default_rng(0), [case], rules, body=True)
    steps = found.channels[0, 0, :, 8, 8].diff()
    torch.testing.assert_close(steps, torch.full((15,), 1.25))  # 20 voxels in 16
    assert torch.equal(found.channels[0, 1], -found.channels[0, 0]) and (found.labels == 1).all()
    plain = cut_unlabelled(np.random.default_rng(0), [case], replace(rules, augment=NO_AUGMENTATION), body=False)
    assert float(plain.channels[0, 0].mean()) == pytest.approx(float(found.channels[0, 0].mean()), abs=1e-3)
    assert (plain.labels == 0).all()  # nobody asked for the body


def test_only_a_zoom_is_taken_for_one():
    rng = np.random.default_rng(0)

    def drawn(**changes):
        return zoom_alone(draw_sample(rng, replace(NO_AUGMENTATION, **changes), ("pet", "ct"), (4.0, 4.0, 4.0)))

    assert drawn() == 1.0 and drawn(scale_p=1.0, scale=(1.1, 1.1)) == pytest.approx(1.1)
    assert drawn(rotation_p=1.0) is None and drawn(mirror_p=1.0) is None
    assert drawn(misalign_shift_p=1.0, misalign_shift=(5, 5, 5)) is None
    assert drawn(scale_p=1.0, misalign_rotation_p=1.0) is None


def test_other_geometry_goes_the_way_of_labelled_windows(cases):
    rules = replace(RULES, augment=AugmentRules(rotation_p=1.0, mirror_p=1.0))
    found = cut_unlabelled(np.random.default_rng(0), cases, rules, body=True)
    assert found.channels.shape == (1, 2, 8, 8, 8) and set(found.labels.unique().tolist()) <= {0, 1}


def test_a_pool_opens_a_case_when_it_is_asked_for_and_notices_that_it_changed(cases, tmp_path):
    body = np.asarray(cases[0].labels)
    for name in ("a", "b"):
        store(tmp_path, HarmonisedCase(name, np.asarray(cases[0].channels), body, body > 0), f"stamp {name}")
    pool = StoredCases([StoredName(tmp_path, name, f"stamp {name}") for name in ("a", "b")])
    assert len(pool) == 2 and pool[1].id == "b" and pool[1] is pool[1]
    assert [one.id for one in pool] == ["a", "b"] and pool[:1][0].id == "a"
    gone = StoredCases([StoredName(tmp_path, "a", "another stamp")])
    with pytest.raises(FileFormatError, match="is gone or was changed"):
        gone[0]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ratio": 1.0}, "ratio between 0 and 1"),
        ({"block": (0, 4, 4)}, "blocks of one voxel"),
        ({"sampler": "half"}, "sampler 'half' is unknown"),
        ({"coupling": "none"}, "coupling 'none' is unknown"),
        ({"fill": "token"}, "fill 'token' is unknown"),
    ],
)
def test_rules_that_make_no_mask_are_refused(values, says):
    with pytest.raises(UsageError, match=says):
        MaskRules(**values)
