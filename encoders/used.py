"""What of an encoder one of its readings depends on. The rest, such as a decoder, is of no use to whoever takes nothing but the reading."""

import torch
from torch import Tensor, nn

from encoders.encoder import Encoder


def used_parameters(model: Encoder, reading: str | None = None) -> dict[str, nn.Parameter]:
    """Return the parameters, by name, through which a reading (None: the default) can be changed.

    With memory, those that the last latents of a training clip depend on. Parameters that the model keeps from learning, such as those of
    an encoder that it stands on, are none.
    """
    return _looked_at(model, model.reading(reading))[0]


def without_unused(model: Encoder, reading: str | None = None) -> Encoder:
    """Replace, in place, the modules that a reading makes no use of by empty ones, and return the model, for that reading alone.

    Parameters that are left without use inside a module that is needed no longer ask for a gradient.
    """
    used, called = _looked_at(model, model.reading(reading))
    _empty(model, {id(parameter) for parameter in used.values()}, called)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in used)
    return model


def _looked_at(model: Encoder, reading: str) -> tuple[dict[str, nn.Parameter], set[nn.Module]]:
    """Return the parameters that a reading depends on, and the modules that were called to compute it."""
    called: set[nn.Module] = set()
    hooks = [part.register_forward_hook(lambda part, given, output: called.add(part)) for part in model.modules()]
    asked = {name: (parameter, parameter.requires_grad) for name, parameter in model.named_parameters()}
    training = model.training
    try:
        for parameter, _ in asked.values():
            parameter.requires_grad_(True)
        with torch.inference_mode(False), torch.enable_grad():
            latent = _read(model.eval(), reading)
        parameters = [parameter for parameter, _ in asked.values()]
        gradients = torch.autograd.grad(latent.sum(), parameters, allow_unused=True) if latent.requires_grad else [None] * len(parameters)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, wanted in asked.values():
            parameter.requires_grad_(wanted)
        model.train(training)
    return {name: asked[name][0] for name, gradient in zip(asked, gradients, strict=True) if gradient is not None}, called


def _read(model: Encoder, reading: str) -> Tensor:
    height, width, channels = model.frame_shape
    length = model.clip_length if model.initial_state(1) else 1
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    frames = torch.rand(1, length, channels, height, width, generator=torch.Generator().manual_seed(0)).to(device)
    actions = torch.zeros(1, length, model.action_size, device=device) if model.action_size else None
    return model.encode_clip(frames, actions, reading)[:, -1]


def _empty(module: nn.Module, used: set[int], called: set[nn.Module]) -> None:
    for name, part in list(module.named_children()):
        held = list(part.parameters())
        if held and not any(id(parameter) in used for parameter in held) and not called & set(part.modules()):
            # not None: a model may ask for its parts without calling them
            setattr(module, name, nn.Identity())
        else:
            _empty(part, used, called)
