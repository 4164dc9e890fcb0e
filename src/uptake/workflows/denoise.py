"""`denoise`: one low-dose study through a model's denoising decoder, back to SUV on the scan's own grid."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from uptake.cases import Case
from uptake.core.errors import InputError, ModelError, UsageError
from uptake.geometry.volume import Volume
from uptake.harmonise.onto import harmonise
from uptake.harmonise.restore import restore, restore_image
from uptake.io.foreign import like
from uptake.simulation.reference import liver_like
from uptake.training.devices import number_format, resolve_device
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.cases_in import case_of
from uptake.workflows.dose_measures import deep_sphere
from uptake.workflows.segment import SegmentSettings, resolved
from uptake.workflows.tracers import tracer_warnings
from uptake.zoo.cards import Card

DEFAULT_DENOISER = "phantom-ldos-small"
"""What `denoise` takes when no model is named."""

OTHER_DOSE = 2.0
"""From this ratio of the image's dose to that of training on, a warning."""

SAME_DOSE = 0.01
"""Two statements of one dose may differ by this share of it."""

COARSER = 1.5
"""From this ratio of the model's voxels to the scan's on, a warning: small structures are blurred."""

MOVED_LIVER = 0.10
"""A denoiser that changes the mean of the liver by more than this share was not made for such an image."""

UNKNOWN = "unknown"


@dataclass(frozen=True)
class DenoiseSettings:
    """What changes the numbers.

    Attributes
    ----------
    mirror, tile_step, precision, engine
        As in `segment.SegmentSettings`.
    organs : bool
        Give the organs too, of the same run of the encoder.
    dose_fraction : float or None
        Of the image, in (0, 1]; None takes what lies beside it (`simulate lowdose`, a cohort's folder), if anything.
    tracer : str or None
        Where no header names it, or instead of what it says.
    """

    mirror: bool = True
    tile_step: float | None = None
    precision: str = "auto"
    engine: str = "auto"
    organs: bool = False
    dose_fraction: float | None = None
    tracer: str | None = None

    def __post_init__(self) -> None:
        if self.dose_fraction is not None and not 0 < self.dose_fraction <= 1:
            raise UsageError(f"a dose fraction is above 0 and at most 1 (5 % is 0.05), came {self.dose_fraction!r}.")


@dataclass(frozen=True)
class Noise:
    """Noise of an image before and after, in one place.

    Attributes
    ----------
    place : str
        "liver" (of the model's organ map), "even region" (the largest place of even uptake: the liver, in most
        tracers), or "none".
    before, after : float
        Standard deviation over mean in a sphere of 3 cm; NaN without a place.
    mean_before, mean_after : float
        SUVmean there, g/mL.
    """

    place: str
    before: float
    after: float
    mean_before: float
    mean_after: float


@dataclass(frozen=True, eq=False)
class Denoising:
    """What `denoise` made.

    Attributes
    ----------
    case : Case
        As read.
    image : Volume
        SUV, float32, not negative, on the PET's own grid.
    denoised : object
        `image` as the type the PET came in.
    organs : Volume or None
        uint8 label map on the same grid, where they were asked for; names in `organ_names`.
    organ_names : mapping of int to str
    noise : Noise
    scale : mapping
        "mean", "std" and "bend": how the input was normalised, and the output brought back to SUV.
    dose_fraction, trained_dose : float or None
        Of the image, and of the model's training images; None where nothing tells.
    tracer : str
        "unknown" where nothing tells.
    card, checksum, settings, device, precision, engine, warnings, timings_s
        As in `segment.Segmentation`.
    """

    case: Case
    image: Volume
    denoised: Any
    organs: Volume | None
    organ_names: Mapping[int, str]
    noise: Noise
    scale: Mapping[str, float | str]
    dose_fraction: float | None
    trained_dose: float | None
    tracer: str
    card: Card
    checksum: str
    settings: DenoiseSettings
    device: str
    precision: str
    engine: str
    warnings: tuple[str, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)


def denoise(
    study: Any,
    *,
    model: str | Path | Bundle = DEFAULT_DENOISER,
    device: str = "auto",
    settings: DenoiseSettings | None = None,
    assume_suv: bool = False,
    on_window: Callable[[int, int], None] | None = None,
) -> Denoising:
    """Return the denoised PET of one low-dose study. No file is written, none is needed.

    Parameters
    ----------
    study : path, Case, Volume, nibabel image or SimpleITK image
        As for `segment`. No CT is used.
    model : str, Path or Bundle
        Of a method with a denoising decoder (`ldos`).
    device : str
    settings : DenoiseSettings, optional
    assume_suv : bool
        Take the PET as SUV even where its values say otherwise.
    on_window : callable, optional
        Told (done, all).

    Raises
    ------
    InputError
        Of the kind that fits, before any work: no SUV (Bq/mL, z-scores), a dose fraction that contradicts what lies
        beside the image.
    ModelError
        If the model does not exist or does not denoise.

    Notes
    -----
    The network works in the units of its own normalisation, whose mean and deviation are those of the very image that
    came in; its output times the deviation plus the mean is SUV again, clamped at 0.

    References
    ----------
    arXiv 2503.03786v2, eq. 5.

    Examples
    --------
    >>> made = denoise("study/", model="phantom-ldos-small")
    >>> made.noise.before, made.noise.after
    """
    settings = settings or DenoiseSettings()
    target = resolve_device(device)
    common = SegmentSettings(
        mirror=settings.mirror, tile_step=settings.tile_step, precision=settings.precision, engine=settings.engine
    )
    common = resolved(common, target)
    timings: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        timings[stage], clock = now - clock, now

    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    require_denoiser(bundle, organs=settings.organs)
    lap("load model")
    case = case_of(study, None, assume_suv=assume_suv)
    card = bundle.card
    fraction = dose_of(case, settings.dose_fraction)
    trained = trained_dose(card)
    tracer = settings.tracer or str(case.acquisition.get("tracer") or "") or UNKNOWN
    warnings = [
        *case.warnings,
        *_domain_warnings(card, fraction, trained, tracer),
        *_grid_warnings(bundle, case.pet),
        *(f"{card.name}: {limit}" for limit in card.limits[:1]),
    ]
    lap("read")
    harmonised, trace = harmonise(case, bundle.plan)
    lap("harmonise")
    config = bundle.config
    if not settings.mirror:
        config = replace(config, mirror_axes=())
    if settings.tile_step is not None:
        config = replace(config, tile_step=settings.tile_step)
    found = bundle.method.denoise(
        bundle.networks(), harmonised, config, organs=settings.organs, device=target,
        dtype=number_format(common.precision), engine=common.engine, on_window=on_window,
    )  # fmt: skip
    lap("network")
    back = restore_image(found.suv, trace, outside=case.pet, order=bundle.plan.image_order)
    image = back.with_array(np.maximum(back.array, 0.0))
    organs = None
    if found.prediction is not None:
        organs = restore(found.prediction, trace, order=bundle.plan.logits_order).labels
    names = {number: name for number, name in enumerate(card.labels) if number}
    lap("restore")
    noise = noise_of(case.pet, image, organs, names)
    warnings += _noise_warnings(noise)
    lap("measure")
    pet = bundle.plan.channel_names.index("pet")
    scale = harmonised.scales[pet]
    return Denoising(
        case=case,
        image=image,
        denoised=like(image, study),
        organs=organs,
        organ_names=names if organs is not None else {},
        noise=noise,
        scale={"mean": scale.mean, "std": scale.std, "bend": scale.bend},
        dose_fraction=fraction,
        trained_dose=trained,
        tracer=tracer,
        card=card,
        checksum=bundle.checksum,
        settings=replace(settings, precision=common.precision, engine=common.engine),
        device=str(target),
        precision=common.precision,
        engine=common.engine,
        warnings=tuple(warnings),
        timings_s=timings,
    )


def require_denoiser(bundle: Bundle, *, organs: bool = False) -> None:
    """Check that a model denoises, and finds organs where they are wanted.

    Raises
    ------
    ModelError
        Naming what the model is.
    """
    config = bundle.config
    if not hasattr(bundle.method, "denoise") or not getattr(config, "denoises", False):
        raise ModelError(
            f"model {bundle.card.name} ({bundle.card.method}) has no denoising decoder; take one that was trained as "
            "ldos with both decoders, or find organs and lesions with uptake segment."
        )
    if organs and not getattr(config, "finds_organs", False):
        raise ModelError(f"model {bundle.card.name} denoises and finds no organs; leave out --organs.")


def dose_of(case: Case, given: float | None) -> float | None:
    """Return the dose fraction of a case: as given, else as what lies beside its PET says, else None.

    Known are ``lowdose.json`` of `simulate lowdose` above the folder of the PET, and the folder names
    ``imagesTr_dose_<fraction>`` of a cohort and ``dose_<fraction>`` of a simulated patient.

    Raises
    ------
    InputError
        If both are there and differ.
    """
    found = next((value for source in case.sources if source.role == "pet"
                  for value in _doses_beside(Path(source.path))), None)  # fmt: skip
    if given is not None and found is not None and abs(given - found) > SAME_DOSE * found:
        raise InputError(
            f"{case.id}: the dose fraction is given as {given:g}, and what lies beside the PET says {found:g}. Correct "
            "--dose-fraction, or leave it out."
        )
    return given if given is not None else found


def _doses_beside(pet: Path) -> list[float]:
    found = []
    try:
        record = json.loads((pet.parent.parent / "lowdose.json").read_text(encoding="utf-8"))
        found.append(float(record["twins"][pet.parent.name]["record"]["fraction"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    match = re.fullmatch(r"(?:images\w+_)?dose_([0-9.]+)", pet.resolve().parent.name)
    if match:
        found.append(float(match[1]))
    return found


def trained_dose(card: Card) -> float | None:
    """Return the dose fraction that a model was trained on, as its card tells; None where it does not."""
    value = card.training.get("dose_fraction")
    return float(value) if isinstance(value, int | float) and 0 < value <= 1 else None


def noise_of(before: Volume, after: Volume, organs: Volume | None, names: Mapping[int, str]) -> Noise:
    """Return the noise of two images in one sphere of 3 cm, whose place follows from an outline and not from noise.

    Parameters
    ----------
    before, after : Volume
        SUV on one grid.
    organs : Volume or None
        Organ map on the same grid; without a liver in it the largest place of even uptake is looked for.
    names : mapping of int to str
    """
    number = next((value for value, name in names.items() if name == "liver"), None)
    sphere, place = None, "liver"
    if organs is not None and number is not None:
        sphere = deep_sphere(np.asarray(organs.array) == number, before)
    if sphere is None:
        sphere, place = deep_sphere(liver_like(after), before), "even region"
    if sphere is None:
        nan = float("nan")
        return Noise("none", nan, nan, nan, nan)
    values = [np.asarray(image.array[sphere], dtype=np.float64) for image in (before, after)]
    means = [float(value.mean()) for value in values]
    covs = [float(value.std(ddof=1)) / mean if mean > 0 else float("nan")
            for value, mean in zip(values, means, strict=True)]  # fmt: skip
    return Noise(place, covs[0], covs[1], means[0], means[1])


def _domain_warnings(card: Card, fraction: float | None, trained: float | None, tracer: str) -> list[str]:
    """Say what is known to differ from the model's training, and what is not known."""
    warnings = []
    of_training = "its card does not say at which dose" if trained is None else f"{100 * trained:g} % of the full dose"
    if fraction is None:
        warnings.append(
            f"The dose fraction of this image is not known; {card.name} was trained on {of_training}. Give it with "
            "--dose-fraction."
        )
    elif trained is not None and not 1 / OTHER_DOSE < fraction / trained < OTHER_DOSE:
        warnings.append(
            f"This image has {100 * fraction:g} % of the full dose; {card.name} was trained on {of_training}."
        )
    return warnings + tracer_warnings(card, "" if tracer == UNKNOWN else tracer)


def _grid_warnings(bundle: Bundle, pet: Volume) -> list[str]:
    model, scan = max(bundle.plan.spacing_mm), max(pet.spacing_mm)
    if model < COARSER * scan:
        return []
    return [
        f"{bundle.card.name} works on voxels of {model:g} mm, this scan has {scan:.3g} mm: what is smaller than about "
        f"{2 * model:g} mm is blurred, and its SUVmax lowered. Measure small lesions in the scan itself."
    ]


def _noise_warnings(noise: Noise) -> list[str]:
    if noise.place == "none":
        return ["No place of even uptake was found to measure the noise in."]
    change = noise.mean_after / noise.mean_before - 1
    if abs(change) <= MOVED_LIVER:
        return []
    return [
        f"Denoising changed the mean SUV of the {noise.place} from {noise.mean_before:.2f} to {noise.mean_after:.2f} "
        f"({100 * change:+.0f} %): this image is not like those of the model's training. Do not measure in it."
    ]
