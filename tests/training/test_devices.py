import pytest
import torch

from uptake.core.errors import UsageError
from uptake.training import devices
from uptake.training.devices import bf16_pays, device_name, make_fabric, resolve_device


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


def test_linux_and_torch_agree_about_bfloat16():
    flags = devices._cpu_flags()
    if flags is None:
        pytest.skip("this system does not tell what its CPU has")
    assert bool(flags & devices.BF16_FLAGS) is bf16_pays("cpu")


def test_what_the_first_core_has(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert devices._cpu_flags(file) == {"fpu", "avx2", "avx512_bf16"}
    file.write_text("processor : 0\n")
    assert devices._cpu_flags(file) is None
    assert devices._cpu_flags(tmp_path / "absent") is None


def test_a_driver_in_the_system_means_that_torch_is_asked(tmp_path):
    assert devices._no_accelerator(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not devices._no_accelerator(tmp_path)


def test_the_name_of_a_device_is_that_of_torch():
    assert device_name("cpu") == "cpu"
    assert device_name("auto") == str(resolve_device("auto"))
    with pytest.raises(UsageError, match="device 'toaster' is unknown"):
        device_name("toaster")
