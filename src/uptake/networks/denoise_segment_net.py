"""One encoder, two decoders: organs and a clean image from the same low-dose PET (LDOS).

Encoder and decoders are those of `networks.unet`, with its tensor names: ``encoder.*``, ``decoder.*`` (segmentation)
and ``denoiser.*``. Without the denoiser the network is the residual U-Net of the baseline, tensor by tensor, so that
weights go back and forth between the two and dropping the denoiser cannot move a logit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from uptake.networks.unet import ENCODERS, Triple

DENOISER = "denoiser."
"""Prefix of the tensors that segmentation alone does not need."""

NORM = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"eps": 1e-5, "affine": True}}
ACTIVATION = {"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}}


OUTPUTS = ("linear", "window", "residual")
"""What the denoising decoder's last convolution D gives. "linear": the image itself, as published; but instance norm
makes every feature blind to the mean m and deviation s of the window, so absolute uptake has to be guessed from
anatomy. "window": m + s · D. "residual": the input plus s · D. Both follow any change of brightness exactly."""

SMALLEST_DEVIATION = 1e-5


class DenoiseSegmentNet(nn.Module):
    """A shared encoder with a segmentation decoder, a denoising decoder, or both.

    Parameters
    ----------
    in_channels : int
        LDOS: 1, the low-dose PET.
    labels : int
        Output channels of the segmentation decoder, background included; 0 for none. LDOS: 19.
    denoised : int
        Output channels of the denoising decoder, linear; 0 for none. LDOS: 1.
    features, blocks : sequence of int
        Width of each stage and its residual blocks (plain: convolutions), finest first.
    encoder : str
        "residual" or "plain".
    kernels, strides : sequence of triples, optional
        Per stage (z, y, x); by default 3³ kernels, stride 1 and then 2 everywhere.
    decoder_convs : int or sequence of int
        Convolutions per decoder level, coarsest first.
    conv_bias : bool
    deep_supervision : bool
        If True each decoder gives a list, finest first, one tensor per level; if False the finest alone.
    checkpointed : int
        So many of the finest stages, of the encoder and of both decoders, keep no activations for the backward pass and
        are computed again there. Values do not change.
    output : str
        One of `OUTPUTS`.

    Notes
    -----
    InstanceNorm (affine, eps 1e-5), LeakyReLU 0.01, Kaiming-normal initialisation, as `unet`. Nothing passes between
    the decoders except through the encoder.

    References
    ----------
    arXiv 2503.03786v2, section 2.1, equations 2 to 4.
    """

    def __init__(
        self,
        in_channels: int,
        labels: int,
        *,
        denoised: int = 1,
        features: Sequence[int],
        blocks: Sequence[int],
        encoder: str = "residual",
        kernels: Sequence[Triple] | None = None,
        strides: Sequence[Triple] | None = None,
        decoder_convs: int | Sequence[int] = 1,
        conv_bias: bool = True,
        deep_supervision: bool = True,
        checkpointed: int = 0,
        output: str = "linear",
    ) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"output {output!r} is unknown; choose one of {', '.join(OUTPUTS)}")
        if encoder not in ENCODERS:
            raise ValueError(f"encoder {encoder!r} is unknown; choose one of {', '.join(ENCODERS)}")
        if not labels and not denoised:
            raise ValueError("a network without labels and without a denoised image has nothing to give")
        if len(blocks) != len(features):
            raise ValueError(f"features name {len(features)} stages, blocks {len(blocks)}")
        self.deep_supervision = deep_supervision
        self.checkpointed, self.output = checkpointed, output
        self.encoder = _encoder(in_channels, features, blocks, encoder, kernels, strides, conv_bias)
        levels = [decoder_convs] * (len(features) - 1) if isinstance(decoder_convs, int) else list(decoder_convs)
        self.decoder = _decoder(self.encoder, labels, levels) if labels else None
        self.denoiser = _decoder(self.encoder, denoised, levels) if denoised else None
        self.apply(_initialised(encoder))
        if output == "residual" and self.denoiser is not None:
            for head in self.denoiser.seg_layers:  # a correction starts at nothing
                nn.init.zeros_(head.weight)

    def forward(self, image: torch.Tensor, denoise: bool = False) -> Any:
        """Return the logits, or with `denoise` the pair (logits, images).

        Parameters
        ----------
        image : tensor (b, in_channels, z, y, x)
        denoise : bool

        Returns
        -------
        logits : list of tensors (b, labels, z, y, x), finest first, or the finest alone
            None where there is no segmentation decoder.
        images : as the logits, (b, denoised, z, y, x)
            In the units of the input.
        """
        skips = self.encoded(image)
        logits = None if self.decoder is None else self.decoded(self.decoder, skips)
        if not denoise:
            return logits
        if self.denoiser is None:
            raise ValueError("this network has no denoising decoder")
        given = self.decoded(self.denoiser, skips)
        if not self.deep_supervision:
            return logits, self._in_units(given, image)
        return logits, [self._in_units(level, image) for level in given]

    def encoded(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of every stage, finest first."""
        stem = getattr(self.encoder, "stem", None)
        here = image if stem is None else self._run(stem, image, 0)
        skips = []
        for level, stage in enumerate(self.encoder.stages):
            here = self._run(stage, here, level)
            skips.append(here)
        return skips

    def decoded(self, decoder: nn.Module, skips: Sequence[torch.Tensor]) -> Any:
        """Return what one decoder makes of the features; see `forward`."""
        here, outputs = skips[-1], []
        last = len(decoder.stages) - 1
        for level, stage in enumerate(decoder.stages):
            here = self._run(_Level(decoder.transpconvs[level], stage), (here, skips[-(level + 2)]), last - level)
            if self.deep_supervision or level == last:
                outputs.append(decoder.seg_layers[level](here))
        return outputs[::-1] if self.deep_supervision else outputs[0]

    def finest(
        self, image: torch.Tensor, *, labels: bool, denoised: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the finest (logits, images), None for what was not asked for; decoders not asked for do not run."""
        skips = self.encoded(image)
        found: list[torch.Tensor | None] = []
        for wanted, decoder, name in (
            (labels, self.decoder, "segmentation"),
            (denoised, self.denoiser, "denoising"),
        ):
            if wanted and decoder is None:
                raise ValueError(f"this network has no {name} decoder")
            given = self.decoded(decoder, skips) if wanted else None
            found.append(given[0] if isinstance(given, list) else given)
        return found[0], None if found[1] is None else self._in_units(found[1], image)

    def _in_units(self, given: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return what the denoising decoder gave at one scale as an image in the units of the input; see `OUTPUTS`."""
        if self.output == "linear":
            return given
        whole = image.float()
        mean = whole.mean((2, 3, 4), keepdim=True)
        deviation = (whole - mean).square().mean((2, 3, 4), keepdim=True).sqrt() + SMALLEST_DEVIATION
        if self.output == "window":
            return mean + deviation * given.float()
        if image.shape[2:] != given.shape[2:]:
            factors = [big // small for big, small in zip(image.shape[2:], given.shape[2:], strict=True)]
            whole = nn.functional.avg_pool3d(whole, factors)
        return whole + deviation * given.float()

    def _run(self, part: Callable[..., torch.Tensor], given: Any, level: int) -> torch.Tensor:
        """Compute one stage, without keeping its activations if it is among the finest `checkpointed`."""
        inputs = given if isinstance(given, tuple) else (given,)
        if level < self.checkpointed and self.training and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def feature_map_elements(self, window: Sequence[int]) -> int:
        """Return nnU-Net's estimate of memory: elements of all convolution outputs for one window (z, y, x).

        Its planner puts 2.1e9 into 24 GB at batch 2. ResEnc-L at 192³: 2.01e9 with one decoder, 2.62e9 with two.
        """
        parts = [self.encoder] + [part for part in (self.decoder, self.denoiser) if part is not None]
        return int(sum(part.compute_conv_feature_map_size(list(window)) for part in parts))


class SequentialNet(nn.Module):
    """Two networks in a row: the first denoises, the second finds the organs in what the first made (Fake-FDPET).

    Parameters
    ----------
    first, second : DenoiseSegmentNet
        With a denoising decoder, and with a segmentation decoder.
    """

    def __init__(self, first: DenoiseSegmentNet, second: DenoiseSegmentNet) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, image: torch.Tensor, denoise: bool = False, frozen: bool = True) -> Any:
        """Return logits, or with `denoise` the pair (logits, images), as `DenoiseSegmentNet`.

        Parameters
        ----------
        image : tensor (b, 1, z, y, x)
        denoise : bool
        frozen : bool
            If True no gradient reaches the first network through the logits; if False the logits are left out (None):
            the first network is being trained, by itself.
        """
        if not frozen:
            return self.first(image, denoise=True)
        with torch.no_grad():
            _, images = self.first(image, denoise=True)
        finest = images[0] if isinstance(images, list) else images
        logits = self.second(finest)
        return (logits, images) if denoise else logits

    def finest(
        self, image: torch.Tensor, *, labels: bool, denoised: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the finest (logits, images); the first network always runs."""
        _, images = self.first.finest(image, labels=False, denoised=True)
        assert images is not None
        logits = self.second.finest(images, labels=True, denoised=False)[0] if labels else None
        return logits, images if denoised else None


class Finest(nn.Module):
    """A view of a network, weights shared, that gives one tensor for inference.

    Parameters
    ----------
    network : DenoiseSegmentNet or SequentialNet
    labels : bool
        Give the logits of the finest level, first.
    denoised : bool
        Give the denoised image, last.
    """

    def __init__(self, network: DenoiseSegmentNet | SequentialNet, *, labels: bool, denoised: bool) -> None:
        super().__init__()
        if not labels and not denoised:
            raise ValueError("ask for labels, a denoised image, or both")
        self.network, self.labels, self.denoised = network, labels, denoised

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return (b, labels, then denoised channels, z, y, x)."""
        parts = [
            part for part in self.network.finest(image, labels=self.labels, denoised=self.denoised) if part is not None
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def without_denoiser(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors that segmentation needs: those of the baseline network, which they fit one by one."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(DENOISER)}


class _Level(nn.Module):
    """One decoder level: up, beside the skip, convolved. Made for a call; it owns nothing."""

    def __init__(self, up: nn.Module, stage: nn.Module) -> None:
        super().__init__()
        self.up, self.stage = up, stage

    def forward(self, below: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.stage(torch.cat((self.up(below), skip), dim=1))


def _encoder(
    in_channels: int,
    features: Sequence[int],
    blocks: Sequence[int],
    kind: str,
    kernels: Sequence[Triple] | None,
    strides: Sequence[Triple] | None,
    conv_bias: bool,
) -> nn.Module:
    from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
    from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder

    stages = len(features)
    build = ResidualEncoder if kind == "residual" else PlainConvEncoder
    encoder: nn.Module = build(
        in_channels,
        stages,
        list(features),
        nn.Conv3d,
        [_listed(k) for k in kernels] if kernels is not None else [[3, 3, 3]] * stages,
        [_listed(s) for s in strides] if strides is not None else [1, *[2] * (stages - 1)],
        list(blocks),
        conv_bias,
        **NORM,
        **ACTIVATION,
        return_skips=True,
    )
    return encoder


def _decoder(encoder: nn.Module, channels: int, convs: Sequence[int]) -> nn.Module:
    from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder

    decoder: nn.Module = UNetDecoder(encoder, channels, list(convs), True)
    # The library lists the encoder a second time under the decoder. Two decoders would list it three times; here it
    # stays a plain attribute, which its estimate of memory reads.
    del decoder._modules["encoder"]
    decoder.__dict__["encoder"] = encoder
    return decoder


def _initialised(kind: str) -> Callable[[nn.Module], None]:
    """Return what `apply` does to each module: Kaiming for LeakyReLU 0.01; residual blocks start as the identity."""
    from dynamic_network_architectures.building_blocks.residual import BasicBlockD
    from dynamic_network_architectures.initialization.weight_init import InitWeights_He

    he = InitWeights_He(1e-2)

    def initialise(module: nn.Module) -> None:
        he(module)
        if kind == "residual" and isinstance(module, BasicBlockD):
            nn.init.zeros_(module.conv2.norm.weight)
            nn.init.zeros_(module.conv2.norm.bias)

    return initialise


def _listed(value: Triple) -> int | list[int]:
    return value if isinstance(value, int) else list(value)
