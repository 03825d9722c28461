"""Latents instead of pixels for many environments, in one forward pass."""

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from encoders.encoder import State
from foundation.errors import UserError
from wrappers.action_vectors import ToldActions, attribute
from wrappers.latents import check_rate, check_resize, latent_space, pictures_of, with_latents
from wrappers.picture_encoder import PictureEncoder
from wrappers.state_rows import memory_for


class VecLatent(VecEnvWrapper):
    """Replace the pictures of a `VecEnv` by the latents of a frozen encoder.

    Spaces change as in `LatentObservation`. The wrapper owns the encoder's state, one row an environment: a row starts anew
    when its episode ends, and the episode's `terminal_observation` is encoded from the state before the step.
    """

    def __init__(self, venv: VecEnv, frozen: PictureEncoder, any_rate: bool = False) -> None:
        check_rate(frozen, venv.get_attr("metadata")[0], any_rate)
        check_resize(frozen, attribute(venv, "picture_resize"))
        self._told = ToldActions(frozen, venv)
        super().__init__(venv, observation_space=latent_space(venv.observation_space, frozen))
        self.frozen = frozen
        self._state = frozen.initial_state(self.num_envs)
        self._actions = self._told.none(self.num_envs)

    def reset(self) -> VecEnvObs:
        observation = self.venv.reset()
        self._state = self.frozen.initial_state(self.num_envs)
        return self._encoded(observation, self._told.none(self.num_envs))

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = self._told.given(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        observation, rewards, dones, infos = self.venv.step_wait()
        self._told.take_reported(self._actions, infos)
        latents, following = self._encode_rows(slice(None), pictures_of(observation), dones)
        if dones.any():
            self._encode_terminal(np.flatnonzero(dones), infos)
        self._state = following
        return with_latents(observation, latents), rewards, dones, infos

    def encoder_state(self) -> State:
        """Return the encoder's memory, to be kept in a checkpoint."""
        return self._state

    def restore_encoder_state(self, state: State) -> None:
        """Go on from what `encoder_state` returned, of an encoder with the same weights in a folder or behind a service.

        Raises `UserError` for the memory of another encoder.
        """
        memory = memory_for(self.frozen, state, self.num_envs)
        if memory is None:
            raise UserError("the encoder's memory in it is of another encoder; name the --encoder that it had")
        self._state = memory

    def _encoded(self, observation: Any, actions: np.ndarray | None) -> Any:
        latents, self._state = self.frozen.encode(pictures_of(observation), self._state, actions)
        return with_latents(observation, latents)

    def _encode_rows(self, rows: slice, pictures: np.ndarray, dones: np.ndarray) -> tuple[np.ndarray, State]:
        """Encode what some rows see after a step, from their state before it, or anew where an episode ended."""
        before = {name: tensor[rows] for name, tensor in self._state.items()}
        actions = None if self._actions is None else self._actions[rows]
        if dones.any():
            before = _reset_rows(before, self.frozen.initial_state(len(dones)), dones)
            actions = None if actions is None else np.where(dones[:, None], np.float32(0), actions)
        return self.frozen.encode(pictures, before, actions)

    def _encode_terminal(self, rows: np.ndarray, infos: list[dict[str, Any]]) -> None:
        last = [infos[row]["terminal_observation"] for row in rows]
        before = {name: tensor[torch.from_numpy(rows)] for name, tensor in self._state.items()}
        actions = None if self._actions is None else self._actions[rows]
        latents, _ = self.frozen.encode(np.stack([pictures_of(one) for one in last]), before, actions)
        for row, observation, latent in zip(rows, last, latents, strict=True):
            infos[row]["terminal_observation"] = with_latents(observation, latent)


def _reset_rows(state: State, initial: State, mask: np.ndarray) -> State:
    chosen = torch.from_numpy(mask)
    return {
        name: torch.where(chosen.to(tensor.device).reshape(-1, *[1] * (tensor.ndim - 1)), initial[name], tensor)
        for name, tensor in state.items()
    }
