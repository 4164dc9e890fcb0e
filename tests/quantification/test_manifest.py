import json
from pathlib import Path

import numpy as np
import pytest

from uptake.cases import SourceFile
from uptake.core.errors import UsageError
from uptake.quantification.manifest import BundleRecord, OutputFile, plain, run_manifest


def manifest(**changes):
    given = {
        "inputs": [SourceFile("pet", "b.nii", "11"), SourceFile("ct", "a.nii", "22")],
        "outputs": [OutputFile.of("mip.png", b"png"), OutputFile.of("lesions.csv", b"")],
        "bundle": BundleRecord("small", "1", {"fold_0.safetensors": "33"}),
        "settings": {"step": np.float32(0.5), "axes": (0, 1), "flag": np.bool_(True), "limit": float("inf")},
        "versions": {"uptake": "0.1.0", "torch": "2.8.0"},
        "timings_s": {"read": 0.123456},
        "warnings": ["w"],
        "acquisition": {"half_life_s": float("nan"), "path": Path("x")},
        "started": "2024-01-01T00:00:00+00:00",
    }
    return run_manifest("case", **{**given, **changes})


def test_it_is_strict_json_and_complete():
    read = json.loads(json.dumps(manifest(), allow_nan=False))
    assert read == manifest()
    assert read["settings"] == {"step": 0.5, "axes": [0, 1], "flag": True, "limit": None}
    assert read["acquisition"] == {"half_life_s": None, "path": "x"}
    assert read["bundle"]["checksums"] == {"fold_0.safetensors": "33"}
    assert [i["role"] for i in read["inputs"]] == ["ct", "pet"]
    assert read["outputs"][0] == {
        "name": "lesions.csv",
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "size_bytes": 0,
    }
    assert read["timings_s"] == {"read": 0.1235}
    assert "Not a medical device" in read["notice"]


def test_the_gate_is_kept_whole_or_is_null():
    gate = {"light": "amber", "findings": [{"check": "units", "details": {"mm": np.float64(1.5)}}]}
    assert manifest(gate=gate)["gate"] == {"light": "amber", "findings": [{"check": "units", "details": {"mm": 1.5}}]}
    assert manifest()["gate"] is None


def test_only_time_differs_between_two_runs():
    first, second = manifest(timings_s={"read": 1.0}, started="a"), manifest(timings_s={"read": 2.0}, started="b")
    assert {key for key in first if first[key] != second[key]} == {"started", "timings_s"}


def test_nothing_but_the_case_and_its_inputs_is_needed():
    assert run_manifest("case", inputs=[])["bundle"] is None


def test_what_has_no_json_form_is_refused_by_name():
    with pytest.raises(UsageError, match=r"value\.a\[1\]: object"):
        plain({"a": [1, object()]})
    assert plain({"b": {2, 1}, 3: np.arange(2)}) == {"b": [1, 2], "3": [0, 1]}
