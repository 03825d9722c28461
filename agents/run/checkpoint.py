"""A run's state at a rollout boundary, all of it behind one file.

`resume.pt` holds everything a run needs to go on, and names the segments of `replay/` that belong to it, so that no kill between
two files can lose it.
"""

import io
import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.learning.replay import Segment, cut_episodes, read_segments, remove_others, replay_buffer, rows_added, write_segments
from agents.run.position import Position
from encoders.content import refuse_not_finite
from foundation.arrays import alike
from foundation.documents import checked, fitting, parse, schema
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.outside import refuse_irregular

FORMAT = 1

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate")
"""What algorithms count; `_n_calls` and `exploration_rate` are those of DQN and its kin."""

_REMEDY = "choose another --run or delete it"
_CHECKPOINT = schema(
    {"variables": dict[str, Any], "replay": list[tuple[int, int]]},
    settings=schema(environment=dict[str, Any], algorithm=dict[str, Any]),
    position=Position,
    parameters=dict[str, Any],
    counters=dict[str, int | float],
    random=schema(python=Any, numpy=schema(keys=Any, rest=tuple[int, int, float]), torch=Any, cuda=list[Any]),
    worlds=schema(layers=list[list[Any]]),
)


def save_checkpoint(
    folder: Path, settings: dict[str, Any], position: Position, algorithm: BaseAlgorithm, written: list[Segment]
) -> list[Segment]:
    """Write what `replay/` does not hold yet, then `resume.pt` in one step; return the replay buffer's segments, which `written` were.

    Raises `UserError` where the disk is full; the checkpoint before it can still be resumed from.
    """
    buffer, segments = replay_buffer(algorithm), []
    if buffer is not None:
        segments = write_segments(folder / "replay", buffer, rows_added(algorithm), written)
    content = {
        "format": FORMAT,
        "settings": json.dumps(settings),
        "position": asdict(position),
        "parameters": algorithm.get_parameters(),
        "variables": {name: getattr(algorithm, name).detach().cpu() for name in _variables(algorithm)},
        "counters": {name: getattr(algorithm, name) for name in _COUNTERS if hasattr(algorithm, name)},
        "random": {**_random_state(), "actions": json.dumps(algorithm.action_space.np_random.bit_generator.state)},
        "worlds": _worlds(algorithm),
        "replay": [(segment.first, segment.last) for segment in segments],
    }
    file = io.BytesIO()
    torch.save(content, file)
    write_atomically(folder / "resume.pt", file.getvalue())
    remove_others(folder / "replay", segments)
    return segments


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return what `save_checkpoint` wrote, or None when there is none; never unpickles anything but plain data and tensors."""
    path = folder / "resume.pt"
    refuse_irregular(path)
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: damaged, or not a checkpoint of this program; {_REMEDY}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or "settings" not in content:
        raise UserError(f"{path}: a checkpoint of another version or of no agent; choose another --run")
    content["settings"] = parse(content["settings"], f"{path}: settings", _REMEDY)
    return checked(_CHECKPOINT, content, path, _REMEDY)


def restore_checkpoint(content: dict[str, Any], algorithm: BaseAlgorithm, folder: Path) -> tuple[Position, list[Segment]]:
    """Put everything back as `_restored` does; raise `UserError` for a checkpoint whose content fits no such agent."""
    with fitting(folder / "resume.pt", _REMEDY):
        return _restored(content, algorithm, folder)


def _restored(content: dict[str, Any], algorithm: BaseAlgorithm, folder: Path) -> tuple[Position, list[Segment]]:
    """Put the algorithm, its environments and the random generators back; return the position and the replay buffer's segments.

    Environments that cannot be restored begin fresh episodes, and so do all where an actor's death was found as they were saved.
    """
    refuse_not_finite(content["parameters"]["policy"], f"{folder / 'resume.pt'}: parameters.policy.", _REMEDY)
    algorithm.set_parameters(content["parameters"], exact_match=True)
    for name in _variables(algorithm):
        if name in content.get("variables", {}):
            getattr(algorithm, name).data.copy_(content["variables"][name])
    for name in _COUNTERS:
        if name in content["counters"] and hasattr(algorithm, name):
            setattr(algorithm, name, content["counters"][name])
    assert algorithm.env is not None
    segments = [Segment(first, last) for first, last in content.get("replay", [])]
    buffer = replay_buffer(algorithm)
    if buffer is not None:
        read_segments(folder / "replay", buffer, rows_added(algorithm), segments)
    try:
        whole = _restore_worlds(content["worlds"], algorithm)
    except UserError as error:
        raise UserError(f"{folder / 'resume.pt'}: {error}; choose another --run or delete it") from error
    if not whole and buffer is not None and segments:
        cut_episodes(buffer)
        # written anew, with what has changed
        segments = segments[:-1]
    _restore_random(content["random"])
    if "actions" in content["random"]:
        algorithm.action_space.np_random.bit_generator.state = parse(content["random"]["actions"], "random.actions")
    return Position(**content["position"]), segments


def _variables(algorithm: BaseAlgorithm) -> list[str]:
    """Name the tensors that an algorithm learns beside its networks, such as SAC's entropy coefficient."""
    return algorithm._get_torch_save_params()[1]


def _worlds(algorithm: BaseAlgorithm) -> dict[str, Any]:
    """Everything about the episodes that are under way, arrays as tensors."""
    venv = algorithm.env
    assert venv is not None
    worlds = {
        "observation": _tensors(algorithm._last_obs),
        "episode_starts": _tensors(algorithm._last_episode_starts),
        "layers": [[_tensors(state) for state in layers] for layers in venv.env_method("save_layers")],
    }
    memory = getattr(algorithm, "_last_lstm_states", None)
    if memory is not None:
        worlds["lstm"] = [[tensor.cpu() for tensor in pair] for pair in memory]
    encoding = _encoding_layer(venv)
    if encoding is not None:
        worlds["encoder"] = dict(encoding.encoder_state())
    return {**worlds, "whole": not _cut_off(venv)}


def _restore_worlds(worlds: dict[str, Any], algorithm: BaseAlgorithm) -> bool:
    """Put the environments back, or begin fresh episodes where that cannot be; return whether the episodes go on."""
    venv = algorithm.env
    assert venv is not None
    exact = worlds.get("whole", True) and all(venv.env_method("can_restore"))
    # a reset first: environments allocate in it
    fresh = venv.reset() if exact else None
    for index, states in enumerate(worlds["layers"]):
        venv.env_method("restore_layers", [_arrays(state) for state in states], indices=index)
    if not exact:
        algorithm._last_obs = venv.reset()  # type: ignore[assignment]
        algorithm._last_episode_starts = np.ones((venv.num_envs,), dtype=bool)
        return False
    algorithm._last_obs = alike(_arrays(worlds["observation"]), fresh, "damaged: 'observation'")
    starts = np.ones((venv.num_envs,), dtype=bool)
    algorithm._last_episode_starts = alike(_arrays(worlds["episode_starts"]), starts, "damaged: 'episode_starts'")
    if "lstm" in worlds:
        policy, value = (tuple(tensor.to(algorithm.device) for tensor in pair) for pair in worlds["lstm"])
        algorithm._last_lstm_states = RNNStates(policy, value)  # type: ignore[attr-defined]
    encoding = _encoding_layer(venv)
    if encoding is not None:
        encoding.restore_encoder_state(worlds.get("encoder", {}))
    return True


def _cut_off(venv: VecEnv) -> bool:
    """Whether remote environments died since the last step: what was saved of them is of the episodes after."""
    remote: Any = venv.unwrapped
    return hasattr(type(remote), "cut_off") and bool(remote.cut_off().any())


def _encoding_layer(venv: VecEnv) -> Any:
    """Return the outermost layer that remembers: a `VecHistory`, a `VecLatent`, or remote environments; None where none does."""
    layer: Any = venv
    while layer is not None and not hasattr(type(layer), "encoder_state"):
        layer = getattr(layer, "venv", None)
    return layer


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tensors(one) for key, one in value.items()}
    return torch.from_numpy(np.array(value))


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _arrays(one) for key, one in value.items()}
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise UserError("damaged: what should be an array is none")
    return value.numpy()


def _random_state() -> dict[str, Any]:
    # Stable-Baselines3 shuffles with numpy's global generator
    drawn: Any = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": {"keys": torch.from_numpy(drawn[1].astype(np.int64)), "rest": (int(drawn[2]), int(drawn[3]), float(drawn[4]))},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    position, has_gauss, gauss = state["numpy"]["rest"]
    keys = state["numpy"]["keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
