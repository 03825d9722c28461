"""Why a step was not finite, in words, and what helps."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoders.encoder import Encoder
from encoders.training.config import TrainingConfig

_TOTALS = ("loss", "negative_elbo", "bits_per_dim", "gradient_norm")


def remedy(model: Encoder, config: TrainingConfig) -> str:
    """Name the settings that steady a training.

    No clipping for Adamax: it divides by the largest gradient, and clipped ones would make its steps larger again.
    """
    clip = ["a smaller training.gradient_clip"] if config.optimizer == "adam" else []
    own = ["a larger model.regularisation"] if hasattr(model.hyperparameters, "regularisation") else []
    return ", ".join(["a lower training.learning_rate", *clip, *own]) + " or a longer training.warmup_steps"


def what_is_not_finite(terms: Mapping[str, float | Tensor], model: nn.Module) -> str:
    """Name the terms of the loss that are not finite, or else the parameters whose gradient is not.

    What a term's name does not tell, its place may: backward goes from the last layers to the first and carries a NaN along, so that of
    the parameters the last one, where it came from, is named.
    """
    wrong = [name for name, value in terms.items() if not math.isfinite(value)]
    parts = [name for name in wrong if name not in _TOTALS]
    if parts:
        named = ", ".join(f"'{name}' is {float(terms[name])}" for name in parts[:3])
        return f"of the loss's terms, {named}" + (f" and {len(parts) - 3} more are not finite" if len(parts) > 3 else "")
    totals = [name for name in wrong if name != "gradient_norm"]
    if totals:
        return f"'{totals[0]}' is {float(terms[totals[0]])}, though none of the loss's terms is"
    return _gradient(model)


def _gradient(model: nn.Module) -> str:
    named = [(name, parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None]
    wrong = [name for name, gradient in named if not torch.isfinite(gradient).all()]
    if not wrong:
        return "the loss and every gradient are finite, but the norm of all gradients is not"
    others = f" and of {len(wrong) - 1} parameters before it" if len(wrong) > 1 else ""
    return f"the loss is finite, but the gradient of '{wrong[-1]}'{others} is not"
