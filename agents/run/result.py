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

_POINT = schema(step=int, returns=list[float])
_SEEN = schema({"reading": str | None, "scale": str | None}, name=str, latents=list[int])
_PLACED = schema(policy=str | None, encoder=str | None)
_MAY_HAVE = {"attempts": int, "restarts": int, "seconds": float, "curve": list[_POINT]}  # type: ignore[valid-type]
_SIZES = {"encoder_parameters": int, "policy_parameters": int | None, "threads": int, "encoder_folder": str | None}
_RESULT = schema(
    _MAY_HAVE | _SIZES | {"encoder": _SEEN | None, "device": _PLACED}, steps=int, seed=int, final_return=float, final_returns=list[float]
)


def facts(config: AgentRun, agent: Agent, position: Position) -> dict[str, Any]:
    """Return what an agent is, and how far it has come."""
    frozen = agent.frozen
    return {
        "steps": position.steps,
        "episodes": position.episodes,
        "restarts": position.deaths + position.failed_resets,
        **{cause: getattr(position, cause) for cause in RESTARTS},
        "seed": config.seed,
        "control": config.control,
        "encoder": frozen
        and {"name": frozen.info.name, "reading": frozen.reading, "scale": frozen.scale, "latents": list(frozen.latent_shape)},
        "encoder_folder": str(config.run / "encoder" if config.control else config.encoder) if frozen else None,
        "encoder_parameters": 0 if frozen is None else frozen.parameter_count,
        "policy_parameters": sum(parameter.numel() for parameter in agent.algorithm.policy.parameters()),
        "device": agent.placed,
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
