"""The `training:` part of a preset, and what else is chosen by name. Without torch: command lines are read before it is imported."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from foundation.errors import UserError
from foundation.limits import refuse_more

MOST_BATCH = 65_536
MOST_SEED = 2**63 - 1
Precision = Literal["auto", "float32", "bfloat16", "bfloat16-anyway"]


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Everything is counted in optimizer steps, and nothing depends on when the run stops."""

    batch_size: int = 32
    """Clips a step, over all workers together."""
    flip: bool = False
    """Mirror half of the clips, left to right: more scenes, but left, right and the side of the hand no longer mean anything."""
    optimizer: Literal["adam", "adamax"] = "adam"
    """Adam divides by the root of the mean squared gradient, Adamax by the largest one of late (Kingma and Ba 2015, section 7.1)."""
    learning_rate: float = 1e-3
    """After the warm-up."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises linearly from 0."""
    decay_steps: int | None = None
    """The step at which a half cosine has brought the learning rate down to `final_learning_rate`; null: it stays."""
    half_life_steps: int | None = None
    """Steps after the warm-up in which the learning rate halves, and so on; in place of `decay_steps`."""
    final_learning_rate: float = 0.0
    """The learning rate from `decay_steps` on."""
    adam_betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the means of the gradient and of its square (Adamax: of its largest)."""
    adam_epsilon: float = 1e-8
    """Added to the divisor: gradients far below it hardly count."""
    weight_decay: float = 0.0
    """0 for none."""
    weight_decay_kind: Literal["decoupled", "coupled"] = "decoupled"
    """Decoupled, it shrinks the weights by its share of the learning rate (AdamW); coupled, it is added to the gradient (L2)."""
    weight_decay_everywhere: bool = False
    """Also decay biases, gains and learned constants, which are normally spared."""
    gradient_clip: float | None = None
    """The largest gradient norm over all parameters, null for any; losses that are sums over pixels need a large one."""
    ema_decay: float = 0.0
    """Of the running average of the weights, which is what is validated and kept; 0 keeps the weights themselves."""
    seed: Annotated[int, tyro.conf.arg(aliases=("--seed",))] = 0
    """Of the initial weights, the order of the frames and the noise of the latents."""
    validation_every: int = 1000
    """Steps from one validation to the next."""
    validation_frames: int = 2048
    """Frames to validate on, spread over the held-out recordings; models with memory take as many whole clips as they make, at least 1."""
    patience: int | None = None
    """Stop before the last step once so many validations in a row were no better than the best before them; null: never."""
    checkpoint_every: int = 1000
    """Steps from one checkpoint to the next."""
    log_every: int = 50
    """Steps from one line of metrics to the next."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "validation_every", "validation_frames", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} must be 1 or more")
        if self.patience is not None and self.patience < 1:
            raise UserError("training.patience must be 1 or more validations, or null for all steps")
        refuse_more("training.batch_size", self.batch_size, MOST_BATCH)
        for name in ("seed", "warmup_steps", "final_learning_rate", "adam_epsilon", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"training.{name} must be 0 or more")
        if self.seed > MOST_SEED:
            raise UserError(f"training.seed must be {MOST_SEED} or less")
        if not 0 < self.learning_rate < math.inf:
            raise UserError("training.learning_rate must be greater than 0")
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise UserError("training.gradient_clip must be greater than 0, or null for none")
        if not all(0 <= beta < 1 for beta in self.adam_betas):
            raise UserError("training.adam_betas must be at least 0 and below 1")
        if not 0 <= self.ema_decay < 1:
            raise UserError("training.ema_decay must be at least 0 and below 1")
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise UserError("training.decay_steps must be greater than training.warmup_steps")
        if self.half_life_steps is not None and (self.half_life_steps < 1 or self.decay_steps is not None):
            raise UserError("training.half_life_steps must be 1 or more, and training.decay_steps null beside it")


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of optimizer step `step`, counted from 0."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.half_life_steps is not None:
        return config.learning_rate * 0.5 ** ((step - config.warmup_steps) / config.half_life_steps)
    if config.decay_steps is None:
        return config.learning_rate
    progress = min(1.0, (step - config.warmup_steps) / (config.decay_steps - config.warmup_steps))
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * (1 + math.cos(math.pi * progress)) / 2


def ema_decay(config: TrainingConfig, step: int) -> float:
    """Return the decay of the weights' average after step `step`: shorter in the beginning, when the weights still run."""
    return min(config.ema_decay, (1 + step) / (10 + step))
