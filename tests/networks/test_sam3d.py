"""The SAM-Med3D network equals a slow literal reading of the published computation, tensor names included."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from uptake.networks.promptable import Clicks
from uptake.networks.sam3d import Sam3d
from uptake.networks.sam3d_attention import RelativeAttention

spec = importlib.util.spec_from_file_location("sam3d_reference", Path(__file__).with_name("sam3d_reference.py"))
assert spec is not None and spec.loader is not None
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)

TINY = {"patch": 4, "dim": 24, "depth": 2, "heads": 2, "global_blocks": (1,), "prompt_dim": 48, "prompt_hidden": 40}
"""Grid 3³ in windows of 5³; every part present."""


def scrambled(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Return the module with no parameter at a value that would hide a mistake (zeros, ones)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            scale = 1.0 if "rel_pos" in name or "gaussian" in name else 0.3
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def tiny(rel_pos: str, **changes) -> Sam3d:
    network = Sam3d(1, (12, 12, 12), attention_window=5, rel_pos=rel_pos, **{**TINY, **changes})
    return scrambled(network.double()).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(2, 1, 12, 12, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_published_size_has_the_published_tensors() -> None:
    with torch.device("meta"):
        network = Sam3d()
    state = network.state_dict()
    assert len(state) == 324
    assert sum(tensor.numel() for tensor in state.values()) == 100_509_616
    trained = [p.numel() for p in network.parameters() if p.requires_grad]
    assert sum(trained) == 100_509_232
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert parts == {"image_encoder": 92_924_928, "prompt_encoder": 8_668 + 384, "mask_decoder": 7_575_636}
    expected = {
        "image_encoder.pos_embed": (1, 8, 8, 8, 768),
        "image_encoder.blocks.0.attn.rel_pos_d": (27, 64),
        "image_encoder.blocks.2.attn.rel_pos_w": (15, 64),
        "image_encoder.blocks.11.mlp.lin1.weight": (3072, 768),
        "image_encoder.neck.2.weight": (384, 384, 3, 3, 3),
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (3, 128),
        "prompt_encoder.point_embeddings.1.weight": (1, 384),
        "prompt_encoder.mask_downscaling.6.weight": (384, 16, 1, 1, 1),
        "mask_decoder.mask_tokens.weight": (4, 384),
        "mask_decoder.transformer.layers.1.cross_attn_image_to_token.q_proj.weight": (192, 384),
        "mask_decoder.transformer.final_attn_token_to_image.out_proj.bias": (384,),
        "mask_decoder.output_upscaling.3.weight": (96, 48, 2, 2, 2),
        "mask_decoder.output_hypernetworks_mlps.3.layers.2.bias": (48,),
        "mask_decoder.iou_prediction_head.layers.2.weight": (4, 256),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected


@pytest.mark.parametrize("rel_pos", ["legacy", "correct"])
def test_encoder_equals_padded_windows_entry_by_entry(rel_pos: str, image: torch.Tensor) -> None:
    network = tiny(rel_pos)
    sizes = {"patch": 4, "heads": 2, "depth": 2, "window": 5, "global_blocks": (1,), "rel_pos": rel_pos}
    with torch.no_grad():
        literal = reference.encoder(network.state_dict(), image[:1], **sizes)
        ours = network.encode(image[:1])
    assert ours.shape == (1, 48, 3, 3, 3)
    torch.testing.assert_close(ours, literal, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rel_pos", ["legacy", "correct"])
def test_published_window_of_14_over_a_grid_of_8(rel_pos: str) -> None:
    attention = scrambled(RelativeAttention(24, 2, (8, 8, 8), window=14, rel_pos=rel_pos).double())
    tokens = torch.randn(1, 8, 8, 8, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    padded = tokens.new_zeros(1, 14, 14, 14, 24)
    padded[:, :8, :8, :8] = tokens
    state = {f"x.{name}": tensor for name, tensor in attention.state_dict().items()}
    with torch.no_grad():
        literal = reference.attention(state, "x", padded, 2, rel_pos, reference.relative_bias_by_tables)
        torch.testing.assert_close(attention(tokens), literal[:, :8, :8, :8], rtol=0, atol=1e-10)
        single = attention.float()(tokens.float())
    torch.testing.assert_close(single.double(), literal[:, :8, :8, :8], rtol=1e-4, atol=1e-4)


def test_large_relative_biases_do_not_overflow() -> None:
    attention = scrambled(RelativeAttention(8, 1, (3, 3, 3), window=5, rel_pos="legacy"))
    with torch.no_grad():
        attention.rel_pos_d.mul_(300), attention.rel_pos_h.mul_(300)
        found = attention(torch.randn(1, 3, 3, 3, 8, generator=torch.Generator().manual_seed(2)))
    assert torch.isfinite(found).all()


def test_gradients_pass_through_the_short_form() -> None:
    attention = scrambled(RelativeAttention(8, 2, (2, 2, 2), window=3, rel_pos="legacy").double())
    tokens = torch.randn(1, 2, 2, 2, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.autograd.gradcheck(attention, (tokens.requires_grad_(),))


@pytest.mark.parametrize("points", [0, 1, 3])
def test_prompts_and_masks_equal_the_reference(points: int, image: torch.Tensor) -> None:
    network = tiny("legacy")
    generator = torch.Generator().manual_seed(points)
    places = torch.randint(0, 12, (2, points, 3), generator=generator).double()
    kinds = torch.arange(2 * points).reshape(2, points) % 2
    memory = torch.randn(2, 1, 12, 12, 12, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        embedding = network.encode(image)
        masks, quality = reference.decoder(network.state_dict(), embedding, places, kinds, memory, window=12)
        found = network.decode(embedding, Clicks(places, kinds) if points else None, memory)
        sparse = network.prompt_encoder.points(places, kinds)
        code, dense = network.prompt_encoder.pe_layer.grid((3, 3, 3)), network.prompt_encoder.mask(memory)
        every, scores = network.mask_decoder.all_outputs(embedding, code, sparse, dense)
    assert found.memory.std() > 0.01, "a constant mask would show nothing"
    torch.testing.assert_close(found.memory, masks[:, :1], rtol=0, atol=1e-10)
    torch.testing.assert_close(every, masks, rtol=0, atol=1e-10)
    torch.testing.assert_close(scores, quality, rtol=0, atol=1e-10)


def test_logits_are_the_low_resolution_ones_interpolated(image: torch.Tensor) -> None:
    network = tiny("legacy")
    with torch.no_grad():
        found = network.decode(network.encode(image), Clicks(torch.full((2, 1, 3), 7.0), torch.ones(2, 1).long()), None)
    assert found.logits.shape == (2, 1, 12, 12, 12)
    torch.testing.assert_close(found.logits, found.memory)  # a grid of 3³ makes masks of 12³, the window's own size


def test_padding_points_of_a_batch_add_only_nothing_tokens(image: torch.Tensor) -> None:
    """Two "not a point" tokens instead of one shift no position; they are what upstream shows for padding."""
    network = tiny("legacy")
    places = torch.tensor([[[3.0, 4.0, 5.0], [9.0, 9.0, 9.0]]], dtype=torch.float64)
    with torch.no_grad():
        padded = network.prompt_encoder.points(places, torch.tensor([[1, -1]]))
        elsewhere = network.prompt_encoder.points(places.flip(1) * 0 + places[:, :1], torch.tensor([[1, -1]]))
    torch.testing.assert_close(padded, elsewhere)
    torch.testing.assert_close(padded[:, 1], padded[:, 2])


def test_boxes_need_a_network_that_knows_them() -> None:
    network = tiny("legacy")
    with pytest.raises(ValueError, match="kind 3; this network knows 2"):
        network.prompt_encoder.points(torch.zeros(1, 2, 3), torch.tensor([[2, 3]]))
    assert tiny("legacy", point_kinds=4).prompt_encoder.points(
        torch.zeros(1, 2, 3).double(), torch.tensor([[2, 3]])
    ).shape == (1, 3, 48)


def test_refining_path_starts_as_the_identity_and_then_sees_single_voxels(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = Sam3d(1, (12, 12, 12), attention_window=5, rel_pos="correct", refine=4, point_kinds=4, **TINY).double()
    clicks = Clicks(torch.tensor([[[3.0, 4.0, 5.0]]] * 2), torch.ones(2, 1).long())
    with torch.no_grad():
        plain = network.decode(network.encode(image), clicks, None)
        torch.testing.assert_close(plain.logits, plain.memory)
        network.refine.out.weight.normal_()
        refined = network.decode(network.encode(image), clicks, None)
    assert not torch.allclose(refined.logits, plain.logits)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": (4, 4, 4), "window": 3}, "does not fit a window of 3"),
        ({"grid": (4, 4, 3), "window": 6}, "cubes only"),
        ({"grid": (4, 4, 4), "window": 6, "rel_pos": "other"}, "legacy or correct"),
    ],
)
def test_attention_refuses(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RelativeAttention(8, 2, **{"rel_pos": "legacy", **change})


def test_correct_positions_work_on_any_grid() -> None:
    attention = scrambled(RelativeAttention(8, 2, (2, 3, 4), window=5, rel_pos="correct").double())
    tokens = torch.randn(1, 2, 3, 4, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    padded = tokens.new_zeros(1, 5, 5, 5, 8)
    padded[:, :2, :3, :4] = tokens
    state = {f"x.{name}": tensor for name, tensor in attention.state_dict().items()}
    with torch.no_grad():
        literal = reference.attention(state, "x", padded, 2, "correct", reference.relative_bias)[:, :2, :3, :4]
        torch.testing.assert_close(attention(tokens), literal, rtol=0, atol=1e-10)


def test_windows_must_divide_into_patches() -> None:
    with pytest.raises(ValueError, match="does not divide into patches of 16"):
        Sam3d(1, (40, 32, 32))
