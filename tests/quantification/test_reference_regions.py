import math

import numpy as np
import pytest

from uptake.core.errors import GeometryError, InputError
from uptake.geometry import Volume, reorient
from uptake.quantification.organs import in_depth
from uptake.quantification.reference_regions import (
    BELOW_ARCH_MM,
    LESION_GAP_MM,
    LIVER_MARGIN_MM,
    LIVER_RADIUS_MM,
    NoReference,
    ReferenceRegion,
    blood_pool_reference,
    liver_reference,
    region_mask,
)

NAMES = {1: "liver", 2: "aorta"}
GRID = np.diag([4.0, 4, 4, 1])
GRID[:3, 3] = (-100, -100, 0)
GRID_MM = (4.0, 4.0, 4.0)
SHAPE = (50, 50, 60)


def world(grid=GRID, shape=SHAPE):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return Volume(np.zeros(shape), grid).world_of(index)


def body(*, liver_suv=2.0, blood_suv=1.5, noise=0.0, liver_ml=True, aorta=True, seed=0):
    """Return PET and map: a liver 120 mm wide and 100 mm high on the right, an aorta with arch and two limbs."""
    x, y, z = np.moveaxis(world(), -1, 0)
    organs = np.zeros(SHAPE, np.uint8)
    if liver_ml:
        organs[((x - 20) / 62) ** 2 + (y / 50) ** 2 + ((z - 60) / 52) ** 2 <= 1] = 1
    if aorta:
        # Descending behind (y -70) from 20 to 215 mm, ascending in front (y -30) from 150 mm up, an arch between.
        limb = (x + 30) ** 2 + (y + 70) ** 2 <= 13**2
        front = ((x + 30) ** 2 + (y + 30) ** 2 <= 13**2) & (z >= 150)
        arch = (np.abs(x + 30) <= 13) & (y >= -83) & (y <= -17) & (z >= 200)
        organs[(limb | front | arch) & (z >= 20) & (z <= 220) & (organs == 0)] = 2
    pet = np.full(SHAPE, 0.5)
    pet[organs == 1], pet[organs == 2] = liver_suv, blood_suv
    pet += np.random.default_rng(seed).normal(0, noise, SHAPE) if noise else 0.0
    return Volume(pet, GRID), Volume(organs, GRID)


def with_spot(pet, centre, radius_mm, suv):
    """Return the PET with a hot ball and the ball as a lesion mask."""
    ball = np.linalg.norm(world() - centre, axis=-1) <= radius_mm
    return pet.with_array(np.where(ball, suv, pet.array)), pet.with_array(ball.astype(np.uint8))


def inside_share(pet, organs, found, label):
    return float((organs.array[region_mask(pet, found)] == label).mean())


def test_liver_sphere_lies_deep_in_the_right_middle():
    pet, organs = body(noise=0.2)
    found = liver_reference(pet, organs, NAMES)
    assert isinstance(found, ReferenceRegion)
    x, _, z = found.centre_mm
    assert x >= 20 and 34 <= z <= 86  # right of the middle, 25 to 75 % of the way from 8 to 112 mm
    assert found.voxels == 251  # voxel centres within 15 mm on a 4 mm grid: counted from i² + j² + k² <= 14.06
    assert found.volume_ml == pytest.approx(251 * 0.064)
    assert found.suv_mean == pytest.approx(2.0, abs=0.05) and found.suv_sd == pytest.approx(0.2, abs=0.04)
    assert found.suv_max > found.suv_mean + 2 * found.suv_sd
    assert inside_share(pet, organs, found, 1) == 1
    others = np.argwhere(organs.array != 1)
    gap = np.linalg.norm(organs.world_of(others.astype(float)) - found.centre_mm, axis=1).min()
    assert gap >= LIVER_RADIUS_MM + LIVER_MARGIN_MM


def test_liver_sphere_avoids_what_nobody_outlined():
    pet, organs = body(noise=0.05)
    cold, _ = with_spot(pet, (45, 0, 60), 12, 0.1)
    found = liver_reference(cold, organs, NAMES)
    assert np.linalg.norm(np.array(found.centre_mm) - (45, 0, 60)) > LIVER_RADIUS_MM + 12 - 4
    assert found.suv_mean == pytest.approx(2.0, abs=0.03)


def test_liver_sphere_keeps_away_from_lesions():
    pet, organs = body(noise=0.05)
    hot, lesions = with_spot(pet, (52, 20, 60), 14, 9.0)
    found = liver_reference(hot, organs, NAMES, lesions=lesions)
    spots = lesions.world_of(np.argwhere(lesions.array).astype(float))
    assert np.linalg.norm(spots - found.centre_mm, axis=1).min() >= LIVER_RADIUS_MM + LESION_GAP_MM
    assert found.suv_mean == pytest.approx(2.0, abs=0.03)


def test_liver_is_refused_with_its_reason():
    pet, organs = body()
    cases = {
        "has no liver": (organs, {2: "aorta"}, None),
        "edge of the image cuts": (organs.with_array(np.roll(organs.array, -3, axis=2)), NAMES, None),
        "a whole one has more": (organs.with_array(organs.array * (world()[..., 2] > 80)), NAMES, None),
        "lesions take 100%": (organs, NAMES, organs.with_array((organs.array == 1).astype(np.uint8))),
        "and 10 mm from lesions": (organs, NAMES, with_spot(pet, (45, 0, 60), 22, 9.0)[1]),
    }
    for reason, (found_organs, names, lesions) in cases.items():
        found = liver_reference(pet, found_organs, names, lesions=lesions)
        assert isinstance(found, NoReference) and reason in found.reason, reason
    x, _, z = np.moveaxis(world(), -1, 0)
    slab = organs.with_array(
        ((np.abs(x) < 90) & (np.abs(z - 100) < 15)).astype(np.uint8)[:, :, :] * (organs.array >= 0)
    )
    thin = slab.array.copy()
    thin[:, [0, -1]] = 0
    found = liver_reference(pet, organs.with_array(thin), NAMES)
    assert isinstance(found, NoReference) and "no sphere of 30 mm fits" in found.reason
    assert "lesions" not in found.reason


def test_an_uneven_liver_is_reported():
    pet, organs = body()
    rind = (organs.array == 1) & (in_depth(organs.array == 1, GRID_MM) < 18)  # six tenths of the inner liver
    pet = pet.with_array(np.where(rind, 6.0, pet.array))
    found = liver_reference(pet, organs, NAMES)
    assert found.suv_mean == pytest.approx(2.0) and "a median of 6.00" in found.warnings[0]
    assert not liver_reference(*body(), NAMES).warnings


def test_blood_pool_stands_in_the_descending_limb_below_the_arch():
    pet, organs = body(noise=0.1)
    found = blood_pool_reference(pet, organs, NAMES)
    assert isinstance(found, ReferenceRegion)
    x, y, z = found.centre_mm
    assert math.hypot(x + 30, y + 70) <= 4  # on its axis, to the voxel; the ascending limb is 40 mm in front
    assert 220 - BELOW_ARCH_MM[1] - 4 <= z <= 220 - BELOW_ARCH_MM[0] + 4
    assert found.voxels == 5 * 5  # centre and four neighbours at 4 mm, in five slices of 4 mm
    assert found.suv_mean == pytest.approx(1.5, abs=0.06)
    assert inside_share(pet, organs, found, 2) == 1


def test_blood_pool_keeps_away_from_lesions_or_is_refused():
    pet, organs = body()
    _, lesions = with_spot(pet, (-30, -95, 120), 12, 9.0)
    found = blood_pool_reference(pet, organs, NAMES, lesions=lesions)
    spots = lesions.world_of(np.argwhere(lesions.array).astype(float))
    region = pet.world_of(np.argwhere(region_mask(pet, found)).astype(float))
    assert np.linalg.norm(region[:, None] - spots, axis=-1).min() >= LESION_GAP_MM
    x, y, _ = np.moveaxis(world(), -1, 0)
    wall = ((x + 30) ** 2 + (y + 90) ** 2 <= 8**2).astype(np.uint8)
    found = blood_pool_reference(pet, organs, NAMES, lesions=pet.with_array(wall))
    assert isinstance(found, NoReference) and "no cylinder of 10 by 20 mm" in found.reason


def test_blood_pool_is_refused_with_its_reason():
    pet, organs = body()
    _, _, z = np.moveaxis(world(), -1, 0)
    cut = Volume(organs.array[:, :, :50], GRID)
    cases = {
        "has no aorta": (pet, organs, {1: "liver"}),
        "upper edge of the image cuts": (Volume(pet.array[:, :, :50], GRID), cut, NAMES),
        "too short": (pet, organs.with_array(organs.array * (z > 150)), NAMES),
        "no cylinder": (pet, Volume(organs.array * (world()[..., 0] < -34), GRID), NAMES),
    }
    for reason, (image, found_organs, names) in cases.items():
        found = blood_pool_reference(image, found_organs, names)
        assert isinstance(found, NoReference) and reason in found.reason, reason


def test_turning_the_arrays_moves_no_region():
    pet, organs = body(noise=0.1)
    for code in ("LPS", "SAR", "IRP"):
        for place in (liver_reference, blood_pool_reference):
            there, turned = place(pet, organs, NAMES), place(reorient(pet, code), reorient(organs, code), NAMES)
            # Equal candidates may be met in another order, so a region may move along an axis of symmetry, no further.
            assert turned.suv_mean == pytest.approx(there.suv_mean, abs=0.05)
            assert turned.voxels == there.voxels
            shift = np.abs(np.array(turned.centre_mm) - there.centre_mm)
            assert place is liver_reference or shift.max() <= 4 + 1e-6


def test_refusals():
    pet, organs = body()
    for place in (liver_reference, blood_pool_reference):
        with pytest.raises(GeometryError, match="organ map"):
            place(pet, Volume(organs.array, np.eye(4)), NAMES)
        with pytest.raises(GeometryError, match="lesion mask"):
            place(pet, organs, NAMES, lesions=Volume(organs.array, np.eye(4)))
        with pytest.raises(InputError, match="fractions"):
            place(pet, organs.with_array(organs.array / 2), NAMES)


@pytest.mark.parametrize("name", ["psma_0a52cb5b45b821f7", "psma_ed407d8135a958c6"])
def test_a_sphere_fits_into_real_livers(shared_data, name):
    from uptake.core.anatomy import AUTOPET_NAMES
    from uptake.io.image import read_labels

    organs, _ = read_labels(shared_data / "anatomy/autopet_organs" / f"{name}.nii.gz")
    noise = np.random.default_rng(1).normal(0, 0.2, 99_991).astype(np.float32)  # a prime: no slice repeats the last
    pet = organs.with_array(np.where(organs.array == 3, np.float32(2.1), np.float32(0.8)))
    pet.array[...] += np.resize(noise, organs.shape)
    found = liver_reference(pet, organs, AUTOPET_NAMES)
    assert isinstance(found, ReferenceRegion)
    assert inside_share(pet, organs, found, 3) == 1
    assert found.suv_mean == pytest.approx(2.1, abs=0.04) and found.suv_sd == pytest.approx(0.2, abs=0.03)
    assert found.volume_ml == pytest.approx(4 / 3 * math.pi * 1.5**3, rel=0.15)
    liver_x = organs.world_of(np.argwhere(organs.array == 3)[::50].astype(float))[:, 0]
    assert found.centre_mm[0] >= np.median(liver_x) - 1


def test_the_sphere_in_a_real_scan_reads_what_the_input_gate_reads(shared_data):
    from scipy import ndimage

    from uptake.gate.landmarks import liver_in_pet
    from uptake.gate.overview import pet_overview
    from uptake.io.image import read_image

    pet, _ = read_image(shared_data / "wholebody/STS_001/pet.nii.gz")
    there = liver_in_pet(pet_overview(pet))
    assert there is not None
    # No organ map fits this scan: the liver is grown by its uptake from where the gate sees it.
    smooth = ndimage.gaussian_filter(pet.array, [4.0 / mm for mm in pet.spacing_mm])
    seed = tuple(np.rint(pet.index_of(np.array(there.centre_mm))).astype(int))
    band = ndimage.binary_erosion((smooth > 0.65 * smooth[seed]) & (smooth < 1.6 * smooth[seed]), iterations=2)
    parts, _ = ndimage.label(band)
    liver = ndimage.binary_dilation(parts == parts[seed], iterations=2)
    found = liver_reference(pet, pet.with_array(liver.astype(np.uint8)), NAMES)
    assert isinstance(found, ReferenceRegion)
    x, _, z = found.centre_mm
    assert x > there.centre_mm[0] and abs(z - there.centre_mm[2]) < 40
    assert found.suv_mean == pytest.approx(there.value, rel=0.1) and 0.1 < found.suv_sd / found.suv_mean < 0.25
    assert found.volume_ml == pytest.approx(14.1, rel=0.1)
