import pytest
import torch

from uptake.core.errors import UsageError
from uptake.training import devices
from uptake.training.devices import bf16_pays, make_fabric, resolve_device


def test_the_cpu_is_taken_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")


def test_an_unknown_device_is_refused():
    with pytest.raises(UsageError, match="device 'toaster' is unknown; choose auto, cpu, cuda"):
        resolve_device("toaster")


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:3", 2)])
def test_a_gpu_that_is_not_there_is_refused(monkeypatch, name, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(UsageError, match=f"device '{name}' is not there: this machine shows {count} CUDA devices"):
        resolve_device(name)


def test_mps_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device 'mps' is not there"):
        resolve_device("mps")


def test_an_unknown_precision_is_refused():
    with pytest.raises(UsageError, match="precision 'int4' is unknown; choose one of auto, 32-true"):
        make_fabric("cpu", "int4")


@pytest.mark.parametrize(("pays", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_precision_follows_the_hardware(monkeypatch, pays, precision):
    monkeypatch.setattr(devices, "bf16_pays", lambda _: pays)
    fabric = make_fabric("cpu", "auto")
    assert fabric.device == torch.device("cpu")
    assert fabric._precision.precision == precision


@pytest.mark.parametrize(
    ("capabilities", "pays"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True, "avx512_f": True}, False)],
)
def test_bfloat16_pays_where_the_cpu_multiplies_in_it(monkeypatch, capabilities, pays):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert bf16_pays(torch.device("cpu")) is pays


def test_bfloat16_pays_on_no_other_device():
    assert bf16_pays(torch.device("meta")) is False
