"""Latents instead of pixels for one gymnasium environment."""

from copy import deepcopy
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from wrappers.action_vectors import ToldActions, attribute
from wrappers.latents import check_rate, check_resize, latent_space, pictures_of, with_latents
from wrappers.picture_encoder import PictureEncoder


class LatentObservation(gymnasium.Wrapper):
    """Replace the picture of each observation by the latents of a frozen encoder.

    A picture becomes a `Box` of latents; in a dictionary `latent` stands in place of `pov`. The encoder's state lives here.
    """

    def __init__(self, env: gymnasium.Env, frozen: PictureEncoder, any_rate: bool = False) -> None:
        super().__init__(env)
        check_rate(frozen, env.metadata, any_rate)
        check_resize(frozen, attribute(env, "picture_resize"))
        self._told = ToldActions(frozen, env)
        self.frozen = frozen
        self.observation_space = latent_space(env.observation_space, frozen)
        self._state = frozen.initial_state(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._state = self.frozen.initial_state(1)
        return self._encoded(observation, self._told.none(1)), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        # before the step: an environment may change what it is given
        vectors = self._told.given([action])
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._told.take_reported(vectors, [info])
        return self._encoded(observation, vectors), reward, terminated, truncated, info

    def _encoded(self, observation: Any, action: np.ndarray | None) -> Any:
        latents, self._state = self.frozen.encode(pictures_of(observation)[None], self._state, action)
        # copied: an environment may write the next observation into the same arrays
        return deepcopy(with_latents(observation, latents[0]))
