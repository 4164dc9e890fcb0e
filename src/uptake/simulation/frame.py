"""Where the reference man's millimetres lie in one patient: a depth for each slice, a size and a centre at each depth.

Anatomy is written in the frame of a man of 1.83 m: u to his right, v to the front, d downwards from the vertex, mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uptake.simulation.fields import Line
from uptake.simulation.person import Person

HEAD_END_MM = 235.0
"""Depth below the vertex, reference mm, above which lengths scale with the head and below which with the trunk."""

REFERENCE_BRAIN_ML, REFERENCE_LUNGS_ML = 1394.0, 5700.0
"""Brain and lungs of the man whose millimetres these are; he holds a deep breath."""

TYPICAL_LUNGS = 0.64
"""Lungs of a patient who breathes shallowly, relative to that deep breath."""

LUNG_SECTION_ML_PER_MM = 35.0
"""What the diaphragm's rise by 1 mm takes from the reference man's lungs."""


FIELD_MM, WIDE_FIELD_MM = (560.0, 440.0), (700.0, 540.0)
"""Width and depth of the field. Two sizes, so that cohorts share two system matrices; the wide one is for patients who
would reach its edge."""

FIELD_FRONT_MM = 20.0
"""How far the middle of the field lies in front of the patient's frame: bellies reach further than backs."""

ABOVE_VERTEX_MM = 20.0
FIELD_END_MM = 1050.0
"""Lower end of the field, mid-thigh, as a depth below the vertex in the reference man's millimetres."""

EDGE_MM = 14.0
"""Kept free between patient and edge of the field."""

DOME_RANGE_MM = (-75.0, 25.0)
"""How far the diaphragm may stand above and below that of the reference man."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The map between one patient's slices and the reference man, slice by slice.

    Attributes
    ----------
    depth : array (nk,)
        Depth below the vertex of each slice, reference mm.
    width, ap : array (nk,)
        Size across and from front to back, relative to the reference man.
    centre_x, centre_y : array (nk,)
        World position in mm where u and v are 0.
    """

    depth: Line
    width: Line
    ap: Line
    centre_x: Line
    centre_y: Line


@dataclass(frozen=True)
class Build:
    """What the frame of one person needs to know of his organs, as factors on the reference man's lengths.

    Attributes
    ----------
    head : float
        Size of the head.
    chest : float
        Width and depth of the chest beside those of the trunk.
    dome_mm : float
        How much deeper the diaphragm stands than in the reference man, about, reference mm; negative is higher.
    """

    head: float
    chest: float
    dome_mm: float = 0.0


def build_of(person: Person, volumes: dict[str, float]) -> Build:
    """Return the head that holds this brain, and chest and diaphragm that hold these lungs.

    Large lungs lie in a wide chest to one half, and on a low diaphragm to the other.
    """
    trunk = person.scale_xy**2 * person.scale_z
    lungs = volumes["lungs"] + volumes.get("pleural_effusion", 0.0)
    chest = float(np.clip((lungs / (TYPICAL_LUNGS * REFERENCE_LUNGS_ML * trunk)) ** (1 / 4), 0.93, 1.07))
    missing = lungs / (trunk * chest**2) - REFERENCE_LUNGS_ML
    return Build(
        head=float(np.clip(np.cbrt(volumes["brain"] / REFERENCE_BRAIN_ML), 0.88, 1.1)),
        chest=chest,
        dome_mm=float(np.clip(missing / LUNG_SECTION_ML_PER_MM, *DOME_RANGE_MM)),
    )


def settled(depth: float, dome_mm: float) -> float:
    """Return the depth of a soft organ when the diaphragm stands `dome_mm` deeper than in the reference man.

    Full shift from the domes to the liver's middle, none at the top of the lungs and at the pelvic floor.
    """
    return depth + dome_mm * float(np.interp(depth, (360.0, 530.0, 600.0, 900.0), (0.0, 1.0, 1.0, 0.0)))


def trunk_scales(person: Person, build: Build, depth: Line) -> tuple[Line, Line]:
    """Return the sizes across and from front to back at depths of the reference man."""
    trunk = np.clip((depth - 215.0) / 60.0, 0.0, 1.0)
    trunk = trunk**2 * (3 - 2 * trunk)
    chest = np.clip((depth - 310.0) / 80.0, 0.0, 1.0) * np.clip((620.0 - depth) / 90.0, 0.0, 1.0)
    across = person.scale_xy * (1 + (build.chest - 1) * chest)
    # A fuller abdomen widens its content too, to the front more than to the sides.
    belly = np.exp(-(((depth - 690.0) / 150.0) ** 2)) * np.clip(person.corpulence, -0.8, 2.0)
    width = build.head * (1 - trunk) + trunk * across * (1 + 0.02 * belly)
    ap = build.head * (1 - trunk) + trunk * across * (1 + 0.03 * belly)
    return width, ap


def person_frame(person: Person, build: Build, z_mm: Line, rng: np.random.Generator) -> Frame:
    """Return the frame of a person whose vertex is at z = 0, with the slight scoliosis that everybody has."""
    below = -z_mm
    knee = HEAD_END_MM * build.head
    depth = np.where(below < knee, below / build.head, HEAD_END_MM + (below - knee) / person.scale_z)
    width, ap = trunk_scales(person, build, depth)
    amplitude, phase = rng.normal(0.0, 5.0), rng.uniform(0.0, 2 * np.pi)
    ramp = np.clip((depth - 250.0) / 250.0, 0.0, 1.0) * np.clip((900.0 - depth) / 250.0, 0.0, 1.0)
    bend = np.asarray(amplitude * ramp * np.sin(depth / 110.0 + phase))
    return Frame(depth, width, ap, bend, np.zeros_like(depth))


def below_vertex_mm(person: Person, build: Build, depth: float) -> float:
    """Return how far below the vertex of this person a depth of the reference man lies, mm."""
    return HEAD_END_MM * build.head + (depth - HEAD_END_MM) * person.scale_z
