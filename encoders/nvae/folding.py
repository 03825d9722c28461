"""What a frozen NVAE encodes with: its weight and batch normalisations folded into plain convolutions.

Shapes: O output channels, I input channels, H height, W width of kernels.
"""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from encoders.nvae.layers import PlainConv2d, WeightNormConv2d

Network = TypeVar("Network", bound=nn.Module)


class FoldedCopy(Generic[Network]):
    """A copy of a network in evaluation mode that gives the same but for rounding; `needless` parts of it are left out."""

    def __init__(self, network: Network, needless: list[nn.Module]) -> None:
        self._sources = [*network.parameters(), *network.buffers()]
        self._versions = _versions(self._sources)
        with torch.inference_mode(False), torch.no_grad():
            self.network = copy.deepcopy(network, {id(part): nn.Identity() for part in needless}).requires_grad_(False)
            _fold(self.network)

    def is_current(self) -> bool:
        """Whether no weight has been written to since; who replaces the tensors themselves drops the copy."""
        return _versions(self._sources) == self._versions


def _versions(tensors: list[Tensor]) -> list[int]:
    return [tensor._version for tensor in tensors]


def _fold(network: nn.Module) -> None:
    for name, part in list(network.named_children()):
        if isinstance(part, nn.Sequential):
            part = nn.Sequential(*_folded(part))
        elif isinstance(part, (WeightNormConv2d, PlainConv2d)):
            part = _plain(part)
        setattr(network, name, part)
        _fold(part)


def _folded(layers: nn.Sequential) -> list[nn.Module]:
    """Return layers that do the same, without the batch normalisations right after a convolution or before one of 1x1."""
    folded: list[nn.Module] = []
    for layer in layers:
        before = folded[-1] if folded else None
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and isinstance(before, nn.Conv2d):
            scale_O, shift_O = _scale_and_shift(layer)
            before.weight.mul_(scale_O[:, None, None, None])
            _bias(before).mul_(scale_O).add_(shift_O)
            continue
        following = _plain(layer) if isinstance(layer, (WeightNormConv2d, PlainConv2d)) else layer
        if isinstance(before, nn.modules.batchnorm._BatchNorm) and isinstance(following, nn.Conv2d) and following.kernel_size == (1, 1):
            scale_I, shift_I = _scale_and_shift(before)
            _bias(following).add_(following.weight[:, :, 0, 0] @ shift_I)
            following.weight.mul_(scale_I[:, None, None])
            folded.pop()
        folded.append(following)
    return folded


def _plain(convolution: WeightNormConv2d | PlainConv2d) -> nn.Conv2d:
    """Return a plain convolution with the same kernels and a bias."""
    one = convolution
    sizes = (one.in_channels, one.out_channels, one.kernel_size, one.stride, one.padding, one.dilation, one.groups)
    kernels_OIHW = one.kernels() if isinstance(one, WeightNormConv2d) else one.weight.clone()
    bias_O = kernels_OIHW.new_zeros(one.out_channels) if one.bias is None else one.bias.clone()
    plain = nn.utils.skip_init(nn.Conv2d, *sizes, device=kernels_OIHW.device, dtype=kernels_OIHW.dtype)
    plain.weight, plain.bias = (nn.Parameter(tensor, requires_grad=False) for tensor in (kernels_OIHW, bias_O))
    return plain


def _scale_and_shift(layer: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Return what a batch normalisation multiplies by and adds in evaluation, a channel."""
    mean, variance = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
    scale = layer.weight / (variance + layer.eps).sqrt()
    return scale, layer.bias - mean * scale


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
