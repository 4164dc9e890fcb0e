"""Residual-encoder U-Net, as nnU-Net and LesionTracer build it, from dynamic-network-architectures.

The state dict has nnU-Net's names. Two kinds of alias double its entries: each convolution and norm is also listed
under ``all_modules``, and the decoder holds the encoder once more. `unique_state` leaves one name per tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import nn


def residual_encoder_unet(
    in_channels: int,
    out_channels: int,
    *,
    features: Sequence[int],
    blocks: Sequence[int],
    strides: Sequence[int | Sequence[int]] | None = None,
    decoder_convs: int = 1,
    deep_supervision: bool = True,
) -> nn.Module:
    """Return a ResEnc U-Net for tensors (b, in_channels, z, y, x).

    Parameters
    ----------
    in_channels : int
        Channels fused by the first convolution; LesionTracer: 2 (CT, PET).
    out_channels : int
        Labels, background included.
    features, blocks : sequence of int
        Width and number of residual blocks of each stage, finest first. ResEnc-L: (32, 64, 128, 256, 320, 320) and
        (1, 3, 4, 6, 6, 6), 102,350,634 parameters for 2 channels and 2 labels.
    strides : sequence, optional
        Down-sampling at the entrance of each stage; by default 1, then 2 everywhere.
    decoder_convs : int
        Convolutions per decoder level.
    deep_supervision : bool
        If True the output is a list of logits, finest first, one per decoder level; if False the finest alone.

    Notes
    -----
    Convolutions 3³ with bias, InstanceNorm (affine, eps 1e-5), LeakyReLU 0.01; Kaiming-normal initialisation with the
    last norm of each residual block at zero, so that a block starts as the identity.
    """
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    stages = len(features)
    if len(blocks) != stages:
        raise ValueError(f"features name {stages} stages, blocks {len(blocks)}")
    network = ResidualEncoderUNet(
        in_channels,
        n_stages=stages,
        features_per_stage=list(features),
        conv_op=nn.Conv3d,
        kernel_sizes=[[3, 3, 3]] * stages,
        strides=list(strides) if strides is not None else [1, *[2] * (stages - 1)],
        n_blocks_per_stage=list(blocks),
        num_classes=out_channels,
        n_conv_per_stage_decoder=[decoder_convs] * (stages - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=deep_supervision,
    )
    network.apply(network.initialize)
    return network


def unique_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters under one name each, detached, on the CPU, float32.

    Of several names for a tensor the one without ``.all_modules.`` and ``decoder.encoder.`` is kept.
    """
    named = network.named_parameters(remove_duplicate=False)
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in named
        if ".all_modules." not in name and not name.startswith("decoder.encoder.")
    }


def mismatches(network: nn.Module, state: Mapping[str, torch.Tensor]) -> list[str]:
    """Return, in plain words, every tensor that is missing, left over or of another shape; empty if all fit."""
    wanted = unique_state(network)
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


def finest_only(network: nn.Module) -> nn.Module:
    """Return the same network, weights shared, that gives the finest logits alone; the given one is not changed."""
    single = copy.copy(network)
    single._modules = dict(network._modules)
    single.decoder = copy.copy(network.decoder)
    single.decoder.deep_supervision = False
    return single
