"""Which stored PET values can become SUV at all: units, corrections, kinds of image; each refusal with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.physics.body import NORMALISATIONS
from uptake.physics.timing import DISAGREEMENT_S, AcquisitionTimes

CONVERTIBLE_UNITS = ("BQML", "GML", "CM2ML", "CNTS")

DECAY_CORRECTIONS = ("START", "ADMIN", "NONE")

NO_SUV = {
    "CPS": "counts per second need the scanner's calibration factor and voxel volume to become Bq/mL",
    "PROPCPS": "values proportional to counts per second have no calibration; scanners use it for images without "
    "attenuation correction",
    "PROPCNTS": "values proportional to counts have no calibration",
    "1CM": "attenuation coefficients (1/cm) are a map of the body, not of the tracer",
    "NONE": "values without a unit have no calibration",
    "PCNT": "percentages have no calibration",
    "STDDEV": "standard deviations measure noise or a normal database, not the tracer",
    "CM2": "an area is no activity concentration",
    "MGMINML": "a metabolic rate is no activity concentration",
    "UMOLMINML": "a metabolic rate is no activity concentration",
    "MLMING": "a perfusion is no activity concentration",
    "MLMINML": "a perfusion is no activity concentration",
    "MLG": "a distribution volume is no activity concentration",
    "MLML": "a distribution volume is no activity concentration",
    "UMOLML": "a receptor density is no activity concentration",
}
"""Units (0054,1001) from which SUV cannot be had, and why not.

References
----------
DICOM PS3.3 C.8.9.1.1.3 Units.
"""

_ELSEWHERE = "Give the attenuation-corrected series in Bq/mL, or convert it elsewhere and give the SUV image as NIfTI."


def require_units(units: str, suv_type: str) -> None:
    """Check that SUV can be had from these Units, and that SUV Type does not contradict them.

    Raises
    ------
    MissingAttributeError
        If Units is absent.
    UnitError
        If there is no rule for it, or SUV Type does not fit; the reason is given.

    References
    ----------
    DICOM PS3.3 C.8.9.1.1.3 Units and C.8.9.1, SUV Type (0054,1006).
    """
    if not units:
        raise MissingAttributeError(
            "Units (0054,1001) is absent; whether the values are Bq/mL, counts or SUV is unknown. "
            "Export the series again from the scanner, or convert it elsewhere and give the SUV image as NIfTI."
        )
    if units not in CONVERTIBLE_UNITS:
        reason = NO_SUV.get(units, f"expected {', '.join(CONVERTIBLE_UNITS)}")
        raise UnitError(f"Units (0054,1001) is {units}: no SUV; {reason}. {_ELSEWHERE}")
    if suv_type and units in ("GML", "CM2ML"):
        if suv_type != "BW" and suv_type not in NORMALISATIONS:
            raise UnitError(
                f"SUV Type (0054,1006) is {suv_type}; expected BW, {', '.join(NORMALISATIONS)}. By what the values "
                "were normalised is unknown. Give the series in Bq/mL."
            )
        if (units == "CM2ML") != (suv_type == "BSA"):
            raise UnitError(
                f"Units (0054,1001) is {units} but SUV Type (0054,1006) is {suv_type}; they contradict one another. "
                "Give the series in Bq/mL."
            )


def require_image(series_type: Sequence[str], image_type: Sequence[str]) -> None:
    """Check that the series holds slices of one static image.

    Raises
    ------
    UnitError
        If it holds reprojections or maximum intensity projections, or is dynamic or gated.

    References
    ----------
    DICOM PS3.3 C.8.9.1.1.2 Series Type (0054,1000), C.7.6.1.1.2 Image Type (0008,0008).
    """
    for word in ("DYNAMIC", "GATED"):
        if word in series_type:
            raise UnitError(
                f"Series Type (0054,1000) is {word}: not supported yet. Give a static or whole-body series."
            )
    if "REPROJECTION" in series_type:
        raise UnitError(
            "Series Type (0054,1000) is REPROJECTION: projections are no activity concentration. Give the slices."
        )
    for word in image_type:
        if word in ("MIP", "MPR_MIP", "MAX_IP", "REPROJECTION") or "PROJECTION" in word.split():
            raise UnitError(
                f"Image Type (0008,0008) holds {word}: projections are no activity concentration. Give the slices."
            )


def require_corrections(corrected_image: Sequence[str], *, decay_corrected: bool) -> list[str]:
    """Check that the image is corrected for attenuation and, unless the SUV rule does it, for decay; return warnings.

    Parameters
    ----------
    corrected_image : sequence of str
        Corrected Image (0028,0051); empty where absent.
    decay_corrected : bool
        Whether DECY is asked for: False with Decay Correction NONE.

    Raises
    ------
    UnitError
        If a correction is missing.

    References
    ----------
    DICOM PS3.3 C.8.9.4, Corrected Image (0028,0051).
    """
    if not corrected_image:
        return ["Corrected Image (0028,0051) is absent: attenuation correction could not be checked."]
    wanted = {"ATTN": "attenuation", **({"DECY": "decay"} if decay_corrected else {})}
    missing = [word for word in wanted if word not in corrected_image]
    if missing:
        raise UnitError(
            f"Corrected Image (0028,0051) lacks {', '.join(missing)}: the series is not corrected for "
            f"{' and '.join(wanted[word] for word in missing)} and holds no SUV. Give the attenuation-corrected series."
        )
    return []


def require_decay_correction(decay_correction: str) -> None:
    """Check that it is known to which moment the image is decay corrected.

    Raises
    ------
    MissingAttributeError
        If Decay Correction is absent.
    UnitError
        If it is none of START, ADMIN, NONE.

    References
    ----------
    DICOM PS3.3 C.8.9.1.1.4 Decay Correction.
    """
    if not decay_correction:
        raise MissingAttributeError(
            "Decay Correction (0054,1102) is absent; to which moment the image is corrected is unknown. "
            "Export the series again from the scanner."
        )
    if decay_correction not in DECAY_CORRECTIONS:
        raise UnitError(
            f"Decay Correction (0054,1102) is {decay_correction}; expected {', '.join(DECAY_CORRECTIONS)}. To which "
            "moment the image is corrected is unknown."
        )


def require_frame_times(times: AcquisitionTimes, *, decay_corrected: bool) -> None:
    """Check what an image without decay correction needs: acquisition and duration of the frame of every slice.

    Parameters
    ----------
    times : AcquisitionTimes
    decay_corrected : bool
        Whether Corrected Image (0028,0051) holds DECY.

    Raises
    ------
    MissingAttributeError
        If a slice lacks its acquisition time or frame duration.
    UnitError
        If the attributes contradict one another.
    """
    if not times.acquisition:
        raise MissingAttributeError(
            "Acquisition Time (0008,0032) or Acquisition Date (0008,0022) is absent in one slice or more; an image "
            "with Decay Correction (0054,1102) NONE needs it in every slice. Export the series again with its times."
        )
    if len(times.frame_duration_s) != len(times.acquisition):
        raise MissingAttributeError(
            "Actual Frame Duration (0018,1242) is absent in one slice or more; an image with Decay Correction "
            "(0054,1102) NONE needs it in every slice. Export the series again from the scanner."
        )
    if not all(math.isfinite(duration) and duration > 0 for duration in times.frame_duration_s):
        raise UnitError("Actual Frame Duration (0018,1242) is not positive; expected milliseconds. Correct it.")
    frames = times.frame_reference_s
    if len(set(times.acquisition)) == 1 and frames and max(frames) - min(frames) > DISAGREEMENT_S:
        raise UnitError(
            "Acquisition Time (0008,0032) is the same in every slice while Frame Reference Time (0054,1300) spans "
            f"{max(frames) - min(frames):.0f} s: when each slice was acquired is unknown, and Decay Correction "
            "(0054,1102) is NONE. Give a decay-corrected series."
        )
    if decay_corrected and any(factor != 1.0 for factor in times.decay_factors):
        raise UnitError(
            "Decay Correction (0054,1102) is NONE, but Corrected Image (0028,0051) holds DECY and Decay Factor "
            "(0054,1321) is not 1; they contradict one another. Correct the one that is wrong."
        )
