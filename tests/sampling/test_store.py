from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from uptake.cases import HarmonisedCase, Scale
from uptake.core.errors import FileFormatError
from uptake.sampling import store as storing
from uptake.sampling.store import TrainingCase, stamp_of, store, stored, training_case


@pytest.mark.parametrize(
    ("lower", "size"),
    [((2, 1, 3), (4, 5, 2)), ((-3, 2, 4), (6, 4, 9)), ((-2, -2, -2), (20, 20, 20)), ((30, 0, 0), (2, 3, 4))],
)
def test_a_cut_is_that_of_the_zero_padded_case(make_training, lower, size):
    case = make_training((9, 8, 7), lesions=[(4, 4, 3), (2, 2, 5), (0, 7, 6)])
    pad = 32
    channels, labels = case.cut(lower, size)
    where = tuple(slice(pad + low, pad + low + n) for low, n in zip(lower, size, strict=True))
    assert np.array_equal(channels, np.pad(case.channels, [(0, 0)] + [(pad, pad)] * 3)[(slice(None), *where)])
    assert np.array_equal(labels, np.pad(case.labels, pad)[where][None])
    assert channels.dtype == np.float32 and labels.dtype == np.uint8


def test_a_cut_does_not_alias_the_case(make_training):
    case = make_training()
    channels, _ = case.cut((0, 0, 0), case.shape)
    channels[:] = 99
    assert not (case.channels == 99).any()


def test_a_case_comes_back_from_disk_as_it_went(tmp_path, make_harmonised):
    harmonised = make_harmonised((70, 9, 8), lesions=[(4, 4, 3), (69, 8, 7)])
    written = store(tmp_path, harmonised, "stamp")
    found = stored(tmp_path, "case", "stamp")
    reference = training_case(harmonised)
    for case in (written, found):
        assert isinstance(case, TrainingCase) and case.id == "case" and case.shape == (70, 9, 8)
        assert np.array_equal(case.channels[:], harmonised.channels)
        assert np.array_equal(case.labels[:], harmonised.labels)
        assert np.array_equal(case.foreground, reference.foreground)
        for cut, expected in zip(case.cut((-2, 3, 5), (68, 9, 6)), reference.cut((-2, 3, 5), (68, 9, 6)), strict=True):
            assert np.array_equal(cut, expected)


def test_a_case_made_from_something_else_is_not_found_and_is_replaced(tmp_path, make_harmonised):
    store(tmp_path, make_harmonised(seed=1), "old")
    assert stored(tmp_path, "case", "new") is None
    renewed = make_harmonised(seed=2)
    store(tmp_path, renewed, "new")
    assert stored(tmp_path, "case", "old") is None
    assert np.array_equal(stored(tmp_path, "case", "new").channels[:], renewed.channels)
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_a_case_that_is_not_there_is_not_found(tmp_path):
    assert stored(tmp_path, "case", "stamp") is None


@pytest.mark.parametrize("name", ["channels.b2nd", "labels.b2nd", "foreground.npy", "stamp.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "noise"])
def test_a_damaged_file_makes_the_case_not_found(tmp_path, make_harmonised, name, damage):
    store(tmp_path, make_harmonised(), "stamp")
    path = tmp_path / "case" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "noise": b"\x07" * len(content)}[damage])
    assert stored(tmp_path, "case", "stamp") is None


def test_a_run_that_dies_half_way_leaves_nothing_and_keeps_the_old_case(tmp_path, make_harmonised, monkeypatch):
    first = make_harmonised(seed=1)
    store(tmp_path, first, "stamp")

    def fail(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(storing.np, "save", fail)
        with pytest.raises(KeyboardInterrupt):
            store(tmp_path, make_harmonised(seed=2), "new")
        with pytest.raises(KeyboardInterrupt):
            store(tmp_path, make_harmonised(case_id="other"), "new")
    assert [path.name for path in tmp_path.iterdir()] == ["case"]
    assert np.array_equal(stored(tmp_path, "case", "stamp").channels[:], first.channels)


def test_a_case_without_labels_cannot_be_trained_on(tmp_path, make_harmonised):
    bare = make_harmonised()
    bare = HarmonisedCase("bare", bare.channels, None, bare.body)
    with pytest.raises(FileFormatError, match="bare: there is no reference mask"):
        store(tmp_path, bare, "stamp")
    assert not list(tmp_path.iterdir())


def test_foreground_is_every_lesion_voxel_up_to_ten_thousand(make_training):
    case = make_training((9, 8, 7), lesions=[(4, 4, 3), (0, 7, 6)])
    assert case.foreground.tolist() == [[0, 7, 6], [4, 4, 3]] and case.foreground.dtype == np.int32


def test_large_lesions_keep_ten_thousand_voxels_or_one_percent(monkeypatch):
    def kept(shape):
        labels = np.ones(shape, np.uint8)
        case = training_case(HarmonisedCase("c", np.zeros((1, *shape), np.float32), labels, labels > 0))
        assert len(np.unique(case.foreground, axis=0)) == len(case.foreground)
        return case.foreground

    assert len(kept((30, 30, 30))) == 10_000
    assert np.array_equal(kept((30, 30, 30)), kept((30, 30, 30)))
    monkeypatch.setattr(storing, "FOREGROUND_VOXELS", 10)
    assert len(kept((20, 20, 20))) == 80


def test_the_stamp_changes_with_plan_sources_and_format(monkeypatch):
    base = stamp_of({"spacing": 3}, {"pet": "a", "ct": "b"})
    assert base == stamp_of({"spacing": 3}, {"ct": "b", "pet": "a"})
    others = {
        stamp_of({"spacing": 4}, {"pet": "a", "ct": "b"}),
        stamp_of({"spacing": 3}, {"pet": "a", "ct": "c"}),
        stamp_of({"spacing": 3}, {"pet": "a"}),
    }
    monkeypatch.setattr(storing, "STORE_FORMAT", storing.STORE_FORMAT + 1)
    others.add(stamp_of({"spacing": 3}, {"pet": "a", "ct": "b"}))
    assert len(others) == 4 and base not in others


def test_the_stamp_file_names_what_was_absent(tmp_path, make_harmonised):
    case = make_harmonised()
    store(tmp_path, HarmonisedCase("case", case.channels, case.labels, case.body, ("ct",)), "stamp")
    assert json.loads((tmp_path / "case" / "stamp.json").read_text()) == {
        "stamp": "stamp",
        "absent": ["ct"],
        "scales": [],
    }


def test_organs_are_kept_cut_and_stamped(tmp_path, make_harmonised):
    plain = make_harmonised()
    organs = np.arange(plain.body.size, dtype=np.uint8).reshape(plain.body.shape) % 7
    case = replace(plain, organs=organs)
    found = store(tmp_path, case, "stamp")
    assert np.array_equal(found.organs[:], organs)
    assert found.cut((0, 0, 0), (4, 4, 4))[1].shape == (2, 4, 4, 4)
    assert np.array_equal(found.cut((1, 2, 3), (4, 4, 4))[1][1], organs[1:5, 2:6, 3:7])
    assert stored(tmp_path, case.id, "stamp").organs is not None
    tables = [None, np.array([0, 1], np.uint8), np.array([0, 2], np.uint8)]
    assert len({stamp_of({}, {}, table) for table in tables}) == 3


def test_a_target_and_its_scale_come_back_from_disk_and_are_cut_as_the_last_channel(tmp_path, make_harmonised):
    plain = make_harmonised((9, 8, 7))
    target = np.random.default_rng(5).normal(size=(9, 8, 7)).astype(np.float32)
    paired = replace(plain, target=target, scales=(Scale(1.0, 2.0), Scale(0.5, 3.0, "asinh")))
    store(tmp_path, paired, "stamp")
    for case in (stored(tmp_path, "case", "stamp"), training_case(paired)):
        assert np.array_equal(case.target[:], target) and case.scales == paired.scales
        channels, labels = case.cut((-1, 2, 3), (5, 4, 6))
        without, same = training_case(plain).cut((-1, 2, 3), (5, 4, 6))
        assert channels.shape == (3, 5, 4, 6)
        assert np.array_equal(channels[:2], without) and np.array_equal(labels, same)
        assert np.array_equal(channels[2, 1:, :, :4], target[0:4, 2:6, 3:7]) and not channels[2, 0].any()


def test_windows_are_centred_on_every_class_alike(make_harmonised):
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[:10], labels[15, 3, 4] = 1, 7
    case = training_case(replace(make_harmonised((20, 20, 20)), labels=labels))
    found = labels[tuple(case.foreground.T)]
    assert (found == 1).sum() == (found == 7).sum() == storing.FOREGROUND_VOXELS // 2
