"""Two processes on the CPU (gloo) learn what one process learns from both of their batches."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from uptake.core.errors import UsageError
from uptake.training.devices import make_fabric

SCRIPT = """
import sys
from pathlib import Path

import numpy as np
import torch

from uptake.cases import HarmonisedCase
from uptake.networks.unet import unet, unique_state
from uptake.sampling.augment import AugmentRules
from uptake.sampling.batches import BatchRules, WindowBatches
from uptake.sampling.store import training_case
from uptake.training.devices import is_first_process, make_fabric, one_by_one
from uptake.training.losses import deeply_supervised
from uptake.training.loop import fit
from uptake.training.protocol import FitSettings

devices, accumulate, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
fabric = make_fabric("cpu", "32-true", devices=devices)
with one_by_one(fabric):
    (folder / "order.txt").open("a").write(f"{fabric.global_rank}\\n")

cases = []
for seed in range(3):
    labels = np.zeros((12, 10, 11), np.uint8)
    labels[3 + seed : 7 + seed, 2:6, 4:8] = 1
    noise = np.random.default_rng(seed).normal(0, 0.3, (2, *labels.shape)).astype(np.float32)
    cases.append(training_case(HarmonisedCase(f"case {seed}", noise + 2.0 * labels, labels, labels >= 0)))


class Shared(WindowBatches):
    def cut(self, step, rank=0):
        found = super().cut(devices * step + rank)
        (folder / f"rank_{rank}.txt").open("a").write(f"{float(found.channels.sum()):.4f}\\n")
        return found


torch.manual_seed(0)
network = unet(2, 2, features=(4, 8), blocks=(1, 1))
fit(
    network,
    torch.optim.SGD(network.parameters(), 1e-2, momentum=0.9),
    batches=Shared(cases, BatchRules((8, 8, 8), 2, 0.5, ("ct", "pet"), (1.0, 1.0, 1.0), AugmentRules(), seed=5)),
    training_step=lambda model, batch, step: deeply_supervised(model(batch.channels), batch.labels[:, 0]),
    learning_rate=lambda step: 1e-2,
    settings=FitSettings(6, epoch_steps=3, validation_batches=0, accumulate=accumulate),
    folder=folder,
    stamp="stamp",
    fabric=fabric,
    on_epoch=lambda report: print("epoch", report.step),
)
if is_first_process():
    torch.save(unique_state(network), folder / "weights.pt")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return folder and output of the script with one process that accumulates two batches, and with two processes."""
    script = tmp_path_factory.mktemp("script") / "ddp.py"
    script.write_text(SCRIPT)
    found = {}
    for devices, accumulate in ((1, 2), (2, 1)):
        folder = tmp_path_factory.mktemp(f"run{devices}")
        command = [sys.executable, str(script), str(devices), str(accumulate), str(folder)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert ran.returncode == 0, ran.stderr
        found[devices] = (folder, ran.stdout)
    return found


def test_two_processes_end_with_the_weights_of_one_with_both_batches(trained):
    one, two = (torch.load(trained[n][0] / "weights.pt", weights_only=True) for n in (1, 2))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)
    start = torch.zeros_like(one["decoder.seg_layers.0.bias"])
    assert not torch.equal(one["decoder.seg_layers.0.bias"], start), "it has learnt"


def test_each_process_draws_samples_of_its_own(trained):
    sums = [(trained[2][0] / f"rank_{rank}.txt").read_text().split() for rank in (0, 1)]
    assert len(sums[0]) == len(sums[1]) == 6
    assert not set(sums[0]) & set(sums[1])
    alone = (trained[1][0] / "rank_0.txt").read_text().split()
    assert alone[0::2] == sums[0] and alone[1::2] == sums[1]


def test_only_the_first_process_speaks_and_it_goes_first(trained):
    assert trained[2][1].split("\n")[:2] == ["epoch 3", "epoch 6"]
    assert (trained[2][0] / "order.txt").read_text().split() == ["0", "1"]


@pytest.mark.parametrize(
    ("device", "devices", "words"),
    [
        ("cpu", 0, "devices is 1 or more, came 0"),
        ("mps", 2, "2 devices need the plain name cuda or cpu"),
        ("cuda", 2, "2 devices were asked for; this machine shows 1 of CUDA"),
    ],
)
def test_devices_that_cannot_be_are_refused(monkeypatch, device, devices, words):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(UsageError, match=words):
        make_fabric(device, "32-true", devices=devices)
