"""Bad input: exit code 4, the file and the remedy named, nothing left behind. Wrong usage: exit code 2."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from uptake.geometry import Volume
from uptake.io.write import write_volume

nib = pytest.importorskip("nibabel")

FAST = ("--no-mirror", "--precision", "float32", "--device", "cpu", "--engine", "torch")


@pytest.fixture
def study(make_study, tmp_path):
    return make_study(tmp_path / "studies" / "patient_7")


@pytest.fixture
def refused(cli, tiny_bundle, tmp_path, plain_pictures):
    """Return a function that segments, asserts exit code 4 and an empty output folder, and returns the message."""

    def call(*arguments, model=tiny_bundle, out=None):
        out = out or tmp_path / "out"
        ran = cli("segment", *arguments, "-o", out, "-m", model, *FAST)
        assert ran.code == 4, ran
        assert ran.out == ""
        assert ran.err.startswith("uptake: ")
        assert "Traceback" not in ran.err
        if out.is_dir():
            assert list(out.iterdir()) == []
        return ran.err

    return call


def image(path, array, affine):
    nib.save(nib.Nifti1Image(array, affine), path)


@pytest.mark.parametrize("role", ["pet", "ct"])
@pytest.mark.parametrize(("length", "word"), [(0, "empty"), (10, "truncated"), (2000, "truncated"), (-1, "truncated")])
def test_a_truncated_or_empty_file(refused, study, role, length, word):
    file = study / f"{role}.nii.gz"
    file.write_bytes(file.read_bytes()[:length])
    message = refused(study)
    assert str(file) in message
    assert word in message
    assert "Copy or convert the image again" in message


def test_an_uncompressed_file_cut_short(refused, make_study, tmp_path):
    study = make_study(tmp_path / "s", suffix=".nii")
    file = study / "pet.nii"
    file.write_bytes(file.read_bytes()[:-5000])
    message = refused(study)
    assert str(file) in message
    assert "truncated" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("role", ["pet", "ct"])
def test_voxels_that_are_no_numbers(refused, make_study, tmp_path, tiny_arrays, role, value):
    array = tiny_arrays[role].copy()
    array[3, 4, 5] = value
    message = refused(make_study(tmp_path / "s", **{role: array}))
    assert str(tmp_path / "s" / f"{role}.nii.gz") in message
    assert "1 of 13440 voxels are NaN or infinite" in message
    assert "convert the image again" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pet: pet * 5000, "Bq/mL"),
        (lambda pet: (pet - pet.mean()) / pet.std(), "zero mean"),
        (lambda pet: pet / pet.max(), "scaled"),
        (lambda pet: np.zeros_like(pet), "every voxel is 0"),
    ],
    ids=["becquerels", "z-scored", "zero-to-one", "constant"],
)
def test_a_pet_that_is_plainly_not_suv_and_the_override(
    refused, cli, make_study, tmp_path, tiny_arrays, tiny_bundle, change, reason
):
    study = make_study(tmp_path / "s", pet=change(tiny_arrays["pet"]).astype(np.float32))
    message = refused(study)
    assert str(study / "pet.nii.gz") in message
    assert "plainly not in SUV" in message
    assert reason in message
    assert "--assume-suv" in message
    forced = cli("segment", study, "-o", tmp_path / "o2", "-m", tiny_bundle, *FAST, "--assume-suv")
    assert forced.code == 0
    warnings = json.loads((tmp_path / "o2" / "s" / "run.json").read_text(encoding="utf-8"))["warnings"]
    assert any("taken as SUV as asked" in warning for warning in warnings)


def test_a_ct_in_the_place_of_the_pet(refused, study):
    assert "looks like a CT" in refused("--pet", study / "ct.nii.gz")


def test_pet_and_ct_that_do_not_overlap(refused, study, tiny_arrays, turned):
    away = turned.copy()
    away[2, 3] += 3000
    write_volume(Volume(tiny_arrays["ct"], away), study / "ct.nii.gz")
    message = refused(study)
    assert "do not overlap in space" in message
    assert "3000 mm apart" in message
    assert str(study / "pet.nii.gz") in message
    assert str(study / "ct.nii.gz") in message
    assert "leave it out" in message


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 28, 3)])
@pytest.mark.parametrize("role", ["pet", "ct"])
def test_an_image_of_two_or_four_dimensions(refused, study, role, shape, turned):
    rng = np.random.default_rng(0)
    image(study / f"{role}.nii.gz", rng.uniform(0, 5, shape).astype(np.float32), turned)
    message = refused(study)
    assert str(study / f"{role}.nii.gz") in message
    assert "expected three axes" in message
    assert "one static volume" in message


def test_a_file_that_is_no_image(refused, study):
    (study / "pet.nii.gz").write_text("<html>404</html>", encoding="utf-8")
    assert str(study / "pet.nii.gz") in refused(study)
    (study / "notes.txt").write_text("hello", encoding="utf-8")
    assert "not an image file" in refused(study / "notes.txt")
    (study / "slice.dcm").write_bytes(b"DICM")
    assert "give the folder that holds the whole series" in refused(study / "slice.dcm")


def test_a_path_that_does_not_exist(refused, tmp_path):
    assert "no such file or folder" in refused(tmp_path / "nowhere")
    assert "no such file" in refused("--pet", tmp_path / "nowhere.nii.gz")


def test_a_folder_without_a_pet_lists_what_is_there_and_what_is_wanted(refused, make_study, tmp_path):
    study = make_study(tmp_path / "s", roles=("ct", "lesion"))
    message = refused(study)
    assert "ct.nii.gz: taken as ct" in message
    assert "lesion.nii.gz: taken as lesions" in message
    assert "Accepted:" in message
    (tmp_path / "empty").mkdir()
    assert "the folder is empty" in refused(tmp_path / "empty")


def test_an_output_folder_with_a_file_in_the_way(refused, study, tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        message = refused(study, out=out)
        assert str(out) in message
        assert "file is in the way" in message
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_an_output_folder_that_may_not_be_written(refused, study, tmp_path, monkeypatch):
    import uptake.io.write as write

    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(write.os, "replace", denied)
    message = refused(study)
    assert str(tmp_path / "out") in message
    assert "choose a folder you may write to" in message


def test_results_never_take_the_place_of_the_study(cli, study, tiny_bundle, plain_pictures):
    before = {f.name: f.read_bytes() for f in study.iterdir()}
    ran = cli("segment", study, "-o", study.parent, "-m", tiny_bundle, *FAST)
    assert ran.code == 4
    assert "holds files that are none: ct.nii.gz, lesion.nii.gz, pet.nii.gz" in ran.err
    assert "Choose another output folder" in ran.err
    ran = cli("quantify", study, study / "lesion.nii.gz", "-o", study.parent)
    assert ran.code == 4
    assert {f.name: f.read_bytes() for f in study.iterdir()} == before
    assert [f.name for f in study.parent.iterdir()] == [study.name]


def test_files_that_a_user_put_beside_the_results_are_not_deleted(cli, study, tiny_bundle, tmp_path, plain_pictures):
    command = ("segment", study, "-o", tmp_path / "out", "-m", tiny_bundle, *FAST)
    assert cli(*command).code == 0
    corrected = tmp_path / "out" / "patient_7" / "lesions_corrected.nii.gz"
    corrected.write_bytes(b"an hour of work")
    ran = cli(*command, "--again")
    assert ran.code == 4
    assert "lesions_corrected.nii.gz" in ran.err
    assert corrected.read_bytes() == b"an hour of work"


def test_a_case_folder_that_is_a_file_is_not_replaced(cli, study, tiny_bundle, tmp_path, plain_pictures):
    (tmp_path / "patient_7").write_text("mine", encoding="utf-8")
    ran = cli("segment", study, "-o", tmp_path, "-m", tiny_bundle, *FAST)
    assert ran.code == 4
    assert str(tmp_path / "patient_7") in ran.err
    assert "a file is in the way" in ran.err
    assert (tmp_path / "patient_7").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("where", ["image", "text", "folder"])
def test_a_full_disk(refused, study, tmp_path, monkeypatch, where):
    import uptake.io.write as write
    from uptake.workflows import outputs

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "image":
        monkeypatch.setattr(write.gzip.GzipFile, "write", fail)
    elif where == "text":
        real = Path.write_bytes
        late = "lesions.json"
        monkeypatch.setattr(
            Path, "write_bytes", lambda path, data: fail() if path.name.endswith(late) else real(path, data)
        )
    else:
        monkeypatch.setattr(outputs.tempfile, "mkdtemp", fail)
    message = refused(study)
    assert str(tmp_path / "out" / "patient_7") in message
    assert "cannot be written" in message
    assert "space" in message.lower()
    assert "elsewhere" in message or "another folder" in message


def test_a_full_disk_leaves_the_old_result(cli, study, tiny_bundle, tmp_path, plain_pictures, monkeypatch):
    import uptake.io.write as write

    command = ("segment", study, "-o", tmp_path / "out", "-m", tiny_bundle, *FAST)
    assert cli(*command).code == 0
    folder = tmp_path / "out" / "patient_7"
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()}

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write.gzip.GzipFile, "write", fail)
    ran = cli(*command, "--again")
    assert ran.code == 4
    assert "the disk is full; free space or write elsewhere" in ran.err
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()} == before
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["patient_7"]


@pytest.mark.skipif(os.name != "posix", reason="a limit on file sizes as on Linux and macOS")
@pytest.mark.parametrize("limit", [200, 5000, 10000])
def test_a_system_that_takes_no_more_bytes(refused, study, limit):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        message = refused(study)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "patient_7" in message
    assert "cannot be written: File too large" in message


def without_one(state):
    return {name: tensor for name, tensor in state.items() if name != "decoder.seg_layers.0.bias"}


def with_one_more(state):
    return {**state, "more": state["decoder.seg_layers.0.bias"].clone()}


def misshapen(state):
    return {**state, "decoder.seg_layers.0.bias": state["decoder.seg_layers.0.bias"].repeat(2)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_one, "decoder.seg_layers.0.bias is missing"),
        (with_one_more, "more is not part of the network"),
        (misshapen, "decoder.seg_layers.0.bias has shape (4,), the network wants (2,)"),
    ],
)
def test_a_bundle_whose_tensors_do_not_fit(refused, study, make_bundle, tmp_path, change, words):
    bundle = make_bundle(tmp_path / "odd", change=change)
    message = refused(study, model=bundle)
    assert str(bundle) in message
    assert words in message


def test_a_bundle_with_an_altered_byte(refused, study, make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "altered")
    weights = bundle / "fold_0.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(bytes(content))
    message = refused(study, model=bundle)
    assert str(weights) in message
    assert "altered or the copy is incomplete" in message
    assert "Fetch or copy the bundle again" in message


def test_a_bundle_without_its_weights(refused, study, make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "hollow")
    (bundle / "fold_0.safetensors").unlink()
    message = refused(study, model=bundle)
    assert "fold_0.safetensors: this weight file of the bundle is missing" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda card: "{", "the card cannot be read"),
        (lambda card: "[]", "the card cannot be read"),
        (lambda card: json.dumps({**card, "format": 99}), "upgrade uptake"),
        (lambda card: json.dumps({**card, "plan": {}}), "its plan cannot be used"),
        (lambda card: json.dumps({**card, "config": {**card["config"], "window": [15, 16, 16]}}), "its config"),
        (lambda card: json.dumps({**card, "config": {**card["config"], "unheard_of": 1}}), "its config"),
        (lambda card: json.dumps({**card, "method": "os"}), "method 'os' is unknown"),
    ],
    ids=["no-json", "list", "newer", "plan", "window", "field", "method"],
)
def test_a_card_that_cannot_be_used(refused, study, make_bundle, tmp_path, change, words):
    bundle = make_bundle(tmp_path / "m")
    card = json.loads((bundle / "card.json").read_text(encoding="utf-8"))
    (bundle / "card.json").write_text(change(card), encoding="utf-8")
    assert words in refused(study, model=bundle)


def test_an_unknown_model_gets_a_suggestion(refused, study, make_bundle, tmp_path, monkeypatch):
    from uptake.zoo import cards

    make_bundle(tmp_path / "shipped" / "phantom-lesion-small")
    monkeypatch.setattr(cards, "SHIPPED", tmp_path / "shipped")
    message = refused(study, model="phantom-leson-smal")
    assert "there is no model 'phantom-leson-smal'" in message
    assert "Did you mean 'phantom-lesion-small'?" in message
    assert "A path to a bundle works too" in message
    assert "Did you mean" not in refused(study, model="zzz")


def test_a_folder_that_is_no_bundle(refused, study):
    assert "holds no card.json, so it is not a model bundle" in refused(study, model=study)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("segment",),
        ("segment", "-o", "OUT"),
        ("segment", "a", "-i", "b", "-o", "OUT"),
        ("segment", "a", "-o", "OUT", "--connectivity", "7"),
        ("segment", "a", "-o", "OUT", "--tile-step", "0"),
        ("segment", "a", "-o", "OUT", "--tile-step", "nan"),
        ("segment", "a", "-o", "OUT", "--unheard-of"),
        ("segment", "a", "-o", "OUT", "--min-volume-ml", "much"),
        ("quantify", "a"),
        ("evaluate", "a"),
        ("train", "unknown-method", "a", "-o", "OUT"),
        ("simulate", "-o", "OUT", "-n", "0"),
        ("simulate", "-o", "OUT", "--seed", "-1"),
        ("simulate", "-o", "OUT", "--lesions", "-2"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2_and_writes_nothing(cli, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    ran = cli(*arguments)
    if not arguments:
        assert (ran.code, ran.err) == (0, ""), "uptake alone shows its help"
        return
    assert ran.code == 2
    assert ran.err or ran.out
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--precision", "float8", "choose auto, float32 or bfloat16"),
        ("--device", "abacus", "choose auto, cpu, cuda"),
        ("--engine", "abacus", "choose one of auto, torch, openvino"),
        ("--min-volume-ml", "-1", "0 or more"),
    ],
)
def test_a_value_that_an_option_does_not_know(cli, study, tiny_bundle, tmp_path, plain_pictures, option, value, words):
    ran = cli("segment", study, "-o", tmp_path / "out", "-m", tiny_bundle, option, value)
    assert ran.code == 2
    assert words in ran.err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("options", [("--precision", "float8"), ("--device", "abacus"), ("--min-volume-ml", "-1")])
def test_a_wrong_value_stops_a_cohort_before_its_first_case(cli, make_study, tmp_path, tiny_bundle, options):
    for name in ("a", "b"):
        make_study(tmp_path / "cohort" / name)
    ran = cli("segment", tmp_path / "cohort", "-o", tmp_path / "out", "-m", tiny_bundle, *options)
    assert ran.code == 2
    assert ran.out == ""
    assert list((tmp_path / "out").iterdir()) == []


def test_one_pet_for_several_studies_is_wrong_usage(cli, make_study, tmp_path, tiny_bundle):
    for name in ("a", "b"):
        make_study(tmp_path / "cohort" / name)
    pet = tmp_path / "cohort" / "a" / "pet.nii.gz"
    ran = cli("segment", tmp_path / "cohort", "--pet", pet, "-o", tmp_path / "out", "-m", tiny_bundle)
    assert ran.code == 2
    assert "one study only" in ran.err


def test_our_own_failure_is_exit_code_1_and_says_how_to_report_it(cli, study, tiny_bundle, tmp_path, monkeypatch):
    import uptake.workflows.segment as workflow

    def broken(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(workflow, "harmonise", broken)
    monkeypatch.delenv("UPTAKE_DEBUG", raising=False)
    ran = cli("segment", study, "-o", tmp_path / "out", "-m", tiny_bundle)
    assert ran.code == 1
    assert "ZeroDivisionError: a bug" in ran.err
    assert "UPTAKE_DEBUG=1" in ran.err
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setenv("UPTAKE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli("segment", study, "-o", tmp_path / "out", "-m", tiny_bundle)


def test_a_message_never_names_the_patient(refused, make_study, tmp_path):
    study = make_study(tmp_path / "s")
    header = nib.load(study / "pet.nii.gz")
    header.header["db_name"] = b"SECRET^PERSON"
    image_of = np.asarray(header.dataobj) * 5000
    broken = nib.Nifti1Image(image_of.astype(np.float32), header.affine, header.header)
    nib.save(broken, study / "pet.nii.gz")
    assert "SECRET" not in refused(study)
    assert Path(study / "pet.nii.gz").exists()
