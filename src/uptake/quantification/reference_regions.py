"""Reference regions in healthy tissue, placed by an organ map: the liver sphere and the blood pool of PERCIST.

A region is placed by anatomy and away from edges and lesions; where that cannot be done the reason is returned, and no
number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.core.types import FloatArray, Mask, Shape3, Vector3
from uptake.geometry.components import Box, bounding_box, connected_components, foreground, require_labels
from uptake.geometry.grid import require_same_grid
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume
from uptake.quantification.organs import in_depth
from uptake.quantification.region_shapes import ball, clear_of, cylinder, posterior_depth

LIVER_RADIUS_MM = 15.0
"""PERCIST: a sphere 3 cm in diameter in the right lobe."""

LIVER_MARGIN_MM = 5.0
"""From the sphere's surface to the edge of the liver: half the resolution of a PET, and some breathing."""

LIVER_HEIGHTS = (0.25, 0.75)
"""Share of the way from the lowest point of the liver to its dome between which the sphere's centre lies: midway, where
breathing blurs least."""

SMALLEST_LIVER_ML = 400.0
"""Less is no whole liver of an adult: cut off, or mistaken by whoever drew the map."""

LARGEST_DISEASED_SHARE = 0.25
"""A liver of which lesions take more is diseased, and PERCIST turns to the blood pool."""

UNEVEN = 0.25
"""The sphere's mean may differ by this share from the median of the whole inner liver before it is reported."""

BLOOD_RADIUS_MM = 5.0
BLOOD_LENGTH_MM = 20.0
"""PERCIST: 1 cm in diameter and 2 cm long, in the descending thoracic aorta."""

BLOOD_MARGIN_MM = 2.0
"""From the cylinder to the wall of the aorta."""

BELOW_ARCH_MM = (50.0, 150.0)
"""The cylinder's centre lies this far below the top of the aortic arch: below the arch itself, above the diaphragm."""

LESION_GAP_MM = 10.0
"""From a reference region to the nearest lesion: what a PET smears over."""

CANDIDATE_STEP_MM = 4.0
"""Centres of the liver sphere that are tried lie about this far apart."""

CANDIDATES_AT_ONCE = 512

QUIET_SHARE = 0.5
"""Of the centres that are tried, this share with the lowest coefficients of variation is kept. Taking the lowest of all
would choose among hundreds of noisy values, and give an SD too low and a mean too high."""

LIVER, BLOOD_POOL = "liver", "blood_pool"


@dataclass(frozen=True)
class ReferenceRegion:
    """A reference region and its uptake.

    Attributes
    ----------
    name : str
        "liver" or "blood_pool".
    where : str
        In words.
    centre_mm : tuple of float
        mm, RAS+.
    voxels : int
        Whose centres lie in the region.
    volume_ml : float
        Of these voxels.
    suv_mean, suv_sd, suv_max, suv_median : float
        g/mL; SD with n - 1.
    warnings : tuple of str
    """

    name: str
    where: str
    centre_mm: Vector3
    voxels: int
    volume_ml: float
    suv_mean: float
    suv_sd: float
    suv_max: float
    suv_median: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoReference:
    """Why a reference region could not be placed, in words that follow "no liver reference: "."""

    name: str
    reason: str


def liver_reference(
    pet: Volume, organs: Volume, names: Mapping[int, str], *, lesions: Volume | None = None
) -> ReferenceRegion | NoReference:
    """Return the 3 cm sphere in the right lobe of the liver.

    Parameters
    ----------
    pet : Volume
        SUV, g/mL.
    organs : Volume
        Organ map on the PET's grid.
    names : mapping of int to str
        Label -> organ; the liver is called "liver".
    lesions : Volume, optional
        Voxels that are not 0 are lesions, on the same grid.

    Returns
    -------
    ReferenceRegion or NoReference
        The latter if the liver is missing, cut by the edge of the image, too small, diseased, or without room.

    Raises
    ------
    GeometryError
        If a map is on another grid.
    InputError
        If a map holds no labels.

    Notes
    -----
    Centres are tried right of the liver's median plane, midway between dome and lowest point, whose sphere keeps
    `LIVER_MARGIN_MM` from the edge of the liver and `LESION_GAP_MM` from lesions. The half of them with the lower
    coefficients of variation stays off vessels, cysts and what nobody outlined; of these the one deepest in the liver
    is taken.

    References
    ----------
    Wahl et al. 2009, PERCIST, J Nucl Med 50:122S; O et al. 2016, Radiology 280:576. Low variation in the eroded right
    lobe: Hirata et al. 2014, PLoS ONE 9:e105682, who take the lowest.
    """
    diseased = _checked(pet, organs, lesions)
    found_organ = _organ(organs, names, "liver")
    if found_organ is None:
        return NoReference(LIVER, "the organ map has no liver")
    mask, box = found_organ
    volume_ml = float(mask[box].sum()) * pet.voxel_volume_ml
    if _touches_edge(box, pet.shape):
        return NoReference(LIVER, "the edge of the image cuts the liver, so that its middle is not known")
    if volume_ml < SMALLEST_LIVER_ML:
        return NoReference(LIVER, f"the liver of the organ map has {volume_ml:.0f} mL; a whole one has more than "
                                  f"{SMALLEST_LIVER_ML:.0f} mL")  # fmt: skip
    share = 0.0 if diseased is None else float(diseased[box][mask[box]].mean())
    if share > LARGEST_DISEASED_SHARE:
        return NoReference(LIVER, f"lesions take {share:.0%} of the liver")
    start = np.array([part.start for part in box])
    inside = mask[box]
    depth = in_depth(inside, pet.spacing_mm)
    fits = depth >= LIVER_RADIUS_MM + LIVER_MARGIN_MM
    if diseased is not None:
        fits &= clear_of(diseased, box, pet.spacing_mm, LIVER_RADIUS_MM + LESION_GAP_MM)
    index = _in_right_middle(np.argwhere(inside) + start, np.argwhere(fits) + start, pet)
    if not len(index):
        gap = "" if not share else f" and {LESION_GAP_MM:g} mm from lesions"
        return NoReference(
            LIVER,
            f"no sphere of {2 * LIVER_RADIUS_MM:g} mm fits into the middle of the right lobe, {LIVER_MARGIN_MM:g} mm "
            f"from the edge of the liver{gap}",
        )
    offsets = ball(pet, LIVER_RADIUS_MM)
    tried = _thinned(index, pet.spacing_mm)
    variation = _variation(pet, tried, offsets)
    quiet = tried[variation <= np.quantile(variation, QUIET_SHARE)]
    centre = quiet[int(depth[tuple((quiet - start).T)].argmax())]
    where = f"sphere {2 * LIVER_RADIUS_MM:g} mm in diameter, right lobe"
    found = _measured(pet, centre, offsets, name=LIVER, where=where)
    inner = pet.array[box][(depth >= LIVER_MARGIN_MM) & (inside if diseased is None else inside & ~diseased[box])]
    median = float(np.median(inner)) if len(inner) else math.nan
    if median > 0 and abs(found.suv_mean / median - 1) > UNEVEN:
        note = (
            f"the liver is uneven: the reference sphere has SUVmean {found.suv_mean:.2f}, the whole liver without "
            f"lesions a median of {median:.2f}."
        )
        return replace(found, warnings=(note,))
    return found


def blood_pool_reference(
    pet: Volume, organs: Volume, names: Mapping[int, str], *, lesions: Volume | None = None
) -> ReferenceRegion | NoReference:
    """Return the cylinder, 1 cm in diameter and 2 cm long, in the descending thoracic aorta: mediastinal blood pool.

    Parameters, errors and the case without a place as `liver_reference`; the aorta is called "aorta".

    Notes
    -----
    In each slice the descending aorta is the part of the label that lies furthest back; the arch and what is below the
    diaphragm are left out by their distance from the top of the label. The cylinder stands where it is deepest inside.
    """
    diseased = _checked(pet, organs, lesions)
    found_organ = _organ(organs, names, "aorta")
    if found_organ is None:
        return NoReference(BLOOD_POOL, "the organ map has no aorta")
    # Axes to the right, the front and the head: posterior is a low j, below is a low k.
    turned = reorient(pet.with_array(found_organ[0].astype(np.uint8)), "RAS")
    box = bounding_box(np.asarray(turned.array, dtype=bool))
    assert box is not None
    aorta = np.asarray(turned.array[box], dtype=bool)
    step_mm = turned.spacing_mm[2]
    if box[2].stop == turned.shape[2]:
        return NoReference(BLOOD_POOL, "the upper edge of the image cuts the aorta, so that its arch is not known")
    top = aorta.shape[2] - 1
    first, last = (top - round(mm / step_mm) for mm in reversed(BELOW_ARCH_MM))
    half = math.ceil(BLOOD_LENGTH_MM / 2 / step_mm)
    if first - half < 0:
        return NoReference(BLOOD_POOL, f"the aorta of the organ map is {top * step_mm:.0f} mm long, too short for its "
                                       "thoracic part")  # fmt: skip
    room = np.zeros(aorta.shape)
    for k in range(first - half, last + half + 1):
        room[:, :, k] = posterior_depth(aorta[:, :, k], turned.spacing_mm, least_mm2=math.pi * BLOOD_RADIUS_MM**2)
    # A vertical cylinder has room where every slice along its length has.
    room = ndimage.minimum_filter1d(room, 2 * half + 1, axis=2, mode="constant")
    room[:, :, :first] = room[:, :, last + 1 :] = 0
    if diseased is not None:
        lesion = np.asarray(reorient(pet.with_array(diseased.astype(np.uint8)), "RAS").array, dtype=bool)
        reach = math.hypot(BLOOD_RADIUS_MM, BLOOD_LENGTH_MM / 2) + LESION_GAP_MM
        room *= clear_of(lesion, box, turned.spacing_mm, reach)
    if room.max() < BLOOD_RADIUS_MM + BLOOD_MARGIN_MM:
        return NoReference(
            BLOOD_POOL,
            f"no cylinder of {2 * BLOOD_RADIUS_MM:g} by {BLOOD_LENGTH_MM:g} mm fits into the descending aorta, "
            f"{BLOOD_MARGIN_MM:g} mm from its wall and {LESION_GAP_MM:g} mm from lesions",
        )
    best = np.argwhere(room >= room.max() - 1e-9)
    middle = best[np.abs(best[:, 2] - (first + last) / 2).argmin()]
    corner = [part.start for part in box]
    centre = np.rint(pet.index_of(turned.world_of((middle + corner).astype(np.float64)))).astype(np.int64)
    where = f"cylinder {2 * BLOOD_RADIUS_MM:g} mm in diameter, {BLOOD_LENGTH_MM:g} mm long, descending aorta"
    return _measured(pet, centre, cylinder(pet, BLOOD_RADIUS_MM, BLOOD_LENGTH_MM), name=BLOOD_POOL, where=where)


def region_mask(pet: Volume, region: ReferenceRegion) -> Mask:
    """Return the voxels (i, j, k) of a reference region on the grid of the PET."""
    offsets = ball(pet, LIVER_RADIUS_MM) if region.name == LIVER else cylinder(pet, BLOOD_RADIUS_MM, BLOOD_LENGTH_MM)
    centre = np.rint(pet.index_of(np.array(region.centre_mm))).astype(np.int64)
    mask = np.zeros(pet.shape, dtype=bool)
    mask[tuple((offsets + centre).T)] = True
    return mask


def _checked(pet: Volume, organs: Volume, lesions: Volume | None) -> Mask | None:
    """Return the lesion voxels after the checks of all maps."""
    require_same_grid(pet, organs, names=("the PET", "the organ map"))
    require_labels(organs, name="the organ map")
    if lesions is None:
        return None
    require_same_grid(pet, lesions, names=("the PET", "the lesion mask"))
    return foreground(lesions, name="the lesion mask")


def _organ(organs: Volume, names: Mapping[int, str], name: str) -> tuple[Mask, Box] | None:
    """Return the largest connected part of an organ, without stray voxels, and its box; None if it is absent."""
    mask = np.zeros(organs.shape, dtype=bool)
    for label, written in names.items():
        if written == name:
            mask |= organs.array == label
    parts = connected_components(mask, connectivity=6)
    if not parts.count:
        return None
    largest = int(parts.voxels.argmax())
    return np.asarray(parts.labels == 1 + largest), parts.boxes[largest]


def _touches_edge(box: Box, shape: Shape3) -> bool:
    return any(part.start == 0 or part.stop == size for part, size in zip(box, shape, strict=True))


def _in_right_middle(
    liver: npt.NDArray[np.int64], fitting: npt.NDArray[np.int64], pet: Volume
) -> npt.NDArray[np.int64]:
    """Return the fitting voxels (n, 3) in the right half of the liver, midway between lowest point and dome."""
    world = pet.world_of(liver.astype(np.float64))
    low, high = np.percentile(world[:, 2], (1, 99))
    bottom, top = (low + share * (high - low) for share in LIVER_HEIGHTS)
    place = pet.world_of(fitting.astype(np.float64))
    # Half of the liver's volume lies right of its median; the plane between the lobes is further to the left.
    keep = (place[:, 0] >= np.median(world[:, 0])) & (place[:, 2] >= bottom) & (place[:, 2] <= top)
    return fitting[keep]


def _thinned(index: npt.NDArray[np.int64], spacing: Vector3) -> npt.NDArray[np.int64]:
    """Return voxels about `CANDIDATE_STEP_MM` apart; all of them where that would leave none."""
    step = np.array([max(1, round(CANDIDATE_STEP_MM / mm)) for mm in spacing])
    kept = index[((index - index.min(axis=0)) % step == 0).all(axis=1)]
    return kept if len(kept) else index


def _variation(pet: Volume, centres: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> FloatArray:
    """Return the coefficient of variation of the region around each centre (n,); infinite where the mean is not > 0."""
    variation = np.full(len(centres), np.inf)
    for first in range(0, len(centres), CANDIDATES_AT_ONCE):
        chosen = centres[first : first + CANDIDATES_AT_ONCE, None, :] + offsets
        suv = pet.array[chosen[..., 0], chosen[..., 1], chosen[..., 2]].astype(np.float64)
        mean = suv.mean(axis=1)
        part = variation[first : first + CANDIDATES_AT_ONCE]
        np.divide(suv.std(axis=1), mean, out=part, where=mean > 0)
    return variation


def _measured(
    pet: Volume, centre: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], *, name: str, where: str
) -> ReferenceRegion:
    index = centre + offsets
    suv = pet.array[tuple(index.T)].astype(np.float64)
    x, y, z = (float(value) for value in pet.world_of(centre.astype(np.float64)))
    return ReferenceRegion(
        name=name,
        where=where,
        centre_mm=(x, y, z),
        voxels=len(suv),
        volume_ml=len(suv) * pet.voxel_volume_ml,
        suv_mean=float(suv.mean()),
        suv_sd=float(suv.std(ddof=1)) if len(suv) > 1 else math.nan,
        suv_max=float(suv.max()),
        suv_median=float(np.median(suv)),
    )
