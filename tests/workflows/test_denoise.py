"""A low-dose study through the denoising decoder: SUV and place kept, side-car, DICOM, refusals and warnings."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from uptake.cases import Case
from uptake.core.errors import InputError, ModelError, UnitError, UsageError
from uptake.geometry import Volume
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.plan import Plan
from uptake.io.dicom import read_dicom
from uptake.io.image import read_image, read_labels
from uptake.workflows import denoise as workflow
from uptake.workflows.bundles import load_bundle
from uptake.workflows.denoise import DenoiseSettings, Noise, denoise, dose_of, noise_of, trained_dose
from uptake.workflows.tracers import trained_tracers


@pytest.fixture(autouse=True)
def torch_alone(monkeypatch, request):
    """Compiling takes longer than a tiny network; one test does it."""
    if "compiled" not in request.node.name:
        monkeypatch.setattr("uptake.inference.compiled._why_not_openvino", lambda: "left out of this test")


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory):
    """A function that writes an LDOS bundle of random weights, 8 mm: ``denoiser(training={...}, design="joint")``."""
    from uptake.methods import ldos
    from uptake.zoo.bundle import save_bundle
    from uptake.zoo.cards import Card

    def write(*, design="joint", training=None, same=True, spacing=8.0, output="linear"):
        folder = tmp_path_factory.mktemp("models") / "tiny-ldos"
        config = replace(
            ldos.Config.small(), design=design, window=(16, 16, 16), features=(4, 8), blocks=(1, 1), focus=False,
            spacing_mm=(spacing,) * 3, output=output,
        )  # fmt: skip
        plan = Plan((ChannelRule("pet", "zscore", 0.0, 20.0, 0.0, 1.0),), (spacing,) * 3)
        state = ldos.build_network(config).state_dict()
        if same and design == "joint":
            # A head without weights gives its bias everywhere: 0, the mean of the image that came in.
            state = {
                name: tensor * 0 if name.startswith("denoiser.seg_layers") else tensor for name, tensor in state.items()
            }
        card = Card(
            name="tiny-ldos", version="1", summary="random weights", method="ldos", config=config.as_json(),
            plan=plan.as_json(), labels=list(config.labels), needs=["pet"], accepts=["pet"], suv="SUV",
            training={"dose_fraction": 0.05, "tracers": ["FDG", "FAPI-04"]} if training is None else training,
            scores=[], limits=["It has learnt nothing."], licence="Apache-2.0", files={}, stored_as="float32",
            package_version="test",
        )  # fmt: skip
        save_bundle(card, {"0": _unique(state)}, folder)
        return folder

    return write


def _unique(state):
    """The tensors once each, as bundles hold them."""
    seen, kept = set(), {}
    for name, tensor in state.items():
        if tensor.data_ptr() not in seen or tensor.numel() == 0:
            seen.add(tensor.data_ptr())
            kept[name] = tensor
    return kept


@pytest.fixture(scope="module")
def bundle(denoiser):
    return denoiser()


@pytest.fixture
def low(make_study, tmp_path):
    """A study folder in oblique 8 mm voxels, without CT, in a folder that tells its dose."""
    return make_study(tmp_path / "cohort" / "one" / "dose_0.05", roles=("pet",))


def test_values_come_back_in_suv_on_the_scans_own_grid(low, bundle):
    made = denoise(low, model=bundle)
    pet = read_image(low / "pet.nii.gz")[0]
    np.testing.assert_allclose(made.image.affine, pet.affine)
    assert made.image.array.dtype == np.float32
    assert made.image.array.min() >= 0
    # This head gives 0 everywhere, in units of the input: the mean of what the crop to the body left.
    where = tuple(slice(int(n.min()), int(n.max()) + 1) for n in np.nonzero(pet.array))
    assert made.scale["mean"] == pytest.approx(float(pet.array[where].mean()), rel=0.02)
    inside = made.image.array[8:16, 6:14, 8:20]
    np.testing.assert_allclose(inside, made.scale["mean"], rtol=1e-4)
    assert made.scale["std"] == pytest.approx(float(pet.array[where].std()), rel=0.02)
    assert made.organs is None
    assert made.dose_fraction == 0.05 and made.trained_dose == 0.05
    assert made.tracer == "unknown"


def test_a_correction_of_nothing_gives_the_scan_back(low, denoiser):
    made = denoise(low, model=denoiser(output="residual"), settings=DenoiseSettings(precision="float32"))
    pet = read_image(low / "pet.nii.gz")[0]
    np.testing.assert_allclose(made.image.array, np.maximum(pet.array, 0), atol=2e-4)
    assert made.noise.before == pytest.approx(made.noise.after, rel=1e-2, nan_ok=True)


def test_the_compiled_network_gives_the_same_image(low, denoiser):
    pytest.importorskip("openvino")
    model = denoiser(output="residual", same=False)
    made = [
        denoise(low, model=model, settings=DenoiseSettings(engine=engine, precision="float32", organs=True))
        for engine in ("torch", "openvino")
    ]
    np.testing.assert_allclose(made[0].image.array, made[1].image.array, atol=2e-2)
    assert (made[0].organs.array == made[1].organs.array).mean() > 0.99


def test_scaling_the_scan_scales_the_result(low, denoiser, tmp_path, make_study, tiny_arrays):
    model = denoiser(same=False)
    once = denoise(low, model=model, settings=DenoiseSettings(mirror=False))
    twice = make_study(tmp_path / "twice", roles=("pet",), pet=2 * tiny_arrays["pet"])
    made = denoise(twice, model=model, settings=DenoiseSettings(mirror=False))
    body = tiny_arrays["pet"] > 0.5
    np.testing.assert_allclose(made.image.array[body], 2 * once.image.array[body], rtol=2e-2, atol=2e-2)


def test_organs_of_the_same_run_are_those_of_segment(low, bundle):
    from uptake.workflows.segment import SegmentSettings, segment

    made = denoise(low, model=bundle, settings=DenoiseSettings(organs=True, engine="torch", precision="float32"))
    found = segment(low, model=bundle, settings=SegmentSettings(engine="torch", precision="float32"), gate=False)
    assert made.organs is not None and found.organs is not None
    np.testing.assert_array_equal(made.organs.array, found.organs.array)
    assert made.organ_names[14] == "liver"
    plain = denoise(low, model=bundle, settings=DenoiseSettings(engine="torch", precision="float32"))
    np.testing.assert_array_equal(plain.image.array, made.image.array)


def test_the_type_that_came_in_goes_out(low, bundle):
    import nibabel

    image = nibabel.load(low / "pet.nii.gz")
    made = denoise(image, model=bundle)
    assert isinstance(made.denoised, nibabel.Nifti1Image)
    np.testing.assert_allclose(made.denoised.affine, image.affine)
    assert made.dose_fraction is None
    assert any("dose fraction of this image is not known" in text for text in made.warnings)


def test_files_side_car_and_picture(low, bundle, cli, tmp_path):
    out = tmp_path / "out"
    ran = cli("denoise", low, "-o", out, "-m", bundle, "--organs", "--tracer", "fluorodeoxyglucose")
    assert (ran.code, ran.err) == (0, "")
    folder = out / "dose_0.05"
    assert {path.name for path in folder.iterdir()} == {
        "pet_denoised.nii.gz", "denoise.json", "before_after.png", "run.json", "organs.nii.gz", "organ_labels.json",
    }  # fmt: skip
    content = json.loads((folder / "denoise.json").read_text(encoding="utf-8"))
    assert (content["dose_fraction"], content["dose_fraction_of_training"]) == (0.05, 0.05)
    assert content["tracer"] == "fluorodeoxyglucose"
    assert set(content["normalisation"]) == {"mean", "std", "bend"}
    assert set(content["noise"]) == {"place", "before", "after", "mean_before", "mean_after"}
    assert "Research use only" in content["notice"]
    assert not any("trained on FDG" in text for text in content["warnings"])
    assert read_labels(folder / "organs.nii.gz")[0].array.max() <= 18
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert run["bundle"]["name"] == "tiny-ldos"
    assert (folder / "before_after.png").read_bytes().startswith(b"\x89PNG")
    assert "pet_denoised.nii.gz" in ran.out
    again = cli("denoise", low, "-o", out, "-m", bundle, "--organs", "--tracer", "fluorodeoxyglucose")
    assert "complete already" in again.out
    other = cli("denoise", low, "-o", out, "-m", bundle)
    assert other.code == 0 and "complete already" not in other.out
    assert not (folder / "organs.nii.gz").exists()


def test_one_bad_study_does_not_stop_the_others(low, bundle, cli, tmp_path, make_study, tiny_arrays):
    cohort = tmp_path / "many"
    make_study(cohort / "good", roles=("pet",))
    make_study(cohort / "bqml", roles=("pet",), pet=4000 * tiny_arrays["pet"])
    z = (tiny_arrays["pet"] - tiny_arrays["pet"].mean()) / tiny_arrays["pet"].std()
    make_study(cohort / "zscored", roles=("pet",), pet=z.astype(np.float32))
    ran = cli("denoise", cohort, "-o", tmp_path / "out", "-m", bundle)
    assert ran.code == 3
    assert "bqml" in ran.err and "Bq/mL or counts" in ran.err
    assert "zscored" in ran.err and "normalised to zero mean" in ran.err
    assert (tmp_path / "out" / "good" / "pet_denoised.nii.gz").is_file()
    assert not (tmp_path / "out" / "bqml").exists()


def test_no_suv_is_refused_before_any_work(bundle, tiny_arrays, turned):
    with pytest.raises(UnitError, match="plainly not in SUV"):
        denoise(Volume(5000 * tiny_arrays["pet"], turned), model=bundle)


def test_the_dose_is_told_once(low, bundle, cli, tmp_path):
    case = Case("a", read_image(low / "pet.nii.gz")[0])
    assert dose_of(case, None) is None and dose_of(case, 0.1) == 0.1
    ran = cli("denoise", low, "-o", tmp_path / "out", "-m", bundle, "--dose-fraction", "0.2")
    assert ran.code == 4
    assert "given as 0.2, and what lies beside the PET says 0.05" in ran.err
    for wrong in (0.0, 1.5, -0.1):
        with pytest.raises(UsageError, match="dose fraction is above 0"):
            DenoiseSettings(dose_fraction=wrong)


def test_the_twins_of_a_cohort(make_study, tmp_path, bundle, cli):
    folder = make_study(tmp_path / "cohort" / "imagesTr_dose_0.05", roles=("pet",))
    (folder / "pet.nii.gz").rename(folder / "sim_00001_0001.nii.gz")
    ran = cli("denoise", folder, "-o", tmp_path / "out", "-m", bundle)
    assert (ran.code, ran.err) == (0, "")
    content = json.loads((tmp_path / "out" / "sim_00001" / "denoise.json").read_text(encoding="utf-8"))
    assert content["dose_fraction"] == 0.05


def test_the_dose_of_a_twin_is_read_from_its_record(make_study, tmp_path, bundle):
    study = make_study(tmp_path / "one" / "dose_0.0312", roles=("pet",))
    record = {"twins": {"dose_0.0312": {"record": {"fraction": 0.03125}}}}
    (tmp_path / "one" / "lowdose.json").write_text(json.dumps(record), encoding="utf-8")
    assert denoise(study, model=bundle).dose_fraction == 0.03125


@pytest.mark.parametrize(("dose", "warned"), [(0.03, False), (0.09, False), (0.2, True), (0.01, True)])
def test_another_dose_than_that_of_training_is_said(tiny_arrays, turned, bundle, dose, warned):
    made = denoise(Volume(tiny_arrays["pet"], turned), model=bundle, settings=DenoiseSettings(dose_fraction=dose))
    assert any("was trained on 5 % of the full dose" in text for text in made.warnings) == warned
    assert made.dose_fraction == dose


@pytest.mark.parametrize(
    ("tracer", "warned"), [("FDG", False), ("[18F]FDG", False), ("Ga-68 FAPI-04", False), ("PSMA-1007", True)]
)
def test_a_tracer_of_no_training_is_said(tiny_arrays, turned, bundle, tracer, warned):
    settings = DenoiseSettings(dose_fraction=0.05, tracer=tracer)
    made = denoise(Volume(tiny_arrays["pet"], turned), model=bundle, settings=settings)
    assert any("another tracer was not examined" in text for text in made.warnings) == warned
    assert made.tracer == tracer


def test_a_coarser_model_is_said(tiny_arrays, bundle):
    fine = Volume(tiny_arrays["pet"], np.diag([-4.0, -4.0, 4.0, 1.0]))
    assert any("voxels of 8 mm, this scan has 4 mm" in text for text in denoise(fine, model=bundle).warnings)


def test_a_moved_liver_is_said(low, bundle):
    """The tiny model gives the mean of the whole image everywhere: far from the uptake of the cylinder."""
    made = denoise(low, model=bundle)
    assert workflow._noise_warnings(Noise("liver", 0.3, 0.1, 2.0, 1.5))[0].startswith("Denoising changed the mean SUV")
    assert not workflow._noise_warnings(Noise("liver", 0.3, 0.1, 2.0, 2.1))
    assert made.noise.place in ("even region", "none")


def test_noise_is_that_of_one_place():
    shape = (20, 20, 20)
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    organs = np.zeros(shape, np.uint8)
    organs[3:17, 3:17, 3:17] = 14
    sign = np.where(np.indices(shape).sum(axis=0) % 2, 1.0, -1.0)
    before = Volume((2.0 + 0.6 * sign).astype(np.float32), affine)
    after = Volume((2.0 + 0.2 * sign).astype(np.float32), affine)
    found = noise_of(before, after, before.with_array(organs), {14: "liver"})
    assert found.place == "liver"
    assert (found.before, found.after) == (pytest.approx(0.3, rel=0.04), pytest.approx(0.1, rel=0.04))
    assert found.mean_before == pytest.approx(2.0, abs=0.06)
    assert noise_of(after, after, None, {}).place == "even region"
    nothing = after.with_array(np.zeros(shape, np.float32))
    assert noise_of(before, nothing, None, {}).place == "none"


def test_models_that_do_not_denoise_are_refused(low, tiny_bundle, denoiser, cli, tmp_path):
    ran = cli("denoise", low, "-o", tmp_path / "out", "-m", tiny_bundle)
    assert ran.code == 4 and "has no denoising decoder" in ran.err
    with pytest.raises(ModelError, match="has no denoising decoder"):
        denoise(low, model=denoiser(design="segment"))
    with pytest.raises(ModelError, match="finds no organs"):
        denoise(low, model=denoiser(design="denoise"), settings=DenoiseSettings(organs=True))
    assert not any((tmp_path / "out").iterdir())


def test_usage(cli, tmp_path, low, bundle):
    assert cli("denoise", "-o", tmp_path / "out").code == 2
    ran = cli("denoise", low, "-o", tmp_path / "out", "-m", bundle, "--tile-step", "2")
    assert ran.code == 2 and "--tile-step" in ran.err


def test_what_cards_tell_of_training(bundle):
    card = load_bundle(bundle).card
    assert trained_dose(card) == 0.05 and trained_tracers(card) == ("FDG", "FAPI-04")
    silent = replace(card, training={"data": "x"})
    assert trained_dose(silent) is None and trained_tracers(silent) == ()
    assert trained_tracers(replace(card, training={"tracers": "FDG, FAPI-04"})) == ("FDG", "FAPI-04")
    assert trained_dose(replace(card, training={"dose_fraction": 5})) is None


@pytest.fixture
def dicom_study(pet_series, tmp_path):
    """Slices of 24 x 20 voxels of a body with a ball, in Bq/mL, under the patient's name."""
    k, j, i = np.indices((16, 20, 24))
    body = ((i - 11.5) / 11) ** 2 + ((j - 9.5) / 9) ** 2 < 1
    hot = (i - 8) ** 2 + (j - 9) ** 2 + (k - 8) ** 2 < 9
    stored = (1700 * body + 8000 * hot + np.random.default_rng(1).integers(0, 60, body.shape)).astype(np.int16)
    return pet_series(tmp_path / "dicom", slices=16, stored=stored, Columns=24, Rows=20)


def test_dicom_goes_out_where_dicom_came_in(dicom_study, bundle, cli, tmp_path):
    from pydicom import dcmread

    out = tmp_path / "out"
    ran = cli("denoise", dicom_study, "-o", out, "-m", bundle, "--dose-fraction", "0.05")
    assert (ran.code, ran.err) == (0, "")
    (folder,) = [path for path in out.iterdir() if path.is_dir()]
    series = folder / "PT_denoised"
    assert len(list(series.iterdir())) == 16
    original, found = read_dicom(dicom_study).pet, read_dicom(series).pet
    image = read_image(folder / "pet_denoised.nii.gz")[0]
    assert found.shape == original.shape
    np.testing.assert_allclose(found.affine, original.affine, atol=1e-4)
    np.testing.assert_allclose(found.array, image.array, atol=image.array.max() / 65000)
    header = dcmread(sorted(series.iterdir())[3])
    assert list(header.ImageType) == ["DERIVED", "PRIMARY"]
    assert (header.Units, header.SUVType) == ("GML", "BW")
    assert "denoised by tiny-ldos 1 from 5 % of the full dose" in header.DerivationDescription
    assert header.SeriesDescription.endswith("research use only")
    assert header.StudyInstanceUID == "1.2.3" and header.FrameOfReferenceUID == "1.2.3.99"
    assert header.SeriesInstanceUID != "1.2.3.1"
    assert header.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.1.4"
    text = "".join(path.read_bytes().decode("latin-1") for path in series.iterdir())
    assert "Secret" not in text and "SECRET" not in text
    assert "PatientWeight" not in header
    sidecar = (folder / "denoise.json").read_text(encoding="utf-8")
    assert json.loads(sidecar)["tracer"] == "FDG"
    assert "Secret" not in sidecar + (folder / "run.json").read_text(encoding="utf-8")
    # Made anew it is the same to the byte.
    before = {path.name: path.read_bytes() for path in series.iterdir()}
    assert cli("denoise", dicom_study, "-o", out, "-m", bundle, "--dose-fraction", "0.05", "--again").code == 0
    assert {path.name: path.read_bytes() for path in series.iterdir()} == before
    # Beside its source the original is read.
    for path in series.iterdir():
        (dicom_study / path.name).write_bytes(path.read_bytes())
    np.testing.assert_array_equal(read_dicom(dicom_study).pet.array, original.array)


def test_identifiers_are_kept_on_demand_and_no_series_without_dicom(dicom_study, bundle, cli, tmp_path):
    from pydicom import dcmread

    ran = cli("denoise", dicom_study, "-o", tmp_path / "kept", "-m", bundle, "--keep-identifiers")
    assert ran.code == 0
    header = dcmread(next((tmp_path / "kept").rglob("*.dcm")))
    assert str(header.PatientName) == "Secret^Person" and header.PatientWeight == 70
    ran = cli("denoise", dicom_study, "-o", tmp_path / "none", "-m", bundle, "--no-dicom")
    assert ran.code == 0 and not list((tmp_path / "none").rglob("*.dcm"))


def test_an_image_that_is_no_suv_is_not_written_as_dicom(dicom_study, tmp_path):
    from uptake.io.dicom_pet_result import write_pet_result
    from uptake.io.dicom_reference import Identity, read_reference
    from uptake.io.dicom_result import Maker
    from uptake.io.read import read

    case = read(dicom_study)
    reference = read_reference(case.pet_files, case.pet)
    for value in (-1.0, np.nan):
        array = case.pet.array.copy()
        array[0, 0, 0] = value
        with pytest.raises(UnitError):
            write_pet_result(
                case.pet.with_array(array), reference, case.pet_files, tmp_path / "x", maker=Maker(),
                identity=Identity("a"), content="PET denoised", derivation="test",
            )  # fmt: skip


def test_denoised_images_enter_the_study_of_doses(bundle, tmp_path, make_study):
    from uptake.io.find import find_cases
    from uptake.workflows.dose_sources import RealSource
    from uptake.workflows.dose_study import DoseStudySettings, _findings
    from uptake.workflows.simulate_lowdose import LowDoseSettings

    study = make_study(tmp_path / "one", roles=("pet", "ct"))
    source = RealSource(find_cases(study)[0], LowDoseSettings(doses=(1.0,)))
    examination = source.load((1.0,))
    settings = DoseStudySettings(doses=(1.0, 0.5), model=str(bundle), denoise=True)
    found, denoised = _findings(settings, examination, examination.images[1.0])
    assert found is not None and found.organs is not None and found.organ_names is not None
    assert found.organ_names[14] == "liver"
    assert denoised is not None and denoised.shape == examination.reference.shape


def test_inconsistent_dose_is_an_input_error():
    case = Case("a", Volume(np.ones((2, 2, 2), np.float32), np.eye(4)))
    from uptake.cases import SourceFile

    told = replace(case, sources=(SourceFile("pet", "x/imagesTr_dose_0.05/a_0001.nii.gz", "0"),))
    assert dose_of(told, None) == 0.05
    assert dose_of(told, 0.05) == 0.05
    with pytest.raises(InputError, match=r"beside the PET says 0\.05"):
        dose_of(told, 0.06)
