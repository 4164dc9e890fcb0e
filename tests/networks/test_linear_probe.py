from __future__ import annotations

import pytest
import torch

from uptake.core.errors import UsageError
from uptake.networks.backbones import Architecture, build
from uptake.networks.linear_probe import LinearProbe

DESIGN = Architecture("plain", (4, 8), (1, 1))


def probe(inputs, source="last"):
    networks = [build(DESIGN, len(one), 2) for one in inputs]
    return LinearProbe(networks, [DESIGN] * len(inputs), inputs, 3, source=source)


@pytest.mark.parametrize(
    ("inputs", "source", "width"),
    [(((0, 1),), "last", 4), (((0,), (1,)), "last", 8), (((0, 1),), "multiscale", 4), (((1,),), "last", 4)],
)
def test_only_the_head_learns_and_it_reads_all_features(inputs, source, width):
    found = probe(inputs, source).train()
    trained = {name: p for name, p in found.named_parameters() if p.requires_grad}
    assert set(trained) == {"head.weight", "head.bias"} and found.head.in_channels == width
    assert not any(one.training for one in found.networks.modules()) and found.head.training
    output = found(torch.randn(1, 2, 8, 8, 8))
    assert output.shape == (1, 3, 8, 8, 8)
    output.sum().backward()
    assert found.head.weight.grad is not None


def test_a_network_sees_its_own_channels_alone():
    found = probe(((1,),))
    channels = torch.randn(1, 2, 8, 8, 8)
    changed = channels.clone()
    changed[:, 0] += 5
    with torch.no_grad():
        assert torch.equal(found(channels), found(changed))


def test_probes_without_sense_are_refused():
    with pytest.raises(UsageError, match="source 'first' is unknown"):
        probe(((0, 1),), "first")
    with pytest.raises(UsageError, match="an architecture and input channels for each"):
        LinearProbe([build(DESIGN, 1, 1)], [DESIGN], [], 2)
