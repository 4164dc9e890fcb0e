import io
import math
import struct
import subprocess
import sys

import numpy as np
import pytest

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry import Volume, reorient
from uptake.quantification.pictures import fusion_picture, mip_picture
from uptake.quantification.views import display, display_on, outline, position_mm

LAS = np.array([[-4.0, 0, 0, 60], [0, 4, 0, -50], [0, 0, 5, -100], [0, 0, 0, 1]])


def pixels(png):
    from matplotlib import image

    return image.imread(io.BytesIO(png))


def patient(shape=(30, 26, 40)):
    """Return a PET with a warm body, a hot spot to the right, in front and near the head, and its mask."""
    volume = Volume(np.zeros(shape, np.float32), LAS)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = volume.world_of(index)
    middle = volume.world_of((np.array(shape) - 1) / 2)
    pet = np.where((((world - middle) / (45, 38, 90)) ** 2).sum(-1) < 1, 1.0, 0.0)
    spot = np.linalg.norm(world - middle - (25, 15, 60), axis=-1) < 12
    pet[spot] = 9.0
    return volume.with_array(pet.astype(np.float32)), volume.with_array(spot.astype(np.uint8))


def centre_of_mass(view):
    rows, columns = np.nonzero(view.pixels > 5)
    return columns.mean() / view.pixels.shape[1], rows.mean() / view.pixels.shape[0]


@pytest.mark.parametrize("code", ["RAS", "LPS", "LAS", "SPL", "AIR"])
def test_views_show_the_same_patient_from_any_orientation(code):
    pet, _ = patient()
    shown = display(reorient(pet, code))
    x, z = centre_of_mass(shown.projection("coronal"))
    assert x < 0.4 and z > 0.6, "the patient's right stands on the left, the head has the highest row"
    y, z = centre_of_mass(shown.projection("sagittal"))
    assert y < 0.45 and z > 0.6, "the front stands on the left"
    at = position_mm(shown, pet.world_of(np.array([14, 12, 33])))
    x, y = centre_of_mass(shown.cut("axial", float(at[2])))
    assert x < 0.4 and y < 0.45, "the front has the lowest row, which an axial picture draws on top"


def test_edges_are_in_millimetres():
    view = display(patient()[0]).projection("coronal")
    assert view.right - view.left == pytest.approx(30 * 4) and view.high - view.low == pytest.approx(40 * 5)


def test_a_cut_beyond_the_volume_is_none():
    shown = display(patient()[0])
    assert shown.cut("axial", 1e4) is None
    low, high = shown.edges_mm(2)
    assert shown.nearest_index(2, low + 0.1) == 0 and shown.nearest_index(2, high - 0.1) == 39
    assert shown.nearest_index(2, low - 0.1) is None and shown.nearest_index(2, high + 0.1) is None


def test_an_oblique_grid_is_shown_along_its_own_axes_and_the_ct_stays_in_place():
    c, s = math.cos(0.3), math.sin(0.3)
    turned = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    pet, _ = patient()
    pet = Volume(pet.array, turned @ LAS)
    fine = turned @ LAS @ np.diag([0.5, 0.5, 0.5, 1])
    shown = display(pet)
    ct = display_on(Volume(np.zeros((60, 52, 80)), fine), shown)
    point = pet.world_of(np.array([3, 7, 11]))
    at = position_mm(shown, point)
    index = [shown.nearest_index(axis, float(at[axis])) for axis in range(3)]
    np.testing.assert_allclose(shown.volume.world_of(np.array(index)), point, atol=1e-6)
    index = [ct.nearest_index(axis, float(at[axis])) for axis in range(3)]
    np.testing.assert_allclose(ct.volume.world_of(np.array(index)), point, atol=1e-6)


def test_outlines_close_at_the_edge_of_the_image():
    view = display(Volume(np.ones((3, 4, 5), np.uint8), np.diag([2.0, 3, 4, 1]))).projection("coronal")
    x, y, values = outline(view)
    assert values.shape == (len(y), len(x)) == (7, 5)
    assert values[0].max() == values[:, -1].max() == 0
    assert x[0] == pytest.approx(view.left - 1) and y[-1] == pytest.approx(view.high + 2)


def test_same_input_gives_the_same_bytes_without_metadata():
    pet, mask = patient()
    at = tuple(pet.world_of(np.array([14, 12, 33])))
    for draw in (lambda: mip_picture(pet, mask), lambda: fusion_picture(pet, pet, mask, at)):
        png = draw()
        assert png == draw()
        assert png.startswith(b"\x89PNG") and b"tEXt" not in png and b"tIME" not in png


def test_bytes_do_not_depend_on_the_process():
    code = (
        "import numpy, hashlib; from uptake.geometry import Volume;"
        "from uptake.quantification.pictures import mip_picture;"
        "v = Volume(numpy.arange(6000.).reshape(20, 15, 20) / 600, numpy.diag([4., 4, 4, 1]));"
        "print(hashlib.sha256(mip_picture(v, v.with_array((v.array > 9).astype('u1')))).hexdigest())"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


def test_lesions_are_outlined_in_colour():
    pet, mask = patient()
    grey = pixels(mip_picture(pet))[..., :3]
    assert np.abs(grey - grey.mean(-1, keepdims=True)).max() < 0.05
    marked = pixels(mip_picture(pet, mask))[..., :3]
    assert ((marked[..., 0] - marked[..., 1]) > 0.4).sum() > 50


def test_a_hot_spot_on_the_right_stands_on_the_left_of_the_picture():
    pet, _ = patient()
    picture = pixels(mip_picture(pet))[..., :3].mean(-1)
    coronal = picture[45:-20, 20 : picture.shape[1] // 2 - 20]
    rows, columns = np.nonzero(coronal[20:] < 0.02)
    assert np.median(columns) < 0.45 * coronal.shape[1] and np.median(rows) < 0.4 * coronal.shape[0]


@pytest.mark.parametrize("shape", [(41, 43, 59), (5, 6, 4), (1, 1, 1)])
def test_small_images_can_be_drawn(shape):
    pet = Volume(np.random.default_rng(0).gamma(2, 1, shape), LAS)
    mask = pet.with_array(np.ones(shape, np.uint8))
    for png in (mip_picture(pet, mask), fusion_picture(pet, None, mask, pet.origin_mm)):
        width, height = struct.unpack(">II", png[16:24])
        assert 100 < width < 2000 and 50 < height < 1200


def test_an_empty_pet_and_an_empty_mask_can_be_drawn():
    pet = Volume(np.zeros((8, 8, 8)), LAS)
    mask = pet.with_array(np.zeros((8, 8, 8), np.uint8))
    assert mip_picture(pet, mask) == mip_picture(pet)
    fusion_picture(pet, None, mask, pet.origin_mm)


def test_ct_that_ends_before_the_pet_leaves_black():
    pet, mask = patient()
    ct = Volume(np.zeros((10, 26, 40)), LAS)
    fusion_picture(pet, ct, mask, tuple(pet.world_of(np.array([25, 12, 33]))))


def test_guards():
    pet, mask = patient()
    at = pet.origin_mm
    moved = LAS.copy()
    moved[0, 3] += 4
    with pytest.raises(GeometryError, match="lesion mask"):
        mip_picture(pet, Volume(mask.array, moved))
    with pytest.raises(GeometryError, match="outside the PET"):
        fusion_picture(pet, None, None, (1e4, 0, 0))
    with pytest.raises(GeometryError, match="turned against"):
        tilted = LAS.copy()
        tilted[:2, :2] = [[-4 * math.cos(0.1), -4 * math.sin(0.1)], [-4 * math.sin(0.1), 4 * math.cos(0.1)]]
        fusion_picture(pet, Volume(pet.array, tilted), None, at)
    with pytest.raises(GeometryError, match="frames of reference"):
        fusion_picture(
            Volume(pet.array, LAS, frame_of_reference="1.2"), Volume(pet.array, LAS, frame_of_reference="1.3"), None, at
        )
    with pytest.raises(UsageError, match="window"):
        mip_picture(pet, suv_window=(5, 5))
    with pytest.raises(UsageError, match="window"):
        fusion_picture(pet, None, None, at, ct_window_hu=(10, -10))
    with pytest.raises(InputError, match="NaN"):
        mip_picture(pet.with_array(np.full(pet.shape, np.nan)))


def test_no_window_toolkit_is_loaded():
    code = (
        "import sys, numpy; from uptake.geometry import Volume; from uptake.quantification import pictures, report;"
        "assert 'matplotlib' not in sys.modules and 'jinja2' not in sys.modules;"
        "pictures.mip_picture(Volume(numpy.ones((4, 4, 4)), numpy.eye(4) + numpy.diag([3., 3, 3, 0])));"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
