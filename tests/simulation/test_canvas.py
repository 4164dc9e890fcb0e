"""Soft-edged paint: how much of a voxel a shape covers, who owns a voxel, and organs grown to a volume."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.simulation.canvas import WHOLE, Canvas, Tissue
from uptake.simulation.frame import Frame
from uptake.simulation.labels import organ_id
from uptake.simulation.person import PatientConfig, draw_person
from uptake.simulation.shapes import Region, ellipsoid_distance, on_box

TISSUES = {name: Tissue(suv, hu, 0.0, 0.0) for name, suv, hu in (("liver", 2.0, 60.0), ("fat", 0.25, -100.0))}


def reference_canvas(spacing: float = 4.0, extent: float = 100.0) -> Canvas:
    """A canvas of the reference man's own millimetres around depth 0, without any displacement."""
    person = draw_person(np.random.default_rng(0), PatientConfig(sex="male", height_m=1.83, bmi=26.0))
    n = round(extent / spacing)
    line = (np.arange(n) - (n - 1) / 2) * spacing
    one, zero = np.ones(n), np.zeros(n)
    frame = Frame(-line, one, one, zero, zero)
    canvas = Canvas(person, TISSUES, (-line, -line, line), frame, np.random.default_rng(0))
    canvas.u = np.broadcast_to((-line)[:, None, None], canvas.shape).astype(np.float32)
    canvas.v = np.broadcast_to((-line)[None, :, None], canvas.shape).astype(np.float32)
    canvas.d = np.broadcast_to(-line, canvas.shape).astype(np.float32)
    canvas.edge = spacing
    return canvas


def ball(canvas: Canvas, radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Region:
    return canvas.ellipsoid(centre, (radius, radius, radius))


@pytest.mark.parametrize("radius", [6.0, 11.0, 30.0])
def test_coverage_is_that_of_supersampled_voxels(radius):
    canvas = reference_canvas()
    centre = (1.3, -0.7, 2.1)
    region = ball(canvas, radius, centre)
    cover = canvas.fraction(region)
    fine = (np.arange(8) - 3.5) / 8 * 4.0
    inside = np.zeros(cover.shape)
    u, v, d = canvas.at(region.box)
    for a in fine:
        for b in fine:
            for c in fine:
                inside += (u - centre[0] + a) ** 2 + (v - centre[1] + b) ** 2 + (d - centre[2] + c) ** 2 <= radius**2
    inside /= 512
    assert cover.sum() * 0.064 == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.03)
    # Halving the voxel twice (2x supersampling) errs by about as much at the surface.
    assert np.sqrt(((cover - inside)[(inside > 0) & (inside < 1)] ** 2).mean()) < 0.12


def test_an_organ_grows_to_its_volume_and_owns_it():
    canvas = reference_canvas()
    region, cover = canvas.organ("liver", "liver", lambda: ball(canvas, 20.0, (0.7, 0.4, -1.1)), 50.0)
    liver = canvas.organs == organ_id("liver")
    assert liver.sum() * canvas.voxel_ml == pytest.approx(50.0, rel=0.02)
    assert cover.sum() * canvas.voxel_ml == pytest.approx(50.0, rel=0.03)
    # What comes later takes what is left, and both together never cover a voxel twice.
    canvas.organ("spleen", "fat", lambda: ball(canvas, 20.0, (18.3, 0.2, -0.4)), 40.0)
    spleen = canvas.organs == organ_id("spleen")
    assert (canvas.organs == organ_id("liver")).sum() == liver.sum()
    assert spleen.sum() * canvas.voxel_ml == pytest.approx(40.0, rel=0.02)
    assert canvas.owned.max() <= 1.0 + 1e-6
    # A part of an organ goes over it, and nowhere else.
    canvas.paint(ball(canvas, 40.0), "fat", "liver", within=on_box(cover, region.box, ball(canvas, 40.0).box, 0.0))
    full = np.zeros(canvas.shape, bool)
    full[region.box] = cover > 0.999
    assert full.sum() > 100 and canvas.suv[full].max() < 0.26
    assert (canvas.organs == organ_id("spleen")).sum() == spleen.sum()


def test_growth_stops_at_its_bounds():
    canvas = reference_canvas()
    roof = canvas.d + 1.0  # the organ stays where d < -1
    start = ball(canvas, 20.0, (0.7, 0.4, -1.1))
    region, _ = canvas.organ("liver", "liver", lambda: start, 30.0, bounds=lambda r: roof[r.box])
    liver = canvas.organs == organ_id("liver")
    assert liver.sum() * canvas.voxel_ml == pytest.approx(30.0, rel=0.05)
    assert canvas.d[liver].max() <= -1
    assert canvas.fit(region, 0.0).distance.min() > 100  # no volume, no organ


def test_a_given_organ_is_dressed_and_not_drawn():
    canvas = reference_canvas()
    given = ball(canvas, 15.0)
    canvas.reserve(given, "liver")
    assert canvas.suv.max() == 0

    def never() -> Region:
        raise AssertionError("drawn although it was given")

    before = canvas.organs.copy()
    region, cover = canvas.organ("liver", "liver", never, 99.0)
    np.testing.assert_array_equal(region.distance, given.distance)
    assert cover.max() == 1 and canvas.suv.max() == 2.0
    np.testing.assert_array_equal(canvas.organs, before)
    assert canvas.paint(ball(canvas, 40.0), "fat", "liver").max() == 0


def test_the_distance_is_exact_on_the_surface_and_turns_with_the_shape():
    canvas = reference_canvas(2.0)
    at = canvas.at(WHOLE)
    turned = ellipsoid_distance(at, (0, 0, 0), (10, 20, 30), turn=(90.0, 0.0, 0.0))
    straight = ellipsoid_distance(at, (0, 0, 0), (10, 30, 20))
    np.testing.assert_allclose(turned, straight, atol=1e-2)
    tube = canvas.tube([(0, 0, -30), (0, 0, 30)], [8.0, 8.0])
    u, v, d = canvas.at(tube.box)
    middle = np.abs(d) < 28
    # What the ramp of one voxel adds to a cylinder, e²/(24 r), is taken off its radius.
    np.testing.assert_allclose(tube.distance[middle], (np.hypot(u, v) - 8 + 4 / 24 / 8)[middle], atol=1e-3)
