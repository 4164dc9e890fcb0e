"""How many coincidences a scan yields: trues, scatter, randoms, their noise, and their honest thinning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from uptake.core.errors import UnitError, UsageError
from uptake.core.types import FloatArray, Vector3
from uptake.core.units import MM3_PER_ML, SECONDS_PER_MINUTE
from uptake.physics.decay import decay_factor
from uptake.physics.radionuclides import RADIONUCLIDES
from uptake.simulation.attenuation import MU_WATER_PER_MM, survival
from uptake.simulation.fields import Array
from uptake.simulation.osem import Measurement
from uptake.simulation.projector import Projector
from uptake.simulation.scanner import Scanner

POSITRON_BRANCHING: dict[str, float] = {
    "F-18": 0.967,
    "Ga-68": 0.889,
    "Cu-64": 0.175,
    "Zr-89": 0.227,
    "C-11": 0.998,
    "N-13": 0.998,
    "O-15": 0.999,
    "Rb-82": 0.95,
}
"""Positrons per decay. NEMA sensitivities are measured with F-18."""

REFERENCE_KBQ_PER_ML = 4.0
"""Concentration at which `Scanner.randoms_per_true` holds."""

SCATTER_RADIAL_MM, SCATTER_AXIAL_MM, SCATTER_ANGLE_DEG = 180.0, 90.0, 30.0
"""Widths of the smoothing that turns trues into singly scattered coincidences."""

SCATTER_BLOCK_MM = 16.0

NEMA_CYLINDER_MM = 200.0

THROUGH_THE_BODY = 0.1
"""Line integral of attenuation above which a line counts as crossing the body: 1 cm of water."""

MBQ_PER_KG_RANGE = (0.01, 50.0)
SECONDS_PER_BED_RANGE = (1.0, 7200.0)


@dataclass(frozen=True)
class Protocol:
    """How much is injected and how long is scanned.

    Attributes
    ----------
    mbq_per_kg : float
    uptake_min : float
        From injection to scan.
    seconds_per_bed : float
    """

    mbq_per_kg: float = 3.5
    uptake_min: float = 60.0
    seconds_per_bed: float = 120.0

    def __post_init__(self) -> None:
        for name, (low, high) in (
            ("mbq_per_kg", MBQ_PER_KG_RANGE),
            ("uptake_min", (0.0, 1440.0)),
            ("seconds_per_bed", SECONDS_PER_BED_RANGE),
        ):
            if not low <= getattr(self, name) <= high:
                raise UnitError(f"{name} must lie between {low:g} and {high:g}, came {getattr(self, name)!r}.")

    def kbq_per_ml(self, nuclide: str) -> float:
        """Return the concentration of SUV 1 when the scan starts, kBq/mL (1 MBq/kg is 1 kBq/g)."""
        half_life = next((n.half_life_s for n in RADIONUCLIDES if n.name == nuclide), None)
        if half_life is None or nuclide not in POSITRON_BRANCHING:
            raise UnitError(f"unknown radionuclide {nuclide!r}; known are {sorted(POSITRON_BRANCHING)}.")
        return self.mbq_per_kg * decay_factor(self.uptake_min * SECONDS_PER_MINUTE, half_life)


@dataclass(frozen=True)
class CountRecord:
    """How many counts the scan holds.

    Attributes
    ----------
    trues, scatter, randoms : float
        Expected coincidences on lines through the body, as measured, before the gain of timing.
    nec : float
        Noise-equivalent counts T² / (T + S + R), as measured.
    tof_gain : float
        By how much timing multiplies the effective counts.
    nec_per_litre : float
        Noise-equivalent counts with that gain, per litre of body in the field: the measure by which scans of different
        scanners, doses and times compare.
    body_litres, diameter_mm : float
        Body in the field of view, and the mean diameter of its sections.
    """

    trues: float
    scatter: float
    randoms: float
    nec: float
    tof_gain: float
    nec_per_litre: float
    body_litres: float
    diameter_mm: float

    def at(self, fraction: float) -> CountRecord:
        """Return the record of a thinned scan: all kinds of counts fall alike."""
        scaled = {
            n: v * fraction for n, v in asdict(self).items() if n not in ("tof_gain", "body_litres", "diameter_mm")
        }
        return CountRecord(**{**asdict(self), **scaled})


def noise_equivalent(trues: float, scatter: float, randoms: float) -> float:
    """Return T² / (T + S + R): counts of a scan without scatter and randoms that is equally noisy (randoms smoothed).

    References
    ----------
    Strother, Casey, Hoffman, IEEE Trans Nucl Sci 37(2), 1990. doi:10.1109/23.106715
    """
    total = trues + scatter + randoms
    return trues**2 / total if total > 0 else 0.0


def expected_counts(
    arriving: Array,
    mu_per_mm: Array,
    projector: Projector,
    spacing_mm: Vector3,
    *,
    scanner: Scanner,
    protocol: Protocol,
    nuclide: str = "F-18",
) -> tuple[Measurement, CountRecord]:
    """Return the expected measurement of an activity, its counts not yet random, and what it holds.

    Parameters
    ----------
    arriving : array (i, j, k) float32
        SUV, after `resolution.detector_blur`.
    mu_per_mm : array (i, j, k) float32
        True attenuation at 511 keV, 1/mm.
    projector : Projector
    spacing_mm : tuple of float
    scanner : Scanner
    protocol : Protocol
    nuclide : str

    Notes
    -----
    Scatter is a wide smoothing of trues weighted with the matter on their line (single scatter goes with both), scaled
    to the scanner's scatter fraction, which grows with the root of the body's diameter. Randoms are uniform over the
    lines of a slice. Both are known exactly to the reconstruction. Dead time is left out.
    """
    g = projector.geometry
    concentration = protocol.kbq_per_ml(nuclide)
    slices = arriving.shape[2]
    matter = projector.apply(mu_per_mm)
    litres, diameter = body_size(mu_per_mm, spacing_mm)
    gain = scanner.tof_gain(diameter)
    # Summed over all lines, the line integrals of a slice are its activity per area times angles / pitch.
    per_line = (
        scanner.counts_per_kbq_s(slices, spacing_mm[2])
        * np.float32(
            protocol.seconds_per_bed * concentration * POSITRON_BRANCHING[nuclide] / POSITRON_BRANCHING["F-18"]
        )
        * np.float32(spacing_mm[2] * g.bin_mm / MM3_PER_ML / g.n_angles)
    )
    factor = survival(matter) * per_line
    trues = projector.apply(arriving)
    trues *= factor
    n_trues = float(trues.sum(dtype=np.float64))
    through = matter > THROUGH_THE_BODY
    matter *= trues
    scatter = _scatter_shape(matter, g.bin_mm, spacing_mm[2])
    ratio = scanner.scatter_fraction / (1 - scanner.scatter_fraction) * float(np.sqrt(diameter / NEMA_CYLINDER_MM))
    total = float(scatter.sum(dtype=np.float64, where=through))
    scatter *= np.float32(ratio * n_trues / total if total > 0 else 0.0)
    randoms = _randoms(trues, scanner, concentration, spacing_mm[2])
    n_scatter, n_randoms = ratio * n_trues, float(randoms @ through.sum(axis=(0, 1), dtype=np.float64))
    nec = noise_equivalent(n_trues, n_scatter, n_randoms)
    record = CountRecord(n_trues, n_scatter, n_randoms, nec, gain, nec * gain / max(litres, 1e-6), litres, diameter)
    background = scatter
    background += randoms[None, None, :]
    trues += background
    for lines in (factor, background, trues):
        lines *= np.float32(gain)
    return Measurement(trues, factor, background), record


def body_size(mu_per_mm: Array, spacing_mm: Vector3) -> tuple[float, float]:
    """Return the volume that attenuates, litres, and the diameter of the disk of the median section's area, mm.

    The area counts lung by its density, so that a chest is as wide as what lies in the path of the photons.
    """
    body = np.clip(mu_per_mm / np.float32(MU_WATER_PER_MM), 0.0, 1.0)
    areas = body.sum(axis=(0, 1), dtype=np.float64) * spacing_mm[0] * spacing_mm[1]
    present = areas > 1e3
    area = float(np.median(areas[present])) if present.any() else 0.0
    return float(areas.sum() * spacing_mm[2] / 1e6), 2.0 * float(np.sqrt(area / np.pi))


def draw_counts(expected: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return Poisson counts of an expectation (angles, bins, slices)."""
    counts = np.empty(expected.shape, np.int32)
    # One direction at a time: the generator works in 64 bit.
    for angle in range(expected.shape[0]):
        counts[angle] = rng.poisson(expected[angle])
    return counts


def thin(counts: npt.NDArray[np.integer[Any]], fraction: float, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return the counts that a scan with a fraction of the time would have registered.

    Each count is kept with probability `fraction`. Of Poisson counts with mean y the kept ones are Poisson with mean
    ``fraction * y``, and independent of those left over: ``counts - thin(counts, 0.5, rng)`` is a second, independent
    scan.

    Parameters
    ----------
    counts : array of int
    fraction : float
        In (0, 1].

    Raises
    ------
    UsageError
        For a fraction outside (0, 1], or counts that are not whole numbers.
    """
    fraction = checked_fraction(fraction)
    if not np.issubdtype(counts.dtype, np.integer):
        raise UsageError(f"only whole counts can be thinned, came {counts.dtype}.")
    if fraction == 1.0:
        return np.array(counts, dtype=np.int32)
    kept = np.empty(counts.shape, np.int32)
    for angle in range(counts.shape[0]):
        kept[angle] = rng.binomial(counts[angle], fraction)
    return kept


def thinned(measurement: Measurement, fraction: float, rng: np.random.Generator) -> Measurement:
    """Return a measurement with a fraction of the counts; its image has the same mean and unit."""
    kept = thin(np.asarray(measurement.counts), fraction, rng)
    share = np.float32(fraction)
    return Measurement(kept, measurement.factor * share, measurement.background * share)


def checked_fraction(fraction: float) -> float:
    """Return the fraction of counts as float.

    Raises
    ------
    UsageError
        If it is not in (0, 1].
    """
    if isinstance(fraction, bool) or not isinstance(fraction, int | float | np.number) or not 0 < float(fraction) <= 1:
        raise UsageError(f"a dose fraction lies above 0 and at most at 1, came {fraction!r}; write 5 % as 0.05.")
    return float(fraction)


def _scatter_shape(source: Array, bin_mm: float, slice_mm: float) -> Array:
    """Return the source (angles, bins, slices) smoothed widely: three box filters along each axis.

    Done on every few directions and on blocks of bins and slices: nothing finer is left after the smoothing.
    """
    turns, bins, slices = source.shape
    steps = (max(turns // 40, 1), max(int(SCATTER_BLOCK_MM / bin_mm), 1), max(int(SCATTER_BLOCK_MM / slice_mm), 1))
    coarse = source[:: steps[0]]
    coarse = np.add.reduceat(coarse, np.arange(0, bins, steps[1]), axis=1)
    coarse = np.add.reduceat(coarse, np.arange(0, slices, steps[2]), axis=2)
    n = coarse.shape[0]
    # Beyond 180 degrees the same lines return with their bins reversed.
    smooth = np.concatenate([coarse[:, ::-1], coarse, coarse[:, ::-1]])
    widths = (
        SCATTER_ANGLE_DEG / 180.0 * n,
        SCATTER_RADIAL_MM / bin_mm / steps[1],
        SCATTER_AXIAL_MM / slice_mm / steps[2],
    )
    for axis, (width, mode) in enumerate(zip(widths, ("nearest", "constant", "nearest"), strict=True)):
        # Three boxes of width w have the variance w² / 4 together: a Gaussian of FWHM 1.18 w.
        for _ in range(3):
            smooth = uniform_filter1d(smooth, max(round(0.85 * width), 1), axis=axis, mode=mode)
    smooth = smooth[n : 2 * n + 1]
    where = (
        np.arange(turns) / steps[0],
        (np.arange(bins) - (steps[1] - 1) / 2) / steps[1],
        (np.arange(slices) - (steps[2] - 1) / 2) / steps[2],
    )
    for axis in (2, 1, 0):
        smooth = _interpolate(smooth, where[axis], axis)
    return smooth


def _interpolate(values: Array, where: FloatArray, axis: int) -> Array:
    """Return the values at fractional positions along one axis, linear, held constant beyond the ends."""
    last = values.shape[axis] - 1
    position = np.clip(where, 0, last)
    lower = np.minimum(position.astype(np.intp), max(last - 1, 0))
    shape = [1, 1, 1]
    shape[axis] = -1
    share = (position - lower).astype(np.float32).reshape(shape)
    below = np.take(values, lower, axis=axis)
    above = np.take(values, np.minimum(lower + 1, last), axis=axis)
    above -= below
    above *= share
    above += below
    return np.asarray(above)


def _randoms(trues: Array, scanner: Scanner, concentration: float, slice_mm: float) -> Array:
    """Return randoms per line, shape (slices,): they follow the activity in the whole axial field."""
    per_line = trues.mean(axis=(0, 1), dtype=np.float64)
    window = max(min(round(scanner.afov_mm / slice_mm), len(per_line)), 1)
    level = uniform_filter1d(per_line, window, mode="nearest")
    return np.asarray(level * scanner.randoms_per_true * concentration / REFERENCE_KBQ_PER_ML, dtype=np.float32)
