"""Means over what a batch tells, and how they are put together where several batches, or processes, tell of it.

Shapes: N rows of a batch, a frame each.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """A mean over `count` frames, known targets or pairs; 0 where there are none."""

    value: Tensor
    count: Tensor | int

    def times(self, weight: float) -> "Mean":
        return Mean(weight * self.value, self.count)


Means = dict[str, list[Mean]]
"""Terms by name, each the sum of some means: over several batches, every mean is one over what all of them tell."""


class WholeBatch:
    """What a process that trains alone has of every batch. One of several has `PartOfBatch` (encoders/training/parallel.py)."""

    def share(self, count: Tensor) -> Tensor | float:
        """Return what to multiply a mean over `count` known targets by: averaged over processes, it is then one over all their targets."""
        return 1.0

    def gathered(self, x_N: Tensor) -> tuple[Tensor, int]:
        """Return the rows that all processes have, and where those of this one begin among them."""
        return x_N, 0
