"""How the terms of an NVAE's loss are weighed: schedules, as functions of the optimizer step, and the balance of the groups.

Shapes: L groups of latents, coarsest first.
"""

import math

import torch
from torch import Tensor

from encoders.nvae.hyperparameters import NVAEHyperparameters

_BALANCE_OFFSET = 0.01


def kl_weight(h: NVAEHyperparameters, step: int) -> float:
    """Return the weight of the KL at `step`: `kl_minimum`, then rising linearly to 1."""
    if step >= h.kl_constant_steps + h.kl_warmup_steps:
        return 1.0
    progress = (step - h.kl_constant_steps) / max(h.kl_warmup_steps, 1)
    return max(h.kl_minimum, min(1.0, progress))


def regularisation_weight(h: NVAEHyperparameters, kl_weight: float) -> float:
    """Return the weight of the regularisation: constant, or log-linear from its start to its end as the KL's weight rises."""
    if h.regularisation_start is None:
        return h.regularisation
    return math.exp((1 - kl_weight) * math.log(h.regularisation_start) + kl_weight * math.log(h.regularisation))


def balance(kl_L: Tensor, h: NVAEHyperparameters) -> Tensor:
    """Return weights of the groups' KLs, of mean 1 and without gradient, that keep all groups in use while the KL's weight rises.

    A group's weight is proportional to its KL, so that one that says nothing costs nothing, over the size of its latents and times
    the number of groups at its scale (Vahdat and Kautz 2020, A.1 "KL balancing").
    """
    counts = h.groups_per_scale[::-1]
    sizes_L = torch.tensor([4.0**plan.scale / counts[plan.scale] for plan in h.plan], device=kl_L.device, dtype=kl_L.dtype)
    weights_L = (kl_L.detach().abs() + _BALANCE_OFFSET) / (sizes_L / sizes_L.min())
    return weights_L / weights_L.mean()
