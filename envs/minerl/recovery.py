"""A game that outlives the death of the game inside."""

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gymnasium import spaces

from envs.minerl import processes
from envs.minerl.game import Action, Game, GameDied, Observation
from foundation.errors import UserError
from foundation.minerl import GAME_ERROR

DEATHS, FAILED_RESETS = "minerl/deaths", "minerl/failed_resets"
"""Keys of `info`, counted from the beginning: episodes that a death ended, and resets that had to be tried again."""

_STILLBORN_TICKS = 20
_LONGEST_PAUSE = 30.0


class RecoveringGame:
    """A `Game` over the games that `make_game` makes: where one dies, the episode ends, and the next reset starts another.

    The step that meets the death returns the last observation, no reward, done, and says why in `info["minerl/error"]`. A reset is tried
    again up to `retries` times. With `spare`, a second game is started ahead and takes the place of one that has died, so that
    nobody waits for Minecraft to start (twice the memory). What runs of this user that were killed have left is ended first.
    Raises `GameDied` only where no try of a reset succeeds, or every game dies within its first second.
    """

    def __init__(self, make_game: Callable[[], Game], retries: int = 3, spare: bool = False) -> None:
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise UserError(f"retries={retries!r}: must be a whole number, 0 or more")
        processes.end_stale()
        self._name = f"game-{secrets.token_hex(8)}"
        self._retries = retries
        self._game = make_game()
        self._spare = Spare(make_game, f"{self._name}-spare") if spare else None
        self._last: Observation = {}
        self._ticks = self._stillborn = 0
        self._why = ""
        self.deaths = self.failed_resets = 0
        self.task_id: str = self._game.task_id
        self.observation_space: spaces.Dict = self._game.observation_space
        self.action_space: spaces.Dict = self._game.action_space
        self.max_episode_steps: int = self._game.max_episode_steps
        self._write_down()

    def reset(self, seed: int | None = None) -> Observation:
        """Begin an episode in the world of `seed`, in a new game where the last one has died."""
        if self._stillborn > self._retries:
            raise GameDied(f"{self.task_id} has died within a second {self._stillborn} times on end, the last time: {self._why}")
        for attempt in range(self._retries + 1):
            # the first try again is made at once: the game may have died long ago, unnoticed
            time.sleep(min(2.0**attempt / 2, _LONGEST_PAUSE) if attempt > 1 else 0.0)
            try:
                self._last = self._game.reset(seed)
                break
            except GameDied as error:
                self.failed_resets += 1
                self._why = str(error)
                self._replace()
        else:
            raise GameDied(f"no reset in {self._retries + 1} tries succeeded, the last: {self._why}")
        self._ticks = 0
        self._write_down()
        if self._spare is not None:
            self._spare.prepare()
        return self._last

    def step(self, action: Action) -> tuple[Observation, float, bool, dict[str, Any]]:
        """Advance one tick."""
        try:
            observation, reward, done, info = self._game.step(action)
        except GameDied as error:
            return self._last, 0.0, True, self._bury(str(error))
        self._last = observation
        self._ticks += 1
        if self._ticks == _STILLBORN_TICKS:
            self._stillborn = 0
        return observation, reward, done, {**info, **self.counts()}

    def counts(self) -> dict[str, int]:
        """Return how many episodes a death has ended, and how many resets had to be tried again, as `info` has them."""
        return {DEATHS: self.deaths, FAILED_RESETS: self.failed_resets}

    def close(self) -> None:
        """End everything."""
        if self._spare is not None:
            self._spare.close()
        self._game.close()
        self._write_down()

    def processes(self) -> list[int]:
        """Return the ids of the processes that live, the spare game's included."""
        return self._game.processes() + ([] if self._spare is None else self._spare.processes())

    def _bury(self, why: str) -> dict[str, Any]:
        self.deaths += 1
        self._why = why
        self._stillborn += self._ticks < _STILLBORN_TICKS
        self._replace()
        return {GAME_ERROR: why, **self.counts()}

    def _replace(self) -> None:
        """End what has died; go on with the spare game where there is one, else with the same one, which starts anew."""
        self._game.close()
        # a spare game that is still starting is as far as a new one would be, or further
        ready = None if self._spare is None else self._spare.take()
        if ready is not None:
            self._game = ready
        self._write_down()

    def _write_down(self) -> None:
        """Record what runs, for a later run to end should this process be killed."""
        _write_down(self._name, self._game)


class Spare:
    """A game that is started ahead, in a thread; `name` is what its processes are recorded under."""

    def __init__(self, make_game: Callable[[], Game], name: str) -> None:
        self._make_game, self._name = make_game, name
        self._thread: threading.Thread | None = None
        self._game: Game | None = None
        self._ready = self._closed = False

    def prepare(self) -> None:
        """Start a game where none waits or is being started."""
        if self._thread is None and not self._closed:
            self._ready = False
            self._thread = threading.Thread(target=self._start, daemon=True)
            self._thread.start()

    def take(self) -> Game | None:
        """Return the waiting game, or None where none could be started; waits for one that is being started."""
        if self._thread is not None:
            self._thread.join()
        taken, self._game, self._thread = (self._game if self._ready else None), None, None
        return taken

    def processes(self) -> list[int]:
        game = self._game
        return [] if game is None else game.processes()

    def close(self) -> None:
        """End the game, whether it waits or is being started."""
        self._closed = True
        if self._game is not None:
            self._game.close()
        taken = self.take()
        if taken is not None:
            taken.close()
            _write_down(self._name, taken)

    def _start(self) -> None:
        # a spare game that does not start is no failure: the game that is played starts by itself
        with suppress(GameDied, UserError):
            self._game = game = self._make_game()
            if not self._closed:
                game.reset()
                _write_down(self._name, game)
                self._ready = True
        if self._closed and self._game is not None:
            self._game.close()


def _write_down(name: str, game: Game) -> None:
    processes.write_down(name, [process for pid in game.processes() if (process := processes.identify(pid))])
