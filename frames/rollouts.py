"""Frames collected from an environment: players act, the store fills, with actions and rewards."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np

from foundation.errors import UserError
from foundation.progress import Advance, progress_bar
from frames.building import BuildSummary, close_summary, finished_summary
from frames.resize import ResizeMode, resize_frames
from frames.splits import BY_RECORDING, assign_splits
from frames.writer import StoreWriter, finished_store, store_writer

_CAMERA_DEGREES = 5.0


class Player(Protocol):
    """Plays an environment from its observation and `info`."""

    def reset(self, seed: int) -> None: ...

    def __call__(self, observation: Any, info: dict[str, Any]) -> Any: ...


class RandomPlayer:
    """Random actions that stick for some ticks, as a key that is held: 8 on average.

    An action called `camera` turns by a few degrees a tick instead of anywhere within its bounds.
    """

    def __init__(self, action_space: gymnasium.Space) -> None:
        self._space = deepcopy(action_space)
        self._random = np.random.default_rng()
        self._left, self._action = 0, None

    def reset(self, seed: int) -> None:
        self._space.seed(seed)
        self._random, self._left = np.random.default_rng(seed), 0

    def __call__(self, observation: Any, info: dict[str, Any]) -> Any:
        if self._left == 0:
            self._left = int(self._random.geometric(1 / 8))
            self._action = self._space.sample()
            if isinstance(self._action, dict) and "camera" in self._action:
                self._action["camera"] = self._random.normal(0, _CAMERA_DEGREES, 2).astype(np.float32)
        self._left -= 1
        return deepcopy(self._action)


def record(
    make_env: Callable[[], gymnasium.Env],
    player: Player | Sequence[Player | None] | None,
    path: str | Path,
    *,
    frames: int = 20_000,
    seed: int = 0,
    name: str = "rollouts",
    episode_frames: int = 500,
    frame_size: tuple[int, int] = (64, 64),
    resize: ResizeMode = "squash",
    frames_per_second: float = 20.0,
    split: str = BY_RECORDING,
    val: float = 0.1,
    test: float = 0.0,
) -> BuildSummary:
    """Fill the store at `path` with `frames` frames of episodes played in the environment that `make_env` gives.

    Its observation is a picture, or a dictionary with one under `pov`; the rest of the dictionary is kept too where it is of
    numbers. None plays at random; several players take turns, an episode each. Episodes end with the environment's or after
    `episode_frames`; their seeds follow from `seed`, so that the same call gives the same fingerprint. `name` says what is recorded, and an
    interrupted recording goes on only under the same. Raises `UserError` when the disk is full or something else is at `path`.
    """
    path, began = Path(path), time.monotonic()
    assign_splits([], split, val, test)
    if frames < 1 or episode_frames < 1:
        raise UserError(f"{frames} frames in episodes of {episode_frames}: both must be at least 1")
    if seed < 0:
        raise UserError(f"seed {seed}: must be 0 or more")
    players = list(player) if isinstance(player, Sequence) else [player]
    plan = {
        "source": name,
        "frames": frames,
        "seed": seed,
        "episode_frames": episode_frames,
        "players": [_player_name(player) for player in players],
        "frame_size": list(frame_size),
        "resize": resize,
        "split": [split, val, test],
    }
    finished = finished_store(path, plan)
    if finished is not None:
        return finished_summary(finished)
    with closing(make_env()) as env, store_writer(path, plan, (*frame_size, 3)) as writer:
        kept = len(writer.committed)
        rollouts = _Rollouts(env, players, seed, partial(resize_frames, size=frame_size, mode=resize))
        _fill(writer, rollouts, frames, episode_frames, f"{name}, ", frames_per_second)
        return close_summary(writer, kept, [], began, partial(assign_splits, split=split, val=val, test=test), resize)


def _fill(writer: StoreWriter, rollouts: "_Rollouts", frames: int, episode_frames: int, source: str, rate: float) -> None:
    """Play the episodes that the store does not have yet, until it has all its frames."""
    done = sum(episode.length for episode in writer.committed.values())
    total, number = 0, 0
    with progress_bar("recording", frames, "frames", done) as advance:
        while total < frames:
            name, played_by = rollouts.name(number)
            episode = writer.committed.get(name)
            if episode is None:
                pictures, arrays = rollouts.play(number, min(episode_frames, frames - total), advance)
                episode = writer.add(name, pictures, source=source + played_by, frames_per_second=rate, arrays=partial(dict, arrays))
            total, number = total + episode.length, number + 1


class _Rollouts:
    """Plays the numbered episodes of a recording; each depends on its number and the seed alone."""

    def __init__(
        self, env: gymnasium.Env, players: Sequence[Player | None], seed: int, fit: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self._env, self._seed, self._fit = env, seed, fit
        self._names = [_player_name(player) for player in players]
        self._players = [RandomPlayer(env.action_space) if player is None else player for player in players]

    def name(self, number: int) -> tuple[str, str]:
        """Return an episode's name and its player's. The seed is part of the name: two recordings may join one store."""
        played_by = self._names[number % len(self._names)]
        return f"seed {self._seed}/{number:06d} {played_by}", played_by

    def play(self, number: int, length: int, advance: Advance) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Play an episode of at most `length` frames; return its frames and its arrays by name."""
        player = self._players[number % len(self._players)]
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        observation, info = self._env.reset(seed=seed)
        player.reset(seed)
        pictures, rest = [self._picture(observation)], [_numbers("observation", _beside(observation))]
        actions, rewards, over = [], [], False
        advance(1)
        while len(pictures) < length and not over:
            action = player(observation, info)
            observation, reward, terminated, truncated, info = self._env.step(action)
            over = terminated or truncated
            pictures.append(self._picture(observation))
            rest.append(_numbers("observation", _beside(observation)))
            actions.append(_numbers("action", action))
            rewards.append(reward)
            advance(1)
        return pictures, {"reward": np.array(rewards, np.float32), **_stacked(actions), **_stacked(rest)}

    def _picture(self, observation: Any) -> np.ndarray:
        # copied: an environment may draw the next picture into the same array
        picture = observation["pov"] if isinstance(observation, dict) else observation
        return self._fit(np.array(picture)[None])[0]


def _player_name(player: Player | None) -> str:
    return "random" if player is None else str(getattr(player, "name", type(player).__name__))


def _beside(observation: Any) -> dict[str, Any]:
    """What an observation holds beside the picture."""
    return {key: value for key, value in observation.items() if key != "pov"} if isinstance(observation, dict) else {}


def _numbers(name: str, value: Any) -> dict[str, np.ndarray]:
    """Flatten a nested dictionary into arrays by dotted name."""
    if not isinstance(value, Mapping):
        return {name: np.array(value)}
    return {key: array for part, inner in value.items() for key, array in _numbers(f"{name}.{part}", inner).items()}


def _stacked(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Turn a list of ticks into arrays over the ticks, leaving out what is neither numbers nor text."""
    if not rows:
        return {}
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return {name: column for name, column in columns.items() if column.dtype.kind in "biufU"}
