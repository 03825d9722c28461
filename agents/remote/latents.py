"""Latents of remote environments, encoded by the learner while other results are still on their way."""

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from agents.remote.vec_env import RayVecEnv
from wrappers import PictureEncoder, VecLatent
from wrappers.flat_observation import LATENT
from wrappers.latents import pictures_of, with_latents


class ArrivingLatent(VecLatent):
    """`VecLatent` over a `RayVecEnv`: rows are encoded as soon as all of their batch have come.

    Batches are those that `FrozenEncoder` would split all rows into, whatever the order of arrival: latents have the bits that
    `VecLatent` over local environments gives. The last observation of an episode that an actor's death cut off keeps its latents.
    """

    venv: RayVecEnv

    def __init__(self, venv: RayVecEnv, frozen: PictureEncoder, any_rate: bool = False) -> None:
        super().__init__(venv, frozen, any_rate)
        self._latents = np.zeros((self.num_envs, *frozen.latent_shape), np.float32)

    def reset(self) -> Any:
        observation: Any = super().reset()
        self._latents = observation[LATENT] if isinstance(observation, dict) else observation
        return observation

    def step_wait(self) -> VecEnvStepReturn:
        size = self.frozen.batch_rows(self.num_envs)
        batches = [slice(start, min(start + size, self.num_envs)) for start in range(0, self.num_envs, size)]
        came, parts = np.zeros(self.num_envs, dtype=bool), {}
        for rows in self.venv.arrivals():
            came[rows] = True
            self._told.take_reported(self._actions, self.venv.results.infos[rows], rows.start)
            for batch in batches:
                if batch.start not in parts and came[batch].all():
                    results = self.venv.results
                    parts[batch.start] = self._encode_rows(batch, pictures_of(results.observation)[batch], results.dones[batch])
        observation, rewards, dones, infos = self.venv.results.as_step()
        self._finish_episodes(dones, infos)
        in_order = [parts[batch.start] for batch in batches]
        self._latents = np.concatenate([latents for latents, _ in in_order])
        self._state = {name: torch.cat([following[name] for _, following in in_order]) for name in self._state}
        return with_latents(observation, self._latents), rewards, dones, infos

    def _finish_episodes(self, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        died = np.array([info.get("actor_died", False) for info in infos])
        for row in np.flatnonzero(died):
            infos[row]["terminal_observation"] = with_latents(infos[row]["terminal_observation"], self._latents[row].copy())
        if (dones & ~died).any():
            self._encode_terminal(np.flatnonzero(dones & ~died), infos)
