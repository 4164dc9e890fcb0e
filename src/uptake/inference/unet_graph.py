"""The U-Nets of `networks.unet`, written down in OpenVINO's operations from their weights alone: torch is not loaded.

Half of the memory of a small network's run is torch, of which a compiled program needs nothing, and a graph written
down takes a tenth of a second less than one that is traced. A parity test holds both to the same logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import CheckpointError
from uptake.core.types import Shape3

EPSILON = 1e-5
"""Of the instance norm, as in `networks.unet`."""

SLOPE = 0.01
"""Of the leaky ReLU below zero."""

SPACE = (2, 3, 4)
"""Axes of (b, c, z, y, x) that a norm is taken over."""

Arrays = Mapping[str, npt.NDArray[np.float32]]


@dataclass
class _Writer:
    """Weights by name, each asked for once with the shape it must have, and what was wrong with them."""

    arrays: Arrays
    wrong: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        self.used.add(name)
        found = self.arrays.get(name)
        if found is None:
            self.wrong.append(f"{name} is missing")
        elif found.shape != shape:
            self.wrong.append(f"{name} has shape {found.shape}, the network wants {shape}")
        else:
            return found
        return np.zeros(shape, dtype=np.float32)


def unet_graph(
    arrays: Arrays,
    in_channels: int,
    out_channels: int,
    *,
    window: Shape3,
    features: Sequence[int],
    blocks: Sequence[int],
    encoder: str = "residual",
    kernels: Sequence[Sequence[int]] | None = None,
    strides: Sequence[Sequence[int]] | None = None,
    decoder_convs: int | Sequence[int] = 1,
    conv_bias: bool = True,
    organ_channels: int = 0,
    organs: bool = False,
) -> Any:
    """Return the network as an OpenVINO model, (1, in_channels, *window) -> (1, labels, *window), float32.

    Parameters
    ----------
    arrays : mapping of str to array float32
        The network's state by `networks.unet`'s unique names. The model keeps them in memory.
    in_channels, out_channels, features, blocks, encoder, kernels, strides, decoder_convs, conv_bias, organ_channels
        As for `networks.unet.unet`.
    window : tuple of int
        (z, y, x).
    organs : bool
        Give the organ logits too, after the lesions'.

    Raises
    ------
    CheckpointError
        If a weight is missing, left over or of another shape.
    """
    import openvino as ov
    import openvino.opset13 as ops

    stages = len(features)
    sides = [tuple(kernel) for kernel in kernels] if kernels is not None else [(3, 3, 3)] * stages
    steps = [tuple(stride) for stride in strides] if strides is not None else [(1, 1, 1)] + [(2, 2, 2)] * (stages - 1)
    levels = [decoder_convs] * (stages - 1) if isinstance(decoder_convs, int) else list(decoder_convs)
    weights = _Writer(arrays)

    def constant(values: npt.NDArray[np.float32]) -> Any:
        return ops.constant(values, shared_memory=True)

    def per_channel(name: str, count: int) -> Any:
        return constant(weights.take(name, (count,)).reshape(1, count, 1, 1, 1))

    def convolution(x: Any, name: str, sizes: tuple[int, int], kernel: Sequence[int], stride: Sequence[int]) -> Any:
        """Same padding; `sizes` are the channels in and out."""
        pads = [(side - 1) // 2 for side in kernel]
        filters = constant(weights.take(f"{name}.weight", (sizes[1], sizes[0], *kernel)))
        return ops.convolution(x, filters, list(stride), pads, pads, [1, 1, 1])

    def biased(x: Any, name: str, count: int) -> Any:
        return ops.add(x, per_channel(f"{name}.bias", count))

    def leaky(x: Any) -> Any:
        return ops.prelu(x, ops.constant(np.array([SLOPE], dtype=np.float32)))

    def normed(
        x: Any, name: str, sizes: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], bias: bool
    ) -> Any:
        """Convolution and instance norm."""
        x = convolution(x, f"{name}.conv", sizes, kernel, stride)
        if bias:
            x = biased(x, f"{name}.conv", sizes[1])
        x = ops.mvn(x, ops.constant(np.array(SPACE)), True, EPSILON, "inside_sqrt")
        x = ops.multiply(x, per_channel(f"{name}.norm.weight", sizes[1]))
        return ops.add(x, per_channel(f"{name}.norm.bias", sizes[1]))

    def stacked(
        x: Any, name: str, sizes: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], count: int
    ) -> Any:
        """Return `count` convolutions, each with norm and leaky ReLU; the first goes by the stride."""
        for index in range(count):
            start, step = (sizes[0], stride) if index == 0 else (sizes[1], (1, 1, 1))
            x = leaky(normed(x, f"{name}.convs.{index}", (start, sizes[1]), kernel, step, conv_bias))
        return x

    def residual(
        x: Any, name: str, sizes: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], count: int
    ) -> Any:
        """Return `count` blocks of two convolutions around a skip: pooled by the stride, then projected (ResNet-D)."""
        for index in range(count):
            start, step = (sizes[0], stride) if index == 0 else (sizes[1], (1, 1, 1))
            block, skip, place = f"{name}.blocks.{index}", x, 0
            if any(s != 1 for s in step):
                skip = ops.avg_pool(x, list(step), [0] * 3, [0] * 3, list(step), True)
                place = 1
            if start != sizes[1]:
                skip = normed(skip, f"{block}.skip.{place}", (start, sizes[1]), (1, 1, 1), (1, 1, 1), False)
            x = leaky(normed(x, f"{block}.conv1", (start, sizes[1]), kernel, step, conv_bias))
            x = normed(x, f"{block}.conv2", (sizes[1], sizes[1]), kernel, (1, 1, 1), conv_bias)
            x = leaky(ops.add(x, skip))
        return x

    source = ops.parameter([1, in_channels, *window], ov.Type.f32, name="image")
    x: Any = source
    count = in_channels
    if encoder == "residual":
        x = stacked(x, "encoder.stem", (in_channels, features[0]), sides[0], (1, 1, 1), 1)
        count = features[0]
    skips = []
    for stage in range(stages):
        build, name = (
            (residual, f"encoder.stages.{stage}") if encoder == "residual" else (stacked, f"encoder.stages.{stage}.0")
        )
        x = build(x, name, (count, features[stage]), sides[stage], steps[stage], blocks[stage])
        count = features[stage]
        skips.append(x)
    for level in range(stages - 1):
        stage = stages - 2 - level
        name, size, stride = f"decoder.transpconvs.{level}", features[stage], steps[stage + 1]
        filters = constant(weights.take(f"{name}.weight", (features[stage + 1], size, *stride)))
        x = ops.convolution_backprop_data(x, filters, list(stride), None, [0] * 3, [0] * 3, [1, 1, 1])
        if conv_bias:
            x = biased(x, name, size)
        x = ops.concat([x, skips[stage]], 1)
        x = stacked(x, f"decoder.stages.{level}", (2 * size, size), sides[stage], (1, 1, 1), levels[level])
        # Coarser heads are for training alone, but a state without them is not this network's.
        for family, labels in (("seg_layers", out_channels), ("organ_seg_layers", organ_channels)):
            if labels and stage:
                weights.take(f"decoder.{family}.{level}.weight", (labels, size, 1, 1, 1))
                weights.take(f"decoder.{family}.{level}.bias", (labels,))
    heads = []
    for family, labels, wanted in (("seg_layers", out_channels, True), ("organ_seg_layers", organ_channels, organs)):
        if labels:
            name = f"decoder.{family}.{stages - 2}"
            head = biased(convolution(x, name, (features[0], labels), (1, 1, 1), (1, 1, 1)), name, labels)
            if wanted:
                heads.append(head)
    result = heads[0] if len(heads) == 1 else ops.concat(heads, 1)
    wrong = weights.wrong + [f"{name} is not part of the network" for name in sorted(arrays.keys() - weights.used)]
    if wrong:
        raise CheckpointError("; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""))
    result.get_output_tensor(0).set_names({"logits"})
    return ov.Model([result], [source], "U-Net")
