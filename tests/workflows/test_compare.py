"""Methods against one another: tables of scores in, differences, tests and ranks out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.significance import holm
from uptake.io.write import write_csv
from uptake.workflows.compare import compare_methods, parse_margins
from uptake.workflows.evaluation_results import StatisticsSettings
from uptake.workflows.method_scores import Method, method_names, read_methods

QUICK = StatisticsSettings(draws=500)


def method(name, scores, **columns):
    """Return a method with one score per case c0, c1, ..."""
    rows = {}
    for n, score in enumerate(scores):
        row = {
            "case": f"c{n}",
            "patient": f"c{n}",
            "label": "lesion",
            "dice": score,
            "reference_ml": 5.0,
            "empty": "nan",
        }
        rows[f"c{n}", "lesion"] = row | {key: values[n] for key, values in columns.items()}
    return Method(name, rows)


RNG = np.random.default_rng(0)
BASE = RNG.uniform(0.4, 0.8, 30)
A = method("a", BASE)
B = method("b", BASE + RNG.normal(0.06, 0.05, 30))
C = method("c", BASE + RNG.normal(0.0, 0.004, 30))


def test_one_pair_by_scipy():
    (one,) = compare_methods([A, B], statistics=QUICK).pairs
    difference = np.array([B.rows[key]["dice"] - A.rows[key]["dice"] for key in A.rows])
    assert one.comparison.difference == pytest.approx(difference.mean())
    assert one.p_holm == one.comparison.p == pytest.approx(stats.wilcoxon(difference).pvalue)
    assert one.verdict == "b better" and (one.a, one.b) == ("a", "b")
    assert one.equivalence.margin == 0.02 and not one.equivalence.equivalent


def test_the_same_the_other_way_round():
    (one,) = compare_methods([B, A], statistics=QUICK).pairs
    assert one.comparison.difference < 0 and one.verdict == "b better"


def test_small_differences_are_equivalent_and_equal_ones_identical():
    (one,) = compare_methods([A, C], statistics=QUICK).pairs
    assert one.verdict == "equivalent within 0.02"
    (one,) = compare_methods([A, Method("d", A.rows)], statistics=QUICK).pairs
    assert one.verdict == "identical"
    shifted = method("e", BASE + np.linspace(0.004, 0.006, 30))
    (one,) = compare_methods([A, shifted], statistics=QUICK).pairs
    assert one.verdict == "e better, but equivalent within 0.02"
    few = [Method(m.name, dict(list(m.rows.items())[:4])) for m in (A, B)]
    (one,) = compare_methods(few, statistics=QUICK).pairs
    assert one.verdict == "no difference shown"


def test_three_methods_are_corrected_for_all_tests_and_ranked():
    volumes = [np.abs(RNG.normal(m, 1, 30)) for m in (5, 2, 5)]
    methods = [
        method(name, [row["dice"] for row in m.rows.values()], fp_volume_ml=v)
        for name, m, v in zip("abc", (A, B, C), volumes, strict=True)
    ]
    found = compare_methods(methods, statistics=QUICK)
    assert found.tests == len(found.pairs) == 6 and found.metrics == ("dice", "fp_volume_ml")
    np.testing.assert_allclose([one.p_holm for one in found.pairs], holm([one.comparison.p for one in found.pairs]))
    dice, volume = found.rankings["lesion", "dice"], found.rankings["lesion", "fp_volume_ml"]
    assert dice.mean_ranks.index(min(dice.mean_ranks)) == 1  # b: highest Dice
    assert volume.mean_ranks.index(min(volume.mean_ranks)) == 1  # and smallest volume
    assert [one.verdict for one in found.pairs if one.metric == "fp_volume_ml" and "b" in (one.a, one.b)] == [
        "b better"
    ] * 2


def test_undefined_scores_are_left_out_for_the_pair_and_counted():
    holes = method("h", [math.nan, math.inf, *BASE[2:]])
    (one,) = compare_methods([A, holes], statistics=QUICK).pairs
    assert (one.comparison.n, one.comparison.undefined) == (28, 2)
    nothing = method("n", [math.nan] * 30)
    found = compare_methods([A, nothing], statistics=QUICK)
    assert found.pairs == () and "share no defined score" in found.notes[0]


def test_errors_with_a_sign_are_compared_by_their_size():
    one = method("one", BASE, volume_error_ml=[-5.0] * 30)
    other = method("other", BASE, volume_error_ml=[1.0, 2.0] * 15)
    (pair,) = compare_methods([one, other], metrics=["volume_error_ml"], statistics=QUICK).pairs
    assert pair.comparison.mean_b == 5 and pair.verdict == "other better"


def test_scans_of_one_patient_are_one_difference():
    pairs = [
        method(n, s, patient=["p", "p", "q", "r"])
        for n, s in (("a", [0.1, 0.2, 0.3, 0.4]), ("b", [0.2, 0.4, 0.3, 0.5]))
    ]
    found = compare_methods(pairs, statistics=QUICK)
    assert found.pairs[0].comparison.patients == 3
    assert found.pairs[0].comparison.difference == pytest.approx((0.15 + 0 + 0.1) / 3)
    assert found.scores["lesion", "dice"].shape == (3, 2)


def test_different_scans_are_refused_and_listed_unless_common():
    fewer = Method("f", dict(list(B.rows.items())[3:]))
    with pytest.raises(InputError, match=r"f lacks 3 \(c0, c1, c2\).*--common"):
        compare_methods([A, fewer])
    found = compare_methods([A, fewer], common=True, statistics=QUICK)
    assert found.pairs[0].comparison.n == 27 and "f lacks 3 (c0, c1, c2)" in found.notes[0]
    with pytest.raises(InputError, match="share no scan"):
        compare_methods([A, Method("g", {("z", "lesion"): {}})], common=True)


def test_what_cannot_be_compared_is_refused():
    other_rule = method("o", BASE, empty=["one"] * 30)
    with pytest.raises(InputError, match="a was scored with empty = nan, o with one"):
        compare_methods([A, other_rule])
    other_reference = method("o", BASE, reference_ml=[5.0] * 29 + [6.0])
    with pytest.raises(InputError, match=r"different references: case 'c29', lesion, 5 and 6 mL"):
        compare_methods([A, other_reference])
    other_patient = method("o", BASE, patient=["z"] * 30)
    with pytest.raises(InputError, match="different patients"):
        compare_methods([A, other_patient])
    with pytest.raises(InputError, match="no score 'hd95_mm' in all tables"):
        compare_methods([A, B], metrics=["hd95_mm"])
    with pytest.raises(InputError, match="no label 'liver'"):
        compare_methods([A, B], labels=["liver"])


def test_subgroups(tmp_path):
    sheet = tmp_path / "s.csv"
    sheet.write_text("case,site\n" + "".join(f"c{n},{'east' if n < 10 else 'west'}\n" for n in range(30)))
    found = compare_methods([A, B], subgroups=sheet, statistics=QUICK)
    assert [(one.column, one.level, one.comparison.n) for one in found.subgroups] == [
        ("site", "east", 10), ("site", "west", 20),
    ]  # fmt: skip


def test_margins():
    assert parse_margins(["dice=0.05", " hd95_mm = 2"]) == {"dice": 0.05, "hd95_mm": 2.0}
    for text in ("dice", "dice=", "dice=-1", "=1", "dice=much"):
        with pytest.raises(UsageError, match="equivalence margin"):
            parse_margins([text])
    (one,) = compare_methods([A, B], margins={"dice": 0.5}, statistics=QUICK).pairs
    assert one.equivalence.equivalent and one.verdict == "b better, but equivalent within 0.5"


def test_names_tell_the_paths_apart(tmp_path):
    assert method_names([tmp_path / "x" / "scores.csv", tmp_path / "y" / "scores.csv"]) == ["x", "y"]
    assert method_names([tmp_path / "x.csv", tmp_path / "suv2.5"]) == ["x", "suv2.5"]
    assert method_names([tmp_path / "m1" / "fold_0", tmp_path / "m2" / "fold_0", tmp_path / "m3" / "z"]) == [
        "m1/fold_0", "m2/fold_0", "m3/z",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="itself"):
        method_names([tmp_path, tmp_path])


def test_tables_are_read(tmp_path):
    rows = [{"case": "a", "patient": "p", "label": "lesion", "dice": 0.5}, {"case": "b", "label": "lesion"}]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_csv(rows, tmp_path / name / "scores.csv", columns=["case", "patient", "label", "dice"])
    first, second = read_methods([tmp_path / "one", tmp_path / "two" / "scores.csv"])
    assert (first.name, second.name) == ("one", "two") and first.rows == second.rows
    assert first.rows["a", "lesion"]["patient"] == "p" and first.rows["b", "lesion"]["patient"] == "b"
    with pytest.raises(UsageError, match="two methods or more"):
        read_methods([tmp_path / "one"])
    with pytest.raises(UsageError, match="different names"):
        read_methods([tmp_path / "one", tmp_path / "two"], names=["x", "x"])
    (tmp_path / "three").mkdir()
    with pytest.raises(InputError, match=r"no table of scores.*--reference"):
        read_methods([tmp_path / "one", tmp_path / "three"])
    with pytest.raises(InputError, match="does not exist"):
        read_methods([tmp_path / "one", tmp_path / "four"])
    write_csv(rows[:1] * 2, tmp_path / "two" / "scores.csv", columns=["case", "patient", "label", "dice"])
    with pytest.raises(InputError, match="two rows of case 'a'"):
        read_methods([tmp_path / "one", tmp_path / "two"])
    (tmp_path / "two" / "scores.csv").write_text("name\nx\n")
    with pytest.raises(InputError, match="no table of scores; a row per case"):
        read_methods([tmp_path / "one", tmp_path / "two"])
