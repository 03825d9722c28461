"""What was seen a few steps ago, beside what is seen now."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from encoders.encoder import State
from foundation.arrays import alike
from foundation.errors import UserError
from wrappers.picture_encoder import PictureEncoder
from wrappers.sets import SetSpace

_ALONE = "observation"
_BEFORE = "history."
_NO_ORDER = "a history needs latents in a fixed order, and these are a set: use --environment.history 1, or another reading (--latents)"


class VecHistory(VecEnvWrapper):
    """Stack each observation with those of the steps before it, `count` in all, the newest last.

    Numbers (D,) become (count * D,), pictures (H, W, C) and maps (C, H, W) get `count` times the channels; so does every part of a
    dictionary. Before an episode's first step stands its first observation, repeated: Stable-Baselines3's `VecFrameStack`, which does the
    same otherwise, has zeros there, a picture that no encoder was trained on. The memory is kept with that of the encoder below. Raises
    `UserError` for sets, whose rows no step has in the order of another's, and for pictures of as many channels then as rows or columns,
    which Stable-Baselines3 would take for the channels.
    """

    def __init__(self, venv: VecEnv, count: int) -> None:
        self.count = count
        whole = venv.observation_space
        super().__init__(venv, observation_space=history_space(whole, count))
        # an axis from the end: rows of a batch come first
        self._axes = {key: -1 if _channels_last(space) else -len(space.shape or ()) for key, space in _parts(whole).items()}
        self._encoding: Any = venv if hasattr(type(venv), "encoder_state") else None
        self._seen: dict[str, np.ndarray] = {}

    def reset(self) -> VecEnvObs:
        self._seen = self._repeated(_parts(self.venv.reset()))
        return self._shown(self._seen)

    def step_wait(self) -> VecEnvStepReturn:
        observation, rewards, dones, infos = self.venv.step_wait()
        for row in np.flatnonzero(dones):
            last = self._following({key: seen[row] for key, seen in self._seen.items()}, _parts(infos[row]["terminal_observation"]))
            infos[row]["terminal_observation"] = self._shown(last)
        parts = _parts(observation)
        self._seen = self._following(self._seen, parts)
        if dones.any():
            fresh = self._repeated({key: part[dones] for key, part in parts.items()})
            for key, seen in self._seen.items():
                seen[dones] = fresh[key]
        return self._shown(self._seen), rewards, dones, infos

    def encoder_state(self) -> State:
        """Return what is remembered, that of the encoder below too, to be kept in a checkpoint."""
        below: State = {} if self._encoding is None else self._encoding.encoder_state()
        return {**below, **{_BEFORE + key: torch.from_numpy(seen.copy()) for key, seen in self._seen.items()}}

    def restore_encoder_state(self, state: State) -> None:
        """Go on from what `encoder_state` returned."""
        ours = {key: state[_BEFORE + key].numpy() for key in self._seen if _BEFORE + key in state}
        self._seen = alike(ours, self._seen, "damaged: the observations of the steps before")
        if self._encoding is not None:
            self._encoding.restore_encoder_state({name: tensor for name, tensor in state.items() if not name.startswith(_BEFORE)})

    def _following(self, seen: dict[str, np.ndarray], parts: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return new arrays without the oldest, and with `parts` as the newest."""
        following = {}
        for key, axis in self._axes.items():
            newest = np.asarray(parts[key])
            kept = seen[key].shape[axis] - newest.shape[axis]
            older = np.take(seen[key], range(newest.shape[axis], newest.shape[axis] + kept), axis=axis)
            following[key] = np.concatenate([older, newest], axis=axis)
        return following

    def _repeated(self, parts: dict[str, Any]) -> dict[str, np.ndarray]:
        return {key: np.concatenate([parts[key]] * self.count, axis=axis) for key, axis in self._axes.items()}

    def _shown(self, seen: dict[str, np.ndarray]) -> Any:
        # copied: it is changed where an episode ends, and learners keep what they see
        copied = {key: part.copy() for key, part in seen.items()}
        return copied if isinstance(self.observation_space, spaces.Dict) else copied[_ALONE]


def history_space(whole: spaces.Space, count: int) -> spaces.Space:
    """Return the space of `count` observations of another; raise `UserError` where it has no history, as `VecHistory` does."""
    parts: dict[str, spaces.Space] = {key: _stacked(space, count) for key, space in _parts(whole).items()}
    return spaces.Dict(parts) if isinstance(whole, spaces.Dict) else parts[_ALONE]


def refuse_history(encoder: PictureEncoder, count: int) -> None:
    """Raise `UserError` where latents are a set, and an agent is to see those of `count` steps."""
    if count > 1 and encoder.is_set:
        raise UserError(_NO_ORDER)


def _parts(whole: Any) -> dict[str, Any]:
    """Return the parts of an observation or a space, by name."""
    if isinstance(whole, spaces.Dict):
        return dict(whole.spaces)
    return whole if isinstance(whole, dict) else {_ALONE: whole}


def _channels_last(space: spaces.Space) -> bool:
    return space.dtype == np.uint8 or len(space.shape or ()) == 1


def _stacked(space: spaces.Space, count: int) -> spaces.Box:
    if isinstance(space, SetSpace):
        raise UserError(_NO_ORDER)
    assert isinstance(space, spaces.Box)
    axis = -1 if _channels_last(space) else 0
    if is_image_space(space) and (least := min(space.shape[:2])) <= (channels := count * space.shape[-1]):
        raise UserError(
            f"a history of {count} pictures {space.shape} has {channels} channels, and a CNN tells channels by being fewer than rows and "
            f"columns: lower --environment.history to {max(1, (least - 1) // space.shape[-1])}"
        )
    low, high = (np.concatenate([end] * count, axis=axis) for end in (space.low, space.high))
    return spaces.Box(low, high, dtype=space.dtype)
