"""Checkpoints of the published PET/CT masked autoencoder, brought by the user -> a bundle to start training from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from uptake import __version__
from uptake.core.errors import CheckpointError
from uptake.io.write import require_writable
from uptake.methods import petct_mae
from uptake.methods.petct_mae import Config
from uptake.networks.backbones import BACKBONES, part
from uptake.networks.unet import mismatches
from uptake.workflows.import_weights import Imported
from uptake.workflows.pretrain_mae import RECONSTRUCTION
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card
from uptake.zoo.restricted import load_restricted

STATE = "model_state_dict"
PREFIXES = {"encoder_decoder.": "swin_v2", "nnunet.": "plain"}
"""What the names of the authors' tensors begin with, after an optional "module." of data-parallel training."""

State = dict[str, torch.Tensor]


def is_mae_checkpoint(content: object) -> bool:
    """Return whether the content of a checkpoint is one of the published masked autoencoder, by its names."""
    state = content.get(STATE) if isinstance(content, Mapping) else None
    return isinstance(state, Mapping) and any(
        str(name).removeprefix("module.").startswith(tuple(PREFIXES)) for name in state
    )


def import_mae(
    source: Path | str,
    out: Path | str,
    *,
    name: str | None = None,
    licence: str = "not stated",
    stored_as: str = "float32",
) -> Imported:
    """Turn a checkpoint of the authors' pretraining into a bundle for fine-tuning, probe and label curve.

    Parameters
    ----------
    source : Path
        For example swin_small_mae_best.pth, swin_mae_best_v2.pth, swin_large_mae_best.pth, nnunet_v2_mim_best.pth. Read
        with torch's restricted unpickler; nothing in it is run. Optimiser and scheduler are left behind.
    out : Path
        Bundle folder.
    name, licence : str
        For the card. The authors state no licence for code or weights.
    stored_as : str
        "float32" or "float16".

    Raises
    ------
    CheckpointError
        If the file is damaged or none of theirs, or a tensor is missing, left over or of another shape.
    """
    source, out = Path(source), Path(out)
    require_writable(out.parent)
    content = load_restricted(source)
    if not is_mae_checkpoint(content):
        raise CheckpointError(
            f"{source}: is no checkpoint of masked PET/CT pretraining: there is no {STATE} with tensors named "
            f"{' or '.join(f'{prefix}*' for prefix in PREFIXES)}."
        )
    kind, state = _plain_names(content[STATE], source)
    backbone = _backbone(kind, state, source)
    config = Config.published(backbone)
    wrong = mismatches(petct_mae.build_network(config), state)
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{source}: does not fit {backbone}: {'; '.join(wrong[:3])}{more}.")
    body = {key: tensor for key, tensor in state.items() if part(kind, key) != "head"}
    heads = {key: tensor for key, tensor in state.items() if part(kind, key) == "head"}
    epoch = content.get("epoch")
    card = Card(
        name=name or out.name,
        version="1",
        summary=f"Imported masked pretraining of {backbone} (arXiv 2605.21835).",
        method=petct_mae.NAME,
        config=config.as_json(),
        plan=config.plan().as_json(),
        labels=[],
        needs=["pet", "ct"],
        accepts=["pet", "ct"],
        suv="any linear scale of the PET; each scan is z-scored",
        training={
            "data": "4,997 FDG PET/CT of AutoPET, DEEP-PSMA, SPADE and ViMed-PET, as the authors say",
            "epochs": epoch if isinstance(epoch, int) else "?",
            "preset": "imported",
        },
        scores=[],
        limits=[
            "The authors' pool held every AutoPET FDG scan, their test scans too: scores on AutoPET would be too good.",
            "Imported weights: no score of ours stands behind them.",
        ],
        licence=licence,
        files={},
        stored_as=stored_as,
        package_version=__version__,
        role="initialisation",
        origin={"kind": "MAE-for-PET-CT", "backbone": backbone},
    )
    card = save_bundle(card, {"0": body, RECONSTRUCTION: heads}, out)
    notes = (
        f"{backbone}: {len(body)} tensors of encoder and decoder; the head that gives images back is kept apart.",
        "Neither code nor weights of the authors state a licence; ask them before you pass this on.",
    )
    return Imported(out, card, notes)


def _plain_names(given: Mapping[str, torch.Tensor], source: Path) -> tuple[str, State]:
    """Return the kind of network and its tensors under one name each, as `networks.unet.unique_state` has them."""
    names = {name: name.removeprefix("module.") for name in given}
    prefix = next(one for one in PREFIXES if any(plain.startswith(one) for plain in names.values()))
    state: State = {}
    doubles: State = {}
    for name, plain in names.items():
        if not plain.startswith(prefix):
            raise CheckpointError(f"{source}: {name} does not begin with {prefix}, as all others do.")
        own = plain.removeprefix(prefix)
        if own.endswith("relative_position_index"):
            continue  # counted out of the window's size, no weight
        alias = ".all_modules." in own or own.startswith("decoder.encoder.")
        (doubles if alias else state)[own] = given[name].float()
    for own, tensor in doubles.items():
        first = re.sub(r"^decoder\.encoder\.", "encoder.", own)
        if ".all_modules." not in first and not (first in state and torch.equal(state[first], tensor)):
            raise CheckpointError(f"{source}: {own} and {first} are one tensor and should be equal.")
    return PREFIXES[prefix], state


def _backbone(kind: str, state: Mapping[str, torch.Tensor], source: Path) -> str:
    if kind == "plain":
        return "nnunet_3d"
    stem = state.get("swinViT.patch_embed.proj.weight")
    width = 0 if stem is None else int(stem.shape[0])
    found = next((name for name, one in BACKBONES.items() if one.kind == kind and one.features == (width,)), None)
    if found is None:
        raise CheckpointError(f"{source}: a Swin transformer {width} wide is none of the published ones (24, 48, 96).")
    return found
