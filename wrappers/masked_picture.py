"""Pictures with what a critic marks in them, for agents on pixels."""

from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from encoders import EncoderArtifact
from foundation.errors import UserError, in_one_line
from wrappers.action_vectors import attribute
from wrappers.flat_observation import PICTURE
from wrappers.latents import check_resize
from wrappers.opening import open_encoder
from wrappers.picture_encoder import PictureEncoder


class MaskedPicture(gymnasium.ObservationWrapper):
    """Show an agent where the thing is that pays, by the masks of an encoder that gives such, as a critic does.

    `how`: "channel", the mask is the picture's fourth channel, uint8 (H, W, 4); "darken", the picture is as bright as before where the mask
    is, and a quarter as bright where it is not. The picture is the observation, or its entry `pov`.

    Raises `UserError` for an observation without a picture, an encoder without masks, and pictures of another size or another resize.
    """

    OUTSIDE = 0.25

    def __init__(
        self,
        env: gymnasium.Env,
        encoder: PictureEncoder | EncoderArtifact | str | Path,
        how: Literal["channel", "darken"] = "channel",
    ) -> None:
        super().__init__(env)
        self.frozen = open_encoder(encoder) if isinstance(encoder, (EncoderArtifact, str, Path)) else encoder
        check_resize(self.frozen, attribute(env, "picture_resize"))
        if how not in ("channel", "darken"):
            raise UserError(f"how='{how}': a mask is shown as a 'channel', or the rest is made to 'darken'")
        self.how = how
        space, is_entry = env.observation_space, isinstance(env.observation_space, spaces.Dict)
        picture = space.spaces.get(PICTURE) if isinstance(space, spaces.Dict) else space
        if not isinstance(picture, spaces.Box) or picture.dtype != np.uint8 or len(picture.shape) != 3:
            raise UserError(f"masks need an observation that is or holds an RGB picture, got {in_one_line(space)}")
        height, width, channels = picture.shape
        # tells of other sizes, and of no masks, before the first step
        shape = self.frozen.masks(np.zeros((1, *picture.shape), np.uint8)).shape[1:]
        if shape != (height, width):
            raise UserError(f"masks are of {shape[0]}x{shape[1]} pixels, the picture of {height}x{width}; make it of that size")
        shown = spaces.Box(0, 255, (height, width, channels + 1 if how == "channel" else channels), np.uint8)
        self.observation_space = spaces.Dict({**space.spaces, PICTURE: shown}) if is_entry else shown  # type: ignore[attr-defined]

    def observation(self, observation: Any) -> Any:
        if isinstance(observation, dict):
            return {**observation, PICTURE: self._shown(observation[PICTURE])}
        return self._shown(observation)

    def _shown(self, picture: np.ndarray) -> np.ndarray:
        mask = self.frozen.masks(picture[None])[0][..., None]
        if self.how == "channel":
            return np.concatenate([picture, np.round(255 * mask).astype(np.uint8)], -1)
        return np.round(picture * (self.OUTSIDE + (1 - self.OUTSIDE) * mask)).astype(np.uint8)
