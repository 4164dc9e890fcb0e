"""Small nnU-Net v2 model folders, made as nnU-Net lays them out, for the tests of import and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uptake.networks.unet import unet

FEATURES, BLOCKS = [4, 8, 8], [1, 1, 2]


def network(seed: int = 0, *, organs: int = 0, encoder: str = "residual", labels: int = 2, inputs: int = 2) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = unet(inputs, labels, features=FEATURES, blocks=BLOCKS, encoder=encoder, organ_channels=organs)
        # The last norm of a residual block starts at zero; trained ones are not.
        for parameter in built.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.3) if parameter.ndim == 1 else None
        with torch.no_grad():
            head = built.decoder.seg_layers[-1]
            logits = built.eval()(torch.randn(1, inputs, 16, 16, 16))[0]
            # Every label wins somewhere.
            head.bias -= logits.flatten(2).median(dim=2).values[0]
        return built


def plans(*, encoder: str = "residual", old: bool = False, inputs: int = 2, **changes: Any) -> dict[str, Any]:
    spline = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration: dict[str, Any] = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 16, 16],
        "median_image_size_in_voxels": [10.0, 20.0, 20.0],
        "spacing": [4.0, 3.0, 3.0],
        "normalization_schemes": ["CTNormalization"] * inputs,
        "use_mask_for_norm": [False] * inputs,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": spline,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**spline, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**spline, "order": 1},
        "batch_dice": False,
    }
    kind = "ResidualEncoderUNet" if encoder == "residual" else "PlainConvUNet"
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    if old:
        configuration |= {
            "UNet_class_name": kind,
            "UNet_base_num_features": 4,
            "unet_max_num_features": 8,
            "n_conv_per_stage_encoder": BLOCKS,
            "n_conv_per_stage_decoder": [1, 1],
            "num_pool_per_axis": [2, 2, 2],
            "pool_op_kernel_sizes": strides,
            "conv_kernel_sizes": [[3, 3, 3]] * 3,
        }
    else:
        configuration["architecture"] = {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": FEATURES,
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * 3,
                "strides": strides,
                ("n_blocks_per_stage" if encoder == "residual" else "n_conv_per_stage"): BLOCKS,
                "n_conv_per_stage_decoder": [1, 1],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    properties = {
        "0": {"max": 900.0, "mean": 25.0, "median": 32.0, "min": -1000.0, "std": 70.0}
        | {"percentile_00_5": -216.0, "percentile_99_5": 117.0},
        "1": {"max": 30.0, "mean": 4.2, "median": 2.9, "min": 0.01, "std": 3.8}
        | {"percentile_00_5": 0.2, "percentile_99_5": 20.0},
    }
    result: dict[str, Any] = {
        "dataset_name": "Dataset777_Toy",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner",
        "original_median_spacing_after_transp": [4.0, 3.0, 3.0],
        "original_median_shape_after_transp": [10, 20, 20],
        "foreground_intensity_properties_per_channel": properties,
        "configurations": {"3d_fullres": configuration},
    }
    for key, value in changes.items():
        if key in result:
            result[key] = value
        else:
            configuration[key] = value
    return result


def write(
    root: Path,
    *,
    networks: dict[str, Any] | None = None,
    plan: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    configuration: str = "3d_fullres",
    weights: dict[str, Any] | None = None,
) -> Path:
    """Write a results folder and return it."""
    plan = plan or plans()
    folder = root / "Dataset777_Toy" / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    folder.mkdir(parents=True)
    dataset = dataset or {
        "channel_names": {"0": "CT", "1": "CT"},
        "labels": {"background": 0, "tumor": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (folder / "plans.json").write_text(json.dumps(plan))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for fold, one in (networks or {"0": network()}).items():
        (folder / f"fold_{fold}").mkdir()
        content = {
            "network_weights": weights or one.state_dict(),
            "optimizer_state": {"state": {}, "param_groups": []},
            "grad_scaler_state": None,
            # nnU-Net's log holds NumPy scalars.
            "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)], "epoch": [np.int64(1)]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 20,
            "init_args": {
                "plans": plan,
                "configuration": configuration,
                "fold": fold,
                "dataset_json": dataset,
                "device": torch.device("cpu"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
