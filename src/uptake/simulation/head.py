"""Head and neck: brain, pituitary, eyes, lacrimal and salivary glands, pharynx, larynx and thyroid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from uptake.simulation.canvas import Canvas
from uptake.simulation.fields import Array
from uptake.simulation.shapes import Region, ellipsoid_distance
from uptake.simulation.skeleton import skull_base


def draw_head(canvas: Canvas, rng: np.random.Generator, volumes: Mapping[str, float]) -> None:
    """Paint everything above the collar bones but bone, muscle and vessels."""
    _airways(canvas)
    _face(canvas, rng, volumes)
    _glands(canvas, rng, volumes)
    _brain(canvas, rng, volumes)


def _airways(canvas: Canvas) -> None:
    pipe = canvas.tube([(0, 34, 162), (0, 22, 185), (0, 22, 225)], [9, 8, 8], smooth=8)
    canvas.paint(pipe, "gas", "pharynx")
    canvas.paint(canvas.ellipsoid((0, 72, 160), (9, 22, 22)), "gas", claim=True)
    canvas.paint(canvas.ellipsoid((0, 70, 160), (14, 25, 25)), "nasal", claim=True)
    for side in (1, -1):
        canvas.paint(canvas.ellipsoid((side * 27, 56, 150), (12, 15, 15)), "gas", claim=True)
    canvas.paint(canvas.tube([(0, 32, 236), (0, 34, 258)], [16, 13]), "larynx", claim=True)


def _face(canvas: Canvas, rng: np.random.Generator, volumes: Mapping[str, float]) -> None:
    for side, name in ((1, "right"), (-1, "left")):
        canvas.paint(canvas.ellipsoid((side * 32, 76, 124), (12, 12, 12)), "vitreous", f"eye_{name}")
        gland = canvas.ellipsoid((side * 41, 72, 113), (5, 7, 5), turn=(0, side * 20, side * 20))
        canvas.organ(f"lacrimal_gland_{name}", "lacrimal", lambda g=gland: g, volumes[f"lacrimal_gland_{name}"])
        canvas.paint(canvas.ellipsoid((side * 30, 60, 125), (11, 18, 11)), "fat")
        canvas.paint(canvas.tube([(side * 22, 40, 124), (side * 32, 64, 124)], [4, 8]), "eye_muscle", weight=0.6)
        lean = float(np.exp(0.1 * rng.standard_normal()))
        canvas.paint(canvas.ellipsoid((side * 17, 26, 198), (7, 9, 12)), "tonsil", "tonsils", suv_factor=lean)
        # The mouth of the auditory tube: mucous glands that PSMA ligands show.
        canvas.paint(canvas.ellipsoid((side * 13, 26, 166), (5, 6, 10)), "nasal", suv_factor=1.6, claim=True)


def _glands(canvas: Canvas, rng: np.random.Generator, volumes: Mapping[str, float]) -> None:
    for side, name in ((1, "right"), (-1, "left")):
        tail = canvas.ellipsoid((side * 56, 2, 190), (10, 13, 18))
        ear = canvas.ellipsoid((side * 60, 4, 166), (9, 17, 22), turn=(8, 0, side * 10))
        for stem, shape in (
            ("parotid", canvas.union([ear, tail])),
            ("submandibular", canvas.ellipsoid((side * 33, 40, 221), (10, 15, 12))),
            ("sublingual", canvas.ellipsoid((side * 13, 64, 212), (6, 14, 8), turn=(0, 0, side * 14))),
        ):
            one = float(np.exp(0.08 * np.clip(rng.standard_normal(), -2, 2)))
            label = f"{stem}_gland_{name}"
            canvas.organ(label, stem, lambda g=shape: g, volumes[label], look=lambda _, f=one: {"suv_factor": f})
    tongue = canvas.ellipsoid((0, 48, 196), (22, 28, 15))
    canvas.paint(tongue, "tongue", "pharynx")
    lobes = [canvas.ellipsoid((side * 16, 28, 270), (8, 10, 22), turn=(0, side * -8, 0)) for side in (1, -1)]
    isthmus = canvas.tube([(-12, 36, 276), (12, 36, 276)], [5, 5])
    thyroid = canvas.union([*lobes, isthmus])
    windpipe = canvas.tube([(0, 26, 255), (0, 18, 300)], [9, 9])
    canvas.paint(windpipe, "gas", "trachea")
    canvas.organ("thyroid_gland", "thyroid", lambda: thyroid, volumes["thyroid_gland"])


def _brain(canvas: Canvas, rng: np.random.Generator, volumes: Mapping[str, float]) -> None:
    asymmetry = float(np.clip(rng.standard_normal(), -2, 2))
    pituitary = canvas.ellipsoid((0, 20, 121), (6, 5, 4))
    canvas.organ("pituitary_gland", "pituitary", lambda: pituitary, volumes["pituitary_gland"])
    box = canvas.box((-80, -100, 0), (80, 100, 165))
    at = canvas.at(box)
    u, v, d = at
    # Underside: high over the orbits, low at the temporal poles, lowest where the tentorium carries the occipital lobe.
    lobes = ellipsoid_distance(at, (0, 2, 85), (60.5, 79, 69), power=2.15)
    cerebrum = np.maximum(lobes, d - (121 + 7 * np.cos((v - 8) / 16) - 0.10 * v))
    hind = np.minimum(*(ellipsoid_distance(at, (s * 24, -46, 133), (27, 27, 19)) for s in (1, -1)))
    stem = canvas.tube([(0, -20, 112), (0, -18, 140), (0, -12, 156)], [14, 13, 8], smooth=6).on(box)
    skull = ellipsoid_distance(at, (0, 2, 91), (64, 83.5, 78), power=2.15)
    canvas.paint(Region(box, np.maximum(skull, d - skull_base(v) + 4)), "csf")
    whole = Region(box, np.minimum(np.minimum(cerebrum, hind), stem))

    # A little higher in the visual cortex, a little different on both sides.
    def look(region: Region) -> dict[str, Array]:
        u, v, _ = canvas.at(region.box)
        lateral = 1.0 + 0.03 * asymmetry * np.sign(u) + 0.06 * np.exp(-(((v + 66) / 22) ** 2))
        return {"suv_factor": (0.94 * lateral).astype(np.float32)}

    region, cover = canvas.organ("brain", "grey_matter", lambda: whole, volumes["brain"], look=look)
    if region.box != box:
        box, at = region.box, canvas.at(region.box)
        u, v, d = at
        hind = np.minimum(*(ellipsoid_distance(at, (s * 24, -46, 133), (27, 27, 19)) for s in (1, -1)))
    folds = canvas.field(rng, 17.0)[box]
    # White matter lies under a folded ribbon of grey that is 3 mm thick with sulci between; at PET resolution the
    # ribbon shows about 0.94 of its uptake. Nuclei of grey lie in its middle.
    white = region.distance + 9.0 + 9.0 * np.clip(np.abs(folds), 0, 1.6)
    for s in (1, -1):
        for x, y, z, r in ((25, 8, 88, (7, 18, 13)), (12, -10, 88, (9, 14, 9)), (13, 22, 84, (6, 10, 9))):
            white = np.maximum(white, -ellipsoid_distance(at, (s * x, y, z), r))  # type: ignore[arg-type]
    canvas.paint(Region(box, white.astype(np.float32)), "white_matter", "brain", within=cover, weight=0.92)
    fissure = np.maximum(np.abs(u) - 1.5, d - 84).astype(np.float32)
    canvas.paint(Region(box, fissure), "csf", "brain", within=cover, weight=0.5)
    canvas.paint(Region(box, hind.astype(np.float32)), "cerebellum", "brain", within=cover)
    age = 2.6 + 0.045 * (canvas.person.age_years - 20)
    for side in (1, -1):
        horn = [(side * 12, 32, 76), (side * 11, 5, 68), (side * 18, -30, 78), (side * 28, -8, 98)]
        ventricle = canvas.tube(horn, [age, age, age + 1, age - 1], smooth=10).on(box)
        canvas.paint(Region(box, ventricle), "csf", "brain", within=cover)
