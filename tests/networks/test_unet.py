from __future__ import annotations

import pytest
import torch
from torch import nn

from uptake.networks.unet import (
    finest_only,
    is_head,
    load_unique_state,
    mismatches,
    unet,
    unique_state,
)


def tiny(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return unet(2, 3, features=(4, 8, 8), blocks=(1, 1, 2), **options)


@pytest.fixture(scope="module")
def published():
    """ResEnc-L without memory behind its weights."""
    with torch.device("meta"):
        return unet(2, 2, features=(32, 64, 128, 256, 320, 320), blocks=(1, 3, 4, 6, 6, 6))


def test_the_published_network_has_the_published_size(published):
    assert sum(parameter.numel() for parameter in published.parameters()) == 102_350_634
    assert len(published.state_dict()) == 956
    assert sum(1 for _ in published.parameters()) == 264


@pytest.mark.parametrize(
    ("prefix", "count"),
    [
        ("encoder.stem.", 1_824),
        ("encoder.stages.0.", 55_488),
        ("encoder.stages.1.", 611_584),
        ("encoder.stages.2.", 3_329_280),
        ("encoder.stages.3.", 20_391_424),
        ("encoder.stages.4.", 32_718_720),
        ("encoder.stages.5.", 33_189_120),
        ("decoder.transpconvs.0.", 819_520),
        ("decoder.stages.0.", 5_530_560),
        ("decoder.transpconvs.4.", 16_416),
        ("decoder.stages.4.", 55_392),
        ("decoder.seg_layers.", 1_610),
    ],
)
def test_every_part_has_the_published_size(published, prefix, count):
    named = published.named_parameters(remove_duplicate=False)
    kept = {n: p for n, p in named if ".all_modules." not in n and not n.startswith("decoder.encoder.")}
    assert sum(p.numel() for n, p in kept.items() if n.startswith(prefix)) == count


def test_unique_names_are_nnunets_one_for_each_tensor():
    network = tiny()
    state = unique_state(network)
    assert len(state) == sum(1 for _ in network.parameters())
    assert {"encoder.stem.convs.0.conv.weight", "encoder.stages.1.blocks.0.skip.1.conv.weight",
            "decoder.transpconvs.0.bias", "decoder.seg_layers.1.weight"} <= state.keys()  # fmt: skip
    assert sum(t.numel() for t in state.values()) == sum(p.numel() for p in network.parameters())
    assert all(t.dtype == torch.float32 and not t.requires_grad and t.is_contiguous() for t in state.values())


def test_aliases_hold_the_very_tensors_that_are_kept():
    network = tiny()
    load_unique_state(network, {name: torch.randn_like(t) for name, t in unique_state(network).items()})
    everything, kept = network.state_dict(), unique_state(network)
    assert len(everything) > 3 * len(kept)
    for name, tensor in everything.items():
        plain = name.removeprefix("decoder.").replace("all_modules.0", "conv").replace("all_modules.1", "norm")
        key = plain if name.startswith("decoder.encoder.") else name.replace("all_modules.0", "conv").replace(
            "all_modules.1", "norm"
        )  # fmt: skip
        assert torch.equal(tensor, kept[key]), name


def test_weights_move_to_another_network_and_give_the_same_output():
    one, other = tiny(1).eval(), tiny(2).eval()
    image = torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.equal(one(image)[0], other(image)[0])
        load_unique_state(other, unique_state(one))
        assert torch.equal(one(image)[0], other(image)[0])


def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded():
    network = tiny()
    before = unique_state(network)
    state = {name: tensor + 1 for name, tensor in before.items()}
    state["decoder.seg_layers.0.bias"] = torch.zeros(7)
    del state["encoder.stem.convs.0.conv.bias"]
    state["head.weight"] = torch.zeros(1)
    assert mismatches(network, before) == []
    assert mismatches(network, state) == [
        "decoder.seg_layers.0.bias has shape (7,), the network wants (3,)",
        "encoder.stem.convs.0.conv.bias is missing",
        "head.weight is not part of the network",
    ]
    with pytest.raises(ValueError, match=r"has shape .* is missing; head\.weight is not part of the network$"):
        load_unique_state(network, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in unique_state(network).items())


def test_a_long_list_of_mismatches_is_cut_short():
    network = tiny()
    count = len(unique_state(network))
    with pytest.raises(ValueError, match=f"and {count - 5} more$"):
        load_unique_state(network, {})


def test_deep_supervision_gives_a_list_finest_first():
    with torch.no_grad():
        outputs = tiny().eval()(torch.randn(2, 2, 8, 16, 12))
    assert [tuple(o.shape) for o in outputs] == [(2, 3, 8, 16, 12), (2, 3, 4, 8, 6)]


def test_finest_only_shares_the_weights_and_leaves_the_network_as_it_was():
    network = tiny().eval()
    image = torch.randn(2, 2, 8, 16, 12)
    single = finest_only(network)
    with torch.no_grad():
        assert torch.equal(single(image), network(image)[0])
        assert len(network(image)) == 2
        network.decoder.seg_layers[-1].bias += 1.0
        assert torch.equal(single(image), network(image)[0])


def test_strides_may_spare_an_axis():
    network = tiny(strides=[1, (1, 2, 2), 2]).eval()
    with torch.no_grad():
        assert [tuple(o.shape[2:]) for o in network(torch.zeros(1, 2, 4, 8, 8))] == [(4, 8, 8), (4, 4, 4)]


def test_residual_blocks_start_as_the_identity():
    for name, tensor in unique_state(tiny()).items():
        if ".blocks." in name and ".conv2.norm." in name:
            assert not tensor.any(), name
        if name.endswith("conv.bias"):
            assert not tensor.any(), name


def test_norm_and_activation_are_nnunets():
    network = tiny()
    norms = [m for m in network.modules() if isinstance(m, nn.InstanceNorm3d)]
    slopes = {m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)}
    assert norms and all(m.affine and m.eps == 1e-5 and not m.track_running_stats for m in norms)
    assert slopes == {0.01}


def test_stages_must_agree():
    with pytest.raises(ValueError, match="features name 2 stages, blocks 3"):
        unet(2, 2, features=(4, 8), blocks=(1, 1, 1))


def test_organ_heads_leave_the_lesion_logits_as_they_are():
    torch.manual_seed(0)
    network = unet(2, 3, features=(4, 8, 8), blocks=(1, 1, 2), organ_channels=5).eval()
    x = torch.randn(1, 2, 16, 8, 8)
    with torch.inference_mode():
        lesions, organs = network(x, organs=True)
        assert all(torch.equal(a, b) for a, b in zip(lesions, network(x), strict=True))
        finest, organ = finest_only(network)(x, organs=True)
    assert torch.equal(finest, lesions[0])
    assert torch.equal(organ, organs[0])
    assert [tuple(level.shape[1:]) for level in organs] == [(5, 16, 8, 8), (5, 8, 4, 4)]


def test_organ_heads_learn_from_their_own_loss():
    network = unet(2, 2, features=(4, 8), blocks=(1, 1), organ_channels=4)
    _, organs = network(torch.randn(1, 2, 8, 8, 8), organs=True)
    organs[0].sum().backward()
    assert network.decoder.organ_seg_layers[-1].weight.grad.abs().sum() > 0
    assert network.decoder.seg_layers[-1].weight.grad is None
    assert network.encoder.stem.convs[0].conv.weight.grad.abs().sum() > 0


def test_a_plain_encoder_has_convolutions_only():
    plain = unet(1, 2, features=(4, 8), blocks=(2, 2), encoder="plain", deep_supervision=False)
    assert "encoder.stages.1.0.convs.1.conv.weight" in unique_state(plain)
    assert plain(torch.randn(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)
    with pytest.raises(ValueError, match="'swin' is unknown"):
        unet(1, 2, features=(4, 8), blocks=(2, 2), encoder="swin")


def test_heads_are_told_from_the_rest():
    names = unique_state(unet(2, 2, features=(4, 8), blocks=(1, 1), organ_channels=3))
    assert sum(is_head(name) for name in names) == 4
