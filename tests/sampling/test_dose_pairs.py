from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.cases import HarmonisedCase, Scale
from uptake.sampling.augment import NO_AUGMENTATION, AugmentRules
from uptake.sampling.batches import BatchRules
from uptake.sampling.dose_pairs import PairBatches, PairRules, cut_pairs, draw_pair, finished_pairs, is_misaligned
from uptake.sampling.store import training_case

CPU = torch.device("cpu")
LOW_ONLY = replace(NO_AUGMENTATION, noise_p=1.0, blur_p=1.0, blur_channel_p=1.0, low_resolution_p=1.0)
SPATIAL = replace(NO_AUGMENTATION, rotation_p=1.0, scale_p=1.0, mirror_p=0.5)
MISALIGNED_ALWAYS = replace(NO_AUGMENTATION, misalign_rotation_p=1.0, misalign_shift_p=1.0)


def rules(augment, misalign="off", window=(12, 12, 12)):
    return PairRules(BatchRules(window, 2, 1.0, ("pet",), (2.0, 2.0, 2.0), augment, seed=3), misalign)


@pytest.fixture
def case():
    """A marker of 3³ voxels in low dose, full dose and labels alike, and nothing else."""
    image = np.zeros((24, 24, 24), np.float32)
    image[10:13, 12:15, 11:14] = 1.0
    labels = (image > 0).astype(np.uint8)
    scale = Scale(2.0, 4.0)  # SUV 0 is -0.5
    return training_case(
        HarmonisedCase("a", image[None], labels, np.ones(image.shape, bool), scales=(scale,), target=image.copy())
    )


def finished(case, given, step=0):
    return finished_pairs(cut_pairs([case], given, step=step), CPU)


def test_a_batch_has_the_shapes_that_the_step_wants(case):
    batch = finished(case, rules(SPATIAL))
    for tensor in (batch.channels, batch.labels, batch.target, batch.body):
        assert tensor.shape == (2, 1, 12, 12, 12)
    assert (batch.channels.dtype, batch.labels.dtype, batch.body.dtype) == (torch.float32, torch.uint8, torch.bool)


def test_a_marker_moves_alike_in_low_dose_full_dose_and_labels(case):
    for step in range(6):
        batch = finished(case, rules(SPATIAL), step)
        assert torch.equal(batch.channels, batch.target)
        for b in range(2):
            marker, organ = batch.channels[b, 0] > 0.5, batch.labels[b, 0] > 0
            assert torch.equal(marker, organ) or (marker ^ organ).sum() <= 0.3 * organ.sum()


def test_noise_blur_and_low_resolution_leave_the_full_dose_alone(case):
    plain, changed = finished(case, rules(NO_AUGMENTATION)), finished(case, rules(LOW_ONLY))
    assert torch.equal(changed.target, finished(case, rules(replace(LOW_ONLY, noise_p=0.0))).target)
    assert not torch.equal(changed.channels, plain.channels)
    assert torch.equal(plain.channels, plain.target)
    marked = cut_pairs([case], rules(LOW_ONLY), step=0)
    assert torch.equal(changed.target, marked.images[:, 1:])


def test_brightness_multiplies_suv_of_both(case):
    batch = finished(case, rules(replace(NO_AUGMENTATION, brightness_p=1.0)))
    plain = finished(case, rules(NO_AUGMENTATION))
    for b in range(2):
        before, after = plain.channels[b] + 0.5, batch.channels[b] + 0.5  # in units of SUV / 4
        factor = float(after.max() / before.max())
        assert 0.75 <= factor <= 1.25 and factor != 1.0
        assert torch.allclose(after, factor * before, atol=1e-6)
    assert torch.equal(batch.channels, batch.target)
    assert torch.equal(batch.body, plain.body)


@pytest.mark.parametrize(
    ("misalign", "moved"),
    [("label", {"labels"}), ("ld_fd", {"channels", "target"}), ("ld", {"channels"}), ("off", set())],
)
def test_misalignment_moves_what_it_names_and_nothing_else(case, misalign, moved):
    plain = finished(case, rules(NO_AUGMENTATION, window=(24, 24, 24)))
    batch = finished(case, rules(MISALIGNED_ALWAYS, misalign, window=(24, 24, 24)))
    changed = {
        name for name in ("channels", "target", "labels") if not torch.equal(getattr(batch, name), getattr(plain, name))
    }
    assert changed == moved


def test_moving_the_labels_or_both_images_differs_by_the_sign_alone(case):
    shifted = replace(NO_AUGMENTATION, misalign_shift_p=1.0, misalign_shift=(0, 2, 2))
    for step in range(4):
        cut = cut_pairs([case], rules(shifted, "label", (24, 24, 24)), step=step)
        other = cut_pairs([case], rules(shifted, "ld_fd", (24, 24, 24)), step=step)
        for b, draw in enumerate(cut.draws):
            z, y, x = draw.ct_shift.astype(int)
            assert z == 0 and max(abs(y), abs(x)) <= 2
            marker = np.argwhere(cut.labels[b, 0].numpy())
            still = np.argwhere(cut.images[b, 0].numpy() > 0.5)
            assert np.array_equal(marker - still, np.broadcast_to([z, y, x], marker.shape))
            turned = np.argwhere(other.images[b, 0].numpy() > 0.5)
            assert np.array_equal(turned - np.argwhere(other.labels[b, 0].numpy()), marker - still)


def test_misalignment_is_as_frequent_as_asked_for():
    given = rules(AugmentRules(), "label")
    rng = np.random.default_rng(0)
    share = np.mean([is_misaligned(draw_pair(rng, given)) for _ in range(4000)])
    assert share == pytest.approx(1 - (1 - 0.1) * (1 - 0.1 * 24 / 25), abs=0.02)


def test_a_step_gives_the_same_batch_whenever_it_is_asked_for(case):
    source = PairBatches([case], rules(AugmentRules(), "label"))
    for step in (0, 5):
        first, second = (source.finished(source.cut(step), CPU) for _ in range(2))
        assert torch.equal(first.channels, second.channels) and torch.equal(first.labels, second.labels)
    assert not torch.equal(source.cut(1).images, source.cut(2).images)


def test_cases_without_a_full_dose_give_no_target(case):
    alone = replace(case, target=None)
    batch = finished(alone, rules(SPATIAL))
    assert batch.target is None and batch.body is None and batch.channels.shape[1] == 1
