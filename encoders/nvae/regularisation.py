"""What keeps an NVAE stable: the spectral norms of all convolutions, and the gains of all batch normalisations.

Shapes: K convolutions of one shape, O output channels, R input channels times kernel size.
"""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.nvae.layers import WeightNormConv2d, batch_norms

FIRST_ITERATIONS = 40
ITERATIONS = 4


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
        return torch.stack([self._sum(stack, iterations) for stack in stacks.values()]).sum()

    def _sum(self, convolutions: list[nn.Conv2d], iterations: int) -> Tensor:
        # kernels are rows times their scales: the products need the scales only, and not the kernels once more
        rows_KOR = torch.stack([_matrix(_rows(convolution)) for convolution in convolutions])
        scales_KO = torch.stack([_scale(convolution) for convolution in convolutions])
        name = f"{rows_KOR.shape[1]}x{rows_KOR.shape[2]}"
        left_KO, right_KR = self.get_buffer(f"left_{name}"), self.get_buffer(f"right_{name}")
        if iterations:
            left_KO, right_KR = _iterated(rows_KOR.detach(), scales_KO.detach(), left_KO, right_KR, iterations)
            self.get_buffer(f"left_{name}").copy_(left_KO)
            self.get_buffer(f"right_{name}").copy_(right_KR)
        return (left_KO * scales_KO * torch.bmm(rows_KOR, right_KR[:, :, None]).squeeze(2)).sum()


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


def _rows(convolution: nn.Conv2d) -> Tensor:
    return convolution.visible() if isinstance(convolution, WeightNormConv2d) else convolution.weight


def _scale(convolution: nn.Conv2d) -> Tensor:
    if isinstance(convolution, WeightNormConv2d):
        return convolution.scale()
    return convolution.weight.new_ones(convolution.out_channels)


def _matrix(kernels_OIHW: Tensor) -> Tensor:
    """Return kernels as a matrix (O, R), its columns in the order of memory where channels are last: a view there."""
    return kernels_OIHW.permute(0, 2, 3, 1).flatten(1)


@torch.no_grad()
def _iterated(rows_KOR: Tensor, scales_KO: Tensor, left_KO: Tensor, right_KR: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    for _ in range(iterations):
        right_KR = F.normalize(torch.bmm((left_KO * scales_KO)[:, None], rows_KOR).squeeze(1), dim=1)
        left_KO = F.normalize(scales_KO * torch.bmm(rows_KOR, right_KR[:, :, None]).squeeze(2), dim=1)
    return left_KO, right_KR


def _shape(convolution: nn.Conv2d) -> tuple[int, int]:
    weight = convolution.weight
    return weight.shape[0], weight.shape[1:].numel()
