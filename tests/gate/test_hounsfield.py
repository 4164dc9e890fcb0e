from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from uptake.gate.hounsfield import scale_finding
from uptake.geometry.volume import Volume


def changed(ct: Volume, change) -> Volume:
    return ct.with_array(change(np.asarray(ct.array, dtype=np.float32)))


def test_a_ct_in_hounsfield_units_is_green_with_its_peaks(patient):
    finding = scale_finding(patient.ct)
    assert str(finding.light) == "green"
    assert finding.details["air_hu"] == pytest.approx(-1000, abs=10)
    assert finding.details["soft_tissue_hu"] == pytest.approx(50, abs=12)
    assert finding.details["fat_hu"] == pytest.approx(-103, abs=12)


@pytest.mark.parametrize(
    ("change", "light"),
    [
        (lambda hu: hu + 24, "green"), (lambda hu: hu + 38, "amber"), (lambda hu: hu + 55, "red"),
        (lambda hu: hu - 70, "red"),
        (lambda hu: hu + 1024, "red"), (lambda hu: hu * 0.5, "amber"), (lambda hu: np.clip(hu, -160, 240), "amber"),
        (lambda hu: np.clip(hu, -1024, 0), "amber"),
    ],
    ids=["+24", "+38", "+55", "-70", "+1024", "x0.5", "clipped to a window", "clipped above"],
)  # fmt: skip
def test_offsets_scales_and_clipping_are_flagged(patient, change, light):
    assert str(scale_finding(changed(patient.ct, change)).light) == light


def test_a_small_crop_is_not_judged(patient, cut):
    case = cut(patient, x=(0.4, 0.6), y=(0.4, 0.6), z=(0.4, 0.5))
    assert str(scale_finding(case.ct).light) == "grey"


@pytest.mark.parametrize("file", ["anatomy/totalsegmentator/example_ct", "sts/STS_047/ct", "sts/STS_014/ct_on_pet"])
def test_real_cts_are_never_red(shared_data, file):
    image = nib.load(shared_data / f"{file}.nii.gz")
    finding = scale_finding(Volume(image.get_fdata(dtype=np.float32), image.affine))
    assert str(finding.light) == "green"
    assert finding.details["soft_tissue_hu"] == pytest.approx(42, abs=18)
