from __future__ import annotations

import io

import pytest

from uptake.io.dicom_header import SharedHeaders

pydicom = pytest.importorskip("pydicom")


def content_of(dataset, *, implicit: bool) -> bytes:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    file = FileDataset("", dataset, file_meta=meta, preamble=b"\0" * 128)
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def slice_header(number: int, *, undefined: bool = True):
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def item(**values):
        made = Dataset()
        for keyword, value in values.items():
            setattr(made, keyword, value)
        made.is_undefined_length_sequence_item = undefined
        return made

    ds = item(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.128",
        SeriesInstanceUID="1.2.3.4",
        PatientName="Müller^Jörg",
        Modality="PT",
        ImagePositionPatient=[1.5, -2.25, 3.27 * number],
        RescaleSlope=str(0.25 * (number + 1)),
        AccessionNumber="",
        Rows=2,
    )
    code = item(CodeValue="C-111A1", CodingSchemeDesignator="SRT", CodeMeaning="Fluor")
    tracer = item(RadionuclideTotalDose="350000000", RadionuclideCodeSequence=Sequence([code]))
    ds.RadiopharmaceuticalInformationSequence = Sequence([tracer])
    ds["RadiopharmaceuticalInformationSequence"].is_undefined_length = undefined
    tracer["RadionuclideCodeSequence"].is_undefined_length = undefined
    block = ds.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", "20240102110000")
    private = Sequence([item(CodeValue=f"P{number}")])
    own = ds.private_block(0x0011, "UPTAKE TEST", create=True)
    own.add_new(0x20, "SQ", private)
    ds[own.get_tag(0x20)].is_undefined_length = undefined
    ds.PixelData = bytes(8)
    ds["PixelData"].VR = "OW"
    return ds


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("undefined", [True, False])
def test_the_header_is_the_one_that_pydicom_reads(implicit, undefined):
    shared = SharedHeaders()
    for number in range(3):
        content = content_of(slice_header(number, undefined=undefined), implicit=implicit)
        stream = io.BytesIO(content)
        expected = pydicom.dcmread(stream, stop_before_pixels=True)
        header, pixels_at, syntax, media_class = shared.read(content)
        assert list(header.keys()) == list(expected.keys())
        assert header == pydicom.Dataset(expected)
        assert str(header.PatientName) == "Müller^Jörg"
        assert header.private_block(0x0009, "GEMS_PETD_01")[0x0D].value == "20240102110000"
        assert pixels_at == stream.tell()
        assert syntax == expected.file_meta.TransferSyntaxUID
        assert media_class == "1.2.840.10008.5.1.4.1.1.128"


def test_what_is_equal_is_shared_and_what_differs_is_not():
    shared = SharedHeaders()
    headers = [shared.read(content_of(slice_header(n), implicit=False))[0] for n in range(3)]
    assert headers[1]["Modality"] is headers[2]["Modality"]
    assert [float(h.RescaleSlope) for h in headers] == [0.25, 0.5, 0.75]
    other = slice_header(0)
    other.SeriesInstanceUID = "1.2.3.5"
    other.Modality = "CT"
    assert shared.read(content_of(other, implicit=False))[0].Modality == "CT"


def test_odd_files_are_left_to_pydicom():
    shared = SharedHeaders()
    good = content_of(slice_header(0), implicit=False)
    assert shared.read(b"") is None
    assert shared.read(b"\0" * 500) is None
    assert shared.read(good.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")) is None  # big endian
    at = good.index(b"SQ")
    assert shared.read(good[: at + 40]) is None  # cut inside a sequence
    assert shared.read(good[:at] + b"s?" + good[at + 2 :]) is None


def test_a_value_that_cannot_be_decoded_fails_where_it_is_asked_for():
    contents = [content_of(slice_header(n), implicit=True) for n in range(2)]
    broken = [
        c.replace(b"\x28\x00\x10\x00\x02\x00\x00\x00\x02\x00", b"\x28\x00\x10\x00\x01\x00\x00\x00\x02")
        for c in contents
    ]
    shared = SharedHeaders()
    for content, whole in zip(broken, contents, strict=True):
        assert len(content) == len(whole) - 1
        header = shared.read(content)[0]
        assert header.Modality == "PT"
        with pytest.raises(pydicom.errors.BytesLengthException):
            _ = header.Rows
