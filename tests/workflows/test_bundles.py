"""Bundles: found by name or path, checked before use, replaced whole, and never in the place of something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from uptake.core.errors import CheckpointError, OutputError
from uptake.workflows.bundles import bundle_for, load_bundle, method_module
from uptake.zoo import cards
from uptake.zoo.bundle import save_bundle


def test_a_shipped_model_is_found_by_name_and_any_other_by_path(make_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "SHIPPED", tmp_path)
    folder = make_bundle(tmp_path / "by-name")
    assert load_bundle("by-name").folder == folder
    assert load_bundle(str(folder)).checksum == load_bundle(folder).checksum


def test_checksums_differ_where_weights_differ(make_bundle, tmp_path):
    one, two = make_bundle(tmp_path / "a" / "m"), make_bundle(tmp_path / "b" / "m", seed=2)
    assert load_bundle(one).checksum != load_bundle(two).checksum


def test_the_network_holds_the_weights_of_the_file(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    network = bundle.network("0")
    own = dict(network.named_parameters())
    for name, tensor in bundle.states["0"].items():
        torch.testing.assert_close(own[name].detach(), tensor, rtol=0, atol=0)


def test_two_networks_of_a_bundle_share_nothing(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    one, two = bundle.network(), bundle.network()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.zero_()
    assert any(parameter.any() for parameter in two.parameters())


def test_half_precision_weights_load_as_float32(make_bundle, tmp_path):
    bundle = load_bundle(make_bundle(tmp_path / "half", stored_as="float16"))
    assert {tensor.dtype for tensor in bundle.states["0"].values()} == {torch.float32}


def test_an_unknown_method_is_refused():
    with pytest.raises(CheckpointError, match=r"method 'os' is unknown .*lesiontracer"):
        method_module("os")


def test_a_bundle_replaces_a_bundle_but_nothing_else(make_bundle, tmp_path):
    folder = make_bundle(tmp_path / "m")
    first = load_bundle(folder).checksum
    assert load_bundle(make_bundle(folder, seed=2)).checksum != first
    assert [f.name for f in tmp_path.iterdir()] == ["m"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.docx").write_bytes(b"years")
    with pytest.raises(OutputError, match="is in the way of the bundle"):
        make_bundle(other)
    assert (other / "thesis.docx").read_bytes() == b"years"


def test_a_refused_rename_puts_the_old_bundle_back(make_bundle, tmp_path, monkeypatch):
    folder = make_bundle(tmp_path / "m")
    first = load_bundle(folder).checksum
    real = Path.replace

    def replace(path, target):
        if Path(target) == folder and not path.name.endswith(".old"):
            raise PermissionError(13, "Permission denied")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError):
        make_bundle(folder, seed=2)
    assert load_bundle(folder).checksum == first
    assert [f.name for f in tmp_path.iterdir()] == ["m"]


def test_networks_are_the_same_at_every_call_and_hold_the_weights_of_the_file_without_a_copy(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    (network,) = bundle.networks()
    assert bundle.networks()[0] is network
    assert bundle.networks(["0"])[0] is network
    assert bundle.network() is not network
    x = torch.randn(1, 2, 16, 16, 16)
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(network(x), bundle.network()(x), strict=True))
    memory = {tensor.data_ptr() for tensor in bundle.states["0"].values()}
    assert {parameter.data_ptr() for parameter in network.parameters()} == memory
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training


def test_a_fold_that_is_not_there_is_named(tiny_bundle):
    with pytest.raises(CheckpointError, match="no fold '3'; there are 0"):
        load_bundle(tiny_bundle).networks(["3"])


def test_a_second_case_compiles_nothing(tiny_bundle, tiny_arrays, turned, monkeypatch):
    pytest.importorskip("openvino")
    from uptake.cases import Case
    from uptake.geometry import Volume
    from uptake.inference import compiled as module
    from uptake.workflows.segment import SegmentSettings, segment

    times, real = [], module.program_of
    monkeypatch.setattr(module, "program_of", lambda *given, **more: times.append(1) or real(*given, **more))
    bundle = load_bundle(tiny_bundle)
    settings = SegmentSettings(mirror=False, precision="float32", engine="openvino")
    masks = [
        segment(Case(f"p{n}", Volume(tiny_arrays["pet"], turned)), model=bundle, settings=settings, device="cpu")
        for n in range(2)
    ]
    assert len(times) == 1
    np.testing.assert_array_equal(masks[0].lesions.array, masks[1].lesions.array)


def test_a_program_is_made_of_weights_without_torch(tiny_bundle):
    pytest.importorskip("openvino")
    bundle = bundle_for(tiny_bundle, "openvino")
    assert bundle.goes_without_torch("openvino") and not bundle.goes_without_torch("torch")
    (weights,) = bundle.runners(engine="openvino")
    assert bundle.runners(["0"], engine="openvino")[0] is weights
    assert bundle.runners() == bundle.networks()
    for name, tensor in bundle.states["0"].items():
        np.testing.assert_array_equal(weights.arrays[name], tensor.numpy())
    # Where the states were read before, no second copy is made.
    again = load_bundle(tiny_bundle)
    (shared,) = again.runners(engine="openvino")
    name, tensor = next(iter(again.states["0"].items()))
    assert np.shares_memory(shared.arrays[name], tensor.numpy())


def test_weights_that_do_not_fit_the_card_are_refused_for_either_engine(tiny_bundle, tmp_path):
    pytest.importorskip("openvino")
    bundle = load_bundle(tiny_bundle)
    states = {"0": {name: tensor for name, tensor in bundle.states["0"].items() if "seg_layers.0.bias" not in name}}
    save_bundle(bundle.card, states, tmp_path / "short")
    for engine in ("torch", "openvino"):
        with pytest.raises(
            CheckpointError, match=r"short: fold 0 does not fit its card: .*seg_layers.0.bias is missing"
        ):
            bundle_for(tmp_path / "short", engine)


def test_a_fold_that_is_not_there_is_named_for_either_engine(tiny_bundle):
    for engine in ("torch", "openvino"):
        with pytest.raises(CheckpointError, match="no fold '3'; there are 0"):
            load_bundle(tiny_bundle).runners(["3"], engine=engine)
