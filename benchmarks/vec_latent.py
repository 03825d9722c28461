"""Frames/s of `VecLatent` beside the bare batched `encode` and beside one `LatentObservation` an environment.

python benchmarks/vec_latent.py [--preset conv_vae_tiny] [--threads 1]
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.vec_env import VecEnv

from encoders import StoreReference, make_encoder, prepare
from encoders.encoder import to_float
from foundation.command import run
from foundation.presets import parse
from wrappers import FrozenEncoder, LatentObservation, VecLatent

ENVIRONMENTS = 8


@dataclass
class Benchmark:
    """What to measure."""

    presets: tuple[str, ...] = ("conv_vae_tiny", "conv_vae_small")
    threads: int = 1
    steps: int = 60
    repeats: int = 7


class StillPictures(gymnasium.Env):
    """An environment that costs nothing: the same few pictures in turn."""

    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, seed: int) -> None:
        self.pictures = np.random.default_rng(seed).integers(0, 256, (16, 64, 64, 3), np.uint8)
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        return self.pictures[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.time += 1
        return self.pictures[self.time % 16], 0.0, False, False, {}


class StillVecEnv(VecEnv):
    """Eight of them at once, without what `DummyVecEnv` copies: what is left is `VecLatent`."""

    def __init__(self) -> None:
        super().__init__(ENVIRONMENTS, StillPictures.observation_space, StillPictures.action_space)
        self.pictures = np.random.default_rng(0).integers(0, 256, (16, ENVIRONMENTS, 64, 64, 3), np.uint8)
        self.time = 0
        self.rewards, self.dones = np.zeros(ENVIRONMENTS, np.float32), np.zeros(ENVIRONMENTS, bool)
        self.infos: list[dict] = [{} for _ in range(ENVIRONMENTS)]

    def reset(self) -> np.ndarray:
        return self.pictures[0]

    def step_async(self, actions: np.ndarray) -> None:
        self.time += 1

    def step_wait(self) -> Any:
        return self.pictures[self.time % 16], self.rewards, self.dones, self.infos

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(StillPictures, attr_name, None)] * ENVIRONMENTS

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        pass

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **options: Any) -> list[Any]:
        return [None] * ENVIRONMENTS

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * ENVIRONMENTS


def main() -> None:
    """Print one line a preset; the three take turns call by call, so that a busy machine hurts all alike."""
    config = parse(Benchmark, "VecLatent beside the bare encoder and single wrappers.")
    torch.set_num_threads(config.threads)
    table = Table(title=f"Frames/s, {ENVIRONMENTS} environments, {config.threads} thread(s), median of {config.repeats}")
    for column in ("encoder", "bare encode", "VecLatent", "of bare", "8 single", "VecLatent / single"):
        table.add_column(column, justify="right")
    for preset in config.presets:
        bare, batched, single = measure(preset, config)
        table.add_row(preset, f"{bare:,.0f}", f"{batched:,.0f}", f"{batched / bare:.0%}", f"{single:,.0f}", f"{batched / single:.2f}")
    Console().print(table)


def measure(preset: str, config: Benchmark) -> tuple[float, float, float]:
    """Return frames/s of the bare encoder, of `VecLatent` and of single wrappers."""
    frozen = frozen_encoder(preset)
    pictures = np.random.default_rng(0).integers(0, 256, (ENVIRONMENTS, 64, 64, 3), np.uint8)
    batch = to_float(torch.from_numpy(pictures)).contiguous(memory_format=torch.channels_last)
    venv = VecLatent(StillVecEnv(), frozen)
    wrapped = [LatentObservation(StillPictures(seed), frozen) for seed in range(ENVIRONMENTS)]
    venv.reset()
    for env in wrapped:
        env.reset()
    actions = np.zeros(ENVIRONMENTS, int)

    def bare() -> None:
        with torch.inference_mode():
            frozen.model.encode(batch, {})

    ways: list[Callable[[], Any]] = [bare, lambda: venv.step(actions), lambda: [env.step(0) for env in wrapped]]
    rates = np.zeros((config.repeats, len(ways)))
    for repeat in range(config.repeats):
        seconds = np.zeros(len(ways))
        for _ in range(config.steps):
            for way, call in enumerate(ways):
                begun = time.perf_counter()
                call()
                seconds[way] += time.perf_counter() - begun
        rates[repeat] = config.steps * ENVIRONMENTS / seconds
    bare_rate, batched, single = np.median(rates, axis=0).tolist()
    return bare_rate, batched, single


def frozen_encoder(preset: str) -> FrozenEncoder:
    """Freeze fresh weights: speed does not depend on training."""
    pictures = np.random.default_rng(0).integers(0, 256, (32, 64, 64, 3), np.uint8)
    with TemporaryDirectory() as folder:
        reference = StoreReference(path="", fingerprint="", frames_per_second=20.0, resize="squash")
        return FrozenEncoder(prepare(make_encoder(preset), pictures, folder, store=reference, seed=0))


if __name__ == "__main__":
    run(main)
