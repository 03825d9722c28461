"""A run's state at a rollout boundary: all of it behind one file, and the agent alone for sharing.

`resume.pt` holds everything a run needs to go on, and names the segments of `replay/` that belong to it, so that no kill between
two files can lose it. `agent.safetensors` and `agent.json` are the policy and its settings; `agent.zip` is Stable-Baselines3's own
format for use elsewhere, never read here.
"""

import hashlib
import io
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from agents.learning.replay import Segment, cut_episodes, read_segments, remove_others, replay_buffer, rows_added, write_segments
from foundation.errors import UserError
from foundation.files import write_atomically

FORMAT = 1

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_n_calls", "exploration_rate")
"""What algorithms count; `_n_calls` and `exploration_rate` are those of DQN and its kin."""


@dataclass
class Position:
    """How far a run is: counters beside the algorithm's own."""

    steps: int = 0
    episodes: int = 0
    logged_steps: int = 0
    """Steps that `metrics.jsonl` covers."""
    metrics_bytes: int = 0
    evaluated_steps: int = 0
    finished_steps: int = 0
    """Steps at which the final evaluation was last made."""
    seconds: float = 0.0
    """Wall time of training, evaluation apart."""
    evaluation_seconds: float = 0.0
    deaths: int = 0
    """Episodes that ended because their environment died, those of evaluations included."""
    failed_resets: int = 0


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
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path}: damaged, or not a checkpoint of this program; choose another --run or delete it") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or "settings" not in content:
        raise UserError(f"{path}: a checkpoint of another version or of no agent; choose another --run")
    return content


def restore_checkpoint(content: dict[str, Any], algorithm: BaseAlgorithm, folder: Path) -> tuple[Position, list[Segment]]:
    """Put the algorithm, its environments and the random generators back; return the position and the replay buffer's segments.

    Environments that cannot be restored begin fresh episodes, and so do all where an actor's death was found as they were saved.
    """
    algorithm.set_parameters(content["parameters"], exact_match=True)
    for name, value in content.get("variables", {}).items():
        getattr(algorithm, name).data.copy_(value)
    for name, value in content["counters"].items():
        setattr(algorithm, name, value)
    assert algorithm.env is not None
    segments = [Segment(first, last) for first, last in content.get("replay", [])]
    buffer = replay_buffer(algorithm)
    if buffer is not None:
        read_segments(folder / "replay", buffer, rows_added(algorithm), segments)
    if not _restore_worlds(content["worlds"], algorithm) and buffer is not None and segments:
        cut_episodes(buffer)
        # written anew, with what has changed
        segments = segments[:-1]
    _restore_random(content["random"])
    if "actions" in content["random"]:
        algorithm.action_space.np_random.bit_generator.state = json.loads(content["random"]["actions"])
    return Position(**content["position"]), segments


def save_agent(folder: Path, settings: dict[str, Any], algorithm: BaseAlgorithm, about: dict[str, Any]) -> None:
    """Write `agent.safetensors` and `agent.json`, which name each other by hash."""
    weights = save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in _distinct(algorithm.policy).items()})
    write_atomically(folder / "agent.safetensors", weights)
    content = {"format": FORMAT, **about, "settings": settings, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    write_atomically(folder / "agent.json", json.dumps(content, indent=2) + "\n")


def save_zip(folder: Path, algorithm: BaseAlgorithm) -> None:
    """Write Stable-Baselines3's own file beside ours, for use elsewhere."""
    buffer = io.BytesIO()
    algorithm.save(buffer)
    write_atomically(folder / "agent.zip", buffer.getvalue())


def read_agent(folder: Path) -> dict[str, Any]:
    """Return `agent.json`."""
    path = folder / "agent.json"
    if not path.is_file():
        raise UserError(f"{folder}: holds no trained agent (no agent.json); name the --run of a train_agent.py")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); run the train_agent.py command again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: written by another version of this program")
    return content


def load_policy(folder: Path, algorithm: BaseAlgorithm) -> None:
    """Load `agent.safetensors` into a fresh algorithm's policy."""
    path = folder / "agent.safetensors"
    expected = read_agent(folder)["weights_sha256"]
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise UserError(f"{path}: does not belong to agent.json beside it; run the train_agent.py command again")
        tensors = load_safetensors(content)
        if tensors.keys() != _distinct(algorithm.policy).keys():
            raise RuntimeError("its tensors have other names")
        algorithm.policy.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as this agent's weights: {' '.join(str(error).split())[:200]}") from error


def _distinct(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a policy's tensors, each once: the CNN that actor and critic share goes by three names."""
    distinct: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in policy.state_dict().items():
        distinct.setdefault(tensor.data_ptr(), (name, tensor))
    return dict(distinct.values())


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
    if exact:
        # a reset first: environments allocate in it
        venv.reset()
    for index, states in enumerate(worlds["layers"]):
        venv.env_method("restore_layers", [_arrays(state) for state in states], indices=index)
    if not exact:
        algorithm._last_obs = venv.reset()  # type: ignore[assignment]
        algorithm._last_episode_starts = np.ones((venv.num_envs,), dtype=bool)
        return False
    algorithm._last_obs = _arrays(worlds["observation"])
    algorithm._last_episode_starts = _arrays(worlds["episode_starts"])
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
    """Return what keeps the encoder's memory: a `VecLatent`, or remote environments whose actors encode; None on pixels."""
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
