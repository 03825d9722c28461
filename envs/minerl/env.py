"""A MineRL game as a gymnasium environment."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs.minerl.game import Action, Game, GameDied, Observation
from envs.minerl.local import REPLY_TIMEOUT, START_TIMEOUT, LocalGame
from envs.minerl.recovery import RecoveringGame
from envs.minerl.remote import RemoteGame
from foundation.errors import UserError, nearest
from foundation.minerl import GAME_ERROR
from foundation.seeds import FIRST_EVALUATION_SEED

SERVERS = ("minecraft", "voxel")
_CLOCK_SLACK = 20
"""Minecraft's clock also runs while a world loads: an end within this many ticks of the limit is the clock's."""


def make_minerl(
    task_id: str,
    server: str = "minecraft",
    python: str | Path | None = None,
    headless: bool | None = None,
    timeout: float = REPLY_TIMEOUT,
    start_timeout: float = START_TIMEOUT,
    retries: int = 3,
    spare: bool = False,
    episode_ticks: int | None = None,
    render_mode: str | None = None,
) -> "MineRLEnv":
    """Make the environment of a MineRL id; nothing starts before the first reset.

    `server` "voxel" plays a stand-in for Minecraft through the same client; `python` names another interpreter that has `minerl`.
    `headless`: under xvfb (default: where there is no display). `timeout`: seconds without a reply after which the game counts as
    hung; `start_timeout`: seconds that it has to start. `retries`: how often a reset that fails is tried again; `spare`: keep a
    second game ready for the death of the first.
    """
    if server not in SERVERS:
        raise UserError(f"server='{server}': {nearest(str(server), SERVERS)}")
    for name, value in (("headless", headless), ("spare", spare)):
        if value not in (None, True, False):
            raise UserError(f"{name}={value!r}: must be yes or no")
    if python is not None and not isinstance(python, (str, Path)):
        raise UserError(f"python={python!r}: must be the path of an interpreter")

    def make_game() -> Game:
        if python is None:
            return LocalGame(task_id, server, timeout, start_timeout, headless)
        return RemoteGame(task_id, python, server, timeout, start_timeout, headless)

    game = RecoveringGame(make_game, retries, spare)
    try:
        return MineRLEnv(game, episode_ticks, render_mode)
    except UserError:
        # another interpreter already runs, to say which spaces there are
        game.close()
        raise


class MineRLEnv(gymnasium.Env[Observation, Action]):
    """A `Game` with gymnasium's five-tuple step; dictionaries of observations and actions as MineRL has them, 20 ticks a second.

    The episode's length ends it as truncated, and so does the death of the game: that step repeats the last observation, pays
    nothing, and says why in `info["minerl/error"]`; the next reset starts the game anew. Every episode has a seed, the one given to
    `reset` or the next that follows from it, in `info["minerl/seed"]`. `episode_ticks` shortens the episode (default: MineRL's).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, game: Game, episode_ticks: int | None = None, render_mode: str | None = None) -> None:
        if episode_ticks is not None and (not isinstance(episode_ticks, int) or not 1 <= episode_ticks <= game.max_episode_steps):
            raise UserError(f"episode_ticks={episode_ticks}: must be a whole number of ticks from 1 to {game.max_episode_steps}")
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode='{render_mode}': only 'rgb_array' is drawn")
        self.game = game
        self.episode_ticks = game.max_episode_steps if episode_ticks is None else episode_ticks
        self.render_mode = render_mode
        self.observation_space = game.observation_space
        self.action_space = game.action_space
        self._ticks = 0
        self._last: Observation = {}
        self._evaluates = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in the world of `seed`; raises `UserError` where the game does not start."""
        super().reset(seed=seed)
        if seed is None:
            seed = self._next_seed()
        else:
            self._evaluates = seed >= FIRST_EVALUATION_SEED
        try:
            self._last = self.game.reset(seed)
        except GameDied as error:
            raise UserError(f"{error}; `make check` says what is usable here") from error
        self._ticks = 0
        counts = self.game.counts() if isinstance(self.game, RecoveringGame) else {}
        return self._last, {"minerl/seed": seed, **counts}

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one tick."""
        try:
            observation, reward, done, info = self.game.step(action)
        except GameDied as error:
            return self._last, 0.0, False, True, {GAME_ERROR: str(error)}
        self._last = observation
        self._ticks += 1
        if GAME_ERROR in info:
            return observation, reward, False, True, info
        limit = self.game.max_episode_steps
        out_of_time = self._ticks >= limit - min(_CLOCK_SLACK, limit // 100)
        terminated = done and not out_of_time
        truncated = (done and out_of_time) or (self._ticks >= self.episode_ticks and not terminated)
        return observation, reward, terminated, truncated, info

    def render(self) -> np.ndarray:
        """Return the current frame, uint8 (H, W, 3)."""
        return np.array(self._last["pov"])

    def close(self) -> None:
        """End the game's processes."""
        self.game.close()

    def _next_seed(self) -> int:
        """Return a world's seed from the same half as the last that was given: worlds of training, or of evaluation."""
        drawn = int(self.np_random.integers(FIRST_EVALUATION_SEED))
        return drawn + FIRST_EVALUATION_SEED if self._evaluates else drawn
