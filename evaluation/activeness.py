"""Which numbers of a slot change what is seen, and what they change.

Shapes: N frames, K slots, D numbers of a slot, S steps, H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders.encoder import HasSlots
from evaluation.slots import decoded

_NUMBERS_AT_ONCE = 16


@dataclass(frozen=True)
class Range:
    """From where to where each number of a slot goes, float (D,): the least and the largest posterior mean of any slot of any frame."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, means_NKD: Tensor) -> "Range":
        return cls(means_NKD.amin((0, 1)), means_NKD.amax((0, 1)))

    def steps(self, count: int) -> Tensor:
        """Return `count` values of every number, evenly spread: (S, D)."""
        return self.low + (self.high - self.low) * torch.linspace(0, 1, count)[:, None]


# which model and where, what is changed, and how far
def traversal(
    model: HasSlots, means_KD: Tensor, slot: int, dimensions: Sequence[int], reach: Range, steps: int, device: torch.device
) -> Tensor:
    """Return frames (len(dimensions), S, 3, H, W): a frame's slots decoded, one number of one slot going through its range."""
    values = reach.steps(steps)
    z = means_KD.repeat(len(dimensions), steps, 1, 1)
    for place, dimension in enumerate(dimensions):
        z[place, :, slot, dimension] = values[:, dimension]
    return decoded(model, z.flatten(0, 1), device).unflatten(0, (len(dimensions), steps))


def activeness(model: HasSlots, means_KD: Tensor, slot: int, reach: Range, device: torch.device, steps: int = 6) -> Tensor:
    """Return how much each number of a slot changes its frame: the variance over its range, averaged over pixels and channels (D,)."""
    parts = torch.arange(means_KD.shape[1]).split(_NUMBERS_AT_ONCE)
    films = (traversal(model, means_KD, slot, part.tolist(), reach, steps, device) for part in parts)
    return torch.cat([film.var(1, correction=0).mean((1, 2, 3)) for film in films])
