from __future__ import annotations

import json

import nnunet_folders as folders
import numpy as np
import pytest
import torch

from uptake.cases import Case
from uptake.core.errors import CheckpointError, ModelError, UsageError
from uptake.geometry.volume import Volume
from uptake.harmonise.onto import harmonise
from uptake.networks.unet import unique_state
from uptake.workflows.bundles import load_bundle
from uptake.workflows.export_weights import export_weights
from uptake.workflows.import_weights import PUBLISHED_ORGANS, import_weights
from uptake.workflows.segment import SegmentSettings, segment
from uptake.zoo import nnunet


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    affine = np.diag([-3.0, 2.5, 4.0, 1.0])
    pet = Volume(rng.gamma(1.0, 1.5, (24, 22, 14)).astype(np.float32), affine)
    ct = Volume(rng.normal(0, 80, (24, 22, 14)).astype(np.float32), affine)
    return Case("random", pet, ct)


@pytest.mark.parametrize("encoder", ["residual", "plain"])
@pytest.mark.parametrize("old", [False, True])
def test_a_folder_becomes_a_bundle_with_its_networks(tmp_path, encoder, old):
    networks = {"0": folders.network(0, encoder=encoder), "1": folders.network(1, encoder=encoder)}
    folder = folders.write(tmp_path, networks=networks, plan=folders.plans(encoder=encoder, old=old))
    found = import_weights(folder, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.card.as_text() == found.card.as_text()
    assert found.card.labels == ["background", "lesion"]  # nnU-Net's "tumor"
    assert found.card.needs == ["pet", "ct"]
    assert bundle.config.mirror_axes == (0, 1, 2)
    x = torch.randn(1, 2, 8, 16, 16)
    with torch.inference_mode():
        for fold, network in networks.items():
            assert all(torch.equal(a, b) for a, b in zip(network.eval()(x), bundle.network(fold)(x), strict=True))
    assert any("taken as CT, then PET" in note for note in found.notes)
    assert any("as each file stores them" in note for note in found.notes)


def test_there_and_back_and_there_again(tmp_path, case):
    folder = folders.write(tmp_path / "given", networks={"0": folders.network(0), "all": folders.network(1)})
    first = import_weights(folder, tmp_path / "a")
    again = export_weights(tmp_path / "a", tmp_path / "exported")
    assert again.name == folder.name
    assert json.loads((again / "plans.json").read_text()) == json.loads((folder / "plans.json").read_text())
    second = import_weights(again, tmp_path / "b", name="a")
    assert second.card.files == first.card.files
    entries = nnunet.read_checkpoint(again / "fold_0" / "checkpoint_final.pth")["network_weights"]
    assert entries.keys() == folders.network().state_dict().keys()
    settings = SegmentSettings(mirror=False, precision="float32", engine="torch")
    masks = [segment(case, model=tmp_path / name, settings=settings).lesions.array for name in "ab"]
    assert np.array_equal(*masks)
    assert 0 < masks[0].sum() < masks[0].size


def test_what_was_trained_here_becomes_plans(tmp_path, tiny_bundle, make_bundle_like_published):
    folder = export_weights(make_bundle_like_published, tmp_path)
    found = import_weights(folder, tmp_path / "back")
    assert found.card.files == load_bundle(make_bundle_like_published).card.files
    assert load_bundle(found.bundle).config.window == load_bundle(make_bundle_like_published).config.window
    with pytest.raises(ModelError, match="'asinh', for which nnU-Net has no name"):
        export_weights(tiny_bundle, tmp_path / "other")


@pytest.fixture
def make_bundle_like_published(tmp_path, tiny_bundle):
    """A bundle of ours whose normalisation nnU-Net knows, without any imported plans."""
    from dataclasses import replace

    from uptake.zoo.bundle import save_bundle

    bundle = load_bundle(tiny_bundle)
    config = dict(bundle.card.config, normalisation=["clip_zscore", "clip_zscore"])
    plan = dict(bundle.card.plan)
    plan["channels"] = [dict(rule, scheme="clip_zscore") for rule in plan["channels"]]
    card = replace(bundle.card, config=config, plan=plan)
    save_bundle(card, bundle.states, tmp_path / "ours")
    return tmp_path / "ours"


def test_lesiontracer_keeps_its_organ_heads_under_the_names_they_learned(tmp_path):
    network = folders.network(organs=11)
    found = import_weights(folders.write(tmp_path, networks={"0": network}), tmp_path / "b")
    bundle = load_bundle(tmp_path / "b")
    assert bundle.config.organs == PUBLISHED_ORGANS
    assert bundle.plan.orientation == "LAS"
    assert any("LAS" in note for note in found.notes)
    x = torch.randn(1, 2, 8, 16, 16)
    with torch.inference_mode():
        lesions, organs = bundle.network()(x, organs=True)
        expected = network.eval()(x, organs=True)
    assert [tuple(level.shape[1:3]) for level in organs] == [(11, 8), (11, 4)]
    assert all(torch.equal(a, b) for a, b in zip([*lesions, *organs], [*expected[0], *expected[1]], strict=True))


def test_an_axis_order_of_nnunet_reaches_the_plan(tmp_path, case):
    """The model's first axis is the file's y, whichever way it points; spacings are those of the turned axes."""
    plan = folders.plans(transpose_forward=[1, 0, 2], transpose_backward=[1, 0, 2], spacing=[2.5, 4.0, 3.0])
    import_weights(folders.write(tmp_path, plan=plan), tmp_path / "b")
    bundle = load_bundle(tmp_path / "b")
    harmonised, trace = harmonise(case, bundle.plan)
    assert trace.axes.permutation == (1, 2, 0)
    assert trace.axes.flips == (False, False, False)
    assert harmonised.channels.shape[1:] == (22, 14, 24)
    rule = bundle.plan.channels[1]
    expected = (np.clip(case.pet.array[3, 5, 7], rule.lower, rule.upper) - rule.mean) / rule.std
    assert harmonised.channels[1, 5, 7, 3] == pytest.approx(expected, rel=1e-5)


def test_half_precision_and_a_name(tmp_path):
    found = import_weights(folders.write(tmp_path), tmp_path / "b", name="mine", stored_as="float16", licence="CC0")
    assert (found.card.name, found.card.licence, found.card.stored_as) == ("mine", "CC0", "float16")


class TestChannels:
    def dataset(self, *names, labels=None):
        return {
            "channel_names": {str(index): name for index, name in enumerate(names)},
            "labels": labels or {"background": 0, "lesion": 1},
            "numTraining": 3,
            "file_ending": ".nii.gz",
        }

    def test_names_say_which_is_which(self, tmp_path):
        plan = folders.plans()
        properties = plan["foreground_intensity_properties_per_channel"]
        plan["foreground_intensity_properties_per_channel"] = {"0": properties["1"], "1": properties["0"]}
        folder = folders.write(tmp_path, plan=plan, dataset=self.dataset("SUV", "CT"))
        assert [rule["name"] for rule in import_weights(folder, tmp_path / "b").card.plan["channels"]] == ["pet", "ct"]

    def test_intensities_that_say_the_opposite(self, tmp_path):
        folder = folders.write(tmp_path, dataset=self.dataset("PET", "CT"))
        with pytest.raises(ModelError, match=r"PET would start at -1000 and the CT at 0\.01: .*other way round"):
            import_weights(folder, tmp_path / "b")
        assert not (tmp_path / "b").exists()
        found = import_weights(folder, tmp_path / "b", channels=["ct", "pet"])
        assert [rule["name"] for rule in found.card.plan["channels"]] == ["ct", "pet"]

    def test_names_that_say_nothing(self, tmp_path):
        folder = folders.write(tmp_path, dataset=self.dataset("first", "second"))
        with pytest.raises(UsageError, match="not plain from 0 'first', 1 'second'"):
            import_weights(folder, tmp_path / "b")
        with pytest.raises(UsageError, match="name ct and pet, once each"):
            import_weights(folder, tmp_path / "b", channels=["ct", "ct"])

    def test_pet_alone(self, tmp_path):
        plan = folders.plans(inputs=1, normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True])
        folder = folders.write(
            tmp_path, networks={"0": folders.network(inputs=1)}, plan=plan, dataset=self.dataset("PET")
        )
        card = import_weights(folder, tmp_path / "b").card
        assert card.needs == ["pet"]
        assert card.plan["channels"][0]["inside_only"]

    def test_several_classes_keep_their_names(self, tmp_path):
        labels = {"background": 0, "Tumor": 2, "liver": 1, "ignore": 3}
        folder = folders.write(
            tmp_path, networks={"0": folders.network(labels=3)}, dataset=self.dataset("CT", "PET", labels=labels)
        )
        assert import_weights(folder, tmp_path / "b").card.labels == ["background", "liver", "lesion"]

    def test_what_segment_takes_the_labels_for_is_said(self, tmp_path):
        labels = {"background": 0, "1": 1, "liver": 2}
        folder = folders.write(
            tmp_path, networks={"0": folders.network(labels=3)}, dataset=self.dataset("CT", "PET", labels=labels)
        )
        assert any("No label is called a lesion: segment writes 1, liver as organs" in note
                   for note in import_weights(folder, tmp_path / "a").notes)  # fmt: skip
        named = import_weights(folder, tmp_path / "b", labels={1: "lesion"})
        assert named.card.labels == ["background", "lesion", "liver"]
        assert load_bundle(tmp_path / "b").config.labels == ("background", "lesion", "liver")
        assert "Lesions: lesion. Organs and other regions: liver." in named.notes

    def test_names_for_labels_that_are_not_there_or_not_told_apart(self, tmp_path):
        folder = folders.write(tmp_path)
        with pytest.raises(UsageError, match="--labels names label 3; the model has 1 lesion"):
            import_weights(folder, tmp_path / "b", labels={3: "liver"})
        with pytest.raises(UsageError, match="one name to several labels"):
            import_weights(folder, tmp_path / "b", labels={1: "background"})
        assert not (tmp_path / "b").exists()

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ({"background": 0, "a": 2}, "not consecutive"),
            ({"background": 0}, "not consecutive"),
            ({"background": 0, "whole": [1, 2]}, "overlapping regions"),
        ],
    )
    def test_labels_that_cannot_be_used(self, tmp_path, labels, message):
        folder = folders.write(tmp_path, dataset=self.dataset("CT", "PET", labels=labels))
        with pytest.raises((CheckpointError, ModelError), match=message):
            import_weights(folder, tmp_path / "b")


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"previous_stage": "3d_lowres"}, "cascade"),
            ({"patch_size": [16, 16]}, "two-dimensional"),
            ({"resampling_fn_data": "resample_torch_fornnunet"}, "resamples by resample_torch_fornnunet"),
            (
                {"normalization_schemes": ["CTNormalization", "RGBTo01Normalization"]},
                "RGBTo01Normalization is not read",
            ),
            ({"normalization_schemes": ["CTNormalization"]}, "normalises 1 channels, the weights take 2"),
            ({"foreground_intensity_properties_per_channel": {}}, "no intensity properties for channel 0"),
            ({"patch_size": [9, 16, 16]}, "makes no network: window"),
        ],
    )
    def test_plans(self, tmp_path, changes, message):
        folder = folders.write(tmp_path, plan=folders.plans(**changes))
        with pytest.raises((CheckpointError, ModelError), match=message):
            import_weights(folder, tmp_path / "b")
        assert not (tmp_path / "b").exists()

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("network_class_name", "a.b.PrimusS", "is a PrimusS"),
            ("dropout_op", "torch.nn.Dropout3d", "dropout"),
            ("norm_op_kwargs", {"eps": 1e-3, "affine": True}, "eps 1e-5"),
        ],
    )
    def test_networks(self, tmp_path, key, value, message):
        plan = folders.plans()
        there = plan["configurations"]["3d_fullres"]["architecture"]
        (there if key in there else there["arch_kwargs"])[key] = value
        with pytest.raises(ModelError, match=message):
            import_weights(folders.write(tmp_path, plan=plan), tmp_path / "b")

    def test_plans_that_miss_a_part(self, tmp_path):
        plan = folders.plans()
        del plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["strides"]
        with pytest.raises(CheckpointError, match="says nothing of 'strides'"):
            import_weights(folders.write(tmp_path, plan=plan), tmp_path / "b")

    def test_weights_of_another_network(self, tmp_path):
        plan = folders.plans()
        plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 16]
        with pytest.raises(CheckpointError, match="weights of fold 0 are not those of the network") as caught:
            import_weights(folders.write(tmp_path, plan=plan), tmp_path / "b")
        assert "and" in str(caught.value)
        assert "more" in str(caught.value)


class TestPretraining:
    def weights(self):
        weights = dict(folders.network().state_dict())
        for key in [key for key in weights if "encoder.stem." in key]:
            tensor = weights.pop(key)
            weights[key.replace("encoder.stem.", "encoder.stem.221.")] = tensor
            weights[key.replace("encoder.stem.", "encoder.stem.17.")] = (
                tensor[:, :1] if tensor.ndim == 5 else tensor
            ).clone()
        return weights

    def test_a_stem_must_be_named(self, tmp_path):
        folder = folders.write(tmp_path, weights=self.weights())
        with pytest.raises(UsageError, match=r"221 \(2 channels\), 17 \(1 channel\)"):
            import_weights(folder, tmp_path / "b")
        with pytest.raises(UsageError, match="--stem 3: the checkpoint has 221, 17"):
            import_weights(folder, tmp_path / "b", stem="3")

    def test_it_starts_training_and_predicts_nothing(self, tmp_path, case):
        folder = folders.write(tmp_path, weights=self.weights())
        found = import_weights(folder, tmp_path / "b", stem="221")
        assert found.card.role == "initialisation"
        original = unique_state(folders.network())
        (state,) = load_bundle(tmp_path / "b").states.values()
        assert state.keys() == {name for name in original if "seg_layers" not in name}
        with pytest.raises(ModelError, match="initialisation without heads"):
            segment(case, model=tmp_path / "b")
        with pytest.raises(ModelError, match="initialisation without heads"):
            export_weights(tmp_path / "b", tmp_path / "c")

    def test_a_stem_where_there_is_one_only(self, tmp_path):
        with pytest.raises(UsageError, match="one stem only"):
            import_weights(folders.write(tmp_path), tmp_path / "b", stem="221")
