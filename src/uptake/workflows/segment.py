"""The whole road, once: read, harmonise, predict, restore, quantify. Writing is `outputs.write_segmentation`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uptake.cases import Case
from uptake.core.errors import ModelError, UsageError
from uptake.gate import GateReport, check
from uptake.geometry.volume import Volume
from uptake.harmonise.onto import harmonise
from uptake.harmonise.restore import LabelsFromSlabs
from uptake.inference.budget import FAST_TILE_STEP, Budget
from uptake.inference.compiled import resolve_engine
from uptake.io.foreign import like
from uptake.quantification.lesions import LesionTable, measure_lesions
from uptake.quantification.organs import OrganTable, measure_organs
from uptake.training.devices import bf16_pays, device_name, number_format, resolve_device
from uptake.workflows.bundles import Bundle, bundle_for
from uptake.workflows.cases_in import case_of
from uptake.workflows.ensemble import Ensemble, predict_within
from uptake.workflows.findings import Organs, organ_heads, require_sortable, sort_findings
from uptake.workflows.prompted import prompted, require_matching
from uptake.workflows.tracers import require_tracer, tracer_warnings, with_tracer
from uptake.zoo.cards import DEFAULT_MODEL, Card

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class SegmentSettings:
    """What changes the numbers.

    Attributes
    ----------
    mirror : bool
        Average over all flips the model was trained with (8 times the work).
    tile_step : float or None
        Sliding-window step as a share of the window; None: the model's own.
    focus : bool or None
        Lay the windows over the body alone (fewer, elsewhere than in the published method); None: the model's own.
    precision : str
        "auto" (bfloat16 where the device multiplies in it), "float32" or "bfloat16".
    engine : str
        "auto" (OpenVINO on CPUs where it is installed), "torch" or "openvino".
    connectivity : int
        Of lesions: 6, 18 or 26.
    min_volume_ml : float
        Smaller components are left out of the table; the mask keeps them.
    organs : bool
        Give the organs that the model knows, beside lesions or alone.
    max_seconds : float or None
        Wall time granted to a case, s: folds and flips are left out by the rule of `inference.budget` to keep to it.
    max_ram_gb : float or None
        Memory granted, GB: networks are held one at a time where it is short.
    prompts : JSON value or None
        For promptable models: the content of a prompt file (`io.prompts.read_content`).
    tracer : str or None
        "FDG", "PSMA-11", ... of the scan, where no header names it, or it is wrong. Held against the tracers of the
        model's training, and what the input gate and the criteria of lesions go by.
    """

    mirror: bool = True
    tile_step: float | None = None
    precision: str = "auto"
    engine: str = "auto"
    connectivity: int = 18
    min_volume_ml: float = 0.0
    organs: bool = True
    max_seconds: float | None = None
    max_ram_gb: float | None = None
    focus: bool | None = None
    prompts: Any = None
    tracer: str | None = None

    @classmethod
    def fast(cls, **changes: Any) -> SegmentSettings:
        """Return the settings for speed: every fold, no flips, tile step 0.6, windows over the body alone."""
        return cls(**{"mirror": False, "tile_step": FAST_TILE_STEP, "focus": True, **changes})

    @property
    def budget(self) -> Budget:
        """What a case may cost."""
        return Budget(self.max_seconds, self.max_ram_gb)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What `segment` found.

    Attributes
    ----------
    case : Case
        As read.
    lesions : Volume or None
        uint8, 1 inside lesions (1 to n where the model tells n kinds apart), on the PET's own grid. None where the
        model knows organs alone.
    mask : object
        `lesions` as the type the PET came in: a nibabel image for a nibabel image, a SimpleITK image for one of those,
        else the `Volume`.
    table : LesionTable or None
    card : Card
        Of the model.
    checksum : str
        Over the model's weight files.
    settings : SegmentSettings
    device, precision, engine : str
        As resolved.
    warnings : tuple of str
        Of reading and of running the model.
    timings_s : mapping
        Seconds per stage.
    windows : tuple of int
        Computed, and skipped as air.
    gate : GateReport or None
        What the input gate says about the case; None where it was not asked.
    lesion_names, organ_names : mapping of int to str
        What the values of `lesions` and `organs` are called.
    organs : Volume or None
        uint8 label map on the PET's own grid; None where the model knows none, or they were not wanted.
    organ_mask : object
        `organs` as the type the PET came in.
    organ_table : OrganTable or None
        Volume and SUV of each organ, lesions taken out.
    ensemble : Ensemble or None
        Folds, flips and tile step that were used, and what was left out for want of time or memory.
    """

    case: Case
    lesions: Volume | None
    mask: Any
    table: LesionTable | None
    card: Card
    checksum: str
    settings: SegmentSettings
    device: str
    precision: str
    engine: str
    warnings: tuple[str, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    windows: tuple[int, int] = (0, 0)
    gate: GateReport | None = None
    lesion_names: Mapping[int, str] = field(default_factory=dict)
    organ_names: Mapping[int, str] = field(default_factory=dict)
    organs: Volume | None = None
    organ_mask: Any = None
    organ_table: OrganTable | None = None
    ensemble: Ensemble | None = None

    def organs_to_write(self) -> Organs | None:
        """Return the organ map with its names and its table; None where there is none."""
        if self.organs is None or self.organ_table is None:
            return None
        return Organs(self.organs, self.organ_names, self.organ_table)


def segment(
    study: Any,
    *,
    ct: Any = None,
    model: str | Path | Bundle = DEFAULT_MODEL,
    device: str = "auto",
    settings: SegmentSettings | None = None,
    assume_suv: bool = False,
    gate: bool = True,
    on_window: Callable[[int, int], None] | None = None,
) -> Segmentation:
    """Return lesions, organs and their tables for one study. No file is written, none is needed.

    Parameters
    ----------
    study : path, Case, Volume, nibabel image or SimpleITK image
        A path goes through `uptake.read`. An image is the PET in SUV.
    ct : path, Volume, nibabel image or SimpleITK image, optional
        HU, on its own or the PET's grid; of the same kind as `study`.
    model : str, Path or Bundle
        A shipped model, a bundle folder, or one already loaded (for many cases).
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    settings : SegmentSettings, optional
    assume_suv : bool
        Take the PET as SUV even where its values say otherwise.
    gate : bool
        Judge the input first (`uptake.gate.check`); it takes about a second and stops nothing.
    on_window : callable, optional
        Told (done, all).

    Raises
    ------
    InputError
        Of the kind that fits, before any work; see `uptake.read`.
    ModelError
        If the model does not exist, needs a CT that is not there, or has nothing to give without organs.

    Examples
    --------
    >>> found = segment("study/", model="phantom-lesion-small")
    >>> found.table.totals.mtv_ml
    """
    began = time.perf_counter()
    settings = resolved(settings or SegmentSettings(), device_name(device))
    bundle = model if isinstance(model, Bundle) else bundle_for(model, settings.engine)
    loaded = time.perf_counter()
    case = case_of(study, ct, assume_suv=assume_suv)
    timings = {"load model": loaded - began, "read": time.perf_counter() - loaded}
    found = segment_case(
        case, bundle, device=device, settings=settings, gate=gate, timings_s=timings, on_window=on_window
    )
    return replace(
        found,
        mask=None if found.lesions is None else like(found.lesions, study),
        organ_mask=None if found.organs is None else like(found.organs, study),
    )


def segment_case(
    case: Case,
    bundle: Bundle,
    *,
    device: str,
    settings: SegmentSettings,
    gate: bool,
    timings_s: Mapping[str, float],
    on_window: Callable[[int, int], None] | None = None,
) -> Segmentation:
    """Return lesions and organs of a case that was read; `segment` without the ways in.

    `settings` are `resolved`; `timings_s` are of what was done before, and count for `max_seconds`.
    """
    require_matching(bundle, settings.prompts)
    case = with_tracer(case, settings.tracer)
    if settings.prompts is not None:
        found = prompted(case, bundle, settings, device=device, gate=gate, timings_s=timings_s)
        return Segmentation(case=case, card=bundle.card, checksum=bundle.checksum, settings=settings, **found)
    target, engine = device_name(device), settings.engine
    timings = dict(timings_s)
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        timings[stage], clock = now - clock, now

    warnings = list(case.warnings)
    card = bundle.card
    heads = organ_heads(bundle.config)
    classes = heads if settings.organs else ()
    require_sortable(card.labels, heads, organs=settings.organs, name=card.name)
    if case.ct is None and "ct" in card.needs:
        raise ModelError(f"{case.id}: model {card.name} needs a CT, and there is none. Give one with --ct FILE (ct=…).")
    if case.ct is None and "ct" in card.accepts:
        warnings.append(f"No CT: {card.name} was run on PET alone, which it was trained to accept.")
    warnings += tracer_warnings(card, str(case.acquisition.get("tracer") or ""))
    warnings += [f"{card.name}: {limit}" for limit in card.limits[:1]]
    report = check(case) if gate else None
    if gate:
        lap("gate")
    harmonised, trace = harmonise(case, bundle.plan)
    lap("harmonise")
    config = bundle.config
    if not settings.mirror:
        config = replace(config, mirror_axes=())
    if settings.tile_step is not None:
        config = replace(config, tile_step=settings.tile_step)
    if settings.focus is not None and hasattr(config, "focus"):
        config = replace(config, focus=settings.focus)
    options: dict[str, Any] = {"dtype": settings.precision, "engine": engine, "on_window": on_window}
    if not bundle.goes_without_torch(engine):
        options |= {"device": resolve_device(target), "dtype": number_format(settings.precision)}
    labels = LabelsFromSlabs(trace, labels=len(card.labels), organs=len(classes), order=bundle.plan.logits_order)
    prediction, ensemble = predict_within(
        bundle,
        harmonised,
        config,
        settings.budget,
        # Only methods with a second family of heads are asked for it.
        options={**options, "organs": True} if classes else options,
        channels_out=len(card.labels) + len(classes),
        step_fixed=settings.tile_step is not None,
        spent_s=sum(timings.values()),
        finished=labels.add,
    )
    del harmonised  # what is not needed any more would be the peak of memory
    warnings += [f"Left out to keep to the time or memory granted: {what}." for what in ensemble.dropped]
    lap("network")
    windows = (prediction.windows_run, prediction.windows_skipped)
    del prediction
    found = sort_findings(labels.restored(), card.labels, classes, organs=settings.organs, name=card.name)
    lap("restore")
    table = organ_table = None
    if found.lesions is not None:
        table = measure_lesions(
            case.pet, found.lesions, connectivity=settings.connectivity, min_volume_ml=settings.min_volume_ml
        )
    if found.organs is not None:
        organ_table = measure_organs(case.pet, found.organs, found.organ_names, lesions=found.lesions)
    lap("quantify")
    return Segmentation(
        case=case,
        lesions=found.lesions,
        mask=found.lesions,
        table=table,
        card=card,
        checksum=bundle.checksum,
        settings=settings,
        device=target,
        precision=settings.precision,
        engine=engine,
        warnings=tuple(warnings),
        timings_s=timings,
        windows=windows,
        gate=report,
        lesion_names=found.lesion_names,
        organ_names=found.organ_names,
        organs=found.organs,
        organ_mask=found.organs,
        organ_table=organ_table,
        ensemble=ensemble,
    )


def resolved(settings: SegmentSettings, device: torch.device | str) -> SegmentSettings:
    """Return the settings with what "auto" means on this device ("cpu", "cuda:1", ...) put in its place.

    Raises
    ------
    UsageError
        If a setting is unknown, out of range, or not to be had here.
    """
    precision = settings.precision
    if precision == "auto":
        precision = "bfloat16" if bf16_pays(device) else "float32"
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is unknown; choose auto, float32 or bfloat16.")
    if settings.min_volume_ml < 0:
        raise UsageError(f"min_volume_ml is a volume in mL, 0 or more; came {settings.min_volume_ml!r}.")
    require_tracer(settings.tracer)
    _ = settings.budget  # refuses limits that are none
    return replace(settings, precision=precision, engine=resolve_engine(settings.engine, device))
