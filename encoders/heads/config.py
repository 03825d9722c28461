"""The `heads:` part of a preset. Without torch: command lines are read before it is imported."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from foundation.errors import UserError

Labels = dict[str, dict[str, Any]]
"""Labels by name, each with its options (frames/labels.py)."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What every head can be told."""

    weight: float = 0.0
    """Of its loss; 0 for no such head."""
    reading: str | None = None
    """The reading it is trained on; null: the encoder's default."""


@dataclass(frozen=True, kw_only=True)
class ActionsConfig(HeadConfig):
    """Predict what the recorded player did next."""

    count: int = 8
    """How many of the next actions."""
    players: str = "acting"
    """Whose actions: acting (all but the random player's), all, or players by how their names begin: ScriptedPlayer,agent."""


@dataclass(frozen=True, kw_only=True)
class ValueConfig(HeadConfig):
    """Predict the reward to come."""

    gamma: float = 0.98
    """Its discount a recorded frame."""
    above: float | None = 0.3
    """Predict whether it is above this; null: predict the number."""


@dataclass(frozen=True, kw_only=True)
class InverseConfig(HeadConfig):
    """Predict the action that led from a frame to the next."""

    players: str = "acting"
    """Whose actions, as for `actions`."""


@dataclass(frozen=True, kw_only=True)
class FutureConfig(HeadConfig):
    """Tell the frame to come from the others of the batch (InfoNCE)."""

    ahead: int = 8
    """How many frames later."""
    temperature: float = 0.1
    """Of the softmax over the batch; lower is sharper."""


@dataclass(frozen=True, kw_only=True)
class StateConfig(HeadConfig):
    """Predict the recorded state: how far an encoder could come that is told the answers."""


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """Small networks that predict, from an encoder's latents, what recordings hold beside frames."""

    own_weight: float = 1.0
    """Of the model's own loss; with 0 it learns from heads alone."""
    noise: float = 0.1
    """Deviation of the noise on the latents that heads get in training."""
    square: float = 1e-3
    """Weight of the mean square of those latents, which bounds them."""
    hidden: int = 64
    """Units between latents and prediction; 0 for a linear head."""
    actions: ActionsConfig = field(default_factory=ActionsConfig)
    value: ValueConfig = field(default_factory=ValueConfig)
    inverse: InverseConfig = field(default_factory=InverseConfig)
    future: FutureConfig = field(default_factory=FutureConfig)
    state: StateConfig = field(default_factory=StateConfig)

    def __post_init__(self) -> None:
        for name in ("own_weight", "noise", "square", "hidden"):
            _check(0 <= getattr(self, name) < math.inf, f"{name} must be 0 or more")
        for name, head in self._all().items():
            _check(0 <= head.weight < math.inf, f"{name}.weight must be 0 or more")
        _check(1 <= self.actions.count <= 4096, "actions.count must be from 1 to 4096")
        _check(self.hidden <= 65_536, "hidden must be at most 65536")
        _check(0 < self.value.gamma <= 1, "value.gamma must be above 0 and at most 1")
        _check(self.value.above is None or 0 <= self.value.above < 1, "value.above must be at least 0 and below 1, or null")
        _check(self.future.ahead >= 1, "future.ahead must be 1 or more")
        _check(self.future.temperature > 0, "future.temperature must be greater than 0")

    @property
    def trains_own(self) -> bool:
        """Whether the model's own loss has a part in the training."""
        return self.own_weight > 0 or not self.active

    @property
    def active(self) -> dict[str, HeadConfig]:
        """The heads that are trained, by name."""
        return {name: head for name, head in self._all().items() if head.weight}

    def labels(self, clip_length: int) -> Labels:
        """Return the labels that the active heads are trained on; raise `UserError` for heads that want a label in two ways.

        Where clips are single frames, the frame that follows is a label too.
        """
        found: list[Labels] = []
        for name in self.active:
            if name in ("actions", "inverse"):
                count = self.actions.count if self.actions.weight else 1
                found.append({"next_actions": {"count": count, "players": getattr(self, name).players}})
            if name in ("inverse", "future") and clip_length == 1:
                found.append({"frames_ahead": {"ahead": self.future.ahead if name == "future" else 1}})
            if name == "value":
                found.append({"reward_to_come": {"gamma": self.value.gamma}})
            if name == "state":
                found.append({"state": {}})
        return joined_labels(found)

    def _all(self) -> dict[str, HeadConfig]:
        heads = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {name: head for name, head in heads.items() if isinstance(head, HeadConfig)}


@dataclass(frozen=True)
class Column:
    """A number that a head predicts: a key, held or not, or a number of the size `scale` (its deviation)."""

    name: str
    kind: Literal["key", "number"] = "number"
    scale: float = 1.0


@dataclass(frozen=True)
class Recorded:
    """What the numbers stand for that heads predict, as the recordings have them."""

    actions: tuple[Column, ...] = ()
    states: tuple[Column, ...] = ()


def joined_labels(wanted: list[Labels]) -> Labels:
    """Put labels together; raise `UserError` where one is wanted with different options."""
    joined: Labels = {}
    for labels in wanted:
        for name, options in labels.items():
            if joined.setdefault(name, options) != options:
                one, other = (_spelled(some) for some in (joined[name], options))
                raise UserError(f"the label '{name}' is wanted with {one} and with {other}: give both the same, or train one of them")
    return joined


def _spelled(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "no options"


def _check(right: bool, must_be: str) -> None:
    if not right:
        raise UserError(f"heads.{must_be}")
