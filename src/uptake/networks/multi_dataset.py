"""One body for many datasets: a stem for each number of input channels, heads for each set of labels.

LesionTracer's weights come from such a network (MultiTalent style): every dataset enters by a first convolution of its
own and leaves by 1³ convolutions of its own; encoder and decoder between them are shared. Tensor names are those of the
published checkpoint, ``encoder.stem.<dataset>.convs.0…``, so that `zoo.nnunet.with_stem` cuts one dataset's stem out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from uptake.networks.unet import Triple, unet


class MultiDatasetUNet(nn.Module):
    """A residual-encoder U-Net with stems and heads by name.

    Attributes
    ----------
    encoder, decoder : nn.Module
        As nnU-Net builds them; ``encoder.stem`` and ``decoder.seg_layers`` hold one entry per name.
    """

    def __init__(self, body: nn.Module, stems: Mapping[str, nn.Module], heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder, self.decoder = body.encoder, body.decoder
        self.encoder.stem = nn.ModuleDict(stems)
        self.decoder.seg_layers = nn.ModuleDict(heads)

    def forward(
        self, samples: Sequence[torch.Tensor], stems: Sequence[str], heads: Sequence[str]
    ) -> list[list[torch.Tensor]]:
        """Return the logits of each sample, finest first.

        Parameters
        ----------
        samples : sequence of tensors (c, z, y, x)
            Windows of one size; each with the channels of its dataset.
        stems, heads : sequence of str
            By which stem each sample enters and by which heads it leaves.

        Returns
        -------
        list (samples) of list (levels) of tensors (1, k, z, y, x)

        Notes
        -----
        Instance norm looks at one sample at a time, so the shared body takes the whole batch at once.
        """
        stage = torch.cat([self.encoder.stem[name](one[None]) for one, name in zip(samples, stems, strict=True)])
        skips = []
        for part in self.encoder.stages:
            stage = part(stage)
            skips.append(stage)
        found: list[list[torch.Tensor]] = [[] for _ in samples]
        lowest = skips[-1]
        for level, part in enumerate(self.decoder.stages):
            lowest = part(torch.cat((self.decoder.transpconvs[level](lowest), skips[-(level + 2)]), dim=1))
            for number, name in enumerate(heads):
                found[number].insert(0, self.decoder.seg_layers[name][level](lowest[number : number + 1]))
        # Stems and heads of the other datasets take part with weight 0: data-parallel training waits for the gradient
        # of every parameter.
        idle = [p.sum() for name, m in self.encoder.stem.items() if name not in stems for p in m.parameters()]
        idle += [p.sum() for name, m in self.decoder.seg_layers.items() if name not in heads for p in m.parameters()]
        if idle and torch.is_grad_enabled():
            found[0][0] = found[0][0] + 0.0 * torch.stack(idle).sum()
        return found


def multi_dataset_unet(
    channels: Mapping[str, int],
    labels: Mapping[str, int],
    *,
    features: Sequence[int],
    blocks: Sequence[int],
    kernels: Sequence[Triple] | None = None,
    strides: Sequence[Triple] | None = None,
    decoder_convs: int | Sequence[int] = 1,
    conv_bias: bool = True,
) -> MultiDatasetUNet:
    """Return a freshly initialised network with a stem per entry of `channels` and heads per entry of `labels`.

    Parameters
    ----------
    channels : mapping
        Stem -> input channels.
    labels : mapping
        Head -> classes, background included. Several heads may serve one stem.
    features, blocks, kernels, strides, decoder_convs, conv_bias
        As in `unet.unet`; the encoder is the residual one, the only kind with a stem of its own.

    Raises
    ------
    ValueError
        If there is no stem, no head, or a head without a class.
    """
    from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks

    if not channels or not labels or min(labels.values()) < 2:
        raise ValueError(f"stems {dict(channels)} and heads {dict(labels)}: one of each, two classes or more per head")
    body = unet(
        next(iter(channels.values())),
        next(iter(labels.values())),
        features=features,
        blocks=blocks,
        kernels=kernels,
        strides=strides,
        decoder_convs=decoder_convs,
        conv_bias=conv_bias,
    )
    encoder = body.encoder
    stems = {
        name: StackedConvBlocks(
            1,
            encoder.conv_op,
            count,
            features[0],
            encoder.kernel_sizes[0],
            1,
            encoder.conv_bias,
            encoder.norm_op,
            encoder.norm_op_kwargs,
            None,
            None,
            encoder.nonlin,
            encoder.nonlin_kwargs,
        ).apply(body.initialize)
        for name, count in channels.items()
    }
    widths = [head.in_channels for head in body.decoder.seg_layers]
    heads = {
        name: nn.ModuleList(nn.Conv3d(width, count, 1, bias=True) for width in widths).apply(body.initialize)
        for name, count in labels.items()
    }
    return MultiDatasetUNet(body, stems, heads)
