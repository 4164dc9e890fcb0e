"""Options of everything that trains: train, pretrain, finetune, probe, label-curve."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

Precision = Annotated[str, Parameter(help="auto (bfloat16 where the device has it), 32-true, bf16-mixed, 16-mixed.")]
AssumeSuv = Annotated[bool, Parameter(negative="", help="Take every PET as SUV although its values say otherwise.")]
BundleName = Annotated[str | None, Parameter(help="Of the bundle.")]
Licence = Annotated[str, Parameter(help="Of the weights; written into the card.")]

# The network and the schedule, where a preset is changed.
BatchSize = Annotated[int | None, Parameter(help="Windows per step and device, instead of the preset's.")]
LearningRate = Annotated[float | None, Parameter(help="Instead of the preset's.")]
Window = Annotated[
    tuple[int, int, int] | None, Parameter(negative=(), help="(z, y, x) voxels, instead of the preset's.")
]
Spacing = Annotated[tuple[float, float, float] | None, Parameter(negative=())]
"""What is brought to the spacing differs, so each verb explains it."""
Features = Annotated[str | None, Parameter(help="Width of the network's stages: numbers with commas, finest first.")]
Blocks = Annotated[str | None, Parameter(help="Residual blocks of the stages: numbers with commas, finest first.")]
Seed = Annotated[int | None, Parameter(help="Of initialisation, windows and augmentation.")]

# Few labels: pretrained networks are tuned or asked.
Bundles = Annotated[list[str], Parameter(negative=())]
TunedBatchSize = Annotated[int | None, Parameter(help="Windows per step.")]
TunedLearningRate = Annotated[float | None, Parameter(help="Instead of the published one.")]
DrawnSplit = Annotated[
    Path | None,
    Parameter(help="JSON file with the lists train, validation, test; by default drawn by patient."),
]
SubsetSeed = Annotated[int, Parameter(help="Of the drawn split and of the subsets.")]
AllowOverlap = Annotated[bool, Parameter(negative="", help="Test even on scans that a network was pretrained on.")]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that the user named: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def hush_fabric() -> None:
    """Keep Lightning Fabric from announcing its precision; call it after the training was imported.

    Importing Fabric sets the level of its logger, so a call before that would be undone.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
