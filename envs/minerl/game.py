"""What a MineRL game is to the rest of the room, wherever it runs."""

from typing import Any, Protocol

from gymnasium import spaces

Observation = dict[str, Any]
Action = dict[str, Any]


class GameDied(Exception):
    """The game hung, crashed, closed its socket or sent half a message; `str()` is one clear sentence."""


class Game(Protocol):
    """One MineRL environment of the old gym API. Spaces and lengths are known before anything starts.

    Observations hold numpy values, nested as in `observation_space`; pictures are contiguous uint8 (H, W, 3). Actions hold what
    `action_space` holds; a Discrete that stands for an enum (`place`) is understood as its number and as the word.
    """

    task_id: str
    observation_space: spaces.Dict
    action_space: spaces.Dict
    max_episode_steps: int

    def reset(self, seed: int | None = None) -> Observation:
        """Start the game where it does not run, begin an episode and return its first observation; raises `GameDied`.

        After a `GameDied`, of `reset` or of `step`, what was started is gone, and the next `reset` starts anew.
        """
        ...

    def step(self, action: Action) -> tuple[Observation, float, bool, dict[str, Any]]:
        """Advance one tick; return (observation, reward, done, info). Raises `GameDied`, never returns an invented observation."""
        ...

    def close(self) -> None:
        """End every process that it started, by process id; a second call does nothing."""
        ...

    def processes(self) -> list[int]:
        """Return the ids of the processes that it has started and that live."""
        ...
