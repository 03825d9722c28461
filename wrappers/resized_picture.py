"""Pictures of another size than the environment's."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from foundation.errors import UserError
from frames.resize import ResizeMode, resize_frames
from wrappers.flat_observation import PICTURE


class ResizedPicture(gymnasium.ObservationWrapper):
    """Resize the picture under `pov`, uint8 (H, W, 3), to `size`, through the resize that frame stores are built with.

    For environments whose frames are large, such as MineRL 1.0's of 360x640: an agent then sees what an encoder was trained on.
    """

    def __init__(self, env: gymnasium.Env, size: tuple[int, int], mode: ResizeMode = "squash") -> None:
        super().__init__(env)
        if not isinstance(env.observation_space, spaces.Dict) or PICTURE not in env.observation_space.spaces:
            raise UserError(f"no picture '{PICTURE}' to resize in the observation {env.observation_space}")
        if min(size) < 1:
            raise UserError(f"frames of {size[0]}x{size[1]}: both must be at least 1")
        self.size, self.mode = size, mode
        height, width, channels = env.observation_space[PICTURE].shape  # type: ignore[misc]
        self.picture_resize = None if height * size[1] == width * size[0] else mode
        """How pictures are resized where it makes a difference: to squash is to crop nothing at the same aspect ratio."""
        picture = spaces.Box(0, 255, (*size, channels), np.uint8)
        self.observation_space = spaces.Dict({**env.observation_space.spaces, PICTURE: picture})

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        return {**observation, PICTURE: resize_frames(observation[PICTURE][None], self.size, self.mode)[0]}
