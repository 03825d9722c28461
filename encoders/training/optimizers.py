"""The optimizer of a run, and which parameters weight decay leaves alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from encoders.encoder import Encoder
from encoders.training.config import TrainingConfig


def make_optimizer(model: Encoder, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return Adam or Adamax with the configured weight decay; parameters come in groups only where some are not decayed."""
    groups = _groups(model, config)
    shared: dict[str, Any] = {"lr": config.learning_rate, "betas": config.adam_betas, "eps": config.adam_epsilon}
    coupled = config.weight_decay_kind == "coupled"
    if config.optimizer == "adamax":
        kind = torch.optim.Adamax if coupled else DecoupledAdamax
        return kind(groups, **shared, weight_decay=config.weight_decay, foreach=True)
    return (torch.optim.Adam if coupled else torch.optim.AdamW)(groups, **shared, weight_decay=config.weight_decay, fused=True)


class DecoupledAdamax(torch.optim.Adamax):
    """Adamax whose weight decay shrinks the weights beside the step, as AdamW's does (Loshchilov and Hutter 2019)."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        decays = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            decayed = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["weight_decay"] and decayed:
                torch._foreach_mul_(decayed, 1 - group["lr"] * group["weight_decay"])
            group["weight_decay"] = 0.0
        try:
            return super().step(closure)
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay


def undecayed_names(model: Encoder) -> set[str]:
    """Return the names of biases, gains and whatever else has less than two axes, and of what the model names itself."""
    few_axes = {name for name, parameter in model.named_parameters() if parameter.ndim < 2}
    return few_axes | set(model.undecayed)


def _groups(model: Encoder, config: TrainingConfig) -> list[Any]:
    if not config.weight_decay or config.weight_decay_everywhere:
        return list(model.parameters())
    spared = undecayed_names(model)
    decayed = [parameter for name, parameter in model.named_parameters() if name not in spared]
    others = [parameter for name, parameter in model.named_parameters() if name in spared]
    return [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
