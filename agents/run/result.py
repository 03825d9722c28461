"""What a run came to: the facts that `agent.json` holds at every checkpoint, and `result.json` at the end."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from agents.remote.restarts import RESTARTS
from agents.run.agent import Agent
from agents.run.attempts import attempts
from agents.run.config import AgentRun, plain
from agents.run.position import Position
from foundation.documents import read_checked, schema
from foundation.files import write_atomically
from foundation.machine import machine
from wrappers.features import learning_parameters

_POINT = schema({"seconds": float | None}, step=int, returns=list[float])
_SEEN = schema({"reading": str | None, "scale": str | None}, name=str, latents=list[int])
_PLACED = schema(policy=str | None, encoder=str | None)
_MAY_HAVE = {"attempts": int, "restarts": int, "seconds": float, "curve": list[_POINT], "machine": str | None}  # type: ignore[valid-type]
_SIZES = {**dict.fromkeys(("policy_parameters", "learning_parameters"), int | None), "encoder_parameters": int, "threads": int}
_ENCODER = {"encoder": _SEEN | None, "encoder_folder": str | None, "device": _PLACED}
_RESULT = schema(_MAY_HAVE | _SIZES | _ENCODER, steps=int, seed=int, final_return=float, final_returns=list[float])


def facts(config: AgentRun, agent: Agent, position: Position) -> dict[str, Any]:
    """Return what an agent is, and how far it has come."""
    encoder = agent.encoder
    return {
        "steps": position.steps,
        "episodes": position.episodes,
        "restarts": position.deaths + position.failed_resets,
        **{cause: getattr(position, cause) for cause in RESTARTS},
        "seed": config.seed,
        "control": config.control,
        "encoder": encoder
        and {"name": encoder.info.name, "reading": encoder.reading, "scale": encoder.scale, "latents": list(encoder.latent_shape)},
        "encoder_folder": str(config.encoder if config.control in (None, "finetuned") else config.run / "encoder") if encoder else None,
        "encoder_parameters": 0 if encoder is None else encoder.parameter_count,
        "policy_parameters": sum(parameter.numel() for parameter in agent.algorithm.policy.parameters()),
        "learning_parameters": learning_parameters(agent.algorithm),
        "device": agent.placed,
        "machine": machine(agent.algorithm.device.type),
        "remote": plain(config.remote) if config.remote.actors else None,
        "threads": config.threads,
        "versions": {name: version(name) for name in ("torch", "stable-baselines3", "gymnasium", "numpy", "ray")},
    }


def write_result(folder: Path, known: dict[str, Any], position: Position, curve: list[dict[str, Any]]) -> dict[str, Any]:
    """Write `result.json`: the `known` facts, the learning curve, and its last point's returns as the score; return what it holds."""
    returns = curve[-1]["returns"]
    result = {
        **known,
        "attempts": attempts(folder),
        "final_return": float(np.mean(returns)),
        "final_returns": returns,
        "curve": curve,
        "seconds": round(position.seconds, 1),
        "evaluation_seconds": round(position.evaluation_seconds, 1),
    }
    write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return a finished run's result, or None."""
    path = folder / "result.json"
    return read_checked(_RESULT, path, "delete it and run the command again") if path.is_file() else None
