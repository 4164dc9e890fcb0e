"""What a model's labels are: lesions, or organs and other regions. Told by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uptake.cases import Restored
from uptake.core.errors import ModelError
from uptake.geometry.volume import Volume
from uptake.quantification.organs import OrganTable

LESION_WORDS = frozenset(
    {"lesion", "lesions", "tumor", "tumors", "tumour", "tumours", "metastasis", "metastases", "malignancy", "cancer"}
    | {"lymphoma", "gtv", "gtvp", "gtvn", "gtvt"}
)
"""A label with one of these words in its name is a lesion; every other label is an organ or another region.

GTV is the gross tumour volume of radiotherapy, of the primary (p, t) and of lymph nodes (n), as HECKTOR names them."""


@dataclass(frozen=True, eq=False)
class Findings:
    """A model's labels on the PET grid, sorted.

    Attributes
    ----------
    lesions : Volume or None
        uint8: 1 inside lesions; of a model with several kinds of lesion, 1 to n in the model's order. None where the
        model knows no lesions.
    lesion_names : mapping of int to str
        What its values are called.
    organs : Volume or None
        uint8 label map; None where the model knows no organs, or they were not wanted.
    organ_names : mapping of int to str
        What its values are called: the model's own numbers.
    """

    lesions: Volume | None = None
    lesion_names: Mapping[int, str] = field(default_factory=dict)
    organs: Volume | None = None
    organ_names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Organs:
    """An organ map to be written.

    Attributes
    ----------
    labels : Volume
        Whole numbers on the grid of the PET.
    names : mapping of int to str
    table : OrganTable
        Measured on the PET.
    """

    labels: Volume
    names: Mapping[int, str]
    table: OrganTable


def is_lesion(name: str) -> bool:
    """Return whether a label of this name is a lesion: one of its words is among `LESION_WORDS`.

    Examples
    --------
    >>> is_lesion("Kidney_Tumor"), is_lesion("GTVp 2"), is_lesion("urinary_bladder")
    (True, True, False)
    """
    return any(word in LESION_WORDS for word in re.split(r"[\W_\d]+", name.lower()))


def organ_heads(config: Any) -> tuple[str, ...]:
    """Return the classes of a model's second family of heads, background first; () for a model without them.

    A method whose one family of heads gives organs says so otherwise, and has its classes among the card's labels.
    """
    classes = getattr(config, "organs", ())
    return tuple(classes) if isinstance(classes, tuple | list) else ()


def sorted_labels(labels: Sequence[str]) -> tuple[dict[int, str], dict[int, str]]:
    """Return the lesions and the other labels of a model, number -> name, background left out.

    Parameters
    ----------
    labels : sequence of str
        Number -> name, background first.
    """
    named = dict(enumerate(labels))
    named.pop(0, None)
    lesions = {number: name for number, name in named.items() if is_lesion(name)}
    return lesions, {number: name for number, name in named.items() if number not in lesions}


def sort_findings(
    restored: Restored, labels: Sequence[str], organ_classes: Sequence[str] = (), *, organs: bool = True, name: str = ""
) -> Findings:
    """Return lesions and organs apart.

    Parameters
    ----------
    restored : Restored
    labels : sequence of str
        Of `restored.labels`: number -> name, background first.
    organ_classes : sequence of str
        The same of `restored.organs`.
    organs : bool
        Whether organs are wanted.
    name : str
        Of the model, for the error.

    Raises
    ------
    ModelError
        If there is nothing to give: the model knows organs alone, and they are not wanted; or if labels that are no
        lesions stand beside organ heads, whose numbers they would share.
    """
    lesion_names, others = sorted_labels(labels)
    require_sortable(labels, organ_classes, organs=organs, name=name)
    found = restored.labels.array
    lesions = None
    if lesion_names:
        table = np.zeros(256, dtype=np.uint8)
        table[list(lesion_names)] = np.arange(1, len(lesion_names) + 1)
        lesions = restored.labels.with_array(table[found])
    regions = None
    if organs and restored.organs is not None:
        regions, others = restored.organs, dict(enumerate(organ_classes))
        others.pop(0, None)
    elif organs and others:
        regions = restored.labels.with_array(np.where(np.isin(found, list(others)), found, 0).astype(np.uint8))
    return Findings(
        lesions,
        {number: lesion for number, lesion in enumerate(lesion_names.values(), start=1)},
        regions,
        {} if regions is None else others,
    )


def require_sortable(
    labels: Sequence[str], organ_classes: Sequence[str] = (), *, organs: bool = True, name: str = ""
) -> None:
    """Raise the errors of `sort_findings`, which can be told before the network runs."""
    lesion_names, others = sorted_labels(labels)
    if others and organ_classes:
        raise ModelError(
            f"{name}: has organ heads and the labels {', '.join(others.values())} beside lesions; their numbers clash."
        )
    if not lesion_names and not organs:
        raise ModelError(f"{name}: knows organs and no lesions; without them (--no-organs) nothing is left to find.")
