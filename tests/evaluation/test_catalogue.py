import math

import pytest

from uptake.evaluation.catalogue import HEADLINE, METRICS, metric_of
from uptake.evaluation.labels import Rules, metric_names


def test_every_score_is_known():
    for rules in (Rules(), Rules(tolerances_mm=(0.5, 4.0), min_iou=0.25)):
        for names in metric_names(rules).values():
            for name in names:
                metric = metric_of(name)
                # An unknown column would be unbounded and neither good nor bad.
                assert metric.heading and (metric.better != "neither" or metric.bounds == (0.0, math.inf)), name


def test_headline_scores_exist():
    masks = {name for names in metric_names().values() for name in names}
    images = {"psnr_db", "ssim", "nrmse", "suv_bias", "suv_bias_percent", "cov", "reference_cov"}
    assert set(HEADLINE) <= masks | images <= masks | set(HEADLINE) and images <= set(METRICS)


@pytest.mark.parametrize(
    ("name", "title", "better"),
    [
        ("dice", "Dice", "higher"),
        ("hd95_mm", "HD95, pooled (mm)", "lower"),
        ("surface_dice_2mm", "surface Dice at 2 mm", "higher"),
        ("surface_dice_0.5mm_voxels", "surface Dice at 0.5 mm, voxel surfaces", "higher"),
        ("lesion_f1_iou0.1_many_to_one", "lesion F1, IoU ≥ 0.1, many to one", "higher"),
        ("lesion_fn_any_one_to_one", "missed lesions, any overlap, one to one", "lower"),
        ("volume_error_ml", "volume error (mL)", "nearer zero"),
        ("my_score", "my score", "neither"),
    ],
)
def test_titles_and_directions(name, title, better):
    assert (metric_of(name).title, metric_of(name).better) == (title, better)


def test_shares_end_at_one():
    for name in ("dice", "surface_dice_1mm", "lesion_sensitivity_any_many_to_one"):
        assert metric_of(name).bounds == (0.0, 1.0)
    assert all(metric.name == name for name, metric in METRICS.items())
