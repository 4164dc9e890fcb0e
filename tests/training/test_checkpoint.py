from __future__ import annotations

import pickle
import zipfile

import pytest
import torch

from uptake.core.errors import CheckpointError
from uptake.training import checkpoint as checkpoints
from uptake.training.checkpoint import Checkpoint


class Trap:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def state():
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    history = [{"epoch": 1.0, "pseudo_dice": float("nan")}]
    return Checkpoint(7, {"weight": parameter.detach()}, optimizer.state_dict(), history, 0.25, "stamp")


def test_a_checkpoint_comes_back_as_it_went(tmp_path, state):
    checkpoints.save(state, tmp_path / "last.ckpt")
    found = checkpoints.load(tmp_path / "last.ckpt")
    assert (found.step, found.best_ema, found.stamp) == (7, 0.25, "stamp")
    assert torch.equal(found.network["weight"], state.network["weight"])
    assert found.history[0]["epoch"] == 1.0 and found.history[0]["pseudo_dice"] != found.history[0]["pseudo_dice"]
    assert found.optimizer["param_groups"] == state.optimizer["param_groups"]
    for name, value in state.optimizer["state"][0].items():
        assert torch.equal(found.optimizer["state"][0][name], value)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_run_that_dies_while_writing_keeps_the_previous_checkpoint(tmp_path, state, monkeypatch):
    path = tmp_path / "last.ckpt"
    checkpoints.save(state, path)
    before = path.read_bytes()

    def half(_, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(state, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_pickled_object_is_refused_and_never_built(tmp_path, state):
    path, trapped = tmp_path / "last.ckpt", tmp_path / "trapped"
    torch.save(vars(state) | {"history": [Trap(trapped)]}, path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: this is no checkpoint that uptake wrote \(UnpicklingError"):
        checkpoints.load(path)
    assert not trapped.exists()


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "pickle", "zip", "other keys", "directory"])
def test_what_is_no_checkpoint_is_refused_with_its_path(tmp_path, state, kind):
    path = tmp_path / "last.ckpt"
    checkpoints.save(state, path)
    content = path.read_bytes()
    if kind == "directory":
        path.unlink()
        path.mkdir()
    elif kind == "zip":
        path.unlink()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", "b")
    elif kind == "other keys":
        torch.save({"network_weights": {}}, path)
    else:
        path.write_bytes(
            {"empty": b"", "text": b"no weights", "cut": content[:-200], "pickle": pickle.dumps({"step": 1})}[kind]
        )
    with pytest.raises(CheckpointError, match=r"last\.ckpt: this is no checkpoint .* Delete it to start anew"):
        checkpoints.load(path)
