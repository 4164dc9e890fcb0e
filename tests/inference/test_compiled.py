import gc
import weakref

import pytest
import torch

from uptake.core.errors import UsageError
from uptake.inference import compiled as module
from uptake.inference.compiled import compiled, compiled_once, forget, release, resolve_engine
from uptake.networks.unet import unet

CPU = torch.device("cpu")


def network():
    torch.manual_seed(0)
    built = unet(2, 2, features=(4, 8), blocks=(1, 1), deep_supervision=False).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built


def test_openvino_gives_the_logits_of_torch_on_another_window_than_it_was_traced_on():
    pytest.importorskip("openvino")
    net = network()
    predictor = compiled(net, channels=2, window=(16, 8, 12), smallest=(4, 4, 4), dtype=torch.float32)
    batch = torch.randn(2, 2, 16, 8, 12, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(predictor(batch), net(batch), atol=1e-3, rtol=1e-3)


def test_an_earlier_result_is_not_overwritten_by_a_later_call():
    pytest.importorskip("openvino")
    predictor = compiled(network(), channels=2, window=(8, 8, 8), smallest=(4, 4, 4), dtype=torch.float32)
    first = predictor(torch.ones(1, 2, 8, 8, 8).cumsum(2))
    kept = first.clone()
    predictor(-torch.ones(1, 2, 8, 8, 8).cumsum(3))
    assert torch.equal(first, kept)


def test_released_working_memory_is_taken_again_with_the_same_logits():
    pytest.importorskip("openvino")
    owner = network()
    facts = {"channels": 2, "window": (8, 8, 8), "smallest": (4, 4, 4), "dtype": torch.float32}
    predictor = compiled_once(owner, "a", lambda: owner, **facts)
    x = torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(2))
    before = predictor(x)
    release(owner)
    assert torch.equal(predictor(x), before)
    assert compiled_once(owner, "a", lambda: owner, **facts) is predictor
    release(network())  # of one that was never compiled: nothing to free


def test_auto_takes_openvino_on_cpus_where_it_loads(monkeypatch):
    monkeypatch.setattr(module, "_why_not_openvino", lambda: None)
    assert resolve_engine("auto", CPU) == "openvino"
    assert resolve_engine("auto", torch.device("cuda")) == "torch"
    assert resolve_engine("torch", CPU) == "torch"


def test_auto_takes_torch_where_openvino_is_not_installed(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert resolve_engine("auto", CPU) == "torch"
    with pytest.raises(UsageError, match=r"not installed.*uptake\[cpu\]"):
        resolve_engine("openvino", CPU)


def test_a_broken_openvino_is_passed_over_by_auto_and_named_when_asked_for(monkeypatch):
    def broken(name):
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(module.importlib, "import_module", broken)
    assert resolve_engine("auto", CPU) == "torch"
    with pytest.raises(UsageError, match="libtbb"):
        resolve_engine("openvino", CPU)


@pytest.mark.parametrize(("engine", "device"), [("tensorrt", "cpu"), ("openvino", "cuda")])
def test_an_engine_that_cannot_run_is_refused(engine, device):
    with pytest.raises(UsageError, match=engine):
        resolve_engine(engine, torch.device(device))


def test_a_network_is_compiled_once_and_anew_when_its_weights_change(monkeypatch):
    made = []

    def fake(net, **options):
        made.append((net, options))
        return lambda batch: batch

    monkeypatch.setattr(module, "compiled", fake)
    owner = network()
    facts = {"channels": 2, "window": (8, 8, 8), "smallest": (4, 4, 4), "dtype": torch.float32}
    first = compiled_once(owner, "a", lambda: owner, **facts)
    assert compiled_once(owner, "a", lambda: pytest.fail("was built again"), **facts) is first
    assert compiled_once(owner, "b", lambda: owner, **facts) is not first
    assert compiled_once(owner, "a", lambda: owner, **{**facts, "dtype": torch.bfloat16}) is not first
    assert len(made) == 3
    with torch.no_grad():
        next(owner.parameters()).add_(1.0)
    second = compiled_once(owner, "a", lambda: owner, **facts)
    assert second is not first
    forget(owner)
    assert compiled_once(owner, "a", lambda: owner, **facts) is not second
    forget(network())  # of one that was never compiled: nothing to drop


def test_a_program_lives_no_longer_than_its_network(monkeypatch):
    monkeypatch.setattr(module, "compiled", lambda net, **options: lambda batch: batch)
    owner = network()
    compiled_once(owner, "a", network, channels=2, window=(8, 8, 8), smallest=(4, 4, 4), dtype=torch.float32)
    assert owner in module._PROGRAMS
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
