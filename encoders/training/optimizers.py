"""The optimizer of a run, and which parameters weight decay leaves alone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

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


def load_optimizer(optimizer: Optimizer, content: Any) -> None:
    """Give an optimizer what it remembers of the weights; how it steps stays as this run's settings say.

    Raises ValueError, or what torch raises, where that is of other weights: the first step would.
    """
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(content)
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
        for weight in group["params"]:
            _check_remembered(optimizer.state.get(weight, {}), weight, _remembered(optimizer))


def _check_remembered(found: dict[str, Any], weight: Tensor, names: set[str]) -> None:
    if found and found.keys() != names:
        raise ValueError(f"the optimizer remembers {', '.join(map(str, found))} of a weight, and needs {', '.join(sorted(names))}")
    for name, value in found.items():
        numbers = torch.as_tensor(value)
        if numbers.shape != (torch.Size([]) if name == "step" else weight.shape):
            raise ValueError(f"the optimizer's '{name}' has shape {tuple(numbers.shape)}, its weight {tuple(weight.shape)}")
        if not torch.isfinite(numbers).all() or (name == "step" and numbers < 0):
            raise ValueError(f"the optimizer's '{name}' has numbers that are none, or below 0")


def _remembered(optimizer: Optimizer) -> set[str]:
    """Name what an optimizer remembers of a weight, as one step of another of its class shows."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    another: Any = type(optimizer)
    stepped = another([weight])
    stepped.step()
    return set(stepped.state[weight])


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
