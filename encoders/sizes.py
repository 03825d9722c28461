"""How large a model grows while it is made: sizes that no machine has are refused before memory is written to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook, register_module_parameter_registration_hook

from foundation.errors import UserError
from foundation.limits import installed_memory

MOST_LAYERS = 20_000
_MOST_PIXELS = 2**26


@contextmanager
def bounded_size() -> Iterator[None]:
    """Raise `UserError` as soon as a model made meanwhile has more weights than this machine has memory, or too many layers.

    A layer tells of its weights when it has their addresses and has not written to them yet: the system has given no memory.
    """
    memory, bytes_so_far, layers = installed_memory(), 0, 0

    def add_weights(_: nn.Module, name: str, weights: nn.Parameter | None) -> None:
        nonlocal bytes_so_far
        bytes_so_far += 0 if weights is None else weights.numel() * weights.element_size()
        if bytes_so_far > memory:
            needed = f"{bytes_so_far / 1e9:,.1f} GB or more"
            raise UserError(f"model: its weights need {needed}, and this machine has {memory / 1e9:,.1f} GB of memory; give smaller sizes")

    def add_layer(*_: Any) -> None:
        nonlocal layers
        layers += 1
        if layers > MOST_LAYERS:
            raise UserError(f"model: has more than {MOST_LAYERS:,} layers, which is the limit; give smaller numbers of them")

    hooks = [register_module_parameter_registration_hook(add_weights), register_module_module_registration_hook(add_layer)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def refuse_frames(model: Any) -> None:
    """Raise `UserError` for frames of a shape that no frame has."""
    height, width, channels = model.frame_shape
    if min(model.frame_shape) < 1 or height * width * channels > _MOST_PIXELS:
        raise UserError(f"model: frames of {height} x {width} x {channels}: the limit is {_MOST_PIXELS:,} numbers a frame")
