"""Players that do not learn, as runs of a comparison: the random policy and the scripted player."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agents.jobs import Report
from agents.remote.config import RemoteConfig
from agents.run.environment_config import EnvironmentConfig
from agents.run.evaluation import play_random, play_scripted
from agents.run.pictures import write_episode
from envs.failures import log_of_failures
from foundation.files import write_atomically
from foundation.folders import PLAYER, refuse_others

Player = Literal["random", "scripted"]


@dataclass(frozen=True)
class PlayerRun:
    """Evaluation episodes of a player that does not learn."""

    player: Player
    environment: EnvironmentConfig
    episodes: int
    seed: int
    run: Path
    """The run's folder."""
    remote: RemoteConfig
    steps: int = 0


def play_player(run: PlayerRun, report: Report) -> dict[str, Any]:
    """Play the evaluation episodes of a player that does not learn, and write its result."""
    refuse_others(run.run, PLAYER)
    report(0, "")
    with log_of_failures(run.run):
        if run.player == "random":
            played = play_random(run.environment, run.episodes, run.seed, run.remote)
        else:
            played = play_scripted(run.environment, run.episodes, run.seed)
    write_episode(run.run / "pictures", played.pictures, played.frames_per_second, None)
    result = {"steps": 0, "seed": run.seed, "final_return": float(np.mean(played.returns)), "final_returns": played.returns}
    write_atomically(run.run / "result.json", json.dumps(result, indent=2) + "\n")
    return result
