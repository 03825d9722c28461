"""Going back through a part of a loss at once, instead of keeping what it needs until the end. Needs nothing but torch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor


def gone_back(
    parts: Sequence[Callable[[Tensor, Tensor], Tensor]], rows: Sequence[Tensor], shared: Tensor, parameters: Sequence[Tensor]
) -> Tensor:
    """Return the sum of what every part gives for its own rows and `shared`, a scalar each, with its gradients computed and no graph kept.

    A part's graph is freed before the next part begins. The gradients are by the rows, by `shared` and by those of `parameters` that
    learn, and whoever goes back through the sum gets them.
    """
    leaf = shared.detach().requires_grad_(shared.requires_grad)
    among = [(shared, leaf), *((parameter, parameter) for parameter in parameters)]
    learning = [(outer, inner) for outer, inner in among if outer.requires_grad]
    values, by_rows, by_learning = [], [], list[tuple[Tensor | None, ...]]()
    for part, some in zip(parts, rows, strict=True):
        own = some.detach().requires_grad_()
        value = part(own, leaf)
        # as a training loop goes back: outside of autocast
        with torch.autocast(value.device.type, enabled=False):
            gradient, *others = torch.autograd.grad(value, [own, *(inner for _, inner in learning)], allow_unused=True)
        values.append(value.detach())
        by_rows.append(gradient)
        by_learning.append(tuple(others))
    # what a part makes no use of, the others make none of either
    used = [(outer, sum(found)) for (outer, _), found in zip(learning, zip(*by_learning, strict=True), strict=True) if found[0] is not None]
    return _Known.apply(torch.stack(values).sum(), [*by_rows, *(total for _, total in used)], *rows, *(outer for outer, _ in used))


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
