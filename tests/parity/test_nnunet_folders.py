"""Imported model folders give nnU-Net's masks, exported ones are taken by nnU-Net's predictor: whole road, float32."""

from __future__ import annotations

import importlib.util
import warnings
from functools import partial
from unittest import mock

import nnunet_folders as folders
import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("nnunetv2", reason="parity with nnU-Net needs the 'bench' extra")
    from nnunetv2.inference import predict_from_raw_data as predicting
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

from uptake.cases import Case
from uptake.geometry.volume import Volume
from uptake.workflows.export_weights import export_weights
from uptake.workflows.import_weights import import_weights
from uptake.workflows.segment import SegmentSettings, segment

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

AGREEMENT = 0.9995
"""Share of voxels that must be equal."""


def a_case(shape=(30, 26, 14), spacing=(3.0, 2.5, 4.0), empty_rim=0):
    rng = np.random.default_rng(0)
    pet = rng.gamma(1.0, 1.5, shape).astype(np.float32)
    ct = rng.normal(0, 80, shape).astype(np.float32)
    if empty_rim:
        inside = np.zeros(shape, dtype=bool)
        inside[(slice(empty_rim, -empty_rim),) * 3] = True
        pet[~inside] = 0
        ct[~inside] = 0
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    return Case("random", Volume(pet, affine), Volume(ct, affine))


def theirs(folder, case, folds=("0",)):
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_gaussian=True, use_mirroring=True, perform_everything_on_device=False,
        device=torch.device("cpu"), verbose=False, allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(str(folder), tuple(folds), "checkpoint_final.pth")
    image = np.stack([case.ct.array.transpose(2, 1, 0), case.pet.array.transpose(2, 1, 0)])
    spacing = [float(n) for n in case.pet.spacing_mm[::-1]]
    geometry = {"spacing": spacing[::-1], "origin": (0.0, 0.0, 0.0), "direction": np.eye(3).ravel().tolist()}
    with (  # nnU-Net adds windows up in half precision, which decides near-ties; here it must not
        mock.patch.object(torch, "half", torch.float32),
        mock.patch.object(predicting, "compute_gaussian", partial(compute_gaussian, dtype=torch.float32)),
    ):
        given = {"spacing": spacing, "sitk_stuff": geometry}
        found = predictor.predict_single_npy_array(image, given, None, None, False)
    return found.transpose(2, 1, 0)


def ours(bundle, case, engine="torch"):
    return segment(case, model=bundle, settings=SegmentSettings(precision="float32", engine=engine)).lesions.array


VARIANTS = {
    "residual": {},
    "plain": {"encoder": "plain"},
    "plans of old": {"old": True, "encoder": "plain"},
    "turned axes": {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2], "spacing": [2.5, 4.0, 3.0]},
    "axes in a circle": {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0], "spacing": [2.5, 5.0, 3.5]},
    "thick slices": {"spacing": [10.0, 3.0, 3.0]},
    "z-scores": {"normalization_schemes": ["ZScoreNormalization"] * 2},
    "z-scores of the inside": {"normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [True] * 2},
    "rescaled and unchanged": {"normalization_schemes": ["RescaleTo01Normalization", "NoNormalization"]},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_imported_folder_gives_nnunets_mask(tmp_path, variant):
    changes = VARIANTS[variant]
    network = folders.network(encoder=changes.get("encoder", "residual"))
    folder = folders.write(tmp_path, networks={"0": network}, plan=folders.plans(**changes))
    import_weights(folder, tmp_path / "bundle")
    case = a_case(empty_rim=2 if "inside" in variant else 0)
    expected, found = theirs(folder, case), ours(tmp_path / "bundle", case)
    assert 0.02 < expected.mean() < 0.98
    assert (found == expected).mean() >= AGREEMENT
    if importlib.util.find_spec("openvino") is not None:
        assert (ours(tmp_path / "bundle", case, "openvino") == expected).mean() >= AGREEMENT


def test_several_folds_and_thick_input_slices(tmp_path):
    networks = {"0": folders.network(0), "1": folders.network(1)}
    folder = folders.write(tmp_path, networks=networks)
    import_weights(folder, tmp_path / "bundle")
    case = a_case((40, 44, 10), (1.5, 1.5, 9.0))
    assert (ours(tmp_path / "bundle", case) == theirs(folder, case, ("0", "1"))).mean() >= AGREEMENT


def test_an_exported_folder_is_taken_by_nnunet(tmp_path):
    folder = folders.write(tmp_path)
    import_weights(folder, tmp_path / "bundle")
    case = a_case()
    exported = export_weights(tmp_path / "bundle", tmp_path / "out")
    assert np.array_equal(theirs(exported, case), theirs(folder, case))
