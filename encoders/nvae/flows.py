"""Inverse autoregressive flows that keep the volume (Kingma et al. 2016): z' = z - m(z), where m of an element sees only those before it.

Shapes: N frames, Z latent channels, H height, W width. The order is that of a page, row by row, and of channels within a pixel.
"""

import torch
from torch import Tensor, nn

from encoders.nvae.layers import WeightNormConv2d

WIDENING = 6
_LAST_GAIN = 0.1


class Flow(nn.Module):
    """One pair of steps, one in the order of a page and one from its end; neither changes the density's volume.

    54,560 parameters for 20 channels. The last layers start a tenth as large, so that a new flow changes little.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.forth, self.back = _autoregressive(channels, mirrored=False), _autoregressive(channels, mirrored=True)

    def forward(self, z_NZHW: Tensor) -> Tensor:
        """Turn a sample of the base density into one of the flow's, of the same log density."""
        z_NZHW = z_NZHW - self.forth(z_NZHW).to(z_NZHW.dtype)
        return z_NZHW - self.back(z_NZHW).to(z_NZHW.dtype)


def _autoregressive(channels: int, mirrored: bool) -> nn.Sequential:
    """Return m: every latent channel has a block of hidden channels that see what comes before it, and no more."""
    wide = WIDENING * channels
    return nn.Sequential(
        WeightNormConv2d(channels, wide, 3, bias=False, mask=_mask(wide, channels, 3, channels, mirrored, own=False)),
        nn.ELU(),
        WeightNormConv2d(wide, wide, 5, groups=wide, bias=False, mask=_mask(wide, 1, 5, 1, mirrored, own=True)),
        nn.ELU(),
        WeightNormConv2d(wide, channels, 1, mask=_mask(channels, wide, 1, channels, mirrored, own=True), gain=_LAST_GAIN),
    )


def _mask(out_channels: int, in_channels: int, kernel: int, blocks: int, mirrored: bool, own: bool) -> Tensor:
    """Return 1 where a kernel (out, in, kernel, kernel) may look: pixels before, and in the pixel itself blocks before, or its own."""
    mask = torch.zeros(out_channels, in_channels, kernel * kernel)
    centre = kernel * kernel // 2
    mask[:, :, :centre] = 1
    out_block = torch.arange(out_channels) * blocks // out_channels
    in_block = torch.arange(in_channels) * blocks // in_channels
    mask[:, :, centre] = (out_block[:, None] >= in_block + (0 if own else 1)).to(mask.dtype)
    mask = mask.unflatten(2, (kernel, kernel))
    return mask.flip((0, 1, 2, 3)) if mirrored else mask
