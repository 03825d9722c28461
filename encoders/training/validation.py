"""Validation on held-out recordings, and the verdict on collapse.

Shapes: B batch, T frames of a clip, C channels, H height, W width.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from encoders.encoder import Batch, Encoder, to_float
from encoders.nvae.layers import estimated_anew

ACTIVE_NATS = 0.01
_COLLAPSED_SHARE = 0.1


@dataclass(frozen=True)
class Validation:
    """Mean terms of the loss over all frames, and the KL of every unit in nats by reading."""

    terms: dict[str, float]
    kl_per_unit: dict[str, np.ndarray]

    def metrics(self) -> dict[str, float]:
        """Return everything as numbers by name."""
        return {**self.terms, **{f"active_units_{name}": active_units(kl) for name, kl in self.kl_per_unit.items()}}


def to_batch(batch: Any, device: torch.device) -> Batch:
    """Move a batch of uint8 frames (B, T, H, W, C), and its actions, to the device as the model takes it; arrays or tensors.

    Bytes travel; they become numbers in [0, 1] on the device.
    """
    actions = getattr(batch, "actions", None)
    if actions is not None:
        actions = torch.as_tensor(actions).to(device, torch.float32)
    return Batch(to_float(torch.as_tensor(batch.frames).to(device, non_blocking=True)), actions)


@torch.no_grad()
def validate(model: Encoder, batches: Iterable[Any], step: int, device: torch.device, seed: int = 0) -> Validation:
    """Run `model` over finite batches with the same noise every time; `step` is where its schedules stand."""
    torch.manual_seed(seed)
    terms: dict[str, float] = {}
    kls: dict[str, np.ndarray] = {}
    count = 0
    for raw in batches:
        batch = to_batch(raw, device)
        size = len(batch.frames)
        for name, value in model.loss(batch, step).items():
            terms[name] = terms.get(name, 0.0) + float(value) * size
        for name, kl in model.kl_per_unit(batch.frames, batch.actions).items():
            kls[name] = kls.get(name, 0.0) + kl.double().cpu().numpy() * size
        count += size
    return Validation({name: total / count for name, total in terms.items()}, {name: total / count for name, total in kls.items()})


@torch.no_grad()
def match_statistics(model: Encoder, batches: Iterable[Any], step: int, device: torch.device, seed: int = 0) -> None:
    """Set the statistics of a model's batch normalisations to those of `batches`, with the same noise every time.

    For averaged weights: the running statistics are of weights that are not theirs.
    """
    torch.manual_seed(seed)
    with estimated_anew(model):
        for raw in batches:
            model.loss(to_batch(raw, device), step)


def active_units(kl: np.ndarray) -> int:
    """Count the units whose mean KL is above 0.01 nats: those that say anything about the frame."""
    return int((kl > ACTIVE_NATS).sum())


def collapse_verdict(kl_per_unit: dict[str, np.ndarray]) -> str:
    """Say in plain words, a line a reading, whether the latents carry information or have collapsed."""
    return "\n".join(_verdict(name, kl) for name, kl in kl_per_unit.items())


def is_collapsed(kl_per_unit: dict[str, np.ndarray]) -> bool:
    """Tell whether any reading has fewer than a tenth of its units active."""
    return any(active_units(kl) < _COLLAPSED_SHARE * kl.size for kl in kl_per_unit.values())


def _verdict(name: str, kl: np.ndarray) -> str:
    active = active_units(kl)
    amount = f"KL {kl.sum():.1f} nats ({kl.sum() / math.log(2):.0f} bits) a frame"
    counted = f"{active} of {kl.size} units of '{name}' are active (mean KL above {ACTIVE_NATS} nats); {amount}"
    if active < _COLLAPSED_SHARE * kl.size:
        return f"COLLAPSED: only {counted}. An agent would see next to nothing: lower model.beta, or train longer."
    if active < kl.size / 2:
        return f"Partly collapsed: {counted}. A lower model.beta would use more of them; fewer latents would lose nothing."
    return f"Not collapsed: {counted}."
