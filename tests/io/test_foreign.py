"""Images of nibabel and SimpleITK as volumes and back; everything else refused."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import GeometryError
from uptake.geometry import Volume
from uptake.io.foreign import as_volume, is_foreign, like
from uptake.io.image import read_image
from uptake.io.write import write_volume

nib = pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")


def test_a_volume_is_handed_through(suv):
    assert as_volume(suv) is suv
    assert like(suv, suv) is suv
    assert not is_foreign(suv)


def test_nibabel_keeps_array_order_and_affine(suv):
    image = nib.Nifti1Image(suv.array, suv.affine)
    volume = as_volume(image)
    np.testing.assert_array_equal(volume.array, suv.array)
    np.testing.assert_array_equal(volume.affine, suv.affine)
    back = like(volume, image)
    assert isinstance(back, nib.Nifti1Image)
    np.testing.assert_array_equal(back.affine, suv.affine)


def test_nibabel_scaling_is_applied(oblique):
    image = nib.Nifti1Image(np.full((2, 3, 4), 3, np.int16), oblique)
    image.header.set_slope_inter(0.5, 1.0)
    stored = nib.Nifti1Image.from_bytes(image.to_bytes())
    stored.header.set_slope_inter(0.5, 1.0)
    np.testing.assert_allclose(as_volume(stored).array, np.asanyarray(stored.dataobj))


def test_simpleitk_is_read_in_memory_as_from_its_file(suv, tmp_path):
    write_volume(suv, tmp_path / "pet.nrrd")
    volume = as_volume(sitk.ReadImage(str(tmp_path / "pet.nrrd")))
    from_file, _ = read_image(tmp_path / "pet.nrrd")
    np.testing.assert_array_equal(volume.array, from_file.array)
    np.testing.assert_allclose(volume.affine, from_file.affine, atol=1e-9)
    np.testing.assert_allclose(volume.affine, suv.affine, atol=1e-9)


def test_simpleitk_voxels_keep_their_place_in_the_world():
    image = sitk.Image(5, 4, 3, sitk.sitkFloat32)
    image.SetSpacing([2.0, 3.0, 4.0])
    image.SetOrigin([10.0, -20.0, 30.0])
    image.SetDirection([0, -1, 0, 1, 0, 0, 0, 0, 1])
    image[4, 1, 2] = 7.0
    volume = as_volume(image)
    x, y, z = image.TransformIndexToPhysicalPoint((4, 1, 2))
    assert volume.array[4, 1, 2] == 7.0
    np.testing.assert_allclose(volume.world_of(np.array([4, 1, 2])), [-x, -y, z])  # LPS to RAS
    back = like(volume, image)
    assert back[4, 1, 2] == 7.0
    assert back.GetDirection() == image.GetDirection()
    assert back.GetOrigin() == image.GetOrigin()


@pytest.mark.parametrize("thing", [np.zeros((2, 2, 2)), None, [1, 2], object()])
def test_anything_else_is_refused_by_type_and_name(thing):
    with pytest.raises(GeometryError, match=rf"the PET: came {type(thing).__name__}; give a path"):
        as_volume(thing, name="the PET")
    assert not is_foreign(thing)


@pytest.mark.parametrize(
    "image",
    [
        nib.Nifti1Image(np.zeros((3, 3), np.float32), np.eye(4)),
        nib.Nifti1Image(np.zeros((3, 3, 3, 2), np.float32), np.eye(4)),
        sitk.Image(3, 3, sitk.sitkFloat32),
        sitk.Image([3, 3, 3, 2], sitk.sitkFloat32),
        sitk.Image(3, 3, 3, sitk.sitkVectorFloat32),
        nib.Nifti1Image(np.zeros((3, 3, 3), np.complex64), np.eye(4)),
    ],
    ids=["nibabel-2d", "nibabel-4d", "sitk-2d", "sitk-4d", "sitk-vector", "nibabel-complex"],
)
def test_what_is_no_static_volume_of_numbers_is_refused_by_name(image):
    with pytest.raises(GeometryError, match="the PET"):
        as_volume(image, name="the PET")


def test_an_image_without_an_affine_is_refused():
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), None)
    image._affine = None
    with pytest.raises(GeometryError, match="the PET: the affine must be a finite 4x4 matrix"):
        as_volume(image, name="the PET")


def test_axes_a_little_off_perpendicular_are_repaired_as_in_a_file(tmp_path):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 1] = 2e-4
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.float32), affine)
    nib.save(image, tmp_path / "a.nii")
    from_file, _ = read_image(tmp_path / "a.nii")
    volume = as_volume(image)
    np.testing.assert_allclose(volume.affine, from_file.affine, atol=1e-6)
    np.testing.assert_array_equal(like(volume, image).affine, affine)


def test_sheared_axes_are_refused_in_memory_as_from_a_file():
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 1] = 0.8
    with pytest.raises(GeometryError, match="the PET"):
        as_volume(nib.Nifti1Image(np.ones((3, 4, 5), np.float32), affine), name="the PET")


def test_the_result_owns_nothing_of_the_source(suv):
    image = nib.Nifti1Image(suv.array, suv.affine)
    mask = like(suv.with_array(np.ones(suv.shape, np.uint8)), image)
    assert mask.get_data_dtype() == np.uint8
    assert isinstance(as_volume(mask), Volume)
