"""Validation on held-out recordings, and the verdict on collapse.

Shapes: B batch, T frames of a clip, C channels, H height, W width.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from encoders.encoder import Batch, Encoder, Generates, estimated_anew, to_float
from encoders.heads.attached import held_out_scores, means_and_scores
from encoders.heads.networks import Compared
from encoders.means import Mean

COLLAPSED_SHARE = 0.1
"""A reading has collapsed where fewer than this share of its units are active."""


@dataclass(frozen=True)
class Activity:
    """How many units of a reading say anything about the frame."""

    active: int
    units: int
    kl: float
    """Nats a frame."""

    @property
    def is_collapsed(self) -> bool:
        return self.active < COLLAPSED_SHARE * self.units


@dataclass(frozen=True)
class Validation:
    """Mean terms of the loss; the KL of every unit in nats, and how many are active, by reading; the heads' scores.

    A term is a mean over all frames, or over those whose label is known, or over pairs of frames: whatever batches they come in.
    """

    terms: dict[str, float]
    kl_per_unit: dict[str, np.ndarray]
    activity: dict[str, Activity]
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def compared(self) -> str:
        """The term that the best weights have the lowest of."""
        return compared_term(self.terms)

    def metrics(self) -> dict[str, float]:
        """Return everything as numbers by name; a score that these recordings give no ground for is left out."""
        scores = {name: score for name, score in self.scores.items() if math.isfinite(score)}
        return {**self.terms, **scores, **{f"active_units_{name}": found.active for name, found in self.activity.items()}}


def compared_term(terms: Mapping[str, float]) -> str:
    """Return which term is lowest for the best weights: "objective" where there is one, else "negative_elbo"."""
    return "objective" if "objective" in terms else "negative_elbo"


def to_batch(batch: Any, device: torch.device) -> Batch:
    """Move a batch of uint8 frames (B, T, H, W, C), its actions and its targets to the device as the model takes it; arrays or tensors.

    Bytes travel; frames, those of targets too, become numbers in [0, 1] on the device.
    """
    actions = getattr(batch, "actions", None)
    if actions is not None:
        actions = torch.as_tensor(actions).to(device, torch.float32)
    targets = {name: _target(target, device) for name, target in getattr(batch, "targets", {}).items()}
    return Batch(to_float(torch.as_tensor(batch.frames).to(device, non_blocking=True)), actions, targets)


def _target(target: Any, device: torch.device) -> torch.Tensor:
    tensor = torch.as_tensor(target).to(device, non_blocking=True)
    return to_float(tensor) if tensor.dtype == torch.uint8 and tensor.ndim == 5 else tensor.float()


@torch.no_grad()
def validate(model: Encoder, batches: Iterable[Any], step: int, device: torch.device, seed: int = 0) -> Validation:
    """Run `model` over finite batches with the same noise every time; `step` is where its schedules stand."""
    torch.manual_seed(seed)
    sums: dict[str, list[tuple[float, float]]] = {}
    kls: dict[str, np.ndarray] = {}
    scored: list[Compared] = []
    count = 0
    for raw in batches:
        batch = to_batch(raw, device)
        size = len(batch.frames)
        found, compared = means_and_scores(model, batch, step)
        scored.append(compared)
        for name, means in found.items():
            sums[name] = _added(sums.get(name, [(0.0, 0.0)] * len(means)), means)
        # a model whose own loss has no part in its training has latents without a KL to speak of
        units = model.kl_per_unit(batch.frames, batch.actions) if isinstance(model, Generates) and "negative_elbo" in found else {}
        for name, kl in units.items():
            kls[name] = kls.get(name, 0.0) + kl.double().cpu().numpy() * size
        count += size
    kls = {name: total / count for name, total in kls.items()}
    terms = {name: sum(total / max(known, 1.0) for total, known in parts) for name, parts in sums.items()}
    return Validation(terms, kls, activity(model, kls), held_out_scores(scored))


def _added(sums: list[tuple[float, float]], means: list[Mean]) -> list[tuple[float, float]]:
    """Return the sums and counts of a term with those of another batch."""
    counted = [(total, known, float(mean.count), mean) for (total, known), mean in zip(sums, means, strict=True)]
    return [(total + float(mean.value) * count, known + count) for total, known, count, mean in counted]


@torch.no_grad()
def match_statistics(model: Encoder, batches: Iterable[Any], step: int, device: torch.device, seed: int = 0) -> None:
    """Set the statistics of a model's batch normalisations to those of `batches`, with the same noise every time.

    For averaged weights: the running statistics are of weights that are not theirs.
    """
    torch.manual_seed(seed)
    with estimated_anew(model):
        for raw in batches:
            _pass_through(model, to_batch(raw, device), step)


def _pass_through(model: Encoder, batch: Batch, step: int) -> None:
    """Have a batch without targets pass through the model as in training, as far as it can."""
    if model.has_own_loss and not model.targets:
        model.loss(batch, step)
    else:
        model.clip_readings(batch.frames, batch.actions)


def activity(model: Encoder, kl_per_unit: dict[str, np.ndarray]) -> dict[str, Activity]:
    """Count the units whose mean KL is above the model's `active_nats`, by reading."""
    return {name: Activity(int((kl > model.active_nats).sum()), kl.size, float(kl.sum())) for name, kl in kl_per_unit.items()}


def collapse_verdict(model: Encoder, found: dict[str, Activity]) -> str:
    """Say in plain words whether what agents get by default carries information or has collapsed, then what other readings carry."""
    judged = _judged(model, found)
    others = [f"{_counted(model, name, one)}." for name, one in found.items() if name not in judged]
    return "\n".join([*(_verdict(model, name, found[name]) for name in judged), *others])


def is_collapsed(model: Encoder, found: dict[str, Activity]) -> bool:
    """Tell whether what agents get by default has fewer than a tenth of its units active."""
    return any(found[name].is_collapsed for name in _judged(model, found))


def _judged(model: Encoder, found: dict[str, Activity]) -> list[str]:
    """Return the default reading, or all of them where the model gives no KL of that one."""
    default = model.reading(None)
    return [default] if default in found else list(found)


def _verdict(model: Encoder, name: str, one: Activity) -> str:
    counted = _counted(model, name, one)
    if one.is_collapsed:
        return f"COLLAPSED: only {counted}. An agent would see next to nothing: {model.collapse_remedy}."
    if one.active < one.units / 2:
        return f"Partly collapsed: {counted}. To use more of them: {model.collapse_remedy}; fewer latents would lose nothing."
    return f"Not collapsed: {counted}."


def _counted(model: Encoder, name: str, one: Activity) -> str:
    amount = f"KL {one.kl:.1f} nats ({one.kl / math.log(2):.0f} bits) a frame"
    return f"{one.active} of {one.units} {model.unit_name} of '{name}' are active (mean KL above {model.active_nats:g} nats); {amount}"
