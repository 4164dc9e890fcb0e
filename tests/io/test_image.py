from __future__ import annotations

import gzip

import numpy as np
import pytest

from uptake.core.errors import FileFormatError, GeometryError, InputError
from uptake.geometry import corner_distance_mm
from uptake.io.image import image_stem, image_suffix, read_image, read_labels
from uptake.io.write import write_volume

nib = pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")


def save(array, affine, path):
    nib.Nifti1Image(array, affine).to_filename(path)
    return path


def test_names():
    from pathlib import Path

    assert [image_suffix(Path(name)) for name in ("a.nii.gz", "A.NII", "b.Nrrd", "c.gz", "d")] == [
        ".nii.gz",
        ".nii",
        ".nrrd",
        "",
        "",
    ]
    assert image_stem(Path("x/PT_1.2.nii.gz")) == "PT_1.2"


def test_integers_with_a_slope_are_scaled(tmp_path, oblique):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), oblique)
    image.header.set_slope_inter(0.0025, 1.0)
    image.to_filename(tmp_path / "a.nii.gz")
    volume, _ = read_image(tmp_path / "a.nii.gz")
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array.ravel(), np.arange(24) * 0.0025 + 1, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("keep", [0, 100, 0.5, -9])
def test_empty_and_truncated_files_are_refused(tmp_path, suv, suffix, keep):
    path = tmp_path / f"a{suffix}"
    write_volume(suv.with_array(np.random.default_rng(0).random(suv.shape, dtype=np.float32)), path)
    content = path.read_bytes()
    cut = int(len(content) * keep) if isinstance(keep, float) else keep
    if suffix == ".nrrd" and keep == -9:
        cut = -40  # its gzip trailer is not read by ITK
    path.write_bytes(content[:cut])
    with pytest.raises(FileFormatError, match=rf"a\{suffix}.*(empty|truncated|damaged).*again") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_a_flipped_bit_in_a_gzip_is_noticed(tmp_path, suv):
    write_volume(suv, tmp_path / "a.nii")
    raw = bytearray(gzip.compress((tmp_path / "a.nii").read_bytes(), compresslevel=0))
    raw[len(raw) // 2] ^= 1
    (tmp_path / "b.nii.gz").write_bytes(bytes(raw))
    with pytest.raises(FileFormatError, match="checksum is wrong"):
        read_image(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_a_text_with_the_name_of_an_image_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text("this is no image\n" * 100)
    with pytest.raises(FileFormatError):
        read_image(path)


def test_other_suffixes_and_absent_files_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(FileFormatError, match=r"not an image that can be read here; expected one of \.nii\.gz"):
        read_image(tmp_path / "a.png")
    with pytest.raises(FileFormatError, match="no such file"):
        read_image(tmp_path / "b.nii")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha"])
def test_nan_and_infinite_voxels_are_counted_and_refused(tmp_path, suv, bad, suffix):
    array = suv.array.copy()
    array[1, 2, 3] = array[0, 0, 0] = bad
    write_volume(suv.with_array(array), tmp_path / f"a{suffix}")
    with pytest.raises(FileFormatError, match="2 of 120 voxels are NaN or infinite"):
        read_image(tmp_path / f"a{suffix}")
    with pytest.raises(FileFormatError, match="NaN"):
        read_labels(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4, 2), (6,), (2, 2, 2, 1, 3)])
def test_only_three_axes_are_accepted(tmp_path, shape):
    path = save(np.ones(shape, np.float32), np.eye(4), tmp_path / "a.nii")
    with pytest.raises(GeometryError, match=rf"a\.nii: {len(shape)}-D image .*expected three axes"):
        read_image(path)


def test_2d_and_4d_metaimages_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((5, 6), np.float32)), str(tmp_path / "a.mha"))
    with pytest.raises(GeometryError, match="2-D"):
        read_image(tmp_path / "a.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((2, 4, 5, 6), np.float32), isVector=False), str(tmp_path / "b.nrrd"))
    with pytest.raises(GeometryError, match="4-D"):
        read_image(tmp_path / "b.nrrd")


def test_colours_are_refused(tmp_path):
    image = sitk.GetImageFromArray(np.ones((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(FileFormatError, match="3 values per voxel"):
        read_image(tmp_path / "a.mha")
    rgb = np.zeros((2, 2, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.Nifti1Image(rgb, np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(FileFormatError, match="no image of real numbers"):
        read_image(tmp_path / "a.nii")


def test_a_trailing_singleton_axis_is_dropped_and_said(tmp_path, suv):
    save(suv.array[..., None], suv.affine, tmp_path / "a.nii")
    volume, warnings = read_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.array, suv.array)
    assert any("fourth axis of length 1" in text for text in warnings)


def test_singleton_fourth_axis_of_a_nrrd(tmp_path, suv):
    image = sitk.GetImageFromArray(suv.array.T[None], isVector=False)
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    volume, warnings = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.array, suv.array)
    assert len(warnings) == 1


def test_itk_and_nibabel_put_the_voxels_in_the_same_place(tmp_path, suv):
    write_volume(suv, tmp_path / "a.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")), str(tmp_path / "a.mha"))
    ours, _ = read_image(tmp_path / "a.nii.gz")
    theirs, _ = read_image(tmp_path / "a.mha")
    np.testing.assert_array_equal(ours.array, theirs.array)
    assert corner_distance_mm(ours, theirs) < 1e-3


def test_small_shear_is_repaired_and_large_refused(tmp_path, suv):
    sheared = suv.affine.copy()
    sheared[:3, 2] += 0.004 * sheared[:3, 0]
    write_volume(suv.__class__(suv.array, sheared), tmp_path / "a.nii")
    volume, warnings = read_image(tmp_path / "a.nii")
    assert any("made perpendicular" in text for text in warnings)
    assert np.allclose(volume.direction.T @ volume.direction, np.eye(3), atol=1e-9)
    sheared[:3, 2] += 0.5 * sheared[:3, 0]
    write_volume(suv.__class__(suv.array, sheared), tmp_path / "b.nii")
    with pytest.raises(GeometryError, match=r"b\.nii: its axes are not perpendicular"):
        read_image(tmp_path / "b.nii")


def test_disagreeing_forms_are_reported_and_nibabels_choice_is_kept(tmp_path, suv):
    image = nib.Nifti1Image(suv.array, suv.affine)
    other = suv.affine.copy()
    other[0, 3] += 4.0
    image.set_sform(suv.affine, code=1)
    image.set_qform(other, code=1)
    image.to_filename(tmp_path / "a.nii")
    volume, warnings = read_image(tmp_path / "a.nii")
    assert warnings == (f"{tmp_path / 'a.nii'}: sform and qform disagree by 4.0 mm at a corner; the sform was used.",)
    np.testing.assert_allclose(volume.affine, nib.load(tmp_path / "a.nii").affine, atol=1e-5)


def test_what_nibabel_repairs_in_a_header_is_reported(tmp_path, suv, capfd):
    raw = bytearray(nib.Nifti1Image(suv.array, suv.affine).to_bytes())
    raw[76:80] = np.float32(0).tobytes()  # qfac, a common oddity
    (tmp_path / "a.nii").write_bytes(bytes(raw))
    _, warnings = read_image(tmp_path / "a.nii")
    assert "qfac" in warnings[0]
    assert capfd.readouterr().err == ""


def test_headers_damaged_at_random_never_end_in_anything_but_a_refusal(tmp_path, suv):
    raw = nib.Nifti1Image(suv.array, suv.affine).to_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        broken = bytearray(raw)
        for place in rng.integers(0, 352, size=4):
            broken[place] = rng.integers(0, 256)
        (tmp_path / "a.nii").write_bytes(bytes(broken))
        try:
            read_image(tmp_path / "a.nii")
        except InputError:
            refused += 1
    assert refused > 20


def test_an_unknown_orientation_is_reported(tmp_path, suv):
    save(suv.array, None, tmp_path / "a.nii")
    _, warnings = read_image(tmp_path / "a.nii")
    assert "left and right are not known" in warnings[0]


def test_other_units_of_length_are_refused(tmp_path, suv):
    image = nib.Nifti1Image(suv.array, suv.affine)
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "a.nii")
    with pytest.raises(GeometryError, match="lengths are in meters"):
        read_image(tmp_path / "a.nii")


def test_a_collapsed_axis_is_refused(tmp_path, suv):
    image = nib.Nifti1Image(suv.array, suv.affine)
    raw = bytearray(image.to_bytes())
    raw[280:328] = b"\0" * 48  # srow_x, srow_y, srow_z of the NIfTI-1 header
    (tmp_path / "a.nii").write_bytes(bytes(raw))
    with pytest.raises(GeometryError, match="collapses an axis"):
        read_image(tmp_path / "a.nii")


def test_nifti2_is_read(tmp_path, suv):
    nib.Nifti2Image(suv.array, suv.affine).to_filename(tmp_path / "a.nii.gz")
    volume, _ = read_image(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, suv.array)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_detached_voxels_count_for_the_hash(tmp_path, suv, suffix):
    import uptake

    path = tmp_path / f"pet{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(suv.array.T), str(path))
    before = uptake.read(path).sources[0].sha256
    sitk.WriteImage(sitk.GetImageFromArray(suv.array.T * 2), str(path))
    assert uptake.read(path).sources[0].sha256 != before


def test_labels(tmp_path, suv):
    save((suv.array > 3).astype(np.float64), suv.affine, tmp_path / "float.nii")
    assert read_labels(tmp_path / "float.nii")[0].array.dtype == np.uint8
    save(np.full(suv.shape, 300, np.int32), suv.affine, tmp_path / "many.nii")
    assert read_labels(tmp_path / "many.nii")[0].array.dtype == np.uint16
    for name, array in {
        "soft": suv.array / 12,
        "negative": suv.array.astype(np.int16) - 1,
        "huge": suv.array.astype(np.int32) + 70000,
    }.items():
        save(array, suv.affine, tmp_path / f"{name}.nii")
        with pytest.raises(FileFormatError, match="a label map holds whole numbers"):
            read_labels(tmp_path / f"{name}.nii")
