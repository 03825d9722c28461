"""GECO (Rezende and Viola 2018): a weight of the likelihood that rises until a target is reached, and falls after. Needs nothing but torch.

The published update adds to the argument of a softplus, where the paper multiplies; that argument never falls below where it starts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

START = 0.55


@dataclass(frozen=True)
class GECOSettings:
    """`target` in nats a frame; `decay` of the running average, `rate` of the update, times `acceleration` where the target is met."""

    target: float
    warmup_steps: int
    decay: float
    rate: float
    acceleration: float


class GECO(nn.Module):
    """The weight, and the running average of how far the likelihood is from its target: buffers, since they are no gradient's."""

    beta: Tensor
    distance: Tensor

    def __init__(self, settings: GECOSettings | None) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("beta", torch.tensor(START))
        self.register_buffer("distance", torch.tensor(0.0))

    def is_active(self, step: int | None) -> bool:
        """Tell whether the likelihood is weighed before optimizer step `step`; None: after training."""
        return self.settings is not None and (step is None or step >= self.settings.warmup_steps)

    def multiplier(self) -> Tensor:
        return F.softplus(self.beta)

    def weighted(self, nll: Tensor) -> Tensor:
        """Return what stands for the mean negative log-likelihood: its gradient is weighted, its value the running average's."""
        assert self.settings is not None
        missing = self.settings.target - nll
        return -self.multiplier() * (missing + (self.distance - missing).detach())

    @torch.no_grad()
    def update(self, nll: Tensor, step: int) -> None:
        """Learn from the last step of refinement's negative log-likelihood, averaged over the batch."""
        s = self.settings
        if s is None or not self.is_active(step):
            return
        missing = s.target - nll
        self.distance.copy_(missing if step == s.warmup_steps else s.decay * self.distance + (1 - s.decay) * missing)
        change = s.rate * self.distance * torch.where(self.distance > 0, s.acceleration, 1.0)
        self.beta.copy_((self.beta - change).clamp(min=START))
