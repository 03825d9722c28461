"""The networks of critic-guided segmentation (Melnik et al. 2021, arXiv 2107.09540).

    trunk   4 x [conv 3x3, maximum of 2x2, ReLU] -> maps of half, a quarter, an eighth and a sixteenth of the size -> conv -> bottleneck
    value   bottleneck -> linear, ReLU -> linear -> sigmoid
    mask    bottleneck -> conv 1x1 -> [up, beside the map of that size, conv 3x3] x 4 -> up, beside the frame, conv 3x3, leaky ReLU,
            conv 3x3 -> sigmoid

Drop-out follows the third and the fourth map and the value's hidden layer. Skipped maps come before it.

Shapes: N frames, C channels, H height, W width.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Size = tuple[int, int]

_FIRST_DROPPED = 2
_HIDDEN = 16
_MOST_POSITIONS = 4


class Trunk(nn.Module):
    """Turn frames into maps, finest first, and a bottleneck (N, 32 f, 1, 1).

    With `given` channels the maps are another model's, and only the bottleneck is its own.
    """

    def __init__(self, channels: int, size: Size, factor: int, dropout: float, given: Sequence[int] = ()) -> None:
        super().__init__()
        widths = list(given) or [8 * factor, 8 * factor, 8 * factor, 16 * factor]
        inputs = [] if given else [channels, *widths[:-1]]
        self.convolutions = nn.ModuleList(nn.Conv2d(inner, outer, 3, padding=1) for inner, outer in zip(inputs, widths, strict=False))
        self.pooled = (min(size[0], _MOST_POSITIONS), min(size[1], _MOST_POSITIONS)) if given else size
        self.to_bottleneck = nn.Conv2d(widths[-1], 32 * factor, self.pooled)
        self.widths, self.dropout = widths, dropout

    def lower(self, x_NCHW: Tensor) -> list[Tensor]:
        """Return the maps that come before any drop-out."""
        return self._go_on([], x_NCHW, self.convolutions[: _FIRST_DROPPED + 1])

    def upper(self, maps: list[Tensor], noisy: bool) -> tuple[list[Tensor], Tensor]:
        """Return all maps, and the bottleneck, from the lower ones; `noisy` with drop-out."""
        x_NCHW = F.dropout(maps[-1], self.dropout, noisy)
        if len(self.convolutions):
            maps = self._go_on(maps, x_NCHW, self.convolutions[_FIRST_DROPPED + 1 :])
            x_NCHW = F.dropout(maps[-1], self.dropout, noisy)
        elif x_NCHW.shape[2:] != self.pooled:
            x_NCHW = F.adaptive_avg_pool2d(x_NCHW, self.pooled)
        return maps, F.relu(self.to_bottleneck(x_NCHW))

    def _go_on(self, maps: list[Tensor], x_NCHW: Tensor, layers: nn.ModuleList) -> list[Tensor]:
        maps = list(maps)
        for layer in layers:
            # the maximum of what is rectified is the rectified maximum, of a quarter as many numbers
            x_NCHW = F.relu_(F.max_pool2d(layer(x_NCHW), 2))
            maps.append(x_NCHW)
        return maps


class ValueHead(nn.Module):
    """Turn a bottleneck into the logit (N,) of the value."""

    def __init__(self, factor: int, dropout: float) -> None:
        super().__init__()
        self.hidden, self.output, self.dropout = nn.Linear(32 * factor, 32 * factor), nn.Linear(32 * factor, 1), dropout

    def forward(self, bottleneck: Tensor, noisy: bool = False) -> Tensor:
        hidden = F.dropout(F.relu(self.hidden(bottleneck.flatten(1))), self.dropout, noisy)
        return at_least_float32(self.output(hidden).squeeze(1))


class MaskDecoder(nn.Module):
    """Turn a trunk's maps, its bottleneck and the frames into masks (N, H, W) in [0, 1]."""

    def __init__(self, widths: Sequence[int], sizes: Sequence[Size], frame_channels: int, factor: int) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.start = nn.Conv2d(32 * factor, 32 * factor, 1)
        outer = [8 * factor] * (len(widths) - 1) + [16 * factor]
        inner = [*outer[1:], 32 * factor]
        # finest first, as the maps are
        self.merges = nn.ModuleList(
            nn.Conv2d(skipped + below, out, 3, padding=1) for skipped, below, out in zip(widths, inner, outer, strict=True)
        )
        self.hidden = nn.Conv2d(frame_channels + outer[0], _HIDDEN, 3, padding=1)
        self.output = OneChannelConvolution(_HIDDEN, 1, 3, padding=1)

    def forward(self, maps: Sequence[Tensor], bottleneck: Tensor, x_NCHW: Tensor) -> Tensor:
        y_NCHW = self.start(bottleneck)
        for skipped, size, merge in zip(reversed(maps), reversed(self.sizes), reversed(self.merges), strict=True):
            y_NCHW = merge(torch.cat([skipped, F.interpolate(y_NCHW, size)], 1))
        y_NCHW = self.hidden(torch.cat([x_NCHW, F.interpolate(y_NCHW, x_NCHW.shape[2:])], 1))
        return torch.sigmoid(at_least_float32(self.output(F.leaky_relu_(y_NCHW, 0.01)))).squeeze(1)


def at_least_float32(x: Tensor) -> Tensor:
    """Return numbers of 16 bits, as autocast leaves them, in float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class OneChannelConvolution(nn.Conv2d):
    """A 3x3 convolution to one channel. Without gradient on the CPU, it is one matrix product for its nine taps and their shifted sum.

    One channel fills a sixteenth of a vector register: so it takes a third of the time.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x_NCHW.device.type != "cpu":
            return super().forward(x_NCHW)
        count, channels, height, width = x_NCHW.shape
        rows = x_NCHW.permute(0, 2, 3, 1).reshape(-1, channels)
        taps = (self.weight.view(channels, 9).T @ rows.T).view(3, 3, count, height, width)
        assert self.bias is not None
        total = taps[1, 1] + self.bias
        for row, column in itertools.product((-1, 0, 1), repeat=2):
            if row or column:
                (down, from_above), (right, from_left) = _overlap(row, height), _overlap(column, width)
                total[:, down, right] += taps[1 + row, 1 + column][:, from_above, from_left]
        return total.unsqueeze(1)


def _overlap(by: int, size: int) -> tuple[slice, slice]:
    """Return which of `size` pixels have a neighbour `by` pixels on, and those neighbours."""
    return slice(max(0, -by), size - max(0, by)), slice(max(0, by), size + min(0, by))
