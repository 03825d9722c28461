"""Where encoders and policies run."""

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from foundation.errors import UserError
from wrappers import FrozenEncoder


def available_device(wanted: str) -> str:
    """Turn auto into cuda where there is one; raise `UserError` for cuda where there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch sees no CUDA device; use --device cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def placed_devices(frozen: FrozenEncoder | None, algorithm: BaseAlgorithm) -> dict[str, str | None]:
    """Return where the encoder and the policy are, by their weights; raise `RuntimeError` where that is not where they were to be."""
    asked: dict[str, tuple[torch.nn.Module, torch.device]] = {"policy": (algorithm.policy, algorithm.device)}
    if frozen is not None:
        asked["encoder"] = (frozen.model, torch.device(frozen.device))
    placed: dict[str, str | None] = {"encoder": None}
    for name, (model, device) in asked.items():
        found = {weight.device.type for weight in model.parameters()} or {device.type}
        if found != {device.type}:
            raise RuntimeError(f"the {name} is on {', '.join(sorted(found))}, and was to be on {device.type}")
        placed[name] = device.type
    return placed
