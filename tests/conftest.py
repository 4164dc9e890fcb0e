"""Fixtures that several rooms share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# A busy machine is no failure, and a run can be repeated.
settings.register_profile("uptake", deadline=None, derandomize=True)
settings.load_profile("uptake")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real development data beside the repository; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real development data (../shared/data) is not here")
    return folder


SHAPE = (24, 20, 28)
CHANNELS = {"ct": (-800.0, 400.0, 0.0, 200.0), "pet": (0.0, 20.0, 1.0, 1.0)}
"""Lower, upper, mean and standard deviation of the tiny model's normalisation."""


@dataclass(frozen=True)
class Outcome:
    """What a command returned and printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs the command line in this process: ``cli("segment", path, "-o", out)``."""
    from uptake.cli.main import run

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def fresh() -> Callable[..., Outcome]:
    """Return a function that runs Python code in a fresh interpreter: ``fresh("import uptake")``."""

    def call(code: str, *arguments: object, cwd: Path | None = None) -> Outcome:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=300)
        return Outcome(ran.returncode, ran.stdout, ran.stderr)

    return call


@pytest.fixture(scope="session")
def turned() -> np.ndarray:
    """(4, 4): 8 mm voxels turned by 15 degrees about z and 5 about x, first axis flipped, far from the origin."""
    z, x = np.deg2rad([15.0, 5.0])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag([-8.0, 8.0, 8.0])
    affine[:3, 3] = [90.0, -80.0, -900.0]
    return affine


@pytest.fixture(scope="session")
def tiny_arrays() -> dict[str, np.ndarray]:
    """(24, 20, 28) PET in SUV, CT in HU and mask of a cylinder with two hot balls."""
    i, j, k = np.indices(SHAPE)
    rng = np.random.default_rng(5)
    body = ((i - 11.5) / 11) ** 2 + ((j - 9.5) / 9) ** 2 < 1
    hot = (i - 8) ** 2 + (j - 9) ** 2 + (k - 10) ** 2 < 9
    hot |= (i - 15) ** 2 + (j - 10) ** 2 + (k - 20) ** 2 < 6
    pet = body * (1.0 + rng.normal(0, 0.05, SHAPE)) + 7.0 * hot
    ct = np.where(body, 40.0, -1000.0) + rng.normal(0, 10, SHAPE)
    return {"pet": pet.astype(np.float32), "ct": ct.astype(np.float32), "lesion": hot.astype(np.uint8)}


@pytest.fixture(scope="session")
def make_study(tiny_arrays: dict[str, np.ndarray], turned: np.ndarray) -> Callable[..., Path]:
    """Return a function that writes a study folder: ``make_study(folder, suffix=".mha", roles=("pet",))``."""
    from uptake.geometry import Volume
    from uptake.io.write import write_volume

    def write(
        folder: Path,
        *,
        suffix: str = ".nii.gz",
        roles: tuple[str, ...] = ("pet", "ct", "lesion"),
        affine: np.ndarray | None = None,
        **arrays: np.ndarray,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for role in roles:
            array = arrays.get(role, tiny_arrays[role])
            write_volume(Volume(array, turned if affine is None else affine), folder / f"{role}{suffix}")
        return folder

    return write


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """Return a function that writes a bundle of random weights, 16³ windows of 8 mm: ``make_bundle(folder)``."""
    from uptake.harmonise.normalise import ChannelRule
    from uptake.harmonise.plan import Plan
    from uptake.methods import lesiontracer
    from uptake.networks.unet import unique_state
    from uptake.zoo.bundle import save_bundle
    from uptake.zoo.cards import Card

    schemes = {"ct": "clip_zscore", "pet": "asinh"}

    def write(
        folder: Path, *, seed: int = 1, change: Callable[[dict], dict] = lambda state: state, **card: Any
    ) -> Path:
        config = replace(
            lesiontracer.Config.small(),
            spacing_mm=(8.0, 8.0, 8.0),
            window=(16, 16, 16),
            features=(4, 8),
            blocks=(1, 1),
            mirror_axes=(2,),
            seed=seed,
        )
        plan = Plan(tuple(ChannelRule(name, schemes[name], *values) for name, values in CHANNELS.items()), (8.0,) * 3)
        facts: dict[str, Any] = {
            "name": folder.name,
            "version": "1",
            "summary": "random weights for tests",
            "method": "lesiontracer",
            "config": config.as_json(),
            "plan": plan.as_json(),
            "labels": ["background", "lesion"],
            "needs": ["pet"],
            "accepts": ["pet", "ct"],
            "suv": "SUV by body weight, g/mL",
            "training": {"data": "none"},
            "scores": [],
            "limits": ["It has learnt nothing."],
            "licence": "Apache-2.0",
            "files": {},
            "stored_as": "float32",
            "package_version": "test",
        }
        network = lesiontracer.build_network(config)
        save_bundle(Card(**{**facts, **card}), {"0": change(unique_state(network))}, folder)
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights: what it finds means nothing, but is always the same."""
    return make_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put one small picture in the place of every drawing, for tests that are not about pictures."""
    from uptake.workflows import outputs

    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63680000000082008177cd72b6"
        "0000000049454e44ae426082"
    )
    monkeypatch.setattr(outputs, "mip_picture", lambda *_, **__: png)
    monkeypatch.setattr(outputs, "fusion_picture", lambda *_, **__: png)
