"""Sessions over a network that marks what is hot: where windows lie, what is kept, and every refusal."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from uptake.core.errors import GeometryError, InputError, ModelError, UsageError
from uptake.geometry import Volume
from uptake.methods import seganypet
from uptake.networks.promptable import NEGATIVE, POSITIVE, Answer, Promptable
from uptake.networks.unet import unique_state
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.session import Session
from uptake.workflows.session_fields import FieldState
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

SPACING = 8.0
HOT, WARM = 6.0, 1.0


class MarksHot(Promptable):
    """Everything of SUV above 3 is object, a little less surely after each negative point; every question is kept."""

    def __init__(self, window) -> None:
        super().__init__()
        self.window = window
        self.asked: list = []

    def encode(self, channels):
        return channels

    def decode(self, features, clicks, memory):
        self.asked.append((clicks, memory))
        negatives = 0 if clicks is None else int((clicks.kinds == NEGATIVE).sum())
        logits = 4 * (features[:, :1] - float(np.arcsinh(3.0))) - 0.1 * negatives
        return Answer(logits, logits)

    def remember(self, logits):
        return logits


class HotBundle(Bundle):
    def network(self, fold=None):
        return MarksHot(self.config.window)


def config_of(**changes) -> seganypet.Config:
    small = seganypet.Config.small()
    tiny = {"window": (8, 8, 8), "spacing_mm": (SPACING,) * 3, "features": (4, 8), "blocks": (1, 1)}
    return replace(small, **{**tiny, **changes})


def write_bundle(folder, config: seganypet.Config, **card):
    facts = {
        "name": folder.name, "version": "1", "summary": "random", "method": "seganypet", "config": config.as_json(),
        "plan": config.plan().as_json(), "labels": list(seganypet.LABELS), "needs": ["pet"], "accepts": ["pet", "ct"],
        "suv": "SUV", "training": {}, "scores": [], "limits": ["It has learnt nothing."], "licence": "Apache-2.0",
        "files": {}, "stored_as": "float32", "package_version": "test",
    }  # fmt: skip
    save_bundle(Card(**{**facts, **card}), {"0": unique_state(seganypet.build_network(config))}, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("models") / "hot", config_of())


@pytest.fixture(scope="module")
def pet(turned) -> Volume:
    """(30, 20, 24) body of SUV 1 in air; a ball at (8, 9, 8), another at (22, 9, 8), a rod along k at (8, 15)."""
    i, j, k = np.indices((30, 20, 24))
    array = np.where((j > 1) & (k > 0), WARM, 0.0)
    array[(i - 8) ** 2 + (j - 9) ** 2 + (k - 8) ** 2 < 7] = HOT
    array[(i - 22) ** 2 + (j - 9) ** 2 + (k - 8) ** 2 < 7] = HOT
    array[(abs(i - 8) < 2) & (abs(j - 15) < 2) & (k > 3) & (k < 21)] = HOT
    return Volume(array.astype(np.float32), turned)


@pytest.fixture
def session(folder, pet) -> Session:
    found = Session(HotBundle(folder, load_bundle(folder).card))
    found.set_image(pet)
    return found


def hot_around(pet, place) -> np.ndarray:
    from scipy import ndimage

    labels, _ = ndimage.label(pet.array > 3, np.ones((3, 3, 3)))
    return labels == labels[tuple(place)]


def test_one_click_one_lesion(session, pet) -> None:
    assert session.add_point((8, 9, 8)) == 1
    found = session.predict()
    assert np.array_equal(found.mask.array, hot_around(pet, (8, 9, 8)))
    assert found.mask.affine is pet.affine or np.array_equal(found.mask.affine, pet.affine)
    assert found.changed == (slice(6, 11), slice(7, 12), slice(6, 11))
    assert 0.9 < found.confidence < 1.0
    assert found.volume_ml == pytest.approx(found.mask.array.sum() * 0.512)
    assert session.predict().changed is None


def test_window_lies_on_the_click_and_shows_it(session) -> None:
    session.add_point((9, 9, 9))
    session.predict()
    clicks, memory = session._network.asked[0]
    assert clicks.points.tolist() == [[[4.0, 4.0, 4.0]]] and clicks.kinds.tolist() == [[POSITIVE]]
    assert memory is None


def test_further_clicks_accumulate_on_one_encoded_window(session) -> None:
    session.add_point((8, 9, 8))
    session.add_point((9, 9, 8))
    session.add_point((8, 6, 8), positive=False)
    session.predict()
    shown = [clicks.kinds[0].tolist() for clicks, _ in session._network.asked]
    assert shown == [[1], [1, 1], [1, 1, 0]]
    assert session._network.asked[1][1] is not None
    assert session._dialogue.encodings == 1


def test_positions_in_mm_are_the_same_positions(session, pet) -> None:
    session.add_point(pet.world_of([8, 9, 8]), space="mm")
    assert np.array_equal(session.predict().mask.array, hot_around(pet, (8, 9, 8)))


def test_far_clicks_of_one_object_get_windows_of_their_own(session, pet) -> None:
    session.add_point((8, 9, 8))
    session.predict()
    session.add_point((22, 9, 8))
    found = session.predict()
    assert np.array_equal(found.mask.array, hot_around(pet, (8, 9, 8)) | hot_around(pet, (22, 9, 8)))
    assert found.changed == (slice(20, 25), slice(7, 12), slice(6, 11))


def test_field_grows_along_what_runs_out_of_it(session, pet) -> None:
    session.add_point((8, 15, 6))
    found = session.predict()
    assert np.array_equal(found.mask.array, hot_around(pet, (8, 15, 6)))
    assert session._dialogue.encodings > 1


def test_growth_is_bounded_and_said(folder, pet) -> None:
    session = Session(HotBundle(folder, load_bundle(folder).card), max_fields=1)
    session.set_image(pet)
    session.add_point((8, 15, 6))
    found = session.predict()
    assert found.mask.array.sum() < hot_around(pet, (8, 15, 6)).sum()
    assert "fills 1 windows" in found.notes[0]


def test_several_objects_and_their_map(session, pet) -> None:
    session.add_point((8, 9, 8), object_id=None)
    session.add_point((22, 9, 8), object_id=None)
    assert session.objects == (1, 2)
    labels = session.labels()
    assert labels.array.dtype == np.uint16
    assert np.array_equal(labels.array == 2, hot_around(pet, (22, 9, 8)))
    assert np.array_equal(labels.array == 1, hot_around(pet, (8, 9, 8)))


def test_prompted_voxels_obey(session) -> None:
    session.add_point((8, 9, 8))
    session.add_point((8, 9, 9), positive=False)
    session.add_point((8, 9, 4))  # warm, not hot: the network would leave it out
    found = session.predict().mask.array
    assert not found[8, 9, 9] and found[8, 9, 4] and found[8, 9, 8]


def test_disobedience_can_be_asked_for(folder, pet) -> None:
    session = Session(HotBundle(folder, load_bundle(folder).card), obey=False)
    session.set_image(pet)
    session.add_point((8, 9, 8))
    session.add_point((8, 9, 9), positive=False)
    assert session.predict().mask.array[8, 9, 9]


def test_undo_returns_to_the_exact_state(session) -> None:
    session.add_point((8, 9, 8))
    before = session.predict()
    state = session._states[1][-1]
    session.add_point((8, 9, 9), positive=False)
    assert not np.array_equal(session.predict().mask.array, before.mask.array)
    taken = session.undo()
    assert not taken.positive
    assert session._states[1] == [state]
    after = session.predict()
    assert np.array_equal(after.mask.array, before.mask.array) and after.confidence == before.confidence
    session.undo()
    with pytest.raises(UsageError, match="no prompt to take back"):
        session.undo()
    with pytest.raises(UsageError, match="no prompt yet"):
        session.predict()


def test_undo_before_predict_and_across_objects(session) -> None:
    session.add_point((8, 9, 8), object_id=1)
    session.add_point((22, 9, 8), object_id=2)
    session.add_point((9, 9, 8), object_id=1)
    session.predict(1)
    assert session.undo().object_id == 1
    assert len(session._states[1]) == 1
    assert session.undo().object_id == 2
    assert session.objects == (1,)


def test_same_prompts_same_answer_whenever_asked(session, folder, pet) -> None:
    clicks = [((8, 9, 8), True), ((8, 6, 8), False), ((9, 9, 8), True)]
    for place, positive in clicks:
        session.add_point(place, positive=positive)
        last = session.predict()
    other = Session(HotBundle(folder, load_bundle(folder).card))
    other.set_image(pet)
    for place, positive in clicks:
        other.add_point(place, positive=positive)
    once = other.predict()
    assert np.array_equal(once.mask.array, last.mask.array) and once.confidence == last.confidence


def test_reset_keeps_the_image_and_its_windows(session) -> None:
    session.add_point((8, 9, 8))
    session.add_point((22, 9, 8), object_id=2)
    session.predict(1)
    encodings = session._dialogue.encodings
    session.reset(2)
    assert session.objects == (1,)
    session.reset()
    assert session.objects == ()
    session.add_point((8, 9, 8))
    session.predict()
    assert session._dialogue.encodings == encodings


def test_boxes_and_scribbles(session, pet) -> None:
    session.add_box((6, 7, 6), (10, 11, 10))
    found = session.predict()
    clicks, _ = session._network.asked[-1]
    assert clicks.kinds.tolist() == [[2, 3]]
    assert (clicks.points[0, 0] < clicks.points[0, 1]).all()
    assert np.array_equal(found.mask.array, hot_around(pet, (8, 9, 8)))
    session.reset()
    session.add_scribble([(21, 9, 8), (22, 9, 8), (23, 9, 8)])
    assert np.array_equal(session.predict().mask.array, hot_around(pet, (22, 9, 8)))
    assert session._network.asked[-1][0].points.shape == (1, 3, 3)


def test_a_mask_starts_an_object_and_clicks_mend_it(session, pet) -> None:
    start = np.zeros(pet.shape, np.uint8)
    start[7:10, 8:11, 7:10] = 1
    session.add_mask(pet.with_array(start))
    first = session.predict()
    assert np.array_equal(first.mask.array, start > 0)
    assert session._network.asked == []
    session.add_point((8, 9, 10))
    assert np.array_equal(session.predict().mask.array, hot_around(pet, (8, 9, 8)))
    _, memory = session._network.asked[-1]
    assert memory is not None and float(memory.max()) > 4


def test_a_negative_mask_is_kept_out(session, pet) -> None:
    session.add_point((8, 9, 8))
    wall = np.zeros(pet.shape, bool)
    wall[:, :, 9:] = True
    session.add_mask(wall, positive=False)
    found = session.predict().mask.array
    assert found.any() and not found[:, :, 9:].any()


def test_a_start_from_scattered_lesions_gets_a_window_for_each(session, pet) -> None:
    start = hot_around(pet, (8, 9, 8)) | hot_around(pet, (22, 9, 8))
    session.add_mask(start)
    assert np.array_equal(session.predict().mask.array, start)
    assert len(session._states[1][-1].fields) == 2


def test_negative_first_click_is_an_empty_object(session) -> None:
    session.add_point((8, 9, 8), positive=False)
    found = session.predict()
    assert not found.mask.array.any() and found.confidence == 0.0 and found.volume_ml == 0.0
    assert found.notes == ("Only negative prompts so far: nothing is the object.",)
    session.add_point((9, 9, 8))
    found = session.predict().mask.array
    assert found[9, 9, 8] and not found[8, 9, 8]


def test_snapping_goes_by_suv(folder, pet) -> None:
    array = pet.array.copy()
    array[8, 9, 8] = 30.0
    session = Session(HotBundle(folder, load_bundle(folder).card), snap=0.41)
    session.set_image(pet.with_array(array))
    session.add_point((8, 9, 8))
    assert session.predict().mask.array.sum() == 1


@pytest.mark.parametrize(
    ("place", "words"),
    [((40, 9, 8), "outside the image"), ((-1, 9, 8), "outside the image"), ((8, 9, float("nan")), "no number")],
)
def test_impossible_places_are_refused_and_the_session_is_kept(session, place, words) -> None:
    session.add_point((8, 9, 8))
    before = session.predict().mask.array
    with pytest.raises(InputError, match=words):
        session.add_point(place)
    assert len(session.prompts) == 1
    assert np.array_equal(session.predict().mask.array, before)


def test_clicks_in_air_are_refused_unless_negative(session) -> None:
    with pytest.raises(InputError, match="lies in air"):
        session.add_point((8, 0, 8))
    session.add_point((8, 0, 8), positive=False)


def test_contradictions_are_refused(session) -> None:
    session.add_point((8, 9, 8))
    with pytest.raises(InputError, match=r"voxel \[8, 9, 8\] was marked as object of object 1 before"):
        session.add_point((8, 9, 8), positive=False)
    with pytest.raises(InputError, match="was marked as object"):
        session.add_scribble([(7, 9, 8), (8, 9, 8)], positive=False)
    session.add_point((8, 9, 8), positive=False, object_id=2)  # another object is no contradiction
    assert len(session.prompts) == 2


def test_other_refusals(session, pet, turned, folder) -> None:
    with pytest.raises(UsageError, match="no object 5"):
        session.add_point((8, 9, 8))
        session.predict(5)
    with pytest.raises(UsageError, match="no object 7"):
        session.reset(7)
    with pytest.raises(UsageError, match="a box says where"):
        session.add_box((1, 2, 3), (4, 5, 6), positive=False)
    with pytest.raises(InputError, match="outside the image"):
        session.add_box((50, 2, 3), (60, 5, 6))
    with pytest.raises(InputError, match="needs a point"):
        session.add_scribble([])
    with pytest.raises(InputError, match="three numbers"):
        session.add_point((1, 2))
    with pytest.raises(UsageError, match="'voxel' or 'mm'"):
        session.add_point((1, 2, 3), space="inch")
    with pytest.raises(InputError, match="mask is empty"):
        session.add_mask(np.zeros(pet.shape))
    with pytest.raises(GeometryError, match="not on the PET's grid"):
        session.add_mask(np.ones((3, 3, 3)))
    moved = turned.copy()
    moved[0, 3] += 4
    with pytest.raises(GeometryError, match="the mask"):
        session.add_mask(Volume(np.ones(pet.shape), moved))
    with pytest.raises(InputError, match="numbered from 1"):
        session.add_point((8, 9, 8), object_id=0)
    with pytest.raises(UsageError, match="snap is a share"):
        Session(HotBundle(folder, load_bundle(folder).card), snap=2.0)
    with pytest.raises(UsageError, match="1 or more"):
        Session(HotBundle(folder, load_bundle(folder).card), max_fields=0)
    assert len(session.prompts) == 1


def test_an_image_with_nan_is_refused_and_the_old_one_kept(session, pet) -> None:
    session.add_point((8, 9, 8))
    broken = pet.array.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(GeometryError, match="NaN"):
        session.set_image(pet.with_array(broken))
    assert session.predict().mask.array.any()


def test_without_an_image_nothing_works(folder) -> None:
    session = Session(folder)
    with pytest.raises(UsageError, match="set_image comes first"):
        session.add_point((1, 2, 3))


def test_models_that_take_no_prompts_and_no_boxes(tiny_bundle, tmp_path) -> None:
    with pytest.raises(ModelError, match="takes no prompts"):
        Session(tiny_bundle)
    sizes = {"window": (16, 16, 16), "patch": 8, "dim": 24, "depth": 1, "heads": 2, "attention_window": 3}
    config = replace(
        seganypet.Config.published(), **sizes, global_blocks=(), prompt_dim=48, prompt_hidden=8, spacing_mm=(8.0,) * 3
    )
    session = Session(write_bundle(tmp_path / "sam", config))
    session.set_image(
        Volume(np.ones((10, 10, 10), np.float32) + np.arange(10, dtype=np.float32), np.diag([8.0, 8.0, 8.0, 1.0]))
    )
    with pytest.raises(ModelError, match="no boxes"):
        session.add_box((1, 1, 1), (4, 4, 4))
    session.add_point((5, 5, 5))
    found = session.predict()  # the transformer itself, from image to mask
    assert found.mask.array[5, 5, 5] and np.isfinite(found.confidence)


def test_prompts_there_and_back(session, folder, pet, tmp_path) -> None:
    session.add_point((8, 9, 8))
    session.add_point((8, 6, 8), positive=False)
    session.add_box((20, 7, 6), (24, 11, 10), object_id=2)
    wanted = session.labels().array
    session.save_prompts(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["model"].startswith("hot ")
    other = Session(HotBundle(folder, load_bundle(folder).card))
    other.set_image(pet)
    assert other.load_prompts(tmp_path / "p.json") == 3
    assert np.array_equal(other.labels().array, wanted)


def test_a_file_with_a_refused_prompt_adds_none(session, tmp_path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"tumor": [[8, 9, 8]], "background": [[8, 9, 8]]}))
    with pytest.raises(InputError, match="was marked"):
        session.load_prompts(tmp_path / "p.json")
    assert session.prompts == ()


def test_the_u_net_itself_answers(folder, pet) -> None:
    torch.manual_seed(0)
    session = Session(folder)
    session.set_image(pet)
    session.add_point((8, 9, 8))
    found = session.predict()
    assert found.mask.array[8, 9, 8]
    assert isinstance(session._states[1][-1].fields[0], FieldState)
