"""Masked pretraining on PET/CT and its hand-over to segmentation (arXiv 2605.21835).

PET and CT are two input channels of one U-shaped network. Blocks of either are hidden, each channel by a mask of its
own, and filled with 0, the mean of the z-scored scan; the network gives both channels back, and is judged most where it
could not see. Fine-tuning keeps encoder and decoder and draws a new head.

Presets: `Config.published` follows the paper's code, with the departures that its defects ask for (test scans stay out
of the pool, the head is never transferred, selection never sees the test set). `Config.small` is the same method for
two CPU cores. `amaes`, `s3d_dense` and `must_pet` set the same options as those methods do; what they cannot set is
said there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.choices import require_known
from uptake.core.errors import UsageError
from uptake.core.plain import as_tuples
from uptake.core.types import Shape3, Vector3
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.plan import Plan
from uptake.inference.ensemble import WindowRules, predict_windows
from uptake.networks.backbones import Architecture, architecture, build, part
from uptake.sampling.augment import NO_AUGMENTATION, AugmentRules
from uptake.sampling.batches import Batch, BatchRules
from uptake.sampling.masking import MaskedBatch, MaskRules, block_grid
from uptake.training.optimisers import optimiser
from uptake.training.protocol import FitSettings
from uptake.training.reconstruction import ReconstructionRules, reconstruction_loss
from uptake.training.schedules import poly, warmup_cosine

NAME = "petct_mae"
LABELS = ("background", "lesion")

FINAL_RATE = 1e-6
"""Learning rate at the end of the published cosine."""

CNN_RATE = 5e-4
"""Published rate of the convolutional network, in pretraining and fine-tuning; transformers 1e-4."""

ZOOM = replace(NO_AUGMENTATION, scale_p=0.5, scale=(0.9, 1.1))
"""All the augmentation there is in pretraining: an isotropic zoom. No flips, no changes of intensity."""

SELF_SCALED = ("zscore", "rescale_0_1", "unchanged")
"""Normalisations that a scan needs no other scan for, so that a plan can be made without a labelled dataset."""

MODES = ("full", "decoder", "head")
"""What fine-tuning may change: everything; decoder and head; the head alone."""


@dataclass(frozen=True)
class Config:
    """Everything that can be chosen; the defaults are the published values of pretraining.

    Attributes
    ----------
    preset : str
        Where these values started from.
    backbone : str
        A key of `networks.backbones.BACKBONES`.
    features, blocks, heads, decoder_blocks
        Fields of its `Architecture` to set otherwise; None: as named.
    checkpointing : bool
        Less memory for Swin transformers, same numbers.
    skips : bool
        False: pretrain a U-Net without skip connections (AMAES). Fine-tuning always has them.
    channels, normalisation : tuple of str
        Network order and scheme of each.
    orientation, spacing_mm, image_order, crop, crop_margin, normalise_last
        Of the plan; see `harmonise.plan.Plan`. Spacing (z, y, x).
    min_slices : int
        Scans with fewer slices as they come are left out of the pool.
    window : triple
        (z, y, x) voxels; smaller scans are padded with the mean.
    labels : tuple of str
        () for pretraining; classes with the background first for segmentation.
    masks : MaskRules
    loss : ReconstructionRules
    augment : AugmentRules
    batch_size, accumulate, steps, epoch_steps, validation_batches : int
        One optimiser step sees batch_size · accumulate windows.
    optimiser, schedule : str
        "adamw" (default betas) or "sgd" (momentum 0.99, Nesterov); "epoch_cosine" (published: to 1e-6, constant within
        an epoch, no warm-up), "cosine" (50 steps of warm-up) or "poly" (power 0.9).
    learning_rate, weight_decay, clip_norm : float
    foreground_share : float
        Of windows centred on a lesion, in segmentation.
    dice_smooth : float
        Published 1e-5, the background counted as a class.
    mode : str
        What is trained: see `MODES`.
    tile_step, mirror_axes, focus
        Of inference.
    seed : int
    """

    preset: str = "published"
    backbone: str = "swin_base"
    features: tuple[int, ...] | None = None
    blocks: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None
    decoder_blocks: int | None = None
    checkpointing: bool = True
    skips: bool = True
    channels: tuple[str, ...] = ("pet", "ct")
    normalisation: tuple[str, ...] = ("zscore", "zscore")
    orientation: str = "LAS"
    spacing_mm: Vector3 = (3.0, 2.0, 2.0)
    image_order: int = 1
    crop: str = "body"
    crop_margin: int = 3
    normalise_last: bool = True
    min_slices: int = 32
    window: Shape3 = (96, 128, 128)
    labels: tuple[str, ...] = ()
    masks: MaskRules = field(default_factory=MaskRules)
    loss: ReconstructionRules = field(default_factory=ReconstructionRules)
    augment: AugmentRules = ZOOM
    batch_size: int = 16
    accumulate: int = 1
    steps: int = 62_400
    epoch_steps: int = 312
    validation_batches: int = 8
    optimiser: str = "adamw"
    schedule: str = "epoch_cosine"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    clip_norm: float = 1.0
    foreground_share: float = 0.5
    dice_smooth: float = 1e-5
    mode: str = "full"
    tile_step: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    focus: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.channels or set(self.channels) - {"pet", "ct"} or len(set(self.channels)) != len(self.channels):
            raise UsageError(f"channels are 'pet', 'ct' or both, came {self.channels}.")
        if len(self.channels) != len(self.normalisation):
            raise UsageError(f"{len(self.channels)} channels need as many normalisations, came {self.normalisation}.")
        if self.loss.channels is not None and len(self.loss.channels) != len(self.channels):
            raise UsageError(f"the loss weights {len(self.loss.channels)} channels, there are {len(self.channels)}.")
        divisor = self.design.divisor
        if any(n % divisor for n in self.window):
            raise UsageError(f"window {self.window} must divide by {divisor}, as {self.backbone} halves it.")
        if math.prod(n // divisor for n in self.window) < 2:
            raise UsageError(
                f"window {self.window} shrinks to one voxel, on which instance norm has no variance; enlarge it."
            )
        if not self.labels and math.prod(block_grid(self.window, self.masks.block)) < 2:
            raise UsageError(f"blocks of {self.masks.block} voxels hide all of a window of {self.window}; use smaller.")
        if len(self.labels) == 1:
            raise UsageError(f"labels are the background and one class at least, came {self.labels}.")
        for name, known in (
            ("optimiser", ("adamw", "sgd")),
            ("schedule", ("epoch_cosine", "cosine", "poly")),
            ("mode", MODES),
        ):
            require_known(name, getattr(self, name), known)
        if min(self.batch_size, self.accumulate, self.steps, self.epoch_steps) < 1:
            raise UsageError("batch_size, accumulate, steps and epoch_steps must be 1 or more.")
        if not self.skips and self.design.kind not in ("plain", "residual"):
            raise UsageError(
                f"skips=False: only U-Nets can be pretrained without skip connections, not {self.backbone}."
            )

    @property
    def design(self) -> Architecture:
        """The network, but for its channels."""
        return architecture(
            self.backbone,
            features=self.features,
            blocks=self.blocks,
            heads=self.heads,
            decoder_blocks=self.decoder_blocks,
        )

    @classmethod
    def published(cls, backbone: str = "swin_base") -> Config:
        """Return the paper's pretraining of a backbone; its U-Net learns at 5e-4, transformers at 1e-4."""
        rate = 1e-4 if backbone.startswith("swin") else CNN_RATE
        return cls(backbone=backbone, learning_rate=rate)

    @classmethod
    def small(cls) -> Config:
        """Return the method for two CPU cores: 2.4 M parameters, 64 x 40 x 40 voxels of 4 mm, 8³ blocks, 1,000 steps.

        The network is that of LesionTracer's `small` preset, which it can start. Departures: rate 2e-3 with a warm-up
        (a thousand steps are few), batch 2, inference over the body alone.
        """
        return cls(
            preset="small",
            backbone="resenc_small",
            checkpointing=False,
            spacing_mm=(4.0, 4.0, 4.0),
            window=(64, 40, 40),
            masks=MaskRules(block=(8, 8, 8)),
            batch_size=2,
            steps=1000,
            epoch_steps=100,
            validation_batches=8,
            schedule="cosine",
            learning_rate=2e-3,
            clip_norm=12.0,
            focus=True,
        )

    @classmethod
    def amaes(cls) -> Config:
        """Return the options of AMAES (arXiv 2408.00640) on a U-Net: 4³ blocks, 60 % exactly, all voxels in the loss.

        Scans scaled to [0, 1], hidden voxels 0, no skip connections, rate 1e-4, 128³. Not set: its U-Net B with max
        pooling, and its reversal of intensity augmentation.
        """
        return cls(
            preset="amaes",
            backbone="nnunet_3d",
            skips=False,
            normalisation=("rescale_0_1", "rescale_0_1"),
            window=(128, 128, 128),
            masks=MaskRules((4, 4, 4), 0.6, "exact", "coupled"),
            loss=ReconstructionRules(pooled=True),
            batch_size=8,
            schedule="cosine",
        )

    @classmethod
    def s3d_dense(cls) -> Config:
        """Return the options of S3D (SparK-3D, arXiv 2410.23132) on ResEnc-L: 16³ blocks, 75 % exactly, hidden loss.

        160³, SGD 1e-2, poly, 1,000 epochs of 250 steps. Not set: sparse convolutions and learned tokens; this encoder
        is dense and sees zeros.
        """
        return cls(
            preset="s3d dense",
            backbone="resenc_l",
            window=(160, 160, 160),
            masks=MaskRules((16, 16, 16), 0.75, "exact", "coupled"),
            loss=ReconstructionRules(visible=0.0),
            augment=replace(NO_AUGMENTATION, scale_p=0.2, scale=(0.7, 1.4), rotation_p=0.2, mirror_p=0.5),
            batch_size=2,
            steps=250_000,
            epoch_steps=250,
            optimiser="sgd",
            schedule="poly",
            learning_rate=1e-2,
            weight_decay=3e-5,
            clip_norm=12.0,
        )

    @classmethod
    def must_pet(cls) -> Config:
        """Return the options of MUST-PET on SwinUNETR: half the blocks of one channel, the other visible."""
        return cls(
            preset="must-pet",
            masks=MaskRules(coupling="one_channel"),
            batch_size=3,
            weight_decay=1e-2,
            schedule="cosine",
        )

    def for_segmentation(self, labels: Sequence[str] = LABELS, **changes: Any) -> Config:
        """Return the published fine-tuning of the network this configuration pretrains.

        Batches of 4 windows, half of them centred on a lesion, no augmentation, 17,500 steps whatever the number of
        labels, all skip connections. The `small` preset keeps its batch, schedule and rate and takes 1,000 steps.
        """
        values: dict[str, Any] = {
            "labels": tuple(labels),
            "skips": True,
            "augment": NO_AUGMENTATION,
            "accumulate": 1,
            "optimiser": "adamw",
        }
        if self.preset == "small":
            values |= {"steps": 1000, "epoch_steps": 100}
        else:
            rate = 1e-4 if self.design.kind == "swin_v2" else CNN_RATE
            values |= {"batch_size": 4, "steps": 17_500, "epoch_steps": 175, "schedule": "epoch_cosine"}
            values |= {"learning_rate": rate, "weight_decay": 1e-5, "clip_norm": 1.0, "validation_batches": 50}
        return replace(self, **{**values, **changes})

    def plan(self) -> Plan:
        """Return the plan, which needs no look at any dataset.

        Raises
        ------
        UsageError
            If a normalisation needs constants of a labelled dataset; pretrain like a bundle then, whose plan has them.
        """
        needy = [scheme for scheme in self.normalisation if scheme not in SELF_SCALED]
        if needy:
            raise UsageError(
                f"normalisation {needy[0]!r} needs constants of a labelled dataset; choose {', '.join(SELF_SCALED)}, "
                "or take the plan of a bundle (--like)."
            )
        rules = tuple(
            ChannelRule(name, scheme, 0.0, 0.0, 0.0, 1.0)
            for name, scheme in zip(self.channels, self.normalisation, strict=True)
        )
        return Plan(
            rules,
            self.spacing_mm,
            self.orientation,
            image_order=self.image_order,
            crop=self.crop,
            crop_margin=self.crop_margin,
            normalise_last=self.normalise_last,
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Config:
        """Return the configuration that `as_json` wrote."""
        parts = {"masks": MaskRules, "loss": ReconstructionRules, "augment": AugmentRules}
        rest = {name: as_tuples(value) for name, value in values.items() if name not in parts}
        nested = {
            name: kind(**{key: as_tuples(value) for key, value in values[name].items()}) for name, kind in parts.items()
        }
        return cls(**rest, **nested)

    def fit_settings(self) -> FitSettings:
        """Return what the training loop needs to know."""
        headline = "pseudo_dice" if self.labels else "explained"
        return FitSettings(
            self.steps,
            self.epoch_steps,
            self.validation_batches,
            self.clip_norm,
            accumulate=self.accumulate,
            headline=headline,
        )

    def batch_rules(self, spacing_mm: Vector3) -> BatchRules:
        """Return how batches are drawn on a grid of `spacing_mm` (z, y, x)."""
        return BatchRules(
            self.window, self.batch_size, self.foreground_share, self.channels, spacing_mm, self.augment, self.seed
        )


def build_network(config: Config) -> nn.Module:
    """Return the network, freshly initialised from ``config.seed``, for tensors (b, channels, z, y, x).

    Without labels it gives the channels back, linear; with labels logits of each.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build(
            config.design,
            len(config.channels),
            len(config.labels) or len(config.channels),
            skips=config.skips,
            checkpointing=config.checkpointing,
        )


def trained_parts(config: Config) -> frozenset[str]:
    """Return which of encoder, decoder and head the mode trains."""
    return frozenset(
        {"full": {"encoder", "decoder", "head"}, "decoder": {"decoder", "head"}, "head": {"head"}}[config.mode]
    )


def build_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Return the optimiser over the parameters that ``config.mode`` trains; the others are frozen."""
    trained = trained_parts(config)
    kind = config.design.kind
    for name, parameter in network.named_parameters():
        if part(kind, name) not in trained:
            parameter.requires_grad_(False)
    return optimiser(
        (parameter for parameter in network.parameters() if parameter.requires_grad),
        config.optimiser,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.999),
    )


def learning_rate(step: int, config: Config) -> float:
    """Return the rate of step `step`.

    "epoch_cosine": 1e-6 + (r - 1e-6) (1 + cos(pi e / E)) / 2 in epoch e of E, as published.
    """
    if config.schedule == "poly":
        return poly(step, config.steps, initial=config.learning_rate, epoch_steps=config.epoch_steps)
    if config.schedule == "cosine":
        return warmup_cosine(step, config.steps, initial=config.learning_rate)
    epochs = max(1, math.ceil(config.steps / config.epoch_steps))
    share = min(step // config.epoch_steps, epochs) / epochs
    return FINAL_RATE + (config.learning_rate - FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * share))


def training_step(
    network: nn.Module, batch: MaskedBatch | Batch, config: Config, step: int = 0
) -> dict[str, torch.Tensor]:
    """Return {"loss", ...} of one batch: reconstruction without labels, segmentation with them.

    Parameters
    ----------
    network : nn.Module
    batch : MaskedBatch or Batch
        From `sampling.masking.MaskedWindows`, or `sampling.batches.WindowBatches`.
    config : Config
    step : int
        Seeds the stochastic depth of transformers, so that a resumed run repeats what an unbroken one did.
    """
    with torch.random.fork_rng(devices=[batch.channels.device] if batch.channels.is_cuda else []):
        torch.manual_seed(1_000_003 * config.seed + step)
        output = network(batch.channels)
    if isinstance(batch, MaskedBatch):
        return reconstruction_loss(output, batch.target, batch.hidden, config.loss, batch.body)
    return {"loss": segmentation_loss(output, batch.labels[:, 0], smooth=config.dice_smooth)}


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor, *, smooth: float = 1e-5) -> torch.Tensor:
    """Return cross-entropy plus 1 - mean soft Dice over samples and classes, the background among them, as published.

    D_bc = (2 Σ p·y + s) / (Σ p + Σ y + s) with softmax probabilities p, so that a class absent from label and answer
    costs nothing. Parameters as for `training.losses.soft_dice_loss`, which leaves the background out.
    """
    probabilities = torch.softmax(logits.float(), dim=1)
    onehot = F.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1).float()
    overlap = (probabilities * onehot).flatten(2).sum(-1)
    total = probabilities.flatten(2).sum(-1) + onehot.flatten(2).sum(-1)
    dice = (2.0 * overlap + smooth) / (total + smooth)
    return F.cross_entropy(logits.float(), labels.long()) + 1.0 - dice.mean()


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
    """Return the logits (labels, z, y, x) on the model grid.

    Windows are weighted by a Gaussian; the published code weights them evenly. Parameters as for
    `lesiontracer.predict`.

    Raises
    ------
    UsageError
        If the configuration has no labels: a pretrained network does not segment.
    """
    if not config.labels:
        raise UsageError("a pretrained network gives images back, no labels; fine-tune it first (uptake finetune).")
    side = 2 * config.design.divisor
    rules = WindowRules(config.window, config.tile_step, config.mirror_axes, (side, side, side), focus=config.focus)
    return predict_windows(
        networks,
        case,
        rules,
        labels=len(config.labels),
        form="labels",
        view=nn.Module.eval,
        device=device,
        dtype=dtype,
        engine=engine,
        skip_air=skip_air,
        batch_size=batch_size,
        on_window=on_window,
    )


def like(base: Config, other: Any, plan: Plan) -> Config:
    """Return `base` on the network, window, channels and grid of a LesionTracer-like configuration.

    What is pretrained so can start that method. The plan itself is passed on beside it; the configuration repeats its
    grid for the record.

    Raises
    ------
    UsageError
        If the other network cannot be built here (kernels or strides of its own).
    """
    if getattr(other, "kernels", None) is not None or getattr(other, "strides", None) is not None:
        raise UsageError("the network to be started has kernels or strides of its own; backbones here have 3³ and 2.")
    if not isinstance(other.decoder_convs, int):
        raise UsageError("the network to be started has decoder levels of different depth; backbones here have one.")
    same = {name: getattr(other, name) for name in ("window", "channels", "orientation", "features", "blocks")}
    names = {one.name for one in fields(Config)}
    return replace(
        base,
        **{name: value for name, value in same.items() if name in names},
        backbone="resenc_l" if other.encoder == "residual" else "nnunet_3d",
        decoder_blocks=other.decoder_convs,
        normalisation=tuple(rule.scheme for rule in plan.channels),
        spacing_mm=plan.spacing_mm,
        image_order=plan.image_order,
        crop=plan.crop,
        crop_margin=plan.crop_margin,
        normalise_last=plan.normalise_last,
    )
