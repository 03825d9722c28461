"""What both latent wrappers share: the observation space, the checks of frame rate and resizing."""

from typing import Any

import numpy as np
from gymnasium import spaces

from foundation.errors import UserError
from wrappers.flat_observation import LATENT, PICTURE
from wrappers.picture_encoder import PictureEncoder
from wrappers.sets import SetSpace


def latent_space(space: spaces.Space, frozen: PictureEncoder) -> spaces.Space:
    """Return the observation space with latents in place of the picture, a `SetSpace` where their rows have no order."""
    kind = SetSpace if frozen.is_set else spaces.Box
    latents = kind(-np.inf, np.inf, frozen.latent_shape, np.float32)
    if isinstance(space, spaces.Dict):
        if PICTURE not in space.spaces:
            raise UserError(f"no picture '{PICTURE}' in the observation; it has: {', '.join(space.spaces)}")
    elif not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) != 3:
        raise UserError(f"latents need an observation that is or holds an RGB picture, got {space}")
    return in_place_of_picture(space, latents)


def in_place_of_picture(space: spaces.Space, latents: spaces.Space) -> spaces.Space:
    """Return an observation space with `latents` in place of the picture; raise `UserError` where an entry has their name already."""
    if not isinstance(space, spaces.Dict):
        return latents
    if LATENT in space.spaces:
        raise UserError(f"the observation has an entry '{LATENT}' of its own: rename it, or flatten it by FlatObservation")
    return spaces.Dict({LATENT: latents, **{key: sub for key, sub in space.spaces.items() if key != PICTURE}})


def pictures_of(observation: Any) -> np.ndarray:
    """Return the picture, or the batch of pictures, of an observation."""
    return np.asarray(observation[PICTURE] if isinstance(observation, dict) else observation)


def with_latents(observation: Any, latents: np.ndarray) -> Any:
    """Put latents in the place of the picture."""
    if not isinstance(observation, dict):
        return latents
    return {LATENT: latents, **{key: value for key, value in observation.items() if key != PICTURE}}


def check_resize(frozen: PictureEncoder, mode: str | None) -> None:
    """Refuse pictures that are resized in another way than the encoder's frames were; None: they are not resized, or either is the same."""
    if mode is not None and mode != frozen.info.resize:
        raise UserError(
            f"this encoder's frames were resized by '{frozen.info.resize}', the environment's pictures are by '{mode}'; "
            f"resize them by '{frozen.info.resize}'"
        )


def check_rate(frozen: PictureEncoder, metadata: dict[str, Any], any_rate: bool) -> None:
    """Refuse to step a model with memory at another rate than it was trained at, frame skip included."""
    trained, stepped = frozen.info.frames_per_second, metadata.get("render_fps")
    if any_rate or not frozen.has_memory or trained == stepped:
        return
    raise UserError(
        f"this encoder has memory and was trained at {trained} frames/s, but the environment is stepped at {stepped} frames/s "
        "(frame skip included); train it at that rate, change the frame skip, or say any_rate"
    )
