"""From a frame to tokens, and the recurrent parts that slots go through. Needs nothing but torch.

Shapes: N frames, K slots, D numbers of a slot, P tokens of a frame, E channels of a token, H height, W width.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.efficientmorl.distributions import Slots


def position_ramp(height: int, width: int) -> Tensor:
    """Return where each pixel is (H, W, 4): 1 - row, row, column, 1 - column, each from 0 to 1."""
    row, column = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([1 - row, row, column, 1 - column], -1)


class ImageEncoder(nn.Module):
    """5x5 convolutions, positions, and a small network at every place: frames (N, 3, H, W) in [0, 1] to tokens (N, P, E)."""

    def __init__(self, channels: int, strides: Iterable[int], size: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        height, width = size
        for index, stride in enumerate(strides):
            layers += [nn.Conv2d(channels if index else 3, channels, 5, stride, padding=2), nn.ReLU(inplace=True)]
            height, width = -(-height // stride), -(-width // stride)
        self.size = (height, width)
        self.convolutions = nn.Sequential(*layers)
        self.position = nn.Linear(4, channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels)
        )
        self.register_buffer("ramp", position_ramp(*self.size), persistent=False)

    def forward(self, x_N3HW: Tensor) -> Tensor:
        features_NHWE = self.convolutions(2 * x_N3HW - 1).permute(0, 2, 3, 1)
        with torch.autocast(x_N3HW.device.type, enabled=False):
            return self.mlp((features_NHWE.to(x_N3HW.dtype) + self.position(self.ramp)).flatten(1, 2))


class Attention(nn.Module):
    """Slots that compete for the tokens of a frame (Locatello et al. 2020): soft-max over slots, then a mean over places."""

    def __init__(self, channels: int, slot_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(slot_size)
        self.query = nn.Linear(slot_size, slot_size, bias=False)
        self.key = nn.Linear(channels, slot_size, bias=False)
        self.value = nn.Linear(channels, slot_size, bias=False)

    def forward(self, z_NKD: Tensor, key_NPD: Tensor, value_NPD: Tensor) -> tuple[Tensor, Tensor]:
        """Return what every slot sees (N, K, D), and each slot's share of every token (N, K, P)."""
        query_NKD = self.query(self.norm(z_NKD)) * z_NKD.shape[-1] ** -0.5
        share_NKP = (query_NKD @ key_NPD.mT).softmax(1) + 1e-8
        return (share_NKP / share_NKP.sum(-1, keepdim=True)) @ value_NPD, share_NKP


class DualGRU(nn.Module):
    """A GRU for the slots' means and one for their variances."""

    def __init__(self, slot_size: int, deviation: float) -> None:
        super().__init__()
        self.mean, self.raw = nn.GRUCell(slot_size, slot_size), nn.GRUCell(slot_size, slot_size)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=deviation)

    def forward(self, seen_ND: Tensor, slots: Slots) -> Slots:
        return Slots(self.mean(seen_ND, slots.mean), self.raw(seen_ND, slots.raw))


class JointGRU(nn.Module):
    """One GRU for means and variances together."""

    def __init__(self, slot_size: int) -> None:
        super().__init__()
        self.widen = nn.Linear(slot_size, 2 * slot_size)
        self.both = nn.GRUCell(2 * slot_size, 2 * slot_size)

    def forward(self, seen_ND: Tensor, slots: Slots) -> Slots:
        return Slots(*self.both(self.widen(seen_ND), torch.cat(slots, -1)).chunk(2, -1))


class Residual(nn.Module):
    """A small network beside the identity, its input normalised."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.mlp = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, size))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm(x))


class Refinement(nn.Module):
    """What the loss's gradient by a slot's Gaussian says about a better one: iterative amortised inference in a few numbers."""

    def __init__(self, slot_size: int) -> None:
        super().__init__()
        self.encoding = nn.Sequential(nn.Linear(4 * slot_size, 128), nn.ELU(inplace=True), nn.Linear(128, slot_size))
        self.gru = nn.GRUCell(slot_size, slot_size)
        self.mean, self.raw = nn.Linear(slot_size, slot_size), nn.Linear(slot_size, slot_size)

    def forward(self, slots: Slots, gradient: Slots, hidden_MD: Tensor | None) -> tuple[Slots, Tensor]:
        """Return the change of the slots, and the state (N*K, D); None is the one before the first step."""
        size = slots.mean.shape[-1:]
        scaled = [F.layer_norm(part, size) for part in gradient]
        hidden_MD = self.gru(self.encoding(torch.cat([*slots, *scaled], -1)).flatten(0, 1), hidden_MD)
        return Slots(self.mean(hidden_MD).view_as(slots.mean), self.raw(hidden_MD).view_as(slots.raw)), hidden_MD


def start_values(gain: float, *modules: nn.Module) -> None:
    """Give kernels Glorot's normal start values times `gain`, and biases 0."""
    for module in modules:
        for part in module.modules():
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.xavier_normal_(part.weight, gain=gain)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
