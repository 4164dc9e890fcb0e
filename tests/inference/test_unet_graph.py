"""U-Nets written in OpenVINO's operations against the same networks in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uptake.core.errors import CheckpointError
from uptake.inference.compiled import Weights, compiled_once, forget, program_of, release
from uptake.inference.unet_graph import unet_graph
from uptake.networks.unet import BothHeads, finest_only, unet, unique_state

pytest.importorskip("openvino")

WINDOW = (16, 8, 12)
SHAPES = {
    "residual": {"features": (4, 8, 12), "blocks": (1, 2, 2)},
    "residual, organs": {"features": (4, 8), "blocks": (1, 3), "organ_channels": 3},
    "residual, equal widths": {"features": (4, 4, 4), "blocks": (1, 1, 2), "decoder_convs": (2, 1)},
    "plain": {"features": (4, 8, 12), "blocks": (2, 2, 1), "encoder": "plain", "decoder_convs": 2},
    "plain, thick slices": {
        "features": (4, 8, 8),
        "blocks": (2, 2, 2),
        "encoder": "plain",
        "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    },
    "residual, thick slices": {
        "features": (4, 8, 8),
        "blocks": (1, 2, 1),
        "kernels": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        "conv_bias": False,
    },
}


def network(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = unet(2, 3, **SHAPES[name]).eval()
        for parameter in made.parameters():  # norms that start at one and zero would hide a slip
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def arrays_of(made):
    return {name: tensor.numpy() for name, tensor in unique_state(made).items()}


@pytest.mark.parametrize(("name", "organs"), [*((name, False) for name in SHAPES), ("residual, organs", True)])
def test_the_graph_gives_the_networks_logits(name, organs):
    made = network(name)
    single = finest_only(made)
    image = np.random.default_rng(0).normal(size=(1, 2, *WINDOW)).astype(np.float32)
    with torch.inference_mode():
        expected = (BothHeads(single) if organs else single)(torch.from_numpy(image)).numpy()
    graph = unet_graph(arrays_of(made), 2, 3, window=WINDOW, organs=organs, **SHAPES[name])
    found = program_of(graph, "float32")(image)
    assert found.shape == expected.shape == (1, 6 if organs else 3, *WINDOW)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_program_of_weights_is_made_once_and_let_go():
    weights = Weights(arrays_of(network("residual")))
    built = []

    def build():
        built.append(1)
        return unet_graph(weights.arrays, 2, 3, window=WINDOW, **SHAPES["residual"])

    facts = {"channels": 2, "window": WINDOW, "smallest": WINDOW, "dtype": "float32"}
    first = compiled_once(weights, "a", build, **facts)
    image = np.ones((2, 2, *WINDOW), np.float32) * np.linspace(0, 1, WINDOW[2], dtype=np.float32)
    before = first(image)
    assert before.shape == (2, 3, *WINDOW) and np.array_equal(before[0], before[1])
    release(weights)
    assert compiled_once(weights, "a", build, **facts) is first and len(built) == 1
    np.testing.assert_array_equal(first(image), before)
    forget(weights)
    assert compiled_once(weights, "a", build, **facts) is not first and len(built) == 2


def test_an_array_and_a_tensor_give_the_same_to_the_bit():
    program = program_of(unet_graph(arrays_of(network("plain")), 2, 3, window=WINDOW, **SHAPES["plain"]), torch.float32)
    image = np.random.default_rng(1).normal(size=(1, 2, *WINDOW)).astype(np.float32)
    assert np.array_equal(program(image), program(torch.from_numpy(image)).numpy())
    # A flipped view is no contiguous array.
    assert np.array_equal(program(np.flip(image, 2)), program(np.flip(image, 2).copy()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("encoder.stem.convs.0.conv.weight"), "encoder.stem.convs.0.conv.weight is missing"),
        (lambda state: state.pop("decoder.seg_layers.0.bias"), "decoder.seg_layers.0.bias is missing"),
        (lambda state: state.update({"left.over": np.zeros(1)}), "left.over is not part of the network"),
        (
            lambda state: state.update({"decoder.seg_layers.1.bias": np.zeros(4, np.float32)}),
            r"decoder.seg_layers.1.bias has shape \(4,\), the network wants \(3,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(change, message):
    state = arrays_of(network("residual"))
    change(state)
    with pytest.raises(CheckpointError, match=message):
        unet_graph(state, 2, 3, window=WINDOW, **SHAPES["residual"])


def test_of_many_misfits_the_first_are_named():
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        unet_graph({}, 2, 3, window=WINDOW, **SHAPES["residual"])
