"""Networks as ONNX, read back by OpenVINO's own reader."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from uptake.core.errors import ModelError, UsageError
from uptake.workflows.bundles import load_bundle
from uptake.workflows.export_onnx import export_onnx
from uptake.zoo.bundle import save_bundle


def logits_of(file, image):
    ov = pytest.importorskip("openvino")
    model = ov.Core().read_model(str(file))
    program = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return program({"image": image})["logits"]


def test_a_file_gives_the_networks_logits_for_any_batch_and_size(tiny_bundle, tmp_path):
    pytest.importorskip("onnx")
    bundle = load_bundle(tiny_bundle)
    (file,) = export_onnx(bundle, tmp_path / "tiny.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]
    network = bundle.network()
    for shape in ((1, 2, 16, 16, 16), (3, 2, 24, 16, 20)):
        image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(image))[0].numpy()
        assert np.abs(logits_of(file, image) - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_metadata_say_how_to_run_it_elsewhere(tiny_bundle, tmp_path):
    onnx = pytest.importorskip("onnx")
    bundle = load_bundle(tiny_bundle)
    (file,) = export_onnx(bundle, tmp_path / "tiny.onnx")
    model = onnx.load(file)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert type(bundle.plan).from_json(json.loads(facts["plan"])) == bundle.plan
    assert json.loads(facts["window"]) == [16, 16, 16] and json.loads(facts["labels"]) == ["background", "lesion"]
    assert facts["orientation"] == "LAS" and facts["checksum"] == bundle.checksum
    assert "Not a medical device" in facts["notice"] and "Not a medical device" in model.doc_string
    assert {version.version for version in model.opset_import} == {17}


def test_organs_follow_lesions_and_every_fold_has_its_file(tiny_bundle, tmp_path):
    pytest.importorskip("onnx")
    from dataclasses import replace

    from uptake.methods.lesiontracer import build_network
    from uptake.networks.unet import unique_state

    card = load_bundle(tiny_bundle).card
    config = replace(load_bundle(tiny_bundle).config, organs=("background", "liver", "spleen"))
    states = {fold: unique_state(build_network(replace(config, seed=int(fold)))) for fold in "01"}
    save_bundle(replace(card, config=config.as_json()), states, tmp_path / "two")
    files = export_onnx(tmp_path / "two", tmp_path / "m.onnx")
    assert [file.name for file in files] == ["m_0.onnx", "m_1.onnx"]
    image = np.random.default_rng(0).normal(size=(1, 2, 16, 16, 16)).astype(np.float32)
    with torch.inference_mode():
        lesions, organs = load_bundle(tmp_path / "two").network("1")(torch.from_numpy(image), organs=True)
    expected = torch.cat([lesions[0], organs[0]], dim=1).numpy()
    assert np.abs(logits_of(files[1], image) - expected).max() < 1e-4 * np.abs(expected).max()


def test_what_cannot_be_written_is_refused_before_anything_is(cli, tiny_bundle, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"tiny.bin: an ONNX file is called .onnx"):
        export_onnx(tiny_bundle, tmp_path / "tiny.bin")
    assert cli("export-weights", tiny_bundle).code == 2
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r'onnx is not installed; pip install "uptake\[onnx\]"'):
        export_onnx(tiny_bundle, tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def test_a_method_whose_networks_take_more_than_an_image_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", type(sys)("onnx"))
    with pytest.raises(ModelError, match="networks of seganypet are not written as ONNX"):
        export_onnx("phantom-prompt-small", tmp_path / "p.onnx")
