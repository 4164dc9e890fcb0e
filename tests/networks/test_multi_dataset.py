from __future__ import annotations

import pytest
import torch

from uptake.networks.multi_dataset import multi_dataset_unet
from uptake.networks.unet import is_head, load_unique_state, unet, unique_state
from uptake.zoo import nnunet

SIZE = {"features": (4, 8, 8), "blocks": (1, 1, 1)}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return multi_dataset_unet({"221": 2, "5": 1}, {"221": 2, "5_0": 4, "5_1": 3}, **SIZE)


def test_each_sample_goes_through_its_own_stem_and_heads(network):
    samples = [torch.randn(2, 16, 16, 16), torch.randn(1, 16, 16, 16)]
    found = network(samples, ["221", "5"], ["221", "5_1"])
    assert [[tuple(t.shape) for t in one] for one in found] == [
        [(1, 2, 16, 16, 16), (1, 2, 8, 8, 8)],
        [(1, 3, 16, 16, 16), (1, 3, 8, 8, 8)],
    ]


def test_a_sample_does_not_feel_its_neighbours(network):
    one, other = torch.randn(2, 16, 16, 16), torch.randn(1, 16, 16, 16)
    with torch.no_grad():
        alone = network([one], ["221"], ["221"])[0][0]
        together = network([other, one], ["5", "221"], ["5_0", "221"])[1][0]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_behind_one_stem_it_is_the_plain_network(network):
    single = unet(2, 2, **SIZE)
    state = unique_state(network)
    mine = nnunet.with_stem(state, "221")
    mine |= {
        name: state[name.replace("seg_layers.", "seg_layers.221.")] for name in unique_state(single) if is_head(name)
    }
    # Levels of ModuleLists are numbered coarsest first in both.
    load_unique_state(single, mine)
    sample = torch.randn(2, 16, 16, 16)
    with torch.no_grad():
        expected = single(sample[None])
        found = network([sample], ["221"], ["221"])[0]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_stems_are_named_as_in_the_published_checkpoint(network):
    assert nnunet.stems(unique_state(network)) == {"221": 2, "5": 1}


def test_idle_stems_and_heads_get_a_gradient_of_zero_not_none(network):
    outputs = network([torch.randn(2, 16, 16, 16)], ["221"], ["221"])
    sum(level.sum() for level in outputs[0]).backward()
    assert all(p.grad is not None for p in network.parameters())
    idle = [p.grad for name, p in network.named_parameters() if "stem.5." in name or "seg_layers.5_" in name]
    assert len(idle) == 12 and not any(g.any() for g in idle)
    assert network.encoder.stem["221"].convs[0].conv.weight.grad.any()


@pytest.mark.parametrize(("channels", "labels"), [({}, {"a": 2}), ({"a": 1}, {}), ({"a": 1}, {"a": 1})])
def test_a_network_without_stems_heads_or_classes_is_refused(channels, labels):
    with pytest.raises(ValueError, match="two classes or more per head"):
        multi_dataset_unet(channels, labels, **SIZE)
