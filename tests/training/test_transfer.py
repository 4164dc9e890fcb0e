from __future__ import annotations

import pytest
import torch

from uptake.core.errors import CheckpointError
from uptake.networks.backbones import Architecture, build, part
from uptake.networks.promptable_unet import PROMPT_CHANNELS, PromptableUnet
from uptake.networks.unet import load_unique_state, unique_state
from uptake.training.transfer import in_channel_order, transfer, transfer_to_prompted

DESIGN = Architecture("plain", (4, 8), (1, 1))


def network(seed, design=DESIGN, inputs=2, outputs=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(design, inputs, outputs)


@pytest.mark.parametrize("kind", ["plain", "segresnet"])
def test_everything_but_the_head_is_copied_even_where_the_head_would_fit(kind):
    design = DESIGN if kind == "plain" else Architecture("segresnet", (8,), (1, 1))
    source, target = network(1, design), network(2, design)
    before = unique_state(target)
    report = transfer(target, unique_state(source), kind)
    after, given = unique_state(target), unique_state(source)
    for name in after:
        assert torch.equal(after[name], (before if part(kind, name) == "head" else given)[name])
    assert set(report.loaded) | set(report.fresh) == after.keys()
    assert report.fresh == report.unused and all(part(kind, name) == "head" for name in report.fresh)


def test_a_state_without_heads_will_do_and_a_head_for_other_labels_too():
    state = {name: one for name, one in unique_state(network(1)).items() if part("plain", name) != "head"}
    report = transfer(network(2, outputs=5), state, "plain")
    assert report.unused == () and len(report.loaded) == len(state)


def test_a_checkpoint_of_another_network_is_refused_by_the_names_that_differ_and_nothing_is_copied():
    target = network(2)
    before = unique_state(target)
    wider = unique_state(network(1, Architecture("plain", (4, 16), (1, 1))))
    with pytest.raises(CheckpointError, match=r"encoder\.stages\.1.* is \(16, 4, 3, 3, 3\) and should be \(8, 4"):
        transfer(target, wider, "plain")
    missing = unique_state(network(1))
    missing["encoder.more.weight"] = missing.pop("encoder.stages.0.0.convs.0.conv.weight")
    with pytest.raises(CheckpointError, match=r"convs\.0\.conv\.weight is missing; encoder\.more\.weight is not part"):
        transfer(target, missing, "plain")
    with pytest.raises(CheckpointError, match=r"is \(4, 1, 3, 3, 3\) and should be \(4, 2"):
        transfer(target, unique_state(network(1, inputs=1)), "plain")
    after = unique_state(target)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_a_start_for_channels_in_another_order_does_the_same_with_them(kind):
    source, target = (network(seed, Architecture(kind, (4, 8), (1, 1))) for seed in (1, 2))
    as_kept = dict(sorted(unique_state(source).items()))
    load_unique_state(target, in_channel_order(as_kept, ("pet", "ct"), ("ct", "pet")))
    x = torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(3))
    expected, found = source.eval()(x), target.eval()(x.flip(1))
    for a, b in zip(*(one if isinstance(one, (list, tuple)) else [one] for one in (expected, found)), strict=True):
        torch.testing.assert_close(b, a)
    other = target(x)
    assert not torch.allclose(other[0] if isinstance(other, (list, tuple)) else other, expected[0])


def test_a_start_for_other_channels_is_refused_by_name():
    with pytest.raises(CheckpointError, match=r"reads pet, the one to be trained ct, pet; .*--like"):
        in_channel_order(unique_state(network(1, inputs=1)), ("pet",), ("ct", "pet"))


FIRST = "encoder.stem.convs.0.conv.weight"


def prompted(features=(4, 8), blocks=(1, 1)):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return PromptableUnet(2, (8, 8, 8), features=features, blocks=blocks, reach=4.0)


def test_a_network_that_reads_prompts_takes_what_it_knows_of_images():
    state = unique_state(network(1, Architecture("residual", (4, 8), (1, 1))))
    target = prompted()
    before = {name: tensor.clone() for name, tensor in unique_state(target).items()}
    report = transfer_to_prompted(target, state, ("pet", "ct"), ("ct", "pet"))
    after = unique_state(target)
    assert after[FIRST].shape[1] == 2 + PROMPT_CHANNELS
    assert torch.equal(after[FIRST][:, :2], state[FIRST].flip(1)), "PET and CT change places"
    assert torch.equal(after[FIRST][:, 2:], before[FIRST][:, 2:]), "prompts are new to it"
    for name in set(after) - {FIRST}:
        head = ".seg_layers." in name
        assert torch.equal(after[name], (before if head else state)[name])
        assert (name in report.fresh) == head


def test_stages_of_another_width_start_fresh_and_are_named():
    state = unique_state(network(1, Architecture("residual", (4, 8), (1, 1))))
    target = prompted(features=(4, 6))
    before = {name: tensor.clone() for name, tensor in unique_state(target).items()}
    report = transfer_to_prompted(target, state, ("pet", "ct"), ("pet", "ct"))
    after = unique_state(target)
    for name in report.fresh:
        assert torch.equal(after[name], before[name])
    assert any(name.startswith("encoder.stages.1.") for name in report.fresh)
    assert all(name in report.loaded for name in after if name.startswith("encoder.stages.0."))


def test_a_first_convolution_of_another_width_is_refused():
    state = unique_state(network(1, Architecture("residual", (4, 8), (1, 1))))
    with pytest.raises(CheckpointError, match=r"first convolution is \(6, 6, 3, 3, 3\), theirs \(4, 2, 3, 3, 3\)"):
        transfer_to_prompted(prompted(features=(6, 8)), state, ("pet", "ct"), ("pet", "ct"))
