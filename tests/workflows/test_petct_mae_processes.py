"""Masked pretraining from the command line: killed outright it goes on, and two processes learn what one does."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import os, signal, sys
from dataclasses import replace
from uptake.cli.main import run
from uptake.methods.petct_mae import Config
from uptake.sampling.masking import MaskedWindows
from uptake.workflows import pretrain_mae as module

death, devices, rest = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
real_fit, real_cut = module.fit, MaskedWindows.cut

def fit(*arguments, on_epoch, **options):
    def stop(report):
        on_epoch(report)
        if report.step == death:
            os.kill(os.getpid(), signal.SIGKILL)
    return real_fit(*arguments, on_epoch=stop, **options)

# No option sets it: two epochs, so that there is something to go on from.
real_small = Config.small
Config.small = classmethod(lambda cls: replace(real_small(), epoch_steps=4, min_slices=8))
# So that two processes draw between them what one process draws that accumulates two batches.
MaskedWindows.cut = lambda self, step, rank=0: real_cut(self, devices * step + rank)
module.fit = fit
sys.exit(run(["pretrain", "petct_mae", *rest, "--devices", str(devices)]))
"""
OPTIONS = ("--preset", "small", "--steps", "8", "--window", "8", "8", "8", "--spacing-mm", "8", "8", "8",
           "--features", "4,8", "--blocks", "1,1", "--mask-block", "4", "4", "4", "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def pretrain(make_study, tiny_arrays, tmp_path_factory):
    """Return a function (out, options) that pretrains on four studies in a process of its own."""
    folder = tmp_path_factory.mktemp("data") / "pool"
    rng = np.random.default_rng(3)
    for number in range(4):
        noisy = np.clip(tiny_arrays["pet"] + rng.normal(0, 0.1, tiny_arrays["pet"].shape), 0, None)
        make_study(folder / f"q{number}", roles=("pet", "ct"), pet=noisy.astype(np.float32))
    script = tmp_path_factory.mktemp("script") / "pretrain.py"
    script.write_text(SCRIPT)

    def call(out, *more, death=-1, devices=1):
        command = [sys.executable, str(script), str(death), str(devices), str(folder), "-o", str(out), *OPTIONS, *more]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    return call


@pytest.fixture(scope="module")
def unbroken(pretrain, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken")
    ran = pretrain(out)
    assert ran.returncode == 0, ran.stderr
    return out


def logged(out):
    with (out / "run" / "log.csv").open(encoding="utf-8", newline="") as stream:
        return [float(row["step"]) for row in csv.DictReader(stream)]


def test_a_killed_pretraining_goes_on_to_the_same_bytes(pretrain, unbroken, tmp_path):
    ran = pretrain(tmp_path, death=4)
    assert ran.returncode == -signal.SIGKILL
    assert not (tmp_path / "bundle").exists()
    again = pretrain(tmp_path)
    assert again.returncode == 0, again.stderr
    assert logged(tmp_path) == logged(unbroken) == [4, 8]
    one, two = ((out / "bundle" / "fold_0.safetensors").read_bytes() for out in (unbroken, tmp_path))
    assert one == two


def test_two_processes_end_with_the_bundle_of_one_that_accumulates_their_batches(pretrain, tmp_path):
    options = ("--precision", "32-true")
    for name, more, devices in (("one", (*options, "--accumulate", "2"), 1), ("two", options, 2)):
        ran = pretrain(tmp_path / name, *more, devices=devices)
        assert ran.returncode == 0, ran.stderr
    one, two = (load_file(tmp_path / name / "bundle" / "fold_0.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, rtol=1e-4, atol=1e-5)
    assert logged(tmp_path / "two") == [4, 8], "the first process alone keeps the log"
    assert len(json.loads((tmp_path / "two" / "manifest.json").read_text())["scans"]) == 4
