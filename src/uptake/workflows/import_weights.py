"""Weights that others trained -> a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uptake import __version__
from uptake.core.anatomy import classes_of
from uptake.core.errors import CheckpointError, ModelError, UsageError
from uptake.core.types import Shape3, Vector3
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.plan import AS_STORED, Plan
from uptake.io.write import require_writable
from uptake.methods import lesiontracer
from uptake.methods.lesiontracer import Config
from uptake.networks.unet import is_head, load_unique_state, mismatches
from uptake.sampling.augment import AugmentRules
from uptake.workflows.findings import sorted_labels
from uptake.zoo import nnunet
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

PUBLISHED_ORGANS = classes_of("lesiontracer-published")
"""Organ heads of the published LesionTracer weights. The last is both parotids, the right submandibular gland and the
right optic nerve: an index slip of the published labels, kept by name because the weights learned it."""

LESION_WORDS = ("lesion", "lesions", "tumor", "tumour", "tumors", "cancer", "malignancy")

NORMALISATIONS = {
    "CTNormalization": "clip_zscore",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "unchanged",
    "RescaleTo01Normalization": "rescale_0_1",
}

NETWORKS = {"ResidualEncoderUNet": "residual", "PlainConvUNet": "plain"}

RESAMPLING = "resample_data_or_seg_to_shape"

LOWEST_SUV = -20.0
"""No PET is negative by this much, and any CT of lesions reaches below 0 HU (fat, air)."""


@dataclass(frozen=True)
class Imported:
    """What `import_weights` made.

    Attributes
    ----------
    bundle : Path
    card : Card
    notes : tuple of str
        What was inferred, in plain words.
    """

    bundle: Path
    card: Card
    notes: tuple[str, ...]


def import_weights(
    source: Path | str,
    out: Path | str,
    *,
    name: str | None = None,
    channels: Sequence[str] | None = None,
    orientation: str | None = None,
    folds: Sequence[str] | None = None,
    checkpoint: str = "final",
    stem: str | None = None,
    labels: Mapping[int, str] | None = None,
    licence: str = "not stated",
    cite: str = "",
    doi: str = "",
    stored_as: str = "float32",
) -> Imported:
    """Turn an nnU-Net v2 model folder, or a multi-dataset pretraining checkpoint, into a bundle.

    Parameters
    ----------
    source : Path
        Results folder ``Trainer__Plans__Configuration`` (or a folder above one), with plans.json, dataset.json and
        fold_*.
    out : Path
        Bundle folder.
    name : str, optional
        Of the model; by default that of `out`.
    channels : sequence of str, optional
        "ct" and "pet" in the network's order. By default read from dataset.json; two channels both called CT are taken
        as CT, PET (the PET/CT convention of nnU-Net users) if their intensities bear it out.
    orientation : str, optional
        Which way the model's axes point, or "stored": as the file has them, as nnU-Net reads. By default "LAS" for
        LesionTracer (all of its training data is LAS), else "stored".
    folds : sequence of str, optional
        By default every fold in the folder.
    checkpoint : str
        "final", "best" or "latest".
    stem : str, optional
        Of a multi-dataset pretraining checkpoint: which dataset's first convolution. LesionTracer took "221", the
        two-channel CT and PET stem.
    labels : mapping of int to str, optional
        Names in place of those of dataset.json, by label value. `segment` takes a label for a lesion by its name
        (`workflows.findings.LESION_WORDS`), every other one for an organ.
    licence, cite, doi : str
        Of the weights, for the card.
    stored_as : str
        "float32", or "float16" for half the size.

    Raises
    ------
    CheckpointError
        If files are missing or damaged, or plans and weights disagree.
    ModelError
        If the model is of a kind that cannot be run here; the kind is named.
    """
    out = Path(out)
    require_writable(out.parent)
    found = nnunet.read_model_folder(Path(source), folds=folds, checkpoint=checkpoint)
    first = next(iter(found.states.values()))
    pretrained = nnunet.stems(first)
    states: dict[str, nnunet.State] = dict(found.states)
    notes: list[str] = []
    if pretrained:
        stem = _stem(pretrained, stem)
        states = {fold: nnunet.with_stem(state, stem) for fold, state in states.items()}
        inputs = pretrained[stem]
        notes.append(
            f"Stem {stem} of {len(pretrained)}; heads are left out: this bundle starts training, it is no model."
        )
    elif stem is not None:
        raise UsageError(f"--stem {stem}: the checkpoint has one stem only; leave the option out.")
    else:
        inputs = (
            int(first["encoder.stem.convs.0.conv.weight"].shape[1])
            if "encoder.stem.convs.0.conv.weight" in first
            else _inputs(found)
        )
    configuration = nnunet.resolved_configuration(found.plans, found.configuration)
    _require_supported(configuration, found)
    is_lesiontracer = any(".organ_seg_layers." in key for key in first)
    if orientation is None:
        orientation = "LAS" if is_lesiontracer else AS_STORED
        notes.append(
            "Orientation LAS, that of LesionTracer's training data."
            if is_lesiontracer
            else "Axes are taken as each file stores them, as nnU-Net does: give scans in the orientation of the "
            "training data, or name that orientation (--orientation)."
        )
    rules = _rules(configuration, found, inputs, channels, notes)
    names = lesiontracer.LABELS if pretrained else _renamed(_labels(found.dataset), labels or {})
    if not pretrained:
        notes += _kinds(names)
    config = _config(configuration, found, rules, names, first, orientation)
    plan = Plan(
        tuple(rules),
        config.spacing_mm or (1.0, 1.0, 1.0),
        orientation,
        image_order=int(configuration["resampling_fn_data_kwargs"]["order"]),
        logits_order=int(configuration["resampling_fn_probabilities_kwargs"]["order"]),
        transpose=config.transpose,
        separate_z=True,
    )
    _require_fit(config, states, bool(pretrained), found)
    card = Card(
        name=name or out.name,
        version="1",
        summary="Imported from nnU-Net: "
        f"{found.plans.get('dataset_name', '?')}, {found.trainer}, {found.configuration}.",
        method=lesiontracer.NAME,
        config=config.as_json(),
        plan=plan.as_json(),
        labels=list(names),
        needs=list(dict.fromkeys(["pet", *(rule.name for rule in rules)])),
        accepts=["pet", "ct"],
        suv="SUV by body weight, g/mL",
        training={
            "data": str(found.plans.get("dataset_name", "?")),
            "cases": found.dataset.get("numTraining", "?"),
            "epochs": found.epochs,
            "trainer": found.trainer,
            **({"cite": cite} if cite else {}),
            **({"doi": doi} if doi else {}),
        },
        scores=[],
        limits=["Imported weights: no score of ours stands behind them; check them on cases you know."],
        licence=licence,
        files={},
        stored_as=stored_as,
        package_version=__version__,
        role="initialisation" if pretrained else "model",
        origin={
            "kind": "nnU-Net v2",
            "trainer": found.trainer,
            "configuration": found.configuration,
            "mirror_axes": list(found.mirror_axes),
            "plans": dict(found.plans),
            "dataset": dict(found.dataset),
        },
    )
    card = save_bundle(card, states, out)
    return Imported(out, card, tuple(notes))


def _stem(there: Mapping[str, int], wanted: str | None) -> str:
    if wanted is None:
        listed = ", ".join(f"{key} ({count} channel{'s' * (count > 1)})" for key, count in there.items())
        raise UsageError(
            f"a multi-dataset pretraining checkpoint; choose one of its stems with --stem: {listed}. "
            "LesionTracer took 221 (CT and PET)."
        )
    if wanted not in there:
        raise UsageError(f"--stem {wanted}: the checkpoint has {', '.join(there)}.")
    return wanted


def _inputs(found: nnunet.ModelFolder) -> int:
    return len(found.dataset.get("channel_names") or found.dataset.get("modality") or ())


def _require_supported(configuration: Mapping[str, Any], found: nnunet.ModelFolder) -> None:
    kind, arguments = nnunet.architecture(configuration)
    where = f"{found.folder}: configuration {found.configuration}"
    if kind not in NETWORKS:
        raise ModelError(f"{where} is a {kind}; networks read here are {', '.join(NETWORKS)}.")
    if len(configuration["patch_size"]) != 3:
        raise ModelError(f"{where} is two-dimensional; only 3-D networks are read.")
    if configuration.get("previous_stage"):
        raise ModelError(f"{where} is the second stage of a cascade, which needs the first one's output; not read.")
    if arguments.get("dropout_op"):
        raise ModelError(f"{where} has dropout layers ({arguments['dropout_op']}); not read.")
    for part in ("data", "probabilities"):
        function = configuration.get(f"resampling_fn_{part}", RESAMPLING)
        if function != RESAMPLING:
            raise ModelError(f"{where} resamples by {function}; only {RESAMPLING} is read.")
    if found.dataset.get("regions_class_order"):
        raise ModelError(f"{where} was trained on overlapping regions (regions_class_order); only labels are read.")
    norm = arguments.get("norm_op_kwargs") or {"eps": 1e-5, "affine": True}
    if norm.get("affine") is not True or abs(float(norm.get("eps", 1e-5)) - 1e-5) > 1e-12:
        raise ModelError(f"{where} has instance norms with {norm}; only affine ones with eps 1e-5 are read.")


def _labels(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """Return class names by label value, TotalSegmentator's word for lesions put in; the ignore label is no class."""
    given = {str(name): value for name, value in dict(dataset.get("labels") or {}).items() if str(name) != "ignore"}
    if any(isinstance(value, list | tuple) for value in given.values()):
        raise ModelError("the model was trained on overlapping regions; only plain labels are read.")
    by_value = {int(value): name for name, value in given.items()}
    if sorted(by_value) != list(range(len(by_value))) or len(by_value) < 2:
        raise CheckpointError(f"dataset.json: labels {given} are not consecutive from background 0.")
    names = ["background", *(by_value[value] for value in range(1, len(by_value)))]
    foreground = names[1:]
    as_lesion = [word for word in foreground if word.lower() in LESION_WORDS]
    if len(as_lesion) == 1:
        names[names.index(as_lesion[0])] = "lesion"
    return tuple(names)


def _renamed(names: tuple[str, ...], given: Mapping[int, str]) -> tuple[str, ...]:
    unknown = [value for value in given if not 0 < value < len(names)]
    if unknown:
        listed = ", ".join(f"{value} {name}" for value, name in enumerate(names) if value)
        raise UsageError(f"--labels names label {unknown[0]}; the model has {listed}.")
    renamed = tuple(given.get(value, name) for value, name in enumerate(names))
    if len(set(renamed)) < len(renamed):
        raise UsageError(f"--labels gives one name to several labels: {', '.join(renamed[1:])}.")
    return renamed


def _kinds(names: tuple[str, ...]) -> list[str]:
    """Return what `segment` will take the labels for, where it is not lesions alone."""
    lesions, others = sorted_labels(names)
    if not others:
        return []
    listed = ", ".join(others.values())
    if not lesions:
        return [
            f"No label is called a lesion: segment writes {listed} as organs. If one is, name it (--labels 1=lesion)."
        ]
    return [f"Lesions: {', '.join(lesions.values())}. Organs and other regions: {listed}."]


def _rules(
    configuration: Mapping[str, Any],
    found: nnunet.ModelFolder,
    inputs: int,
    channels: Sequence[str] | None,
    notes: list[str],
) -> list[ChannelRule]:
    schemes = list(configuration["normalization_schemes"])
    masked = list(configuration.get("use_mask_for_norm") or [False] * len(schemes))
    properties = found.plans.get("foreground_intensity_properties_per_channel") or found.plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    if len(schemes) != inputs:
        raise CheckpointError(
            f"{found.folder}: plans.json normalises {len(schemes)} channels, the weights take {inputs}; they do not "
            "belong together."
        )
    unknown = [scheme for scheme in schemes if scheme not in NORMALISATIONS]
    if unknown:
        raise ModelError(
            f"{found.folder}: normalisation {unknown[0]} is not read; known are {', '.join(NORMALISATIONS)}."
        )
    names = _channel_names(found, inputs, channels, properties, notes)
    rules = []
    for index, (channel, scheme, inside) in enumerate(zip(names, schemes, masked, strict=True)):
        values = properties.get(str(index)) or {}
        if NORMALISATIONS[scheme] == "clip_zscore" and not values:
            raise CheckpointError(f"{found.folder}: plans.json has no intensity properties for channel {index}.")
        rules.append(
            ChannelRule(
                channel,
                NORMALISATIONS[scheme],
                float(values.get("percentile_00_5", 0.0)),
                float(values.get("percentile_99_5", 0.0)),
                float(values.get("mean", 0.0)),
                float(values.get("std", 1.0)),
                inside_only=bool(inside),
            )
        )
    return rules


def _channel_names(
    found: nnunet.ModelFolder,
    inputs: int,
    channels: Sequence[str] | None,
    properties: Mapping[str, Any],
    notes: list[str],
) -> tuple[str, ...]:
    given = found.dataset.get("channel_names") or found.dataset.get("modality") or {}
    words = [str(given.get(str(index), "")) for index in range(inputs)]
    listed = ", ".join(f"{index} {word!r}" for index, word in enumerate(words))
    if channels is not None:
        names = tuple(str(channel).lower() for channel in channels)
        if len(names) != inputs or any(name not in ("ct", "pet") for name in names) or len(set(names)) != inputs:
            raise UsageError(
                f"--channels {','.join(names)}: the model takes {inputs} ({listed}); name ct and pet, once each."
            )
    elif inputs == 2 and len(set(word.lower() for word in words)) == 1:
        names = ("ct", "pet")
        notes.append(f"Both channels are called {words[0]!r}; taken as CT, then PET, the convention for PET/CT.")
    else:
        guessed = tuple(_channel_of(word) for word in words)
        if "" in guessed or len(set(guessed)) != inputs:
            raise UsageError(
                f"{found.folder}: which channels are CT and PET is not plain from {listed}; say --channels ct,pet."
            )
        names = guessed
    lowest = {name: (properties.get(str(index)) or {}).get("min") for index, name in enumerate(names)}
    if None not in lowest.values() and lowest.get("ct", -1.0) >= 0.0 and lowest.get("pet", 0.0) < LOWEST_SUV:
        raise ModelError(
            f"{found.folder}: read as {', '.join(names)}, but inside the training lesions the PET would start at "
            f"{lowest['pet']:g} and the CT at {lowest['ct']:g}: the channels are the other way round; say so with "
            "--channels."
        )
    return names


def _channel_of(word: str) -> str:
    text = word.lower()
    if "pet" in text or "suv" in text:
        return "pet"
    return "ct" if "ct" in text else ""


def _config(
    configuration: Mapping[str, Any],
    found: nnunet.ModelFolder,
    rules: Sequence[ChannelRule],
    labels: tuple[str, ...],
    state: Mapping[str, torch.Tensor],
    orientation: str,
) -> Config:
    kind, arguments = nnunet.architecture(configuration)
    organ_heads = [tensor for key, tensor in state.items() if ".organ_seg_layers." in key and tensor.ndim == 5]
    organs: tuple[str, ...] = ()
    if organ_heads:
        count = int(organ_heads[0].shape[0])
        organs = (
            PUBLISHED_ORGANS
            if count == len(PUBLISHED_ORGANS)
            else ("background", *(f"organ_{n}" for n in range(1, count)))
        )
    try:
        return Config(
            preset="imported",
            channels=tuple(rule.name for rule in rules),
            normalisation=tuple(rule.scheme for rule in rules),
            orientation=orientation,
            spacing_mm=_vector(configuration["spacing"]),
            window=_shape(configuration["patch_size"]),
            transpose=_shape(found.plans.get("transpose_forward", (0, 1, 2))),
            labels=labels,
            organs=organs,
            encoder=NETWORKS[kind],
            features=tuple(arguments["features_per_stage"]),
            blocks=_per_stage(arguments.get("n_blocks_per_stage", arguments.get("n_conv_per_stage")), arguments),
            kernels=tuple(_shape(kernel) for kernel in arguments["kernel_sizes"]),
            strides=tuple(_shape(stride) for stride in arguments["strides"]),
            decoder_convs=_per_stage(arguments["n_conv_per_stage_decoder"], arguments, decoder=True),
            conv_bias=bool(arguments.get("conv_bias", True)),
            batch_size=int(configuration.get("batch_size", 2)),
            augment=AugmentRules(),
            mirror_axes=found.mirror_axes,
        )
    except KeyError as error:
        raise CheckpointError(f"{found.folder}: plans.json says nothing of {error.args[0]!r}.") from error
    except UsageError as error:
        raise CheckpointError(f"{found.folder}: plans.json makes no network: {error}") from error


def _per_stage(value: Any, arguments: Mapping[str, Any], *, decoder: bool = False) -> tuple[int, ...]:
    count = len(arguments["features_per_stage"]) - int(decoder)
    return (int(value),) * count if isinstance(value, int) else tuple(int(n) for n in value)


def _shape(values: Any) -> Shape3:
    a, b, c = (int(v) for v in (values if not isinstance(values, int) else (values,) * 3))
    return a, b, c


def _vector(values: Any) -> Vector3:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _require_fit(
    config: Config, states: Mapping[str, nnunet.State], heads_left_out: bool, found: nnunet.ModelFolder
) -> None:
    network = lesiontracer.build_network(config)
    for fold, state in states.items():
        wrong = mismatches(network, state)
        if heads_left_out:
            wrong = [line for line in wrong if not is_head(line)]
        if wrong:
            raise CheckpointError(
                f"{found.folder}: the weights of fold {fold} are not those of the network in plans.json: "
                f"{'; '.join(wrong[:3])}{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}."
            )
        if not heads_left_out:
            load_unique_state(network, state)
