"""Every network that can be pretrained, fine-tuned or trained from scratch, by name and at any size.

SwinUNETR-v2 and SegResNet are MONAI's, the U-Nets those of `networks.unet`. All of them fuse their input channels in
the first layer and give one map per output channel at full resolution; `part` says of every tensor whether it belongs
to the encoder, the decoder or the head, which is all that transfer of weights needs to know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from torch import nn

from uptake.core.errors import UsageError
from uptake.networks.unet import unet

Kind = Literal["swin_v2", "plain", "residual", "segresnet"]
KINDS: tuple[str, ...] = get_args(Kind)
Part = Literal["encoder", "decoder", "head"]

STOCHASTIC_DEPTH = 0.05
"""Largest share of residual branches left out in training, rising linearly over the blocks of a Swin transformer."""

SWIN_STAGES = 4
"""MONAI's SwinUNETR has four stages after a patch embedding of 2: sides divide by 32."""


@dataclass(frozen=True)
class Architecture:
    """A network, but for its input and output channels.

    Attributes
    ----------
    kind : str
        "swin_v2", "plain" or "residual" (U-Nets), "segresnet".
    features : tuple of int
        U-Nets: width of each stage, finest first. swin_v2 and segresnet: one number, the width of the first stage.
    blocks : tuple of int
        Per stage: transformer blocks, convolutions, or residual blocks.
    heads : tuple of int
        Attention heads per stage of swin_v2; () for the others.
    decoder_blocks : int
        Convolutions (U-Nets) or residual blocks (segresnet) per decoder level.
    """

    kind: str
    features: tuple[int, ...]
    blocks: tuple[int, ...]
    heads: tuple[int, ...] = ()
    decoder_blocks: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"{self.kind!r} is no kind of network; known are {', '.join(KINDS)}.")
        wanted = len(self.blocks) if self.kind in ("plain", "residual") else 1
        if len(self.features) != wanted or len(self.blocks) < 2:
            raise UsageError(
                f"{self.kind}: features {self.features} and blocks {self.blocks} do not fit; a U-Net has a width for "
                "each of two or more stages, swin_v2 and segresnet one width."
            )
        if self.kind == "swin_v2":
            if len(self.blocks) != SWIN_STAGES or len(self.heads) != SWIN_STAGES:
                raise UsageError(f"swin_v2 has {SWIN_STAGES} stages; came blocks {self.blocks}, heads {self.heads}.")
            if self.features[0] % 12 or any(self.features[0] * 2**n % h for n, h in enumerate(self.heads)):
                raise UsageError(f"swin_v2 is as wide as a multiple of 12 and of its heads, came {self.features[0]}.")

    @property
    def divisor(self) -> int:
        """By what every side of a window must divide."""
        return 2 ** (SWIN_STAGES + 1) if self.kind == "swin_v2" else 2 ** (len(self.blocks) - 1)

    @property
    def width(self) -> int:
        """Channels of the last decoder feature, which the head reads."""
        return self.features[0]


BACKBONES: Mapping[str, Architecture] = {
    "swin_small": Architecture("swin_v2", (24,), (2, 2, 2, 2), (3, 6, 12, 24)),
    "swin_base": Architecture("swin_v2", (48,), (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_large": Architecture("swin_v2", (96,), (2, 2, 18, 2), (3, 6, 12, 24)),
    "nnunet_3d": Architecture("plain", (32, 64, 128, 256, 320, 320), (2, 2, 2, 2, 2, 2), decoder_blocks=2),
    "resenc_l": Architecture("residual", (32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6)),
    "resenc_small": Architecture("residual", (16, 32, 64, 128), (1, 2, 2, 2)),
    "segresnet": Architecture("segresnet", (32,), (1, 2, 2, 4)),
}
"""By name. swin_small, swin_base, swin_large and nnunet_3d as published (18,347,708, 74,648,708, 319,207,556 and
31,196,458 parameters with two channels in and out); resenc_l and resenc_small are those of LesionTracer's presets."""


def architecture(name: str, **changes: Any) -> Architecture:
    """Return a backbone by name, with fields of `Architecture` changed.

    Raises
    ------
    UsageError
        If the name is unknown.
    """
    if name not in BACKBONES:
        raise UsageError(f"backbone {name!r} is unknown; choose one of {', '.join(BACKBONES)}.")
    return replace(BACKBONES[name], **{key: value for key, value in changes.items() if value is not None})


def build(
    design: Architecture,
    in_channels: int,
    out_channels: int,
    *,
    skips: bool = True,
    checkpointing: bool = False,
) -> nn.Module:
    """Return the network, with freshly drawn weights from torch's generator, for tensors (b, in_channels, z, y, x).

    Parameters
    ----------
    design : Architecture
    in_channels, out_channels : int
    skips : bool
        False: the decoder of a U-Net gets zeros in the place of every skip connection, as AMAES pretrains; the weights
        have the same names and shapes.
    checkpointing : bool
        Recompute Swin blocks in the backward pass instead of keeping them: less memory, same numbers.

    Returns
    -------
    nn.Module
        (b, in_channels, z, y, x) -> (b, out_channels, z, y, x), linear; sides divide by ``design.divisor``.

    Raises
    ------
    UsageError
        If `skips` is False for anything but a U-Net.
    """
    if not skips and design.kind not in ("plain", "residual"):
        raise UsageError(f"{design.kind}: only U-Nets can be built without skip connections.")
    if design.kind == "swin_v2":
        from monai.networks.nets.swin_unetr import SwinUNETR

        return SwinUNETR(
            in_channels=in_channels,
            out_channels=out_channels,
            feature_size=design.features[0],
            depths=design.blocks,
            num_heads=design.heads,
            dropout_path_rate=STOCHASTIC_DEPTH,
            downsample="mergingv2",
            use_v2=True,
            use_checkpoint=checkpointing,
        )
    if design.kind == "segresnet":
        from monai.networks.nets.segresnet import SegResNet

        return SegResNet(
            spatial_dims=3,
            init_filters=design.features[0],
            in_channels=in_channels,
            out_channels=out_channels,
            blocks_down=design.blocks,
            blocks_up=(design.decoder_blocks,) * (len(design.blocks) - 1),
        )
    network = unet(
        in_channels,
        out_channels,
        features=design.features,
        blocks=design.blocks,
        encoder=design.kind,
        decoder_convs=design.decoder_blocks,
        deep_supervision=False,
    )
    for head in cast(nn.ModuleList, network.get_submodule("decoder.seg_layers"))[
        :-1
    ]:  # of coarser levels; nobody reads them here
        head.requires_grad_(False)
    if not skips:
        network.get_submodule("decoder").register_forward_pre_hook(_without_skips)
    return network


def _without_skips(_decoder: nn.Module, arguments: tuple[Sequence[torch.Tensor]]) -> tuple[list[torch.Tensor]]:
    *skips, lowest = arguments[0]
    return ([*(torch.zeros_like(skip) for skip in skips), lowest],)


_HEADS = {
    "swin_v2": ("out.",),
    "plain": ("decoder.seg_layers.",),
    "residual": ("decoder.seg_layers.",),
    "segresnet": ("conv_final.2.",),
}
_DECODERS = {
    "swin_v2": ("decoder",),
    "plain": ("decoder.",),
    "residual": ("decoder.",),
    "segresnet": ("up_layers.", "up_samples.", "conv_final."),
}


def part(kind: str, name: str) -> Part:
    """Return whether a tensor belongs to the encoder, the decoder or the head.

    Parameters
    ----------
    kind : str
        Of the architecture.
    name : str
        As `networks.unet.unique_state` names it. The residual blocks that SwinUNETR puts on its skip connections
        (encoder1 ... encoder10) count as encoder.
    """
    if name.startswith(_HEADS[kind]):
        return "head"
    return "decoder" if name.startswith(_DECODERS[kind]) else "encoder"


def head_of(network: nn.Module, kind: str) -> nn.Module:
    """Return the 1³ convolution that makes the output maps."""
    if kind == "swin_v2":
        return network.get_submodule("out.conv.conv")
    if kind == "segresnet":
        return network.get_submodule("conv_final.2")
    return cast(nn.ModuleList, network.get_submodule("decoder.seg_layers"))[-1]


def decoder_stages(network: nn.Module, kind: str) -> list[nn.Module]:
    """Return the modules whose outputs are the decoder's features, coarsest first, full resolution last."""
    if kind == "swin_v2":
        return [network.get_submodule(f"decoder{level}") for level in (5, 4, 3, 2, 1)]
    if kind == "segresnet":
        return list(cast(nn.ModuleList, network.get_submodule("up_layers")))
    return list(cast(nn.ModuleList, network.get_submodule("decoder.stages")))


@contextmanager
def listening(network: nn.Module, kind: str, *, multiscale: bool = False) -> Iterator[list[torch.Tensor]]:
    """Yield a list that each forward pass of `network` fills with decoder features.

    By default the one tensor (b, ``design.width``, z, y, x) that the head reads; with `multiscale` the output of every
    decoder stage, coarsest first.
    """
    heard: list[torch.Tensor] = []
    if multiscale:
        hooks = [
            stage.register_forward_hook(lambda _m, _i, output: heard.append(output))
            for stage in decoder_stages(network, kind)
        ]
    else:
        hooks = [head_of(network, kind).register_forward_pre_hook(lambda _m, inputs: heard.append(inputs[0]))]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def parameter_count(network: nn.Module) -> int:
    """Return the number of parameters, each tensor counted once."""
    return sum(math.prod(parameter.shape) for parameter in network.parameters())
