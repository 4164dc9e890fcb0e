"""Which series of a study is the PET, and which its CT? One list of rules, and for every series the reason.

A rule sets aside the series that fail it while another passes it; series that no rule tells apart are not chosen
between: the user does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from uptake.core.errors import InputError, UsageError
from uptake.io.dicom_series import CT_CLASSES, PET_CLASSES, RTSTRUCT, SEGMENTATION, Scan, Series, values_of

QUANTITATIVE = frozenset({"BQML", "GML", "CM2ML", "CNTS"})
"""Units (0054,1001) that can lead to SUV."""

SHARP_KERNELS = ("LUNG", "BONE", "EDGE", "B60", "B70", "B75", "B80", "I70", "BL57", "BR59", "BR64", "YB", "YC", "YD")
"""Beginnings of Convolution Kernel (0018,1210) that are for lung or bone."""

CLEARLY_LONGER = 1.1
"""A series has to cover this many times the length of another for that to decide."""

MOST_LISTED = 8
"""Series that an error lists."""


@dataclass(frozen=True)
class Verdict:
    """What became of a series.

    Attributes
    ----------
    series : Series
    role : str
        "pet", "ct", "labels", "candidate" (the user has to choose), or "left".
    why : str
    """

    series: Series
    role: str
    why: str


@dataclass(frozen=True, eq=False)
class Choice:
    """The decision over a whole study.

    Attributes
    ----------
    verdicts : tuple of Verdict
        One per series, in the order of the scan.
    pet, ct : Series or None
    pet_problem, ct_problem : str
        Why none could be chosen although one is needed, or several remain; "" where there is no problem.
    warnings : tuple of str
        Series left out whose absence a user may not expect.
    """

    verdicts: tuple[Verdict, ...]
    pet: Series | None
    ct: Series | None
    pet_problem: str = ""
    ct_problem: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[Series, ...]:
        """RTSTRUCT and SEG of the study."""
        return tuple(verdict.series for verdict in self.verdicts if verdict.role == "labels")

    def required_pet(self) -> Series:
        """Return the PET.

        Raises
        ------
        InputError
            If there is none, or several remain.
        """
        if self.pet is None:
            raise InputError(self.pet_problem)
        return self.pet

    def required_ct(self) -> Series | None:
        """Return the CT, or None where the study has none.

        Raises
        ------
        InputError
            If several remain.
        """
        if self.ct_problem:
            raise InputError(self.ct_problem)
        return self.ct


@dataclass(frozen=True)
class _Rule:
    """`score`: larger is better; `reason` says what the best have; `told` makes a warning of what is left."""

    score: Callable[[Series], float]
    reason: Callable[[Series], str]
    told: bool = False
    ratio: float = 1.0


def choose(scan: Scan, *, pet_series: str | None = None, ct_series: str | None = None) -> Choice:
    """Return which series are PET and CT, and why, without reading a voxel.

    Parameters
    ----------
    scan : Scan
    pet_series, ct_series : str, optional
        Series Instance UID, or its end, where the user decides.

    Raises
    ------
    UsageError
        If a named series is not there, or the name fits several.
    """
    verdicts: dict[int, Verdict] = {}
    pets = _candidates(scan.series, "PT", PET_CLASSES, verdicts)
    named_pet = _named(scan, pet_series, "PT", "--pet-series")
    pet, pet_problem, notes = _decide(scan, pets, _pet_rules(), "PET", verdicts, named_pet)
    if pet is None and not pet_problem:
        found = Counter(entry.modality or "unknown" for entry in scan.series)
        inventory = ", ".join(f"{count} {modality}" for modality, count in sorted(found.items()))
        left = "; ".join(f"{v.series.label}: {v.why}" for v in verdicts.values() if v.series.modality == "PT")
        pet_problem = (
            f"{scan.place}: no PET series of slices (series found: {inventory}{'; ' + left if left else ''}). "
            "Give the whole study."
        )
    cts = _candidates(scan.series, "CT", CT_CLASSES, verdicts)
    named_ct = _named(scan, ct_series, "CT", "--ct-series")
    ct, ct_problem, ct_notes = _decide(scan, cts, _ct_rules(pet), "CT", verdicts, named_ct)
    for number, entry in enumerate(scan.series):
        if number not in verdicts:
            verdicts[number] = _other(entry)
    return Choice(
        tuple(verdicts[number] for number in range(len(scan.series))), pet, ct, pet_problem, ct_problem,
        (*notes, *ct_notes),
    )  # fmt: skip


def extent_mm(series: Series) -> float:
    """Return the length that a series covers along its slice normal, first to last centre, mm; 0 where unknown."""
    span = _span(series)
    return span[1] - span[0] if span else 0.0


def _candidates(
    series: Sequence[Series], modality: str, classes: frozenset[str], verdicts: dict[int, Verdict]
) -> list[Series]:
    """Return what may be the PET or CT, and note why the others of the modality are not."""
    kept = []
    for number, entry in enumerate(series):
        if entry.modality != modality:
            continue
        why = _no_stack(entry, classes)
        if why:
            verdicts[number] = Verdict(entry, "left", why)
        else:
            kept.append(entry)
    return kept


def _no_stack(entry: Series, classes: frozenset[str]) -> str:
    if entry.sop_class not in classes:
        return "no image of slices: another kind of object (secondary capture, report, presentation)"
    if entry.projection:
        return "a scout, projection or screen shot by its Image Type (0008,0008) or Series Type (0054,1000)"
    if set(entry.image_type) & {"FUSION", "FUSED"} or int(entry.header.get("SamplesPerPixel") or 1) > 1:
        return "a colour or fused picture"
    if entry.modality == "CT" and len(entry.images) < 2:
        return "one slice only"
    return ""


def _decide(
    scan: Scan, candidates: list[Series], rules: list[_Rule], kind: str, verdicts: dict[int, Verdict],
    named: Series | None,
) -> tuple[Series | None, str, list[str]]:  # fmt: skip
    """Fill in the verdicts of one modality; return the choice, the problem if there is one, and warnings."""
    role = kind.lower()

    def judge(entry: Series, role: str, why: str) -> None:
        verdicts[scan.series.index(entry)] = Verdict(entry, role, why)

    if named is not None:
        for entry in candidates:
            judge(entry, "left", f"another was named with --{role}-series")
        judge(named, role, f"named with --{role}-series")
        return named, "", []
    remaining, reasons, warnings = list(candidates), [], []
    apart = kind == "PET"
    for rule in rules:
        if len(remaining) < 2:
            break
        scores = {id(entry): rule.score(entry) for entry in remaining}
        # Two PETs of two studies are never weighed against each other: that choice is the user's.
        best = {entry.study_uid if apart else "": 0.0 for entry in remaining}
        for entry in remaining:
            group = entry.study_uid if apart else ""
            best[group] = max(best[group], scores[id(entry)])
        passed = [e for e in remaining if scores[id(e)] * rule.ratio >= best[e.study_uid if apart else ""]]
        gone = [entry for entry in remaining if entry not in passed]
        if gone:
            reason = rule.reason(passed[0])
            reasons.append(reason)
            for entry in gone:
                judge(entry, "left", f"not {reason}" if rule.told else f"another is {reason}")
            if rule.told:
                warnings.append(f"{scan.place}: not {reason} and left out: {', '.join(e.label for e in gone)}.")
        remaining = passed
    if len(remaining) == 1:
        only = "the only one" if len(candidates) == 1 else "; ".join(reasons)
        judge(remaining[0], role, only)
        return remaining[0], "", warnings
    for entry in remaining:
        judge(entry, "candidate", f"one of {len(remaining)} that no rule tells apart; name it with --{role}-series")
    return None, _several(scan, kind, remaining) if remaining else "", warnings


def _pet_rules() -> list[_Rule]:
    return [
        _Rule(lambda s: not is_dynamic(s), lambda s: "a static or whole-body series", told=True),
        _Rule(lambda s: "ATTN" in _corrected(s), lambda s: "attenuation corrected", told=True),
        _Rule(lambda s: _text(s, "Units") in QUANTITATIVE, lambda s: f"in {_text(s, 'Units')}, which leads to SUV"),
        _Rule(lambda s: s.image_type[:1] != ("DERIVED",), lambda s: "an original and not derived image"),
        _Rule(lambda s: len(s.images) > 1, lambda s: "a stack of slices"),
        _Rule(extent_mm, lambda s: f"longer ({extent_mm(s):.0f} mm)", ratio=CLEARLY_LONGER),
        _Rule(lambda s: len(s.images), lambda s: f"of more slices ({len(s.images)})"),
    ]


def _ct_rules(pet: Series | None) -> list[_Rule]:
    frame = pet.frame_of_reference if pet else None
    study = pet.study_uid if pet else None
    return [
        _Rule(
            lambda s: frame is None or s.frame_of_reference == frame,
            lambda s: "in the PET's frame of reference",
            told=True,
        ),
        _Rule(lambda s: study is None or s.study_uid == study, lambda s: "of the PET's study", told=True),
        _Rule(lambda s: s.image_type[:1] != ("DERIVED",), lambda s: "an original and not derived image"),
        _Rule(lambda s: _share_of(pet, s), lambda s: f"over {_share_of(pet, s):.0%} of the PET", ratio=CLEARLY_LONGER),
        _Rule(lambda s: not _sharp(s), lambda s: "of a kernel that is not for lung or bone"),
        _Rule(lambda s: len(s.images), lambda s: f"of more slices ({len(s.images)})"),
    ]


def is_dynamic(series: Series) -> str:
    """Return the attribute by which a PET shows several time frames, in words, or "".

    Number of Time Slices (0054,0101) is no witness: scanners number the beds of a whole body with it.
    """
    for word in ("DYNAMIC", "GATED"):
        if word in series.series_type:
            return f"Series Type (0054,1000) is {word}"
    moments = {str(image.header.get("TemporalPositionIndex", "")) for image in series.images}
    return f"Temporal Position Index (0020,9128) has {len(moments)} values" if len(moments) > 1 else ""


def _other(entry: Series) -> Verdict:
    if entry.sop_class == RTSTRUCT or entry.modality == "RTSTRUCT":
        return Verdict(entry, "labels", "contours (RTSTRUCT)")
    if entry.sop_class == SEGMENTATION or entry.modality == "SEG":
        return Verdict(entry, "labels", "a segmentation (SEG)")
    return Verdict(entry, "left", "neither PET nor CT")


def _named(scan: Scan, tail: str | None, modality: str, option: str) -> Series | None:
    if tail is None:
        return None
    wanted = tail.lstrip("…")
    fits = [entry for entry in scan.series if entry.modality == modality and wanted and entry.uid.endswith(wanted)]
    fits = [entry for entry in fits if not entry.projection] or fits
    if len(fits) == 1:
        return fits[0]
    there = ", ".join(entry.label for entry in scan.series if entry.modality == modality)
    count = "no" if not fits else str(len(fits))
    raise UsageError(
        f"{scan.place}: {count} {modality} series ends with {wanted!r} ({option}). There are: {there or 'none'}."
    )


def _several(scan: Scan, kind: str, series: list[Series]) -> str:
    studies = len({entry.study_uid for entry in series})
    names = "; ".join(entry.label for entry in series[:MOST_LISTED])
    of = f" (of {studies} studies)" if studies > 1 else ""
    own = " Or give each study a folder of its own." if studies > 1 else ""
    return (
        f"{scan.place}: {len(series)} {kind} series could be meant{of}: {names}. Choose with --{kind.lower()}-series "
        f"and the end of its UID, or leave one of them in the folder.{own}"
    )


def _corrected(series: Series) -> set[str]:
    return {str(word) for word in values_of(series.header, "CorrectedImage")}


def _text(series: Series, keyword: str) -> str:
    return str(series.header.get(keyword, "") or "").strip()


def _sharp(series: Series) -> bool:
    kernel = " ".join(str(word) for word in values_of(series.header, "ConvolutionKernel")).upper()
    return kernel.startswith(SHARP_KERNELS)


def _span(series: Series) -> tuple[float, float] | None:
    """Return the smallest and largest position along the slice normal, LPS mm; None where headers do not tell."""
    try:
        axes = [float(str(v)) for v in values_of(series.header, "ImageOrientationPatient")]
        normal = np.cross(axes[:3], axes[3:])
        along = [
            float(np.dot([float(str(v)) for v in values_of(image.header, "ImagePositionPatient")], normal))
            for image in series.images
        ]
    except (ValueError, TypeError):
        return None
    return min(along), max(along)


def _share_of(pet: Series | None, series: Series) -> float:
    """Return the share of the PET's length that a series covers; its own length where there is no PET."""
    span, target = _span(series), _span(pet) if pet else None
    if span is None:
        return 0.0
    if target is None or target[1] <= target[0]:
        return span[1] - span[0]
    return max(0.0, min(span[1], target[1]) - max(span[0], target[0])) / (target[1] - target[0])
