"""LDOS: organs and a clean image from ultra-low-dose PET without CT (MICCAI 2025, arXiv 2503.03786).

A low-dose PET is read as a full-dose PET of which most counts were masked. One residual encoder feeds two decoders: one
finds 18 organs, one restores the full dose, and while both learn, the denoising loss fades. For organs alone the second
decoder is dropped: the result is the plain network, at its cost.

The authors published no code; where the paper is silent or ambiguous the choice stands at the field, alternatives by
name. The paper's comparators are configurations of the same code: `Config.comparator`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.anatomy import classes_of
from uptake.core.choices import require_known
from uptake.core.errors import ModelError, UsageError
from uptake.core.plain import as_tuples
from uptake.core.types import Shape3, Vector3
from uptake.harmonise.normalise import unscaled
from uptake.inference.ensemble import WindowRules
from uptake.inference.joint import image_of, joint_windows
from uptake.networks.denoise_segment_net import OUTPUTS, DenoiseSegmentNet, SequentialNet
from uptake.networks.stages import divisors, fitted_window, require_stages, require_window
from uptake.networks.unet import ENCODERS
from uptake.sampling.augment import AugmentRules
from uptake.sampling.batches import BatchRules
from uptake.sampling.dose_pairs import MISALIGNED, PairBatch, PairRules
from uptake.training.joint_losses import (
    ATTENUATIONS,
    CROSS_ENTROPIES,
    DICES,
    attenuation,
    denoising_loss,
    organ_loss,
)
from uptake.training.optimisers import OPTIMISERS, optimiser
from uptake.training.protocol import FitSettings
from uptake.training.schedules import poly, warmup_cosine

NAME = "ldos"

DESIGNS = ("joint", "segment", "denoise", "sequential")
"""Both decoders; the segmentation decoder alone (the baseline); the denoising decoder alone; a denoiser and then a
segmenter on what it made, one trained after the other (Fake-FDPET)."""

NORMALISATIONS = ("zscore", "fixed", "asinh")

COMPARATORS = ("ldos", "ldpet", "fdpet", "fake-fdpet", "ldos-ow", "nnunet")
"""Of the paper; EM-Net, a Mamba network, needs compiled kernels and is left out."""

AUGMENT = AugmentRules(low_resolution_p=0.25, contrast_p=0.0, inverted_gamma_p=0.0, gamma_p=0.0)
"""nnU-Net's, but neither contrast nor gamma: they would bend the low dose and leave the full dose straight. The same in
every comparator, so that what is compared is the method."""


@dataclass(frozen=True)
class Config:
    """Everything that can be chosen; the defaults are the published values, or nnU-Net's where the paper is silent.

    Attributes
    ----------
    preset : str
        Where these values started from.
    design : str
        One of `DESIGNS`.
    dose : str
        "low" or "full": which image of a pair is the input (FDPET: the full dose).
    channels : tuple of str
        The PET alone; no CT.
    normalisation : tuple of str
        "zscore": by mean and deviation of the low-dose image, for both images of a pair. "fixed": SUV clipped to
        [0, 20] over 20. "asinh". Not stated in the paper.
    separate_scales : bool
        Normalise each image of a pair by its own numbers, as a plain port of nnU-Net would: the denoiser then learns a
        scale that nobody knows at test time.
    orientation : str
    spacing_mm : triple or None
        (z, y, x) of the model grid; None: the median of the training cases.
    window : triple
        (z, y, x) voxels; shortened to the median case where that is smaller.
    labels : tuple of str
        Background and the 18 organs, numbered as in the paper's table 1.
    encoder, features, blocks, kernels, strides, decoder_convs, conv_bias
        As in `networks.unet.unet`.
    checkpointed : int
        Finest stages whose activations are computed again for the backward pass; 2 lets 192³ at batch 2 fit 24 GB.
    batch_size, steps, epoch_steps, validation_batches : int
        The sequential design spends `steps` twice, on its denoiser and then on its segmenter.
    foreground_share : float
        Share of a batch centred on an organ, every organ alike.
    optimiser : str
        "sgd" (momentum 0.99, Nesterov) or "adamw" (betas 0.9, 0.99).
    learning_rate, weight_decay, clip_norm : float
    schedule : str
        "poly" (power 0.9, by epoch) or "cosine" (50 steps of warm-up).
    phi : str
        How the denoising loss fades: see `training.joint_losses.attenuation`.
    organ_weight : float
        λ of equation 9.
    cross_entropy, dice : str
        See `training.joint_losses.organ_loss`.
    dice_smooth : float
    body_only : bool
        Count the denoising loss inside the body alone; published: over the whole window, most of which is air.
    misalign : str
        What misalignment moves; see `sampling.dose_pairs.MISALIGNED`.
    output : str
        How the denoising decoder's numbers become an image; see `networks.denoise_segment_net.OUTPUTS`.
    augment : AugmentRules
    tile_step : float
    mirror_axes : tuple of int
    focus : bool
        Lay inference windows over the body alone.
    seed : int
    """

    preset: str = "published"
    design: str = "joint"
    dose: str = "low"
    channels: tuple[str, ...] = ("pet",)
    normalisation: tuple[str, ...] = ("zscore",)
    separate_scales: bool = False
    orientation: str = "LAS"
    spacing_mm: Vector3 | None = None
    window: Shape3 = (192, 192, 192)
    labels: tuple[str, ...] = classes_of("ldos")
    encoder: str = "residual"
    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    kernels: tuple[Shape3, ...] | None = None
    strides: tuple[Shape3, ...] | None = None
    decoder_convs: int | tuple[int, ...] = 1
    conv_bias: bool = True
    checkpointed: int = 2
    batch_size: int = 2
    steps: int = 125_000
    epoch_steps: int = 250
    validation_batches: int = 50
    foreground_share: float = 0.33
    optimiser: str = "sgd"
    learning_rate: float = 1e-2
    weight_decay: float = 3e-5
    clip_norm: float = 12.0
    schedule: str = "poly"
    phi: str = "absolute"
    organ_weight: float = 1.0
    cross_entropy: str = "categorical"
    dice: str = "per_class"
    dice_smooth: float = 1e-5
    body_only: bool = False
    misalign: str = "label"
    output: str = "linear"
    augment: AugmentRules = field(default_factory=lambda: AUGMENT)
    tile_step: float = 0.5
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    focus: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("design", DESIGNS),
            ("dose", ("low", "full")),
            ("encoder", ENCODERS),
            ("optimiser", OPTIMISERS),
            ("schedule", ("poly", "cosine")),
            ("phi", ATTENUATIONS),
            ("cross_entropy", CROSS_ENTROPIES),
            ("dice", DICES),
            ("misalign", MISALIGNED),
            ("output", OUTPUTS),
        ):
            require_known(name, getattr(self, name), allowed)
        if len(self.normalisation) != 1 or self.normalisation[0] not in ("zscore", "fixed", "asinh"):
            raise UsageError(
                f"normalisation is one of zscore, fixed, asinh, for the one channel; came {self.normalisation}."
            )
        if self.dose == "full" and self.design != "segment":
            raise UsageError("a full-dose input has nothing to be denoised to; choose the design 'segment'.")
        require_stages(self.features, self.blocks, kernels=self.kernels, strides=self.strides)
        if len(self.labels) < 2:
            raise UsageError(f"labels are the background and one organ at least, came {self.labels}.")
        require_window(self.window, self.divisors, halvings=len(self.features) - 1)
        if min(self.batch_size, self.steps, self.epoch_steps) < 1:
            raise UsageError("batch_size, steps and epoch_steps must be 1 or more.")
        if not 0.0 < self.tile_step <= 1.0:
            raise UsageError(f"tile_step is a share of the window in (0, 1], came {self.tile_step}.")

    @property
    def divisors(self) -> Shape3:
        """By what the window must divide along (z, y, x): the product of the strides."""
        return divisors(self.features, self.strides)

    @property
    def finds_organs(self) -> bool:
        """Whether the network finds organs."""
        return self.design != "denoise"

    @property
    def denoises(self) -> bool:
        """Whether the network makes an image."""
        return self.design != "segment"

    @property
    def epochs(self) -> int:
        """Of one training; the sequential design has two."""
        return math.ceil(self.steps / self.epoch_steps)

    @classmethod
    def published(cls) -> Config:
        """Return the paper's settings: ResEnc-L, 192³, batch 2, 500 epochs of 250 steps, from scratch."""
        return cls()

    @classmethod
    def small(cls) -> Config:
        """Return the method for CPU cores: 8 mm voxels, 64 x 32 x 48 windows, 1,500 steps of 2 windows.

        Departures: AdamW with a cosine schedule, since SGD with momentum 0.99 has hardly found its pace by then; φ by
        share of the training ("relative"), since 15 epochs of exp(-0.002 e) would not fade at all; the denoised image
        as the input plus a correction ("residual"), since a linear output cannot know absolute uptake; rotations rigid
        in mm; inference windows over the body alone, and one flip.
        """
        return cls(
            preset="small",
            spacing_mm=(8.0, 8.0, 8.0),
            window=(64, 32, 48),
            features=(16, 32, 64, 96),
            blocks=(1, 2, 2, 2),
            checkpointed=0,
            steps=1500,
            epoch_steps=100,
            validation_batches=4,
            optimiser="adamw",
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="cosine",
            phi="relative",
            output="residual",
            augment=replace(AUGMENT, in_mm=True, misalign_shift=(0, 1, 1)),
            mirror_axes=(2,),
            focus=True,
        )

    def comparator(self, name: str) -> Config:
        """Return these settings for one of the paper's comparators.

        Parameters
        ----------
        name : str
            "ldos"; "ldpet": the segmentation decoder alone; "fdpet": the same trained and tested on the full dose;
            "fake-fdpet": denoiser, then segmenter; "ldos-ow": the denoising loss never fades; "nnunet": "ldpet" with
            nnU-Net's plain encoder, two convolutions a stage.

        Raises
        ------
        UsageError
            If there is no such comparator.
        """
        stages = len(self.features)
        changes: dict[str, dict[str, Any]] = {
            "ldos": {},
            "ldpet": {"design": "segment"},
            "fdpet": {"design": "segment", "dose": "full"},
            "fake-fdpet": {"design": "sequential"},
            "ldos-ow": {"phi": "off"},
            "nnunet": {"design": "segment", "encoder": "plain", "blocks": (2,) * stages, "decoder_convs": 2},
        }
        require_known("comparator", name, COMPARATORS)
        return replace(self, preset=f"{self.preset} {name}" if changes[name] else self.preset, **changes[name])

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Config:
        """Return the configuration that `as_json` wrote."""
        rest = {key: as_tuples(value) for key, value in values.items() if key != "augment"}
        rules = {key: as_tuples(value) for key, value in values["augment"].items()}
        return cls(**rest, augment=AugmentRules(**rules))

    def fitted_to(self, median_shape: Sequence[float]) -> Config:
        """Return the configuration with its window no larger than the median case needs (z, y, x voxels)."""
        return replace(self, window=fitted_window(self.window, median_shape, self.divisors))

    def fit_settings(self) -> FitSettings:
        """Return what the training loop needs to know."""
        steps = self.steps * (2 if self.design == "sequential" else 1)
        return FitSettings(steps, self.epoch_steps, self.validation_batches, self.clip_norm)

    def pair_rules(self, spacing_mm: Vector3) -> PairRules:
        """Return how training batches are drawn on a grid of `spacing_mm` (z, y, x)."""
        batch = BatchRules(
            self.window, self.batch_size, self.foreground_share, self.channels, spacing_mm, self.augment, self.seed
        )
        return PairRules(batch, self.misalign)


def build_network(config: Config) -> DenoiseSegmentNet | SequentialNet:
    """Return the network of the design, freshly initialised from ``config.seed``, for tensors (b, 1, z, y, x)."""

    def one(labels: int, denoised: int) -> DenoiseSegmentNet:
        return DenoiseSegmentNet(
            len(config.channels),
            labels,
            denoised=denoised,
            features=config.features,
            blocks=config.blocks,
            encoder=config.encoder,
            kernels=config.kernels,
            strides=config.strides,
            decoder_convs=config.decoder_convs,
            conv_bias=config.conv_bias,
            checkpointed=config.checkpointed,
            output=config.output,
        )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.design == "sequential":
            return SequentialNet(one(0, 1), one(len(config.labels), 0))
        return one(len(config.labels) if config.finds_organs else 0, 1 if config.denoises else 0)


def build_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Return the optimiser over all parameters."""
    return optimiser(
        network.parameters(),
        config.optimiser,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, config: Config) -> float:
    """Return the rate of step `step`; the sequential design begins anew with its second network."""
    step %= config.steps
    if config.schedule == "poly":
        return poly(step, config.steps, initial=config.learning_rate, epoch_steps=config.epoch_steps)
    return warmup_cosine(step, config.steps, initial=config.learning_rate)


def training_step(network: nn.Module, batch: PairBatch, step: int, config: Config) -> dict[str, torch.Tensor]:
    """Return the loss of one batch and its parts.

    Parameters
    ----------
    network : nn.Module
        With deep supervision on.
    batch : PairBatch
    step : int
        Of the optimiser, from 0: it tells the epoch, by which the denoising loss fades.
    config : Config

    Returns
    -------
    mapping
        "loss" = φ(e) · "denoising" + λ · "organs"; the parts that the design has. Equation 9.
    """
    if config.denoises and batch.target is None:
        raise UsageError("a denoiser is trained on pairs, and these cases have no full-dose PET.")
    epoch = step // config.epoch_steps

    def denoising(images: Sequence[torch.Tensor]) -> torch.Tensor:
        assert batch.target is not None
        return denoising_loss(images, batch.target, body=batch.body if config.body_only else None)

    def organs(logits: Sequence[torch.Tensor]) -> torch.Tensor:
        return organ_loss(
            logits,
            batch.labels[:, 0],
            smooth=config.dice_smooth,
            cross_entropy=config.cross_entropy,
            dice=config.dice,
        )

    if config.design == "segment":
        return {"loss": config.organ_weight * organs(network(batch.channels))}
    if config.design == "sequential":
        first = step < config.steps
        logits, images = network(batch.channels, denoise=True, frozen=not first)
        return {"loss": denoising(images) if first else config.organ_weight * organs(logits)}
    logits, images = network(batch.channels, denoise=True)
    clean = denoising(images)
    if config.design == "denoise":
        return {"loss": clean}
    found = organs(logits)
    loss = attenuation(epoch, config.epochs, config.phi) * clean + config.organ_weight * found
    return {"loss": loss, "denoising": clean.detach(), "organs": found.detach()}


def predict(
    networks: Sequence[nn.Module],
    case: HarmonisedCase,
    config: Config,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    engine: str = "torch",
    skip_air: bool = True,
    batch_size: int = 1,
    on_window: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Return the logits (labels, z, y, x) of the organs on the model grid. The denoising decoder does not run.

    Parameters
    ----------
    networks : sequence of nn.Module
        The folds; their logits are averaged.
    case : HarmonisedCase
    config : Config
        `tile_step` and `mirror_axes` are used.
    device : torch.device, optional
    dtype : torch.dtype
        Of the convolutions; sums are float32.
    engine : str
        "torch", or "openvino" on CPUs (`inference.compiled`).
    skip_air : bool
        Do not compute windows without body.
    batch_size : int
        Windows at a time.
    on_window : callable, optional
        Told (done, all).
    """
    if not config.finds_organs:
        raise ModelError("this model denoises and finds no organs; use uptake denoise.")
    return joint_windows(
        networks, case, _window_rules(config), labels=len(config.labels), denoised=False, device=device, dtype=dtype,
        engine=engine, skip_air=skip_air, batch_size=batch_size, on_window=on_window,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Denoised:
    """A clean image on the model grid.

    Attributes
    ----------
    suv : array (z, y, x) float32
        SUV, not below 0. Where no window was computed, in air, the values of the input.
    prediction : Prediction or None
        The organs, where they were asked for.
    """

    suv: npt.NDArray[np.float32]
    prediction: Prediction | None = None


def denoise(
    networks: Sequence[nn.Module],
    case: HarmonisedCase,
    config: Config,
    *,
    organs: bool = False,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    engine: str = "torch",
    skip_air: bool = True,
    batch_size: int = 1,
    on_window: Callable[[int, int], None] | None = None,
) -> Denoised:
    """Return the denoised PET in SUV on the model grid: out · σ + μ of the low-dose image, clamped at 0.

    Parameters
    ----------
    networks, case, config, device, dtype, engine, skip_air, batch_size, on_window
        As in `predict`. The case's `scales` hold μ and σ.
    organs : bool
        Also return the organs, from the same run of the encoder.

    Raises
    ------
    ModelError
        If the model has no denoising decoder.
    """
    if not config.denoises:
        raise ModelError("this model has no denoising decoder; choose one that has, or uptake segment.")
    organs = organs and config.finds_organs
    labels = len(config.labels) if organs else 0
    found = joint_windows(
        networks, case, _window_rules(config), labels=labels, denoised=True, device=device, dtype=dtype, engine=engine,
        skip_air=skip_air, batch_size=batch_size, on_window=on_window,
    )  # fmt: skip
    suv = np.maximum(unscaled(image_of(found, case), case.scales[0]), 0.0)
    prediction = replace(found, logits=found.logits[:-1]) if organs else None
    return Denoised(suv, prediction)


def _window_rules(config: Config) -> WindowRules:
    a, b, c = (2 * divisor for divisor in config.divisors)
    return WindowRules(config.window, config.tile_step, config.mirror_axes, (a, b, c), focus=config.focus)
