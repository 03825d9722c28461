"""What keeps an NVAE stable: the spectral norms of all convolutions, and the gains of all batch normalisations.

Shapes: K convolutions of one shape, O output channels, R input channels times kernel size.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from encoders.encoder import batch_norms
from encoders.nvae.layers import NORM_OFFSET, WeightNormConv2d

FIRST_ITERATIONS = 40
ITERATIONS = 4
_SMALLEST_LENGTH = 1e-12


class SpectralNorms(nn.Module):
    """Estimate the largest singular value of every convolution's kernels, as a matrix (O, R), by power iteration (Yoshida and Miyato 2017).

    Convolutions of one shape are iterated together. The vectors are buffers: they are saved, and go on from step to step.
    """

    def __init__(self, convolutions: list[nn.Conv2d]) -> None:
        super().__init__()
        for (rows, columns), count in Counter(map(_shape, convolutions)).items():
            self.register_buffer(f"left_{rows}x{columns}", F.normalize(torch.randn(count, rows), dim=1))
            self.register_buffer(f"right_{rows}x{columns}", F.normalize(torch.randn(count, columns), dim=1))

    def forward(self, convolutions: list[nn.Conv2d], iterations: int) -> Tensor:
        """Return the sum of the norms, after `iterations` more; gradients reach the kernels and pass by the vectors."""
        stacks: dict[tuple[int, int], list[nn.Conv2d]] = {}
        for convolution in convolutions:
            stacks.setdefault(_shape(convolution), []).append(convolution)
        norms = [norm for shape, stack in stacks.items() for norm in self._norms(shape, stack, iterations)]
        return torch.cat(norms).sum()

    def _norms(self, shape: tuple[int, int], stack: list[nn.Conv2d], iterations: int) -> Iterator[Tensor]:
        """Yield the norms of convolutions of one shape (K,): of all at once, or on a CPU one by one, each within its cache."""
        left_KO, right_KR = (self.get_buffer(f"{side}_{shape[0]}x{shape[1]}") for side in ("left", "right"))
        size = 1 if left_KO.device.type == "cpu" else len(stack)
        for start in range(0, len(stack), size):
            part = slice(start, start + size)
            yield bilinear(stack[part], left_KO[part], right_KR[part], iterations)


class _Bilinear(torch.autograd.Function):
    """u^T W r for each of K matrices (K,), where W is rows v (K, O, R) times their scales s (K, O); u and r are constants.

    `products` are v r (K, O). A row may have its scale from its own length: `pulls` (K, O) are the derivatives of the scales in the
    lengths over the lengths, and 0 elsewhere. The gradient in v, u s r^T and u (v r) `pulls` times v, is written at once: autograd
    would pass over memory as large as all kernels four more times.
    """

    @staticmethod
    def forward(ctx: Any, rows_KOR: Tensor, scales_KO: Tensor, pulls_KO: Tensor, products_KO: Tensor, u_KO: Tensor, r_KR: Tensor) -> Tensor:
        # the vectors' buffers change in the next step: the gradient is that of now
        ctx.save_for_backward(rows_KOR, scales_KO, pulls_KO, products_KO, u_KO, r_KR)
        return (u_KO * scales_KO * products_KO).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, from_above_K: Tensor) -> tuple[Tensor | None, ...]:
        rows_KOR, scales_KO, pulls_KO, products_KO, u_KO, r_KR = ctx.saved_tensors
        to_left_KO = from_above_K[:, None] * u_KO
        to_scales_KO = to_left_KO * products_KO
        to_rows_KOR = (to_scales_KO * pulls_KO)[:, :, None] * rows_KOR
        to_rows_KOR.addcmul_((to_left_KO * scales_KO)[:, :, None], r_KR[:, None])
        return to_rows_KOR, to_scales_KO, None, None, None, None


def largest_gains(module: nn.Module) -> Tensor:
    """Return the sum of the largest gain, by size, of every batch normalisation inside `module`."""
    gains: dict[int, list[Tensor]] = {}
    for layer in batch_norms(module):
        gains.setdefault(layer.num_features, []).append(layer.weight)
    sums = [torch.stack(same).abs().amax(1).sum() for same in gains.values()]
    return torch.stack(sums).sum() if sums else torch.zeros((), device=next(module.parameters()).device)


def convolutions_of(module: nn.Module) -> list[nn.Conv2d]:
    """Return every convolution inside a module."""
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def kernels(convolution: nn.Conv2d) -> Tensor:
    """Return the kernels that a convolution applies: weight-normalised and masked, where it is."""
    return convolution.kernels() if isinstance(convolution, WeightNormConv2d) else convolution.weight


def bilinear(convolutions: list[nn.Conv2d], left_KO: Tensor, right_KR: Tensor, iterations: int) -> Tensor:
    """Return u^T W r of convolutions of one shape (K,), after `iterations` that change u (K, O) and r (K, R) in place."""
    # kernels are rows times their scales: the products need the scales only, and not the kernels once more
    rows_KOR = _stacked([_rows(convolution) for convolution in convolutions])
    scales, pulls = zip(*map(_scale_and_pull, convolutions), strict=True)
    scales_KO, pulls_KO = _stacked(scales), _stacked(pulls)
    with torch.no_grad():
        for _ in range(iterations):
            right_KR.copy_(F.normalize(torch.bmm((left_KO * scales_KO)[:, None], rows_KOR).squeeze(1), dim=1))
            products_KO = _products(rows_KOR, right_KR)
            left_KO.copy_(F.normalize(scales_KO * products_KO, dim=1))
        if not iterations:
            products_KO = _products(rows_KOR, right_KR)
    return _Bilinear.apply(rows_KOR, scales_KO, pulls_KO, products_KO, left_KO.clone(), right_KR.clone())


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)) if len(tensors) > 1 else tensors[0][None]


def _products(rows_KOR: Tensor, right_KR: Tensor) -> Tensor:
    return torch.bmm(rows_KOR, right_KR[:, :, None]).squeeze(2)


def _rows(convolution: nn.Conv2d) -> Tensor:
    """Return what scales make kernels of, as a matrix (O, R), its columns in the order of memory where channels are last: a view there."""
    rows_OIHW = convolution.visible() if isinstance(convolution, WeightNormConv2d) else convolution.weight
    return rows_OIHW.permute(0, 2, 3, 1).flatten(1)


def _scale_and_pull(convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return the scales of the rows (O,), whose gradients reach the gains only, and their derivatives in the lengths over the lengths."""
    if not isinstance(convolution, WeightNormConv2d):
        return convolution.weight.new_ones(convolution.out_channels), convolution.weight.new_zeros(convolution.out_channels)
    with torch.no_grad():
        lengths_O = convolution.lengths()
    scales_O = convolution.scale(lengths_O)
    return scales_O, -scales_O.detach() / ((lengths_O + NORM_OFFSET) * lengths_O.clamp(min=_SMALLEST_LENGTH))


def _shape(convolution: nn.Conv2d) -> tuple[int, int]:
    weight = convolution.weight
    return weight.shape[0], weight.shape[1:].numel()
