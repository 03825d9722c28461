"""What the memory of some Atari games says of their state: where ball and paddles are, for the controls that are told the answers."""

from typing import Any

import gymnasium

from envs.state_wrapper import StateWrapper

# Anand et al. 2019, Unsupervised State Representation Learning in Atari; held against the pictures by our tests
_ADDRESSES = {
    "breakout": {"paddle_x": 72, "ball_x": 99, "ball_y": 101},
    "pong": {"paddle_y": 51, "opponent_y": 50, "ball_x": 49, "ball_y": 54},
}
_FASTEST = 32
"""Of a ball, in pixels a step; a jump beyond is a new ball."""


class AtariState(StateWrapper):
    """Tell where things are and how far the ball went in this step.

    Positions are those of the game's memory, a byte each; -1 where there is no ball. A game whose addresses are not known has no state.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], game: str) -> None:
        self._addresses = _ADDRESSES[game]
        super().__init__(env, (*self._addresses, "ball_x_change", "ball_y_change"))
        self._before: dict[str, int] = {}

    def read_state(self, begins: bool) -> dict[str, float]:
        """Read the game's memory."""
        game: Any = self.unwrapped
        memory = game.ale.getRAM()
        now = {name: int(memory[address]) for name, address in self._addresses.items()}
        before, self._before = now if begins else self._before, now
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
