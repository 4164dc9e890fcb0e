"""A bundle, ready to use."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uptake.core.errors import CheckpointError, ModelError, UsageError
from uptake.harmonise.plan import Plan
from uptake.networks.unet import adopt_unique_state, load_unique_state, mismatches
from uptake.zoo.bundle import read_states
from uptake.zoo.cards import CARD_FILE, Card, find_bundle, read_card

METHODS = ("lesiontracer", "ldos", "petct_mae", "seganypet")


def method_module(name: str) -> Any:
    """Return the module of a method.

    Raises
    ------
    CheckpointError
        If this version has no such method.
    """
    if name not in METHODS:
        raise CheckpointError(f"method {name!r} is unknown to this version of uptake (it has {', '.join(METHODS)}).")
    return importlib.import_module(f"uptake.methods.{name}")


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle.

    Attributes
    ----------
    folder : Path
    card : Card
    """

    folder: Path
    card: Card

    @property
    def method(self) -> Any:
        """The module of the method: Config, build_network, training_step, predict."""
        return method_module(self.card.method)

    @cached_property
    def config(self) -> Any:
        """The method's configuration."""
        return self._from_card("config", self.method.Config.from_json)

    @cached_property
    def plan(self) -> Plan:
        """How cases come onto the model's grid."""
        return self._from_card("plan", Plan.from_json)

    def _from_card(self, part: str, build: Callable[[Any], Any]) -> Any:
        try:
            return build(getattr(self.card, part))
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise CheckpointError(
                f"{self.folder / CARD_FILE}: its {part} cannot be used ({type(error).__name__}: {error}); it was "
                "altered, or written by another version of uptake. Fetch or copy the bundle again."
            ) from error

    @property
    def checksum(self) -> str:
        """SHA-256 over the names and checksums of the weight files, as the card has them."""
        text = "".join(f"{name}:{value};" for name, value in sorted(self.card.files.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def states(self) -> dict[str, dict[str, torch.Tensor]]:
        """Fold name -> tensors (float32), verified against the card's checksums."""
        return read_states(self.folder, self.card)

    def network(self, fold: str | None = None) -> nn.Module:
        """Return a plain `torch.nn.Module` with the weights of one fold (the first by default), in evaluation mode.

        It maps (b, c, z, y, x) float32 on the plan's grid, normalised by the plan, to a list of logits (deep
        supervision, finest first).

        Raises
        ------
        ModelError
            If the bundle is an initialisation, which has no heads.
        CheckpointError
            If the fold does not exist, or a tensor is missing, left over or of another shape.
        """
        name = fold if fold is not None else self.folds[0]
        network = self._untrained(name)
        load_unique_state(network, self.states[name])
        return network.eval()

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds, in their order."""
        return tuple(self.states)

    def networks(self, folds: Sequence[str] | None = None) -> list[nn.Module]:
        """Return the networks of the folds (all by default): the same objects at every call, frozen, for prediction.

        They share their memory with `states`, and what was compiled of them is kept with them
        (`inference.compiled.compiled_once`), so that a cohort pays once. Errors are those of `network`.
        """
        for name in folds if folds is not None else self.folds:
            if name not in self._ready:
                network = self._untrained(name)
                adopt_unique_state(network, self.states[name])
                self._ready[name] = network.eval()
        return [self._ready[name] for name in (folds if folds is not None else self.folds)]

    @cached_property
    def _ready(self) -> dict[str, nn.Module]:
        return {}

    def _untrained(self, fold: str) -> nn.Module:
        """Return a network that the weights of this fold fit."""
        if self.card.role != "model":
            raise ModelError(
                f"{self.card.name}: holds an initialisation without heads, not a model; train from it "
                "(uptake train … --init)."
            )
        if fold not in self.states:
            raise CheckpointError(f"{self.folder}: no fold {fold!r}; there are {', '.join(self.states)}.")
        network: nn.Module = self.method.build_network(self.config)
        wrong = mismatches(network, self.states[fold])
        if wrong:
            raise CheckpointError(f"{self.folder}: fold {fold} does not fit its card: {'; '.join(wrong[:3])}.")
        return network


def load_bundle(name: str | Path) -> Bundle:
    """Return the bundle given by name or path, checked.

    Weights are read through safetensors, never unpickled, and only after their SHA-256 agrees with the card.

    Parameters
    ----------
    name : str or Path
        A shipped model ("phantom-lesion-small") or a bundle folder.

    Raises
    ------
    ModelError
        If there is no such model.
    CheckpointError
        If the bundle is incomplete or altered.

    Examples
    --------
    >>> network = load_bundle("phantom-lesion-small").network()
    """
    folder = find_bundle(name)
    bundle = Bundle(folder, read_card(folder))
    _ = bundle.plan
    if bundle.card.role == "model":
        bundle.networks(bundle.folds[:1])
    return bundle
