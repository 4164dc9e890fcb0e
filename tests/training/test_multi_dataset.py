from __future__ import annotations

import pytest
import torch

from uptake.networks.multi_dataset import multi_dataset_unet
from uptake.sampling.datasets import MixedBatch
from uptake.training.losses import deeply_supervised
from uptake.training.multi_dataset import multi_dataset_step


@pytest.fixture
def network():
    torch.manual_seed(0)
    return multi_dataset_unet({"a": 1, "b": 2}, {"a": 2, "b": 3}, features=(4, 8), blocks=(1, 1))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    channels = (torch.randn((1, 8, 8, 8), generator=generator), torch.randn((2, 8, 8, 8), generator=generator))
    labels = torch.stack([(torch.rand((8, 8, 8), generator=generator) * k).to(torch.uint8) for k in (2, 3)])
    return MixedBatch(channels, labels, ("a", "b"), ("a", "b"))


def test_the_loss_is_the_sum_over_samples_of_the_loss_of_each(network, batch):
    with torch.no_grad():
        found = multi_dataset_step(network, batch)
        outputs = network(batch.channels, batch.stems, batch.heads)
        each = [float(deeply_supervised(one, batch.labels[n : n + 1])) for n, one in enumerate(outputs)]
    assert float(found["loss"]) == pytest.approx(sum(each), rel=1e-6)
    assert float(found["loss_per_sample"]) == pytest.approx(sum(each) / 2, rel=1e-6)
    assert float(found["skipped"]) == 0.0


def test_a_sample_whose_loss_is_no_number_is_left_out(network, batch, monkeypatch):
    import uptake.training.multi_dataset as module

    def broken(outputs, labels, *, smooth):
        found = deeply_supervised(outputs, labels, smooth=smooth)
        return found * float("nan") if outputs[0].shape[1] == 3 else found

    with torch.no_grad():
        alone = float(deeply_supervised(network(batch.channels, batch.stems, batch.heads)[0], batch.labels[:1]))
    monkeypatch.setattr(module, "deeply_supervised", broken)
    found = multi_dataset_step(network, batch)
    assert found["loss"].item() == pytest.approx(alone, rel=1e-6) and found["skipped"].item() == 0.5
    monkeypatch.setattr(module, "deeply_supervised", lambda *_, **__: torch.tensor(float("nan")))
    none = multi_dataset_step(network, batch)
    none["loss"].backward()
    assert none["loss"].item() == 0.0 and not any(p.grad.any() for p in network.parameters())
