"""The card of a model: what it is, what it wants, what it was trained on, how good it is. Pure data, no torch."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uptake.core.errors import CheckpointError, ModelError
from uptake.zoo.places import user_models

CARD_FORMAT = 1
CARD_FILE = "card.json"
DEFAULT_MODEL = "phantom-lesion-small"
"""What `segment` takes when no model is named."""

SHIPPED = Path(__file__).parent / "bundles"
"""Bundles that come with the package."""


@dataclass(frozen=True)
class Card:
    """Everything about a bundle except its weights.

    Attributes
    ----------
    name, version, summary : str
    method : str
        A module of `uptake.methods`.
    config, plan : mapping
        JSON form of the method's `Config` and of `harmonise.plan.Plan` (orientation, spacing, normalisation constants).
    labels : sequence of str
        Index in the output -> class name, background first.
    needs, accepts : sequence of str
        Images that must, and that may, be there: "pet", "ct".
    suv : str
        What the PET must be.
    training : mapping
        Data, licence, number of patients, how labels were made, steps.
    scores : sequence of mapping
        Each with metric, mean, interval, cases, protocol, and the file that holds the table.
    limits : sequence of str
        What it must not be expected to do, in plain sentences.
    licence : str
        Of the weights.
    files : mapping
        Weight file -> SHA-256.
    stored_as : str
        Number format of the weights on disk.
    package_version : str
        That wrote the bundle.
    role : str
        "model", or "initialisation": weights without heads, to start training from.
    origin : mapping
        Of imported weights: where they came from, and what an export back needs (nnU-Net's plans and dataset.json). Of
        masked pretraining and what was tuned from it: sources with licences, site audit, and digests that recognise the
        pool's scans and patients.
    """

    name: str
    version: str
    summary: str
    method: str
    config: Mapping[str, Any]
    plan: Mapping[str, Any]
    labels: Sequence[str]
    needs: Sequence[str]
    accepts: Sequence[str]
    suv: str
    training: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    limits: Sequence[str]
    licence: str
    files: Mapping[str, str]
    stored_as: str
    package_version: str
    notice: str = "Research use only. Not a medical device."
    role: str = "model"
    origin: Mapping[str, Any] = field(default_factory=dict)
    format: int = field(default=CARD_FORMAT)

    def checksums(self) -> dict[str, str]:
        """Return file name -> SHA-256 of all that decides what the model computes: the weights and this card."""
        return {**self.files, CARD_FILE: hashlib.sha256(self.as_text().encode()).hexdigest()}

    def as_text(self) -> str:
        """Return the JSON that `read_card` reads."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read_card(folder: Path) -> Card:
    """Return the card of the bundle in `folder`.

    Raises
    ------
    CheckpointError
        If the folder is no bundle, or one of a newer format.
    """
    path = folder / CARD_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        written = values["format"]
        if written > CARD_FORMAT:
            raise CheckpointError(
                f"{path}: written in card format {written}, this version reads {CARD_FORMAT}; upgrade uptake."
            )
        return Card(**values)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder}: no {CARD_FILE} there, so this is not a model bundle.") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: the card cannot be read ({error}); fetch or copy the bundle again.") from error


def shipped_bundles() -> tuple[Path, ...]:
    """Return the folders of the bundles that come with the package, by name."""
    return tuple(sorted(path.parent for path in SHIPPED.glob(f"*/{CARD_FILE}")))


def fetched_bundles() -> tuple[Path, ...]:
    """Return the folders of the bundles in the user's model folder (`uptake models get`), by name."""
    return tuple(sorted(path.parent for path in user_models().glob(f"[!.]*/{CARD_FILE}")))


def find_bundle(name: str | Path) -> Path:
    """Return the folder of a bundle given by name or path.

    Raises
    ------
    ModelError
        If it is neither; the error lists what there is, and the closest name.
    """
    folder = Path(name)
    if (folder / CARD_FILE).is_file():
        return folder
    known = {path.name: path for path in (*fetched_bundles(), *shipped_bundles())}
    if str(name) in known:
        return known[str(name)]
    if folder.exists():
        raise ModelError(f"{folder}: exists but holds no {CARD_FILE}, so it is not a model bundle.")
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(known) or "none"
    raise ModelError(f"there is no model {str(name)!r}.{hint} Models here: {listed}. A path to a bundle works too.")
