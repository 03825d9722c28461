"""Stacks of convolutions as strings, one word a layer: `64k3s2` is 64 channels, a 3x3 kernel, stride 2.

Shapes: N frames, C channels, H height, W width.

Every layer pads as TensorFlow's 'same' does: by kernel - stride in all, the odd one at the bottom and right. PyTorch's
convolutions pad evenly, or have their input copied into a larger tensor first and its gradient out of one after, which is an
eighth of a training step of the reference's architecture. They do leave out what is too much at the bottom and right. So a stack
with such a layer works on the mirrored picture, where the larger margin is at the top and left, with mirrored kernels.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VECTOR = 16
"""float32 numbers in a register of AVX-512."""


class Layer(NamedTuple):
    in_channels: int
    out_channels: int
    kernel: int
    stride: int


def parse_stack(words: str, channels: int, last: int | None = None) -> list[Layer]:
    """Read a stack like `32k5s2 64k3s2`; with `last`, the final word has no channels and gives that many."""
    layers = []
    for index, word in enumerate(words.split()):
        match = re.fullmatch(r"(\d*)k(\d+)s(\d+)", word)
        is_last = last is not None and index == len(words.split()) - 1
        if match is None or (match[1] == "") != is_last:
            raise ValueError(f"'{word}' in '{words}' is no layer: write {'k3s1' if is_last else '64k3s2'} for a kernel of 3 and a stride")
        out = last if last is not None and is_last else int(match[1])
        layers.append(Layer(channels, out, int(match[2]), int(match[3])))
        if out < 1 or not 1 <= layers[-1].stride <= layers[-1].kernel:
            raise ValueError(f"'{word}' in '{words}': channels and stride must be at least 1, the kernel no smaller than the stride")
        channels = out
    if not layers:
        raise ValueError("the encoder and the decoder need at least one layer each")
    return layers


class Mirrored(nn.Sequential):
    """A stack that works on the mirrored picture: upside down and left to right."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return super().forward(x_NCHW.flip(2, 3)).flip(2, 3)


class MirroredConvolution(nn.Conv2d):
    """The 'same' convolution of a layer, for the mirrored picture."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, padding=margins(layer)[1])
        self.is_too_large = layer.stride == 1 and is_uneven(layer)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        y_NCHW = F.conv2d(x_NCHW, self.weight.flip(2, 3), self.bias, self.stride, self.padding)
        # a longer stride never reaches the window that is too much
        return y_NCHW[:, :, :-1, :-1].contiguous(memory_format=torch.channels_last) if self.is_too_large else y_NCHW


class MirroredTransposedConvolution(nn.ConvTranspose2d):
    """The adjoint of the mirrored convolution that has the same kernel, stride and larger size."""

    def __init__(self, layer: Layer) -> None:
        before, after = margins(layer)
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, padding=after, output_padding=after - before)

    def forward(self, x_NCHW: Tensor, output_size: list[int] | None = None) -> Tensor:
        kernel = self.weight.flip(2, 3)
        return F.conv_transpose2d(x_NCHW, kernel, self.bias, self.stride, self.padding, self.output_padding)  # type: ignore[arg-type]


class SubpixelConvolution(nn.ConvTranspose2d):
    """The transposed 'same' convolution of a layer whose kernel is twice its stride S, as a plain one to S^2 times the channels.

    Each of the (H + 1) (W + 1) positions between four pixels gives a block of S x S pixels (Shi et al. 2016). For a few channels this is
    several times as fast on the CPU: a picture's three fill a fifth of a vector register.
    """

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, padding=layer.stride // 2)

    def forward(self, x_NCHW: Tensor, output_size: list[int] | None = None) -> Tensor:
        (inner, outer), stride = self.weight.shape[:2], self.stride[0]
        count, _, height, width = x_NCHW.shape
        # the second half of the kernel reaches into the next block: of a block, it comes from the pixel before
        split = self.weight.view(inner, outer, 2, stride, 2, stride).flip(2, 4).permute(3, 5, 1, 0, 2, 4)
        kernel = split.reshape(-1, inner, 2, 2).contiguous(memory_format=torch.channels_last)
        assert self.bias is not None
        blocks_NHWC = F.conv2d(x_NCHW, kernel, self.bias.repeat(stride * stride), padding=1).permute(0, 2, 3, 1)
        rows = blocks_NHWC.reshape(count, height + 1, width + 1, stride, stride * outer).transpose(2, 3)
        y_NHWC = rows.reshape(count, (height + 1) * stride, (width + 1) * stride, outer)
        margin = stride // 2
        return y_NHWC[:, margin:-margin, margin:-margin].permute(0, 3, 1, 2)


def shrinks(layers: Sequence[Layer], frame_shape: Sequence[int]) -> tuple[int, int]:
    """Return height and width of what a stack makes of frames (H, W, C); raise `ValueError` where they are no multiples of its strides."""
    shrink = math.prod(layer.stride for layer in layers)
    height, width = frame_shape[:2]
    if any(size < shrink or size % shrink for size in (height, width)):
        raise ValueError(f"frame_shape {tuple(frame_shape)}: height and width must be multiples of {shrink}")
    return height // shrink, width // shrink


def finest_first(layers: nn.Sequential, x_NCHW: Tensor) -> list[Tensor]:
    """Return what a stack makes of frames at every size, after the size's last layer, the finest first; none is written into later."""
    mirrored = isinstance(layers, Mirrored)
    y_NCHW = x_NCHW.flip(2, 3) if mirrored else x_NCHW
    maps: dict[int, Tensor] = {}
    for layer in layers:
        # an activation works in place, on what is replaced here
        y_NCHW = layer(y_NCHW)
        maps[y_NCHW.shape[2]] = y_NCHW
    return [one.flip(2, 3) if mirrored else one for one in maps.values()]


def margins(layer: Layer) -> tuple[int, int]:
    """Return how many pixels a layer pads at the top and left, and how many at the bottom and right."""
    total = max(layer.kernel - layer.stride, 0)
    return total // 2, total - total // 2


def is_uneven(layer: Layer) -> bool:
    """Tell whether the margins of a layer differ."""
    before, after = margins(layer)
    return before != after


def stack(layers: list[Layer], modules: list[nn.Module | None]) -> nn.Sequential:
    """Name modules by their places, as their weights are in files; None is a place that counts and has nothing in it."""
    named = OrderedDict((str(place), module) for place, module in enumerate(modules) if module is not None)
    return Mirrored(named) if any(map(is_uneven, layers)) else nn.Sequential(named)


def convolutions(layers: list[Layer], linear_stem: bool) -> list[nn.Module | None]:
    modules: list[nn.Module | None] = []
    mirrored = any(map(is_uneven, layers))
    for index, layer in enumerate(layers):
        modules += [*_margin(layer), _convolution(layer, mirrored)]
        if index > 0 or not linear_stem:
            modules.append(nn.ReLU(inplace=True))
    return modules


def transposed(layers: list[Layer]) -> list[nn.Module | None]:
    modules: list[nn.Module | None] = []
    mirrored = any(map(is_uneven, layers))
    for layer in layers:
        # with stride 1 both kinds of convolution are the same map, and the plain one is faster
        if layer.stride == 1:
            modules += [*_margin(layer), _convolution(layer, mirrored)]
        else:
            modules += [_transposed_convolution(layer, mirrored), *_margin(layer)]
        modules.append(nn.ReLU(inplace=True))
    return modules[:-1]


def _margin(layer: Layer) -> list[None]:
    """Return the place that an uneven margin takes beside its convolution."""
    return [None] if is_uneven(layer) else []


def _convolution(layer: Layer, mirrored: bool) -> nn.Conv2d:
    if mirrored:
        return MirroredConvolution(layer)
    return nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, margins(layer)[0])


def _transposed_convolution(layer: Layer, mirrored: bool) -> nn.ConvTranspose2d:
    if mirrored:
        return MirroredTransposedConvolution(layer)
    if layer.kernel == 2 * layer.stride and 4 * layer.out_channels <= VECTOR <= layer.out_channels * layer.stride**2:
        return SubpixelConvolution(layer)
    return nn.ConvTranspose2d(layer.in_channels, layer.out_channels, layer.kernel, layer.stride, margins(layer)[0])


def initialise_as_keras(module: nn.Module) -> None:
    """Glorot-uniform kernels and zero biases: the defaults of Keras, which the reference leaves as they are."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
