"""Targets of several steps from a replay buffer of dictionary observations, which Stable-Baselines3 has for single arrays only."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize


class NStepDictReplayBuffer(DictReplayBuffer):
    """A `DictReplayBuffer` whose samples hold the discounted rewards of `n_steps` steps, the observation after them, and its discount.

    The sums are `NStepReplayBuffer`'s: one that shares this buffer's rewards and ends, and whose observations are their places here.
    """

    def __init__(self, *arguments: Any, n_steps: int, gamma: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        places = spaces.Box(0, np.iinfo(np.int64).max, (1,), np.int64)
        self._sums = NStepReplayBuffer(
            self.buffer_size * self.n_envs, places, self.action_space, "cpu", n_envs=self.n_envs, n_steps=n_steps, gamma=gamma
        )
        grid = np.arange(self.buffer_size * self.n_envs).reshape(self.buffer_size, self.n_envs, 1)
        self._sums.observations = self._sums.next_observations = grid
        for name in ("actions", "rewards", "dones", "timeouts"):
            setattr(self._sums, name, getattr(self, name))

    def _get_samples(  # type: ignore[override]
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> DictReplayBufferSamples:
        self._sums.pos, self._sums.full = self.pos, self.full
        sums = self._sums._get_samples(batch_inds)
        first, last = (np.divmod(places.numpy()[:, 0], self.n_envs) for places in (sums.observations, sums.next_observations))
        return DictReplayBufferSamples(
            observations={key: self.to_torch(array[first]) for key, array in self.observations.items()},
            actions=sums.actions.to(self.device),
            next_observations={key: self.to_torch(array[last]) for key, array in self.next_observations.items()},
            dones=sums.dones.to(self.device),
            rewards=sums.rewards.to(self.device),
            discounts=None if sums.discounts is None else sums.discounts.to(self.device),
        )
