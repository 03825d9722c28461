"""Algorithms that learn from a replay buffer: every step is kept, and used again and again."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from agents.learning.learner import Acts, Learner
from foundation.errors import UserError

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


@dataclass
class _OffPolicy(Learner):
    buffer_size: int = 100_000
    """Agent steps kept in memory, over all environments; two observations each."""
    learning_starts: int = 1000
    """Agent steps with random actions before the first update."""
    batch_size: int = 128
    train_freq: int = 1
    """Steps of each environment between two rounds of updates."""
    gradient_steps: int = 1
    """Updates a round."""
    n_steps: int = 1
    """Steps whose rewards a target holds before the value of what follows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "n_envs", "set_width", "buffer_size", "batch_size", "train_freq", "gradient_steps", "n_steps")
        self._at_least(0, "learning_starts")
        if self.buffer_size % self.n_envs:
            raise UserError(f"'algorithm.buffer_size' must be a multiple of n_envs = {self.n_envs}, got {self.buffer_size}")

    @property
    def chunk(self) -> int:
        return self.n_envs * self.train_freq

    def stored_steps(self) -> tuple[int, int, str]:
        return self.buffer_size, 2, "buffer_size"

    def keywords(self, venv: "VecEnv") -> dict[str, Any]:
        from gymnasium import spaces

        keywords = super().keywords(venv)
        if self.n_steps == 1 or not isinstance(venv.observation_space, spaces.Dict):
            return keywords
        from agents.learning.n_step import NStepDictReplayBuffer

        del keywords["n_steps"]
        sums = {"n_steps": self.n_steps, "gamma": self.gamma}
        return {**keywords, "replay_buffer_class": NStepDictReplayBuffer, "replay_buffer_kwargs": sums}

    def for_playing(self) -> Learner:
        return replace(self, n_envs=1, buffer_size=1)


@dataclass
class DQNSettings(_OffPolicy):
    """Deep Q-learning (Mnih et al. 2015). Evaluated with the last epsilon, as there."""

    kind: Literal["dqn"] = "dqn"
    target_update_interval: int = 1000
    """Agent steps between two copies into the target network."""
    exploration_steps: int = 10_000
    """Agent steps in which epsilon falls to its last value."""
    exploration_initial_eps: float = 1.0
    exploration_final_eps: float = 0.05
    max_grad_norm: float = 10.0

    algorithm: ClassVar[str] = "agents.learning.exploring:FallingDQN"
    acts: ClassVar[tuple[Acts, ...]] = ("choice",)
    own: ClassVar[tuple[str, ...]] = (*Learner.own, "exploration_steps")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(1, "target_update_interval", "exploration_steps")

    @property
    def epsilon(self) -> float:
        return self.exploration_final_eps

    def policy_options(self) -> dict[str, Any]:
        return {"net_arch": list(self.net_arch)}

    def keywords(self, venv: "VecEnv") -> dict[str, Any]:
        return {**super().keywords(venv), "exploration_fraction": 1.0}

    def make(self, *given: Any, **options: Any) -> "BaseAlgorithm":
        made: Any = super().make(*given, **options)
        made.exploration_steps = self.exploration_steps
        return made


@dataclass
class QRDQNSettings(DQNSettings):
    """Deep Q-learning of the return's quantiles (Dabney et al. 2018). Evaluated with the last epsilon."""

    kind: Literal["qrdqn"] = "qrdqn"  # type: ignore[assignment]
    n_quantiles: int = 50

    algorithm: ClassVar[str] = "agents.learning.exploring:FallingQRDQN"
    own: ClassVar[tuple[str, ...]] = (*DQNSettings.own, "n_quantiles")

    def policy_options(self) -> dict[str, Any]:
        return {**super().policy_options(), "n_quantiles": self.n_quantiles}


@dataclass
class _Continuous(_OffPolicy):
    tau: float = 0.005
    """Part of the networks that goes into the target networks at each update."""

    acts: ClassVar[tuple[Acts, ...]] = ("continuous",)

    def policy_options(self) -> dict[str, Any]:
        return {"net_arch": list(self.net_arch)}


@dataclass
class SACSettings(_Continuous):
    """Soft actor-critic (Haarnoja et al. 2018) with a learned entropy coefficient."""

    kind: Literal["sac"] = "sac"

    algorithm: ClassVar[str] = "stable_baselines3:SAC"


@dataclass
class TD3Settings(_Continuous):
    """Twin delayed deep deterministic policy gradients (Fujimoto et al. 2018). Evaluated without noise."""

    kind: Literal["td3"] = "td3"
    exploration_noise: float = 0.2
    """Standard deviation of what is added to actions from -1 to 1 in training."""
    policy_delay: int = 2
    """Updates of the critic for each of the actor."""

    algorithm: ClassVar[str] = "stable_baselines3:TD3"
    own: ClassVar[tuple[str, ...]] = (*Learner.own, "exploration_noise")

    def keywords(self, venv: "VecEnv") -> dict[str, Any]:
        import numpy as np
        from stable_baselines3.common.noise import NormalActionNoise

        size = int(np.prod(venv.action_space.shape or ()))
        return {**super().keywords(venv), "action_noise": NormalActionNoise(np.zeros(size), np.full(size, self.exploration_noise))}
