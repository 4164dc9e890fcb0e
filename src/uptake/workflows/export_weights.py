"""A bundle -> an nnU-Net v2 model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uptake.core.errors import ModelError
from uptake.harmonise.plan import AS_STORED, Plan
from uptake.io.write import require_writable, write_json
from uptake.methods.lesiontracer import NAME, Config
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.import_weights import NETWORKS, NORMALISATIONS, RESAMPLING
from uptake.zoo import nnunet
from uptake.zoo.cards import Card


def export_weights(model: str | Path | Bundle, out: Path | str) -> Path:
    """Write a bundle as an nnU-Net v2 model folder that nnU-Net's own predictor takes.

    Parameters
    ----------
    model : str, Path or Bundle
    out : Path
        Receives ``Dataset/Trainer__Plans__Configuration/`` with plans.json, dataset.json and fold_k.

    Returns
    -------
    Path
        The model folder.

    Raises
    ------
    ModelError
        If nnU-Net has no name for something the model does (its normalisation, say).
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    card, config, plan = bundle.card, bundle.config, bundle.plan
    if card.role != "model":
        raise ModelError(
            f"{card.name}: is an initialisation without heads; there is nothing for nnU-Net to predict with."
        )
    if card.method != NAME:
        raise ModelError(f"{card.name}: is a model of {card.method}, a network that nnU-Net's predictor does not know.")
    origin = card.origin if card.origin.get("kind") == "nnU-Net v2" else {}
    plans = dict(origin.get("plans") or _plans_of(card, config, plan))
    dataset = dict(origin.get("dataset") or _dataset_of(card, config))
    configuration = str(origin.get("configuration") or "3d_fullres")
    trainer = str(origin.get("trainer") or "nnUNetTrainer")
    folder = Path(out) / str(plans["dataset_name"]) / f"{trainer}__{plans['plans_name']}__{configuration}"
    require_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(plans, folder / "plans.json")
    write_json(dataset, folder / "dataset.json")
    init = {"plans": plans, "configuration": configuration, "dataset_json": dataset}
    for fold in bundle.states:
        nnunet.write_checkpoint(
            folder / f"fold_{fold}" / nnunet.CHECKPOINTS["final"],
            bundle.network(fold),
            {
                "init_args": {**init, "fold": fold},
                "trainer_name": trainer,
                "inference_allowed_mirroring_axes": tuple(config.mirror_axes),
            },
        )
    return folder


def _plans_of(card: Card, config: Config, plan: Plan) -> dict[str, Any]:
    """Return plans.json of a bundle that was trained here."""
    back = {ours: theirs for theirs, ours in NORMALISATIONS.items()}
    strange = [rule.scheme for rule in plan.channels if rule.scheme not in back]
    if strange:
        raise ModelError(
            f"{card.name}: normalises by {strange[0]!r}, for which nnU-Net has no name; masks would differ."
        )
    if plan.orientation != AS_STORED:
        card_note = f"scans must be given to nnU-Net in {plan.orientation}: it does not turn them"
    else:
        card_note = "axes as stored"
    stages = len(config.features)
    spline = {
        "is_seg": False,
        "order": plan.image_order,
        "order_z": 0,
        "force_separate_z": None if plan.separate_z else False,
    }
    depth = "n_blocks_per_stage" if config.encoder == "residual" else "n_conv_per_stage"
    kind = {ours: theirs for theirs, ours in NETWORKS.items()}[config.encoder]
    levels = (
        config.decoder_convs if not isinstance(config.decoder_convs, int) else (config.decoder_convs,) * (stages - 1)
    )
    return {
        "dataset_name": f"Dataset999_{card.name}",
        "plans_name": "uptakePlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(plan.transpose),
        "transpose_backward": [plan.transpose.index(axis) for axis in range(3)],
        "label_manager": "LabelManager",
        "experiment_planner_used": "uptake",
        "note": card_note,
        "foreground_intensity_properties_per_channel": {
            str(index): {
                "percentile_00_5": rule.lower,
                "percentile_99_5": rule.upper,
                "mean": rule.mean,
                "std": rule.std,
                "min": rule.lower,
                "max": rule.upper,
                "median": rule.mean,
            }
            for index, rule in enumerate(plan.channels)
        },
        "configurations": {
            "3d_fullres": {
                "data_identifier": "uptakePlans_3d_fullres",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": config.batch_size,
                "patch_size": list(config.window),
                "median_image_size_in_voxels": list(config.window),
                "spacing": list(plan.spacing_mm),
                "normalization_schemes": [back[rule.scheme] for rule in plan.channels],
                "use_mask_for_norm": [rule.inside_only for rule in plan.channels],
                "resampling_fn_data": RESAMPLING,
                "resampling_fn_data_kwargs": spline,
                "resampling_fn_seg": RESAMPLING,
                "resampling_fn_seg_kwargs": {**spline, "is_seg": True, "order": 1},
                "resampling_fn_probabilities": RESAMPLING,
                "resampling_fn_probabilities_kwargs": {**spline, "order": plan.logits_order},
                "batch_dice": False,
                "architecture": {
                    "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
                    "arch_kwargs": {
                        "n_stages": stages,
                        "features_per_stage": list(config.features),
                        "conv_op": "torch.nn.modules.conv.Conv3d",
                        "kernel_sizes": [list(k) for k in config.kernels or ((3, 3, 3),) * stages],
                        "strides": [list(s) for s in config.strides or ((1, 1, 1), *((2, 2, 2),) * (stages - 1))],
                        depth: list(config.blocks),
                        "n_conv_per_stage_decoder": list(levels),
                        "conv_bias": config.conv_bias,
                        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                        "dropout_op": None,
                        "dropout_op_kwargs": None,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": {"inplace": True},
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                },
            }
        },
    }


def _dataset_of(card: Card, config: Config) -> dict[str, Any]:
    return {
        "channel_names": {str(index): name.upper() for index, name in enumerate(config.channels)},
        "labels": {name: index for index, name in enumerate(config.labels)},
        "numTraining": card.training.get("cases", 0),
        "file_ending": ".nii.gz",
    }
