from __future__ import annotations

import pytest
import torch

from uptake.core.errors import UsageError
from uptake.networks.backbones import (
    BACKBONES,
    Architecture,
    architecture,
    build,
    decoder_stages,
    head_of,
    listening,
    parameter_count,
    part,
)
from uptake.networks.unet import unique_state

SMALL = {
    "swin_v2": Architecture("swin_v2", (12,), (1, 1, 1, 1), (1, 2, 2, 2)),
    "plain": Architecture("plain", (4, 8, 8), (1, 1, 1)),
    "residual": Architecture("residual", (4, 8, 8), (1, 1, 1)),
    "segresnet": Architecture("segresnet", (8,), (1, 1, 1)),
}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("swin_small", 18_347_708),
        ("swin_base", 74_648_708),
        ("swin_large", 319_207_556),
        ("nnunet_3d", 31_196_458),
        ("resenc_l", 102_350_634),
    ],
)
def test_published_networks_have_the_published_number_of_parameters(name, count, monkeypatch):
    # Without memory behind the weights; MONAI reads its stochastic depth out of a tensor, which must be a real one.
    real = torch.linspace
    monkeypatch.setattr(torch, "linspace", lambda *a, **k: real(*a, **{**k, "device": "cpu"}))
    with torch.device("meta"):
        assert parameter_count(build(BACKBONES[name], 2, 2)) == count


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (2, 3)])
def test_any_number_of_channels_goes_in_and_out_at_full_resolution(kind, inputs, outputs):
    design = SMALL[kind]
    shape = (2 * design.divisor, design.divisor, design.divisor)
    assert build(design, inputs, outputs).eval()(torch.zeros(1, inputs, *shape)).shape == (1, outputs, *shape)


@pytest.mark.parametrize("kind", SMALL)
def test_every_tensor_is_of_encoder_decoder_or_head_and_the_head_is_one_convolution(kind):
    state = unique_state(build(SMALL[kind], 2, 3))
    parts = {name: part(kind, name) for name in state}
    assert set(parts.values()) == {"encoder", "decoder", "head"}
    full = [state[name] for name in parts if parts[name] == "head"]
    width = SMALL[kind].width
    assert {tuple(t.shape) for t in full if t.ndim == 5 and t.shape[1] == width} == {(3, width, 1, 1, 1)}
    changed = {
        name for name, tensor in unique_state(build(SMALL[kind], 2, 5)).items() if tensor.shape != state[name].shape
    }
    assert changed == {name for name in parts if parts[name] == "head"}


@pytest.mark.parametrize("kind", SMALL)
def test_the_head_applied_to_the_heard_features_is_the_output(kind):
    design = SMALL[kind]
    network = build(design, 2, 3).eval()
    window = (2 * design.divisor, design.divisor, design.divisor)
    channels = torch.randn(1, 2, *window, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with listening(network, kind) as heard:
            output = network(channels)
        assert heard[0].shape == (1, design.width, *window)
        torch.testing.assert_close(head_of(network, kind)(heard[0]), output)
        with listening(network, kind, multiscale=True) as stages:
            network(channels)
        assert len(stages) == len(decoder_stages(network, kind))
        sides = [stage.shape[-1] for stage in stages]
        assert sides == sorted(sides) and sides[-1] == design.divisor
        network(channels)
    assert len(heard) == 1 and len(stages) == len(sides)  # nobody listens any more


def test_without_skips_the_output_depends_on_the_bottleneck_alone():
    networks = []
    for skips in (True, False):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            networks.append(build(SMALL["plain"], 1, 1, skips=skips).eval())
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    full, light = networks
    assert unique_state(full).keys() == unique_state(light).keys()
    with torch.no_grad():
        skips = full.encoder(image)
        expected = full.decoder([torch.zeros_like(skips[0]), torch.zeros_like(skips[1]), skips[2]])
        torch.testing.assert_close(light(image), expected)
        assert not torch.allclose(full(image), expected)


def test_designs_that_cannot_be_built_are_refused_by_name():
    with pytest.raises(UsageError, match="unknown; choose one of swin_small"):
        architecture("unetr")
    with pytest.raises(UsageError, match="no kind of network"):
        Architecture("vit", (8,), (1, 1))
    with pytest.raises(UsageError, match="a width for each"):
        Architecture("plain", (8,), (1, 1))
    with pytest.raises(UsageError, match="has 4 stages"):
        Architecture("swin_v2", (12,), (1, 1, 1), (1, 1, 1))
    with pytest.raises(UsageError, match="multiple of 12"):
        architecture("swin_small", features=(20,))
    with pytest.raises(UsageError, match="only U-Nets"):
        build(SMALL["swin_v2"], 1, 1, skips=False)
    assert architecture("swin_small", features=(48,), heads=None).heads == (3, 6, 12, 24)
