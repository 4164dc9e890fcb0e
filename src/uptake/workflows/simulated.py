"""One simulated examination: what was asked for, drawn from one seed, and the chain truth -> scanner -> images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from uptake import __version__
from uptake.core.errors import UsageError
from uptake.core.types import Vector3
from uptake.simulation.counts import checked_fraction
from uptake.simulation.misalignment import LARGEST_SHIFT_MM, Motion, draw_motion
from uptake.simulation.person import PatientConfig, known_tracer
from uptake.simulation.petscan import PetCtScan, scan_patient
from uptake.simulation.phantoms import simulate_truth
from uptake.simulation.scanner import scanner_named
from uptake.simulation.site import Site, draw_site
from uptake.simulation.truth import Truth
from uptake.workflows.simulated_anatomy import AnatomyFiles

TRACER_STREAM, SITE_STREAM, SITES_STREAM, MOTION_STREAM = 31, 32, 33, 34

DRAWN, NONE = "drawn", "none"
"""Words for the misalignment between PET and CT; a number is a shift of the diaphragm in mm."""

LARGEST_NUMBER_OF_SITES = 1000


@dataclass(frozen=True)
class SimulationSettings:
    """What a simulated cohort has in common.

    Attributes
    ----------
    tracers : tuple of (str, float)
        Names and shares; a patient's tracer is drawn.
    spacing_mm : tuple of float
        Voxel size, 1.5 to 12 mm.
    n_lesions : int or None
        None draws it.
    doses : tuple of float
        Fractions of the counts, below 1, of further PETs beside the full one.
    sites : int
        Centres with scanners, habits and errors of their own, drawn from `site_seed`; 0 is one without errors.
    site_seed : int
    scanner : str or None
        A name in `simulation.scanner.SCANNERS`; None is a Siemens mCT, or drawn where there are sites.
    misalignment : "drawn", "none" or float
        Between PET and CT: as the site takes its CT, none at all, or the diaphragm of the CT this many mm lower.
    person : PatientConfig
        Further facts that are fixed; its tracer and contrast medium follow from `tracers` and the site.
    anatomy : AnatomyFiles or None
        Label maps of real people that patients get their organs from; None draws all of them.
    """

    tracers: tuple[tuple[str, float], ...] = (("FDG", 1.0),)
    spacing_mm: Vector3 = (4.0, 4.0, 4.0)
    n_lesions: int | None = None
    doses: tuple[float, ...] = ()
    sites: int = 0
    site_seed: int = 0
    scanner: str | None = None
    misalignment: str | float = DRAWN
    person: PatientConfig = field(default_factory=PatientConfig)
    anatomy: AnatomyFiles | None = None

    def __post_init__(self) -> None:
        tracers = tuple((known_tracer(name), float(share)) for name, share in self.tracers)
        if not tracers or not all(share > 0 for _, share in tracers) or len(dict(tracers)) < len(tracers):
            raise UsageError(f"tracers need shares above 0 and each its own name, came {self.tracers!r}.")
        object.__setattr__(self, "tracers", tracers)
        object.__setattr__(self, "spacing_mm", tuple(float(mm) for mm in self.spacing_mm))
        doses = tuple(sorted({checked_fraction(dose) for dose in self.doses} - {1.0}, reverse=True))
        object.__setattr__(self, "doses", doses)
        if not 0 <= self.sites <= LARGEST_NUMBER_OF_SITES:
            raise UsageError(f"the number of sites lies between 0 and {LARGEST_NUMBER_OF_SITES}, came {self.sites}.")
        if self.site_seed < 0:
            raise UsageError(f"the seed of the sites is 0 or more, came {self.site_seed}.")
        if self.scanner is not None:
            object.__setattr__(self, "scanner", scanner_named(self.scanner).name)
        if isinstance(self.misalignment, str):
            if self.misalignment not in (DRAWN, NONE):
                raise UsageError(f"misalignment is 'drawn', 'none' or a shift in mm, came {self.misalignment!r}.")
        elif not abs(self.misalignment) <= LARGEST_SHIFT_MM:
            raise UsageError(f"misalignment lies within ±{LARGEST_SHIFT_MM:g} mm, came {self.misalignment:g}.")

    def request(self, seed: int) -> dict[str, object]:
        """Return all that the patient of a seed depends on, as plain JSON values."""
        return {"seed": int(seed), "version": __version__, **self.as_json()}

    def as_json(self) -> dict[str, object]:
        """Return the settings as plain JSON values, without the names of files."""
        content = asdict(replace(self, anatomy=None))
        del content["anatomy"]
        return content if self.anatomy is None else {**content, "anatomy": self.anatomy.as_json()}

    def tracer_of(self, seed: int) -> str:
        """Return the tracer that the patient of a seed gets."""
        names, shares = zip(*self.tracers, strict=True)
        weights = np.asarray(shares) / sum(shares)
        return str(names[int(np.random.default_rng([seed, TRACER_STREAM]).choice(len(names), p=weights))])

    def site_of(self, seed: int) -> Site:
        """Return the centre that the patient of a seed visits."""
        if self.sites == 0:
            return Site() if self.scanner is None else Site(scanner=scanner_named(self.scanner))
        number = int(np.random.default_rng([seed, SITE_STREAM]).integers(self.sites))
        rng = np.random.default_rng([self.site_seed, SITES_STREAM, number])
        return draw_site(rng, name=f"site_{number + 1:02d}", scanner=self.scanner)

    def motion_of(self, seed: int, site: Site) -> Motion:
        """Return how the patient of a seed breathes, and how his CT was taken."""
        motion = draw_motion(np.random.default_rng([seed, MOTION_STREAM]), site.breath_hold)
        if self.misalignment == DRAWN:
            return motion
        shift = 0.0 if self.misalignment == NONE else float(self.misalignment)
        return replace(motion, ct_shift_mm=shift, rigid_mm=(0.0, 0.0, 0.0), head_turn_deg=0.0)


@dataclass(frozen=True, eq=False)
class Simulated:
    """A patient, the scan of him, and everything that was drawn.

    Attributes
    ----------
    id : str
    seed : int
    truth : Truth
        In the frame of the PET.
    scan : PetCtScan
    site : Site
    parameters : mapping
        Name -> plain number, text or truth value: a row of a table.
    """

    id: str
    seed: int
    truth: Truth
    scan: PetCtScan
    site: Site
    parameters: Mapping[str, object]


def case_name(seed: int) -> str:
    """Return what the patient of a seed is called."""
    return f"sim_{seed:05d}"


def simulated(seed: int, settings: SimulationSettings, *, threads: int = 1, noise_free: bool = False) -> Simulated:
    """Return the patient of a seed and his PET/CT: the same numbers however many threads work on it.

    With `noise_free` the expected counts are reconstructed too: what an endless scan would show.

    Raises
    ------
    UsageError, UnitError
        If the seed, the voxel size or the number of lesions is not usable.
    """
    site = settings.site_of(seed)
    # Contrast medium is given by the site.
    person = replace(settings.person, tracer=settings.tracer_of(seed), contrast="none")
    anatomy = None if settings.anatomy is None else settings.anatomy.of(seed)
    truth = simulate_truth(
        seed, spacing_mm=settings.spacing_mm, n_lesions=settings.n_lesions, config=person, anatomy=anatomy
    )
    scan = scan_patient(
        truth,
        site,
        seed=seed,
        fractions=(1.0, *settings.doses),
        motion=settings.motion_of(seed, site),
        noise_free=noise_free,
        threads=threads,
    )
    parameters = {
        **truth.parameters,
        **flat(scan.parameters),
        # Of the scan, where the two speak of the same thing.
        "contrast": site.ct.phase,
        "seed": seed,
    }
    return Simulated(case_name(seed), seed, truth, scan, site, parameters)


def flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested mappings and lists as one level, names joined by "_"."""
    row: dict[str, object] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            row.update(flat(value, f"{key}_"))
        elif isinstance(value, list | tuple):
            row.update(flat({str(n): item for n, item in enumerate(value)}, f"{key}_"))
        else:
            row[key] = round(value, 6) if isinstance(value, float) else value
    return row
