"""Going back through a part of a loss at once, instead of keeping what it needs until the end. Needs nothing but torch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor


def gone_back(part: Callable[..., tuple[Tensor, Any]], inputs: Sequence[Tensor], parameters: Sequence[Tensor]) -> tuple[Tensor, Any]:
    """Return what `part(*inputs)` does, a scalar and anything beside it, with the scalar's gradients computed and its graph freed.

    They are by `inputs` and those of `parameters` that learn, and whoever goes back through the scalar gets them.
    """
    leaves = [one.detach().requires_grad_() for one in inputs]
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    value, beside = part(*leaves)
    # as a training loop goes back: outside of autocast
    with torch.autocast(value.device.type, enabled=False):
        gradients = torch.autograd.grad(value, [*leaves, *learning], allow_unused=True)
    known = [(one, gradient) for one, gradient in zip([*inputs, *learning], gradients, strict=True) if gradient is not None]
    return _Known.apply(value.detach(), [gradient for _, gradient in known], *(one for one, _ in known)), beside


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
