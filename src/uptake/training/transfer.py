"""Weights of a pretrained network into another one: encoder and decoder, never a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from uptake.core.errors import CheckpointError
from uptake.networks.backbones import part
from uptake.networks.unet import unique_state


@dataclass(frozen=True)
class Transfer:
    """What of a pretrained network went into another one, by names of tensors.

    Attributes
    ----------
    loaded : tuple of str
    fresh : tuple of str
        Tensors of the new network that keep their drawn values: its head, always.
    unused : tuple of str
        Tensors of the pretrained network that were left out: its head, always.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def transfer(network: nn.Module, state: Mapping[str, torch.Tensor], kind: str) -> Transfer:
    """Copy encoder and decoder of a pretrained state into a network, in place; never a head.

    Parameters
    ----------
    network : nn.Module
    state : mapping
        Tensors as `networks.unet.unique_state` names them.
    kind : str
        Of the network's `Architecture`; it says which tensors are the head.

    Raises
    ------
    CheckpointError
        If any encoder or decoder tensor is missing, left over or of another shape; the names are listed, and nothing is
        copied.
    """
    own = unique_state(network)
    wanted = {name for name in own if part(kind, name) != "head"}
    given = {name for name in state if part(kind, name) != "head"}
    wrong = [f"{name} is missing" for name in sorted(wanted - given)]
    wrong += [f"{name} is not part of the network" for name in sorted(given - wanted)]
    wrong += [
        f"{name} is {tuple(state[name].shape)} and should be {tuple(own[name].shape)}"
        for name in sorted(wanted & given)
        if state[name].shape != own[name].shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointError(f"the pretrained weights do not fit the network: {'; '.join(wrong[:5])}{more}.")
    parameters = dict(network.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name in sorted(wanted):
            parameters[name].copy_(state[name])
    return Transfer(tuple(sorted(wanted)), tuple(sorted(own.keys() - wanted)), tuple(sorted(state.keys() - given)))


def transfer_to_prompted(
    network: nn.Module, state: Mapping[str, torch.Tensor], given: Sequence[str], wanted: Sequence[str]
) -> Transfer:
    """Copy what fits of a pretrained U-Net into one that also reads prompts, in place.

    The promptable U-Net (`networks.promptable_unet`) has four more inputs, after those of the image: their part of the
    first convolution keeps its drawn values. Stages of another width start fresh too; never a head is copied.

    Parameters
    ----------
    network : nn.Module
    state : mapping
        Of the pretrained U-Net; see `networks.unet.unique_state`.
    given, wanted : sequence of str
        Channels of the pretrained network and of this one, without prompts.

    Raises
    ------
    CheckpointError
        If the channels are others, or the first convolution does not fit: no layer would read what it learnt to.
    """
    state = in_channel_order(state, given, wanted)
    own, first = unique_state(network), _first_convolution(state)
    loaded = [
        name
        for name in sorted(own.keys() & state.keys())
        if name != first and own[name].shape == state[name].shape and ".seg_layers." not in name
    ]
    kernel = state[first]
    if first not in own or own[first].shape[0] != kernel.shape[0] or own[first].shape[2:] != kernel.shape[2:]:
        raise CheckpointError(
            f"the pretrained weights do not fit the network: its first convolution is "
            f"{tuple(own[first].shape) if first in own else 'another one'}, theirs {tuple(kernel.shape)}; choose the "
            "same kind of network and first width."
        )
    parameters = dict(network.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        parameters[first][:, : len(wanted)].copy_(kernel)
        for name in loaded:
            parameters[name].copy_(state[name])
    done = {first, *loaded}
    return Transfer(tuple(sorted(done)), tuple(sorted(own.keys() - done)), tuple(sorted(state.keys() - done)))


def in_channel_order(
    state: Mapping[str, torch.Tensor], given: Sequence[str], wanted: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return the state of a U-Net with the inputs of its first convolution in another order of channels.

    Parameters
    ----------
    state : mapping
        Tensors as `networks.unet.unique_state` names them, of a network for the channels `given`.
    given, wanted : sequence of str
        Names of channels: of the pretrained network, and of the one to be trained.

    Raises
    ------
    CheckpointError
        If the names are not the same ones.
    """
    if tuple(given) == tuple(wanted):
        return dict(state)
    if sorted(given) != sorted(wanted):
        raise CheckpointError(
            f"the pretrained network reads {', '.join(given)}, the one to be trained {', '.join(wanted)}; pretrain on "
            "the same channels (uptake pretrain ... --like MODEL)."
        )
    order = [tuple(given).index(name) for name in wanted]
    first = _first_convolution(state)
    return {name: tensor[:, order] if name == first else tensor for name, tensor in state.items()}


def _first_convolution(state: Mapping[str, torch.Tensor]) -> str:
    # Files keep tensors by name, so that the first one is not the first convolution: a stem comes before all stages.
    kernels = sorted(name for name, tensor in state.items() if name.startswith("encoder.") and tensor.ndim == 5)
    return next((name for name in kernels if name.startswith("encoder.stem.")), kernels[0])
