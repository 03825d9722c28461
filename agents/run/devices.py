"""Where encoders and policies run."""

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from foundation.errors import UserError
from wrappers import PictureEncoder
from wrappers.frozen_encoder import placed


def available_device(wanted: str) -> str:
    """Turn auto into cuda where there is one; raise `UserError` for cuda where there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch sees no CUDA device; use --device cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def placed_devices(frozen: PictureEncoder | None, algorithm: BaseAlgorithm) -> dict[str, str | None]:
    """Return where the encoder and the policy are, by their weights; raise `RuntimeError` where that is not where they were to be."""
    return {"encoder": None if frozen is None else frozen.placed(), "policy": placed("policy", algorithm.policy, algorithm.device)}
