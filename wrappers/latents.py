"""What both latent wrappers share: the observation space, the checks of frame rate and actions, actions as numbers."""

from typing import Any

import numpy as np
from gymnasium import spaces

from foundation.errors import UserError
from wrappers.flat_observation import PICTURE
from wrappers.frozen_encoder import FrozenEncoder

LATENT = "latent"


def latent_space(space: spaces.Space, frozen: FrozenEncoder) -> spaces.Space:
    """Return the observation space with latents in place of the picture."""
    latents = spaces.Box(-np.inf, np.inf, frozen.latent_shape, np.float32)
    if isinstance(space, spaces.Dict):
        if PICTURE not in space.spaces:
            raise UserError(f"no picture '{PICTURE}' in the observation; it has: {', '.join(space.spaces)}")
        return spaces.Dict({LATENT: latents, **{key: sub for key, sub in space.spaces.items() if key != PICTURE}})
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3:
        return latents
    raise UserError(f"latents need an observation that is or holds an RGB picture, got {space}")


def pictures_of(observation: Any) -> np.ndarray:
    """Return the picture, or the batch of pictures, of an observation."""
    return np.asarray(observation[PICTURE] if isinstance(observation, dict) else observation)


def with_latents(observation: Any, latents: np.ndarray) -> Any:
    """Put latents in the place of the picture."""
    if not isinstance(observation, dict):
        return latents
    return {LATENT: latents, **{key: value for key, value in observation.items() if key != PICTURE}}


def check_rate(frozen: FrozenEncoder, metadata: dict[str, Any], any_rate: bool) -> None:
    """Refuse to step a model with memory at another rate than it was trained at, frame skip included."""
    trained, stepped = frozen.info.frames_per_second, metadata.get("render_fps")
    if any_rate or not frozen.has_memory or trained == stepped:
        return
    raise UserError(
        f"this encoder has memory and was trained at {trained} frames/s, but the environment is stepped at {stepped} frames/s "
        "(frame skip included); train it at that rate, change the frame skip, or say any_rate"
    )


def check_actions(frozen: FrozenEncoder, space: spaces.Space) -> None:
    """Refuse an encoder that takes other actions than the environment's vectors."""
    wanted, offered = frozen.action_size, _vector_size(space)
    if wanted and wanted != offered:
        vectors = f"become vectors of {offered} numbers" if offered else "do not become one vector"
        raise UserError(
            f"this encoder was trained with actions of {wanted} numbers, and this environment's actions ({space}) {vectors}; "
            "use an encoder trained without actions (model.action_size 0)"
        )


def action_vectors(frozen: FrozenEncoder, space: spaces.Space, actions: Any) -> np.ndarray | None:
    """Return actions as new float32 (B, A): one-hot for choices, flat numbers for boxes; None where the encoder takes none."""
    if not frozen.action_size:
        return None
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[np.asarray(actions, int).reshape(-1) - int(space.start)]
    # copied: they are kept until the step is over, and an environment may change what it is given
    return np.array(actions, np.float32).reshape(len(actions), -1)


def no_action(frozen: FrozenEncoder, rows: int) -> np.ndarray | None:
    """Return the zeros (B, A) that stand before an episode's first frame; None where the encoder takes no actions."""
    return np.zeros((rows, frozen.action_size), np.float32) if frozen.action_size else None


def _vector_size(space: spaces.Space) -> int | None:
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return None if space.shape is None else int(np.prod(space.shape))
