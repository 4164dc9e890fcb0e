"""All that an organ map adds to a lesion table: organs, places, references, criteria. One record for all outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from uptake.core.errors import UsageError
from uptake.geometry.volume import Volume
from uptake.quantification.lesions import LesionTable
from uptake.quantification.organs import OrganTable, measure_organs
from uptake.quantification.places import LesionPlace, place_lesions
from uptake.quantification.reference_regions import (
    BLOOD_POOL,
    LIVER,
    NoReference,
    ReferenceRegion,
    blood_pool_reference,
    liver_reference,
)
from uptake.quantification.response import Deauville, NotAssessed, Patient, Percist, deauville, percist
from uptake.quantification.spread import standardised_spread_per_m

NO_MAP = "no organ map was given"


@dataclass(frozen=True)
class Assessment:
    """Organs of a scan, and its lesions against them.

    Attributes
    ----------
    patient : Patient
    organs : OrganTable or None
        Lesions are taken out of its SUV statistics. None without an organ map.
    places : tuple of LesionPlace
        One per lesion; empty places without an organ map.
    liver, blood_pool : ReferenceRegion or NoReference
    percist : Percist or NotAssessed
    deauville : Deauville or NotAssessed
    spread_per_m, spread_voxels_per_m : float or None
        SDmax: the largest distance between lesion centroids, and between lesion voxels, over body surface, 1/m; None
        where the body is not known or there is no lesion.
    """

    patient: Patient
    organs: OrganTable | None
    places: tuple[LesionPlace, ...]
    liver: ReferenceRegion | NoReference
    blood_pool: ReferenceRegion | NoReference
    percist: Percist | NotAssessed
    deauville: Deauville | NotAssessed
    spread_per_m: float | None
    spread_voxels_per_m: float | None

    @property
    def references(self) -> tuple[ReferenceRegion, ...]:
        """The reference regions that could be placed."""
        return tuple(r for r in (self.liver, self.blood_pool) if isinstance(r, ReferenceRegion))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader has to know, once each."""
        notes = [] if self.organs is None else list(self.organs.warnings)
        for region in self.references:
            notes += region.warnings
        for criterion in (self.percist, self.deauville):
            if not isinstance(criterion, NotAssessed):
                notes += criterion.notes
        return tuple(dict.fromkeys(notes))


def assess(
    pet: Volume,
    table: LesionTable,
    *,
    patient: Patient | None = None,
    organs: Volume | None = None,
    names: Mapping[int, str] | None = None,
    measured: OrganTable | None = None,
) -> Assessment:
    """Return what an organ map says about the organs of a scan and about its lesions.

    Parameters
    ----------
    pet : Volume
        SUV by body weight, g/mL.
    table : LesionTable
        Of this PET.
    patient : Patient, optional
        Tracer and body; nothing is known of them by default, and the criteria are not applied.
    organs : Volume, optional
        Organ map on the grid of the PET.
    names : mapping of int to str, optional
        Label -> organ; goes with `organs`.
    measured : OrganTable, optional
        The table of these organs, where it was made already.

    Raises
    ------
    GeometryError, InputError, UsageError
        As `measure_organs`; UsageError also for a map without names.
    """
    patient = patient or Patient()
    if organs is not None and not names:
        raise UsageError("an organ map needs the names of its labels: a mapping from number to organ.")
    lesions = table.numbered
    places = tuple(LesionPlace(lesion.lesion) for lesion in table.lesions)
    liver: ReferenceRegion | NoReference = NoReference(LIVER, NO_MAP)
    blood_pool: ReferenceRegion | NoReference = NoReference(BLOOD_POOL, NO_MAP)
    if organs is not None and names:
        measured = measured or measure_organs(pet, organs, names, lesions=lesions)
        places = place_lesions(table, organs, names)
        liver = liver_reference(pet, organs, names, lesions=lesions)
        blood_pool = blood_pool_reference(pet, organs, names, lesions=lesions)
    surface = patient.body_surface_m2 if table.lesions else None
    return Assessment(
        patient=patient,
        organs=measured,
        places=places,
        liver=liver,
        blood_pool=blood_pool,
        percist=percist(table.lesions, liver, blood_pool, patient=patient),
        deauville=deauville(table.lesions, liver, blood_pool, patient=patient),
        spread_per_m=None if surface is None else standardised_spread_per_m(table.totals.spread_mm, surface),
        spread_voxels_per_m=(
            None if surface is None else standardised_spread_per_m(table.totals.spread_voxels_mm, surface)
        ),
    )
