"""SAM-Med3D and SegAnyPET checkpoints that the user brings -> a promptable bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from uptake import __version__
from uptake.core.errors import CheckpointError, ModelError, UsageError
from uptake.io.write import require_writable
from uptake.methods import seganypet
from uptake.networks.unet import mismatches
from uptake.workflows.import_weights import Imported
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card
from uptake.zoo.sam3d import LICENCES, read_sam3d


def import_promptable(
    source: Path | str,
    out: Path | str,
    *,
    name: str | None = None,
    spacing_mm: float = 1.5,
    licence: str = "not stated",
    stored_as: str = "float32",
) -> Imported:
    """Turn a ``.pth`` file of SAM-Med3D (turbo, brain, organ, box variants) or of SegAnyPET into a bundle.

    Axes are (x, y, z) of RAS, positions the published "legacy" ones, windows are z-scored over their voxels > 0: all as
    the weights were trained. Every tensor name and shape is checked.

    Parameters
    ----------
    source : Path
        Read with torch's restricted unpickler; nothing in it is run. Optimiser state and logs are left behind.
    out : Path
        Bundle folder.
    name : str, optional
        Of the model; by default that of `out`.
    spacing_mm : float
        Of the model grid. 1.5 for weights of the turbo line; that of SegAnyPET's own training data is not published.
    licence : str
        Of the weights, for the card.
    stored_as : str
        "float32", or "float16" for half the size.

    Raises
    ------
    CheckpointError
        If the file is damaged, a tensor is missing, left over or of another shape.
    ModelError
        If the network takes more than one channel.
    """
    source, out = Path(source), Path(out)
    require_writable(out.parent)
    if not 0.1 <= spacing_mm <= 20.0:
        raise UsageError(f"spacing_mm is a voxel size in mm, came {spacing_mm}.")
    found = read_sam3d(source)
    if found.channels != 1:
        raise ModelError(f"{source}: the network takes {found.channels} channels; which they are nobody can say.")
    try:
        config = replace(
            seganypet.Config.published(),
            preset="imported",
            window=found.window,
            spacing_mm=(spacing_mm,) * 3,
            boxes=found.point_kinds == 4,
            **found.sizes,
        )
        wrong = mismatches(seganypet.build_network(config), found.state)
    except ValueError as error:
        raise CheckpointError(f"{source}: its tensors make no network that is known here ({error}).") from error
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{source}: {'; '.join(wrong[:3])}{more}. The file is incomplete, or of another network.")
    notes = [
        f"{len(found.state)} tensors, depth {config.depth}, windows of {found.window[0]} voxels of {spacing_mm:g} mm.",
        *([LICENCES] if licence == "not stated" else []),
    ]
    if found.point_kinds == 4:
        notes.append("It has embeddings for boxes; upstream training never showed any, so try before you trust them.")
    card = Card(
        name=name or out.name,
        version="1",
        summary="Imported promptable network of the SAM-Med3D family; PET alone.",
        method=seganypet.NAME,
        config=config.as_json(),
        plan=config.plan().as_json(),
        labels=list(seganypet.LABELS),
        needs=["pet"],
        accepts=["pet"],
        suv="SUV by body weight, g/mL (any scale gives the same: windows are z-scored)",
        training={"data": "not stated in the file", "epochs": found.epoch},
        scores=[],
        limits=["Imported weights: no score of ours stands behind them; check them on cases you know."],
        licence=licence if licence != "not stated" else LICENCES,
        files={},
        stored_as=stored_as,
        package_version=__version__,
        origin={"kind": "SAM-Med3D", "file": source.name},
    )
    return Imported(out, save_bundle(card, {"0": found.state}, out), tuple(notes))
