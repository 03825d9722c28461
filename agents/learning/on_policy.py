"""Algorithms that learn from the rollout just collected, and then forget it."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from agents.learning.learner import Acts, Learner
from foundation.errors import UserError


@dataclass
class _OnPolicy(Learner):
    n_steps: int = 128
    """Steps of each environment in a rollout."""
    gae_lambda: float = 0.95
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5

    acts: ClassVar[tuple[Acts, ...]] = ("choice", "choices", "continuous")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "n_envs", "set_width", "n_steps")

    @property
    def chunk(self) -> int:
        return self.n_envs * self.n_steps

    def stored_steps(self) -> tuple[int, int, str]:
        return self.n_envs * self.n_steps, 1, "n_steps"

    def for_playing(self) -> Learner:
        return replace(self, n_envs=1, n_steps=1)

    def policy_options(self) -> dict[str, Any]:
        return {"net_arch": {"pi": list(self.net_arch), "vf": list(self.net_arch)}}


@dataclass
class PPOSettings(_OnPolicy):
    """Proximal policy optimisation (Schulman et al. 2017)."""

    kind: Literal["ppo"] = "ppo"
    batch_size: int = 256
    n_epochs: int = 4
    clip_range: float = 0.2

    algorithm: ClassVar[str] = "stable_baselines3:PPO"

    def __post_init__(self) -> None:
        super().__post_init__()
        rollout = self.n_envs * self.n_steps
        self._at_least(1, "n_envs", "set_width", "n_steps", "batch_size", "n_epochs")
        if self.batch_size < 2:
            raise UserError("'algorithm.batch_size' must be at least 2: advantages are standardised over a batch")
        if self.batch_size > rollout or rollout % self.batch_size:
            raise UserError(f"'algorithm.batch_size' must divide a rollout of n_envs x n_steps = {rollout}, got {self.batch_size}")

    def boundary_steps(self, most: int) -> int:
        return self.chunk

    def for_playing(self) -> Learner:
        # nothing is trained, but a rollout has to hold a batch
        return replace(self, n_envs=1, n_steps=2, batch_size=2)


@dataclass
class MaskablePPOSettings(PPOSettings):
    """PPO that never chooses an action which its environment says does nothing (Huang and Ontañón 2020)."""

    kind: Literal["maskable_ppo"] = "maskable_ppo"  # type: ignore[assignment]

    algorithm: ClassVar[str] = "sb3_contrib:MaskablePPO"
    acts: ClassVar[tuple[Acts, ...]] = ("choice",)
    needs_masks: ClassVar[bool] = True


@dataclass
class RecurrentPPOSettings(PPOSettings):
    """PPO whose policy and value function remember the episode in an LSTM each."""

    kind: Literal["recurrent_ppo"] = "recurrent_ppo"  # type: ignore[assignment]
    lstm_hidden_size: int = 128

    algorithm: ClassVar[str] = "sb3_contrib:RecurrentPPO"
    policy_family: ClassVar[str] = "Lstm"
    own: ClassVar[tuple[str, ...]] = (*Learner.own, "lstm_hidden_size")

    def policy_options(self) -> dict[str, Any]:
        return {**super().policy_options(), "lstm_hidden_size": self.lstm_hidden_size}


@dataclass
class A2CSettings(_OnPolicy):
    """Advantage actor-critic (Mnih et al. 2016): one update on each short rollout."""

    kind: Literal["a2c"] = "a2c"
    n_steps: int = 8
    gae_lambda: float = 1.0
    normalize_advantage: bool = False

    algorithm: ClassVar[str] = "stable_baselines3:A2C"
