"""DQN and its kin with an epsilon that does not depend on the length of the run."""

from sb3_contrib import QRDQN
from stable_baselines3 import DQN


class _Exploring:
    """Lets epsilon fall over a number of agent steps, whatever the length of the run.

    Stable-Baselines3 knows it as a part of the run, and would start anew with each call of `learn`.
    """

    exploration_steps = 1

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        self._current_progress_remaining = max(0.0, 1.0 - num_timesteps / self.exploration_steps)


class FallingDQN(_Exploring, DQN):
    """`DQN` with such an epsilon."""


class FallingQRDQN(_Exploring, QRDQN):
    """`QRDQN` with such an epsilon."""
