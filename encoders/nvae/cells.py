"""Residual cells: x + 0.1 branch(x), of three shapes: the same size, half of it (bottom-up), twice it (top-down).

The branches, by the name that `cells` puts together of the bottom-up and the top-down kind:

    res       BN, swish, conv 3x3, BN, swish, conv 3x3; res53, res35, res55: a 5 stands for conv 5x5 of dilation 2
    bnelu     the same with ELU; elu: the same with ELU and without BN
    mbconv    BN, 1x1 to e C, BN, swish, depthwise 5x5, BN, swish, 1x1, BN; sep11: 11x11; den: 8 groups instead of depthwise

res_mbconv is the paper's choice: regular convolutions bottom-up, depthwise ones with e = 6 (3 outside the latents' scales) top-down.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from encoders.nvae.hyperparameters import NVAEHyperparameters
from encoders.nvae.layers import DoublingSkip, HalvingSkip, PlainConv2d, SqueezeExcite, WeightNormConv2d, batch_norm, unchanged_statistics

BRANCH_SCALE = 0.1


class _Regular(NamedTuple):
    """Two weight-normalised convolutions, each after a normalisation and an activation."""

    kernels: tuple[int, int] = (3, 3)
    activation: type[nn.Module] = nn.SiLU
    normalised: bool = True

    def layers(self, in_channels: int, out_channels: int, expansion: int, stride: int, grow: list[nn.Module]) -> list[nn.Module]:
        layers = list(grow)
        for index, kernel in enumerate(self.kernels):
            channels = out_channels if index else in_channels
            layers += [batch_norm(channels)] if self.normalised else []
            dilation = 2 if kernel == 5 else 1
            convolution = WeightNormConv2d(channels, out_channels, kernel, stride=1 if index else stride, dilation=dilation)
            layers += [self.activation(), convolution]
        return layers


class _Separable(NamedTuple):
    """A wide depthwise, or grouped, convolution between two 1x1 ones; normalised instead of weight-normalised."""

    kernel: int = 5
    groups: int | None = None

    def layers(self, in_channels: int, out_channels: int, expansion: int, stride: int, grow: list[nn.Module]) -> list[nn.Module]:
        wide = expansion * in_channels
        middle = PlainConv2d(wide, wide, self.kernel, stride=stride, groups=self.groups or wide)
        return [
            batch_norm(in_channels),
            PlainConv2d(in_channels, wide, 1),
            batch_norm(wide),
            nn.SiLU(),
            # what comes before works pixel by pixel: the same numbers as after growing, for a quarter of the work
            *grow,
            middle,
            batch_norm(wide),
            nn.SiLU(),
            PlainConv2d(wide, out_channels, 1),
            batch_norm(out_channels),
        ]


_KINDS: dict[str, tuple[_Regular | _Separable, _Regular | _Separable]] = {
    "res_mbconv": (_Regular(), _Separable()),
    "res_elu": (_Regular(activation=nn.ELU, normalised=False), _Regular(activation=nn.ELU, normalised=False)),
    "res_bnelu": (_Regular(activation=nn.ELU), _Regular(activation=nn.ELU)),
    "res_bnswish": (_Regular(), _Regular()),
    "mbconv_sep": (_Separable(), _Separable()),
    "mbconv_sep11": (_Separable(11), _Separable(11)),
    "res53_mbconv": (_Regular((5, 3)), _Separable()),
    "res35_mbconv": (_Regular((3, 5)), _Separable()),
    "res55_mbconv": (_Regular((5, 5)), _Separable()),
    "mbconv_res": (_Separable(), _Regular()),
    "mbconv_den": (_Separable(groups=8), _Separable(groups=8)),
}


class Cell(nn.Module):
    """A residual cell; with `checkpointed`, its inside is computed again in the backward pass instead of being kept."""

    def __init__(self, skip: nn.Module, branch: list[nn.Module], checkpointed: bool) -> None:
        super().__init__()
        self.skip, self.branch = skip, nn.Sequential(*branch)
        self.checkpointed = checkpointed

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if self.checkpointed and self.training and torch.is_grad_enabled():
            again = partial(_contexts, self)
            return checkpoint(self._forward, x_NCHW, use_reentrant=False, preserve_rng_state=False, context_fn=again)
        return self._forward(x_NCHW)

    def _forward(self, x_NCHW: Tensor) -> Tensor:
        return torch.add(self.skip(x_NCHW), self.branch(x_NCHW), alpha=BRANCH_SCALE)


def bottom_up_cell(h: NVAEHyperparameters, channels: int, *, half: bool = False, expansion: int = 6) -> Cell:
    """Return a cell of the encoder; `half` halves the size and doubles the channels."""
    kind, _ = _KINDS[h.cells]
    out = 2 * channels if half else channels
    skip = HalvingSkip(channels, out) if half else nn.Identity()
    return Cell(skip, kind.layers(channels, out, expansion, 2 if half else 1, []) + _excited(h, out), h.checkpoint_activations)


def top_down_cell(h: NVAEHyperparameters, channels: int, *, double: bool = False, expansion: int = 6) -> Cell:
    """Return a cell of the decoder; `double` doubles the size and halves the channels."""
    _, kind = _KINDS[h.cells]
    out = channels // 2 if double else channels
    skip = DoublingSkip(channels, out) if double else nn.Identity()
    grow: list[nn.Module] = [nn.Upsample(scale_factor=2)] if double else []
    return Cell(skip, kind.layers(channels, out, expansion, 1, grow) + _excited(h, out), h.checkpoint_activations)


def _excited(h: NVAEHyperparameters, channels: int) -> list[nn.Module]:
    return [SqueezeExcite(channels)] if h.squeeze_excite else []


def _contexts(cell: Cell) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), unchanged_statistics(cell)
