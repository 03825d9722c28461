"""Environment steps/s of `RayVecEnv`, of what is ideal, and the cost of one call beside Stable-Baselines3's `SubprocVecEnv`.

python benchmarks/ray.py [--environments 16] [--actors 4] [--milliseconds 25] [--seconds 10]

The environments are made up: they wait without the CPU, as one waits for a game, and show 64x64 noise. Those of an actor wait at
the same time, so the ideal is environments / wait. Ways take turns, so that a busy machine hurts all alike.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded
# in place of this folder, in which `ray` would be this file (in a process that this one starts, of the one put there)
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from agents.cluster.resources import cores
from agents.remote.latents import ArrivingLatent
from agents.remote.vec_env import RayVecEnv
from benchmarks.vec_latent import frozen_encoder
from foundation.command import run
from foundation.local_ray import local_ray
from foundation.presets import parse
from wrappers import FrozenEncoder

_PICTURES = 8


@dataclass
class Benchmark:
    """What to measure."""

    environments: int = 16
    actors: int = 4
    milliseconds: float = 25.0
    """How long a step waits."""
    encoders: tuple[str, ...] = ("conv_vae_tiny", "conv_vae_small")
    seconds: float = 10.0
    """Time for each way."""
    threads: int = 1
    """Torch threads of the learner."""


class Waiting(gymnasium.Env):
    """Waits a while, then shows one of a few pictures of noise; its episodes do not end."""

    metadata = {"render_fps": 20}
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, seconds: float) -> None:
        self.seconds, self.time = seconds, 0
        self.pictures = np.random.default_rng(0).integers(0, 256, (_PICTURES, 64, 64, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        return self.pictures[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.seconds:
            time.sleep(self.seconds)
        self.time += 1
        return self.pictures[self.time % _PICTURES], 0.0, False, False, {}


def main() -> None:
    """Print steps/s with waiting environments, then the milliseconds of a call with environments that cost nothing."""
    config = parse(Benchmark, "Remote environments: steps/s beside the ideal, and what a call costs.")
    torch.set_num_threads(config.threads)
    frozen = {name: frozen_encoder(name) for name in config.encoders}
    with local_ray(cores()):
        wait = config.milliseconds / 1000
        ways: dict[str, Callable[[], VecEnv]] = {"RayVecEnv": partial(remote, config, wait)}
        for name, encoder in frozen.items():
            ways[f"{name}, encoded by the learner"] = partial(remote, config, wait, encoder)
            ways[f"{name}, encoded by the actors"] = partial(remote, config, wait, encoder, in_actors=True)
        show_rates(config, measured(ways, config.seconds))
        calls = {
            "RayVecEnv": partial(remote, config, 0.0),
            "SubprocVecEnv": lambda: SubprocVecEnv([partial(Waiting, 0.0)] * config.environments, "forkserver"),
        }
        show_calls(config, measured(calls, config.seconds))


def remote(config: Benchmark, wait: float, frozen: FrozenEncoder | None = None, *, in_actors: bool = False) -> VecEnv:
    """Return the remote environments of one way."""
    venv = RayVecEnv([partial(waiting, wait)] * config.environments, config.actors, frozen=frozen if in_actors else None)
    return venv if frozen is None or in_actors else ArrivingLatent(venv, frozen)


def waiting(seconds: float, counts: dict[str, int]) -> Waiting:
    """Make one environment, as an actor does."""
    return Waiting(seconds)


def measured(ways: dict[str, Callable[[], VecEnv]], seconds: float) -> dict[str, np.ndarray]:
    """Return the seconds of every step of each way, in turns of ten steps."""
    venvs = {name: make() for name, make in ways.items()}
    actions = {name: np.zeros(venv.num_envs, int) for name, venv in venvs.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for name, venv in venvs.items():
        venv.reset()
        venv.step(actions[name])
    while min(sum(one) for one in times.values()) < seconds:
        for name, venv in venvs.items():
            for _ in range(10):
                begun = time.perf_counter()
                venv.step(actions[name])
                times[name].append(time.perf_counter() - begun)
    for venv in venvs.values():
        venv.close()
    return {name: np.array(one) for name, one in times.items()}


def show_rates(config: Benchmark, times: dict[str, np.ndarray]) -> None:
    """Print environment steps/s, over all steps and at the median step, and their parts of the ideal."""
    ideal = 1000 * config.environments / config.milliseconds
    table = Table(
        title=f"{config.environments} environments of {config.milliseconds:g} ms in {config.actors} actors, {cores()} cores, "
        f"{config.threads} torch thread(s): ideal {ideal:,.0f} environment steps/s"
    )
    for column in ("", "steps/s", "of ideal", "at the median", "of ideal", "steps"):
        table.add_column(column, justify="left" if not column else "right")
    for name, seconds in times.items():
        mean, median = config.environments / seconds.mean(), config.environments / np.median(seconds)
        table.add_row(name, f"{mean:,.0f}", f"{mean / ideal:.0%}", f"{median:,.0f}", f"{median / ideal:.0%}", f"{len(seconds):,}")
    Console(width=140).print(table)


def show_calls(config: Benchmark, times: dict[str, np.ndarray]) -> None:
    """Print what one step of all environments costs where they cost nothing."""
    table = Table(title=f"One step of {config.environments} environments that cost nothing")
    for column in ("", "median ms", "90th percentile ms", "environment steps/s", "calls"):
        table.add_column(column, justify="left" if not column else "right")
    for name, seconds in times.items():
        middle, late = np.percentile(seconds * 1000, (50, 90))
        table.add_row(name, f"{middle:.2f}", f"{late:.2f}", f"{config.environments / seconds.mean():,.0f}", f"{len(seconds):,}")
    Console(width=140).print(table)


if __name__ == "__main__":
    run(main)
