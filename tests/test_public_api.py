"""`import uptake`: every public name, images of any package in and out, and no files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import uptake
from uptake.core.errors import GeometryError, InputError, UnitError, UsageError
from uptake.geometry import Volume

nib = pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def settings():
    return uptake.SegmentSettings(mirror=False, precision="float32", engine="torch")


@pytest.fixture(scope="module")
def volumes(tiny_arrays, turned):
    return {role: Volume(array, turned) for role, array in tiny_arrays.items()}


@pytest.fixture(scope="module")
def found(volumes, tiny_bundle, settings):
    """What the `Volume` way gives; everything else is compared with it."""
    found = uptake.segment(volumes["pet"], ct=volumes["ct"], model=tiny_bundle, device="cpu", settings=settings)
    share = found.lesions.array.mean()
    assert 0.05 < share < 0.95, "a mask that is empty or full would show nothing below"
    return found


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current folder; the test fails if anything is written into it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def as_nibabel(volume):
    return nib.Nifti1Image(volume.array, volume.affine)


def as_sitk(volume):
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose()))
    affine = LPS @ volume.affine
    image.SetSpacing(volume.spacing_mm)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / volume.spacing_mm).ravel().tolist())
    return image


def test_every_public_name_resolves():
    for name in uptake.__all__:
        assert getattr(uptake, name) is not None
    assert dir(uptake) == sorted(uptake.__all__)
    assert {"read", "segment", "quantify", "evaluate", "train", "load_bundle", "Volume", "Case"} <= set(dir(uptake))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="segmnt"):
        _ = uptake.segmnt


def test_functions_stay_functions_whatever_was_imported_before(fresh):
    rooms = "uptake.quantification.lesions, uptake.evaluation.overlap, uptake.training.protocol, uptake.io.read"
    verbs = ("quantify", "segment", "evaluate", "read", "train", "load_bundle")
    code = f"import {rooms}, uptake.cli.segment, uptake; print([callable(getattr(uptake, n)) for n in {verbs!r}])"
    assert fresh(code).out.strip() == str([True] * len(verbs))


def test_a_volume_comes_back_as_a_volume_on_its_own_grid(found, volumes):
    assert found.mask is found.lesions
    assert found.lesions.array.dtype == np.uint8
    np.testing.assert_array_equal(found.lesions.affine, volumes["pet"].affine)
    assert found.lesions.shape == volumes["pet"].shape


def test_a_nibabel_image_comes_back_as_one(found, volumes, tiny_bundle, settings, empty_folder):
    pet, ct = as_nibabel(volumes["pet"]), as_nibabel(volumes["ct"])
    result = uptake.segment(pet, ct=ct, model=tiny_bundle, device="cpu", settings=settings)
    assert isinstance(result.mask, nib.Nifti1Image)
    np.testing.assert_array_equal(result.mask.affine, pet.affine)
    np.testing.assert_array_equal(np.asarray(result.mask.dataobj), found.lesions.array)


def test_a_simpleitk_image_comes_back_as_one(found, volumes, tiny_bundle, settings, empty_folder):
    pet, ct = as_sitk(volumes["pet"]), as_sitk(volumes["ct"])
    result = uptake.segment(pet, ct=ct, model=tiny_bundle, device="cpu", settings=settings)
    assert isinstance(result.mask, sitk.Image)
    assert result.mask.GetSize() == pet.GetSize()
    assert result.mask.GetOrigin() == pet.GetOrigin()
    assert result.mask.GetSpacing() == pet.GetSpacing()
    assert result.mask.GetDirection() == pet.GetDirection()
    # The same patient: voxel [i, j, k] of one is [k, j, i] of the other.
    np.testing.assert_array_equal(sitk.GetArrayFromImage(result.mask).transpose(), found.lesions.array)


def test_a_case_and_a_folder_give_the_same_mask(found, volumes, tiny_bundle, settings, make_study, tmp_path):
    case = uptake.Case("anyone", volumes["pet"], volumes["ct"])
    bundle = uptake.load_bundle(tiny_bundle)
    of_case = uptake.segment(case, model=bundle, device="cpu", settings=settings)
    of_folder = uptake.segment(make_study(tmp_path / "s"), model=bundle, device="cpu", settings=settings)
    np.testing.assert_array_equal(of_case.lesions.array, found.lesions.array)
    np.testing.assert_array_equal(of_folder.lesions.array, found.lesions.array)


@pytest.mark.parametrize("change", [{"mirror": True}, {"tile_step": 1.0}], ids=str)
def test_flips_and_steps_change_the_mask(found, volumes, tiny_bundle, settings, change):
    changed = replace(settings, **change)
    other = uptake.segment(volumes["pet"], ct=volumes["ct"], model=tiny_bundle, device="cpu", settings=changed)
    assert (other.lesions.array != found.lesions.array).any()


def test_without_ct_the_result_says_so(found, volumes, tiny_bundle, settings):
    result = uptake.segment(volumes["pet"], model=tiny_bundle, device="cpu", settings=settings)
    assert any("No CT" in warning for warning in result.warnings)
    assert (result.lesions.array != found.lesions.array).any()


def test_a_model_that_needs_ct_refuses_pet_alone(make_bundle, tmp_path, volumes):
    bundle = make_bundle(tmp_path / "needs_ct", needs=["pet", "ct"])
    with pytest.raises(uptake_error("ModelError"), match=r"needs_ct needs a CT.*--ct FILE"):
        uptake.segment(volumes["pet"], model=bundle)


def uptake_error(name):
    from uptake.core import errors

    return getattr(errors, name)


@pytest.mark.parametrize("call", ["segment", "quantify", "evaluate"])
def test_a_bare_array_is_refused_with_what_to_give_instead(call, tiny_arrays, tiny_bundle):
    array = tiny_arrays["lesion"]
    with pytest.raises(GeometryError, match=r"ndarray.*uptake\.Volume.*nibabel.*SimpleITK"):
        if call == "segment":
            uptake.segment(tiny_arrays["pet"], model=tiny_bundle)
        else:
            getattr(uptake, call)(array, array)


def test_paths_and_images_are_not_mixed(volumes, tiny_bundle, make_study, tmp_path):
    study = make_study(tmp_path / "s")
    with pytest.raises(UsageError, match="both"):
        uptake.segment(study, ct=volumes["ct"], model=tiny_bundle)
    with pytest.raises(UsageError, match="both"):
        uptake.segment(volumes["pet"], ct=study / "ct.nii.gz", model=tiny_bundle)
    with pytest.raises(UsageError, match="its own CT"):
        uptake.segment(uptake.Case("a", volumes["pet"]), ct=volumes["ct"], model=tiny_bundle)
    with pytest.raises(UsageError, match="both"):
        uptake.evaluate(volumes["lesion"], study / "lesion.nii.gz")
    with pytest.raises(UsageError, match="both"):
        uptake.quantify(volumes["pet"], study / "lesion.nii.gz")


def test_images_in_memory_are_checked_like_files(volumes, tiny_bundle):
    becquerels = volumes["pet"].with_array(volumes["pet"].array * 5000)
    with pytest.raises(UnitError, match=r"the PET: .*plainly not in SUV.*assume_suv=True"):
        uptake.segment(becquerels, model=tiny_bundle)
    with pytest.raises(UnitError, match="plainly not in SUV"):
        uptake.quantify(becquerels, volumes["lesion"])
    assert uptake.quantify(becquerels, volumes["lesion"], assume_suv=True).lesions
    holes = volumes["pet"].array.copy()
    holes[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="NaN"):
        uptake.segment(volumes["pet"].with_array(holes), model=tiny_bundle)
    with pytest.raises(InputError, match="NaN"):
        uptake.quantify(volumes["pet"].with_array(holes), volumes["lesion"])
    far = volumes["ct"].affine.copy()
    far[:3, 3] += 5000
    with pytest.raises(GeometryError, match="do not overlap"):
        uptake.segment(volumes["pet"], ct=Volume(volumes["ct"].array, far), model=tiny_bundle)


def test_quantify_is_the_same_for_images_and_files(volumes, make_study, tmp_path):
    study = make_study(tmp_path / "s")
    of_volumes = uptake.quantify(volumes["pet"], volumes["lesion"])
    of_nibabel = uptake.quantify(as_nibabel(volumes["pet"]), as_nibabel(volumes["lesion"]))
    of_sitk = uptake.quantify(as_sitk(volumes["pet"]), as_sitk(volumes["lesion"]))
    of_files = uptake.quantify(study / "pet.nii.gz", study / "lesion.nii.gz")
    assert len(of_volumes.lesions) == 2
    voxel_ml = 0.512
    assert of_volumes.totals.mtv_ml == pytest.approx(voxel_ml * volumes["lesion"].array.sum())
    for other in (of_nibabel, of_sitk, of_files):
        assert [lesion.suv_max for lesion in other.lesions] == [lesion.suv_max for lesion in of_volumes.lesions]
        assert other.totals.tlg_g == pytest.approx(of_volumes.totals.tlg_g, rel=1e-6)
        for one, two in zip(other.lesions, of_volumes.lesions, strict=True):
            np.testing.assert_allclose(one.centroid_mm, two.centroid_mm, atol=1e-3)


def test_evaluate_is_the_same_for_images_and_files(volumes, make_study, tmp_path):
    reference = volumes["lesion"]
    shifted = reference.with_array(np.roll(reference.array, 1, axis=0))
    inside = int((reference.array & shifted.array).sum())
    expected = 2 * inside / int(reference.array.sum() + shifted.array.sum())
    study = make_study(tmp_path / "r", roles=("lesion",))
    other = make_study(tmp_path / "p", roles=("lesion",), lesion=shifted.array)
    for rows in (
        uptake.evaluate(shifted, reference),
        uptake.evaluate(as_nibabel(shifted), as_nibabel(reference)),
        uptake.evaluate(as_sitk(shifted), as_nibabel(reference)),
        uptake.evaluate(other / "lesion.nii.gz", study / "lesion.nii.gz"),
        uptake.evaluate(str(other / "lesion.nii.gz"), str(study / "lesion.nii.gz")),
    ):
        assert len(rows) == 1
        assert rows[0]["dice"] == pytest.approx(expected)


def test_no_file_is_needed_or_written(found, volumes, tiny_bundle, settings, empty_folder):
    uptake.segment(volumes["pet"], ct=volumes["ct"], model=tiny_bundle, device="cpu", settings=settings)
    uptake.quantify(volumes["pet"], volumes["lesion"])
    uptake.evaluate(found.lesions, volumes["lesion"])


def test_the_network_of_a_bundle_is_a_plain_module(tiny_bundle):
    import torch

    network = uptake.load_bundle(tiny_bundle).network()
    assert isinstance(network, torch.nn.Module)
    assert not network.training
    with torch.inference_mode():
        logits = network(torch.zeros(1, 2, 16, 16, 16))
    assert [tuple(level.shape) for level in logits] == [(1, 2, 16, 16, 16)]
    with pytest.raises(uptake_error("CheckpointError"), match="no fold '7'"):
        uptake.load_bundle(tiny_bundle).network("7")
