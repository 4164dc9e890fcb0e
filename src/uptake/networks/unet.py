"""U-Nets as nnU-Net and LesionTracer build them, from dynamic-network-architectures.

The state dict has nnU-Net's names. Two kinds of alias double its entries: each convolution and norm is also listed
under ``all_modules``, and the decoder holds the encoder once more. `unique_state` leaves one name per tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from uptake.networks.stages import ENCODERS as ENCODERS

Triple = int | Sequence[int]


def unet(
    in_channels: int,
    out_channels: int,
    *,
    features: Sequence[int],
    blocks: Sequence[int],
    encoder: str = "residual",
    kernels: Sequence[Triple] | None = None,
    strides: Sequence[Triple] | None = None,
    decoder_convs: int | Sequence[int] = 1,
    conv_bias: bool = True,
    organ_channels: int = 0,
    deep_supervision: bool = True,
) -> nn.Module:
    """Return a U-Net for tensors (b, in_channels, z, y, x).

    Parameters
    ----------
    in_channels : int
        Channels fused by the first convolution; LesionTracer: 2 (CT, PET).
    out_channels : int
        Labels, background included.
    features, blocks : sequence of int
        Width of each stage and its number of residual blocks (or of convolutions, plain), finest first. ResEnc-L:
        (32, 64, 128, 256, 320, 320) and (1, 3, 4, 6, 6, 6), 102,350,634 parameters for 2 channels and 2 labels.
    encoder : str
        "residual" (nnU-Net's ResEnc presets) or "plain" (its default network).
    kernels, strides : sequence of triples, optional
        Per stage (z, y, x); by default 3³ kernels, stride 1 and then 2 everywhere.
    decoder_convs : int or sequence of int
        Convolutions per decoder level, coarsest first.
    conv_bias : bool
    organ_channels : int
        Labels, background included, of a second family of 1³ heads beside the lesion heads (LesionTracer: 11, which
        makes it 102,359,489 parameters); 0 for none.
    deep_supervision : bool
        If True the output is a list of logits, finest first, one per decoder level; if False the finest alone.

    Returns
    -------
    nn.Module
        With organ heads ``network(x)`` gives lesion logits as without them, ``network(x, organs=True)`` the pair
        (lesions, organs).

    Notes
    -----
    InstanceNorm (affine, eps 1e-5), LeakyReLU 0.01; Kaiming-normal initialisation; in residual encoders the last norm
    of each block starts at zero, so that a block starts as the identity.
    """
    from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet

    stages = len(features)
    if len(blocks) != stages:
        raise ValueError(f"features name {stages} stages, blocks {len(blocks)}")
    if encoder not in ENCODERS:
        raise ValueError(f"encoder {encoder!r} is unknown; choose one of {', '.join(ENCODERS)}")
    levels = [decoder_convs] * (stages - 1) if isinstance(decoder_convs, int) else list(decoder_convs)
    depth = {"n_blocks_per_stage": list(blocks)} if encoder == "residual" else {"n_conv_per_stage": list(blocks)}
    build = ResidualEncoderUNet if encoder == "residual" else PlainConvUNet
    network = build(
        in_channels,
        n_stages=stages,
        features_per_stage=list(features),
        conv_op=nn.Conv3d,
        kernel_sizes=[_sides(k) for k in kernels] if kernels is not None else [[3, 3, 3]] * stages,
        strides=[_sides(s) for s in strides] if strides is not None else [1, *[2] * (stages - 1)],
        **depth,
        num_classes=out_channels,
        n_conv_per_stage_decoder=levels,
        conv_bias=conv_bias,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )
    if organ_channels:
        _add_organ_heads(network, organ_channels)
    network.apply(network.initialize)
    return network


def _sides(value: Triple) -> int | list[int]:
    return value if isinstance(value, int) else list(value)


def _add_organ_heads(network: nn.Module, organ_channels: int) -> None:
    """Give the decoder a second family of heads, ``decoder.organ_seg_layers``, at every level (always built, as
    published, so that weights load with and without deep supervision)."""
    lesion_heads = network.decoder.seg_layers
    network.decoder.organ_seg_layers = nn.ModuleList(
        nn.Conv3d(head.in_channels, organ_channels, 1, bias=True) for head in lesion_heads
    )
    base = type(network)
    # A class of its own, so that wrappers (data-parallel training) see one forward pass for both families.
    network.__class__ = type(f"{base.__name__}WithOrgans", (base,), {"forward": _forward_with_organs})


def _forward_with_organs(self: nn.Module, channels: torch.Tensor, organs: bool = False) -> Any:
    """Return lesion logits, or with `organs` the pair (lesions, organs), each as deep supervision has it.

    Encoder and decoder run once: both families of heads read the same decoder features.
    """
    decoder = self.decoder
    skips = self.encoder(channels)
    if not organs:
        return decoder(skips)
    lowest = skips[-1]
    lesion_logits, organ_logits = [], []
    for level, stage in enumerate(decoder.stages):
        lowest = stage(torch.cat((decoder.transpconvs[level](lowest), skips[-(level + 2)]), dim=1))
        if decoder.deep_supervision or level == len(decoder.stages) - 1:
            lesion_logits.append(decoder.seg_layers[level](lowest))
            organ_logits.append(decoder.organ_seg_layers[level](lowest))
    if decoder.deep_supervision:
        return lesion_logits[::-1], organ_logits[::-1]
    return lesion_logits[0], organ_logits[0]


def unique_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters under one name each, detached, on the CPU, float32.

    Of several names for a tensor the one without ``.all_modules.`` and ``decoder.encoder.`` is kept.
    """
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in _uniquely_named(network).items()
    }


def _uniquely_named(network: nn.Module) -> dict[str, nn.Parameter]:
    return {
        name: tensor
        for name, tensor in network.named_parameters(remove_duplicate=False)
        if ".all_modules." not in name and not name.startswith("decoder.encoder.")
    }


def is_head(name: str) -> bool:
    """Return whether a tensor belongs to the last 1³ convolutions, of lesions or of organs."""
    return name.startswith(("decoder.seg_layers.", "decoder.organ_seg_layers."))


def mismatches(network: nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """Return, in plain words, every tensor that is missing, left over or of another shape; empty if all fit."""
    wanted = _uniquely_named(network)
    found = [f"{name} is missing" for name in wanted.keys() - state.keys()]
    found += [f"{name} is not part of the network" for name in state.keys() - wanted.keys()]
    found += [
        f"{name} has shape {tuple(state[name].shape)}, the network wants {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return sorted(found)


def load_unique_state(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors named as by `unique_state` into the network, in place.

    Raises
    ------
    ValueError
        If any tensor is missing, left over or of another shape; nothing is loaded then.
    """
    wrong = mismatches(network, state)
    if wrong:
        raise ValueError("; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""))
    own = dict(network.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def adopt_unique_state(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Make tensors named as by `unique_state` the network's own parameters, frozen: no copy, memory is shared.

    Raises
    ------
    ValueError
        As `load_unique_state`.
    """
    wrong = mismatches(network, state)
    if wrong:
        raise ValueError("; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""))
    for name, tensor in state.items():
        place, _, leaf = name.rpartition(".")
        # Aliases are other names for the same module, so that each of them sees the new parameter.
        setattr(network.get_submodule(place), leaf, nn.Parameter(tensor, requires_grad=False))


def finest_only(network: nn.Module) -> nn.Module:
    """Return the same network, weights shared, that gives the finest logits alone; the given one is not changed."""
    single = copy.copy(network)
    single._modules = dict(network._modules)
    single.decoder = copy.copy(network.decoder)
    single.decoder.deep_supervision = False
    return single


class BothHeads(nn.Module):
    """A network with organ heads, as one that gives a single tensor: lesion channels first, then organ channels.

    Weights are shared with the network given, which has to give the finest logits alone (`finest_only`).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        """Return logits (b, lesions + organs, z, y, x)."""
        return torch.cat(self.network(channels, organs=True), dim=1)
