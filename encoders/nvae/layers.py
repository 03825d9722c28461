"""Weight-normalised convolutions, batch normalisation, squeeze-and-excitation, and the ways past a cell.

Shapes: N frames, C channels, H height, W width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.encoder import batch_norms
from encoders.nvae.depthwise import depthwise_convolution

NORM_OFFSET = 1e-5
_GAIN_OFFSET = 1e-2


class WeightNormConv2d(nn.Conv2d):
    """A convolution whose kernels have their length as a parameter: w = exp(g) v / (||v|| + 1e-5) (Salimans and Kingma 2016).

    The output has the input's size over the stride. Where there is a `mask` it hides parts of v, for autoregressive flows.
    """

    mask: Tensor | None

    # the parameters are those of nn.Conv2d, a mask and a gain beside them
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        mask: Tensor | None = None,
        gain: float = 1.0,
    ) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(in_channels, out_channels, kernel, stride, padding, dilation, groups, bias)
        self.register_buffer("mask", mask, persistent=False)
        self.depthwise = _is_depthwise(self)
        with torch.no_grad():
            length = self.visible().square().sum((1, 2, 3)).sqrt()
        self.log_gain = nn.Parameter(torch.log(length + _GAIN_OFFSET) + math.log(gain))

    def kernels(self) -> Tensor:
        """Return w, the kernels that the convolution applies."""
        return self.visible() * self.scale(self.lengths()).view(-1, 1, 1, 1)

    def lengths(self) -> Tensor:
        """Return ||v|| of every output channel (O,)."""
        return torch.linalg.vector_norm(self.visible(), dim=(1, 2, 3))

    def scale(self, lengths_O: Tensor) -> Tensor:
        """Return what v is multiplied by (O,), given its lengths."""
        return self.log_gain.exp() / (lengths_O + NORM_OFFSET)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if self.depthwise:
            return depthwise_convolution(x_NCHW, self.kernels())
        return self._conv_forward(x_NCHW, self.kernels(), self.bias)

    def visible(self) -> Tensor:
        """Return v, masked."""
        return self.weight if self.mask is None else self.weight * self.mask


class PlainConv2d(nn.Conv2d):
    """A convolution without bias, its kernels as they are. The output has the input's size over the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.depthwise = _is_depthwise(self)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return depthwise_convolution(x_NCHW, self.weight) if self.depthwise else super().forward(x_NCHW)


class SqueezeExcite(nn.Module):
    """Scale channels by a function of their means over the picture (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.scale = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return x_NCHW * self.scale(x_NCHW.mean((2, 3)))[:, :, None, None]


class HalvingSkip(nn.Module):
    """Go past a cell that halves the size: four 1x1 convolutions see one pixel of every 2x2 each."""

    PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        quarter = out_channels // 4
        widths = [quarter, quarter, quarter, out_channels - 3 * quarter]
        self.convolutions = nn.ModuleList(WeightNormConv2d(in_channels, width, 1) for width in widths)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCHW = F.silu(x_NCHW)
        parts = zip(self.convolutions, self.PHASES, strict=True)
        # a stride of 2 would do the same, but with few channels its backward pass on the CPU writes past its memory (torch 2.13)
        return torch.cat([convolve(x_NCHW[:, :, row::2, column::2]) for convolve, (row, column) in parts], 1)


class DoublingSkip(nn.Module):
    """Go past a cell that doubles the size: bilinear, then a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = WeightNormConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        # pixel by pixel and without bias: the same numbers as after growing, for a quarter of the work
        return F.interpolate(self.convolution(x_NCHW), scale_factor=2, mode="bilinear", align_corners=True)


def _is_depthwise(convolution: nn.Conv2d) -> bool:
    """Whether every channel has a kernel of its own, for an output of the input's size."""
    alone = convolution.groups == convolution.in_channels == convolution.out_channels and convolution.bias is None
    return alone and convolution.stride == convolution.dilation == (1, 1)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation whose statistics remember about 20 batches."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.05)


@contextmanager
def unchanged_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalisations use the batch's statistics without remembering them: for computing a forward pass again."""
    layers = batch_norms(module)
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    for layer, (_, tracked) in zip(layers, before, strict=True):
        # synchronised ones refuse to be without a count of batches, so they count in one that is thrown away
        layer.momentum, layer.num_batches_tracked = 0.0, None if tracked is None else tracked.clone()
    try:
        yield
    finally:
        for layer, (momentum, tracked) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, tracked
