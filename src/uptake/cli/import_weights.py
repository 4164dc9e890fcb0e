"""uptake import-weights"""

from __future__ import annotations

from pathlib import Path

from uptake.cli.console import say
from uptake.cli.options import Out, Switch
from uptake.core.errors import UsageError


def import_weights(
    model_folder: Path,
    /,
    *,
    out: Out,
    name: str | None = None,
    channels: str | None = None,
    orientation: str | None = None,
    folds: str | None = None,
    checkpoint: str = "final",
    stem: str | None = None,
    labels: str | None = None,
    spacing: float | None = None,
    licence: str = "not stated",
    half: Switch = False,
) -> None:
    """Turn an nnU-Net v2 model folder, or a checkpoint file of a published method, into a bundle. Nothing in it is run.

    Parameters
    ----------
    model_folder
        Results folder Trainer__Plans__Configuration with plans.json, dataset.json and fold_*; or one checkpoint file
        (.pth) of SAM-Med3D or SegAnyPET, which becomes a promptable model, or of the masked autoencoder of PET/CT,
        which becomes a start for training.
    out
        Bundle folder.
    name
        Of the model; by default that of OUT.
    channels
        Order of the network's inputs, "ct,pet" or "pet,ct" or "pet"; by default read from dataset.json.
    orientation
        Axes of the training data: LAS, RAS, ..., or "stored": as each file has them, as nnU-Net reads; by default LAS
        for LesionTracer, else stored.
    folds
        Which, "0,1,2,3,4" or "all"; by default every fold in the folder.
    checkpoint
        final, best or latest.
    stem
        Of a multi-dataset pretraining checkpoint: the dataset id whose first layer is taken.
    labels
        Names in place of those of dataset.json: 1=lesion,2=liver, or a JSON or CSV file. A label is a lesion by its
        name; every other one is an organ.
    spacing
        Voxel size in mm that a promptable model sees; by default 1.5.
    licence
        Of the weights, for the card.
    half
        Store float16: half the size.
    """
    if model_folder.is_file() and labels is not None:
        raise UsageError("--labels names the labels of an nnU-Net folder; a promptable model or an encoder has none.")
    if model_folder.is_file():
        from uptake.workflows.import_mae import is_mae_checkpoint
        from uptake.zoo.restricted import load_restricted

        if is_mae_checkpoint(load_restricted(model_folder)):
            _import_mae(model_folder, out, name, licence, half, channels, orientation, folds, stem, spacing)
            return
        _import_promptable(model_folder, out, name, spacing, licence, half, channels, orientation, folds, stem)
        return
    if spacing is not None:
        raise UsageError("--spacing goes with a promptable model's file; an nnU-Net folder states its own.")
    from uptake.workflows.import_weights import import_weights as run
    from uptake.workflows.label_table import given_labels

    found = run(
        model_folder,
        out,
        name=name,
        channels=None if channels is None else [word.strip() for word in channels.split(",")],
        orientation=orientation,
        folds=None if folds is None else [word.strip() for word in folds.split(",")],
        checkpoint=checkpoint,
        stem=stem,
        labels=None if labels is None else given_labels(labels).numbers(),
        licence=licence,
        stored_as="float16" if half else "float32",
    )
    card = found.card
    say(f"{card.name}: {card.summary}")
    say(f"  labels: {', '.join(card.labels)}")
    for note in found.notes:
        say(f"  note: {note}")
    say(
        f"\nBundle: {found.bundle}"
        + ("" if card.role != "model" else f"\nUse it:  uptake segment STUDY -o OUT -m {found.bundle}")
    )


def _import_promptable(
    file: Path, out: Path, name: str | None, spacing: float | None, licence: str, half: bool, *of_folders: str | None
) -> None:
    """Import one checkpoint file; options that describe an nnU-Net folder are refused."""
    if any(option is not None for option in of_folders):
        raise UsageError(
            "--channels, --orientation, --folds and --stem describe an nnU-Net folder, no promptable file."
        )
    from uptake.workflows.import_promptable import import_promptable as run

    found = run(
        file,
        out,
        name=name,
        spacing_mm=1.5 if spacing is None else spacing,
        licence=licence,
        stored_as="float16" if half else "float32",
    )
    say(f"{found.card.name}: {found.card.summary}")
    for note in found.notes:
        say(f"  note: {note}")
    say(f"\nBundle: {found.bundle}\nUse it:  uptake.Session({str(found.bundle)!r}) in Python")


def _import_mae(file: Path, out: Path, name: str | None, licence: str, half: bool, *others: object) -> None:
    """Import one checkpoint file of masked pretraining; options that describe other files are refused."""
    if any(option is not None for option in others):
        raise UsageError(
            "--channels, --orientation, --folds, --stem and --spacing do not go with a checkpoint of masked "
            "pretraining, which states all that."
        )
    from uptake.workflows.import_mae import import_mae as run

    found = run(file, out, name=name, licence=licence, stored_as="float16" if half else "float32")
    say(f"{found.card.name}: {found.card.summary}")
    for note in found.notes:
        say(f"  note: {note}")
    say(f"\nBundle: {found.bundle}\nUse it:  uptake finetune DATASET -o OUT --init {found.bundle}")
