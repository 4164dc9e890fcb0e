"""SegAnyPET (ICCV 2025, arXiv 2502.14351v3): promptable 3-D segmentation of PET, learnt from labels of mixed quality.

An image is encoded once, then prompts are answered: first round a click into the object, later rounds clicks into the
mistakes (`training.prompting`). Cross prompting confident learning (CPCL): the answers of one dialogue are an ensemble;
where its entropy is high, labels of low quality are not believed but turned over (`training.confident`), and the
answers are pulled together.

Presets: `Config.published` is the paper with SAM-Med3D's network. `Config.best` departs from it where the paper itself
or its users see it fail: CT as a second channel, windows centred on clicks, boxes and strokes, all points shown, a path
at full resolution. `Config.small` asks a promptable U-Net the same way, at a size that two CPU cores train.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.choices import require_known
from uptake.core.errors import ModelError, UsageError
from uptake.core.types import Shape3, Vector3
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.plan import Plan
from uptake.networks.promptable import Promptable
from uptake.networks.promptable_unet import PromptableUnet
from uptake.networks.sam3d import Sam3d
from uptake.networks.sam3d_attention import RelPos
from uptake.sampling.prompt_cases import Centre, PromptBatch, PromptBatchRules
from uptake.training.confident import ConfidentRules, Learning, Terms, confident_loss
from uptake.training.prompting import PromptRules, TrainingUser
from uptake.training.protocol import FitSettings
from uptake.training.schedules import multistep, warmup_cosine

NAME = "seganypet"
LABELS = ("background", "object")
NETWORKS = ("sam3d", "unet")
COMPARATORS: dict[str, Learning] = {"seganypet": "cpcl", "consistency": "consistency", "fine-tune": "fine_tune"}
"""Name -> `training.confident.Learning`."""

CT_CENTRE_HU, CT_WIDTH_HU = 0.0, 200.0
CT_LIMITS_HU = (-1000.0, 1000.0)
"""How CT enters where it enters: clipped, then in units of 200 HU."""


@dataclass(frozen=True)
class Config:
    """Everything that can be chosen; the defaults are the published values.

    Attributes
    ----------
    preset : str
        Where these values started from.
    channels, normalisation : tuple of str
        Network order, and scheme of each (`harmonise.normalise`).
    window_zscore : bool
        Z-score of every window over its voxels > 0, applied everywhere, as published.
    orientation : str
    transpose : tuple of int
        Published weights want the axes (x, y, z) of RAS: (2, 1, 0) of (z, y, x).
    spacing_mm : triple
        Of the model grid, in the network's axis order.
    window : triple
        Voxels, in the network's axis order.
    network : str
        "sam3d" or "unet".
    patch, dim, depth, heads, attention_window, global_blocks, prompt_dim, prompt_hidden, rel_pos
        Of "sam3d"; see `networks.sam3d.Sam3d`. "legacy" positions for imported weights.
    boxes : bool
        Whether boxes are understood; the published network does not.
    refine : int
        Width of the path at full resolution of "sam3d"; 0 for none.
    features, blocks : tuple of int
        Of "unet".
    reach : float
        Voxels; how far a prompt is drawn into the window.
    prompts : PromptRules
        Of the user in training.
    learning : ConfidentRules
        CPCL, its comparators and its readings.
    centre, jitter, lesion_share, trusted_share, min_voxels, gain, ct_dropout
        Of training windows; see `sampling.prompt_cases.PromptBatchRules`.
    batch_size, accumulate, steps, epoch_steps, validation_batches : int
    learning_rate, prompt_rate, weight_decay, clip_norm : float
        `prompt_rate` scales the rate of prompt encoder and mask decoder; published 0.1.
    schedule : str
        "multistep" (a tenth after 60 % and 90 % of the steps) or "cosine".
    threshold : float
        Probability from which a voxel is object in the answer.
    seed : int
    """

    preset: str = "published"
    channels: tuple[str, ...] = ("pet",)
    normalisation: tuple[str, ...] = ("unchanged",)
    window_zscore: bool = True
    orientation: str = "RAS"
    transpose: tuple[int, int, int] = (2, 1, 0)
    spacing_mm: Vector3 = (1.5, 1.5, 1.5)
    window: Shape3 = (128, 128, 128)
    network: str = "sam3d"
    patch: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    attention_window: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    prompt_dim: int = 384
    prompt_hidden: int = 2048
    rel_pos: RelPos = "legacy"
    boxes: bool = False
    refine: int = 0
    features: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    reach: float = 12.0
    prompts: PromptRules = field(default_factory=PromptRules)
    learning: ConfidentRules = field(default_factory=ConfidentRules)
    centre: Centre = "box"
    jitter: int = 16
    lesion_share: float | None = None
    trusted_share: float | None = None
    min_voxels: int = 500
    gain: float = 0.0
    ct_dropout: float = 0.0
    batch_size: int = 12
    accumulate: int = 20
    steps: int = 10_000
    epoch_steps: int = 50
    validation_batches: int = 10
    learning_rate: float = 8e-4
    prompt_rate: float = 0.1
    weight_decay: float = 0.1
    clip_norm: float = 1e6
    schedule: str = "multistep"
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise UsageError(f"network {self.network!r} is unknown; choose one of {', '.join(NETWORKS)}.")
        if len(self.channels) != len(self.normalisation):
            raise UsageError(f"{len(self.channels)} channels need as many normalisations, came {self.normalisation}.")
        if not set(self.channels) <= {"pet", "ct"} or "pet" not in self.channels:
            raise UsageError(f"channels are pet, and ct if wanted; came {', '.join(self.channels)}.")
        if self.schedule not in ("multistep", "cosine"):
            raise UsageError(f"schedule {self.schedule!r} is unknown; choose multistep or cosine.")
        if not 0.0 < self.threshold < 1.0:
            raise UsageError(f"threshold is a probability between 0 and 1, came {self.threshold}.")
        if min(self.batch_size, self.accumulate, self.steps, self.epoch_steps) < 1:
            raise UsageError("batch_size, accumulate, steps and epoch_steps must be 1 or more.")
        if self.prompts.box_share and not (self.boxes or self.network == "unet"):
            raise UsageError("box_share trains with boxes, which this network does not understand (boxes=True).")
        if self.network == "sam3d" and any(side % self.patch for side in self.window):
            raise UsageError(f"window {self.window} must divide into patches of {self.patch}.")

    @classmethod
    def published(cls) -> Config:
        """Return the paper's settings: SAM-Med3D's network on PET, windows of 192 mm, CPCL, 4 x 12 samples a batch."""
        return cls()

    @classmethod
    def best(cls) -> Config:
        """Return the transformer with our departures from the paper.

        Correct relative positions; PET as asinh(SUV) and CT, which may be absent; windows of 128³ at 2 mm, centred on a
        jittered click as often as on the object; boxes and strokes as first prompts; all points or the newest alone;
        half of the clicks at the middle of the mistake; a convolutional path at full resolution; lesions one by one,
        however small; labels turned over only where the ensemble disagrees with them, and half of every batch trusted.
        """
        return cls(
            preset="best",
            channels=("pet", "ct"),
            normalisation=("asinh", "clip_zscore"),
            window_zscore=False,
            transpose=(0, 1, 2),
            spacing_mm=(2.0, 2.0, 2.0),
            rel_pos="correct",
            boxes=True,
            refine=16,
            prompts=BEST_PROMPTS,
            learning=ConfidentRules(rectify="agreeing"),
            centre="either",
            lesion_share=0.5,
            min_voxels=4,
            ct_dropout=0.15,
            clip_norm=12.0,
        )

    @classmethod
    def small(cls) -> Config:
        """Return `best` for two CPU cores: a promptable U-Net of 1.7 M parameters, 32³ voxels of 4 mm, 1,200 steps.

        Three rounds of prompting a step, AdamW with a cosine schedule.
        """
        return replace(
            cls.best(),
            preset="small",
            network="unet",
            spacing_mm=(4.0, 4.0, 4.0),
            window=(32, 32, 32),
            features=(16, 32, 64, 96),
            blocks=(1, 1, 2, 2),
            refine=0,
            reach=10.0,
            prompts=replace(BEST_PROMPTS, rounds=3, mask_only=False, shown="all", stroke=5),
            learning=ConfidentRules(learning="fine_tune"),
            centre="click",
            jitter=8,
            lesion_share=0.7,
            min_voxels=1,
            batch_size=2,
            accumulate=1,
            steps=1200,
            epoch_steps=100,
            validation_batches=8,
            learning_rate=2e-3,
            prompt_rate=1.0,
            weight_decay=1e-2,
            schedule="cosine",
        )

    def comparator(self, name: str) -> Config:
        """Return these settings with one of the paper's ways to learn from labels of mixed quality.

        Parameters
        ----------
        name : str
            "seganypet": CPCL; "consistency": every label believed, answers of a dialogue pulled together; "fine-tune":
            every label believed.

        Raises
        ------
        UsageError
            If there is no such comparator.
        """
        require_known("comparator", name, tuple(COMPARATORS))
        # What CPCL reads differently outside of the published preset comes with it.
        rules = self.learning if self.preset == "published" else Config.best().learning
        return replace(self, learning=replace(rules, learning=COMPARATORS[name]))

    def mixing(self) -> Config:
        """Return these settings with half of every batch trusted, so that few trusted cases are not lost among many.

        The published preset keeps drawing cases as they come.
        """
        return self if self.preset == "published" else replace(self, trusted_share=0.5)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Config:
        """Return the configuration that `as_json` wrote."""
        rest = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        rest["prompts"] = PromptRules(**values["prompts"])
        rest["learning"] = ConfidentRules(**values["learning"])
        return cls(**rest)

    @property
    def accepts(self) -> tuple[str, ...]:
        """Kinds of prompts the network was made for."""
        return ("point", "scribble", "mask", *(("box",) if self.boxes or self.network == "unet" else ()))

    @property
    def ct(self) -> int | None:
        """Channel of the CT."""
        return self.channels.index("ct") if "ct" in self.channels else None

    def plan(self) -> Plan:
        """Return how images come onto the model grid: fixed rules, nothing is learnt from a dataset."""
        rules = []
        for name, scheme in zip(self.channels, self.normalisation, strict=True):
            if name == "ct":
                rules.append(ChannelRule(name, scheme, *CT_LIMITS_HU, CT_CENTRE_HU, CT_WIDTH_HU))
            else:
                rules.append(ChannelRule(name, scheme, 0.0, 0.0, 0.0, 1.0))
        return Plan(
            tuple(rules), self.spacing_mm, self.orientation, image_order=1, logits_order=1, transpose=self.transpose
        )

    def fit_settings(self) -> FitSettings:
        """Return what the training loop needs to know."""
        return FitSettings(
            self.steps,
            self.epoch_steps,
            self.validation_batches,
            self.clip_norm,
            accumulate=self.accumulate,
            headline="click_dice_auc",
        )

    def batch_rules(self) -> PromptBatchRules:
        """Return how training batches are drawn."""
        return PromptBatchRules(
            self.window,
            self.batch_size,
            self.centre,
            self.jitter,
            self.lesion_share,
            self.trusted_share,
            self.min_voxels,
            gain=self.gain,
            ct=self.ct,
            ct_dropout=self.ct_dropout,
            seed=self.seed,
        )


UNTRAINED = (
    "mask_decoder.iou_prediction_head.",
    "mask_decoder.output_hypernetworks_mlps.1.",
    "mask_decoder.output_hypernetworks_mlps.2.",
    "mask_decoder.output_hypernetworks_mlps.3.",
    "prompt_encoder.no_mask_embed.",
)
"""Parts that no loss reaches, upstream neither: frozen, or data-parallel training waits for their gradients."""

BEST_PROMPTS = PromptRules(
    rounds=6, shown="either", object_logit=0.0, central_share=0.5, box_share=0.2, scribble_share=0.2
)


def build_network(config: Config) -> Promptable:
    """Return the network, freshly initialised from ``config.seed``, for windows (b, c, *config.window)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.network == "unet":
            return PromptableUnet(
                len(config.channels),
                config.window,
                features=config.features,
                blocks=config.blocks,
                reach=config.reach,
            )
        network = Sam3d(
            len(config.channels),
            config.window,
            patch=config.patch,
            dim=config.dim,
            depth=config.depth,
            heads=config.heads,
            attention_window=config.attention_window,
            global_blocks=config.global_blocks,
            prompt_dim=config.prompt_dim,
            prompt_hidden=config.prompt_hidden,
            rel_pos=config.rel_pos,
            point_kinds=4 if config.boxes else 2,
            refine=config.refine,
            reach=config.reach,
        )
    for name, parameter in network.named_parameters():
        if name.startswith(UNTRAINED):
            parameter.requires_grad_(False)
    return network


def build_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Return AdamW; prompt encoder and mask decoder learn `prompt_rate` times as fast (the loop reads "scale")."""
    slow, fast = [], []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (slow if name.startswith(("prompt_encoder.", "mask_decoder.")) else fast).append(parameter)
    groups = [{"params": fast, "scale": 1.0}]
    if slow:
        groups.append({"params": slow, "scale": config.prompt_rate})
    return torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)


def learning_rate(step: int, config: Config) -> float:
    """Return the rate of step `step`."""
    if config.schedule == "multistep":
        return multistep(step, config.steps, initial=config.learning_rate)
    return warmup_cosine(step, config.steps, initial=config.learning_rate)


def training_step(network: nn.Module, batch: PromptBatch, step: int, config: Config) -> Terms:
    """Return the loss of one batch and its parts, after a dialogue of ``config.prompts.rounds`` rounds.

    Parameters
    ----------
    network : Promptable
        Or what a strategy wrapped around it: the dialogue is one forward pass, so gradients are synchronised.
    batch : PromptBatch
    step : int
        Optimiser step; the weight of the low-quality terms ramps up with it.
    config : Config
    """
    user = TrainingUser(batch.target, config.prompts, seed=batch.seed)
    outputs = network(prepared(batch.channels, config), user, config.prompts.rounds)
    voting = [number for number in range(len(outputs)) if number not in user.silent]
    return confident_loss(
        outputs, batch.target, batch.trusted, config.learning, progress=step / config.steps, voting=voting
    )


def prepared(channels: torch.Tensor, config: Config) -> torch.Tensor:
    """Return windows (b, c, *window) as the network takes them: z-scored over their voxels > 0 where published.

    A window without any voxel > 0, or a constant one, becomes zeros.
    """
    if not config.window_zscore:
        return channels
    result = torch.zeros_like(channels)
    for sample, window in enumerate(channels):
        for index, image in enumerate(window):
            inside = image[image > 0]
            if inside.numel() > 1 and float(inside.std()) > 0:
                result[sample, index] = (image - inside.mean()) / inside.std()
    return result


def predict(networks: Any, case: HarmonisedCase, config: Config, **_: Any) -> Prediction:
    """Refuse: without a prompt there is nothing to answer.

    Raises
    ------
    ModelError
        Always.
    """
    raise ModelError(
        f"{case.id}: this model answers prompts and finds nothing by itself. Give prompts (uptake.Session in Python, "
        "--prompts FILE on the command line), or take a model that segments on its own."
    )
