"""Any gymnasium environment that shows an RGB picture, in the form that MineRL's have."""

from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from foundation.errors import UserError, nearest

POV = "pov"
_LEAST_SIDE = 8


class PictureObservation(gymnasium.Wrapper[dict[str, Any], Any, Any, Any]):
    """Observation becomes a dictionary with the RGB picture, uint8 (H, W, 3), under `pov`; actions stay as they are.

    The picture is the observation itself, or the one picture among its entries, or the entry named by `picture`; with
    `picture="render"` it is what the environment renders, which replaces an observation that is not a dictionary
    (an agent that is to learn from pictures must not see the numbers). Other entries stay. Where the environment offers `step_ticks`,
    so does this. Raises `UserError` when there is no picture or more than one. Observations are the caller's: the environment does not
    write into them afterwards.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], picture: str | None = None) -> None:
        super().__init__(env)
        self._name = env.spec.id if env.spec else type(env.unwrapped).__name__
        self._rendered = picture == "render"
        self._key = None if self._rendered else self._find(picture)
        source = env.observation_space
        others = {} if not isinstance(source, spaces.Dict) else {key: space for key, space in source.items() if key != self._key}
        if POV in others:
            raise UserError(f"{self._name}: its observation has an entry '{POV}' that is not the chosen picture; choose picture='{POV}'")
        self._others = tuple(others)
        self.observation_space = spaces.Dict({POV: self._picture_space(), **others})
        if hasattr(env, "step_ticks"):
            self.step_ticks = self._step_ticks

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._convert(observation), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._convert(observation), reward, terminated, truncated, info

    def _step_ticks(self, action: Any, ticks: int) -> tuple[dict[str, Any], Any, bool, bool, dict[str, Any]]:
        observation, *rest = self.env.step_ticks(action, ticks)  # type: ignore[attr-defined]
        return self._convert(observation), *rest

    def _find(self, wanted: str | None) -> str | None:
        """Return the key of the picture, None when the observation itself is one."""
        space = self.env.observation_space
        entries = dict(space.items()) if isinstance(space, spaces.Dict) else {}
        if wanted is not None:
            if wanted not in entries:
                known = [*entries, "render"]
                raise UserError(f"{self._name}: its observation has no entry picture='{wanted}'; {nearest(wanted, known)}")
            if not is_picture(entries[wanted]):
                raise UserError(f"{self._name}: picture='{wanted}' is {entries[wanted]}, not an RGB picture, uint8 (H, W, 3)")
            return wanted
        if is_picture(space):
            return None
        found = [key for key, entry in entries.items() if is_picture(entry)]
        if len(found) > 1:
            raise UserError(f"{self._name}: several pictures in its observation; choose picture= one of {', '.join(found)}")
        if not found:
            problem = f"no RGB picture, uint8 (H, W, 3), in its observation {space}"
            raise UserError(f"{self._name}: {problem}; picture='render' takes the rendered one")
        return found[0]

    def _picture_space(self) -> spaces.Space:
        if not self._rendered:
            space = self.env.observation_space
            return space if self._key is None else space[self._key]  # type: ignore[index]
        self.env.reset(seed=0)
        return spaces.Box(0, 255, self._render().shape, np.uint8)

    def _render(self) -> np.ndarray:
        try:
            picture: Any = self.env.render()
        except gymnasium.error.Error as error:
            raise UserError(f"{self._name} cannot be rendered: {' '.join(str(error).split())}") from error
        if not (isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3):
            raise UserError(f"{self._name}: it does not render an RGB picture, uint8 (H, W, 3)")
        return picture

    def _convert(self, observation: Any) -> dict[str, Any]:
        seen = observation if self._key is None else observation[self._key]
        picture = self._render() if self._rendered else seen
        # copied: an environment may draw the next picture into the same array, and what an episode showed last is kept beyond its end
        return {POV: np.array(picture, order="C"), **{key: deepcopy(observation[key]) for key in self._others}}


def is_picture(space: spaces.Space) -> bool:
    """Say whether a space holds RGB pictures: uint8 (H, W, 3), at least 8 pixels a side."""
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        return False
    return space.shape[2] == 3 and min(space.shape[:2]) >= _LEAST_SIDE
