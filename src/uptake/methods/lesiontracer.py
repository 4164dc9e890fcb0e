"""LesionTracer: PET/CT lesion segmentation, winner of autoPET III (arXiv 2409.09478).

A residual-encoder U-Net on CT and PET fused at the first convolution; Dice without smoothing plus cross-entropy under
deep supervision, for the lesions and, by a second family of heads on the same decoder, for the organs; misalignment of
the CT among the augmentations. Only the lesion heads are used for lesions; the organs teach the network what uptake is
physiological.

Presets: `Config.published` follows the paper and its code to the letter. `Config.best` departs from it where more is
known today; each departure has a name (`DEPARTURES`) and can be left out. `Config.small` is its small form, at a size
that two CPU cores train in minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.anatomy import classes_of
from uptake.core.choices import require_known
from uptake.core.errors import UsageError
from uptake.core.plain import as_tuples
from uptake.core.types import Shape3, Vector3
from uptake.inference.compiled import Weights
from uptake.inference.ensemble import WindowRules, predict_windows
from uptake.inference.sliding_window import Finished
from uptake.networks.stages import ENCODERS, divisors, fitted_window, require_stages, require_window
from uptake.sampling.augment_rules import AugmentRules
from uptake.training.optimisers import OPTIMISERS, optimiser
from uptake.training.schedules import poly, warmup_cosine

if TYPE_CHECKING:
    # Compiled programs run where torch is not loaded (`graph`), so that functions import what needs it.
    import torch
    from torch import nn

    from uptake.sampling.batches import Batch, BatchRules
    from uptake.training.protocol import FitSettings

NAME = "lesiontracer"
LABELS = ("background", "lesion")
PUBLISHED_SPACING_MM = (3.0, 2.0364201068878174, 2.0364201068878174)


@dataclass(frozen=True)
class Config:
    """Everything that can be chosen; the defaults are the published values.

    Attributes
    ----------
    preset : str
        Where these values started from.
    channels : tuple of str
        Network order.
    normalisation : tuple of str
        Scheme of each channel; published: clip to lesion percentiles, z-score, for both.
    orientation : str
        Published weights want LAS.
    spacing_mm : triple or None
        (z, y, x) of the model grid; None: the median of the training cases.
    window : triple
        (z, y, x) voxels; along an axis shortened to the (padded) median case where that is smaller.
    transpose : tuple of int
        Order of the array axes (z, y, x) on the model grid; nnU-Net turns some datasets.
    separate_z : bool
        Along an axis more than three times coarser than the others take the nearest slice instead of a spline.
    labels : tuple of str
        Classes of the lesion heads, background first.
    organs : tuple of str
        Classes of the organ heads, background first; () for a network without them.
    encoder : str
        "residual" or "plain".
    features, blocks : tuple of int
        Stages of the network, finest first: width, and residual blocks (plain: convolutions).
    kernels, strides : tuple of triples or None
        Per stage (z, y, x); None: 3³, and stride 1 then 2.
    decoder_convs : int or tuple of int
    conv_bias : bool
    batch_size, steps, epoch_steps, validation_batches : int
    accumulate : int
        Batches whose gradients make one step; published 1.
    foreground_share : float
        Share of a batch centred on a lesion.
    optimiser : str
        "sgd" (momentum 0.99, Nesterov) or "adamw" (betas 0.9, 0.99).
    learning_rate, weight_decay, clip_norm : float
    schedule : str
        "poly" (power 0.9, by epoch) or "cosine" (50 steps of warm-up).
    dice_smooth : float
        Published 0.
    organ_weight : float
        Of the organ heads' loss; published 1.
    augment : AugmentRules
    tile_step : float
        Sliding-window step as a share of the window.
    mirror_axes : tuple of int
        Flips averaged at inference.
    focus : bool
        Lay inference windows over the body alone, layer by layer. Published: over the whole image.
    seed : int
    """

    preset: str = "published"
    channels: tuple[str, ...] = ("ct", "pet")
    normalisation: tuple[str, ...] = ("clip_zscore", "clip_zscore")
    orientation: str = "LAS"
    spacing_mm: Vector3 | None = PUBLISHED_SPACING_MM
    window: Shape3 = (192, 192, 192)
    transpose: tuple[int, int, int] = (0, 1, 2)
    separate_z: bool = True
    labels: tuple[str, ...] = LABELS
    organs: tuple[str, ...] = ()
    encoder: str = "residual"
    features: tuple[int, ...] = (32, 64, 128, 256, 320, 320)
    blocks: tuple[int, ...] = (1, 3, 4, 6, 6, 6)
    kernels: tuple[Shape3, ...] | None = None
    strides: tuple[Shape3, ...] | None = None
    decoder_convs: int | tuple[int, ...] = 1
    conv_bias: bool = True
    batch_size: int = 3
    steps: int = 375_000
    epoch_steps: int = 250
    validation_batches: int = 50
    accumulate: int = 1
    foreground_share: float = 0.33
    optimiser: str = "sgd"
    learning_rate: float = 1e-3
    weight_decay: float = 3e-5
    clip_norm: float = 12.0
    schedule: str = "poly"
    dice_smooth: float = 0.0
    organ_weight: float = 1.0
    augment: AugmentRules = field(default_factory=AugmentRules)
    tile_step: float = 0.5
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    focus: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.normalisation):
            raise UsageError(f"{len(self.channels)} channels need as many normalisations, came {self.normalisation}.")
        require_stages(self.features, self.blocks, kernels=self.kernels, strides=self.strides)
        require_known("encoder", self.encoder, ENCODERS)
        if sorted(self.transpose) != [0, 1, 2]:
            raise UsageError(f"transpose {self.transpose} is no order of the three axes.")
        if len(self.labels) < 2:
            raise UsageError(f"labels are the background and one class at least, came {self.labels}.")
        require_window(self.window, self.divisors, halvings=len(self.features) - 1)
        require_known("optimiser", self.optimiser, OPTIMISERS)
        require_known("schedule", self.schedule, ("poly", "cosine"))
        if min(self.batch_size, self.steps, self.epoch_steps, self.accumulate) < 1:
            raise UsageError("batch_size, steps, epoch_steps and accumulate must be 1 or more.")
        if not 0.0 < self.tile_step <= 1.0:
            raise UsageError(f"tile_step is a share of the window in (0, 1], came {self.tile_step}.")
        if not 0.0 <= self.foreground_share <= 1.0:
            raise UsageError(f"foreground_share is between 0 and 1, came {self.foreground_share}.")

    @property
    def divisors(self) -> Shape3:
        """By what the window must divide along (z, y, x): the product of the strides."""
        return divisors(self.features, self.strides)

    @classmethod
    def published(cls) -> Config:
        """Return the paper's settings from pretrained weights: ResEnc-L, 192³, batch 3, 1,500 epochs of 250 steps.

        With its ten organ classes, the last one as its labels had it (see `core.anatomy.AUTOPET_NAMES`).
        """
        return cls(organs=classes_of("lesiontracer-published"))

    @classmethod
    def published_from_scratch(cls) -> Config:
        """Return `published` with the rate of the paper's rows without pretraining, 1e-2."""
        return cls.published().from_scratch()

    @classmethod
    def best(cls, *, without: Sequence[str] = ()) -> Config:
        """Return `published` with the departures that `DEPARTURES` names, but those in `without`.

        Raises
        ------
        UsageError
            If a departure is unknown.
        """
        unknown = [name for name in without if name not in DEPARTURES]
        if unknown:
            raise UsageError(f"{unknown[0]!r} is no departure of the preset best; they are {', '.join(DEPARTURES)}.")
        left_out = "".join(f", without {name}" for name in without)
        config = replace(cls.published(), preset=f"best{left_out}")
        for name, change in DEPARTURES.items():
            if name not in without:
                fields = dict(change)
                augment = replace(config.augment, **fields.pop("augment", {}))
                config = replace(config, augment=augment, **fields)
        return config

    def from_scratch(self) -> Config:
        """Return the configuration with the rate of the paper's rows without pretraining, 1e-2."""
        return replace(self, preset=f"{self.preset} from scratch", learning_rate=1e-2)

    @classmethod
    def small(cls) -> Config:
        """Return the method for two CPU cores: 2.4 M parameters, 64 x 40 x 40 voxels, 1,000 steps of 2 windows.

        Departures: those of `best` but organ-ids (it has no organ heads), low resolution in 10 % of the samples instead
        of 25 %; and AdamW with a cosine schedule (SGD with momentum 0.99 has hardly found its pace after a thousand
        steps). They were measured together, against nnU-Net's own recipe at equal network, window, batch and steps
        (benchmarks/RESULTS.md), not one by one.
        """
        return cls(
            preset="small",
            normalisation=("clip_zscore", "asinh"),
            spacing_mm=None,
            separate_z=False,
            window=(64, 40, 40),
            features=(16, 32, 64, 128),
            blocks=(1, 2, 2, 2),
            batch_size=2,
            steps=1000,
            epoch_steps=100,
            validation_batches=8,
            optimiser="adamw",
            learning_rate=2e-3,
            weight_decay=1e-2,
            schedule="cosine",
            augment=AugmentRules(ct_dropout_p=0.15, in_mm=True, low_resolution_p=0.1),
            focus=True,
        )

    @classmethod
    def pretraining_published(cls) -> Config:
        """Return the multi-dataset pretraining: 1 mm, 192³, batch 24, 4,000 epochs of 250 steps, SGD 1e-3.

        No misalignment, and no window centred on a label: the published loader yields single cases, for which its rule
        of oversampling never holds on one device.
        """
        return cls(
            preset="pretraining published",
            normalisation=("zscore", "zscore"),
            spacing_mm=(1.0, 1.0, 1.0),
            batch_size=24,
            steps=1_000_000,
            validation_batches=0,
            foreground_share=0.0,
            augment=AugmentRules(misalign_rotation_p=0.0, misalign_shift_p=0.0),
        )

    @classmethod
    def pretraining_small(cls) -> Config:
        """Return multi-dataset pretraining of the `small` network: 4 mm voxels, 1,000 steps of 4 windows.

        A third of the windows is centred on a label; that and the optimiser depart from the published pretraining.
        """
        return replace(
            cls.small(),
            preset="pretraining small",
            normalisation=("zscore", "zscore"),
            spacing_mm=(4.0, 4.0, 4.0),
            batch_size=4,
            validation_batches=0,
            augment=AugmentRules(misalign_rotation_p=0.0, misalign_shift_p=0.0, in_mm=True, low_resolution_p=0.1),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Config:
        """Return the configuration that `as_json` wrote."""
        rest = {key: as_tuples(value) for key, value in values.items() if key != "augment"}
        # Cards of 0.1 knew no separate_z, and their models were trained without it.
        rest.setdefault("separate_z", False)
        rules = {key: as_tuples(value) for key, value in values["augment"].items()}
        return cls(**rest, augment=AugmentRules(**rules))

    def fitted_to(self, median_shape: Sequence[float]) -> Config:
        """Return the configuration with its window no larger than the median case needs (z, y, x voxels)."""
        return replace(self, window=fitted_window(self.window, median_shape, self.divisors))

    def fit_settings(self) -> FitSettings:
        """Return what the training loop needs to know."""
        from uptake.training.protocol import FitSettings

        return FitSettings(
            self.steps, self.epoch_steps, self.validation_batches, self.clip_norm, accumulate=self.accumulate
        )

    def batch_rules(self, spacing_mm: Vector3) -> BatchRules:
        """Return how training batches are drawn on a grid of `spacing_mm` (z, y, x)."""
        from uptake.sampling.batches import BatchRules

        return BatchRules(
            self.window, self.batch_size, self.foreground_share, self.channels, spacing_mm, self.augment, self.seed
        )


DEPARTURES: Mapping[str, Mapping[str, Any]] = {
    "organ-ids": {"organs": classes_of("lesiontracer")},
    "pet-scale": {"normalisation": ("clip_zscore", "asinh")},
    "low-resolution": {"augment": {"low_resolution_p": 0.25}},
    "ct-dropout": {"augment": {"ct_dropout_p": 0.15}},
    "millimetres": {"augment": {"in_mm": True}},
    "body-windows": {"focus": True},
}
"""Name -> fields of `Config` (and of its `augment`) in which the preset `best` departs from `published`.

organ-ids: both parotids and both submandibular glands, not the published slip. pet-scale: asinh(SUV) instead of
clipping at lesion percentiles, which makes one value of all physiological uptake below SUV 1. low-resolution: the
augmentation as it was meant. ct-dropout: the same weights read PET without CT. millimetres: rotations, that of the
misalignment too, are rigid in the body. body-windows: inference windows are laid over the body alone.
"""


def build_network(config: Config) -> nn.Module:
    """Return the network, freshly initialised from ``config.seed``, for tensors (b, 2, z, y, x) in (CT, PET) order."""
    import torch

    from uptake.networks.unet import unet

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return unet(len(config.channels), len(config.labels), **_shape(config))


def _shape(config: Config) -> dict[str, Any]:
    """Return the network's shape as `unet` and `unet_graph` take it."""
    return {
        "features": config.features,
        "blocks": config.blocks,
        "encoder": config.encoder,
        "kernels": config.kernels,
        "strides": config.strides,
        "decoder_convs": config.decoder_convs,
        "conv_bias": config.conv_bias,
        "organ_channels": len(config.organs),
    }


def graph(weights: Weights, config: Config, *, organs: bool = False) -> Any:
    """Return the network for one window as an OpenVINO model, made of its weights without torch.

    Parameters
    ----------
    weights : Weights
        Named as `build_network`'s state.
    config : Config
    organs : bool
        Give the organ logits too, after the lesions'.

    Raises
    ------
    CheckpointError
        If a weight is missing, left over or of another shape.
    """
    from uptake.inference.unet_graph import unet_graph

    sizes = len(config.channels), len(config.labels)
    return unet_graph(weights.arrays, *sizes, window=config.window, organs=organs, **_shape(config))


def build_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Return the optimiser over all parameters."""
    return optimiser(
        network.parameters(),
        config.optimiser,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )


def learning_rate(step: int, config: Config) -> float:
    """Return the rate of step `step`."""
    if config.schedule == "poly":
        return poly(step, config.steps, initial=config.learning_rate, epoch_steps=config.epoch_steps)
    return warmup_cosine(step, config.steps, initial=config.learning_rate)


def training_step(network: nn.Module, batch: Batch, config: Config) -> torch.Tensor:
    """Return the loss of one batch.

    Parameters
    ----------
    network : nn.Module
        With deep supervision on.
    batch : Batch
        Its label maps (b, m, z, y, x) are lesions and, with organ heads, organ classes: `losses.IGNORED` where a case
        has no organ map.
    config : Config

    Notes
    -----
    Both families of heads have the same loss and equal weight, as published: a smaller weight for organs gave the paper
    a slightly better lesion Dice, but more false positives and false negatives.
    """
    from uptake.training.losses import deeply_supervised

    labels = batch.labels
    if not config.organs:
        return deeply_supervised(network(batch.channels), labels[:, 0], smooth=config.dice_smooth)
    lesions, organs = network(batch.channels, organs=True)
    lesion_loss = deeply_supervised(lesions, labels[:, 0], smooth=config.dice_smooth)
    return lesion_loss + config.organ_weight * deeply_supervised(organs, labels[:, 1], smooth=config.dice_smooth)


def predict(
    networks: Sequence[nn.Module | Weights],
    case: HarmonisedCase,
    config: Config,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | str = "float32",
    engine: str = "torch",
    skip_air: bool = True,
    batch_size: int = 1,
    organs: bool = False,
    finished: Finished | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Return the logits (labels, z, y, x) on the model grid; labels are background and lesion where published.

    Parameters
    ----------
    networks : sequence of nn.Module or Weights
        The folds; their logits are averaged with equal weights before anything else, as published. Weights go with
        "openvino", and then torch is not loaded.
    case : HarmonisedCase
    config : Config
        `tile_step` and `mirror_axes` are used.
    device : torch.device, optional
    dtype : torch.dtype or str
        Of the convolutions; sums are float32.
    engine : str
        "torch", or "openvino" on CPUs (`inference.compiled`).
    skip_air : bool
        Do not compute windows without body.
    batch_size : int
        Windows at a time.
    organs : bool
        Give the logits of the organ heads too, where the network has them: from the same pass, at no further cost but
        memory.
    finished : callable, optional
        Takes the logits stretch by stretch (`inference.sliding_window`); the prediction then has none.
    on_window : callable, optional
        Told (done, all).
    """
    organ_classes = len(config.organs) if organs else 0
    rules = WindowRules(
        config.window,
        config.tile_step,
        config.mirror_axes,
        (2 * config.divisors[0], 2 * config.divisors[1], 2 * config.divisors[2]),
        focus=config.focus,
        layers=config.transpose.index(0),
    )
    return predict_windows(
        networks,
        case,
        rules,
        labels=len(config.labels),
        organs=organ_classes,
        form="lesions and organs" if organ_classes else "lesions",
        # Only the finest logits are wanted; networks are copied shallowly, so that the caller's stay as they are.
        view=partial(_view, config=config, organs=bool(organ_classes)),
        device=device,
        dtype=dtype,
        engine=engine,
        skip_air=skip_air,
        batch_size=batch_size,
        finished=finished,
        on_window=on_window,
    )


def single(network: nn.Module, config: Config, *, organs: bool = False) -> nn.Module:
    """Return the network, weights shared, as one that gives one tensor: its finest logits, of one head or both.

    Parameters
    ----------
    network : nn.Module
        From `build_network`; it stays as it is.
    config : Config
    organs : bool
        Give the organ logits too, after the lesions'.
    """
    from uptake.networks.unet import BothHeads, finest_only

    finest = finest_only(network)
    return BothHeads(finest).eval() if organs else finest


def _view(network: nn.Module | Weights, *, config: Config, organs: bool) -> Any:
    """Return what runs a window: a network of one tensor, or of weights the graph to compile."""
    if isinstance(network, Weights):
        return graph(network, config, organs=organs)
    return single(network, config, organs=organs)
