"""Two processes that prompt (gloo, CPU) learn what one learns from both of their batches: they synchronise."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from uptake.methods import seganypet
from uptake.networks.unet import unique_state
from uptake.sampling.prompt_cases import PromptBatches, PromptCase, targets_of
from uptake.training.devices import is_first_process, make_fabric
from uptake.training.loop import fit
from uptake.training.protocol import FitSettings

torch.set_num_threads(1)
devices, accumulate, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
fabric = make_fabric("cpu", "32-true", devices=devices)
config = replace(
    seganypet.Config.best(), window=(12, 12, 12), patch=4, dim=24, depth=2, heads=2, attention_window=5,
    global_blocks=(1,), prompt_dim=48, prompt_hidden=16, refine=2, batch_size=2, trusted_share=0.5, jitter=2,
    lesion_share=None, steps=3,
)
cases = []
for seed in range(4):
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[3:8, 2:7, 4 + seed : 8 + seed] = 1
    noise = np.random.default_rng(seed).normal(0, 0.3, (2, *labels.shape)).astype(np.float32)
    cases.append(PromptCase(f"case {seed}", noise + labels, targets_of(labels), trusted=seed % 2 == 0))


class Shared(PromptBatches):
    def cut(self, step, rank=0):
        return super().cut(devices * step + rank)


network = seganypet.build_network(config)
fit(
    network,
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 1e-2),
    batches=Shared(cases, config.batch_rules()),
    training_step=lambda model, batch, step: seganypet.training_step(model, batch, 2, config),
    learning_rate=lambda step: 1e-2,
    settings=FitSettings(3, epoch_steps=3, validation_batches=0, accumulate=accumulate, headline="click_dice_auc"),
    folder=folder,
    stamp="stamp",
    fabric=fabric,
)
if is_first_process():
    torch.save(unique_state(network), folder / "weights.pt")
"""


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one_with_both_batches(tmp_path) -> None:
    script = tmp_path / "ddp.py"
    script.write_text(SCRIPT)
    weights = {}
    for devices, accumulate in ((1, 2), (2, 1)):
        folder = tmp_path / f"run{devices}"
        folder.mkdir()
        command = [sys.executable, str(script), str(devices), str(accumulate), str(folder)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert ran.returncode == 0, ran.stderr
        weights[devices] = torch.load(folder / "weights.pt", weights_only=True)
    one, two = weights[1], weights[2]
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5)
    assert one["refine.out.bias"].abs().max() > 0, "it starts at zero; it has learnt"
