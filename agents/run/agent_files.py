"""A trained agent as two files that can be shared: `agent.safetensors`, its weights, and `agent.json`, its settings.

`agent.zip` beside them is Stable-Baselines3's own format for use elsewhere, never read here.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from stable_baselines3.common.base_class import BaseAlgorithm

from encoders.content import refuse_not_finite
from foundation.documents import checked, read, schema
from foundation.errors import UserError
from foundation.files import write_atomically
from foundation.limits import MOST_THREADS, installed_memory, refuse_more
from foundation.outside import read_regular

FORMAT = 1

_SETTINGS = schema(environment=dict[str, Any], algorithm=dict[str, Any], encoder_sha256=str | None, threads=int, control=str | None)
_SEEN = schema({"reading": str | None, "scale": str | None}, name=str)
_ABOUT = schema({"encoder": _SEEN | None, "encoder_folder": str | None}, settings=_SETTINGS, weights_sha256=str, steps=int)


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
        raise UserError(f"{folder}: holds no trained agent (no agent.json); give the --run folder of train_agent.py")
    again = "run the train_agent.py command again"
    content = read(path, again)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path}: written by another version of this program")
    refuse_more("settings.threads", checked(_ABOUT, content, path, again)["settings"]["threads"], MOST_THREADS)
    return content


def load_policy(folder: Path, algorithm: BaseAlgorithm) -> None:
    """Load `agent.safetensors` into a fresh algorithm's policy."""
    path = folder / "agent.safetensors"
    expected = read_agent(folder)["weights_sha256"]
    try:
        content = read_regular(path, installed_memory())
        if hashlib.sha256(content).hexdigest() != expected:
            raise UserError(f"{path}: does not belong to agent.json beside it; run the train_agent.py command again")
        tensors = load_safetensors(content)
        if tensors.keys() != _distinct(algorithm.policy).keys():
            raise RuntimeError("its tensors have other names")
        refuse_not_finite(tensors, f"{path}: ", "train the agent again")
        algorithm.policy.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be read as this agent's weights: {' '.join(str(error).split())[:200]}") from error


def _distinct(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a policy's tensors, each once: the CNN that actor and critic share goes by three names."""
    distinct: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in policy.state_dict().items():
        distinct.setdefault(tensor.data_ptr(), (name, tensor))
    return dict(distinct.values())
