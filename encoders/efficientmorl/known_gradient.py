"""Going back through a part of a loss at once, instead of keeping what it needs until the end. Needs nothing but torch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor


def gone_back(part: Callable[[Tensor], tuple[Tensor, Any]], z: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, Any]:
    """Return what `part(z)` does, a scalar and anything beside it, with the scalar's gradients computed and its graph freed.

    They are by `z` and those of `parameters` that learn, and whoever goes back through the scalar gets them.
    """
    leaf = z.detach().requires_grad_()
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    value, beside = part(leaf)
    # as a training loop goes back: outside of autocast
    with torch.autocast(z.device.type, enabled=False):
        gradients = torch.autograd.grad(value, [leaf, *learning])
    return _Known.apply(value.detach(), gradients, z, *learning), beside


class _Known(torch.autograd.Function):
    """A scalar whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(gradient * known for known in ctx.saved_tensors))


def locally_differentiable() -> AbstractContextManager[Any]:
    """Return a context in which gradients can be taken, whatever the caller has forbidden; tensors from before are cloned in it first."""
    stack = ExitStack()
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    return stack
