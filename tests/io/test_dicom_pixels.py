"""Every way in which a scanner stores voxels gives the same voxels."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import FileFormatError, GeometryError, UnitError
from uptake.io.dicom import read_dicom
from uptake.io.write import sha256_of_files

pytest.importorskip("pydicom")

RLE, JPEG_LS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"
JPEG_LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"
DEFLATED, HTJ2K = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.201"

STORED = (np.random.default_rng(8).integers(0, 1600, (4, 16, 12)) * 20).astype(np.int16)
"""Four slices of 16 rows and 12 columns; JPEG 2000 wants a few voxels."""


def through_itk(ds, tmp_path, compressor):
    """Compress with the GDCM in SimpleITK, and take the pixels over."""
    import SimpleITK as sitk
    from pydicom import dcmread

    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(tmp_path / "coded.dcm"))
    writer.Execute(sitk.GetImageFromArray(ds.pixel_array[None]))
    coded = dcmread(tmp_path / "coded.dcm")
    ds.file_meta.TransferSyntaxUID = coded.file_meta.TransferSyntaxUID
    ds["PixelData"] = coded["PixelData"]


def coder(syntax, tmp_path):
    def each(ds, n):
        if syntax in (RLE, JPEG_LS):
            ds.compress(syntax, generate_instance_uid=False)
        elif syntax in (JPEG_LOSSLESS, JPEG_2000):
            through_itk(ds, tmp_path, {JPEG_LOSSLESS: "JPEG", JPEG_2000: "JPEG2000"}[syntax])
        else:
            ds.file_meta.TransferSyntaxUID = syntax
        assert ds.file_meta.TransferSyntaxUID == syntax

    return each


@pytest.fixture
def plain(tmp_path, pet_series):
    return read_dicom(pet_series(tmp_path / "plain", stored=STORED))


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_LOSSLESS, JPEG_2000, DEFLATED, "1.2.840.10008.1.2"])
def test_compressed_pixels_are_the_same(tmp_path, pet_series, plain, syntax):
    folder = pet_series(tmp_path / "coded", stored=STORED, each=coder(syntax, tmp_path))
    study = read_dicom(folder)
    np.testing.assert_array_equal(study.pet.array, plain.pet.array)
    assert study.sources[0].sha256 == sha256_of_files(folder.iterdir())
    assert study.warnings == ()


def test_big_endian_pixels_are_the_same(tmp_path, pet_series, plain):
    from pydicom import dcmread, dcmwrite
    from pydicom.uid import ExplicitVRBigEndian

    folder = pet_series(tmp_path / "big", stored=STORED)
    for path in folder.iterdir():
        ds = dcmread(path)
        ds.decode()
        ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
        ds.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dcmwrite(path, ds, enforce_file_format=True)
    np.testing.assert_array_equal(read_dicom(folder).pet.array, plain.pet.array)


def test_a_file_without_preamble_is_read(tmp_path, pet_series, plain):
    folder = pet_series(tmp_path / "bare", stored=STORED)
    for path in folder.iterdir():
        content = path.read_bytes()
        assert content[128:132] == b"DICM"
        path.write_bytes(content[132:])
    np.testing.assert_array_equal(read_dicom(folder).pet.array, plain.pet.array)


@pytest.mark.parametrize(("signed", "expected"), [(1, -3), (0, 4093)])
def test_bits_above_those_stored_are_ignored(tmp_path, ct_series, pet_series, signed, expected):
    """12 bits stored: 0xAFFD is -3 as a signed number, 4093 as an unsigned one; the upper four are an overlay."""
    pet_series(tmp_path / "PT")
    stored = np.full((4, 3, 4), 0xAFFD, dtype=np.uint16)
    stored[:, 0, 0] = 0x0100
    bits = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": signed, "RescaleIntercept": "-1024"}
    ct = read_dicom(ct_series(tmp_path, stored=stored.view(np.int16), **bits)).ct
    assert ct.array[1, 1, 0] == expected - 1024
    assert ct.array[0, 0, 3] == 0x0100 - 1024


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_other_sizes_of_voxels(tmp_path, pet_series, dtype):
    stored = (np.arange(48).reshape(4, 3, 4) * 5).astype(dtype)
    bits = 8 * stored.itemsize
    study = read_dicom(
        pet_series(
            tmp_path, stored=stored, BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=0
        )
    )
    factor = study.conversion.factor
    np.testing.assert_allclose(study.pet.array, stored.transpose() * 2.0 * factor, rtol=1e-6)


def test_real_numbers_as_pixels(tmp_path, pet_series):
    stored = np.random.default_rng(2).gamma(2.0, 3000.0, (4, 3, 4)).astype(np.float32)

    def each(ds, n):
        del ds.PixelData
        ds.FloatPixelData = stored[n].tobytes()
        for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
            delattr(ds, keyword)
        ds.BitsAllocated = 32

    study = read_dicom(pet_series(tmp_path, each=each))
    np.testing.assert_allclose(study.pet.array, stored.transpose() * 2.0 * study.conversion.factor, rtol=1e-6)


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_LOSSLESS, JPEG_2000, "1.2.840.10008.1.2.1"])
@pytest.mark.parametrize("share", [0.3, 0.8, 0.97])
def test_a_truncated_file_is_named(tmp_path, pet_series, syntax, share):
    folder = pet_series(tmp_path / "coded", stored=STORED, each=coder(syntax, tmp_path))
    path = sorted(folder.iterdir())[2]
    content = path.read_bytes()
    pixels = content.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(content[: pixels + int(share * (len(content) - pixels))])
    with pytest.raises(FileFormatError, match="truncated") as caught:
        read_dicom(folder)
    assert str(path) in str(caught.value)


def test_an_unknown_compression_is_named(tmp_path, pet_series):
    def each(ds, n):
        ds.compress(RLE, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = HTJ2K

    with pytest.raises(FileFormatError, match=r"High-Throughput JPEG 2000 .* is not known here"):
        read_dicom(pet_series(tmp_path, stored=STORED, each=each))


def test_compression_with_loss_is_reported(tmp_path, pet_series):
    study = read_dicom(pet_series(tmp_path, LossyImageCompression="01"))
    assert any("compressed with loss (0028,2110)" in text for text in study.warnings)


def test_colours_and_slopes_that_make_no_image_are_refused(tmp_path, pet_series):
    with pytest.raises(UnitError, match=r"Rescale Slope \(0028,1053\) is -1"):
        read_dicom(pet_series(tmp_path / "a", slopes=[-1.0] * 4))

    def each(ds, n):
        if n:
            ds.SamplesPerPixel = 3

    with pytest.raises((GeometryError, FileFormatError)):
        read_dicom(pet_series(tmp_path / "b", each=each))
