"""Organs out of `segment`: from heads of their own, from labels beside lesions, and of models that know no lesions."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.cases import Case
from uptake.core.errors import ModelError
from uptake.geometry import Volume
from uptake.harmonise.onto import harmonise
from uptake.io.image import read_labels
from uptake.methods import lesiontracer
from uptake.networks.unet import BothHeads, finest_only, unique_state
from uptake.workflows.bundles import load_bundle
from uptake.workflows.outputs import write_segmentation
from uptake.workflows.segment import SegmentSettings, segment

ORGANS = ("background", "spleen", "liver", "kidney_left")
FAST = SegmentSettings(mirror=False, precision="float32", engine="torch")
WITHOUT_MODEL = {"mip.png", "report.html", "run.json"}
LESIONS = {"lesions.nii.gz", "lesions.csv", "lesions.json"}
MAP = {"organs.nii.gz", "organ_labels.json", "organs.csv", "organs.json", "organs.png"}


@pytest.fixture
def bundle(make_bundle, tmp_path):
    """Return a function that writes a tiny model of any labels and organ heads, and loads it."""

    def make(labels=("background", "lesion"), organs=()):
        config = replace(
            lesiontracer.Config.small(), spacing_mm=(8.0, 8.0, 8.0), window=(16, 16, 16), features=(4, 8),
            blocks=(1, 1), mirror_axes=(2,), seed=4, labels=labels, organs=organs,
        )  # fmt: skip
        network = lesiontracer.build_network(config)
        folder = make_bundle(
            tmp_path / "model", change=lambda _: unique_state(network), config=config.as_json(), labels=list(labels)
        )
        return load_bundle(folder)

    return make


@pytest.fixture
def case(tiny_arrays, turned):
    return Case("p", *(Volume(tiny_arrays[role], turned) for role in ("pet", "ct")))


def names_in(folder):
    """Return the files of a folder, but for the table of lesions and organs together (test_quantify)."""
    return {file.name for file in folder.iterdir()} - {"measurements.csv"}


def test_both_heads_give_what_each_gives_alone(bundle):
    network = finest_only(bundle(organs=ORGANS).network())
    x = torch.randn(1, 2, 16, 16, 16)
    with torch.inference_mode():
        both, (lesions, organs) = BothHeads(network)(x), network(x, organs=True)
        assert torch.equal(network(x), lesions)
    assert both.shape == (1, 2 + 4, 16, 16, 16)
    assert torch.equal(both, torch.cat([lesions, organs], dim=1))


def test_organ_heads_change_no_lesion_and_give_a_measured_map(bundle, case, tmp_path, plain_pictures):
    model = bundle(organs=ORGANS)
    found = segment(case, model=model, settings=FAST, device="cpu")
    without = segment(case, model=model, settings=replace(FAST, organs=False), device="cpu")
    np.testing.assert_array_equal(found.lesions.array, without.lesions.array)
    assert (without.organs, without.organ_table, without.organ_names) == (None, None, {})
    assert found.organ_names == {1: "spleen", 2: "liver", 3: "kidney_left"}
    folder = write_segmentation(found, tmp_path / "with")
    assert names_in(folder) == WITHOUT_MODEL | LESIONS | MAP
    assert names_in(write_segmentation(without, tmp_path / "without")) == WITHOUT_MODEL | LESIONS
    written, _ = read_labels(folder / "organs.nii.gz")
    np.testing.assert_array_equal(written.array, found.organs.array)
    np.testing.assert_allclose(written.affine, case.pet.affine)
    assert json.loads((folder / "organ_labels.json").read_text()) == {"1": "spleen", "2": "liver", "3": "kidney_left"}
    with (folder / "organs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["organ"] for row in rows} <= set(ORGANS[1:])
    assert rows
    for row in rows:
        inside = found.organs.array == int(row["label"])
        assert int(row["voxels"]) == inside.sum()
        healthy = case.pet.array[inside & (found.lesions.array == 0)].astype(float)
        if healthy.size:
            assert float(row["suv_mean"]) == pytest.approx(healthy.mean(), abs=1e-3)
    run = json.loads((folder / "run.json").read_text())
    assert run["request"]["settings"]["organs"] is True
    report = (folder / "report.html").read_text()
    assert "PET lesion report" in report
    assert ">kidney left" in report


@pytest.mark.parametrize("spacing_mm", [(8.0, 8.0, 8.0), (6.0, 7.0, 9.0)])
def test_compiled_programs_give_the_masks_of_torch(bundle, case, spacing_mm):
    pytest.importorskip("openvino")
    model = bundle(organs=ORGANS)
    plan = replace(model.plan, spacing_mm=spacing_mm).as_json()
    model = replace(model, card=replace(model.card, plan=plan))
    settings = replace(FAST, mirror=True)
    one = segment(case, model=model, settings=settings, device="cpu")
    other = segment(case, model=model, settings=replace(settings, engine="openvino"), device="cpu")
    assert other.engine == "openvino" and other.windows == one.windows
    for name in ("lesions", "organs"):
        ours, theirs = getattr(other, name).array, getattr(one, name).array
        assert 0 < np.count_nonzero(theirs) < theirs.size
        assert (ours == theirs).mean() >= 0.9995  # random weights put many voxels near a tie


def test_organ_logits_come_from_the_same_pass_and_the_same_way_back(bundle, case):
    model = bundle(organs=ORGANS)
    found = segment(case, model=model, settings=FAST, device="cpu")
    harmonised, trace = harmonise(case, model.plan)
    config = replace(model.config, mirror_axes=())
    prediction = model.method.predict(model.networks(), harmonised, config, organs=True)
    alone = model.method.predict(model.networks(), harmonised, config)
    np.testing.assert_array_equal(prediction.logits, alone.logits)
    assert alone.organ_logits is None
    assert prediction.organ_logits.shape == (4, *prediction.logits.shape[1:])
    air = ~np.isfinite(prediction.organ_logits).all(axis=0)
    assert not air.any()
    # The tiny plan keeps the grid, so the labels are those of the highest logits, turned back.
    assert trace.resample.before == trace.resample.after
    highest = np.zeros(trace.crop.before, np.uint8)
    inside = tuple(slice(a, b) for a, b in zip(trace.crop.lower, trace.crop.upper, strict=True))
    highest[inside] = prediction.organ_logits.argmax(axis=0)
    np.testing.assert_array_equal(trace.axes.inverse().apply(highest), found.organs.array)


def test_windows_of_air_are_background_of_both_families(bundle, case):
    model = bundle(organs=ORGANS)
    harmonised, _ = harmonise(case, model.plan)
    nothing = replace(harmonised, body=np.zeros_like(harmonised.body))
    prediction = model.method.predict(model.networks(), nothing, replace(model.config, mirror_axes=()), organs=True)
    assert prediction.windows_run == 0
    assert not prediction.logits.argmax(axis=0).any()
    assert not prediction.organ_logits.argmax(axis=0).any()


def test_a_model_without_lesions_writes_organs_alone(bundle, case, tmp_path):
    model = bundle(labels=ORGANS)
    found = segment(case, model=model, settings=FAST, device="cpu")
    assert (found.lesions, found.mask, found.table) == (None, None, None)
    assert found.organ_mask is found.organs
    assert found.organs.array.any()
    folder = write_segmentation(found, tmp_path / "out")
    assert names_in(folder) == WITHOUT_MODEL | MAP
    report = (folder / "report.html").read_text()
    assert "PET organ report" in report
    assert "lesions were not looked for" in report
    assert "lesions outlined" not in report
    with pytest.raises(ModelError, match="without them"):
        segment(case, model=model, settings=replace(FAST, organs=False), device="cpu")


def test_kinds_of_lesion_beside_an_organ(bundle, case, tmp_path, plain_pictures):
    found = segment(case, model=bundle(labels=("background", "GTVp", "liver", "GTVn")), settings=FAST, device="cpu")
    assert found.lesion_names == {1: "GTVp", 2: "GTVn"}
    assert found.organ_names == {2: "liver"}
    assert not (found.lesions.array.astype(bool) & found.organs.array.astype(bool)).any()
    folder = write_segmentation(found, tmp_path / "out")
    assert names_in(folder) == WITHOUT_MODEL | LESIONS | MAP | {"lesion_labels.json"}
    assert json.loads((folder / "lesion_labels.json").read_text()) == {"1": "GTVp", "2": "GTVn"}


def test_the_command_prints_organs(cli, bundle, make_study, tmp_path, plain_pictures):
    model = bundle(labels=ORGANS)
    study = make_study(tmp_path / "s" / "p7", roles=("pet", "ct"))
    fast = ("-m", model.folder, "--no-mirror", "--precision", "float32", "--engine", "torch", "--device", "cpu")
    ran = cli("segment", study, "-o", tmp_path / "out", *fast)
    assert ran.code == 0
    assert "SUVmean" in ran.out
    assert "liver" in ran.out
    assert "No lesion" not in ran.out
    refused = cli("segment", study, "-o", tmp_path / "no", *fast, "--no-organs")
    assert refused.code == 4
    assert "nothing is left to find" in refused.err


def test_dicom_gets_organs_with_codes(bundle, dicom_pet, tmp_path, plain_pictures):
    pydicom = pytest.importorskip("pydicom")
    from uptake.io.dicom_result import Maker
    from uptake.quantification.organs import measure_organs
    from uptake.workflows.findings import Organs
    from uptake.workflows.outputs import write_results

    files, pet = dicom_pet(tmp_path / "pet", (9, 8, 6))
    array = np.zeros(pet.shape, np.uint8)
    array[1:4, 1:4, 1:4], array[5:8, 2:6, 2:5] = 1, 3
    case = Case("p", pet.with_array(pet.array / 100), pet_files=files)
    labels, names = pet.with_array(array), {1: "spleen", 2: "liver", 3: "kidney_left"}
    folder = write_results(
        case, None, None, tmp_path / "out", model=None, bundle=None, settings={}, request={}, warnings=(), timings_s={},
        maker=Maker("AUTOMATIC", "net", "1"), organs=Organs(labels, names, measure_organs(case.pet, labels, names)),
    )  # fmt: skip
    assert {"organs.seg.dcm", "organs.rtstruct.dcm"} <= names_in(folder)
    assert not (names_in(folder) & {"lesions.seg.dcm", "measurements.sr.dcm"})
    segments = pydicom.dcmread(folder / "organs.seg.dcm").SegmentSequence
    assert [one.SegmentLabel for one in segments] == ["spleen", "kidney_left"]
    types = [one.SegmentedPropertyTypeCodeSequence[0] for one in segments]
    assert [one.CodeMeaning for one in types] == ["Spleen", "Kidney"]
    assert types[1].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
