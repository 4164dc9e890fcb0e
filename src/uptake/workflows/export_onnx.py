"""A bundle -> ONNX files, one a fold, that run wherever ONNX runs."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

from uptake import RESEARCH_USE_ONLY
from uptake.core.errors import ModelError, UsageError
from uptake.io.write import atomic_path, require_writable
from uptake.workflows.bundles import Bundle, load_bundle

OPSET = 17
"""Of ONNX (December 2021): old enough for any runtime of today, and it has all that the networks do."""

INPUT, OUTPUT = "image", "logits"


def export_onnx(model: str | Path | Bundle, file: Path | str) -> tuple[Path, ...]:
    """Write the networks of a bundle as ONNX, and return the files.

    Each maps ``image`` (b, c, z, y, x) float32 to ``logits`` (b, labels, z, y, x) float32; batch and size are free, as
    far as z, y and x divide by the network's strides. Weights are float32. With organ heads the organs' logits follow
    the lesions'. What comes before and after is not in the file, but stands in its metadata: ``channels``,
    ``spacing_mm``, ``orientation`` and ``plan`` (how a scan comes onto the model's grid), ``window``, ``tile_step``,
    ``mirror_axes`` (how windows are laid and averaged), ``labels``, ``organs``, and the model's name, version,
    checksum and licence.

    Parameters
    ----------
    model : str, Path or Bundle
    file : Path
        Ends in .onnx; of a bundle with several folds, one file each with the fold's name before the ending.

    Returns
    -------
    tuple of Path

    Raises
    ------
    ModelError
        If the bundle is an initialisation, or its method's networks are no plain function of an image.
    UsageError
        If the package onnx is not installed, or the file does not end in .onnx.
    """
    file = Path(file)
    if file.suffix != ".onnx":
        raise UsageError(f"{file}: an ONNX file is called .onnx; name it so.")
    try:
        import onnx
    except ImportError as error:
        raise UsageError('the package onnx is not installed; pip install "uptake[onnx]".') from error
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    single = getattr(bundle.method, "single", None)
    if single is None:
        raise ModelError(f"{bundle.card.name}: networks of {bundle.card.method} are not written as ONNX.")
    require_writable(file.parent)
    several = len(bundle.folds) > 1
    files = []
    for fold in bundle.folds:
        network = single(bundle.network(fold), bundle.config, organs=bool(bundle.config.organs))
        content = onnx.load_model_from_string(_traced(network, bundle.config))
        onnx.helper.set_model_props(content, _facts(bundle, fold))
        content.producer_name, content.doc_string = "uptake", RESEARCH_USE_ONLY
        onnx.checker.check_model(content)
        place = file.with_name(f"{file.stem}_{fold}.onnx") if several else file
        with atomic_path(place) as temporary:
            temporary.write_bytes(content.SerializeToString())
        files.append(place)
    return tuple(files)


def _traced(network: Any, config: Any) -> bytes:
    """Return an ONNX model, traced on the smallest window that the network takes, sizes free."""
    import torch

    sides = [2 * divisor for divisor in config.divisors]
    example = torch.zeros(1, len(config.channels), *sides)
    example[..., 0] = 1.0  # an instance norm of a constant would be traced as a constant
    names = {0: "batch", 2: "z", 3: "y", 4: "x"}
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # This exporter needs the package onnx alone; torch announces that it will go one day.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (example,), stream, dynamo=False, opset_version=OPSET, input_names=[INPUT],
            output_names=[OUTPUT], dynamic_axes={INPUT: names, OUTPUT: names},
        )  # fmt: skip
    return stream.getvalue()


def _facts(bundle: Bundle, fold: str) -> dict[str, str]:
    """Return what a user needs to run the network elsewhere, as text."""
    card, config, plan = bundle.card, bundle.config, bundle.plan
    values = {
        "plan": plan.as_json(),
        "channels": list(plan.channel_names),
        "spacing_mm": list(plan.spacing_mm),
        "window": list(config.window),
        "tile_step": config.tile_step,
        "mirror_axes": list(config.mirror_axes),
        "labels": list(card.labels),
        "organs": list(config.organs),
    }
    return {
        "name": card.name, "version": card.version, "fold": fold, "checksum": bundle.checksum,
        "licence": card.licence, "suv": card.suv, "notice": RESEARCH_USE_ONLY, "orientation": plan.orientation,
        **{key: json.dumps(value) for key, value in values.items()},
    }  # fmt: skip
