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
from foundation.errors import UserError
from foundation.files import write_atomically


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
        "encoder": frozen and {"name": frozen.info.name, "reading": frozen.reading, "latents": list(frozen.latent_shape)},
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
    try:
        return json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); delete it and run the command again") from error
