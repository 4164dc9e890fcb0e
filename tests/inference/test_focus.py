"""Windows laid over the body alone."""

import numpy as np
import pytest
import torch

from uptake.inference.sliding_window import AIR_LOGIT, FOCUS_MARGIN, sliding_window, window_boxes, window_corners

WINDOW = (8, 8, 8)


def body_of(shape, *boxes):
    body = np.zeros(shape, dtype=bool)
    for box in boxes:
        body[tuple(slice(*side) for side in box)] = True
    return body


def test_without_a_body_the_windows_cover_the_whole_image():
    corners = window_corners((8, 12, 8), WINDOW, 0.5, None)
    assert corners == [(0, 0, 0), (0, 4, 0)]


def test_each_layer_is_covered_where_its_body_is():
    body = body_of((16, 40, 40), ((0, 8), (10, 12), (30, 32)), ((8, 16), (0, 40), (20, 22)))
    corners = window_corners(body.shape, WINDOW, 1.0, body)
    first = [c for c in corners if c[0] == 0]
    assert {c[0] for c in corners} == {0, 8}
    assert len(first) == 4 and len(corners) - len(first) == 5 * 2
    covered = np.zeros_like(body)
    for z, y, x in corners:
        assert all(0 <= a <= n - w for a, n, w in zip((z, y, x), body.shape, WINDOW))
        covered[z : z + 8, y : y + 8, x : x + 8] = True
    assert covered[body].all()


@pytest.mark.parametrize("place", [(0, 2), (38, 40), (19, 20)])
def test_a_window_always_fits_inside_the_image(place):
    body = body_of((8, 40, 9), ((0, 8), place, (0, 9)))
    corners = window_corners(body.shape, WINDOW, 0.5, body)
    assert corners and all(0 <= y <= 32 and 0 <= x <= 1 for _, y, x in corners)
    low, high = min(y for _, y, _ in corners), max(y + 8 for _, y, _ in corners)
    assert low <= max(0, place[0] - FOCUS_MARGIN) and high >= min(40, place[1] + FOCUS_MARGIN)


def test_layers_of_air_have_no_windows():
    body = body_of((32, 8, 8), ((0, 4), (2, 6), (2, 6)))
    assert {z for z, _, _ in window_corners(body.shape, WINDOW, 1.0, body)} == {0}


def test_logits_of_the_body_are_the_predictors_and_air_is_background():
    rng = np.random.default_rng(0)
    channels = rng.normal(size=(2, 8, 30, 30)).astype(np.float32)
    body = body_of((8, 30, 30), ((0, 8), (3, 6), (3, 6)))
    found = sliding_window(channels, lambda batch: batch, labels=2, window=WINDOW, body=body, focus=True)
    assert found.logits[:, body] == pytest.approx(channels[:, body], abs=1e-5)
    assert found.logits[0, :, 25, 25] == pytest.approx(AIR_LOGIT) and not found.logits[1, :, 25, 25].any()
    everywhere = sliding_window(channels, lambda batch: batch, labels=2, window=WINDOW, body=body)
    assert found.windows_run + found.windows_skipped < everywhere.windows_run + everywhere.windows_skipped


def test_an_image_of_air_needs_no_window():
    found = sliding_window(
        np.zeros((1, 8, 9, 9), np.float32), torch.nn.Identity(), labels=1, window=WINDOW,
        body=np.zeros((8, 9, 9), bool), focus=True,
    )  # fmt: skip
    assert found.windows_run == 0 and (found.logits[0] == AIR_LOGIT).all()


@pytest.mark.parametrize("layers", [1, 2])
def test_windows_of_a_turned_image_are_the_turned_windows(layers):
    rng = np.random.default_rng(1)
    body = body_of((30, 24, 20), ((0, 9), (4, 20), (3, 9)), ((9, 30), (8, 12), (2, 18)))
    window = (8, 6, 10)
    turn = [1, 0, 2] if layers == 1 else [1, 2, 0]  # where each axis of the turned image comes from
    straight = window_corners(body.shape, window, 0.5, body)
    turned = body.transpose(turn)
    found = window_corners(turned.shape, tuple(window[a] for a in turn), 0.5, turned, layers=layers)
    assert sorted(found) == sorted(tuple(corner[a] for a in turn) for corner in straight)
    channels = rng.normal(size=(2, *turned.shape)).astype(np.float32)
    given = {"labels": 2, "window": tuple(window[a] for a in turn), "body": turned, "focus": True}
    logits = sliding_window(channels, lambda batch: batch, layers=layers, **given).logits
    assert logits[:, turned] == pytest.approx(channels[:, turned], abs=1e-5)


def test_boxes_are_the_windows_that_are_computed():
    body = body_of((20, 30, 6), ((2, 10), (3, 6), (1, 5)))
    for focus in (False, True):
        boxes = window_boxes(body, WINDOW, 0.5, focus=focus)
        found = sliding_window(
            np.zeros((2, *body.shape), np.float32), lambda batch: batch, labels=2, window=WINDOW, body=body, focus=focus
        )
        assert len(boxes) == found.windows_run > 0
    assert window_boxes(np.zeros((9, 9, 9), bool), WINDOW, 0.5) == ()
