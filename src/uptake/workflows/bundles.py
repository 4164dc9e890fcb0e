"""A bundle, ready to use."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uptake.core.errors import CheckpointError, ModelError, UsageError
from uptake.harmonise.plan import Plan
from uptake.inference.compiled import Weights
from uptake.zoo.arrays import fold_files, read_arrays
from uptake.zoo.cards import CARD_FILE, Card, find_bundle, read_card

if TYPE_CHECKING:  # a compiled program is made and run without torch
    import torch
    from torch import nn

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
        from uptake.zoo.bundle import read_states

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
        from uptake.networks.unet import load_unique_state

        network = self._untrained(name)
        load_unique_state(network, self.states[name])
        return network.eval()

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds, in their order."""
        return tuple(fold_files(self.card))

    def networks(self, folds: Sequence[str] | None = None) -> list[nn.Module]:
        """Return the networks of the folds (all by default): the same objects at every call, frozen, for prediction.

        They share their memory with `states`, and what was compiled of them is kept with them
        (`inference.compiled.compiled_once`), so that a cohort pays once. Errors are those of `network`.
        """
        from uptake.networks.unet import adopt_unique_state

        for name in folds if folds is not None else self.folds:
            if name not in self._ready:
                network = self._untrained(name)
                adopt_unique_state(network, self.states[name])
                self._ready[name] = network.eval()
        return [self._ready[name] for name in (folds if folds is not None else self.folds)]

    @cached_property
    def _ready(self) -> dict[str, nn.Module]:
        return {}

    def goes_without_torch(self, engine: str) -> bool:
        """Return whether `runners` of this engine need no torch: the method writes its network as a graph."""
        return engine == "openvino" and hasattr(self.method, "graph")

    def runners(self, folds: Sequence[str] | None = None, *, engine: str = "torch") -> list[nn.Module | Weights]:
        """Return what the method's `predict` takes for the folds (all by default): the same objects at every call.

        Weights as arrays where the engine makes its program of them; else `networks`. Errors are those of `network`.
        """
        names = self.folds if folds is None else tuple(folds)
        if not self.goes_without_torch(engine):
            return list(self.networks(names))
        for name in names:
            if name not in self._weights:
                self._require_model(name)
                self._weights[name] = Weights(self._arrays(name))
        return [self._weights[name] for name in names]

    @cached_property
    def _weights(self) -> dict[str, Weights]:
        return {}

    def _arrays(self, fold: str) -> Any:
        if "states" in self.__dict__:  # read already; their memory is shared
            return {name: tensor.numpy() for name, tensor in self.states[fold].items()}
        return read_arrays(self.folder, self.card, fold)

    def check(self, engine: str = "torch") -> None:
        """Read the weights of all folds, and refuse those of the first that do not fit the card."""
        if not self.goes_without_torch(engine):
            _ = self.states
            self.networks(self.folds[:1])
            return
        if not self.card.files:
            raise CheckpointError(f"{self.folder}: the card names no weight files.")
        first, *_ = self.runners(engine=engine)
        try:
            self.method.graph(first, self.config)
        except CheckpointError as error:
            raise CheckpointError(f"{self.folder}: fold {self.folds[0]} does not fit its card: {error}.") from error

    def _require_model(self, fold: str) -> None:
        if self.card.role != "model":
            raise ModelError(
                f"{self.card.name}: holds an initialisation without heads, not a model; train from it "
                "(uptake train … --init)."
            )
        if fold not in self.folds:
            raise CheckpointError(f"{self.folder}: no fold {fold!r}; there are {', '.join(self.folds)}.")

    def _untrained(self, fold: str) -> nn.Module:
        """Return a network that the weights of this fold fit."""
        from uptake.networks.unet import mismatches

        self._require_model(fold)
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
    return bundle_for(name, "torch")


def bundle_for(name: str | Path, engine: str) -> Bundle:
    """Return `load_bundle` for an engine, "torch" or "openvino": the check loads no more than that needs."""
    folder = find_bundle(name)
    bundle = Bundle(folder, read_card(folder))
    _ = bundle.plan
    if bundle.card.role == "model":
        bundle.check(engine)
    return bundle
