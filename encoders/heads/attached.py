"""Heads on an encoder: what it is trained on with them, and the value they give.

Shapes: B batch, T frames of a clip, C channels, H height, W width.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from encoders.encoder import Batch, Encoder, GivesValue
from encoders.heads.config import Column, HeadConfig, HeadsConfig, Labels, Recorded, joined_labels
from encoders.heads.networks import Actions, Compared, Future, Head, Inverse, StateOf, Value
from encoders.heads.scores import summarised
from encoders.means import Mean, Means
from encoders.sizes import bounded_size
from foundation.documents import fitting
from foundation.errors import UserError
from foundation.presets import build, to_dict

Latents = Mapping[str, Tensor]


class Heads(nn.Module):
    """The heads of an encoder by name, made from `config` for the numbers that `recorded` describes."""

    def __init__(self, config: HeadsConfig, recorded: Recorded, readings: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.config, self.recorded = config, recorded
        self.by_name: Mapping[str, Head] = nn.ModuleDict(  # type: ignore[assignment]
            {name: _made(name, head, config.hidden, recorded, readings) for name, head in config.active.items()}
        )

    @property
    def readings(self) -> list[str]:
        """The readings that some head is trained on."""
        return list(dict.fromkeys(head.reading for head in self.by_name.values()))

    def described(self) -> dict[str, Any]:
        """Return what `attach_heads` needs to make them again: plain values."""
        return {"config": to_dict(self.config), "recorded": to_dict(self.recorded)}

    def predictions(self, model: Encoder, latents: Latents, batch: Batch) -> dict[str, Tensor]:
        """Return what each head predicts from the readings `latents` (B, T, *shape); in training, noise is added to them."""
        noise = self.config.noise if self.training else 0.0
        seen = _noisy(latents, noise)
        later: Latents = {}
        if any(head.ahead for head in self.by_name.values()) and batch.frames.shape[1] == 1:
            names = list(dict.fromkeys(head.reading for head in self.by_name.values() if head.ahead))
            later = _noisy(model.some_readings(batch.targets["frames_ahead"], None, names), noise)
        return {name: _predicted(head, seen[head.reading], later.get(head.reading)) for name, head in self.by_name.items()}

    def terms(self, own: Mapping[str, Tensor], latents: Latents, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the terms of training: the model's own, each head's, "objective", and "loss", which has all of them by their weights."""
        losses = {name: head.loss(predictions[name], batch) for name, head in self.by_name.items()}
        square = torch.stack([latent.float().square().mean() for latent in latents.values()]).mean()
        weighted = torch.stack([head.weight * losses[name] for name, head in self.by_name.items()]).sum()
        loss = weighted + self.config.square * square
        objective = weighted.detach()
        if own:
            loss = loss + self.config.own_weight * own["loss"]
            objective = objective + self.config.own_weight * own["objective" if "objective" in own else "negative_elbo"]
        named = {f"heads_{name}": one.detach() for name, one in losses.items()}
        return {**own, **named, "heads_square": square.detach(), "objective": objective, "loss": loss}

    def means(self, own: Means, terms: Mapping[str, Tensor], predictions: Mapping[str, Tensor], batch: Batch) -> Means:
        """Take the terms of evaluation apart into means: every head's are over what is known of the batch; `own` are the model's."""
        named = {f"heads_{name}": head.means(predictions[name], batch) for name, head in self.by_name.items()}
        objective = [mean.times(head.weight) for name, head in self.by_name.items() for mean in named[f"heads_{name}"]]
        square = Mean(terms["heads_square"], len(batch.frames))
        loss = [*objective, square.times(self.config.square)]
        if own:
            loss += [mean.times(self.config.own_weight) for mean in own["loss"]]
            objective += [mean.times(self.config.own_weight) for mean in own["objective" if "objective" in own else "negative_elbo"]]
        return {**own, **named, "heads_square": [square], "objective": objective, "loss": loss}

    def compared(self, predictions: Mapping[str, Tensor], batch: Batch) -> Compared:
        """Return predictions and truths of all heads (N, columns), by the name of a score."""
        pairs = [head.compared(predictions[name], batch) for name, head in self.by_name.items()]
        return {name: pair for found in pairs for name, pair in found.items()}


def attach_heads(model: Encoder, config: HeadsConfig, recorded: Recorded) -> None:
    """Put the heads of `config` that have a weight on a model, for what `recorded` describes; none have: leave it without.

    Raises `UserError` for a reading that the model has not, and for a head that needs longer clips.
    """
    if not config.active:
        return
    heads: dict[str, Any] = {name: _placed(model, name, head) for name, head in config.active.items()}
    with bounded_size():
        model.heads = Heads(replace(config, **heads), recorded, model.latents)


def attached_again(model: Encoder, described: Mapping[str, Any], where: str) -> None:
    """Attach the heads that `Heads.described` told of."""
    config = build(HeadsConfig, described.get("config", {}), f"{where}: heads.config")
    recorded = build(Recorded, described.get("recorded", {}), f"{where}: heads.recorded")
    with fitting(f"{where}: heads", "copy the encoder again"):
        attach_heads(model, config, recorded)


def heads_of(model: Encoder) -> Heads | None:
    """Return a model's heads."""
    return model.heads if isinstance(model.heads, Heads) else None


def wanted_labels(model: Encoder) -> Labels:
    """Return the labels that a model and its heads are trained on; raise `UserError` where they want one in different ways."""
    heads = heads_of(model)
    return labels_with(model, HeadsConfig() if heads is None else heads.config)


def labels_with(model: Encoder, config: HeadsConfig) -> Labels:
    """Return what `wanted_labels` does of a model with the heads of `config`, before it has them."""
    return joined_labels([model.targets if config.trains_own else {}, config.labels(model.clip_length)])


def own_is_trained(model: Encoder) -> bool:
    """Tell whether the model's own loss has a part in its training."""
    heads = heads_of(model)
    return model.has_own_loss and (heads is None or heads.config.trains_own)


def preferred_reading(model: Encoder, kl_per_unit: dict[str, Tensor]) -> str:
    """Return the reading that suits agents best: of a model whose own loss had no part, one that its heads have trained."""
    heads = heads_of(model)
    if heads is None or own_is_trained(model):
        return model.informative_reading(kl_per_unit)
    default = model.reading(None)
    return default if default in heads.readings or not model.has_own_loss else heads.readings[0]


def training_terms(model: Encoder, batch: Batch, step: int) -> dict[str, Tensor]:
    """Return the terms that a model is trained on, with its heads or without: "loss" is the one to minimise."""
    heads = heads_of(model)
    if heads is None:
        return model.loss(batch, step)
    own, latents = _own_and_latents(model, heads, batch, step)
    return heads.terms(own, latents, heads.predictions(model, latents, batch), batch)


def means_and_scores(model: Encoder, batch: Batch, step: int) -> tuple[Means, Compared]:
    """Return the same terms in evaluation mode as means, and what of the heads' predictions is compared with the truth.

    A batch without the heads' labels has the terms of the model's own loss only.
    """
    heads = heads_of(model)
    if heads is None or not heads.config.labels(model.clip_length).keys() <= batch.targets.keys():
        return model.means_of(model.loss(batch, step), batch), {}
    own, latents = _own_and_latents(model, heads, batch, step)
    predictions = heads.predictions(model, latents, batch)
    terms = heads.terms(own, latents, predictions, batch)
    own_means = model.means_of(own, batch) if own else {}
    return heads.means(own_means, terms, predictions, batch), heads.compared(predictions, batch)


def held_out_scores(found: list[Compared]) -> dict[str, float]:
    """Return the scores of heads over all batches by name: AUC of keys and of value, R^2 of numbers, accuracy of `future`."""
    names = dict.fromkeys(name for pairs in found for name in pairs)
    return {f"heads_{name}": summarised(name, [pairs[name] for pairs in found if name in pairs]) for name in names}


class HeadValue:
    """The value that a head gives, as `GivesValue` has it: where `above` is a number, the probability that the reward is above it."""

    def __init__(self, model: Encoder, head: Value) -> None:
        self.model, self.head, self.above = model, head, head.above

    def value(self, frames: Tensor, actions: Tensor | None = None) -> Tensor:
        """Return (B, T) in [0, 1] of frames (B, T, C, H, W): the reward to come, or the probability that it is above the head's number."""
        return self.head(self.model.encode_clip(frames, actions, self.head.reading)).sigmoid()


def value_giver(model: Encoder) -> GivesValue | None:
    """Return who tells the value of frames: the model itself, or its head; None where there is neither."""
    if isinstance(model, GivesValue):
        return model
    heads = heads_of(model)
    head = dict(heads.by_name.items()).get("value") if heads else None
    return HeadValue(model, head) if isinstance(head, Value) else None


def _own_and_latents(model: Encoder, heads: Heads, batch: Batch, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the terms of the model's own loss, none where it has no part in the training, and the readings that heads are trained on."""
    if own_is_trained(model):
        return model.loss_and_latents(batch, step, heads.readings)
    return {}, model.some_readings(batch.frames, batch.actions, heads.readings)


def _placed(model: Encoder, name: str, head: HeadConfig) -> HeadConfig:
    """Return a head's settings with its reading by name."""
    try:
        reading = model.reading(head.reading)
    except ValueError as error:
        raise UserError(f"heads.{name}.reading: {error}") from error
    ahead = {"inverse": 1, "future": getattr(head, "ahead", 0)}.get(name, 0)
    if model.clip_length > 1 and ahead >= model.clip_length:
        raise UserError(f"heads.{name}: looks {ahead} frames ahead, in clips of {model.clip_length}; give fewer, or longer clips")
    return replace(head, reading=reading)


def _made(name: str, config: Any, hidden: int, recorded: Recorded, readings: Mapping[str, tuple[int, ...]]) -> Head:
    reading = config.reading
    size = math.prod(readings[reading])
    if name == "actions":
        return Actions(config, reading, size, hidden, _some(name, recorded.actions))
    if name == "inverse":
        return Inverse(config, reading, size, hidden, _some(name, recorded.actions))
    if name == "state":
        return StateOf(config, reading, size, hidden, _some(name, recorded.states))
    return (Value if name == "value" else Future)(config, reading, size, hidden)


def _some(name: str, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    if not columns:
        raise UserError(f"heads.{name}: the recordings have nothing of the kind; leave the head out, or record it")
    return columns


def _noisy(latents: Latents, noise: float) -> Latents:
    return {name: latent + noise * torch.randn_like(latent) for name, latent in latents.items()} if noise else latents


def _predicted(head: Head, latent: Tensor, later: Tensor | None) -> Tensor:
    """Let a head predict; in clips the later latents are those of the clip's own later frames."""
    if not head.ahead or later is not None:
        return head(latent, later)
    return head(latent[:, : -head.ahead], latent[:, head.ahead :])
