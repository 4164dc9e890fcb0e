"""Fused cuts of a case for its report: through the hottest lesions, and through the reference regions."""

from __future__ import annotations

import numpy as np

from uptake.cases import Case
from uptake.core.pages import Picture
from uptake.core.units import AIR_HU
from uptake.geometry.grid import Grid
from uptake.geometry.volume import Volume
from uptake.harmonise.resample import to_grid
from uptake.quantification.assessment import Assessment
from uptake.quantification.lesions import LesionTable
from uptake.quantification.pictures import fusion_picture
from uptake.quantification.reference_regions import region_mask

SAME_AXES = 0.9999
"""Cosine above which two axes count as parallel: 0.8 degrees, 5 mm over the length of a body."""

CUTS = 3
"""Lesions shown as fused slices, hottest first."""


def lesion_cuts(case: Case, lesions: Volume, table: LesionTable, window: tuple[float, float]) -> tuple[Picture, ...]:
    """Return cuts through the hottest voxel of each of the `CUTS` hottest lesions; `window` is SUV, g/mL."""
    if not table.lesions:
        return ()
    ct = ct_to_show(case)
    hottest = sorted(table.lesions, key=lambda lesion: (-lesion.suv_max, lesion.lesion))[:CUTS]
    return tuple(
        Picture(
            fusion_picture(case.pet, ct, lesions, lesion.hottest_mm, suv_window=window),
            f"Lesion {lesion.lesion}: SUVmax {lesion.suv_max:.2f}, {lesion.volume_ml:.1f} mL. Three planes.",
            f"Three cuts through the hottest voxel of lesion {lesion.lesion}",
        )
        for lesion in hottest
    )


def reference_cuts(case: Case, assessment: Assessment, window: tuple[float, float]) -> tuple[Picture, ...]:
    """Return cuts through the centre of each reference region, its outline drawn."""
    if not assessment.references:
        return ()
    ct = ct_to_show(case)
    pictures = []
    for region in assessment.references:
        name = region.name.replace("_", " ")
        mask = case.pet.with_array(region_mask(case.pet, region).astype(np.uint8))
        pictures.append(
            Picture(
                fusion_picture(case.pet, ct, mask, region.centre_mm, suv_window=window),
                f"Reference {name}: {region.where}, SUVmean {region.suv_mean:.2f}. Three planes.",
                f"Three cuts through the {name} reference region",
            )
        )
    return tuple(pictures)


def ct_to_show(case: Case) -> Volume | None:
    """Return the CT on its own fine grid where its axes run along those of the PET, else on the PET's grid."""
    if case.ct is None:
        return None
    cosines = np.abs(case.ct.direction.T @ case.pet.direction)
    if (cosines.max(axis=0) > SAME_AXES).all():
        return case.ct
    return to_grid(case.ct, Grid.of(case.pet), order=1, fill=AIR_HU)
