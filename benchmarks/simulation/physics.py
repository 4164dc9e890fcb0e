"""Measure the simulated scanner against closed forms, exact thinning and a real phantom scan.

Usage: python benchmarks/simulation/physics.py [--data ../shared/data] [--only dose nema ...] [--fine]

Writes physics.csv (one row per measured number) and physics.md (the same as tables) beside this file; `--only` replaces
the rows of the sections named and keeps the others. `--fine` adds one patient at 2 mm to the section `cost`.
Results on simulated patients throughout, except for the section `nema`, whose reference is a real scan of the NEMA
image-quality phantom (recon_1, recon_2), and `real`, a real whole-body PET.
"""

from __future__ import annotations

import argparse
import csv
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, label
from scipy.special import erf

from uptake.geometry import Volume
from uptake.io.nifti import read_nifti
from uptake.simulation import simulate_truth
from uptake.simulation.acquisition import count_noise
from uptake.simulation.attenuation import MU_WATER_PER_MM, attenuation_per_cm, correction_factor, survival
from uptake.simulation.counts import Protocol, draw_counts, thin
from uptake.simulation.fields import FWHM_PER_SIGMA
from uptake.simulation.low_dose import low_dose_of
from uptake.simulation.misalignment import Motion, trace
from uptake.simulation.osem import Measurement, Recon, log_likelihood, reconstruct
from uptake.simulation.petscan import scan_patient
from uptake.simulation.projector import Projector, ScanGeometry
from uptake.simulation.reference import even_region, quiet_sphere
from uptake.simulation.resolution import blur_variance, detector_blur
from uptake.simulation.scanner import SCANNERS
from uptake.simulation.site import Site
from uptake.simulation.truth import Truth

HERE = Path(__file__).parent
SEED = 20_003
FRACTIONS = (1.0, 0.5, 0.25, 0.10, 0.05, 0.01)
STILL = Motion()
SPHERES_MM = (10, 13, 17, 22, 28, 37)
COLUMNS = ("section", "what", "condition", "value", "expected", "within")

Row = tuple[str, str, str, float, float | str, str]


def row(section: str, what: str, condition: object, value: float, expected: float | str = "", within: str = "") -> Row:
    return section, what, str(condition), float(value), expected, within


def sphere(diameter: float, spacing: float, extent: float, parts: int = 4) -> np.ndarray:
    n = 2 * int(extent / spacing / 2) + 1
    fine = ((np.arange(n * parts) + 0.5) / parts - n / 2) * spacing
    inside = (fine[:, None, None] ** 2 + fine[:, None] ** 2 + fine**2) <= (diameter / 2) ** 2
    return inside.reshape(n, parts, n, parts, n, parts).mean(axis=(1, 3, 5)).astype(np.float32)


def closed_form(diameter: float, fwhm: float) -> tuple[float, float]:
    """Recovery at the centre and in the mean of a sphere under a Gaussian."""
    sigma, r, q = fwhm / FWHM_PER_SIGMA, diameter / 2, np.sqrt(2 / np.pi)
    b = 2 * r / sigma
    e = np.exp(-(b**2) / 2)
    i2, i3 = erf(b / np.sqrt(2)) - q * b * e, q * (2 - (b**2 + 2) * e)
    i5 = q * (8 - (b**4 + 4 * b**2 + 8) * e)
    centre = erf(r / np.sqrt(2) / sigma) - q * r / sigma * np.exp(-(r**2) / 2 / sigma**2)
    return float(centre), float(i2 - 3 * i3 / (2 * b) + i5 / (2 * b**3))


def forms() -> Iterator[Row]:
    """What can be worked out on paper."""
    for diameter in (6, 8, *SPHERES_MM):
        h = min(0.6 + 0.02 * diameter, 1.2)
        truth = sphere(diameter, h, diameter + 18)
        image = blur_variance(truth, (h,) * 3, (6.0 / FWHM_PER_SIGMA) ** 2, voxel_share=True)
        centre, mean = closed_form(diameter, 6.0)
        at = tuple(n // 2 for n in image.shape)
        yield row("forms", "recovery at the centre, FWHM 6 mm", f"{diameter} mm", image[at], round(centre, 4), "1 %")
        value = (image * truth).sum() / truth.sum()
        yield row("forms", "mean recovery, FWHM 6 mm", f"{diameter} mm", value, round(mean, 4), "2 %")
    shape, spacing = (128, 128, 8), (4.0, 4.0, 4.0)
    projector = Projector(ScanGeometry.of_image(shape, spacing, subsets=16), subsets=16)
    rng = np.random.default_rng(0)
    image = rng.uniform(size=shape).astype(np.float32)
    lines = projector.apply(image)
    other = rng.uniform(size=lines.shape).astype(np.float32)
    left = np.vdot(lines.astype(float), other)
    right = np.vdot(image.astype(float), projector.adjoint(other))
    yield row("forms", "adjoint, relative difference", "128 x 128 x 8", abs(left / right - 1), 0, "1e-6")
    x = (np.arange(128) - 63.5) * 4.0
    disk = np.repeat((np.hypot(x[:, None], x[None, :]) < 100)[:, :, None], 8, axis=2).astype(np.float32)
    chords = projector.apply(disk)[:, :, 0]
    s = projector.geometry.radial_mm()
    inner = np.abs(s) < 80
    error = np.abs(chords[:, inner] / (2 * np.sqrt(100**2 - s[inner] ** 2)) - 1).mean()
    yield row("forms", "lines through a disk, mean relative error", "|s| < 0.8 R", error, 0, "2 %")
    totals = chords.sum(axis=1)
    yield row("forms", "totals of directions, range / mean", "", np.ptp(totals) / totals.mean(), 0, "1 %")
    centre = projector.apply(disk * np.float32(MU_WATER_PER_MM))[:, :, 0][:, np.argmin(np.abs(s))]
    yield row("forms", "attenuation correction factor", "20 cm of water", correction_factor(centre).mean(), 6.82, "1 %")
    yield row("forms", "attenuation of water, 1/cm", "120 kVp", attenuation_per_cm(np.zeros(1))[0], 0.096, "1e-3")
    factor = survival(projector.apply(disk * np.float32(MU_WATER_PER_MM)))
    trues = factor * projector.apply(2 * disk)
    data = Measurement(trues + trues.mean() * 0.5, factor, np.full_like(trues, trues.mean() * 0.5))
    cylinder = reconstruct(data, projector, Recon(4, 16, 0.0, 0.0), spacing)
    core = np.hypot(x[:, None], x[None, :]) < 70
    yield row("forms", "uniform cylinder, noiseless OSEM", "4 x 16", cylinder[core].mean(), 2.0, "1 %")
    single = Projector(projector.geometry)
    noisy = Measurement(rng.poisson(data.counts), data.factor, data.background)
    values: list[float] = []

    def note(_: int, image: np.ndarray) -> None:
        values.append(log_likelihood(noisy, single.apply(image)))

    reconstruct(noisy, single, Recon(8, 1, 0.0, 0.0), spacing, each=note)
    yield row("forms", "smallest gain of log-likelihood", "8 MLEM iterations", np.diff(values).min(), "> 0")
    counts = draw_counts(np.full((100, 100, 200), 8.0, np.float32), rng)
    kept = thin(counts, 0.05, rng)
    yield row("forms", "thinned mean / expected", "2e6 bins, d = 0.05", kept.mean() / 0.4, 1.0, "0.5 %")
    yield row("forms", "thinned variance / mean", "2e6 bins, d = 0.05", kept.var() / kept.mean(), 1.0, "0.5 %")
    correlation = np.corrcoef(kept.ravel(), (counts - kept).ravel())[0, 1]
    yield row("forms", "correlation of kept and left-over counts", "d = 0.05", correlation, 0.0, "0.003")
    correlation = np.corrcoef(kept.ravel(), counts.ravel())[0, 1]
    yield row("forms", "correlation of kept and all counts", "d = 0.05", correlation, round(np.sqrt(0.05), 4), "0.003")
    phase = (np.arange(10_000) + 0.5) / 10_000
    yield row("forms", "breathing trace, mean / amplitude", "", trace(1.0, phase).mean(), 0.375, "1e-3")
    yield row("forms", "breathing trace, SD / amplitude", "", trace(1.0, phase).std(), 0.3644, "1e-3")


def read_volume(path: Path) -> Volume:
    array, affine, _ = read_nifti(path)
    return Volume(np.asarray(array, dtype=np.float32), affine)


def organ(truth: Truth, *names: str, depth: int = 3) -> np.ndarray:
    return binary_erosion(truth.mask(*names) & (truth.lesions.array == 0), iterations=depth)


def noise_power(noise: np.ndarray, box: tuple[slice, ...], spacing: float) -> np.ndarray:
    """Shares of transverse noise power in bins of 0.2 per cm up to 1.2."""
    part = noise[box] - noise[box].mean(axis=(0, 1))
    power = (np.abs(np.fft.fft2(part, axes=(0, 1))) ** 2).sum(axis=2)
    axes = [np.fft.fftfreq(n, spacing / 10) for n in part.shape[:2]]
    shares, _ = np.histogram(np.hypot(axes[0][:, None], axes[1][None, :]), bins=np.arange(0, 1.3, 0.2), weights=power)
    return shares / shares.sum()


def around(mask: np.ndarray, half: tuple[int, int, int]) -> tuple[slice, ...]:
    middle = [round(float(n.mean())) for n in np.nonzero(mask)]
    return tuple(slice(m - h, m + h) for m, h in zip(middle, half, strict=True))


def dose() -> Iterator[Row]:
    """Noise and means of one patient over the dose, three seeds, no motion."""
    truth = simulate_truth(SEED, n_lesions=8)
    regions = {"liver": organ(truth, "liver"), "lung": organ(truth, "lung_*"), "muscle": organ(truth, "gluteus_*")}
    for psf in (0.0, 4.5):
        site = Site(recon=Recon(2, 16, psf, 5.0))
        name = "2x16, 5 mm" + (", PSF" if psf else "")
        noise: dict[tuple[str, float], list[float]] = {}
        mean: dict[tuple[str, float], list[float]] = {}
        ideal: dict[str, float] = {}
        for seed in range(3):
            scan = scan_patient(truth, site, seed=seed, motion=STILL, protocol=Protocol(), fractions=FRACTIONS,
                                noise_free=seed == 0)  # fmt: skip
            if seed == 0:
                reference = scan.noise_free.array
                ideal = {region: float(reference[mask].mean()) for region, mask in regions.items()}
                yield row("dose", "NEC per litre, million", name, scan.counts.nec_per_litre / 1e6)
                peak = truth.lesions.array > 0
                yield row("dose", "SUVmax of the lesions, noise-free", name, reference[peak].max())
                for fraction, pet in scan.pet.items():
                    yield row("dose", "SUVmax of the lesions", f"{name}, d = {fraction:g}", pet.array[peak].max())
            for fraction, pet in scan.pet.items():
                for region, mask in regions.items():
                    gap = pet.array[mask] - reference[mask]
                    noise.setdefault((region, fraction), []).append(float(gap.std()) / ideal[region])
                    mean.setdefault((region, fraction), []).append(float(pet.array[mask].mean()))
        for region in regions:
            covs = [float(np.mean(noise[region, fraction])) for fraction in FRACTIONS]
            for fraction, cov in zip(FRACTIONS, covs, strict=True):
                yield row("dose", f"CoV of the {region}", f"{name}, d = {fraction:g}", cov)
                bias = float(np.mean(mean[region, fraction])) / ideal[region] - 1
                limit = "3 %" if fraction >= 0.05 else ""
                yield row("dose", f"bias of the {region}'s mean", f"{name}, d = {fraction:g}", bias, 0.0, limit)
            slope = float(np.polyfit(np.log(FRACTIONS[:5]), np.log(covs[:5]), 1)[0])
            yield row("dose", f"log-log slope of CoV, {region}", f"{name}, d >= 0.05", slope, -0.5, "0.05")


def injection() -> Iterator[Row]:
    """Residual injection into a full-dose image against thinning of its own kind of counts, and image-domain noise."""
    truth = simulate_truth(SEED, n_lesions=8)
    recon = Recon(2, 16, 0.0, 5.0)
    site = Site(recon=recon)
    liver = organ(truth, "liver")
    regions = {"liver": liver, "lung": organ(truth, "lung_*"), "muscle": organ(truth, "gluteus_*", depth=2)}
    box = around(liver, (8, 8, 12))
    full = scan_patient(truth, site, seed=90, motion=STILL, protocol=Protocol(), noise_free=True)
    ideal = full.noise_free.array
    true_cov = float((full.pet[1.0].array - ideal)[liver].std() / ideal[liver].mean())
    for fraction in (0.25, 0.10, 0.05):
        exact = []
        for seed in range(3):
            scan = scan_patient(truth, site, seed=seed, motion=STILL, protocol=Protocol(), fractions=(fraction,))
            exact.append(scan.pet[fraction].array - ideal)
        twins = {
            "counts known": {"nec_per_litre": full.counts.nec_per_litre, "recon": recon},
            "liver mask": {"liver": truth.mask("liver")},
            "nothing known": {},
        }
        for name, options in twins.items():
            if fraction != 0.10 and name != "counts known":
                continue
            ct = None if name == "nothing known" else full.ct
            made = [low_dose_of(full.pet[1.0], ct, fraction, seed=seed, **options) for seed in range(3)]
            noise = [twin.image.array - ideal for twin in made]
            condition = f"{name}, d = {fraction:g}"
            if name != "counts known":
                yield row("injection", "liver CoV found", condition, made[0].full_liver_cov, round(true_cov, 4))
                found = made[0].nec_per_litre / fraction / full.counts.nec_per_litre
                yield row("injection", "counts found / true", condition, found, 1.0)
                width = made[0].record["recon"]["filter_fwhm_mm"]
                yield row("injection", "filter found, mm", condition, width, 5.0)
            for region, mask in regions.items():
                ratio = np.mean([n[mask].std() for n in noise]) / np.mean([n[mask].std() for n in exact])
                within = "0.05" if region == "liver" and name == "counts known" else ""
                yield row("injection", f"SD injected / exact, {region}", condition, ratio, 1.0, within)
            shares = [np.mean([noise_power(n, box, 4.0) for n in some], axis=0) for some in (noise, exact)]
            for low, a, b in zip(np.arange(0, 1.2, 0.2), *shares, strict=True):
                within = "0.03" if name == "counts known" else ""
                yield row("injection", f"noise power {low:.1f}-{low + 0.2:.1f} /cm", condition, a, round(b, 4), within)
            yield row("injection", "clipped share of the body", condition, made[0].record["clipped_share"])
            yield row("injection", "smallest voxel", condition, min(t.image.array.min() for t in made), ">= 0")
        if fraction == 0.10:
            cov = float(np.mean([n[liver].std() for n in exact]) / ideal[liver].mean())
            hu = np.where(truth.organs.array > 0, truth.hu.array, -1000).astype(np.float32)
            image = count_noise(np.random.default_rng(0), ideal, hu, liver, (4.0,) * 3, liver_cov=cov,
                                noise_fwhm_mm=(5.0, 6.0, 4.5))  # fmt: skip
            for region, mask in regions.items():
                ratio = (image - ideal)[mask].std() / np.mean([n[mask].std() for n in exact])
                yield row("injection", f"SD image-domain / exact, {region}", f"d = {fraction:g}", ratio, 1.0)
            domain = noise_power(image - ideal, box, 4.0)
            for low, a, b in zip(np.arange(0, 1.2, 0.2), domain, shares[1], strict=True):
                what = f"noise power, image domain, {low:.1f}-{low + 0.2:.1f} /cm"
                yield row("injection", what, f"d = {fraction:g}", a, round(b, 4))


def measure_spheres(pet: Volume) -> dict[int, tuple[float, float, float]]:
    """Return sphere diameter -> (mean, A50 mean, max) over the background, of the six hot spheres of an image."""
    array, spacing = pet.array.astype(np.float64), pet.spacing_mm
    body = array > 0.3 * np.percentile(array[array > 0], 60)
    background = float(np.median(array[body]))
    smooth = detector_blur(pet.array.astype(np.float32), spacing, fwhm_mm=8.0)
    pieces, _ = label(smooth > 2.2 * background)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest = np.sort(np.argsort(sizes)[::-1][:6])
    order = sorted(largest, key=lambda n: sizes[n])
    index = np.indices(array.shape, sparse=True)
    found = {}
    for diameter, number in zip(SPHERES_MM, order, strict=True):
        where = pieces == number
        weight = np.where(where, smooth - background, 0.0)
        middle = [float((weight * axis).sum() / weight.sum()) for axis in index]
        r = np.sqrt(sum(((axis - m) * s) ** 2 for axis, m, s in zip(index, middle, spacing, strict=True)))
        near = array[r <= diameter / 2 + 6.0]
        hottest = float(near.max())
        a50 = near[near >= 0.5 * (hottest + background)]
        found[diameter] = (
            float(array[r <= diameter / 2].mean()) / background,
            float(a50.mean()) / background,
            hottest / background,
        )
    return found


def background_noise(slices: np.ndarray, middle: tuple[int, int]) -> float:
    """Return SD / mean of the background between the spheres' slices and the end, insert left out."""
    i, j = np.indices(slices.shape[:2])
    r = np.hypot(i - middle[0], j - middle[1])
    values = slices[(r > 16) & (r < 36)].astype(np.float64)
    return float(values.std() / values.mean())


def iec_phantom(spacing: tuple[float, float, float], ratio: float) -> Truth:
    """Return the NEMA image-quality phantom: six hot spheres on a ring, a lung insert, a body of water."""
    shape = (170, 140, 60)
    parts = 3
    total = np.zeros(shape, np.float32)
    density = np.zeros(shape, np.float32)
    centres = {
        d: (57.2 * np.cos(a), 57.2 * np.sin(a)) for d, a in zip(SPHERES_MM, np.arange(6) * np.pi / 3, strict=True)
    }
    steps = (np.arange(parts) + 0.5) / parts - 0.5
    for di in steps:
        for dj in steps:
            for dk in steps:
                x, y, z = ((np.arange(n) + d - (n - 1) / 2) * s for n, d, s in
                           zip(shape, (di, dj, dk), spacing, strict=True))  # fmt: skip
                x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
                body = (np.abs(x / 147) ** 2.4 + np.abs((y + 0) / 115) ** 2.4 < 1) & (z > -200)
                insert = (x**2 + y**2 < 25.0**2) & (z > -200)
                hot = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), bool)
                for d, (cx, cy) in centres.items():
                    hot |= (x - cx) ** 2 + (y - cy) ** 2 + z**2 < (d / 2) ** 2
                total += np.where(hot, ratio, np.where(body & ~insert, 1.0, 0.0)).astype(np.float32)
                density += np.where(insert, 0.3, np.where(body, 1.0, 0.0)).astype(np.float32)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    activity = Volume(total / parts**3, affine)
    hu = activity.with_array(density / parts**3 * 1000 - 1000)
    labels = activity.with_array((density > 0).astype(np.uint8))
    return Truth(activity, hu, labels, activity.with_array(np.zeros(shape, np.uint8)), 10.0, organ_names={1: "water"})


def nema(data: Path) -> Iterator[Row]:
    """Recovery of the six spheres: two reconstructions of a real scan, and a simulated DMI."""
    folder = data / "phantom" / "nema_iq"
    found, noise = {}, {}
    for name in ("recon_1", "recon_2"):
        volume = read_volume(folder / f"{name}.nii.gz")
        found[f"real {name}"] = measure_spheres(Volume(volume.array[:, :, 22:66], volume.affine))
        noise[f"real {name}"] = background_noise(volume.array[:, :, 52:64], (95, 96))
    true_ratio = 10.8
    truth = iec_phantom((2.0833, 2.0833, 2.78), true_ratio)
    for name, recon in (
        ("2x16", Recon(2, 16, 0.0, 0.0)), ("4x16, PSF", Recon(4, 16, 4.5, 0.0)), ("8x16, PSF", Recon(8, 16, 4.5, 0.0)),
    ):  # fmt: skip
        site = Site(scanner=SCANNERS["DMI"], recon=recon)
        scan = scan_patient(truth, site, seed=1, motion=STILL, protocol=Protocol(3.0, 60.0, 300.0))
        pet = scan.pet[1.0]
        found[f"simulated {name}"] = measure_spheres(pet)
        i, j, k = (n // 2 for n in pet.shape)
        noise[f"simulated {name}"] = background_noise(pet.array[:, :, k + 9 : k + 21], (i, j))
    for which, value in noise.items():
        yield row("nema", "CoV of the background", which, value)
    for which, spheres in found.items():
        for diameter, values in spheres.items():
            for what, value in zip(("mean", "A50 mean", "max"), values, strict=True):
                recovery = (value - 1) / (true_ratio - 1)
                yield row("nema", f"contrast recovery, {what}", f"{diameter} mm, {which}", recovery)


def breathing() -> Iterator[Row]:
    """The band below the dome against the shift of the CT; the truth is still, so that only the correction differs."""
    truth = simulate_truth(SEED, n_lesions=0)
    liver = truth.mask("liver")
    top = np.where(liver.any(axis=2), liver.shape[2] - 1 - np.argmax(liver[:, :, ::-1], axis=2), -1)
    k = np.arange(liver.shape[2])[None, None, :]
    band = liver & (k > top[:, :, None] - 3)
    start = 0.0
    for shift in (0.0, 4.0, 8.0, 12.0, 16.0, 20.0, -8.0):
        scan = scan_patient(truth, Site(), seed=1, motion=Motion(0.0, shift), protocol=Protocol(), noise_free=True)
        value = float(scan.noise_free.array[band].mean())
        start = start or value
        yield row("breathing", "top 12 mm of the liver, relative", f"CT {shift:+g} mm", value / start)
    for amplitude in (0.0, 15.0):
        scan = scan_patient(truth, Site(), seed=1, motion=Motion(amplitude, 8.0), protocol=Protocol(), noise_free=True)
        value = float(scan.noise_free.array[liver].mean())
        yield row("breathing", "liver mean, CT +8 mm", f"amplitude {amplitude:g} mm", value)


def scanners() -> Iterator[Row]:
    """Counts and liver noise of every scanner, 3.5 MBq/kg, 2x16 with 5 mm, 120 s per bed (long ones 300 s in all)."""
    truth = simulate_truth(SEED, n_lesions=0)
    liver = organ(truth, "liver")
    for name, scanner in SCANNERS.items():
        seconds = 300.0 if scanner.afov_mm > 700 else 120.0
        scan = scan_patient(truth, Site(scanner=scanner), seed=1, motion=STILL, protocol=Protocol(3.5, 60.0, seconds),
                            noise_free=True)  # fmt: skip
        noise = scan.pet[1.0].array - scan.noise_free.array
        yield row("scanners", "NEC per litre, million (timing gain in)", name, scan.counts.nec_per_litre / 1e6)
        yield row("scanners", "timing gain", name, scan.counts.tof_gain)
        yield row("scanners", "liver CoV", name, noise[liver].std() / scan.noise_free.array[liver].mean())
        edge = closed_edge(scan.noise_free.array, truth)
        yield row("scanners", "mean of the liver / true", name, edge)


def closed_edge(image: np.ndarray, truth: Truth) -> float:
    deep = organ(truth, "liver", depth=4)
    return float(image[deep].mean() / truth.activity.array[deep].mean())


def real(data: Path) -> Iterator[Row]:
    """Low-dose twins of a real whole-body PET without CT."""
    pet = read_volume(data / "wholebody" / "STS_001" / "pet.nii.gz")
    pet = Volume(np.maximum(pet.array, 0).astype(np.float32), pet.affine)
    region = even_region(pet, quiet_sphere(pet))
    mean = float(pet.array[region].mean())
    for fraction in (0.5, 0.25, 0.10, 0.05):
        twin = low_dose_of(pet, None, fraction, seed=1, scanner="D690")
        values = twin.image.array[region]
        condition = f"d = {fraction:g}"
        yield row("real", "liver CoV", condition, values.std() / values.mean(), round(twin.liver_cov, 4))
        yield row("real", "liver mean", condition, values.mean(), round(mean, 4), "3 %")
        if fraction == 0.5:
            yield row("real", "liver CoV of the full dose", "noise only", twin.full_liver_cov)
            yield row("real", "NEC per litre of the full dose, million", "", twin.nec_per_litre / fraction / 1e6)
            yield row("real", "filter found, mm", "", twin.record["recon"]["filter_fwhm_mm"])


def cost(fine: bool) -> Iterator[Row]:
    """Processor time and memory of one patient: anatomy, CT, breathing, full dose and 5 %."""
    for spacing in (4.0, 2.0) if fine else (4.0,):
        began = time.process_time()
        truth = simulate_truth(SEED, spacing_mm=(spacing,) * 3)
        made = time.process_time()
        scan_patient(truth, Site(recon=Recon(2, 16, 4.5, 5.0)), seed=1, fractions=(1.0, 0.05))
        ended = time.process_time()
        yield row("cost", "anatomy, s of processor time", f"{spacing:g} mm", made - began)
        yield row("cost", "scan with PSF, full and 5 %, s of processor time", f"{spacing:g} mm", ended - made)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        yield row("cost", "peak memory, GB", f"{spacing:g} mm", peak)


def write(rows: list[Row]) -> None:
    with (HERE / "physics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([*r[:3], f"{float(r[3]):.6g}", *r[4:]] for r in rows)
    text = [
        "# The simulated scanner, measured",
        "",
        "Made by `python benchmarks/simulation/physics.py --fine`; the numbers are those of `physics.csv`. All of it",
        "is simulated but for the spheres of a real phantom (`nema`) and a real whole-body PET (`real`).",
    ]
    for section in dict.fromkeys(r[0] for r in rows):
        text += ["", f"## {section}", "", (SECTIONS[section].__doc__ or "").strip(), ""]
        text += ["| what | condition | value | expected | within |", "|---|---|---|---|---|"]
        for _, what, condition, value, expected, within in (r for r in rows if r[0] == section):
            text.append(f"| {what} | {condition} | {float(value):.4g} | {expected} | {within} |")
    (HERE / "physics.md").write_text("\n".join(text) + "\n", encoding="utf-8")


SECTIONS = {
    "forms": forms, "dose": dose, "injection": injection, "nema": nema, "breathing": breathing, "scanners": scanners,
    "real": real, "cost": cost,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--fine", action="store_true")
    options = parser.parse_args()
    path = HERE / "physics.csv"
    rows: list[Row] = []
    if path.exists():
        with path.open(encoding="utf-8") as file:
            rows = [tuple(r) for r in list(csv.reader(file))[1:]]  # type: ignore[misc]
    for section in options.only:
        arguments = {"nema": (options.data,), "real": (options.data,), "cost": (options.fine,)}.get(section, ())
        made = list(SECTIONS[section](*arguments))
        rows = [r for r in rows if r[0] != section] + made
        rows.sort(key=lambda r: list(SECTIONS).index(r[0]))
        write(rows)
        for r in made:
            print(*r, sep=" | ", flush=True)


if __name__ == "__main__":
    main()
