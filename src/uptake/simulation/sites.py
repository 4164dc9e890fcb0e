"""Where lesions of each tracer grow and how much they take up.

References
----------
FDG: 1,223 lymphoma lesions, median contrast 4.0; solid tumours, SUVmax 3 to 24: Nahmias and Wahl, J Nucl Med 49, 2008.
PSMA-11 SUVmax, prostate 11.3 ± 7.5, nodes 14.6 ± 13.7, bone 15.9 ± 15.9, soft tissue 24.2 ± 16.4: Kurash,
doi:10.1038/s41598-020-60099-y; PSMA-1007 is not higher (doi:10.1186/s13550-024-01097-3). FAPI-04 SUVmax above 12 in
sarcoma, oesophagus, breast, lung, bile ducts, 6 to 12 in most others: Kratochwil, doi:10.2967/jnumed.119.227967.
DOTATATE SUVmax, liver 28.7, pancreas 25.2, bone 18.3, node 12.6: doi:10.1007/s12149-013-0718-4. Shares of sites are
ours.
"""

from __future__ import annotations

from uptake.simulation.labels import LUNGS
from uptake.simulation.shapes import Point

SITES: dict[str, dict[str, float]] = {
    "FDG": {"node": 0.40, "lung": 0.16, "liver": 0.12, "bone": 0.20, "soft_tissue": 0.09, "spleen": 0.03},
    "PSMA-11": {"prostate": 0.08, "node": 0.42, "bone": 0.42, "lung": 0.04, "liver": 0.02, "soft_tissue": 0.02},
    "PSMA-1007": {"prostate": 0.08, "node": 0.42, "bone": 0.42, "lung": 0.04, "liver": 0.02, "soft_tissue": 0.02},
    "FAPI-04": {"node": 0.30, "lung": 0.14, "liver": 0.12, "bone": 0.16, "peritoneum": 0.12, "pancreas": 0.05,
                "esophagus": 0.03, "soft_tissue": 0.08},
    "DOTATATE": {"liver": 0.42, "node": 0.14, "mesentery": 0.12, "bone": 0.18, "pancreas": 0.07, "bowel": 0.04,
                 "lung": 0.03},
}  # fmt: skip
"""Shares of all lesions."""

UPTAKE: dict[str, dict[str, tuple[float, float]]] = {
    "PSMA-11": {"prostate": (11.3, 7.5), "node": (14.6, 13.7), "bone": (15.9, 15.9), "": (20.0, 15.0)},
    "PSMA-1007": {"prostate": (11.3, 7.5), "node": (14.6, 13.7), "bone": (15.9, 15.9), "": (20.0, 15.0)},
    "FAPI-04": {"node": (9.0, 5.0), "bone": (8.0, 5.0), "pancreas": (11.0, 5.0), "esophagus": (14.0, 6.0),
                "soft_tissue": (13.0, 7.0), "": (9.5, 5.0)},
    "DOTATATE": {"liver": (26.0, 13.0), "pancreas": (25.2, 15.0), "bone": (18.3, 12.0), "node": (12.6, 9.0),
                 "": (16.0, 10.8)},
}  # fmt: skip
"""Mean and SD of the SUV that lesions of a site are given, "" where none is named; FDG lesions follow a contrast."""

FDG_CONTRAST = (4.0, 0.7)
"""Median and sigma of the logarithm of an FDG lesion's uptake over what surrounds it."""

_VERTEBRAE = tuple(
    f"vertebrae_{n}" for n in ("C7", "T2", "T4", "T6", "T7", "T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")
)
_RIBS = tuple(f"rib_{side}_{n}" for side in ("left", "right") for n in (3, 5, 6, 7, 8, 9))
_BONES = (
    *_VERTEBRAE, "hip_left", "hip_right", "hip_left", "hip_right", "sacrum", "femur_left", "femur_right", "sternum",
    "scapula_left", "scapula_right", "humerus_right", "humerus_left", *_RIBS,
)  # fmt: skip
HOSTS: dict[str, tuple[str, ...]] = {
    "lung": LUNGS,
    "liver": ("liver",),
    "spleen": ("spleen",),
    "bone": _BONES,
    "soft_tissue": ("skeletal_muscle", "subcutaneous_fat", "gluteus_maximus_left", "gluteus_maximus_right"),
    "prostate": ("prostate",),
    "peritoneum": ("torso_fat",),
    "pancreas": ("pancreas",),
    "esophagus": ("esophagus",),
    "bowel": ("small_bowel", "duodenum", "colon"),
}
"""Organ labels that a site's lesions start in."""

LIMITS_ML = {
    "bone": 40.0, "spleen": 40.0, "lung": 90.0, "liver": 120.0, "prostate": 20.0, "pancreas": 25.0, "esophagus": 15.0,
    "bowel": 12.0, "mesentery": 40.0, "peritoneum": 60.0, "node": 60.0,
}  # fmt: skip
"""Largest lesion a site can hold; 300 mL elsewhere."""

STATIONS: dict[str, tuple[Point, ...]] = {
    # (u, v, d) of the right-hand station; those off the midline are mirrored by chance.
    "neck": ((48, 6, 235), (52, -8, 262), (46, 8, 290)),
    "axilla": ((136, -18, 392), (128, -6, 420)),
    "mediastinum": ((14, 14, 382), (10, -12, 408), (38, -14, 432), (8, 40, 372), (4, -24, 450)),
    "retroperitoneum": ((20, -6, 690), (22, -4, 715), (10, -2, 735), (24, 0, 668)),
    "mesentery": ((22, 40, 726), (-16, 44, 740), (4, 46, 752)),
    "pelvis": ((58, 8, 822), (72, 24, 856), (50, -18, 810), (44, -46, 838)),
    "groin": ((78, 74, 900), (74, 80, 918)),
    "prostate_bed": ((4, 14, 898), (10, 8, 892), (2, -4, 886)),
}
STATION_SHARES: dict[str, dict[str, float]] = {
    "FDG": {"neck": 0.2, "axilla": 0.12, "mediastinum": 0.3, "retroperitoneum": 0.18, "mesentery": 0.05,
            "pelvis": 0.08, "groin": 0.07},
    "PSMA-11": {"neck": 0.05, "axilla": 0.03, "mediastinum": 0.10, "retroperitoneum": 0.30, "pelvis": 0.48,
                "groin": 0.04},
    "PSMA-1007": {"neck": 0.05, "axilla": 0.03, "mediastinum": 0.10, "retroperitoneum": 0.30, "pelvis": 0.48,
                  "groin": 0.04},
    "FAPI-04": {"neck": 0.12, "axilla": 0.15, "mediastinum": 0.33, "retroperitoneum": 0.22, "mesentery": 0.08,
                "pelvis": 0.10},
    "DOTATATE": {"neck": 0.05, "mediastinum": 0.15, "retroperitoneum": 0.45, "mesentery": 0.25, "pelvis": 0.10},
}  # fmt: skip
"""Shares of the nodal stations among nodes."""
