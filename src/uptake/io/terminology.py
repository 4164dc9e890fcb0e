"""What a label means in DICOM: SNOMED CT codes, laterality and a colour for each class name.

Class names are TotalSegmentator's, with `lesion` beside them. Three kinds of codes are told apart by `Meaning.origin`:

===========  ===========================================================================================
DICOM        in the context groups of DICOM PS3.16 (pydicom's `codedict` holds them; a test looks each one up)
SNOMED CT    not there, but published with its SNOMED CT name in HL7 FHIR value sets or other open code lists
published    in the code tables of two or more segmentation programs; their SNOMED CT name was not seen
===========  ===========================================================================================

A class that is not here gets the general code for a body structure and keeps its own name as the label: a wrong code
says more than is known, and nobody notices.

References
----------
DICOM PS3.16: CID 7150 (category), CID 7151 and 7159 (type), CID 244 (laterality); PS3.3 C.8.20.2 (Segment Description).
TotalSegmentator, resources/totalsegmentator_snomed_mapping.csv; MOOSE, mappings/moose_snomed_mapping.csv (names and
codes compared with ours; TotalSegmentator's subclavian artery is the right one's code for both sides, ours is not).
"""

from __future__ import annotations

import colorsys
import re
from dataclasses import dataclass
from functools import cache

LESION = "lesion"
"""Class name of lesions; a number may follow ("lesion 3")."""


@dataclass(frozen=True)
class Code:
    """A coded concept: value, meaning, and the scheme that defines it ("SCT" is SNOMED CT, "DCM" is DICOM)."""

    value: str
    meaning: str
    scheme: str = "SCT"


@dataclass(frozen=True)
class Meaning:
    """What a class is, in codes.

    Attributes
    ----------
    category : Code
        Segmented Property Category (0062,0003).
    type : Code
        Segmented Property Type (0062,000F).
    laterality : Code or None
        Its modifier (0062,0011): left, right, or both together.
    region, region_laterality : Code or None
        Anatomic Region (0008,2218) of something that is no body part itself, such as a cyst.
    colour : tuple of int
        Red, green, blue, 0 to 255.
    origin : str
        "DICOM", "SNOMED CT", "published" or "general"; see the top of this module.
    """

    category: Code
    type: Code
    laterality: Code | None = None
    region: Code | None = None
    region_laterality: Code | None = None
    colour: tuple[int, int, int] = (180, 180, 180)
    origin: str = "DICOM"


ANATOMY = Code("91723000", "Anatomical Structure")
TISSUE = Code("85756007", "Tissue")
ABNORMALITY = Code("49755003", "Morphologically Abnormal Structure")
LEFT = Code("7771000", "Left")
RIGHT = Code("24028007", "Right")
BOTH = Code("51440002", "Bilateral")
UNKNOWN = Code("123037004", "Body structure")

_LESION = Code("52988006", "Lesion")

_SINGLE = {
    "spleen": ("78961009", "Spleen"),
    "gallbladder": ("28231008", "Gallbladder"),
    "liver": ("10200004", "Liver"),
    "stomach": ("69695003", "Stomach"),
    "pancreas": ("15776009", "Pancreas"),
    "lung_middle_lobe_right": ("72481006", "Middle lobe of right lung"),
    "esophagus": ("32849002", "Esophagus"),
    "trachea": ("44567001", "Trachea"),
    "thyroid_gland": ("69748006", "Thyroid"),
    "small_bowel": ("30315005", "Small intestine"),
    "duodenum": ("38848004", "Duodenum"),
    "colon": ("71854001", "Colon"),
    "urinary_bladder": ("89837001", "Bladder"),
    "prostate": ("41216001", "Prostate"),
    "sacrum": ("54735007", "Sacrum"),
    "vertebrae_C1": ("14806007", "C1 vertebra"),
    "vertebrae_C2": ("39976000", "C2 vertebra"),
    "vertebrae_C3": ("113205007", "C3 vertebra"),
    "vertebrae_C4": ("5329002", "C4 vertebra"),
    "vertebrae_C5": ("36978003", "C5 vertebra"),
    "vertebrae_C6": ("36054005", "C6 vertebra"),
    "vertebrae_C7": ("87391001", "C7 vertebra"),
    "vertebrae_T1": ("64864005", "T1 vertebra"),
    "vertebrae_T2": ("53733008", "T2 vertebra"),
    "vertebrae_T3": ("1626008", "T3 vertebra"),
    "vertebrae_T4": ("73071006", "T4 vertebra"),
    "vertebrae_T5": ("56401006", "T5 vertebra"),
    "vertebrae_T6": ("45296009", "T6 vertebra"),
    "vertebrae_T7": ("62487009", "T7 vertebra"),
    "vertebrae_T8": ("11068009", "T8 vertebra"),
    "vertebrae_T9": ("82687006", "T9 vertebra"),
    "vertebrae_T10": ("7610001", "T10 vertebra"),
    "vertebrae_T11": ("12989004", "T11 vertebra"),
    "vertebrae_T12": ("23215003", "T12 vertebra"),
    "vertebrae_L1": ("66794005", "L1 vertebra"),
    "vertebrae_L2": ("14293000", "L2 vertebra"),
    "vertebrae_L3": ("36470004", "L3 vertebra"),
    "vertebrae_L4": ("11994002", "L4 vertebra"),
    "vertebrae_L5": ("49668003", "L5 vertebra"),
    "heart": ("80891009", "Heart"),
    "aorta": ("15825003", "Aorta"),
    "pulmonary_vein": ("122972007", "Pulmonary vein"),
    "pulmonary_artery": ("81040000", "Pulmonary artery"),
    "brachiocephalic_trunk": ("12691009", "Innominate artery"),
    "atrial_appendage_left": ("33626005", "Left auricular appendage"),
    "superior_vena_cava": ("48345005", "Superior vena cava"),
    "inferior_vena_cava": ("64131007", "Inferior vena cava"),
    "heart_atrium_left": ("82471001", "Left atrium"),
    "heart_atrium_right": ("73829009", "Right atrium"),
    "heart_ventricle_left": ("87878005", "Left ventricle"),
    "heart_ventricle_right": ("53085002", "Right ventricle"),
    "spinal_cord": ("2748008", "Spinal cord"),
    "brain": ("12738006", "Brain"),
    "skull": ("89546000", "Skull"),
    "sternum": ("56873002", "Sternum"),
    "costal_cartilages": ("50016007", "Costal Cartilage"),
    "skeletal_muscle": ("127954009", "Skeletal muscle"),
    "uterus": ("35039007", "Uterus"),
    "breast": ("76752008", "Breast"),
    "mediastinum": ("72410000", "Mediastinum"),
    "pharynx": ("54066008", "Pharynx"),
    "thymus": ("9875009", "Thymus"),
    "face": ("89545001", "Face"),
}

_PAIRED = {
    # Written as NAME_left and NAME_right; the bare name and its plural are both sides together.
    "kidney": ("64033007", "Kidney"),
    "adrenal_gland": ("23451007", "Adrenal gland"),
    "lung": ("39607008", "Lung"),
    "lung_upper_lobe": ("45653009", "Upper lobe of lung"),
    "lung_lower_lobe": ("90572001", "Lower lobe of lung"),
    "subclavian_artery": ("36765005", "Subclavian artery"),
    "common_carotid_artery": ("32062004", "Common carotid artery"),
    "brachiocephalic_vein": ("8887007", "Innominate vein"),
    "iliac_artery": ("73634005", "Common iliac artery"),
    "iliac_vena": ("46027005", "Common iliac vein"),
    "humerus": ("85050009", "Humerus"),
    "scapula": ("79601000", "Scapula"),
    "clavicula": ("51299004", "Clavicle"),
    "femur": ("71341001", "Femur"),
    "hip": ("29836001", "Hip"),
    "ulna": ("23416004", "Ulna"),
    "radius": ("62413002", "Radius"),
    "patella": ("64234005", "Patella"),
    "parotid_gland": ("45289007", "Parotid gland"),
    "submandibular_gland": ("54019009", "Submandibular gland"),
    "eye": ("81745001", "Eye"),
}

_TISSUES = {"torso_fat": ("55603005", "Fat"), "skin": ("39937001", "Skin")}

_SNOMED_SINGLE = {
    "vertebrae_S1": ("65985001", "First sacral vertebra"),
    "heart_myocardium": ("74281007", "Myocardium"),
    "portal_vein_and_splenic_vein": ("110765007", "Portal vein and splenic vein"),
}

_SNOMED_PAIRED = {
    "gluteus_maximus": ("206007", "Gluteus maximus muscle"),
    "gluteus_medius": ("78333006", "Gluteus medius muscle"),
    "gluteus_minimus": ("75297007", "Gluteus minimus muscle"),
    "rib_1": ("48535007", "First rib"),
    "rib_2": ("78247007", "Second rib"),
    "rib_3": ("25888004", "Third rib"),
    "rib_4": ("25523003", "Fourth rib"),
    "rib_5": ("15339008", "Fifth rib"),
    "rib_6": ("59558009", "Sixth rib"),
    "rib_7": ("24915002", "Seventh rib"),
    "rib_8": ("5953002", "Eighth rib"),
    "rib_9": ("22565002", "Ninth rib"),
    "rib_10": ("77644006", "Tenth rib"),
    "rib_11": ("58830002", "Eleventh rib"),
    "rib_12": ("43993008", "Twelfth rib"),
}

_PUBLISHED_PAIRED = {
    "autochthon": ("244849004", "Deep muscle of back"),
    "iliopsoas": ("68455001", "Iliopsoas muscle"),
}

_COLOURS: dict[str, tuple[int, int, int]] = {
    "spleen": (145, 30, 180), "kidney": (245, 130, 48), "liver": (175, 95, 30), "gallbladder": (60, 180, 75),
    "stomach": (0, 128, 128), "pancreas": (250, 150, 190), "colon": (128, 128, 0), "small_bowel": (255, 205, 160),
    "duodenum": (0, 200, 170), "urinary_bladder": (255, 225, 25), "prostate": (240, 50, 230), "brain": (190, 235, 60),
    "heart": (175, 25, 50), "aorta": (230, 70, 70), "lung": (110, 200, 240), "esophagus": (240, 90, 255),
    "vertebrae": (40, 90, 200), "sacrum": (20, 20, 120), "hip": (30, 140, 70), "femur": (130, 230, 160),
    "clavicula": (150, 150, 150), "autochthon": (205, 175, 255), "head_glands": (0, 90, 200),
}  # fmt: skip
"""Colours of the organs that models here find and that maps show together, chosen by eye to be told apart; those of a
pair share one, the right one darker."""

RIGHT_DARKER = 0.75
"""Factor on the colour of a pair for its right one."""

_LESION_COLOURS = (
    (255, 64, 48), (255, 168, 0), (255, 240, 64), (255, 96, 200), (64, 224, 255), (128, 255, 96), (176, 128, 255),
)  # fmt: skip
"""Lesions take these in turn: bright on grey and on the usual hot scales."""

GOLDEN_TURN = 0.618034
"""Hues of successive classes lie this share of the colour circle apart, so that neighbours in the table differ."""


def meaning_of(name: str) -> Meaning:
    """Return the codes and the colour of a class name; of an unknown one, those of a body structure (`UNKNOWN`).

    Parameters
    ----------
    name : str
        TotalSegmentator's name ("kidney_left", "vertebrae_L1", "rib_left_3"), a pair or its plural ("kidneys"), or a
        lesion ("lesion", "lesions", "lesion 12").
    """
    lesion = re.fullmatch(rf"{LESION}s?(?:[ _](\d+))?(?:[ _].*)?", name.strip().lower())
    if lesion is not None:
        number = int(lesion[1] or 1)
        return Meaning(ABNORMALITY, _LESION, colour=_LESION_COLOURS[(number - 1) % len(_LESION_COLOURS)])
    table = meanings()
    general = Meaning(ANATOMY, UNKNOWN, colour=_COLOURS.get(name, Meaning.colour), origin="general")
    return table.get(name) or table.get(name.removesuffix("s")) or general


def site_of(name: str) -> tuple[Code, Code | None] | None:
    """Return where something lies that lies in an organ of this name: the body part, and its side where it has one.

    Parameters
    ----------
    name : str
        As for `meaning_of`. Of what is no body part itself, such as a cyst of the kidney, its region counts.

    Returns
    -------
    (Code, Code or None) or None
        Code and laterality for Finding Site (363698007), PS3.16 TID 1411. A name for both sides together does not tell
        on which the thing lies, so it gets no side. None for a name without a code of its own.
    """
    meaning = meaning_of(name)
    part, side = (meaning.region, meaning.region_laterality) if meaning.region else (meaning.type, meaning.laterality)
    if meaning.origin == "general" or part is None or part == _LESION:
        return None
    return part, None if side == BOTH else side


@cache
def meanings() -> dict[str, Meaning]:
    """Return the meaning of every class that has codes, by name; lesions are not among them."""
    table: dict[str, tuple[Code, Code, Code | None, str]] = {}
    for origin, singles in (("DICOM", _SINGLE), ("SNOMED CT", _SNOMED_SINGLE)):
        for name, (value, text) in singles.items():
            table[name] = (ANATOMY, Code(value, text), None, origin)
    for name, (value, text) in _TISSUES.items():
        table[name] = (TISSUE, Code(value, text), None, "DICOM")
    table["subcutaneous_fat"] = (TISSUE, Code("67769002", "Subcutaneous fatty tissue"), None, "published")
    for origin, pairs in (("DICOM", _PAIRED), ("SNOMED CT", _SNOMED_PAIRED), ("published", _PUBLISHED_PAIRED)):
        for name, (value, text) in pairs.items():
            table[name] = (ANATOMY, Code(value, text), BOTH, origin)
            for side, laterality in (("left", LEFT), ("right", RIGHT)):
                stem, _, number = name.partition("_") if name.startswith("rib_") else (name, "", "")
                table["_".join(part for part in (stem, side, number) if part)] = (
                    ANATOMY, Code(value, text), laterality, origin,
                )  # fmt: skip
    result = {
        name: Meaning(category, kind, laterality, colour=_chosen(name) or _colour(n), origin=origin)
        for n, (name, (category, kind, laterality, origin)) in enumerate(table.items())
    }
    kidney, cyst = Code(*_PAIRED["kidney"]), Code("367643001", "Cyst")
    for side, laterality in (("left", LEFT), ("right", RIGHT)):
        name = f"kidney_cyst_{side}"
        result[name] = Meaning(
            ABNORMALITY, cyst, region=kidney, region_laterality=laterality, colour=_colour(len(result))
        )
    return result


def _chosen(name: str) -> tuple[int, int, int] | None:
    """Return the colour that was chosen for a class or its pair."""
    stem = name.removesuffix("_left").removesuffix("_right")
    colour = _COLOURS.get(stem)
    if colour is None or not name.endswith("_right"):
        return colour
    red, green, blue = (round(RIGHT_DARKER * value) for value in colour)
    return red, green, blue


def _colour(n: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((n * GOLDEN_TURN) % 1.0, 0.45 + 0.15 * (n % 3), 0.95 - 0.1 * (n % 2))
    return round(255 * red), round(255 * green), round(255 * blue)
