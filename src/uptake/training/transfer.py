"""Weights of a pretrained network into another one: encoder and decoder, never a head."""

from __future__ import annotations

from collections.abc import Mapping
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
