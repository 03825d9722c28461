"""What a run measures of itself at its boundaries: time, episodes, deaths, losses, returns."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from agents.remote.restarts import RESTARTS
from agents.run.evaluation import Played
from agents.run.metrics import MetricsFile
from agents.run.position import Position


class Restarts:
    """Counts the environments of some `VecEnv`s that died."""

    def __init__(self, venvs: Sequence[VecEnv]) -> None:
        self.venvs = venvs
        self._before = dict.fromkeys(RESTARTS, 0)

    def add_to(self, position: Position) -> None:
        """Add what has died since the last time."""
        for cause in RESTARTS:
            now = sum(one[cause] for venv in self.venvs for one in venv.get_attr("restarts"))
            setattr(position, cause, getattr(position, cause) + now - self._before[cause])
            self._before[cause] = now


class Record:
    """Writes a run's metrics, and counts its steps, episodes, deaths and seconds in its position.

    Time goes to training or to evaluation; that of saving, and whatever else `leave_out` ends, to neither.
    """

    def __init__(self, metrics: MetricsFile, position: Position, restarts: Restarts) -> None:
        self.metrics, self.position, self.restarts = metrics, position, restarts
        self._clock = time.perf_counter()

    def add_rollout(self, steps: int, episodes: list[dict[str, Any]], losses: dict[str, float]) -> None:
        """Record the rollout that ended at `steps`, with the episodes that ended in it; nothing is written twice for the same steps."""
        position, seconds = self.position, self._lap()
        position.seconds += seconds
        rate = (steps - position.steps) / max(seconds, 1e-9)
        position.steps = steps
        self.restarts.add_to(position)
        if steps > position.logged_steps:
            position.episodes += len(episodes)
            self.metrics.write(steps, {**_rollout_metrics(episodes, position), "steps_per_second": rate, **losses})
            position.logged_steps = steps

    def add_evaluation(self, played: Played) -> None:
        """Record evaluation episodes at the present steps, and the time since the last `leave_out` as evaluation's."""
        self.position.evaluation_seconds += self._lap()
        self.restarts.add_to(self.position)
        numbers = {"evaluation/return": float(np.mean(played.returns)), "evaluation/episode_steps": float(np.mean(played.lengths))}
        self.metrics.write(self.position.steps, numbers, {"evaluation/returns": played.returns})

    def flush(self) -> None:
        """Bring the metrics to the disk, before a checkpoint that counts on them."""
        self.position.metrics_bytes = self.metrics.flush()

    def leave_out(self) -> None:
        """Count the time since the last entry for nothing."""
        self._lap()

    def _lap(self) -> float:
        now = time.perf_counter()
        elapsed, self._clock = now - self._clock, now
        return elapsed


def _rollout_metrics(episodes: list[dict[str, Any]], position: Position) -> dict[str, float]:
    numbers: dict[str, float] = {"episodes": position.episodes, "seconds": round(position.seconds, 2)}
    if episodes:
        numbers["rollout/return"] = float(np.mean([one["r"] for one in episodes]))
        numbers["rollout/episode_steps"] = float(np.mean([one["l"] for one in episodes]))
    if position.deaths or position.failed_resets:
        numbers |= {f"environments/{cause}": getattr(position, cause) for cause in RESTARTS}
    return numbers
