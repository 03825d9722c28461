"""A tiny world in which the picture says what to do, and a tiny encoder's folder."""

import json
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.algorithms import PPOSettings
from agents.config import AgentRun, EnvironmentConfig, EvaluationConfig

TICKS = 60


class BrightWorld(gymnasium.Env):
    """MineRL's spaces; +1 for every tick of attack while the picture is bright, -1 while it is dark. It changes at random."""

    metadata = {"render_fps": 20}

    def __init__(self, episode_ticks: int = TICKS) -> None:
        self.episode_ticks = episode_ticks
        self.observation_space = spaces.Dict({"pov": spaces.Box(0, 255, (64, 64, 3), np.uint8)})
        keys = {key: spaces.Discrete(2) for key in ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")}
        self.action_space = spaces.Dict({**keys, "camera": spaces.Box(-180, 180, (2,), np.float32)})
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.ticks, self.bright = 0, bool(self.np_random.integers(2))
        return self._look(), {}

    def step(self, action: dict[str, Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = (1.0 if self.bright else -1.0) if action["attack"] else 0.0
        self.ticks += 1
        if self.np_random.random() < 0.2:
            self.bright = not self.bright
        return self._look(), reward, False, self.ticks >= self.episode_ticks, {}

    def _look(self) -> dict[str, np.ndarray]:
        noise = self.np_random.integers(0, 40, (64, 64, 3), dtype=np.uint8)
        return {"pov": noise + np.uint8(200 if self.bright else 10)}

    def save_state(self) -> dict[str, np.ndarray]:
        random = json.dumps(self.np_random.bit_generator.state).encode()
        return {"random": np.frombuffer(random, np.uint8).copy(), "ticks": np.int64([self.ticks]), "bright": np.int64([self.bright])}

    def restore_state(self, state: dict[str, np.ndarray]) -> None:
        self.np_random.bit_generator.state = json.loads(bytes(state["random"]))
        self.ticks, self.bright = int(state["ticks"][0]), bool(state["bright"][0])


@dataclass
class Factory:
    """Stands in for `envs.make_env`, and keeps what it made."""

    made: list[BrightWorld]

    def __call__(self, name: str, **options: Any) -> BrightWorld:
        self.made.append(BrightWorld(**options))
        return self.made[-1]


@pytest.fixture
def worlds(monkeypatch: pytest.MonkeyPatch) -> Factory:
    factory = Factory([])
    monkeypatch.setattr("envs.make_env", factory, raising=False)
    torch.set_num_threads(1)
    return factory


@pytest.fixture
def small_run(worlds: Factory, tmp_path):
    """Return a function that makes the settings of a small run on pixels in the tiny world."""

    def make(**changes: Any) -> AgentRun:
        settings: dict[str, Any] = {
            "environment": EnvironmentConfig(name="Bright", frame_skip=4),
            "evaluation": EvaluationConfig(every=64, episodes=2, final_episodes=3),
            "algorithm": PPOSettings(n_envs=2, n_steps=16, batch_size=32, n_epochs=1, net_arch=(16,)),
            "steps": 128,
            "checkpoint_every": 32,
            "control": "pixels",
            "device": "cpu",
            "run": tmp_path / "run",
        }
        return AgentRun(**{**settings, **changes})

    return make


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else; few tests look at figures."""
    monkeypatch.setattr("agents.report.figures", lambda summary, colours: {})
