"""The environment's own numbers instead of pixels: what an agent could do that was told where everything is."""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

from foundation.errors import UserError
from wrappers.latents import in_place_of_picture, with_latents


class StateObservation(gymnasium.Wrapper):
    """Replace the picture of each observation by the numbers of `info["state"]`, float32 (S,), in the order of their names.

    A picture becomes a `Box` of S numbers; in a dictionary `latent` stands in place of `pov`. The environment offers `state_space`, a
    dictionary of single numbers with their bounds, and puts them all into `info["state"]` at every reset and step. Raises `UserError`
    for one that does not.
    """

    def __init__(self, env: gymnasium.Env, name: str = "this environment") -> None:
        super().__init__(env)
        self.name = name
        numbers = state_space(env, name)
        self._names = list(numbers)
        self.observation_space = _with_numbers(env.observation_space, numbers)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._told(observation, info), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._told(observation, info), reward, terminated, truncated, info

    def _told(self, observation: Any, info: dict[str, Any]) -> Any:
        state = info.get("state", {})
        missing = [name for name in self._names if name not in state]
        if missing:
            raise UserError(f"{self.name}: its info['state'] lacks '{missing[0]}', which its state_space announces; mend the environment")
        return with_latents(observation, np.array([state[name] for name in self._names], np.float32).reshape(-1))


def state_space(env: gymnasium.Env, name: str) -> dict[str, spaces.Box]:
    """Return the single numbers that an environment tells of its state, by name, sorted; raise `UserError` where it tells none."""
    told = env.get_wrapper_attr("state_space") if env.has_wrapper_attr("state_space") else None
    if not isinstance(told, spaces.Dict) or not told.spaces:
        raise UserError(
            f"{name} tells nothing of its state (no state_space, no info['state']), which the control 'oracle' is made of: leave it out"
        )
    for key, space in told.spaces.items():
        if not isinstance(space, spaces.Box) or space.shape not in ((), (1,)):
            raise UserError(f"{name}: state_space['{key}'] is {space}, and must be a Box of a single number; mend the environment")
    return {key: told.spaces[key] for key in sorted(told.spaces)}  # type: ignore[misc]


def _with_numbers(space: spaces.Space, numbers: dict[str, spaces.Box]) -> spaces.Space:
    low, high = (np.array([getattr(box, end).item() for box in numbers.values()], np.float32) for end in ("low", "high"))
    return in_place_of_picture(space, spaces.Box(low, high, dtype=np.float32))
