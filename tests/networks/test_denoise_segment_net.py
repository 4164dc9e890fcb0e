from __future__ import annotations

import pytest
import torch

from uptake.networks.denoise_segment_net import DenoiseSegmentNet, Finest, SequentialNet, without_denoiser
from uptake.networks.unet import load_unique_state, mismatches, unet, unique_state

RESENC_L = {"features": (32, 64, 128, 256, 320, 320), "blocks": (1, 3, 4, 6, 6, 6)}


def tiny(seed=0, labels=4, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DenoiseSegmentNet(1, labels, features=(4, 8, 8), blocks=(1, 1, 2), **options)
        with torch.no_grad():  # norms at zero would hide what the blocks do
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def published():
    """The published network without memory behind its weights."""
    with torch.device("meta"):
        return DenoiseSegmentNet(1, 19, **RESENC_L)


@pytest.fixture
def image():
    return torch.randn(2, 1, 16, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("prefix", "count"),
    [("encoder.", 90_296_576), ("decoder.", 12_066_879), ("denoiser.", 12_052_389), ("", 114_415_844)],
)
def test_the_published_network_has_the_published_size(published, prefix, count):
    assert sum(p.numel() for name, p in published.named_parameters() if name.startswith(prefix)) == count


def test_without_the_denoiser_it_has_the_size_of_the_baseline(published):
    assert sum(t.numel() for t in without_denoiser(dict(published.named_parameters())).values()) == 102_363_455


def test_the_memory_that_nnunets_planner_would_count(published):
    with torch.device("meta"):
        baseline = DenoiseSegmentNet(1, 19, denoised=0, **RESENC_L)
    assert published.feature_map_elements((192, 192, 192)) == pytest.approx(2.62e9, rel=3e-3)
    assert baseline.feature_map_elements((192, 192, 192)) == pytest.approx(2.01e9, rel=3e-3)
    assert published.feature_map_elements((160, 160, 160)) == pytest.approx(1.52e9, rel=3e-3)


def test_every_scale_of_both_decoders_is_given_finest_first(image):
    logits, images = tiny()(image, denoise=True)
    assert [tuple(t.shape) for t in logits] == [(2, 4, 16, 8, 8), (2, 4, 8, 4, 4)]
    assert [tuple(t.shape) for t in images] == [(2, 1, 16, 8, 8), (2, 1, 8, 4, 4)]


def test_dropping_the_denoiser_leaves_the_logits_to_the_bit(image):
    joint = tiny(seed=3)
    with torch.no_grad():
        logits, _ = joint(image, denoise=True)
        state = without_denoiser(unique_state(joint))
        for alone in (tiny(seed=4, denoised=0), plain_unet()):
            load_unique_state(alone, state)
            assert all(torch.equal(a, b) for a, b in zip(logits, alone(image), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(logits, joint(image), strict=True))
        assert torch.equal(Finest(joint, labels=True, denoised=False)(image), logits[0])


def plain_unet():
    return unet(1, 4, features=(4, 8, 8), blocks=(1, 1, 2))


def test_the_state_round_trips_with_and_without_the_denoiser(image):
    joint, other = tiny(seed=1), tiny(seed=2)
    state = unique_state(joint)
    assert len(state) == len(list(joint.parameters()))
    load_unique_state(other, state)
    for a, b in zip(joint(image, denoise=True), other(image, denoise=True), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert mismatches(joint, without_denoiser(state))[0].startswith("denoiser.")
    back = tiny(seed=5, denoised=0)
    load_unique_state(back, without_denoiser(state))
    assert unique_state(back).keys() == without_denoiser(state).keys()


def test_gradients_reach_the_encoder_and_the_own_decoder_alone(image):
    for chosen, own, foreign in ((1, "denoiser.", "decoder."), (0, "decoder.", "denoiser.")):
        network = tiny()
        sum(output.square().mean() for output in network(image, denoise=True)[chosen]).backward()
        touched = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert any(name.startswith("encoder.") for name in touched)
        assert any(name.startswith(own) for name in touched)
        assert not any(name.startswith(foreign) for name in touched)


def test_recomputed_stages_give_the_same_outputs_and_gradients(image):
    gradients = []
    for stages in (0, 2):
        network = tiny(checkpointed=stages).train()
        logits, images = network(image, denoise=True)
        (sum(o.square().mean() for o in logits) + sum(o.abs().mean() for o in images)).backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_recomputed_stages_keep_fewer_activations(image):
    kept = []
    for stages in (0, 2):
        network, sizes = tiny(checkpointed=stages).train(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            network(image, denoise=True)
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


def test_a_sequence_segments_what_its_first_network_made(image):
    first, second = tiny(seed=1, labels=0), tiny(seed=2, denoised=0)
    both = SequentialNet(first, second)
    logits, images = both(image, denoise=True)
    assert torch.equal(images[0], first(image, denoise=True)[1][0])
    assert torch.equal(logits[0], second(images[0])[0])
    for labels, denoised, channels in ((True, False, 4), (False, True, 1), (True, True, 5)):
        assert Finest(both, labels=labels, denoised=denoised)(image).shape == (2, channels, 16, 8, 8)
    sum(level.square().mean() for level in logits).backward()
    assert all(p.grad is None for p in first.parameters())
    assert any(p.grad is not None for p in second.parameters())
    nothing, learnt = both(image, denoise=True, frozen=False)
    assert nothing is None and learnt[0].requires_grad


def test_what_a_network_does_not_have_cannot_be_asked_for(image):
    with pytest.raises(ValueError, match="no denoising decoder"):
        tiny(denoised=0)(image, denoise=True)
    with pytest.raises(ValueError, match="no segmentation decoder"):
        Finest(tiny(labels=0), labels=True, denoised=False)(image)
    with pytest.raises(ValueError, match="nothing to give"):
        tiny(labels=0, denoised=0)
    with pytest.raises(ValueError, match="ask for"):
        Finest(tiny(), labels=False, denoised=False)
    with pytest.raises(ValueError, match="encoder 'odd' is unknown"):
        tiny(encoder="odd")
    with pytest.raises(ValueError, match="features name 3 stages, blocks 2"):
        DenoiseSegmentNet(1, 2, features=(4, 8, 8), blocks=(1, 1))


def test_plain_encoders_carry_the_denoiser_too(image):
    logits, images = tiny(encoder="plain")(image, denoise=True)
    assert logits[0].shape[1] == 4 and images[1].shape == (2, 1, 8, 4, 4)


@pytest.mark.parametrize("output", ["window", "residual"])
def test_images_follow_a_change_of_brightness_and_level(image, output):
    network = tiny(output=output)
    _, images = network(image, denoise=True)
    _, changed = network(3.0 * image + 2.0, denoise=True)
    _, linear = tiny()(image, denoise=True)
    for a, b in zip(images, changed, strict=True):
        # The border sees zeros beyond the window; inside, what is convolved is what was normalised.
        assert torch.allclose(b.mean((2, 3, 4)), (3.0 * a + 2.0).mean((2, 3, 4)), rtol=0.05, atol=0.1)
    assert not torch.equal(images[0], linear[0])
    assert torch.equal(Finest(network, labels=False, denoised=True)(image), images[0])


def test_a_correction_of_nothing_is_the_image_itself(image):
    network = tiny(output="residual")
    with torch.no_grad():
        for head in network.denoiser.seg_layers:
            head.weight.zero_()
            head.bias.zero_()
    _, images = network(image, denoise=True)
    assert torch.equal(images[0], image)
    assert torch.allclose(images[1], torch.nn.functional.avg_pool3d(image, 2))
    with pytest.raises(ValueError, match="output 'log' is unknown"):
        tiny(output="log")
