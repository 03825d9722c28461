"""What the memory of some Atari games says of their state: where ball and paddles are, for the controls that are told the answers."""

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium import spaces

# Anand et al. 2019, Unsupervised State Representation Learning in Atari; held against the pictures by our tests
_ADDRESSES = {
    "breakout": {"paddle_x": 72, "ball_x": 99, "ball_y": 101},
    "pong": {"paddle_y": 51, "opponent_y": 50, "ball_x": 49, "ball_y": 54},
}
_FASTEST = 32
"""Of a ball, in pixels a step; a jump beyond is a new ball."""


class AtariState(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Tell `info["state"]` at every reset and step: numbers in [-1, 1], where things are and how far the ball went in this step.

    Positions are those of the game's memory, a byte each; -1 where there is no ball. A game whose addresses are not known has no state.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], game: str) -> None:
        super().__init__(env)
        self._addresses = _ADDRESSES[game]
        names = (*self._addresses, "ball_x_change", "ball_y_change")
        self.state_space = spaces.Dict({name: spaces.Box(-1.0, 1.0, (), np.float32) for name in names})
        self._before: dict[str, int] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._before = None
        return observation, {**info, "state": self._told()}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "state": self._told()}

    def _told(self) -> dict[str, float]:
        game: Any = self.unwrapped
        memory = game.ale.getRAM()
        now = {name: int(memory[address]) for name, address in self._addresses.items()}
        before, self._before = self._before or now, now
        told = {name: value / 127.5 - 1 for name, value in now.items()}
        for axis in ("ball_x", "ball_y"):
            change = now[axis] - before[axis]
            told[f"{axis}_change"] = change / _FASTEST if abs(change) <= _FASTEST else 0.0
        return told


def known_game(env: gymnasium.Env[Any, Any]) -> str | None:
    """Return the game of ale-py that an environment plays, if its state is known."""
    if not type(env.unwrapped).__module__.startswith("ale_py.") or env.unwrapped.spec is None:
        return None
    game = env.unwrapped.spec.kwargs.get("game")
    return game if game in _ADDRESSES else None
